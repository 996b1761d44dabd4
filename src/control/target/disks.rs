//! The disks of the process: those that are open, and those that are offline with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use crate::control::config::{Config, ConfigError};
use crate::control::rpc::{Kind, Refusal};
use crate::control::storage::{Storage, is_offline};
use crate::disk::Disk;

/// The disks of the process: one for each in the configuration.
#[derive(Default)]
pub struct Disks(BTreeMap<String, Result<Arc<Disk>, String>>);

impl Disks {
    /// Opens what the configuration says. A disk whose pool or volume cannot be had is offline; any other error ends the start.
    pub(in crate::control) fn open_all(config: &Config, storage: &Storage) -> Result<Self, ConfigError> {
        let mut disks = Self::default();
        for disk in &config.disks {
            match storage.open_disk(config, &disk.name) {
                Ok(opened) => disks.insert(opened),
                Err(e) if is_offline(&e) => {
                    warn!("disk {}: it is offline: {e}", disk.name);
                    disks.set_offline(&disk.name, e.to_string());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(disks)
    }

    /// The disk, if it is open; or why it is not.
    pub(in crate::control) fn open(&self, name: &str) -> Result<&Arc<Disk>, &str> {
        self.0[name].as_ref().map_err(String::as_str)
    }

    /// The disk, for who cannot do without it.
    pub(super) fn needed(&self, name: &str) -> Result<Arc<Disk>, Refusal> {
        let offline = |why: &str| Refusal::new(Kind::Offline, format!("disk {name} is offline: {why}"));
        self.open(name).cloned().map_err(offline)
    }

    pub(super) fn all_open(&self) -> Vec<Arc<Disk>> {
        self.0.values().flatten().cloned().collect()
    }

    pub(super) fn insert(&mut self, disk: Arc<Disk>) {
        self.0.insert(disk.name().to_owned(), Ok(disk));
    }

    /// Takes a disk out of service, and gives it if it was open.
    pub(super) fn set_offline(&mut self, name: &str, why: String) -> Option<Arc<Disk>> {
        self.0.insert(name.to_owned(), Err(why))?.ok()
    }

    /// Forgets the disks that are not in the configuration, and gives those of them that are open.
    pub(super) fn forget_all_but(&mut self, config: &Config) -> Vec<Arc<Disk>> {
        let there = |name: &str| config.disks.iter().any(|disk| disk.name == name);
        let gone = self.0.extract_if(.., |name, _| !there(name));
        gone.filter_map(|(_, disk)| disk.ok()).collect()
    }
}
