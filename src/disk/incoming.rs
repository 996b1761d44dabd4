//! A write whose data is still arriving, in pieces that are cut anywhere.
//!
//! Whole sectors are encrypted straight from where they arrived into the buffer that will be written, or into the device's own memory if it
//! has some. A sector that comes in parts is put together in the buffer, at the place that it will have there, and encrypted once it is
//! whole: what was added is not needed any more when [`Incoming::add`] returns, and no plain text gets into a device's memory.
//!
//! One buffer is taken, before the first byte; nothing waits for a second one while it holds the first.

use std::ops::Range;
use std::rc::Rc;

use crate::device::{ByteRange, Device, IoError};
use crate::memory::{Buffer, LARGEST_BUFFER, Segment};

use super::queue::{DiskQueue, Staged, copy};

/// A write whose data is still arriving; [`DiskQueue::commit`] writes it once it is whole. Dropped before, it gives everything back;
/// sectors that a memory device has taken by then stay written.
#[must_use = "an incoming write is lost unless it is committed"]
pub struct Incoming {
    queue: Rc<DiskQueue>,
    range: ByteRange,
    /// What the device has to write; beside memory of the device, only the place where cut sectors are put together.
    buffer: Buffer,
    memory: Option<Segment>,
    taken: usize,
}

impl DiskQueue {
    /// Begins a write whose data arrives later; waits while no buffer is free. The range is at most [`LARGEST_BUFFER`] bytes long.
    pub async fn begin_write(self: &Rc<Self>, range: ByteRange) -> Result<Incoming, IoError> {
        self.check(range)?;
        if range.len() > LARGEST_BUFFER as u64 {
            return Err(IoError::Misaligned);
        }
        let buffer = self.reactor().buffers().take(range.len() as usize).await;
        let memory = self.device().direct(range);
        Ok(Incoming { queue: self.clone(), range, buffer, memory, taken: 0 })
    }
}

impl Incoming {
    /// Where the write goes.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Bytes that have not arrived yet.
    pub fn missing(&self) -> usize {
        self.range.len() as usize - self.taken
    }

    /// Takes the next bytes of the write; their memory may be used again afterwards. More than is missing is refused as
    /// [`IoError::Misaligned`], and nothing of it is taken.
    pub fn add(&mut self, from: &[Segment]) -> Result<(), IoError> {
        let given: usize = from.iter().map(|piece| piece.len()).sum();
        if given > self.missing() {
            return Err(IoError::Misaligned);
        }
        from.iter().for_each(|piece| self.add_piece(*piece));
        Ok(())
    }

    fn add_piece(&mut self, piece: Segment) {
        let sector = self.queue.disk().sector_size().bytes();
        let cut = self.taken % sector;
        let begun = if cut == 0 { 0 } else { piece.len().min(sector - cut) };
        let (head, rest) = split(piece, begun);
        let (whole, tail) = split(rest, rest.len() - rest.len() % sector);
        if !head.is_empty() {
            self.keep(head);
            if self.taken.is_multiple_of(sector) {
                let done = self.taken - sector..self.taken;
                self.store(done.clone(), self.buffer.segment(done));
            }
        }
        if !whole.is_empty() {
            self.store(self.taken..self.taken + whole.len(), whole);
            self.taken += whole.len();
        }
        self.keep(tail);
    }

    /// Puts a part of a sector to its place in the buffer.
    fn keep(&mut self, part: Segment) {
        copy(&[part], self.buffer.segment(self.taken..self.taken + part.len()));
        self.taken += part.len();
    }

    /// Encrypts whole sectors to where they belong.
    fn store(&self, window: Range<usize>, from: Segment) {
        let to = match self.memory {
            Some(memory) => memory.part(window.start, window.len()),
            None => self.buffer.segment(window.clone()),
        };
        let (_, rest) = self.range.split_at(window.start as u64);
        let (range, _) = rest.split_at(window.len() as u64);
        self.queue.transform(range, &[from], to);
    }
}

impl TryFrom<Incoming> for Staged {
    type Error = IoError;

    /// Fails if bytes are missing.
    fn try_from(incoming: Incoming) -> Result<Self, IoError> {
        if incoming.missing() > 0 {
            return Err(IoError::Misaligned);
        }
        let buffer = if incoming.memory.is_some() { None } else { Some(incoming.buffer) };
        Ok(Staged::new(incoming.range, buffer))
    }
}

fn split(piece: Segment, at: usize) -> (Segment, Segment) {
    (piece.part(0, at), piece.part(at, piece.len() - at))
}
