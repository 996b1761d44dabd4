//! Virtqueues in a guest's memory (virtio 1.2, sections 2.6 to 2.8), from the device's side.
//!
//! | file | what it is |
//! | --- | --- |
//! | `area` | a checked part of the shared memory, read and written by atomic words |
//! | `ahead` | hints: memory of the next requests is fetched early |
//! | `chain` | one request's memory: descriptors, each read once, checked and turned into segments |
//! | `split`, `packed` | the two kinds of rings |
//! | `inflight` | what the front end keeps for us, so that requests survive this process (vhost-user protocol, "Inflight I/O tracking") |
//!
//! The guest may write anything anywhere at any time. Every index, address and length is taken once and checked then; a chain that cannot be ends
//! the ring with a [`RingError`], and what is only untrue harms the guest itself. Nothing is allocated after [`Ring::new`].
//!
//! Ordering: what the driver wrote before it moved an index or a flag is seen after that was read with acquire, and the other way round with
//! release. Where each side writes one word and then reads another one of the other side (kicks and signals), a full fence stands between, on both
//! sides: at least one of them sees the other's word.

mod ahead;
mod area;
mod chain;
mod inflight;
mod packed;
mod split;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use thiserror::Error;

use super::memory::{GuestMemory, Outside};
use packed::PackedRing;
use split::SplitRing;

pub use chain::{Chain, MOST_SEGMENTS};
pub use inflight::{InflightError, InflightQueue, InflightShared};

/// The most entries of a ring (section 2.7: a power of two up to 2^15).
pub const MOST_ENTRIES: u16 = 1 << 15;

/// Where a ring lies, by the front end's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Entries.
    pub size: u16,
    /// The descriptors.
    pub descriptors: u64,
    /// The driver's area: the available ring, or its event suppression.
    pub driver: u64,
    /// The device's area: the used ring, or its event suppression.
    pub device: u64,
}

/// What was negotiated of rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// `VIRTIO_F_RING_PACKED`.
    pub packed: bool,
    /// `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// `VIRTIO_F_EVENT_IDX`.
    pub event_index: bool,
}

/// Why a ring cannot be served, or not any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RingError {
    /// The number of entries.
    #[error("a ring cannot have {0} entries")]
    Size(u16),
    /// A part of the ring is not in the memory that is shared.
    #[error("its {part} is not in the memory that is shared: {source}")]
    Area {
        /// Which.
        part: &'static str,
        /// Where it was said to be.
        source: Outside,
    },
    /// A part of the ring lies where it must not.
    #[error("its {part} at {address:#x} is not aligned")]
    Misaligned {
        /// Which.
        part: &'static str,
        /// Where it was said to be.
        address: u64,
    },
    /// What the front end keeps of an earlier life does not fit.
    #[error("what was kept of its requests does not fit: {0}")]
    Kept(&'static str),
    /// The driver offers more than there are entries.
    #[error("the driver says that {0} requests are new, which is more than the ring holds")]
    Index(u16),
    /// A descriptor that there is not.
    #[error("descriptor {0} is named, which the ring does not have")]
    Descriptor(u16),
    /// A chain that does not end.
    #[error("a chain of descriptors does not end")]
    Endless,
    /// More memory than a request may have.
    #[error("a request lies in more than {MOST_SEGMENTS} pieces")]
    Pieces,
    /// What the device reads behind what it writes.
    #[error("memory to be read is listed behind memory to be written")]
    Order,
    /// An indirect table where there must not be one, or of a length that is none.
    #[error("an indirect table is not as it has to be")]
    Indirect,
    /// A buffer outside.
    #[error("a descriptor names memory that is not there: {0}")]
    Outside(#[from] Outside),
    /// The front end has taken the memory away.
    #[error("the file with its memory was cut off")]
    MemoryGone,
}

/// Which request is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The first descriptor of a split ring, the buffer's number of a packed one.
    id: u16,
    /// The entries that it takes of a packed ring.
    entries: u16,
    /// Where a packed ring's request is kept.
    kept: u16,
}

#[cfg(feature = "simulation")]
impl Head {
    /// One that is no request's, if there is only this one.
    pub(crate) fn another(self) -> Self {
        Self { id: self.id.wrapping_add(1), ..self }
    }
}

/// A descriptor.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    /// What follows in a split ring; the buffer's number in a packed one.
    next: u16,
}

impl Descriptor {
    /// Sections 2.7.5 and 2.8.13.
    const NEXT: u16 = 1 << 0;
    const WRITE: u16 = 1 << 1;
    const INDIRECT: u16 = 1 << 2;
    /// Bytes of one.
    const BYTES: usize = 16;

    /// One of a split ring (2.7.5): address, length, flags, next.
    #[inline]
    fn split(address: u64, rest: u64) -> Self {
        Self { address, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }

    /// One of a packed ring (2.8.1): address, length, number, flags.
    #[inline]
    fn packed(address: u64, rest: u64) -> Self {
        Self { address, len: rest as u32, flags: (rest >> 48) as u16, next: (rest >> 32) as u16 }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A ring, from the device's side, on one reactor.
pub struct Ring(Kind);

enum Kind {
    Split(SplitRing),
    Packed(PackedRing),
}

macro_rules! on_kind {
    ($ring:expr, $it:ident => $what:expr) => {
        match &$ring.0 {
            Kind::Split($it) => $what,
            Kind::Packed($it) => $what,
        }
    };
    (mut $ring:expr, $it:ident => $what:expr) => {
        match &mut $ring.0 {
            Kind::Split($it) => $what,
            Kind::Packed($it) => $what,
        }
    };
}

impl Ring {
    /// A ring that goes on where `base` says, as `VHOST_USER_SET_VRING_BASE` gives it, and with what `inflight` has kept.
    pub fn new(
        memory: Arc<GuestMemory>,
        layout: Layout,
        features: RingFeatures,
        base: u32,
        inflight: Option<InflightQueue>,
    ) -> Result<Self, RingError> {
        if layout.size == 0 || layout.size > MOST_ENTRIES || !(features.packed || layout.size.is_power_of_two()) {
            return Err(RingError::Size(layout.size));
        }
        Ok(Self(match features.packed {
            true => Kind::Packed(PackedRing::new(memory, layout, features, base, inflight)?),
            false => Kind::Split(SplitRing::new(memory, layout, features, base, inflight)?),
        }))
    }

    /// The guest's memory is another one from now on. No request may be at work.
    pub fn set_memory(&mut self, memory: Arc<GuestMemory>) -> Result<(), RingError> {
        on_kind!(mut self, ring => ring.set_memory(memory))
    }

    /// Whether [`Ring::next`] would find something, a request or an error.
    #[inline]
    pub fn has_next(&self) -> bool {
        on_kind!(self, ring => ring.has_next())
    }

    /// Notices what the driver has offered; whether [`Ring::next`] would find something.
    #[inline]
    pub fn look(&mut self) -> Result<bool, RingError> {
        on_kind!(mut self, ring => ring.look())
    }

    /// Whether there is something that was noticed and not taken, without another look at the driver's side.
    #[inline]
    pub fn has_noticed(&self) -> bool {
        on_kind!(self, ring => ring.has_noticed())
    }

    /// Takes the next request; false if there is none. First come those that were at work when this process ended before, in their order.
    #[inline]
    pub fn next(&mut self, chain: &mut Chain) -> Result<bool, RingError> {
        on_kind!(mut self, ring => ring.next(chain))
    }

    /// Answers a request, in whatever order; `written` bytes of its memory were written.
    #[inline]
    pub fn complete(&mut self, head: Head, written: u32) {
        on_kind!(mut self, ring => ring.complete(head, written));
    }

    /// Whether the driver wants to be told of what was answered since this was last asked.
    #[inline]
    pub fn wants_signal(&mut self) -> bool {
        on_kind!(mut self, ring => ring.wants_signal())
    }

    /// Asks the driver to kick when it has something new. True if there is something already, for which it may not kick.
    pub fn want_kicks(&mut self) -> bool {
        on_kind!(mut self, ring => ring.want_kicks())
    }

    /// Tells the driver that kicks are not needed.
    pub fn refuse_kicks(&mut self) {
        on_kind!(mut self, ring => ring.refuse_kicks());
    }

    /// Where the ring goes on, as `VHOST_USER_GET_VRING_BASE` answers it.
    pub fn base(&self) -> u32 {
        on_kind!(self, ring => ring.base())
    }
}
