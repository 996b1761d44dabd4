//! What a disk stands on: a device that it takes whole, or a volume of a pool.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::device::{DeviceError, SharedDevice};
use crate::reactor::Reactor;
use crate::volume::{PoolError, Shrink, Volume};

use super::DiskError;
use super::footing::Footing;

/// What a disk stands on, opened once for the process.
pub enum Ground {
    /// A device, whole.
    Device(Arc<SharedDevice>),
    /// A volume of a pool; or a snapshot, which can be read and not be changed.
    Volume(Arc<Volume>),
}

impl From<Arc<SharedDevice>> for Ground {
    fn from(device: Arc<SharedDevice>) -> Self {
        Self::Device(device)
    }
}

impl From<Arc<Volume>> for Ground {
    fn from(volume: Arc<Volume>) -> Self {
        Self::Volume(volume)
    }
}

/// Why the ground does not do what it is asked for.
pub(super) enum GroundError {
    Device(DeviceError),
    Pool(Box<PoolError>),
}

impl GroundError {
    pub(super) fn for_disk(self, disk: &str) -> DiskError {
        let disk = disk.to_owned();
        match self {
            Self::Device(source) => DiskError::Device { disk, source },
            Self::Pool(source) => DiskError::Pool { disk, source },
        }
    }
}

impl From<DeviceError> for GroundError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<PoolError> for GroundError {
    fn from(error: PoolError) -> Self {
        Self::Pool(Box::new(error))
    }
}

impl Ground {
    /// Its name: `device d0`, or `volume v0 of pool p0`.
    pub fn name(&self) -> String {
        match self {
            Self::Device(device) => format!("device {}", device.name()),
            Self::Volume(volume) => format!("volume {} of pool {}", volume.name(), volume.pool().name()),
        }
    }

    /// A few words for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Device(device) => device.describe(),
            Self::Volume(_) => self.name(),
        }
    }

    /// Bytes of the smallest piece that it writes.
    pub(super) fn block_size(&self) -> u32 {
        match self {
            Self::Device(device) => device.info().block_size,
            Self::Volume(volume) => volume.block_size(),
        }
    }

    /// The number of bytes on it, as it changes.
    pub(super) fn size(&self) -> &Arc<AtomicU64> {
        match self {
            Self::Device(device) => device.size(),
            Self::Volume(volume) => volume.size(),
        }
    }

    /// Makes it larger. Blocking.
    pub(super) fn grow(&self, to: u64) -> Result<u64, GroundError> {
        Ok(match self {
            Self::Device(device) => device.grow(to)?,
            Self::Volume(volume) => volume.pool().resize(&volume.name(), to, Shrink::Forbidden)?,
        })
    }

    /// Looks again how large a device is; the size of a volume is always known. Blocking.
    pub(super) fn refresh_size(&self) -> Result<(), GroundError> {
        if let Self::Device(device) = self {
            device.refresh_size()?;
        }
        Ok(())
    }

    /// A handle for one reactor.
    pub(super) fn footing(&self, reactor: &Reactor) -> Result<Footing, GroundError> {
        Ok(match self {
            Self::Device(device) => Footing::Device(device.handle(reactor)?),
            Self::Volume(volume) if volume.is_snapshot() => Footing::Volume(volume.frozen_queue(reactor)?),
            Self::Volume(volume) => Footing::Volume(volume.queue(reactor)?),
        })
    }
}
