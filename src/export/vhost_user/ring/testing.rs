//! A driver for the tests: it builds rings of both kinds as simply as can be, in a file that the device maps.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::memory::{GuestMemory, RegionInfo};
use super::*;

/// Where the file appears to the guest and to the front end.
pub const GUEST: u64 = 0x10_0000;
pub const FRONT_END: u64 = 0x7000_0000;
/// Where the parts of the ring lie in it, and the first byte that is free for data.
pub const DESCRIPTORS: u64 = 0;
pub const DRIVER: u64 = 0x8000;
pub const DEVICE: u64 = 0x9000;
pub const DATA: u64 = 0x1_0000;
pub const BYTES: u64 = 0x4_0000;

pub fn memfd(bytes: u64) -> File {
    crate::memory::memfd(c"guest", bytes, 0).expect("memory")
}

pub fn region(file: &File, guest: u64, front_end: u64, offset: u64, len: u64) -> RegionInfo {
    RegionInfo { guest, len, front_end, file: OwnedFd::from(file.try_clone().expect("a descriptor")), offset }
}

/// The driver's end of a ring.
pub struct Driver {
    pub file: File,
    pub size: u16,
    pub features: RingFeatures,
    /// The next descriptor that was never used (split), or the next place (packed).
    next: u16,
    wrap: bool,
    /// Requests offered (split), and the next answer.
    offered: u16,
    seen: u16,
    seen_wrap: bool,
}

/// A descriptor of a request: address, length, whether the device writes it.
pub type Piece = (u64, u32, bool);

impl Driver {
    pub fn new(size: u16, features: RingFeatures) -> Self {
        let file = memfd(BYTES);
        Self { file, size, features, next: 0, wrap: true, offered: 0, seen: 0, seen_wrap: true }
    }

    pub fn memory(&self) -> Arc<GuestMemory> {
        GuestMemory::of(vec![region(&self.file, GUEST, FRONT_END, 0, BYTES)]).expect("mapped")
    }

    pub fn layout(&self) -> Layout {
        let at = |offset| FRONT_END + offset;
        Layout { size: self.size, descriptors: at(DESCRIPTORS), driver: at(DRIVER), device: at(DEVICE) }
    }

    pub fn base(&self) -> u32 {
        if self.features.packed { 0x8000_8000 } else { 0 }
    }

    pub fn ring(&self, inflight: Option<InflightQueue>) -> Ring {
        Ring::new(self.memory(), self.layout(), self.features, self.base(), inflight).expect("a ring")
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("written");
    }

    pub fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, at).expect("read");
        bytes
    }

    pub fn get16(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.get(at))
    }

    pub fn descriptor(&self, at: u64, piece: Piece, third: u16, fourth: u16) {
        let (address, len, _) = piece;
        let mut bytes = Vec::from(address.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(third.to_le_bytes());
        bytes.extend(fourth.to_le_bytes());
        self.put(at, &bytes);
    }

    fn flags(piece: Piece, more: bool) -> u16 {
        (if piece.2 { Descriptor::WRITE } else { 0 }) | if more { Descriptor::NEXT } else { 0 }
    }

    /// Offers a request; its number. With `table`, through an indirect table at that offset.
    pub fn offer(&mut self, pieces: &[Piece], table: Option<u64>) -> u16 {
        if let Some(table) = table {
            for (number, piece) in pieces.iter().enumerate() {
                let more = number + 1 < pieces.len();
                let at = table + 16 * number as u64;
                match self.features.packed {
                    true => self.descriptor(at, *piece, 0, Self::flags(*piece, false)),
                    false => self.descriptor(at, *piece, Self::flags(*piece, more), number as u16 + 1),
                }
            }
            let table = (GUEST + table, 16 * pieces.len() as u32, false);
            return self.offer_as(&[table], Descriptor::INDIRECT);
        }
        self.offer_as(pieces, 0)
    }

    /// Offers an indirect table as it is, with these flags beside.
    pub fn offer_table(&mut self, table: Piece, flags: u16) -> u16 {
        self.offer_as(&[table], Descriptor::INDIRECT | flags)
    }

    fn offer_as(&mut self, pieces: &[Piece], extra: u16) -> u16 {
        if self.features.packed { self.offer_packed(pieces, extra) } else { self.offer_split(pieces, extra) }
    }

    fn offer_split(&mut self, pieces: &[Piece], extra: u16) -> u16 {
        let head = self.next;
        for (number, piece) in pieces.iter().enumerate() {
            let more = number + 1 < pieces.len();
            let next = (self.next + 1) % self.size;
            let at = DESCRIPTORS + 16 * u64::from(self.next);
            self.descriptor(at, *piece, Self::flags(*piece, more) | extra, next);
            self.next = next;
        }
        self.put(DRIVER + 4 + 2 * u64::from(self.offered % self.size), &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        self.put(DRIVER + 2, &self.offered.to_le_bytes());
        head
    }

    fn offer_packed(&mut self, pieces: &[Piece], extra: u16) -> u16 {
        let id = self.next;
        let mut first_flags = None;
        for (number, piece) in pieces.iter().enumerate() {
            let at = DESCRIPTORS + 16 * u64::from(self.next);
            let turn = if self.wrap { 1 << 7 } else { 1 << 15 };
            let flags = Self::flags(*piece, number + 1 < pieces.len()) | extra | turn;
            if number == 0 {
                // The first one's flags come last: they offer the whole chain.
                first_flags = Some((at + 14, flags));
                let not_yet = self.get16(at + 14);
                self.descriptor(at, *piece, id, not_yet);
            } else {
                self.descriptor(at, *piece, id, flags);
            }
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        let (at, flags) = first_flags.expect("a request has descriptors");
        self.put(at, &flags.to_le_bytes());
        id
    }

    /// The next answer: which request, and how much was written. `entries` of a packed ring are its.
    pub fn answer(&mut self, entries: impl Fn(u16) -> u16) -> Option<(u16, u32)> {
        if self.features.packed {
            let at = DESCRIPTORS + 16 * u64::from(self.seen);
            let turn = self.get16(at + 14) & (1 << 7 | 1 << 15);
            if turn != if self.seen_wrap { 1 << 7 | 1 << 15 } else { 0 } {
                return None;
            }
            let (id, len) = (self.get16(at + 12), u32::from_le_bytes(self.get(at + 8)));
            self.seen += entries(id);
            if self.seen >= self.size {
                (self.seen, self.seen_wrap) = (self.seen - self.size, !self.seen_wrap);
            }
            return Some((id, len));
        }
        if self.get16(DEVICE + 2) == self.seen {
            return None;
        }
        let at = DEVICE + 4 + 8 * u64::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        Some((u32::from_le_bytes(self.get(at)) as u16, u32::from_le_bytes(self.get(at + 4))))
    }
}
