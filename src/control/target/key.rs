//! Master keys and the KMS, for operators.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::config::ConfigError;
use crate::control::keys::wrapped_key;
use crate::control::rpc::{Kind, Refusal};
use crate::kms::audit::{Actor, Operation};
use crate::kms::{Call, Change, Cmk, Creator, Kms, KmsError, KmsStatus, WrappedKey};
use crate::volume::Pool;

use super::Target;

/// The waiting period before a key is destroyed, unless somebody says otherwise.
const DAYS: u32 = 30;

/// A master key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CmkReport {
    /// The key, without its material.
    #[serde(flatten)]
    pub cmk: Cmk,
    /// The disks and snapshots, `pool/name`, whose keys it wraps, of pools that are open.
    pub wraps: Vec<String>,
    /// Those of them that an older version wraps.
    pub wraps_by_old_version: usize,
}

/// How the KMS is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KmsReport {
    /// `embedded`, `vault`, `pkcs11` or `kmip`.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// Whether it answers.
    pub available: bool,
    /// What it says of itself; or why it does not.
    pub what: String,
    /// Calls made to it since the start.
    pub calls: u64,
    /// Those that it did not carry out.
    pub failures: u64,
    /// Tries after the first of a call.
    pub retries: u64,
    /// Disks that wait for it.
    pub waiting_disks: Vec<String>,
}

/// A master key; or an account, for its service key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyName {
    /// Its identity, or the account.
    pub key: String,
}

/// A master key whose state is to change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateOf {
    /// Its identity, or the account.
    pub key: String,
    /// It may be a service key.
    #[serde(default)]
    pub service_key_too: bool,
}

/// A master key that is to be destroyed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionOf {
    /// Its identity, or the account.
    pub key: String,
    /// The waiting period in days.
    #[serde(default)]
    pub days: Option<u32>,
    /// It may be a service key.
    #[serde(default)]
    pub service_key_too: bool,
}

/// Which disk keys are to be wrapped anew.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewrapOf {
    /// Those of this master key; all, if it is left out.
    #[serde(default)]
    pub key: Option<String>,
}

/// Where a copy of the keys goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyBackup {
    /// The file.
    pub to: PathBuf,
}

/// What became of disk keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RewrapReport {
    /// Disk keys that were wrapped anew.
    pub rewrapped: usize,
    /// Those that the newest version had wrapped.
    pub up_to_date: usize,
    /// Disks whose key was not, and why.
    pub failed: Vec<String>,
}

/// A disk key, and who has it.
struct Lineage {
    wrapped: WrappedKey,
    pool: Arc<Pool>,
    /// Volumes and snapshots; never empty.
    holders: Vec<String>,
}

impl Target {
    pub(in crate::control) fn keys(&self) -> Result<Vec<CmkReport>, Refusal> {
        let lineages = self.lineages();
        Ok(self.kms()?.keys()?.into_iter().map(|cmk| report(cmk, &lineages)).collect())
    }

    pub(in crate::control) fn key(&self, KeyName { key }: &KeyName) -> Result<CmkReport, Refusal> {
        Ok(report(self.kms()?.key(key)?, &self.lineages()))
    }

    pub(in crate::control) fn rotate_key(&self, KeyName { key }: &KeyName, actor: Actor) -> Result<CmkReport, Refusal> {
        let kms = self.kms()?;
        let cmk = kms.rotate(actor, &kms.key(key)?)?;
        Ok(report(cmk, &self.lineages()))
    }

    pub(in crate::control) fn enable_key(&self, KeyName { key }: &KeyName, actor: Actor) -> Result<CmkReport, Refusal> {
        self.change_key(key, Change::Enable, true, actor)
    }

    pub(in crate::control) fn disable_key(&self, of: &StateOf, actor: Actor) -> Result<CmkReport, Refusal> {
        self.change_key(&of.key, Change::Disable, of.service_key_too, actor)
    }

    pub(in crate::control) fn schedule_key_deletion(
        &self,
        of: &DeletionOf,
        actor: Actor,
    ) -> Result<CmkReport, Refusal> {
        let change = Change::ScheduleDeletion { days: of.days.unwrap_or(DAYS) };
        self.change_key(&of.key, change, of.service_key_too, actor)
    }

    pub(in crate::control) fn cancel_key_deletion(
        &self,
        KeyName { key }: &KeyName,
        actor: Actor,
    ) -> Result<CmkReport, Refusal> {
        self.change_key(key, Change::CancelDeletion, true, actor)
    }

    fn change_key(&self, key: &str, change: Change, service_key_too: bool, actor: Actor) -> Result<CmkReport, Refusal> {
        let kms = self.kms()?;
        let cmk = kms.key(key)?;
        if cmk.creator == Creator::Service && !service_key_too {
            let what = format!(
                "key {} is the service key of account {}: without it none of the account's disks can be attached or made; \
                 say service_key_too (`--service-key-too`) if that is what you want",
                cmk.id, cmk.account
            );
            return Err(Refusal::new(Kind::Refused, what));
        }
        Ok(report(kms.change(actor, &cmk, change)?, &self.lineages()))
    }

    /// Each lineage by itself: what is done when this is cut off stays done, and the rest can be done again.
    pub(in crate::control) fn rewrap_keys(&self, of: &RewrapOf, actor: Actor) -> Result<RewrapReport, Refusal> {
        let kms = self.kms()?;
        let only = of.key.as_ref().map(|key| kms.key(key)).transpose()?;
        // Nothing is made, deleted or rolled back meanwhile.
        let _one_at_a_time = self.changing();
        let mut report = RewrapReport::default();
        for lineage in self.lineages().into_values() {
            if only.as_ref().is_some_and(|cmk| cmk.id != lineage.wrapped.cmk) {
                continue;
            }
            match rewrap(&kms, &lineage, actor) {
                Ok(true) => report.rewrapped += 1,
                Ok(false) => report.up_to_date += 1,
                Err(why) => report.failed.push(format!("{}/{}: {why}", lineage.pool.name(), lineage.holders[0])),
            }
        }
        Ok(report)
    }

    pub(in crate::control) fn backup_keys(&self, to: &KeyBackup, actor: Actor) -> Result<KeyBackup, Refusal> {
        if !to.to.is_absolute() {
            let what = format!("{} is no absolute path; the target runs in a folder of its own", to.to.display());
            return Err(Refusal::new(Kind::Refused, what));
        }
        self.kms()?.backup(actor, &to.to)?;
        Ok(to.clone())
    }

    pub(in crate::control) fn kms_status(&self) -> Result<KmsReport, Refusal> {
        let KmsStatus { kind, name, health, calls, failures, retries } = self.kms()?.status();
        let available = health.is_ok();
        let (Ok(what) | Err(what)) = health;
        let waiting_disks = self.state().disks.waiting_for_kms();
        Ok(KmsReport { kind: kind.to_owned(), name, available, what, calls, failures, retries, waiting_disks })
    }

    /// The KMS.
    pub(in crate::control) fn kms(&self) -> Result<Arc<Kms>, ConfigError> {
        self.storage.keys().kms()
    }

    /// The disk keys of all pools that are open, each once. What cannot be read is left out: its disks are offline, and say why.
    fn lineages(&self) -> BTreeMap<Uuid, Lineage> {
        let mut lineages: BTreeMap<Uuid, Lineage> = BTreeMap::new();
        for (_, pool) in self.storage.all() {
            let Ok(open) = pool else { continue };
            for volume in open.pool.volumes() {
                let Ok(held) = open.pool.volume(&volume.name) else { continue };
                let Ok(Some(wrapped)) = wrapped_key(&held) else { continue };
                let lineage = lineages.entry(wrapped.context.lineage);
                let lineage =
                    lineage.or_insert_with(|| Lineage { wrapped, pool: open.pool.clone(), holders: Vec::new() });
                lineage.holders.push(volume.name);
            }
        }
        lineages
    }
}

fn report(cmk: Cmk, lineages: &BTreeMap<Uuid, Lineage>) -> CmkReport {
    let mine = || lineages.values().filter(|lineage| lineage.wrapped.cmk == cmk.id);
    let names = mine().flat_map(|lineage| {
        let pool = lineage.pool.name();
        lineage.holders.iter().map(move |holder| format!("{pool}/{holder}"))
    });
    let old = mine().filter(|lineage| lineage.wrapped.cmk_version < cmk.newest()).map(|lineage| lineage.holders.len());
    CmkReport { wraps: names.collect(), wraps_by_old_version: old.sum(), cmk }
}

/// Whether it was needed.
fn rewrap(kms: &Kms, lineage: &Lineage, actor: Actor) -> Result<bool, Refusal> {
    let account = &lineage.wrapped.context.owner.account;
    let disk = &lineage.holders[0];
    let call = Call { actor, operation: Operation::Rewrap, account, disk };
    let Some(new) = kms.rewrap(call, &lineage.wrapped)? else { return Ok(false) };
    lineage.pool.replace_key(disk, new.encode().map_err(KmsError::from)?)?;
    Ok(true)
}
