//! What the tests of the embedded key store share: a folder with a store, and what opens it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strongroom::kms::embedded::{EmbeddedConfig, EmbeddedStore, Unlock};
use strongroom::kms::{DiskKey, KeyContext, KmsError, Owner};
use strongroom::memory::Secret;
use strongroom::secrets::SecretRef;
use uuid::Uuid;

/// A folder of its own.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn secret(&self, name: &str, content: &[u8]) -> SecretRef {
        let path = self.path(name);
        private(&path, content);
        SecretRef::File(path)
    }

    /// Opened by a key file, which is fast.
    pub fn by_root_key(&self) -> EmbeddedConfig {
        self.by(Unlock::RootKey(self.secret("root.key", &[0x9C; 32])))
    }

    pub fn by_passphrase(&self, passphrase: &str) -> EmbeddedConfig {
        self.by(Unlock::Passphrase(self.secret("passphrase", passphrase.as_bytes())))
    }

    pub fn by(&self, unlock: Unlock) -> EmbeddedConfig {
        EmbeddedConfig { path: self.path("keys.store"), unlock, create: true }
    }

    /// All files, and what is in them.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.folder()).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries.map(|path| (path.clone(), fs::read(&path).expect("read"))).collect()
    }
}

pub fn private(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode set");
}

pub fn open(config: &EmbeddedConfig) -> Result<EmbeddedStore, KmsError> {
    EmbeddedStore::open(config, "local")
}

/// Why it does not open.
pub fn refusal(config: &EmbeddedConfig) -> String {
    open(config).err().expect("refused").to_string()
}

pub fn owner(account: &str) -> Owner {
    Owner { region: "local".to_owned(), account: account.to_owned() }
}

pub fn context(account: &str, lineage: u128) -> KeyContext {
    KeyContext::disk(owner(account), Uuid::from_u128(lineage))
}

pub fn disk_key(byte: u8) -> Secret<DiskKey> {
    Secret::filled(|key: &mut DiskKey| {
        key.0 = std::array::from_fn(|at| byte ^ (at as u8).wrapping_mul(37));
        Ok::<_, KmsError>(())
    })
    .expect("locked memory")
}
