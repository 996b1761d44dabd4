//! The disks of the process: those that are open, those whose key is not in memory because nobody uses them, and those that are offline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::control::config::{Config, ConfigError};
use crate::control::rpc::{Kind, Refusal};
use crate::control::storage::{Storage, is_offline};
use crate::disk::Disk;
use crate::kms::audit::Actor;

/// How long reactors may take to let go of a disk that nobody uses any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How a disk stands.
enum Standing {
    /// It is served; if it is encrypted, its key is in memory.
    Open(Arc<Disk>),
    /// No host and no export has it, and its key is in a KMS: it is not in memory.
    Detached,
    /// It could not be opened.
    Offline {
        why: String,
        /// Because of the KMS: it is tried again.
        waits_for_kms: bool,
    },
}

/// Why a disk is not open.
const DETACHED: &str = "it is detached, and its key is not in memory";

/// The disks of the process: one for each in the configuration.
#[derive(Default)]
pub struct Disks(BTreeMap<String, Standing>);

impl Disks {
    /// Opens what somebody uses. A disk whose pool, volume or key cannot be had is offline; any other error ends the start.
    pub(in crate::control) fn open_all(config: &Config, storage: &Storage) -> Result<Self, ConfigError> {
        let mut disks = Self::default();
        for disk in &config.disks {
            let name = &disk.name;
            let stands = match config.is_used(name)? {
                true => storage.open_disk(config, name, Actor::System).map(Standing::Open),
                false => storage.make_disk(config, name, Actor::System).map(|()| Standing::Detached),
            };
            match stands {
                Ok(standing) => drop(disks.0.insert(name.clone(), standing)),
                // Whatever is wrong with a disk of the cloud, which nobody has written into the file, the others are served.
                Err(e) if is_offline(&e) || disk.of_cloud => {
                    let why = why(&e, name);
                    warn!("disk {name}: it is offline: {why}");
                    disks.refuse(name, &e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(disks)
    }

    /// The disk, if it is open; or why it is not.
    pub(in crate::control) fn open(&self, name: &str) -> Result<&Arc<Disk>, &str> {
        match &self.0[name] {
            Standing::Open(disk) => Ok(disk),
            Standing::Detached => Err(DETACHED),
            Standing::Offline { why, .. } => Err(why),
        }
    }

    /// Why it cannot be used, if it cannot.
    pub(in crate::control) fn offline(&self, name: &str) -> Option<&str> {
        match &self.0[name] {
            Standing::Offline { why, .. } => Some(why),
            Standing::Open(_) | Standing::Detached => None,
        }
    }

    /// Whether its key is not in memory because nobody uses it.
    pub(in crate::control) fn is_detached(&self, name: &str) -> bool {
        matches!(self.0[name], Standing::Detached)
    }

    /// Refuses a disk that is offline, for who can do without its key.
    pub(super) fn usable(&self, name: &str) -> Result<(), Refusal> {
        match self.offline(name) {
            Some(why) => Err(Refusal::new(Kind::Offline, format!("disk {name} is offline: {why}"))),
            None => Ok(()),
        }
    }

    /// The disk, for who cannot do without it.
    pub(super) fn needed(&self, name: &str) -> Result<Arc<Disk>, Refusal> {
        self.usable(name)?;
        let detached = |why: &str| Refusal::new(Kind::Refused, format!("disk {name}: {why}; attach it first"));
        self.open(name).cloned().map_err(detached)
    }

    pub(super) fn all_open(&self) -> Vec<Arc<Disk>> {
        let open = self.0.values().filter_map(|standing| match standing {
            Standing::Open(disk) => Some(disk.clone()),
            Standing::Detached | Standing::Offline { .. } => None,
        });
        open.collect()
    }

    /// The disks that are tried again when the KMS can be used.
    pub(super) fn waiting_for_kms(&self) -> Vec<String> {
        let waits = |standing: &Standing| matches!(standing, Standing::Offline { waits_for_kms: true, .. });
        self.0.iter().filter(|(_, standing)| waits(standing)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn insert(&mut self, disk: Arc<Disk>) {
        self.0.insert(disk.name().to_owned(), Standing::Open(disk));
    }

    /// Takes a disk out of service, and gives it if it was open.
    pub(super) fn set_offline(&mut self, name: &str, why: String) -> Option<Arc<Disk>> {
        self.0.insert(name.to_owned(), Standing::Offline { why, waits_for_kms: false })?.opened()
    }

    /// It could not be opened.
    pub(super) fn refuse(&mut self, name: &str, error: &ConfigError) {
        let waits_for_kms = matches!(error, ConfigError::Kms { .. });
        self.0.insert(name.to_owned(), Standing::Offline { why: why(error, name), waits_for_kms });
    }

    /// Nobody uses it any more; gives it if it was open.
    pub(super) fn set_detached(&mut self, name: &str) -> Option<Arc<Disk>> {
        self.0.insert(name.to_owned(), Standing::Detached)?.opened()
    }

    /// Forgets the disks that are not in the configuration, and gives those of them that are open.
    pub(super) fn forget_all_but(&mut self, config: &Config) -> Vec<Arc<Disk>> {
        let there = |name: &str| config.disks.iter().any(|disk| disk.name == name);
        let gone = self.0.extract_if(.., |name, _| !there(name));
        gone.filter_map(|(_, standing)| standing.opened()).collect()
    }
}

impl Standing {
    fn opened(self) -> Option<Arc<Disk>> {
        match self {
            Self::Open(disk) => Some(disk),
            Self::Detached | Self::Offline { .. } => None,
        }
    }
}

/// The reason without the disk's name, which whoever shows it says first.
fn why(error: &ConfigError, name: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("disk {name}: ")).map(str::to_owned).unwrap_or(text)
}

/// Closes a disk, and waits until no reactor has it any more: its key is gone then. False if that takes too long; the key goes with the last command.
pub(super) fn close(disk: Arc<Disk>) -> bool {
    let deadline = Instant::now() + CLOSE_LIMIT;
    while Arc::strong_count(&disk) > 1 {
        if Instant::now() > deadline {
            warn!(
                "disk {}: a reactor has not let go of it within {CLOSE_LIMIT:?}; its key is wiped when it does",
                disk.name()
            );
            return false;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    true
}
