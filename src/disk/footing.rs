//! What a disk stands on, as one reactor has it: a handle on the device, or a queue of the volume.
//!
//! Memory of a device is the same for as long as the device is open. Memory of a volume is not: a block may be freed, shared with a snapshot
//! or moved while a command waits. An answer of [`Footing::readable`] or [`Footing::writable`] is therefore only good until the next await, and
//! who has waited asks again ([`Footing::still_readable`], [`DiskQueue::write_in_place`](super::DiskQueue)), which costs a device nothing.

use std::rc::Rc;

use crate::device::{Backend, ByteRange, Device, DeviceHandle, DeviceInfo, Extent, Fill, IoError};
use crate::memory::Segment;
use crate::volume::VolumeQueue;

use super::thin::split_at_cluster;

/// The most extents that one answer carries.
const MOST_EXTENTS: usize = 128;

/// What a disk stands on, on one reactor.
pub(super) enum Footing {
    Device(DeviceHandle),
    Volume(Rc<VolumeQueue>),
}

impl Footing {
    pub(super) fn info(&self) -> DeviceInfo {
        match self {
            Self::Device(device) => device.info(),
            Self::Volume(volume) => volume.info(),
        }
    }

    /// What reads give, if it has no data.
    pub(super) fn fill(&self) -> Option<Fill> {
        match self {
            Self::Device(device) => match device.bare()? {
                Backend::Null(null) => Some(null.fill()),
                _ => None,
            },
            Self::Volume(_) => None,
        }
    }

    /// The whole range as memory that may be read, if it has any.
    #[inline]
    pub(super) fn readable(&self, range: ByteRange) -> Option<Segment> {
        match self {
            Self::Device(device) => device.direct(range),
            Self::Volume(volume) => volume.readable(range),
        }
    }

    /// The whole range as memory that may be overwritten in place, if it has any.
    #[inline]
    pub(super) fn writable(&self, range: ByteRange) -> Option<Segment> {
        match self {
            Self::Device(device) => device.direct(range),
            Self::Volume(volume) => volume.writable(range),
        }
    }

    /// A number that stays as long as [`Footing::readable`] answers the same.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        match self {
            Self::Device(_) => 0,
            Self::Volume(volume) => volume.version(),
        }
    }

    /// After an await: where the range may be read now. `memory` was the answer when the version was, at the latest, this one.
    #[inline]
    pub(super) fn still_readable(&self, range: ByteRange, memory: Segment, version: u64) -> Option<Segment> {
        match self {
            Self::Volume(volume) if volume.version() != version => volume.readable(range),
            _ => Some(memory),
        }
    }

    /// The beginning of the range as memory that may be overwritten in place: of a device all of it, of a volume what lies in one cluster.
    #[inline]
    pub(super) fn writable_start(&self, range: ByteRange) -> Option<Segment> {
        match self {
            Self::Device(device) => device.direct(range),
            Self::Volume(volume) => volume.writable(split_at_cluster(range).0),
        }
    }

    pub(super) async fn flush(&self) -> Result<(), IoError> {
        match self {
            Self::Device(device) => device.flush().await,
            Self::Volume(volume) => volume.flush().await,
        }
    }

    pub(super) async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        match self {
            Self::Device(device) => device.discard(range).await,
            Self::Volume(volume) => volume.discard(range).await,
        }
    }

    pub(super) async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        match self {
            Self::Device(device) => device.extents(range).await,
            Self::Volume(volume) => volume.extents(range, MOST_EXTENTS),
        }
    }
}
