//! The keys of disks: from the place where a pool keeps them wrapped, through the KMS, to the cipher.
//!
//! The KMS is opened when it is first needed and again whenever it could not be before: a key store on a disk that comes later, or a passphrase that
//! is put right, needs no restart.

use std::sync::{Arc, Mutex};

use crate::crypto::xts::XtsKeyBytes;
use crate::disk::{DiskConfig, Encryption};
use crate::kms::audit::{Actor, Operation};
use crate::kms::{Call, CmkId, Kms, KmsError, NewKey, WrappedKey};
use crate::memory::Secret;
use crate::volume::Volume;

use super::config::{Config, ConfigError, KmsConfig};

/// The way to the KMS.
pub(super) struct Keys {
    config: Option<KmsConfig>,
    region: String,
    open: Mutex<Option<Arc<Kms>>>,
}

impl Keys {
    pub(super) fn new(config: &Config) -> Self {
        Self { config: config.kms.clone(), region: config.region.clone(), open: Mutex::default() }
    }

    /// Whether there is a KMS.
    pub(super) fn are_kept(&self) -> bool {
        self.config.is_some()
    }

    /// A few words for the start-up report, if there is a KMS.
    pub(super) fn describe(&self) -> Option<String> {
        self.config.as_ref()?;
        Some(match self.kms() {
            Ok(kms) => format!("  keys are kept by {}", kms.name()),
            Err(e) => format!("  keys CANNOT BE HAD: {e}"),
        })
    }

    /// The KMS.
    pub(super) fn kms(&self) -> Result<Arc<Kms>, ConfigError> {
        let Some(config) = &self.config else {
            return Err(ConfigError::Missing("the configuration has no [kms]".to_owned()));
        };
        let mut open = self.open.lock().expect("no thread panics while it holds this lock");
        if let Some(kms) = &*open {
            return Ok(kms.clone());
        }
        let kms = Arc::new(config.open(&self.region)?);
        *open = Some(kms.clone());
        Ok(kms)
    }

    /// The key of a disk that is being made, if a KMS keeps it; wrapped by the key of its account that it names, or by the service key.
    pub(super) fn for_new(&self, disk: &DiskConfig, actor: Actor) -> Result<Option<NewKey>, ConfigError> {
        if !is_kept(disk) {
            return Ok(None);
        }
        let kms = self.kms()?;
        let cmk = disk.master_key.clone().map(CmkId);
        let made = kms.new_disk_key(call(disk, actor, Operation::CreateDisk), cmk.as_ref());
        made.map(Some).map_err(ConfigError::of_key(&disk.name))
    }

    /// The key of a disk whose cipher text a volume or snapshot holds; none for a plain disk.
    pub(super) fn of(
        &self,
        disk: &DiskConfig,
        volume: &Volume,
        actor: Actor,
        operation: Operation,
    ) -> Result<Option<Secret<XtsKeyBytes>>, ConfigError> {
        if !is_kept(disk) {
            return Ok(disk.read_key()?);
        }
        let wrapped = wrapped_key(volume).map_err(ConfigError::of_key(&disk.name))?;
        let Some(wrapped) = wrapped else { return Ok(None) };
        let key = self.kms()?.disk_key(call(disk, actor, operation), &wrapped);
        key.map(Some).map_err(ConfigError::of_key(&disk.name))
    }

    /// Makes sure that the key of a disk may be used now, and writes the operation down. A disk without a key in a KMS is nobody's affair.
    pub(super) fn check(
        &self,
        disk: &DiskConfig,
        volume: &Volume,
        actor: Actor,
        operation: Operation,
    ) -> Result<(), ConfigError> {
        let Some(wrapped) = wrapped_key(volume).map_err(ConfigError::of_key(&disk.name))? else { return Ok(()) };
        let checked = self.kms()?.check_key(call(disk, actor, operation), &wrapped);
        checked.map_err(ConfigError::of_key(&disk.name))
    }

    /// Writes down an operation that needs nothing of the KMS.
    pub(super) fn note(
        &self,
        disk: &str,
        wrapped: &WrappedKey,
        actor: Actor,
        operation: Operation,
    ) -> Result<(), ConfigError> {
        let call = Call { actor, operation, account: &wrapped.context.owner.account, disk };
        self.kms()?.note(call, Some(wrapped)).map_err(ConfigError::of_key(disk))
    }
}

/// Whether a KMS keeps the disk's key.
pub(super) fn is_kept(disk: &DiskConfig) -> bool {
    matches!(disk.encryption, Some(Encryption::Kms))
}

/// The wrapped key of what a volume or snapshot holds.
pub(super) fn wrapped_key(volume: &Volume) -> Result<Option<WrappedKey>, KmsError> {
    let Some(sealed) = volume.sealed_key() else { return Ok(None) };
    Ok(Some(WrappedKey::decode(&sealed)?))
}

fn call(disk: &DiskConfig, actor: Actor, operation: Operation) -> Call<'_> {
    Call { actor, operation, account: disk.account.as_deref().unwrap_or_default(), disk: &disk.name }
}
