//! The driver's side of a ring for the load: slots whose requests always look the same, so that giving one to the device takes a few stores.
//!
//! A slot's descriptors are built once. In a split ring (virtio 1.2, section 2.7) each slot keeps its places in the descriptor table; in a packed one
//! (section 2.8) they are copied to where the ring has come to. The device is asked not to signal anything; it is kicked if it asks for that.
//!
//! What always holds: a completion that names no slot in flight is found by who counts them ([`super::queue`]); nothing that the device writes
//! is used as an index before it was checked.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::RingKind;
use super::front_end::RingPlace;
use super::memory::SharedMemory;

/// Flags of a descriptor (sections 2.7.5 and 2.8.1).
pub(super) mod flag {
    pub(in super::super) const NEXT: u16 = 1 << 0;
    pub(in super::super) const WRITE: u16 = 1 << 1;
    pub(in super::super) const INDIRECT: u16 = 1 << 2;
    pub(super) const AVAILABLE: u16 = 1 << 7;
    pub(super) const USED: u16 = 1 << 15;
}

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`, `VIRTQ_USED_F_NO_NOTIFY`, and `RING_EVENT_FLAGS_DISABLE` of packed rings, which are all the same.
const DO_NOT_TELL: u16 = 1;

/// Entries of the largest ring (section 2.7).
pub(super) const LARGEST: usize = 1 << 15;

/// A piece of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) guest: u64,
    pub(super) len: u32,
    /// The device writes it.
    pub(super) is_written: bool,
}

/// A descriptor: of a split ring with flags and next, of a packed one with id and flags.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Descriptor {
    pub(super) guest: u64,
    pub(super) len: u32,
    pub(super) third: u16,
    pub(super) fourth: u16,
}

/// A completion: the number that a chain began with, and how many bytes the device wrote.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) id: u32,
    pub(super) len: u32,
}

/// Where the parts of a ring are in its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    pub(super) kind: RingKind,
    pub(super) size: u16,
    pub(super) descriptors: usize,
    pub(super) driver: usize,
    pub(super) device: usize,
}

impl Parts {
    /// A ring at `offset` of a memory, and the first byte behind it. Whole pages for each part: what one side writes shares no cache line with the other's.
    pub(super) fn at(kind: RingKind, size: u16, offset: usize) -> (Self, usize) {
        let entries = usize::from(size);
        let (driver_len, device_len) = match kind {
            RingKind::Split => (6 + 2 * entries, 6 + 8 * entries),
            RingKind::Packed => (4, 4),
        };
        let page = |len: usize| len.next_multiple_of(4096);
        let descriptors = page(offset);
        let driver = descriptors + page(16 * entries);
        let device = driver + page(driver_len);
        (Self { kind, size, descriptors, driver, device }, device + page(device_len))
    }

    /// Where the device is told that they are.
    pub(super) fn place(&self, memory: &SharedMemory) -> RingPlace {
        RingPlace {
            size: self.size,
            descriptors: memory.address(self.descriptors),
            driver: memory.address(self.driver),
            device: memory.address(self.device),
        }
    }

    /// The base of a new ring, as `SET_VRING_BASE` takes it: a packed one begins with both wrap counters set.
    pub(super) fn base(&self) -> u32 {
        match self.kind {
            RingKind::Split => 0,
            RingKind::Packed => 0x8000_8000,
        }
    }
}

/// A ring of either kind.
pub(super) enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Ring {
    /// Over memory that is zeroed.
    pub(super) fn new(memory: Arc<SharedMemory>, parts: &Parts) -> Self {
        match parts.kind {
            RingKind::Split => Self::Split(SplitRing::new(memory, parts)),
            RingKind::Packed => Self::Packed(PackedRing::new(memory, parts)),
        }
    }

    /// Gives a chain to the device. In a split ring it lies at `id` and the following places since [`Ring::keep`].
    #[inline]
    pub(super) fn give(&mut self, id: u16, chain: &[Piece], flags: u16) {
        match self {
            Self::Split(ring) => ring.give(id),
            Self::Packed(ring) => ring.give(id, chain, flags),
        }
    }

    /// Writes a chain that stays where it is: in a split ring to `id` and the following places.
    pub(super) fn keep(&mut self, id: u16, chain: &[Piece], flags: u16) {
        if let Self::Split(ring) = self {
            ring.keep(id, chain, flags);
        }
    }

    /// Lets the device see what was given. Whether it wants to be kicked.
    #[inline]
    pub(super) fn publish(&mut self) -> bool {
        match self {
            Self::Split(ring) => ring.publish(),
            Self::Packed(ring) => ring.wants_kick(),
        }
    }

    /// The next completion. `entries` is how many places each chain takes.
    #[inline]
    pub(super) fn take(&mut self, entries: u16) -> Option<Used> {
        match self {
            Self::Split(ring) => ring.take(),
            Self::Packed(ring) => ring.take(entries),
        }
    }
}

/// The driver's side of a split ring.
pub(super) struct SplitRing {
    /// What the pointers lead into.
    _memory: Arc<SharedMemory>,
    mask: u16,
    table: *mut Descriptor,
    available: *mut u16,
    used: *const Used32,
    available_index: *const AtomicU16,
    used_flags: *const AtomicU16,
    used_index: *const AtomicU16,
    next: u16,
    seen: u16,
    known: u16,
}

/// `struct virtq_used_elem`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Used32 {
    id: u32,
    len: u32,
}

impl SplitRing {
    fn new(memory: Arc<SharedMemory>, parts: &Parts) -> Self {
        assert!(parts.size.is_power_of_two());
        let entries = usize::from(parts.size);
        memory.check(parts.descriptors, 16 * entries);
        memory.check(parts.driver, 4 + 2 * entries);
        memory.check(parts.device, 4 + 8 * entries);
        memory.write(parts.driver, &DO_NOT_TELL.to_le_bytes());
        Self {
            mask: parts.size - 1,
            table: memory.place(parts.descriptors),
            available: memory.place(parts.driver + 4),
            used: memory.place(parts.device + 4),
            available_index: memory.place(parts.driver + 2),
            used_flags: memory.place(parts.device),
            used_index: memory.place(parts.device + 2),
            next: 0,
            seen: 0,
            known: 0,
            _memory: memory,
        }
    }

    fn keep(&mut self, id: u16, chain: &[Piece], flags: u16) {
        let last = chain.len() - 1;
        assert!(usize::from(id) + last <= usize::from(self.mask));
        for (n, piece) in chain.iter().enumerate() {
            let at = id + n as u16;
            let (more, next) = if n < last { (flag::NEXT, at + 1) } else { (0, 0) };
            let written = if piece.is_written { flag::WRITE } else { 0 };
            let descriptor =
                Descriptor { guest: piece.guest, len: piece.len, third: flags | written | more, fourth: next };
            // SAFETY: `at` is a place in the table, which `new` checked to lie in the memory that this ring keeps alive.
            unsafe { self.table.add(at.into()).write_volatile(descriptor) };
        }
    }

    #[inline]
    fn give(&mut self, id: u16) {
        // SAFETY: the masked index is an entry of the available ring, which lies in the memory (`new`).
        unsafe { self.available.add((self.next & self.mask).into()).write_volatile(id) };
        self.next = self.next.wrapping_add(1);
    }

    #[inline]
    fn publish(&mut self) -> bool {
        // SAFETY: both lie in the memory (`new`), aligned, and are only accessed as atomics.
        let (index, flags) = unsafe { (&*self.available_index, &*self.used_flags) };
        // Release: the entries and descriptors are there before the device sees the index.
        index.store(self.next, Ordering::Release);
        // The device writes its flags and then looks at the index: of the two sides at least one sees the other's store (section 2.7.10.1).
        fence(Ordering::SeqCst);
        flags.load(Ordering::Relaxed) & DO_NOT_TELL == 0
    }

    #[inline]
    fn take(&mut self) -> Option<Used> {
        if self.seen == self.known {
            // SAFETY: it lies in the memory (`new`), aligned, and is only read as an atomic. Acquire: the entries up to it are there.
            self.known = unsafe { &*self.used_index }.load(Ordering::Acquire);
            if self.seen == self.known {
                return None;
            }
        }
        // SAFETY: the masked index is an entry of the used ring, which lies in the memory (`new`).
        let Used32 { id, len } = unsafe { self.used.add((self.seen & self.mask).into()).read_volatile() };
        self.seen = self.seen.wrapping_add(1);
        Some(Used { id, len })
    }
}

/// The driver's side of a packed ring.
pub(super) struct PackedRing {
    /// What the pointers lead into.
    _memory: Arc<SharedMemory>,
    size: u16,
    ring: *mut Descriptor,
    /// The device's `flags` of event suppression (section 2.8.14).
    device_flags: *const AtomicU16,
    next: u16,
    next_wrap: bool,
    seen: u16,
    seen_wrap: bool,
}

impl PackedRing {
    fn new(memory: Arc<SharedMemory>, parts: &Parts) -> Self {
        memory.check(parts.descriptors, 16 * usize::from(parts.size));
        memory.check(parts.driver, 4);
        memory.check(parts.device, 4);
        memory.write(parts.driver + 2, &DO_NOT_TELL.to_le_bytes());
        Self {
            size: parts.size,
            ring: memory.place(parts.descriptors),
            device_flags: memory.place(parts.device + 2),
            next: 0,
            next_wrap: true,
            seen: 0,
            seen_wrap: true,
            _memory: memory,
        }
    }

    #[inline]
    fn give(&mut self, id: u16, chain: &[Piece], flags: u16) {
        let last = chain.len() - 1;
        let mut first = None;
        for (n, piece) in chain.iter().enumerate() {
            let mut flags = flags | if n < last { flag::NEXT } else { 0 };
            flags |= if piece.is_written { flag::WRITE } else { 0 };
            flags |= if self.next_wrap { flag::AVAILABLE } else { flag::USED };
            // SAFETY: `next` is below the ring's size, and the ring lies in the memory (`new`), aligned; no references are made to what the device
            // may write.
            let place = unsafe {
                let place = self.ring.add(self.next.into()).cast::<DescriptorCells>();
                (&raw mut (*place).guest).write_volatile(piece.guest);
                (&raw mut (*place).len).write_volatile(piece.len);
                (&raw mut (*place).id).write_volatile(id);
                &(*place).flags
            };
            match first {
                // The first one's flags come last: with them, the device has the whole chain (section 2.8.21).
                None => first = Some((place, flags)),
                Some(_) => place.store(flags, Ordering::Relaxed),
            }
            self.next += 1;
            if self.next == self.size {
                (self.next, self.next_wrap) = (0, !self.next_wrap);
            }
        }
        let (place, flags) = first.expect("a chain has a piece");
        // Release: everything else of the chain is there before.
        place.store(flags, Ordering::Release);
    }

    #[inline]
    fn wants_kick(&self) -> bool {
        // The device writes its flags and then looks at the ring, we the other way round: one of the two sees the other's store.
        fence(Ordering::SeqCst);
        // SAFETY: it lies in the memory (`new`), aligned, and is only read as an atomic.
        unsafe { &*self.device_flags }.load(Ordering::Relaxed) != DO_NOT_TELL
    }

    #[inline]
    fn take(&mut self, entries: u16) -> Option<Used> {
        // SAFETY: `seen` is below the ring's size, and the ring lies in the memory (`new`), aligned; only its flags are referred to, as an atomic.
        let (place, flags) = unsafe {
            let place = self.ring.add(self.seen.into()).cast::<DescriptorCells>();
            // Acquire: the id and the length are there before.
            (place, (*place).flags.load(Ordering::Acquire))
        };
        let (available, used) = (flags & flag::AVAILABLE != 0, flags & flag::USED != 0);
        if available != used || used != self.seen_wrap {
            return None;
        }
        // SAFETY: the place, as above.
        let completion = unsafe {
            Used { id: (&raw const (*place).id).read_volatile().into(), len: (&raw const (*place).len).read_volatile() }
        };
        self.seen += entries;
        if self.seen >= self.size {
            (self.seen, self.seen_wrap) = (self.seen - self.size, !self.seen_wrap);
        }
        Some(completion)
    }
}

/// A descriptor of a packed ring, with what both sides write.
#[repr(C)]
struct DescriptorCells {
    guest: u64,
    len: u32,
    id: u16,
    flags: AtomicU16,
}

const _: () = assert!(size_of::<Descriptor>() == 16 && size_of::<DescriptorCells>() == 16);
