//! The NBD export in the configuration.

use std::collections::HashSet;

use serde::Deserialize;

use crate::export::stream::ListenAddress;

use super::NbdError;
use super::wire::LONGEST_STRING;

/// The NBD export: where it listens and what it serves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NbdConfig {
    /// Where clients connect: `"unix:/run/strongroom/nbd.sock"`, `"tcp:127.0.0.1:10809"`.
    pub listen: Vec<ListenAddress>,
    /// What they find there.
    pub exports: Vec<NbdExportConfig>,
    /// Requests of one connection that are served at once.
    pub iodepth: u32,
    /// Seconds in which a client has to have chosen its export.
    pub handshake_timeout_s: u64,
    /// Seconds after which a client that neither takes its replies nor sends the rest of a request is disconnected. A client that
    /// has nothing to ask is left alone.
    pub stall_timeout_s: u64,
    /// Connections at once; each reactor also takes only as many as its memory carries.
    pub max_connections: usize,
}

impl Default for NbdConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            exports: Vec::new(),
            iodepth: 128,
            handshake_timeout_s: 10,
            stall_timeout_s: 30,
            max_connections: 1024,
        }
    }
}

impl NbdConfig {
    /// Refuses export names that are used twice or cannot be sent, and disks that are not among `disks`.
    pub fn check_exports<'a>(&self, disks: impl Iterator<Item = &'a str> + Clone) -> Result<(), NbdError> {
        let mut names = HashSet::new();
        for export in &self.exports {
            let wrong = |what: String| Err(NbdError::Config(format!("export {}: {what}", export.name)));
            if !names.insert(&export.name) {
                return wrong("the name is there twice; rename one".to_owned());
            }
            export.check()?;
            if !disks.clone().any(|disk| disk == export.disk) {
                let known: Vec<&str> = disks.collect();
                return wrong(format!("there is no disk {}; the disks are: {}", export.disk, known.join(", ")));
            }
        }
        Ok(())
    }
}

/// A disk under a name. A client that asks for the name `""` gets the export if it is the only one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdExportConfig {
    /// The name that clients ask for.
    pub name: String,
    /// The disk's name.
    pub disk: String,
    /// Refuse everything that changes the disk.
    #[serde(default)]
    pub read_only: bool,
    /// A line for people, shown in lists of exports.
    #[serde(default)]
    pub description: Option<String>,
}

impl NbdExportConfig {
    /// Refuses a name or a description that cannot be sent.
    pub(super) fn check(&self) -> Result<(), NbdError> {
        let cannot_be_sent = |text: &String| text.len() > LONGEST_STRING || text.contains('\0');
        if [Some(&self.name), self.description.as_ref()].into_iter().flatten().any(cannot_be_sent) {
            let what = format!("names and descriptions have at most {LONGEST_STRING} bytes and no NUL");
            return Err(NbdError::Config(format!("export {}: {what}", self.name)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        let config: NbdConfig =
            toml::from_str("listen = ['tcp:127.0.0.1:0']\n[[exports]]\nname = 'a'\ndisk = 'd'").expect("fits");
        assert_eq!((config.iodepth, config.stall_timeout_s), (128, 30));
        assert!(!config.exports[0].read_only);
        assert!(toml::from_str::<NbdConfig>("port = 1").is_err());
    }

    #[test]
    fn exports_have_names_of_their_own_and_disks_that_are_there() {
        let check = |exports: &str| {
            let config: NbdConfig = toml::from_str(exports).expect("a configuration");
            config.check_exports(["d0", "d1"].into_iter()).map_err(|e| e.to_string())
        };
        let export = |name: &str, disk: &str| format!("[[exports]]\nname = \"{name}\"\ndisk = \"{disk}\"\n");
        assert_eq!(check(&(export("a", "d0") + &export("b", "d0"))), Ok(()));
        for (exports, wanted) in [
            (export("a", "d0") + &export("a", "d1"), "there twice"),
            (export("a", "d2"), "no disk d2; the disks are: d0, d1"),
            (export(&"a".repeat(5000), "d0"), "at most"),
            (export("a\\u0000", "d0"), "no NUL"),
        ] {
            let error = check(&exports).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
