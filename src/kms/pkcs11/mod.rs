//! A KMS that is a PKCS#11 token: a hardware security module, or SoftHSM.
//!
//! ```text
//! target ── Seat ── socket ── helper process ── vendor's library ── token
//! ```
//!
//! - **The vendor's library never runs in the target.** It is loaded by a helper, a process of the same program (`strongroom kms-helper pkcs11`)
//!   which is started at the first call, told the PIN over a socket, and killed if it does not answer in time. A crash in it is an error of one call.
//! - **Master keys** are AES-256 keys which the token makes and never gives away (`CKA_SENSITIVE`, not `CKA_EXTRACTABLE`). Each version is an object
//!   of its own, labelled `NAME-vN`, with a UUID as its `CKA_ID`.
//! - **A wrapped key** is `CKA_ID` (16 bytes), nonce (12), cipher text (32), tag (16) of `CKM_AES_GCM`; the context and the version are authenticated. Since it
//!   names its object, keys open whatever targets that share the token do at the same time.
//! - **Key states** belong to the token's own tools: PKCS#11 knows neither disabled keys nor waiting periods.
//!
//! Where keys pass. In the target: locked buffers that are wiped. In the socket: the kernel's buffers, which are freed when they were read. In the helper:
//! locked buffers of ours, and whatever the library does; its memory is out of swap if the limits allow, glibc overwrites what is freed in it, and it ends after two idle
//! seconds and after each failed call, with all that the library has kept. How a token keeps *its* keys is the token's affair: SoftHSM has them in memory
//! while somebody uses them.

mod frame;
pub mod helper;
mod label;
mod message;
mod process;
mod provider;
mod seat;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{KeyProvider, KmsError, ServiceKeys};
use crate::secrets::SecretRef;

pub use provider::Pkcs11;

/// `CK_TOKEN_INFO.label` has so many bytes (PKCS#11 v3.0, section 3.2).
const MOST_TOKEN_LABEL: usize = 32;
const MOST_TIMEOUT_S: u32 = 300;

/// Which token, and how it is reached: `[kms.pkcs11]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The vendor's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// Where the PIN of the token's user lies.
    pub pin: SecretRef,
    /// How long a call may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
    /// What the names of keys in the token begin with.
    #[serde(default)]
    pub key_prefix: ServiceKeys,
    /// Variables that the library needs, such as `SOFTHSM2_CONF`. The helper gets these, PATH, HOME, LANG and TZ. Nothing secret belongs here. A library
    /// that does not bear glibc's overwriting of memory is helped by `GLIBC_TUNABLES = ""`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The program that is started as a helper: this one.
    #[serde(skip, default = "this_program")]
    pub program: PathBuf,
    /// How long a helper waits for the next call before it ends.
    #[serde(skip, default = "default_idle")]
    pub idle: Duration,
}

fn default_timeout_s() -> u32 {
    5
}

fn this_program() -> PathBuf {
    "/proc/self/exe".into()
}

fn default_idle() -> Duration {
    seat::IDLE
}

impl Pkcs11Config {
    /// Takes relative paths from this folder, which is that of the configuration file.
    pub fn resolve(&mut self, folder: &Path) {
        self.module = folder.join(&self.module);
        self.pin.resolve(folder);
    }

    /// The provider for a region. The library is loaded at the first call.
    pub fn open(&self, region: &str) -> Result<Box<dyn KeyProvider>, KmsError> {
        Ok(Box::new(self.provider(region)?))
    }

    /// As [`Pkcs11Config::open`], for those who want to see the helper.
    pub fn provider(&self, region: &str) -> Result<Pkcs11, KmsError> {
        self.check()?;
        Ok(Pkcs11::new(self.clone(), region))
    }

    fn check(&self) -> Result<(), KmsError> {
        let wrong = |what: String| Err(KmsError::Config(format!("pkcs11: {what}")));
        if !self.module.is_absolute() {
            return wrong(format!("module {:?} is no absolute path", self.module));
        }
        if self.token.is_empty() || self.token.len() > MOST_TOKEN_LABEL {
            return wrong(format!("token {:?} is no label: those have 1 to {MOST_TOKEN_LABEL} bytes", self.token));
        }
        if !(1..=MOST_TIMEOUT_S).contains(&self.timeout_s) {
            return wrong(format!("timeout_s has to be 1 to {MOST_TIMEOUT_S}"));
        }
        Ok(())
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s.into())
    }

    #[cfg(test)]
    fn example() -> Self {
        toml::from_str("module = '/m'\ntoken = 't'\npin = 'file:/p'").expect("a configuration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_strictly() {
        let text = "module = 'm.so'\ntoken = 'disks'\npin = 'file:pin'\nenvironment = { A = 'b' }";
        let mut config: Pkcs11Config = toml::from_str(text).expect("a configuration");
        config.resolve(Path::new("/etc/strongroom"));
        assert_eq!(config.module, Path::new("/etc/strongroom/m.so"));
        assert_eq!(config.pin.to_string(), "file:/etc/strongroom/pin");
        assert_eq!((config.timeout_s, config.program.to_str()), (5, Some("/proc/self/exe")));
        assert!(config.provider("local").is_ok());
        for more in ["program = '/bin/sh'", "slot = 1", "timeout_s = -1"] {
            assert!(toml::from_str::<Pkcs11Config>(&format!("{text}\n{more}")).is_err(), "{more}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        let refused = |change: fn(&mut Pkcs11Config)| {
            let mut config = Pkcs11Config::example();
            change(&mut config);
            config.provider("local").map(|_| ()).expect_err("refused").to_string()
        };
        assert!(refused(|config| config.module = "m.so".into()).contains("absolute"));
        assert!(refused(|config| config.token.clear()).contains("label"));
        assert!(refused(|config| config.token = "x".repeat(33)).contains("label"));
        assert!(refused(|config| config.timeout_s = 0).contains("timeout_s"));
    }
}
