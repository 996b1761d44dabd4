//! A write whose data is still arriving, in pieces that are cut anywhere.
//!
//! Whole sectors are encrypted straight from where they arrived into the buffer that will be written, or into the device's own memory if it
//! has some. A sector that comes in parts is put together in the buffer, at the place that it will have there, and encrypted once it is
//! whole: what was added is not needed any more when [`Incoming::add`] returns, and no plain text gets into a device's memory.
//!
//! One buffer is taken, before the first byte; nothing waits for a second one while it holds the first. A write that waits for its client
//! never stands in the way of a compare and write ([`super::gate`]): the device is written when everything is there, and memory of the device
//! is written piece by piece, each in one go, until somebody wants the range to himself; what comes later waits in the buffer. Memory of a volume
//! is asked for anew with each piece, as the volume may have moved meanwhile.

use std::ops::Range;
use std::rc::Rc;

use crate::device::{ByteRange, IoError};
use crate::memory::{Buffer, LARGEST_BUFFER, Segment};

use super::bytes::{copy, total};
use super::footing::Footing;
use super::queue::{Command, DiskQueue, Staged, Unwritten};
use super::stats::CommandKind;
use super::thin::split_at_cluster;

/// A write whose data is still arriving; [`DiskQueue::commit`] writes it once it is whole. Dropped before, it gives everything back;
/// sectors that a memory device has taken by then stay written.
#[must_use = "an incoming write is lost unless it is committed"]
pub struct Incoming {
    queue: Rc<DiskQueue>,
    range: ByteRange,
    /// What the device has to write; beside memory of the device, the place where cut sectors are put together.
    buffer: Buffer,
    memory: Memory,
    /// Bytes that have arrived.
    taken: usize,
    /// Bytes that are in the device's own memory.
    stored: usize,
    command: Command,
}

/// Whether whole sectors go to memory below, as long as nobody got in the way.
#[derive(Clone, Copy)]
enum Memory {
    /// They wait in the buffer.
    None,
    /// To the device's own, which stays where it is.
    Device(Segment),
    /// To where the volume has them at that moment.
    Volume,
}

impl DiskQueue {
    /// Begins a write whose data arrives later; waits while no buffer is free. The range is at most [`LARGEST_BUFFER`] bytes long.
    pub async fn begin_write(self: &Rc<Self>, range: ByteRange) -> Result<Incoming, IoError> {
        let command = self.begin();
        if let Err(e) = self.check_arriving(range) {
            return self.end(command, CommandKind::Write, 0, Err(e));
        }
        self.prepare(range).await;
        let buffer = self.reactor().buffers().take(range.len() as usize).await;
        let memory = match self.footing() {
            Footing::Device(_) => self.footing().writable(range).map_or(Memory::None, Memory::Device),
            Footing::Volume(_) => Memory::Volume,
        };
        Ok(Incoming { queue: self.clone(), range, buffer, memory, taken: 0, stored: 0, command })
    }

    fn check_arriving(&self, range: ByteRange) -> Result<(), IoError> {
        self.check(range)?;
        if range.len() > LARGEST_BUFFER as u64 { Err(IoError::Misaligned) } else { Ok(()) }
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
        let given = total(from);
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
    fn store(&mut self, window: Range<usize>, from: Segment) {
        let (range, _) = behind(self.range, window.start).split_at(window.len() as u64);
        if !self.queue.seat().is_open(range) {
            self.memory = Memory::None;
        }
        match self.memory {
            Memory::Device(memory) => {
                self.queue.transform(range, &[from], memory.part(window.start, window.len()));
                self.stored = window.end;
            }
            Memory::Volume => self.store_by_clusters(range, window.start, from),
            Memory::None => self.queue.transform(range, &[from], self.buffer.segment(window)),
        }
    }

    /// Encrypts whole sectors to the volume's memory, and to the buffer from the first cluster on that cannot be overwritten in place.
    fn store_by_clusters(&mut self, range: ByteRange, at: usize, from: Segment) {
        let (mut rest, mut at, mut from) = (range, at, from);
        while !rest.is_empty() {
            let (piece, later) = split_at_cluster(rest);
            let Some(memory) = self.queue.footing().writable(piece) else {
                self.memory = Memory::None;
                return self.queue.transform(rest, &[from], self.buffer.segment(at..at + from.len()));
            };
            let (now, behind) = split(from, memory.len());
            self.queue.transform(piece, &[now], memory);
            at += now.len();
            self.stored = at;
            (rest, from) = (later, behind);
        }
    }
}

impl TryFrom<Incoming> for Staged {
    type Error = IoError;

    /// Fails if bytes are missing.
    fn try_from(incoming: Incoming) -> Result<Self, IoError> {
        if incoming.missing() > 0 {
            return Err(IoError::Misaligned);
        }
        let Incoming { queue, range, buffer, stored, mut command, .. } = incoming;
        command.started = queue.meter().now();
        let rest = behind(range, stored);
        let unwritten = (!rest.is_empty()).then_some(Unwritten { range: rest, buffer, at: stored });
        Ok(Staged::new(unwritten, range.len(), command))
    }
}

fn split(piece: Segment, at: usize) -> (Segment, Segment) {
    (piece.part(0, at), piece.part(at, piece.len() - at))
}

/// What follows the first bytes of a range.
fn behind(range: ByteRange, bytes: usize) -> ByteRange {
    range.split_at(bytes as u64).1
}
