//! The vhost-user export in the configuration.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::VhostUserError;

/// The longest name of an export.
const LONGEST_NAME: usize = 64;
/// The most queues of a disk that can be configured.
const MOST_QUEUES: u16 = 256;
/// The most requests of a queue that can be configured.
const DEEPEST_QUEUE: u32 = 1024;

/// The vhost-user export: disks for the virtual machines of this host, each at a unix socket of its own. The disks that are attached to an instance
/// are at `<directory>/<instance>/<disk>.sock`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VhostUserConfig {
    /// The folder of the sockets; it is made, with the folders of instances, for its owner alone.
    pub directory: PathBuf,
    /// Disks for virtual machines that are no instances: at `<directory>/<name>.sock`.
    pub exports: Vec<VhostUserExportConfig>,
    /// Queues that a disk offers at most. Who starts the virtual machine chooses how many it gets.
    pub queues: u16,
    /// Requests of one queue that are served at once.
    pub iodepth: u32,
}

impl Default for VhostUserConfig {
    fn default() -> Self {
        Self { directory: PathBuf::new(), exports: Vec::new(), queues: 64, iodepth: 128 }
    }
}

/// A disk at a socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VhostUserExportConfig {
    /// The name of the socket, without its `.sock`.
    pub name: String,
    /// The disk's name.
    pub disk: String,
    /// Refuse everything that changes the disk.
    #[serde(default)]
    pub read_only: bool,
}

impl VhostUserConfig {
    /// Refuses limits that cannot be kept, names that are used twice or are none of a file, and disks that are not among `disks`.
    pub fn check<'a>(&self, disks: impl Iterator<Item = &'a str> + Clone) -> Result<(), VhostUserError> {
        let wrong = |what: String| Err(VhostUserError::Config(what));
        if self.directory.as_os_str().is_empty() {
            return wrong(
                "`directory` is missing; name the folder of the sockets, such as \"/run/strongroom/vhost\"".to_owned(),
            );
        }
        if !(1..=MOST_QUEUES).contains(&self.queues) {
            return wrong(format!("queues has to be 1 to {MOST_QUEUES}"));
        }
        if !(1..=DEEPEST_QUEUE).contains(&self.iodepth) {
            return wrong(format!("iodepth has to be 1 to {DEEPEST_QUEUE}"));
        }
        let mut names = HashSet::new();
        for export in &self.exports {
            let wrong = |what: String| Err(VhostUserError::Config(format!("export {:?}: {what}", export.name)));
            if !is_file_name(&export.name) {
                return wrong(format!(
                    "a name has 1 to {LONGEST_NAME} letters, digits, '-', '_' and '.', and does not begin with '.'"
                ));
            }
            if !names.insert(&export.name) {
                return wrong("the name is there twice; rename one".to_owned());
            }
            if !disks.clone().any(|disk| disk == export.disk) {
                let known: Vec<&str> = disks.collect();
                return wrong(format!("there is no disk {}; the disks are: {}", export.disk, known.join(", ")));
            }
        }
        Ok(())
    }

    /// Where an operator's export is.
    pub fn socket_of(&self, export: &str) -> PathBuf {
        self.directory.join(format!("{export}.sock"))
    }

    /// Where a disk is that is attached to an instance.
    pub fn socket_for(&self, instance: &str, disk: &str) -> PathBuf {
        self.folder_of(instance).join(format!("{disk}.sock"))
    }

    /// Where an instance's sockets are.
    pub fn folder_of(&self, instance: &str) -> PathBuf {
        self.directory.join(instance)
    }
}

/// Whether it can be a part of a path that leads nowhere else.
pub fn is_file_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(fits)
        && !name.starts_with('.')
        && Path::new(name).components().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        let text = "directory = '/run/v'\n[[exports]]\nname = 'a'\ndisk = 'd'";
        let config: VhostUserConfig = toml::from_str(text).expect("fits");
        assert_eq!((config.iodepth, config.queues, config.exports[0].read_only), (128, 64, false));
        assert_eq!(config.socket_of("a"), Path::new("/run/v/a.sock"));
        assert_eq!(config.socket_for("i-1", "d-2"), Path::new("/run/v/i-1/d-2.sock"));
        assert!(toml::from_str::<VhostUserConfig>("port = 1").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let check = |text: &str| {
            let config: VhostUserConfig = toml::from_str(text).expect("a configuration");
            config.check(["d0", "d1"].into_iter()).map_err(|e| e.to_string())
        };
        let export = |name: &str, disk: &str| format!("[[exports]]\nname = \"{name}\"\ndisk = \"{disk}\"\n");
        let some = |more: &str| format!("directory = '/run/v'\n{more}");
        assert_eq!(check(&some(&(export("a", "d0") + &export("b", "d0")))), Ok(()));
        for (text, wanted) in [
            (export("a", "d0"), "`directory` is missing"),
            (some("queues = 0"), "queues has to be"),
            (some("iodepth = 0"), "iodepth has to be"),
            (some(&(export("a", "d0") + &export("a", "d1"))), "there twice"),
            (some(&export("a", "d2")), "no disk d2; the disks are: d0, d1"),
            (some(&export("../a", "d0")), "a name has"),
            (some(&export(".a", "d0")), "a name has"),
            (some(&export("", "d0")), "a name has"),
        ] {
            let error = check(&text).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
