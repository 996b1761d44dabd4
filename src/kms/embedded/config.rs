//! `[kms.embedded]` of the configuration: where the store lies and what unlocks it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::kms::{KeyProvider, KmsError};
use crate::secrets::SecretRef;

use super::store::EmbeddedStore;

/// How many PCRs a TPM has (PC Client Platform TPM Profile, section 4.6).
const PCRS: u8 = 24;

/// `[kms.embedded]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The store's file. Beside it lie `PATH.generation` and `PATH.lock`.
    pub path: PathBuf,
    /// What opens it.
    pub unlock: Unlock,
    /// Makes the store if there is no such file.
    #[serde(default)]
    pub create: bool,
}

impl EmbeddedConfig {
    /// Takes relative paths from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        self.path = folder.join(&self.path);
        self.unlock.resolve(folder);
    }

    /// Opens the store, which takes a moment: a passphrase is slow on purpose.
    pub fn open(&self, region: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
        Ok(Box::new(EmbeddedStore::open(self, region)?))
    }
}

/// What opens a slot of the store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub enum Unlock {
    /// A passphrase.
    Passphrase(SecretRef),
    /// 32 random bytes, or 64 hexadecimal digits.
    RootKey(SecretRef),
    /// A TPM 2.0.
    Tpm {
        /// How it is reached: `device:/dev/tpmrm0`, or `swtpm:host=127.0.0.1,port=2321`.
        tcti: String,
        /// What a slot that is made now is bound to: PCRs of the SHA-256 bank as they are then.
        pcrs: Vec<u8>,
    },
}

impl Unlock {
    pub(crate) fn resolve(&mut self, folder: &Path) {
        match self {
            Self::Passphrase(reference) | Self::RootKey(reference) => reference.resolve(folder),
            Self::Tpm { .. } => {}
        }
    }
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    passphrase: Option<SecretRef>,
    root_key: Option<SecretRef>,
    tpm: Option<String>,
    pcrs: Option<Vec<u8>>,
}

impl TryFrom<Table> for Unlock {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let unlock = match (table.passphrase, table.root_key, table.tpm) {
            (Some(passphrase), None, None) => Self::Passphrase(passphrase),
            (None, Some(root_key), None) => Self::RootKey(root_key),
            (None, None, Some(tcti)) => return tpm(tcti, table.pcrs.unwrap_or_default()),
            _ => return Err("unlock takes exactly one of \"passphrase\", \"root_key\" and \"tpm\"".to_owned()),
        };
        if table.pcrs.is_some() {
            return Err("unlock takes \"pcrs\" beside \"tpm\" only".to_owned());
        }
        Ok(unlock)
    }
}

fn tpm(tcti: String, mut pcrs: Vec<u8>) -> Result<Unlock, String> {
    if !["device:", "swtpm:", "mssim:", "tabrmd:"].iter().any(|kind| tcti.starts_with(kind)) {
        return Err(format!("tpm = {tcti:?}: write how it is reached, such as \"device:/dev/tpmrm0\""));
    }
    pcrs.sort_unstable();
    pcrs.dedup();
    match pcrs.last() {
        Some(pcr) if *pcr >= PCRS => Err(format!("a TPM has no PCR {pcr}; they are 0 to {}", PCRS - 1)),
        _ => Ok(Unlock::Tpm { tcti, pcrs }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EmbeddedConfig, String> {
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    #[test]
    fn it_is_read_as_it_is_documented() {
        let mut config = read("path = \"keys.store\"\nunlock = { passphrase = \"file:passphrase\" }").expect("read");
        config.resolve(Path::new("/etc/strongroom"));
        assert_eq!(config.path, Path::new("/etc/strongroom/keys.store"));
        assert_eq!(config.unlock, Unlock::Passphrase(SecretRef::File("/etc/strongroom/passphrase".into())));
        assert!(!config.create);
        let config =
            read("path = \"k\"\ncreate = true\nunlock = { root_key = \"credential:root-key\" }").expect("read");
        assert_eq!(config.unlock, Unlock::RootKey(SecretRef::Credential("root-key".to_owned())));
        let config = read("path = \"k\"\nunlock = { tpm = \"device:/dev/tpmrm0\", pcrs = [7, 4, 7] }").expect("read");
        assert_eq!(config.unlock, Unlock::Tpm { tcti: "device:/dev/tpmrm0".to_owned(), pcrs: vec![4, 7] });
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (unlock, hint) in [
            ("{}", "exactly one"),
            ("{ passphrase = \"file:a\", root_key = \"file:b\" }", "exactly one"),
            ("{ passphrase = \"s3cret\" }", "never stands in the configuration"),
            ("{ passphrase = \"file:a\", pcrs = [1] }", "beside"),
            ("{ tpm = \"/dev/tpm0\" }", "device:/dev/tpmrm0"),
            ("{ tpm = \"device:/dev/tpm0\", pcrs = [24] }", "no PCR 24"),
            ("{ pin = \"file:a\" }", "unknown field"),
        ] {
            let error = read(&format!("path = \"k\"\nunlock = {unlock}")).expect_err("refused");
            assert!(error.contains(hint) && !error.contains("s3cret"), "{error}");
        }
    }
}
