//! What is kept of requests at work in memory that outlives this process: the front end holds it and gives it to whoever serves the disk next
//! (vhost-user protocol, "Inflight I/O tracking"; the fields and their names are those of its `QueueRegionSplit` and `QueueRegionPacked`).
//!
//! **Split**: an entry for each descriptor says whether it is the head of a request at work, and in which order these came. An answer is put into the
//! ring and then taken off here; `used_idx` tells whether this process ended between the two, and `last_batch_head` of which request.
//!
//! **Packed**: answers overwrite descriptors, so a request's are copied here, into entries that are linked. Which entries are free is not
//! read back: those that belong to no request are. `old_used_idx` and `old_free_head` name the answer that is being put, until it is.
//!
//! Nothing that stands here is trusted: an index is checked, a list is bounded, and the worst that a front end does by changing it is to have its own
//! guest's requests served twice or never.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;

use crate::memory::memfd;

use super::super::memory::{GuestMemory, MemoryError, RegionInfo};
use super::area::Area;
use super::packed::Position;
use super::{Descriptor, MOST_ENTRIES, RingError};

/// The version of the fields; 0 says that nothing was kept yet.
const VERSION: u16 = 1;
/// Each queue's part begins at a cache line of its own.
const ALIGNMENT: usize = 64;
/// Behind the queues' parts: a word about the disk as a whole, which the front end keeps along without knowing of it.
const NOTE_BYTES: usize = ALIGNMENT;
/// The other half of that word says that it is ours.
const NOTE_MARK: u64 = 0x6e6f_7465_0000_0000;
/// Where a queue's fields stand, of both kinds.
const AT_VERSION: usize = 8;
const AT_DESC_NUM: usize = 10;
/// `QueueRegionSplit`.
const AT_LAST_BATCH_HEAD: usize = 12;
const AT_USED_IDX: usize = 14;
const SPLIT_HEADER: usize = 16;
const SPLIT_ENTRY: usize = 16;
/// `QueueRegionPacked`.
const AT_OLD_FREE_HEAD: usize = 14;
/// `used_idx`, `old_used_idx`, `used_wrap_counter`, `old_used_wrap_counter`: written as one word, so that they are of one moment.
const AT_USED: usize = 16;
const PACKED_HEADER: usize = 32;
const PACKED_ENTRY: usize = 32;
/// Within an entry: the first byte says whether a request is at work.
const ENTRY_COUNTER: usize = 8;
const SPLIT_NEXT: usize = 6;
const PACKED_NEXT: usize = 2;
const PACKED_LAST: usize = 4;
const PACKED_NUM: usize = 6;
const PACKED_ID: usize = 16;
const PACKED_FLAGS: usize = 18;
const PACKED_LEN: usize = 20;
const PACKED_ADDR: usize = 24;

/// Why memory for requests at work cannot be had.
#[derive(Debug, Error)]
pub enum InflightError {
    /// It does not fit the queues.
    #[error("memory of {bytes} bytes for requests at work does not fit {queues} queues of {entries} entries")]
    Size {
        /// Bytes that were given.
        bytes: u64,
        /// Queues.
        queues: u16,
        /// Entries of each.
        entries: u16,
    },
    /// It cannot be mapped.
    #[error("memory for requests at work: {0}")]
    Memory(#[from] MemoryError),
    /// It cannot be made.
    #[error("memory for requests at work cannot be made: {0}")]
    Make(#[from] io::Error),
}

/// The memory for all queues of a disk.
pub struct InflightShared {
    file: File,
    bytes: u64,
    memory: Arc<GuestMemory>,
    queues: u16,
    entries: u16,
    packed: bool,
}

impl InflightShared {
    /// Makes memory, in which nothing is kept.
    pub fn make(queues: u16, entries: u16, packed: bool) -> Result<Self, InflightError> {
        let bytes = (usize::from(queues) * queue_bytes(entries, packed) + NOTE_BYTES) as u64;
        let file = memfd(c"strongroom-inflight", bytes, 0)?;
        Self::adopt(file, 0, bytes, queues, entries, packed)
    }

    /// Takes over memory that the front end has kept.
    pub fn adopt(
        file: File,
        offset: u64,
        bytes: u64,
        queues: u16,
        entries: u16,
        packed: bool,
    ) -> Result<Self, InflightError> {
        let needed = (usize::from(queues) * queue_bytes(entries, packed)) as u64;
        if queues == 0 || entries == 0 || entries > MOST_ENTRIES || bytes < needed {
            return Err(InflightError::Size { bytes, queues, entries });
        }
        let region = file.as_fd().try_clone_to_owned()?;
        let memory = GuestMemory::of(vec![RegionInfo { guest: 0, len: bytes, front_end: 0, file: region, offset }])?;
        Ok(Self { file, bytes, memory, queues, entries, packed })
    }

    /// The file in which it lies, for the front end.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Keeps a word about the disk as a whole.
    pub fn set_note(&self, note: u32) {
        if let Some(area) = self.note_area() {
            area.word64(0).store(NOTE_MARK | u64::from(note), Ordering::Release);
        }
    }

    /// The word that was kept last; `None` if there was none, or if who made the memory had no place for it.
    pub fn note(&self) -> Option<u32> {
        let word = self.note_area()?.word64(0).load(Ordering::Acquire);
        (word & !u64::from(u32::MAX) == NOTE_MARK).then_some(word as u32)
    }

    fn note_area(&self) -> Option<Area> {
        let behind = (usize::from(self.queues) * queue_bytes(self.entries, self.packed)) as u64;
        Area::new(&self.memory, "memory for requests at work", behind, NOTE_BYTES, 8).ok()
    }

    /// The part of a queue.
    pub fn queue(&self, index: usize) -> Result<InflightQueue, RingError> {
        if index >= usize::from(self.queues) {
            return Err(RingError::Kept("it has fewer queues"));
        }
        let bytes = queue_bytes(self.entries, self.packed);
        let area = Area::new(&self.memory, "memory for requests at work", (index * bytes) as u64, bytes, 8)?;
        Ok(InflightQueue {
            area,
            entries: self.entries,
            packed: self.packed,
            counter: 0,
            free: Vec::new(),
            open: Vec::new(),
        })
    }
}

fn queue_bytes(entries: u16, packed: bool) -> usize {
    let (header, entry) = if packed { (PACKED_HEADER, PACKED_ENTRY) } else { (SPLIT_HEADER, SPLIT_ENTRY) };
    (header + entry * usize::from(entries)).next_multiple_of(ALIGNMENT)
}

/// What is kept of one queue's requests.
pub struct InflightQueue {
    area: Area,
    entries: u16,
    packed: bool,
    /// The next request's number.
    counter: u64,
    /// Packed: entries of no request.
    free: Vec<u16>,
    /// Packed: those of the request that is being read.
    open: Vec<u16>,
}

/// What was kept of a packed ring.
pub(super) struct KeptPacked {
    /// Where the next answer is put.
    pub(super) used: Position,
    /// The first entries of the requests at work and how many entries of the ring each takes, in their order.
    pub(super) heads: Vec<(u16, u16)>,
    /// How many entries of the ring these have.
    pub(super) entries: u16,
}

impl InflightQueue {
    // Words here are read by who comes after this process has ended, in the order in which they were written: release keeps the compiler to it.

    fn word16(&self, at: usize) -> u16 {
        self.area.word16(at).load(Ordering::Acquire)
    }

    fn set16(&self, at: usize, value: u16) {
        self.area.word16(at).store(value, Ordering::Release);
    }

    /// Where an entry begins.
    fn entry(&self, number: u16) -> usize {
        match self.packed {
            true => PACKED_HEADER + PACKED_ENTRY * usize::from(number),
            false => SPLIT_HEADER + SPLIT_ENTRY * usize::from(number),
        }
    }

    fn is_at_work(&self, number: u16) -> bool {
        self.word16(self.entry(number)) & 0xff != 0
    }

    fn set_at_work(&self, number: u16, is_at_work: bool) {
        self.set16(self.entry(number), u16::from(is_at_work));
    }

    fn counter_of(&self, number: u16) -> u64 {
        self.area.word64(self.entry(number) + ENTRY_COUNTER).load(Ordering::Relaxed)
    }

    fn count(&mut self, number: u16) {
        self.area.word64(self.entry(number) + ENTRY_COUNTER).store(self.counter, Ordering::Relaxed);
        self.counter += 1;
    }

    /// Whether something was kept before; otherwise it is from now on.
    fn begin(&mut self, packed: bool, size: u16) -> Result<bool, RingError> {
        if self.packed != packed {
            return Err(RingError::Kept("it was made for the other kind of ring"));
        }
        if self.entries < size {
            return Err(RingError::Kept("it has fewer entries than the ring"));
        }
        match self.word16(AT_VERSION) {
            0 => {
                self.set16(AT_DESC_NUM, self.entries);
                Ok(false)
            }
            VERSION if self.word16(AT_DESC_NUM) == self.entries => Ok(true),
            VERSION => Err(RingError::Kept("its number of entries is another one")),
            _ => Err(RingError::Kept("its version is unknown")),
        }
    }

    /// The heads of requests at work, in their order. Counting goes on behind them.
    fn heads(&mut self) -> Vec<u16> {
        let mut heads: Vec<u16> = (0..self.entries).filter(|number| self.is_at_work(*number)).collect();
        heads.sort_by_key(|head| self.counter_of(*head));
        self.counter = heads.last().map_or(0, |last| self.counter_of(*last).wrapping_add(1));
        heads
    }

    // --- split ---

    /// The requests that were at work, in their order; `used` is the index of the used ring.
    pub(super) fn recover_split(&mut self, used: u16, size: u16) -> Result<Vec<u16>, RingError> {
        if self.begin(false, size)? {
            // The last answers were put, and not taken off: one by us, some by others who put them in batches.
            let batch = used.wrapping_sub(self.word16(AT_USED_IDX)).min(self.entries);
            let mut last = self.word16(AT_LAST_BATCH_HEAD);
            for _ in 0..batch {
                if last >= self.entries {
                    return Err(RingError::Kept("it names a descriptor that there is not"));
                }
                self.set_at_work(last, false);
                last = self.word16(self.entry(last) + SPLIT_NEXT);
            }
        }
        self.set16(AT_USED_IDX, used);
        self.set16(AT_VERSION, VERSION);
        let heads = self.heads();
        if heads.iter().any(|head| *head >= size) {
            return Err(RingError::Kept("it names a descriptor that there is not"));
        }
        Ok(heads)
    }

    #[inline]
    pub(super) fn begin_split(&mut self, head: u16) {
        if head < self.entries {
            self.count(head);
            self.set_at_work(head, true);
        }
    }

    /// The answer is about to be put.
    #[inline]
    pub(super) fn put_split(&mut self, head: u16) {
        if head < self.entries {
            self.set16(self.entry(head) + SPLIT_NEXT, self.word16(AT_LAST_BATCH_HEAD));
            self.set16(AT_LAST_BATCH_HEAD, head);
        }
    }

    /// The answer was put; the index of the used ring is this.
    #[inline]
    pub(super) fn end_split(&mut self, head: u16, used: u16) {
        if head < self.entries {
            self.set_at_work(head, false);
            self.set16(AT_USED_IDX, used);
        }
    }

    // --- packed ---

    /// The requests that were at work, and where the next answer is put. `used` is where the front end says; `is_used` tells whether the descriptor at
    /// a place was used.
    pub(super) fn recover_packed(
        &mut self,
        used: Position,
        size: u16,
        is_used: impl Fn(Position) -> bool,
    ) -> Result<KeptPacked, RingError> {
        let mut used = used;
        if self.begin(true, size)? {
            let (new, old) = self.used();
            let head = self.word16(AT_OLD_FREE_HEAD);
            if new.index >= size || old.index >= size || head >= self.entries {
                return Err(RingError::Kept("it names a descriptor that there is not"));
            }
            used = old;
            if new != old && is_used(old) {
                self.set_at_work(head, false);
                used = new;
            }
        }
        self.set_used(used, used);
        let mut is_free = vec![true; usize::from(self.entries)];
        let (mut heads, mut entries) = (Vec::new(), 0u16);
        for head in self.heads() {
            let (_, wanted) = self.packed_request(head, |_, _| Ok(()))?;
            let mut count = 0;
            for number in self.linked(head) {
                // A front end may have linked them in any way.
                if !std::mem::replace(&mut is_free[usize::from(number)], false) {
                    return Err(RingError::Kept("two requests have the same descriptor"));
                }
                count += 1;
            }
            // None is counted twice, so the sum stays within the region's entries; it has to stay within the ring's.
            entries += count;
            if count == 0 || count != wanted || entries > size {
                return Err(RingError::Kept("its requests are more than the ring holds"));
            }
            heads.push((head, count));
        }
        // Room for all: later none is made.
        self.free = Vec::with_capacity(usize::from(self.entries));
        self.free.extend((0..self.entries).filter(|number| is_free[usize::from(*number)]));
        self.open = Vec::with_capacity(usize::from(self.entries));
        self.set16(AT_VERSION, VERSION);
        Ok(KeptPacked { used, heads, entries })
    }

    fn set_used(&self, new: Position, old: Position) {
        let wraps = u64::from(new.wrap) << 32 | u64::from(old.wrap) << 40;
        let word = u64::from(new.index) | u64::from(old.index) << 16 | wraps;
        self.area.word64(AT_USED).store(word, Ordering::Release);
    }

    /// Where the next answer is put, and where it was put before the one that may not be there yet.
    fn used(&self) -> (Position, Position) {
        let word = self.area.word64(AT_USED).load(Ordering::Acquire);
        let new = Position { index: word as u16, wrap: word >> 32 & 0xff != 0 };
        (new, Position { index: (word >> 16) as u16, wrap: word >> 40 & 0xff != 0 })
    }

    /// The entries of a request; fewer if they are linked to what is not there.
    fn linked(&self, head: u16) -> impl Iterator<Item = u16> + '_ {
        let num = self.word16(self.entry(head) + PACKED_NUM).min(self.entries);
        let next =
            |number: &u16| Some(self.word16(self.entry(*number) + PACKED_NEXT)).filter(|next| *next < self.entries);
        std::iter::successors(Some(head), next).take(usize::from(num))
    }

    /// Keeps a descriptor of the request that is being read; the first one lets go of what was read before and came to nothing.
    pub(super) fn add_packed(&mut self, descriptor: Descriptor, is_first: bool) {
        if is_first {
            self.free.append(&mut self.open);
        }
        let Some(number) = self.free.pop() else { return };
        let at = self.entry(number);
        self.set16(at + PACKED_ID, descriptor.next);
        self.set16(at + PACKED_FLAGS, descriptor.flags);
        self.area.word32(at + PACKED_LEN).store(descriptor.len, Ordering::Relaxed);
        self.area.word64(at + PACKED_ADDR).store(descriptor.address, Ordering::Relaxed);
        if let Some(before) = self.open.last() {
            self.set16(self.entry(*before) + PACKED_NEXT, number);
        }
        self.open.push(number);
    }

    /// The request was read as a whole: it is at work from now on. Its first entry.
    pub(super) fn begin_packed(&mut self, entries: u16) -> u16 {
        let (Some(&head), Some(&last)) = (self.open.first(), self.open.last()) else {
            return 0;
        };
        self.set16(self.entry(head) + PACKED_NUM, entries);
        self.set16(self.entry(head) + PACKED_LAST, last);
        self.count(head);
        self.set_at_work(head, true);
        self.open.clear();
        head
    }

    /// What was kept of a request: its number and its entries; its descriptors are given one by one.
    pub(super) fn packed_request(
        &self,
        head: u16,
        mut each: impl FnMut(u16, Descriptor) -> Result<(), RingError>,
    ) -> Result<(u16, u16), RingError> {
        let num = self.word16(self.entry(head) + PACKED_NUM);
        let (mut count, mut id) = (0, 0);
        for number in self.linked(head) {
            let at = self.entry(number);
            let descriptor = Descriptor {
                address: self.area.word64(at + PACKED_ADDR).load(Ordering::Relaxed),
                len: self.area.word32(at + PACKED_LEN).load(Ordering::Relaxed),
                flags: self.word16(at + PACKED_FLAGS),
                next: self.word16(at + PACKED_ID),
            };
            id = descriptor.next;
            each(count, descriptor)?;
            count += 1;
        }
        if count == 0 || count != num || id >= self.entries {
            return Err(RingError::Kept("a request is not whole"));
        }
        Ok((id, count))
    }

    /// The answer is about to be put; the next one will be put at `after`.
    #[inline]
    pub(super) fn put_packed(&mut self, head: u16, after: Position) {
        self.set16(AT_OLD_FREE_HEAD, head);
        self.set_used(after, self.used().0);
    }

    /// The answer was put.
    #[inline]
    pub(super) fn end_packed(&mut self, head: u16) {
        let numbers = self.word16(self.entry(head) + PACKED_NUM).min(self.entries);
        self.set_at_work(head, false);
        let mut number = head;
        for _ in 0..numbers {
            if self.free.len() < usize::from(self.entries) {
                self.free.push(number);
            }
            number = self.word16(self.entry(number) + PACKED_NEXT);
            if number >= self.entries {
                break;
            }
        }
        let (now, _) = self.used();
        self.set_used(now, now);
    }
}
