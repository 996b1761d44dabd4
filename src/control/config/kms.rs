//! The KMS in the configuration: which one keeps the keys of the region's disks, and where its operations are written down.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kms::audit::{AuditLog, AuditOptions};
use crate::kms::embedded::EmbeddedConfig;
use crate::kms::kmip::KmipConfig;
use crate::kms::pkcs11::Pkcs11Config;
use crate::kms::vault::VaultConfig;
use crate::kms::{FREE_CALLS, KeyProvider, Kms, KmsError};

use super::ConfigError;

/// The KMS: one of the four, and the audit log.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsConfig {
    /// The key store of our own.
    #[serde(default)]
    pub embedded: Option<EmbeddedConfig>,
    /// Vault or OpenBao.
    #[serde(default)]
    pub vault: Option<VaultConfig>,
    /// A PKCS#11 token.
    #[serde(default)]
    pub pkcs11: Option<Pkcs11Config>,
    /// A KMIP server.
    #[serde(default)]
    pub kmip: Option<KmipConfig>,
    /// The audit log.
    #[serde(default = "default_audit_log")]
    pub audit_log: PathBuf,
    /// Calls that each account has free in a month; the usage report tells what is beyond.
    #[serde(default = "default_free_calls")]
    pub free_calls: u64,
}

fn default_audit_log() -> PathBuf {
    "audit.log".into()
}

fn default_free_calls() -> u64 {
    FREE_CALLS
}

impl KmsConfig {
    pub(super) fn resolve(&mut self, folder: &Path) {
        self.audit_log = folder.join(&self.audit_log);
        self.embedded.iter_mut().for_each(|embedded| embedded.resolve(folder));
        self.vault.iter_mut().for_each(|vault| vault.resolve(folder));
        self.pkcs11.iter_mut().for_each(|pkcs11| pkcs11.resolve(folder));
        self.kmip.iter_mut().for_each(|kmip| kmip.resolve(folder));
    }

    /// Exactly one KMS has to be there.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let there = [self.embedded.is_some(), self.vault.is_some(), self.pkcs11.is_some(), self.kmip.is_some()];
        match there.iter().filter(|is_there| **is_there).count() {
            1 => Ok(()),
            0 => Err(ConfigError::Wrong(
                "[kms] names no KMS; add [kms.embedded], [kms.vault], [kms.pkcs11] or [kms.kmip]".to_owned(),
            )),
            _ => Err(ConfigError::Wrong("[kms] names several; a region has one KMS, so leave one of them".to_owned())),
        }
    }

    /// Opens it. An outside KMS need not be there; a key store of our own has to be.
    pub(in crate::control) fn open(&self, region: &str) -> Result<Kms, ConfigError> {
        // The keys first: a log that is not needed is not made.
        let provider = self.provider(region)?;
        let audit = self.open_audit_log()?;
        Ok(Kms::open(region, provider, audit, &self.audit_log)?)
    }

    /// Opens the audit log.
    pub fn open_audit_log(&self) -> Result<AuditLog, KmsError> {
        let options = AuditOptions { free_calls: self.free_calls, ..AuditOptions::default() };
        AuditLog::open_with(&self.audit_log, options).map_err(|e| KmsError::Audit(e.to_string()))
    }

    fn provider(&self, region: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
        match self {
            Self { embedded: Some(embedded), .. } => embedded.open(region),
            Self { vault: Some(vault), .. } => vault.open(region),
            Self { pkcs11: Some(pkcs11), .. } => pkcs11.open(region),
            Self { kmip: Some(kmip), .. } => kmip.open(region),
            _ => Err(KmsError::Config("no KMS is configured".to_owned())),
        }
    }
}
