//! One request's memory: what its descriptors name, as segments.
//!
//! A chain is filled by the ring and used again for the next request, so nothing is allocated. Its table of the guest's memory is the ring's; the
//! ring waits for requests at work before it takes another one.
#![allow(unsafe_code)]

use crate::disk::MOST_PIECES;
use crate::memory::Segment;

use super::super::memory::GuestMemory;
use super::{Descriptor, Head, MOST_ENTRIES, RingError};

/// The most pieces of memory that a request may have in one direction: as many as a disk takes.
pub const MOST_SEGMENTS: usize = MOST_PIECES;

/// The most descriptors of a request: those without bytes are no pieces, and are work nevertheless.
const MOST_DESCRIPTORS: usize = 2 * MOST_SEGMENTS;

/// The memory of a request.
pub struct Chain {
    head: Head,
    descriptors: usize,
    /// What the device reads.
    readable: Side,
    /// What it writes.
    writable: Side,
    /// The place of the status: the last byte that the device writes.
    status: Option<Segment>,
}

struct Side {
    segments: Vec<Segment>,
    /// Those before are used up.
    first: usize,
    len: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// An empty one with room.
    pub fn new() -> Self {
        Self { head: Head::default(), descriptors: 0, readable: Side::new(), writable: Side::new(), status: None }
    }

    /// Which request it is.
    pub fn head(&self) -> Head {
        self.head
    }

    // --- filled by the ring ---

    pub(super) fn begin(&mut self) {
        self.descriptors = 0;
        self.readable.clear();
        self.writable.clear();
        self.status = None;
    }

    pub(super) fn set_head(&mut self, head: Head) {
        self.head = head;
    }

    /// Adds what a descriptor names.
    #[inline]
    pub(super) fn add(&mut self, memory: &GuestMemory, descriptor: Descriptor) -> Result<(), RingError> {
        let side = if descriptor.has(Descriptor::WRITE) {
            &mut self.writable
        } else if self.writable.segments.is_empty() {
            &mut self.readable
        } else {
            return Err(RingError::Order);
        };
        self.descriptors += 1;
        let mut fits = self.descriptors <= MOST_DESCRIPTORS;
        memory.segments(descriptor.address, descriptor.len, |segment| fits &= side.push(segment))?;
        if fits { Ok(()) } else { Err(RingError::Pieces) }
    }

    /// Adds what an indirect table of a split ring names (2.7.5.3): its entries are linked.
    pub(super) fn add_linked_table(&mut self, memory: &GuestMemory, table: Descriptor) -> Result<(), RingError> {
        let table = Table::new(memory, table)?;
        let mut number = 0;
        for _ in 0..table.entries {
            let (address, rest) = table.entry(number);
            let descriptor = Descriptor::split(address, rest);
            if descriptor.has(Descriptor::INDIRECT) {
                return Err(RingError::Indirect);
            }
            self.add(memory, descriptor)?;
            if !descriptor.has(Descriptor::NEXT) {
                return Ok(());
            }
            number = usize::from(descriptor.next);
            if number >= table.entries {
                return Err(RingError::Descriptor(descriptor.next));
            }
        }
        Err(RingError::Endless)
    }

    /// Adds what an indirect table of a packed ring names (2.8.7): all of its entries.
    pub(super) fn add_plain_table(&mut self, memory: &GuestMemory, table: Descriptor) -> Result<(), RingError> {
        let table = Table::new(memory, table)?;
        for number in 0..table.entries {
            let (address, rest) = table.entry(number);
            let descriptor = Descriptor::packed(address, rest);
            if descriptor.has(Descriptor::INDIRECT) {
                return Err(RingError::Indirect);
            }
            self.add(memory, descriptor)?;
        }
        Ok(())
    }

    // --- used by requests ---

    /// Takes the request's header off what is to be read, and the status off what is to be written. False if there are not so many bytes: then
    /// only the status can be set, if at least that is there.
    #[inline]
    pub fn read_header<const N: usize>(&mut self, header: &mut [u8; N]) -> bool {
        self.status = self.writable.take_last_byte();
        self.status.is_some() && self.readable.take(header)
    }

    /// Writes the status.
    pub fn set_status(&self, status: u8) {
        if let Some(place) = self.status {
            // SAFETY: a byte of the guest's memory, which the ring's table keeps mapped while the request is at work.
            unsafe { place.as_ptr().write_volatile(status) };
        }
    }

    /// What is to be read.
    pub fn readable(&mut self) -> &mut [Segment] {
        &mut self.readable.segments[self.readable.first..]
    }

    /// What is to be written, without the status.
    pub fn writable(&mut self) -> &mut [Segment] {
        &mut self.writable.segments[self.writable.first..]
    }

    /// Bytes to be read.
    pub fn readable_len(&self) -> usize {
        self.readable.len
    }

    /// Bytes to be written, without the status.
    pub fn writable_len(&self) -> usize {
        self.writable.len
    }

    /// Copies what is to be read, up to as many bytes as there is room for; how many.
    pub fn read_data(&self, mut to: &mut [u8]) -> usize {
        let room = to.len();
        for segment in &self.readable.segments[self.readable.first..] {
            let len = segment.len().min(to.len());
            let (now, later) = to.split_at_mut(len);
            // SAFETY: mapped as in `set_status`; the target is memory of our own.
            unsafe { std::ptr::copy_nonoverlapping(segment.as_ptr(), now.as_mut_ptr(), len) };
            to = later;
        }
        room - to.len()
    }

    /// Copies to what is to be written, up to as many bytes as there is room for; how many.
    pub fn write_data(&self, mut from: &[u8]) -> usize {
        let all = from.len();
        for segment in &self.writable.segments[self.writable.first..] {
            let (now, later) = from.split_at(segment.len().min(from.len()));
            // SAFETY: mapped as in `set_status`; the source is memory of our own.
            unsafe { std::ptr::copy_nonoverlapping(now.as_ptr(), segment.as_ptr(), now.len()) };
            from = later;
        }
        all - from.len()
    }
}

/// An indirect table.
pub(super) struct Table {
    at: Segment,
    entries: usize,
}

impl Table {
    #[inline]
    pub(super) fn new(memory: &GuestMemory, table: Descriptor) -> Result<Self, RingError> {
        let entries = table.len as usize / Descriptor::BYTES;
        let is_whole = (table.len as usize).is_multiple_of(Descriptor::BYTES);
        if !is_whole || entries == 0 || entries > usize::from(MOST_ENTRIES) {
            return Err(RingError::Indirect);
        }
        Ok(Self { at: memory.whole(table.address, table.len)?, entries })
    }

    /// At least one.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Copies an entry, which may lie at any address: its two words.
    #[inline]
    pub(super) fn entry(&self, number: usize) -> (u64, u64) {
        let from = self.at.part(number * Descriptor::BYTES, Descriptor::BYTES);
        let mut bytes = [0; Descriptor::BYTES];
        // SAFETY: mapped as in `set_status`; the target is memory of our own.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        let words = u128::from_le_bytes(bytes);
        (words as u64, (words >> 64) as u64)
    }
}

impl Side {
    fn new() -> Self {
        Self { segments: Vec::with_capacity(MOST_SEGMENTS), first: 0, len: 0 }
    }

    fn clear(&mut self) {
        self.segments.clear();
        self.first = 0;
        self.len = 0;
    }

    #[inline]
    fn push(&mut self, segment: Segment) -> bool {
        if self.segments.len() == MOST_SEGMENTS {
            return false;
        }
        self.len += segment.len();
        self.segments.push(segment);
        true
    }

    #[inline]
    fn take_last_byte(&mut self) -> Option<Segment> {
        let last = self.segments.last_mut()?;
        let byte = last.part(last.len() - 1, 1);
        *last = last.part(0, last.len() - 1);
        if last.is_empty() {
            self.segments.pop();
        }
        self.len -= 1;
        Some(byte)
    }

    /// Takes as many bytes off the beginning as `to` has.
    #[inline]
    fn take<const N: usize>(&mut self, to: &mut [u8; N]) -> bool {
        if self.len < N {
            return false;
        }
        // As drivers do it: a piece of its own. The copy is a load and a store then.
        if self.segments[self.first].len() == N {
            // SAFETY: mapped as in `set_status`; bytes have no alignment.
            *to = unsafe { self.segments[self.first].as_ptr().cast::<[u8; N]>().read_unaligned() };
            self.first += 1;
            self.len -= N;
            return true;
        }
        self.take_pieces(to);
        true
    }

    fn take_pieces(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let segment = &mut self.segments[self.first];
            let len = segment.len().min(to.len());
            let (now, later) = to.split_at_mut(len);
            // SAFETY: mapped as in `set_status`; the target is memory of our own.
            unsafe { std::ptr::copy_nonoverlapping(segment.as_ptr(), now.as_mut_ptr(), len) };
            *segment = segment.part(len, segment.len() - len);
            if segment.is_empty() {
                self.first += 1;
            }
            self.len -= len;
            to = later;
        }
    }
}
