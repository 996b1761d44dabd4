//! Disks: the only place where plain text meets cipher text.
//!
//! A [`Disk`] is what the process has opened: a device, a sector size and, unless it is a plain disk, a key. Each reactor serves
//! it through a [`DiskQueue`] of its own. Above a queue everything is the client's plain text; what it hands to the device of an encrypted
//! disk is cipher text, sector for sector at the same place: AES-256-XTS with the disk's logical sector number as the tweak
//! (IEEE 1619-2018), the bytes that dm-crypt's `aes-xts-plain64` makes.
//!
//! | an export wants to | it calls |
//! | --- | --- |
//! | read, flush, discard, write zeroes, compare, verify | the method of that name on [`DiskQueue`] |
//! | write data that is there | [`DiskQueue::write`], or [`DiskQueue::stage`] and then [`DiskQueue::commit`] to have its memory back early |
//! | write data that is still arriving | [`DiskQueue::begin_write`], [`Incoming::add`] for each piece, [`DiskQueue::commit`] |
//! | swap a range against all other hosts | [`DiskQueue::compare_and_write`] |
//! | know that nothing begun before is left | [`DiskQueue::drain`], on each queue |
//! | force a write to be durable (FUA) | [`DiskQueue::flush`] after the write |
//!
//! Ranges are whole sectors within [`Disk::size`]; any other command is refused with an error and changes nothing. Control threads
//! ask [`Disk::stats`] and call [`Disk::grow`].

mod bytes;
mod cipher;
mod compare;
mod config;
mod gate;
mod histogram;
mod incoming;
mod key_file;
mod queue;
pub mod reservation;
mod stats;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::crypto::xts::{Kernel, SectorSize, XtsKey};
use crate::device::{DeviceError, SharedDevice};
use crate::memory::{Secret, SecretError};
use crate::reactor::Reactor;

use gate::Gate;
use stats::AllCounters;

pub use config::{DiskConfig, Encryption, TweakUnit, XtsConfig};
pub use histogram::Latency;
pub use incoming::Incoming;
pub use key_file::{KeyFileError, XtsKeyBytes, read_key_file};
pub use queue::{DiskQueue, Staged, Zeroing};
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

/// A disk that the process has opened.
pub struct Disk {
    name: String,
    device: Arc<SharedDevice>,
    sector: SectorSize,
    /// The device's size of now.
    device_size: Arc<AtomicU64>,
    protection: Option<Protection>,
    gate: Arc<Gate>,
    counters: Arc<AllCounters>,
}

impl Disk {
    /// Opens a disk on its device and reads its key.
    pub fn open(config: &DiskConfig, device: Arc<SharedDevice>, kernel: Kernel) -> Result<Arc<Self>, DiskError> {
        let key_error = |source| DiskError::Key { disk: config.name.clone(), source };
        let protection = match &config.encryption {
            Encryption::None => None,
            Encryption::Xts(xts) => {
                let key = read_key_file(&xts.key_file).map_err(key_error)?;
                let step = xts.tweak_unit.step(config.sector_size);
                Some(Protection { key, kernel, step })
            }
        };
        Self::new(&config.name, device, config.sector_size, protection)
    }

    /// A disk with a key that is made now and kept nowhere else: for benchmarks and tests.
    pub fn with_random_key(
        name: &str,
        device: Arc<SharedDevice>,
        sector: SectorSize,
        kernel: Kernel,
    ) -> Result<Arc<Self>, DiskError> {
        let key = key_file::random_key().map_err(|source| DiskError::Key { disk: name.to_owned(), source })?;
        Self::new(name, device, sector, Some(Protection { key, kernel, step: 1 }))
    }

    /// A disk without encryption.
    pub fn plain(name: &str, device: Arc<SharedDevice>, sector: SectorSize) -> Result<Arc<Self>, DiskError> {
        Self::new(name, device, sector, None)
    }

    fn new(
        name: &str,
        device: Arc<SharedDevice>,
        sector: SectorSize,
        protection: Option<Protection>,
    ) -> Result<Arc<Self>, DiskError> {
        let wrong = |what: String| DiskError::Config { disk: name.to_owned(), what };
        let info = device.info();
        if info.block_size as usize > sector.bytes() {
            return Err(wrong(format!(
                "device {} has blocks of {} bytes, so sectors of {} bytes cannot be written; set sector_size = 4096",
                device.name(),
                info.block_size,
                sector.bytes()
            )));
        }
        if let Some(protection) = &protection {
            // Expanded once here so that a key or kernel that cannot be used is refused at start-up.
            expand(protection).map_err(|e| e.for_disk(name))?;
        }
        let device_size = device.size().clone();
        Ok(Arc::new(Self {
            name: name.to_owned(),
            device,
            sector,
            device_size,
            protection,
            gate: Gate::new(),
            counters: Arc::default(),
        }))
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device that the disk takes whole.
    pub fn device(&self) -> &SharedDevice {
        &self.device
    }

    /// Bytes on the disk; they become more when it grows.
    pub fn size(&self) -> u64 {
        self.device_size.load(Ordering::Acquire) & !(self.sector.bytes() as u64 - 1)
    }

    /// Makes the disk larger, if its device is a regular file, and returns the new size. Every queue takes commands behind the old end at
    /// once. Blocking: for control threads.
    pub fn grow(&self, to: u64) -> Result<u64, DiskError> {
        self.device.grow(to).map_err(|source| DiskError::Device { disk: self.name.clone(), source })?;
        Ok(self.size())
    }

    /// Looks again how large the device is, such as a block device or file that was made larger elsewhere, and returns the disk's size.
    /// Blocking: for control threads.
    pub fn refresh_size(&self) -> Result<u64, DiskError> {
        self.device.refresh_size().map_err(|source| DiskError::Device { disk: self.name.clone(), source })?;
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

    /// A few words for the start-up report.
    pub fn describe(&self) -> String {
        let cipher = match &self.protection {
            None => "NOT encrypted".to_owned(),
            Some(Protection { kernel, step: 1, .. }) => format!("aes-256-xts (kernel {kernel})"),
            Some(Protection { kernel, .. }) => {
                format!("aes-256-xts (kernel {kernel}, tweak counts 512-byte units)")
            }
        };
        format!(
            "{} MiB, {}-byte sectors, {cipher}, on device {}",
            self.size() >> 20,
            self.sector.bytes(),
            self.device.name()
        )
    }

    /// Opens the disk on a reactor: a handle on the device and an expanded key of its own.
    pub fn queue(self: &Arc<Self>, reactor: &Reactor) -> Result<Rc<DiskQueue>, DiskError> {
        let device =
            self.device.handle(reactor).map_err(|source| DiskError::Device { disk: self.name.clone(), source })?;
        let cipher = match &self.protection {
            None => None,
            Some(protection) => {
                let key = expand(protection).map_err(|e| e.for_disk(&self.name))?;
                Some(cipher::Cipher::new(key, self.sector, protection.step))
            }
        };
        Ok(Rc::new(DiskQueue::new(reactor, self.clone(), device, cipher)))
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
