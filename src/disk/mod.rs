//! Disks: the only place where plain text meets cipher text.
//!
//! A [`Disk`] is what the process has opened: a device or a volume of a pool ([`Ground`]), a sector size and, unless it is a plain disk, a key.
//! Each reactor serves it through a [`DiskQueue`] of its own. Above a queue everything is the client's plain text; what it hands to the ground of
//! an encrypted disk is cipher text, sector for sector at the same place: AES-256-XTS with the disk's logical sector number as the tweak
//! (IEEE 1619-2018), the bytes that dm-crypt's `aes-xts-plain64` makes. A volume may have a sector in any cluster; its cipher text is the same.
//!
//! | an export wants to | it calls |
//! | --- | --- |
//! | read, flush, discard, write zeroes, compare, verify | the method of that name on [`DiskQueue`] |
//! | read into memory of a client, such as a guest's | [`DiskQueue::read_to`] |
//! | write data that is there | [`DiskQueue::write`], or [`DiskQueue::stage`] and then [`DiskQueue::commit`] to have its memory back early |
//! | write data that is still arriving | [`DiskQueue::begin_write`], [`Incoming::add`] for each piece, [`DiskQueue::commit`] |
//! | swap a range against all other hosts | [`DiskQueue::compare_and_write`] |
//! | know that nothing begun before is left | [`DiskQueue::drain`], on each queue |
//! | force a write to be durable (FUA) | [`DiskQueue::flush`] after the write |
//! | keep within the disk's limits, which it has to | [`Tap::pass`] of the consumer's [`DiskQueue::tap`], before each command that they count |
//!
//! Ranges are whole sectors within [`Disk::size`]; any other command is refused with an error and changes nothing. Control threads
//! ask [`Disk::stats`] and call [`Disk::grow`] and [`Disk::set_limits`].

mod attributes;
mod bytes;
mod cipher;
mod compare;
mod config;
mod footing;
mod gate;
mod ground;
mod histogram;
mod incoming;
mod key_file;
mod line;
pub mod qos;
mod queue;
pub mod reservation;
#[cfg(feature = "slowdown")]
mod slowdown;
mod stats;
mod thin;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::crypto::xts::{Kernel, SectorSize, XtsKey, XtsKeyBytes};
use crate::device::{DeviceError, SharedDevice};
use crate::memory::{Secret, SecretError};
use crate::reactor::Reactor;
use crate::volume::{PoolError, Volume, VolumeInfo};

use gate::Gate;
use qos::Throttle;
use stats::AllCounters;

pub use attributes::{AttributesError, DiskAttributes};
pub use config::{DiskConfig, Encryption, TweakUnit, XtsConfig, derived_uuid};
pub use ground::Ground;
pub use histogram::Latency;
pub use incoming::Incoming;
pub use key_file::{KeyFileError, read_key_file};
pub use qos::{Consumer, Cost, Limits, Tap};
pub use queue::{DiskQueue, MOST_PIECES, Staged, Zeroing};
pub use stats::{CommandKind, DiskStats, Tally};

/// Why a disk cannot be opened.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The configuration does not fit the device.
    #[error("disk {disk}: {what}")]
    Config {
        /// The disk.
        disk: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The key cannot be used.
    #[error("disk {disk}: {source}")]
    Key {
        /// The disk.
        disk: String,
        /// Why not.
        source: KeyFileError,
    },
    /// A reactor cannot open the device, or it cannot be resized.
    #[error("disk {disk}: {source}")]
    Device {
        /// The disk.
        disk: String,
        /// Why not.
        source: DeviceError,
    },
    /// The pool does not do it.
    #[error("disk {disk}: {source}")]
    Pool {
        /// The disk.
        disk: String,
        /// Why not.
        source: Box<PoolError>,
    },
    /// The volume is not this disk's.
    #[error("disk {disk}: {ground}: {source}")]
    Attributes {
        /// The disk.
        disk: String,
        /// The volume.
        ground: String,
        /// What does not fit.
        source: AttributesError,
    },
    /// There is no locked memory for the key.
    #[error("disk {disk}: {source}")]
    Memory {
        /// The disk.
        disk: String,
        /// Why not.
        source: SecretError,
    },
}

/// How a disk is encrypted.
struct Protection {
    key: Secret<XtsKeyBytes>,
    kernel: Kernel,
    /// What the tweak counts up by from sector to sector.
    step: u64,
}

impl Protection {
    fn new(config: &DiskConfig, key: Secret<XtsKeyBytes>, kernel: Kernel) -> Self {
        let unit = match &config.encryption {
            Some(Encryption::Xts(xts)) => xts.tweak_unit.unwrap_or_default(),
            _ => TweakUnit::default(),
        };
        Self { key, kernel, step: unit.step(config.sector()) }
    }
}

/// A disk that the process has opened.
pub struct Disk {
    name: String,
    ground: Ground,
    sector: SectorSize,
    /// The ground's size of now.
    ground_size: Arc<AtomicU64>,
    protection: Option<Arc<Protection>>,
    gate: Arc<Gate>,
    counters: Arc<AllCounters>,
    throttle: Arc<Throttle>,
}

impl Disk {
    /// Opens a disk on a device that it takes whole, and reads its key.
    pub fn open(config: &DiskConfig, device: Arc<SharedDevice>, kernel: Kernel) -> Result<Arc<Self>, DiskError> {
        let protection = config.read_key()?.map(|key| Arc::new(Protection::new(config, key, kernel)));
        Self::new(&config.name, device.into(), config.sector(), protection)
    }

    /// Opens a disk on its volume, or on a snapshot to be read, with its key, and refuses a volume that was written with another key or in another form. What the
    /// configuration leaves open is as the volume was made.
    pub fn open_volume(
        config: &DiskConfig,
        volume: Arc<Volume>,
        kernel: Kernel,
        key: Option<Secret<XtsKeyBytes>>,
    ) -> Result<Arc<Self>, DiskError> {
        let ground = Ground::from(volume.clone());
        let config = Self::fit(config, &volume.attributes(), ground.name(), key.as_deref())?;
        let protection = key.map(|key| Arc::new(Protection::new(&config, key, kernel)));
        Self::new(&config.name, ground, config.sector(), protection)
    }

    /// The same disk as a snapshot of it has it, to be read with the key that is in memory.
    pub fn as_of(&self, snapshot: Arc<Volume>) -> Result<Arc<Self>, DiskError> {
        let ground = Ground::from(snapshot.clone());
        let wrong = |source| DiskError::Attributes { disk: self.name.clone(), ground: ground.name(), source };
        let attributes = DiskAttributes::decode(&snapshot.attributes()).map_err(wrong)?;
        attributes
            .check_key(self.sector, self.protection.as_ref().map(|protection| &*protection.key))
            .map_err(wrong)?;
        Self::new(&self.name, ground, self.sector, self.protection.clone())
    }

    /// Refuses a snapshot of which no volume for this disk could be made.
    pub fn check_source(
        config: &DiskConfig,
        snapshot: &VolumeInfo,
        key: Option<&XtsKeyBytes>,
    ) -> Result<(), DiskError> {
        Self::fit(config, &snapshot.attributes, format!("snapshot {}", snapshot.name), key).map(drop)
    }

    /// The configuration with what it leaves open, if it fits.
    fn fit(
        config: &DiskConfig,
        attributes: &[u8],
        ground: String,
        key: Option<&XtsKeyBytes>,
    ) -> Result<DiskConfig, DiskError> {
        let wrong = |source| DiskError::Attributes { disk: config.name.clone(), ground: ground.clone(), source };
        let attributes = DiskAttributes::decode(attributes).map_err(wrong)?;
        let config = attributes.complete(config);
        attributes.check(&config, key).map_err(wrong)?;
        Ok(config)
    }

    /// A disk with a key that is made now and kept nowhere else: for benchmarks and tests.
    pub fn with_random_key(
        name: &str,
        ground: impl Into<Ground>,
        sector: SectorSize,
        kernel: Kernel,
    ) -> Result<Arc<Self>, DiskError> {
        let key = key_file::random_key().map_err(|source| DiskError::Key { disk: name.to_owned(), source })?;
        Self::new(name, ground.into(), sector, Some(Arc::new(Protection { key, kernel, step: 1 })))
    }

    /// A disk without encryption; the same for benchmarks and tests, on a volume.
    pub fn plain(name: &str, ground: impl Into<Ground>, sector: SectorSize) -> Result<Arc<Self>, DiskError> {
        Self::new(name, ground.into(), sector, None)
    }

    fn new(
        name: &str,
        ground: Ground,
        sector: SectorSize,
        protection: Option<Arc<Protection>>,
    ) -> Result<Arc<Self>, DiskError> {
        let block = ground.block_size() as usize;
        if block > sector.bytes() {
            return Err(DiskError::Config {
                disk: name.to_owned(),
                what: format!(
                    "{} has blocks of {block} bytes, so sectors of {} bytes cannot be written; set sector_size = 4096",
                    ground.name(),
                    sector.bytes()
                ),
            });
        }
        if let Some(protection) = &protection {
            // Expanded once here so that a key or kernel that cannot be used is refused at start-up.
            expand(protection).map_err(|e| e.for_disk(name))?;
        }
        let ground_size = ground.size().clone();
        Ok(Arc::new(Self {
            name: name.to_owned(),
            ground,
            sector,
            ground_size,
            protection,
            gate: Gate::new(),
            counters: Arc::default(),
            throttle: Arc::default(),
        }))
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the disk stands on.
    pub fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Bytes on the disk; they become more when it grows.
    pub fn size(&self) -> u64 {
        self.ground_size.load(Ordering::Acquire) & !(self.sector.bytes() as u64 - 1)
    }

    /// Makes the disk larger, if its device is a regular file, and returns the new size. Every queue takes commands behind the old end at
    /// once. Blocking: for control threads.
    pub fn grow(&self, to: u64) -> Result<u64, DiskError> {
        self.ground.grow(to).map_err(|e| e.for_disk(&self.name))?;
        Ok(self.size())
    }

    /// Looks again how large the device is, such as a block device or file that was made larger elsewhere, and returns the disk's size.
    /// Blocking: for control threads.
    pub fn refresh_size(&self) -> Result<u64, DiskError> {
        self.ground.refresh_size().map_err(|e| e.for_disk(&self.name))?;
        Ok(self.size())
    }

    /// The logical block, which is also the data unit of the cipher.
    pub fn sector_size(&self) -> SectorSize {
        self.sector
    }

    /// Whether what is stored is cipher text.
    pub fn is_encrypted(&self) -> bool {
        self.protection.is_some()
    }

    /// The kernel of its cipher.
    pub fn kernel(&self) -> Option<Kernel> {
        self.protection.as_ref().map(|protection| protection.kernel)
    }

    /// What the disk has done since it was opened, on all queues. May be asked on any thread, at any time.
    pub fn stats(&self) -> DiskStats {
        self.counters.sum()
    }

    /// The limits that hold now.
    pub fn limits(&self) -> Option<Limits> {
        self.throttle.limits()
    }

    /// Sets the limits, which hold for all queues together; `None`, or limits of zero, lifts them. May be called on any thread, at any time:
    /// [`qos`] says when it is felt.
    pub fn set_limits(&self, limits: Option<Limits>) {
        self.throttle.set_limits(limits);
    }

    /// A few words for the start-up report.
    pub fn describe(&self) -> String {
        let cipher = match &self.protection {
            None => "NOT encrypted".to_owned(),
            Some(protection) if protection.step == 1 => format!("aes-256-xts (kernel {})", protection.kernel),
            Some(protection) => format!("aes-256-xts (kernel {}, tweak counts 512-byte units)", protection.kernel),
        };
        format!("{} MiB, {}-byte sectors, {cipher}, on {}", self.size() >> 20, self.sector.bytes(), self.ground.name())
    }

    /// Opens the disk on a reactor: a handle on its ground and an expanded key of its own.
    pub fn queue(self: &Arc<Self>, reactor: &Reactor) -> Result<Rc<DiskQueue>, DiskError> {
        let footing = self.ground.footing(reactor).map_err(|e| e.for_disk(&self.name))?;
        let cipher = match &self.protection {
            None => None,
            Some(protection) => {
                let key = expand(protection).map_err(|e| e.for_disk(&self.name))?;
                Some(cipher::Cipher::new(key, self.sector, protection.step))
            }
        };
        Ok(Rc::new(DiskQueue::new(reactor, self.clone(), footing, cipher)))
    }
}

enum ExpandError {
    Memory(SecretError),
    Key(KeyFileError),
}

impl From<SecretError> for ExpandError {
    fn from(error: SecretError) -> Self {
        Self::Memory(error)
    }
}

impl ExpandError {
    fn for_disk(self, name: &str) -> DiskError {
        match self {
            Self::Memory(source) => DiskError::Memory { disk: name.to_owned(), source },
            Self::Key(source) => DiskError::Key { disk: name.to_owned(), source },
        }
    }
}

fn expand(protection: &Protection) -> Result<Secret<XtsKey>, ExpandError> {
    Secret::build(|place| {
        XtsKey::expand_into(place, protection.kernel, &protection.key.0)
            .map_err(|e| ExpandError::Key(KeyFileError::Refused(e)))
    })
}
