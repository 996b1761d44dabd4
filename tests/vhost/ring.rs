//! A guest's side of a ring, as plain as the specification: split and packed, with descriptors in the ring or in a table of their own, told or polling.
//!
//! It is not the one of `strongroom bench`, and shares nothing with the target: what both sides got wrong alike would not be found.

use std::collections::HashMap;
use std::sync::Arc;

use strongroom::bench::vhost_user::{RingKind, RingPlace, SharedMemory};

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT`, `VIRTQ_USED_F_NO_NOTIFY`, `RING_EVENT_FLAGS_DISABLE`.
const DO_NOT_TELL: u16 = 1;
/// `RING_EVENT_FLAGS_DESC`.
const TELL_AT: u16 = 2;
/// The most descriptors of a table of their own.
pub const LONGEST_TABLE: usize = 64;

/// A piece of memory in a request, by the address that the device sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub guest: u64,
    pub len: u32,
    pub is_written: bool,
}

/// Where a ring's parts are, and what the two sides have agreed on.
#[derive(Clone, Copy, Debug)]
pub struct RingSetup {
    pub kind: RingKind,
    pub size: u16,
    pub event_index: bool,
}

/// A request that the device has.
struct Given {
    /// Places that it takes in the ring.
    places: Vec<u16>,
}

/// The driver's side.
pub struct Ring {
    pub memory: Arc<SharedMemory>,
    pub setup: RingSetup,
    pub descriptors: usize,
    pub driver: usize,
    pub device: usize,
    tables: usize,
    /// Split: free places. Packed: free ids.
    free: Vec<u16>,
    /// Packed: places that are free.
    room: usize,
    given: HashMap<u16, Given>,
    /// Split: the index. Packed: the place, with the wrap counter in bit 15.
    next: u16,
    seen: u16,
    published: u16,
}

impl Ring {
    /// Bytes that a ring takes.
    pub fn bytes(size: u16) -> usize {
        3 * 4096 + usize::from(size) * (16 + 16 + LONGEST_TABLE * 16)
    }

    /// A new ring in zeroed memory from `offset` on, a multiple of 4096.
    pub fn new(memory: Arc<SharedMemory>, offset: usize, setup: RingSetup) -> Self {
        let size = usize::from(setup.size);
        let driver = (offset + 16 * size).next_multiple_of(64);
        let device = (driver + 6 + 2 * size).next_multiple_of(64);
        let tables = (device + 6 + 8 * size).next_multiple_of(64);
        let start = if setup.kind == RingKind::Packed { 0x8000 } else { 0 };
        memory.write(offset, &vec![0; tables - offset]);
        Self {
            memory,
            setup,
            descriptors: offset,
            driver,
            device,
            tables,
            free: (0..setup.size).collect(),
            room: size,
            given: HashMap::new(),
            next: start,
            seen: start,
            published: start,
        }
    }

    pub fn place(&self) -> RingPlace {
        RingPlace {
            size: self.setup.size,
            descriptors: self.memory.address(self.descriptors),
            driver: self.memory.address(self.driver),
            device: self.memory.address(self.device),
        }
    }

    /// Where it begins, as the device is told.
    pub fn base(&self) -> u32 {
        match self.setup.kind {
            RingKind::Split => self.next.into(),
            RingKind::Packed => u32::from(self.seen) << 16 | u32::from(self.next),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.given.len()
    }

    /// Places that are free.
    pub fn room(&self) -> usize {
        match self.setup.kind {
            RingKind::Split => self.free.len(),
            RingKind::Packed => self.room,
        }
    }

    /// Gives a chain to the device; the number that its completion will have.
    pub fn give(&mut self, chain: &[Piece], indirect: bool) -> u16 {
        match indirect {
            true => {
                let id = *self.free.last().expect("a free place");
                let table = self.tables + usize::from(id) * LONGEST_TABLE * 16;
                self.write_table(table, chain);
                let piece = Piece { guest: self.memory.guest(table), len: chain.len() as u32 * 16, is_written: false };
                self.give_pieces(&[piece], INDIRECT)
            }
            false => self.give_pieces(chain, 0),
        }
    }

    /// Writes a table of descriptors.
    pub fn write_table(&self, table: usize, chain: &[Piece]) {
        assert!(chain.len() <= LONGEST_TABLE);
        for (n, piece) in chain.iter().enumerate() {
            let more = n + 1 < chain.len();
            match self.setup.kind {
                RingKind::Split => {
                    let (flags, next) =
                        (flags(piece) | if more { NEXT } else { 0 }, if more { n as u16 + 1 } else { 0 });
                    self.write_descriptor(table + n * 16, piece, flags, next);
                }
                RingKind::Packed => self.write_descriptor(table + n * 16, piece, 0, flags(piece)),
            }
        }
    }

    /// Writes a descriptor: of a split ring with flags and next, of a packed one with id and flags.
    pub fn write_descriptor(&self, at: usize, piece: &Piece, third: u16, fourth: u16) {
        self.memory.write(at, &piece.guest.to_le_bytes());
        self.memory.write(at + 8, &piece.len.to_le_bytes());
        self.memory.write(at + 12, &third.to_le_bytes());
        self.memory.store_u16(at + 14, fourth);
    }

    fn give_pieces(&mut self, chain: &[Piece], more_flags: u16) -> u16 {
        match self.setup.kind {
            RingKind::Split => self.give_split(chain, more_flags),
            RingKind::Packed => self.give_packed(chain, more_flags),
        }
    }

    fn give_split(&mut self, chain: &[Piece], more_flags: u16) -> u16 {
        let places: Vec<u16> = (0..chain.len()).map(|_| self.free.pop().expect("a free place")).collect();
        for (n, piece) in chain.iter().enumerate() {
            let next = places.get(n + 1);
            let flags = flags(piece) | more_flags | if next.is_some() { NEXT } else { 0 };
            let at = self.descriptors + usize::from(places[n]) * 16;
            self.write_descriptor(at, piece, flags, next.copied().unwrap_or_default());
        }
        let head = places[0];
        self.offer(head);
        self.given.insert(head, Given { places });
        head
    }

    /// Puts a head into the available ring, whatever it leads to.
    pub fn offer(&mut self, head: u16) {
        let entry = self.driver + 4 + usize::from(self.next % self.setup.size) * 2;
        self.memory.store_u16(entry, head);
        self.next = self.next.wrapping_add(1);
    }

    fn give_packed(&mut self, chain: &[Piece], more_flags: u16) -> u16 {
        let id = self.free.pop().expect("a free id");
        let first = self.next;
        let mut places = Vec::new();
        for (n, piece) in chain.iter().enumerate() {
            let more = if n + 1 < chain.len() { NEXT } else { 0 };
            let (at, wrap) = (self.next & 0x7FFF, self.next & 0x8000 != 0);
            let flags = flags(piece) | more_flags | more | if wrap { AVAILABLE } else { USED };
            if n == 0 {
                // Its flags come last: with them, the device has the whole chain.
                let kept = self.memory.load_u16(self.descriptors + usize::from(at) * 16 + 14);
                self.write_descriptor(self.descriptors + usize::from(at) * 16, piece, id, kept);
                places.push(flags);
            } else {
                self.write_descriptor(self.descriptors + usize::from(at) * 16, piece, id, flags);
            }
            self.next = self.step(self.next, 1);
        }
        self.memory.store_u16(self.descriptors + usize::from(first & 0x7FFF) * 16 + 14, places[0]);
        self.room -= chain.len();
        self.given.insert(id, Given { places: vec![0; chain.len()] });
        id
    }

    /// A place of a packed ring some places later.
    fn step(&self, place: u16, by: u16) -> u16 {
        let (at, wrap) = ((place & 0x7FFF) + by, place & 0x8000);
        if at >= self.setup.size { (at - self.setup.size) | (wrap ^ 0x8000) } else { at | wrap }
    }

    /// Lets the device see what was given. Whether it wants to be kicked.
    pub fn publish(&mut self) -> bool {
        let before = std::mem::replace(&mut self.published, self.next);
        if self.setup.kind == RingKind::Split {
            self.memory.store_u16(self.driver + 2, self.next);
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        match (self.setup.kind, self.setup.event_index) {
            (RingKind::Split, false) => self.memory.load_u16(self.device) & DO_NOT_TELL == 0,
            (RingKind::Split, true) => {
                let wanted = self.memory.load_u16(self.device + 4 + usize::from(self.setup.size) * 8);
                // Section 2.7.10.1 (`vring_need_event`).
                self.next.wrapping_sub(wanted).wrapping_sub(1) < self.next.wrapping_sub(before)
            }
            (RingKind::Packed, event_index) => match self.memory.load_u16(self.device + 2) {
                DO_NOT_TELL => false,
                TELL_AT if event_index => {
                    let wanted = self.memory.load_u16(self.device);
                    let size = self.setup.size;
                    let linear = |place: u16| {
                        if place & 0x8000 == self.next & 0x8000 {
                            place & 0x7FFF
                        } else {
                            (place & 0x7FFF).wrapping_sub(size)
                        }
                    };
                    let new = self.next & 0x7FFF;
                    new.wrapping_sub(linear(wanted)).wrapping_sub(1) < new.wrapping_sub(linear(before))
                }
                _ => true,
            },
        }
    }

    /// The next completion: its number, and how many bytes the device says it wrote.
    pub fn take(&mut self) -> Option<(u16, u32)> {
        let (id, len) = match self.setup.kind {
            RingKind::Split => self.take_split()?,
            RingKind::Packed => self.take_packed()?,
        };
        let id = u16::try_from(id).expect("no ring has so many places");
        let Given { places } = self.given.remove(&id).unwrap_or_else(|| panic!("{id} is completed and was not given"));
        match self.setup.kind {
            RingKind::Split => self.free.extend(places),
            RingKind::Packed => {
                self.free.insert(0, id);
                self.room += places.len();
                self.seen = self.step(self.seen, places.len() as u16);
            }
        }
        Some((id, len))
    }

    fn take_split(&mut self) -> Option<(u32, u32)> {
        if self.memory.load_u16(self.device + 2) == self.seen {
            return None;
        }
        let entry = self.device + 4 + usize::from(self.seen % self.setup.size) * 8;
        self.seen = self.seen.wrapping_add(1);
        Some((self.word(entry), self.word(entry + 4)))
    }

    fn take_packed(&mut self) -> Option<(u32, u32)> {
        let at = self.descriptors + usize::from(self.seen & 0x7FFF) * 16;
        let (flags, wrap) = (self.memory.load_u16(at + 14), self.seen & 0x8000 != 0);
        if (flags & AVAILABLE != 0) != wrap || (flags & USED != 0) != wrap {
            return None;
        }
        Some((u32::from(self.memory.load_u16(at + 12)), self.word(at + 8)))
    }

    fn word(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Asks the device to tell of the next completion. Whether there is one already, of which it may not tell.
    pub fn listen(&mut self) -> bool {
        match (self.setup.kind, self.setup.event_index) {
            (RingKind::Split, false) => self.memory.store_u16(self.driver, 0),
            (RingKind::Split, true) => {
                self.memory.store_u16(self.driver + 4 + usize::from(self.setup.size) * 2, self.seen);
            }
            (RingKind::Packed, false) => self.memory.store_u16(self.driver + 2, 0),
            (RingKind::Packed, true) => {
                self.memory.store_u16(self.driver, self.seen);
                self.memory.store_u16(self.driver + 2, TELL_AT);
            }
        }
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        match self.setup.kind {
            RingKind::Split => self.memory.load_u16(self.device + 2) != self.seen,
            RingKind::Packed => self.take_packed().is_some(),
        }
    }

    /// Asks the device to tell nothing.
    pub fn do_not_listen(&mut self) {
        match self.setup.kind {
            // With an event index the flag means nothing (section 2.7.7.2).
            RingKind::Split if self.setup.event_index => {}
            RingKind::Split => self.memory.store_u16(self.driver, DO_NOT_TELL),
            RingKind::Packed => self.memory.store_u16(self.driver + 2, DO_NOT_TELL),
        }
    }
}

fn flags(piece: &Piece) -> u16 {
    if piece.is_written { WRITE } else { 0 }
}
