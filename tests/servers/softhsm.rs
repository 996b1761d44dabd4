//! A SoftHSM token of its own for a test: real PKCS#11, in a folder that goes with it (Debian: `softhsm2`, `opensc`).
#![allow(dead_code, reason = "each test file uses its part")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use strongroom::kms::pkcs11::{Pkcs11, Pkcs11Config};
use strongroom::kms::{DiskKey, KeyContext, KmsError, Owner};
use strongroom::memory::Secret;
use tempfile::TempDir;
use uuid::Uuid;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Long enough not to be found in a memory by chance.
pub const PIN: &str = "quartz-7391-fjord-2846";
pub const TOKEN: &str = "disks";
pub const REGION: &str = "local";

/// A token.
pub struct SoftHsm {
    dir: TempDir,
}

impl SoftHsm {
    /// A new token, or nothing with a word about why.
    pub fn new() -> Option<Self> {
        let tools = ["softhsm2-util", "pkcs11-tool"];
        let missing: Vec<_> = tools.iter().filter(|tool| Command::new(tool).arg("--help").output().is_err()).collect();
        if !missing.is_empty() || !Path::new(MODULE).exists() {
            eprintln!("SKIPPED: needs Debian's softhsm2 and opensc; missing: {missing:?} or {MODULE}");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let tokens = dir.path().join("tokens");
        std::fs::create_dir(&tokens).expect("made");
        let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        std::fs::write(dir.path().join("softhsm2.conf"), conf).expect("written");
        let token = Self { dir };
        token.write_pin(PIN);
        let init = ["--init-token", "--free", "--label", TOKEN, "--so-pin", "87654321", "--pin", PIN];
        let output = token.run("softhsm2-util", &init);
        assert!(output.status.success(), "{output:?}");
        Some(token)
    }

    pub fn pin_file(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    /// What the target takes for the PIN.
    pub fn write_pin(&self, pin: &str) {
        std::fs::write(self.pin_file(), pin).expect("written");
        std::fs::set_permissions(self.pin_file(), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    }

    fn conf(&self) -> String {
        self.dir.path().join("softhsm2.conf").to_str().expect("a UTF-8 path").to_owned()
    }

    pub fn config(&self) -> Pkcs11Config {
        let text = format!(
            "module = '{MODULE}'\ntoken = '{TOKEN}'\npin = 'file:{}'\nenvironment = {{ SOFTHSM2_CONF = '{}' }}\n",
            self.pin_file().display(),
            self.conf(),
        );
        let mut config: Pkcs11Config = toml::from_str(&text).expect("a configuration");
        config.program = env!("CARGO_BIN_EXE_strongroom").into();
        // Most tests look at a helper that waits.
        config.idle = Duration::from_secs(60);
        // The machine that runs the tests may be busy.
        config.timeout_s = 30;
        config
    }

    pub fn provider(&self) -> Pkcs11 {
        self.config().provider(REGION).expect("a provider")
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let bounded = [&["60", program], args].concat();
        Command::new("timeout").args(bounded).env("SOFTHSM2_CONF", self.conf()).output().expect("it can be started")
    }

    /// Another program's view of the token.
    pub fn pkcs11_tool(&self, args: &[&str]) -> Output {
        let login = ["--module", MODULE, "--token-label", TOKEN, "--login", "--pin", PIN];
        self.run("pkcs11-tool", &[&login, args].concat())
    }

    /// Everything that the token keeps on disk.
    pub fn files(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let mut folders = vec![self.dir.path().join("tokens")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { folders.push(path) } else { content.extend(std::fs::read(path).expect("read")) }
            }
        }
        content
    }
}

pub fn owner(account: &str) -> Owner {
    Owner { region: REGION.to_owned(), account: account.to_owned() }
}

pub fn context(account: &str, lineage: u128) -> KeyContext {
    KeyContext::disk(owner(account), Uuid::from_u128(lineage))
}

/// A disk key that tests know.
pub fn disk_key(seed: u8) -> Secret<DiskKey> {
    let key = Secret::filled(|key: &mut DiskKey| {
        key.0 = plain(seed);
        Ok::<_, KmsError>(())
    });
    key.expect("locked memory")
}

/// Its bytes: nothing that is found in a memory by chance.
pub fn plain(seed: u8) -> [u8; 32] {
    std::array::from_fn(|n| (n as u8).wrapping_mul(37).wrapping_add(seed).rotate_left(3) ^ 0xa5)
}

/// The error of a call that has to fail.
pub fn error_of<T>(result: Result<T, KmsError>) -> KmsError {
    match result {
        Ok(_) => panic!("it has to be refused"),
        Err(error) => error,
    }
}
