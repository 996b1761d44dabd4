//! The way of a command to a volume of a pool, where blocks may be absent.
//!
//! An absent block reads as zeros of plain text: it is neither read nor decrypted. The volume keeps the presence of blocks of 4 KiB and makes no
//! cipher text, so a write that covers a part of an absent block brings the whole block, the rest of it as encrypted zeros. Two such writes to one
//! block would lose one of them: each takes the block for itself at the gate ([`super::gate`]), and looks again whether it is still absent. A write
//! to blocks that are there, or to whole ones, knows nothing of this: the volume's answer to the write itself is the only check.
//!
//! Who has a block for himself waits for the volume and nothing else: buffer and page were taken before: the page before the
//! first write that could need it has taken any buffer ([`DiskQueue::prepare`]), and it stays with the queue. Who needs the page waits for it before he waits
//! at the gate.

use crate::device::{ByteRange, IoError};
use crate::memory::{Buffer, Cut, LARGEST_BUFFER, PAGE, Segment};
use crate::reactor::Lent;
use crate::volume::units::{BLOCK, CLUSTER};
use crate::volume::{VolumeQueue, Written};

use super::bytes::{copy, copy_between, zeros};
use super::footing::Footing;
use super::queue::{DiskQueue, Unwritten};

/// Clusters that the largest write touches.
const MOST_CLUSTERS: usize = LARGEST_BUFFER / CLUSTER as usize + 1;

impl DiskQueue {
    /// Whether the range covers a part of a block that may be absent.
    pub(super) fn may_cut_absent(&self, range: ByteRange) -> bool {
        matches!(self.footing(), Footing::Volume(_)) && !range.is_aligned(BLOCK)
    }

    /// Before a write takes its buffer: makes sure that a block can be put together, if that may be needed.
    pub(super) async fn prepare(&self, range: ByteRange) {
        if self.may_cut_absent(range) {
            self.edge().prepare(self.reactor(), PAGE).await;
        }
    }

    /// What a write that wants its range to itself has to hold.
    pub(super) fn reach(&self, range: ByteRange) -> ByteRange {
        if self.may_cut_absent(range) { blocks_around(range) } else { range }
    }

    /// Reads the range into the buffer, run by run, and its plain text from there to `to`, which may be the same memory.
    pub(super) async fn read_runs(
        &self,
        volume: &VolumeQueue,
        range: ByteRange,
        buffer: &mut Buffer,
        at: usize,
        to: &mut [Segment],
    ) -> Result<(), IoError> {
        let (mut rest, mut at, mut to) = (range, at, Cut::new(to));
        while !rest.is_empty() {
            let done = match self.read_in_place(volume, rest, &mut to) {
                Some(done) => done,
                None => self.read_run(volume, rest, buffer, at, &mut to).await?,
            };
            rest = rest.split_at(done).1;
            at += done as usize;
        }
        Ok(())
    }

    /// Reads what lies in the first cluster, if that is memory; says how much.
    fn read_in_place(&self, volume: &VolumeQueue, rest: ByteRange, to: &mut Cut<'_>) -> Option<u64> {
        let (piece, _) = split_at_cluster(rest);
        let memory = volume.readable(piece)?;
        self.reveal(piece, memory, to.take(piece.len() as usize), std::ptr::null());
        Some(piece.len())
    }

    /// Writes to memory below, if all of the range may be overwritten in place; `memory` is what was found before an await. Nothing is
    /// awaited here.
    #[inline]
    pub(super) fn write_in_place(&self, range: ByteRange, from: &[Segment], memory: Segment, after: *const u8) -> bool {
        let Footing::Volume(volume) = self.footing() else {
            self.transform_before(range, from, memory, after);
            return true;
        };
        match volume.writable(range) {
            Some(memory) => self.transform_before(range, from, memory, after),
            None => return self.write_clusters_in_place(volume, range, from, after),
        }
        true
    }

    fn write_clusters_in_place(
        &self,
        volume: &VolumeQueue,
        range: ByteRange,
        from: &[Segment],
        after: *const u8,
    ) -> bool {
        let mut places = [zeros(0); MOST_CLUSTERS];
        let (mut count, mut rest) = (0, range);
        while !rest.is_empty() {
            let (piece, later) = split_at_cluster(rest);
            let Some(memory) = volume.writable(piece) else { return false };
            places[count] = memory;
            (count, rest) = (count + 1, later);
        }
        self.transform_between(range, from, &places[..count], after);
        true
    }

    /// Reads a run, which is made of whole blocks but for the ends of the range, and says how long it is.
    async fn read_run(
        &self,
        volume: &VolumeQueue,
        rest: ByteRange,
        buffer: &mut Buffer,
        at: usize,
        to: &mut Cut<'_>,
    ) -> Result<u64, IoError> {
        let run = volume.read_run(rest, buffer, at).await?;
        let len = run.len as usize;
        let (text, to) = (buffer.segment(at..at + len), to.take(len));
        if run.is_absent {
            copy_between(&[text], to);
        } else {
            self.reveal(rest.split_at(run.len).0, text, to, std::ptr::null());
        }
        Ok(run.len)
    }

    /// Writes what is in the buffer.
    pub(super) async fn write_to_volume(&self, volume: &VolumeQueue, mut write: Unwritten) -> Result<(), IoError> {
        loop {
            {
                let _write = self.seat().enter(write.range).await;
                if write_out(volume, &mut write).await? == Written::Done {
                    return Ok(());
                }
            }
            let mut page = self.edge().borrow().await;
            // Whoever had the page before may have brought the block.
            if volume.cuts_absent_block(write.range) {
                let _holder = self.seat().hold(blocks_around(write.range)).await;
                return self.write_held(volume, &mut write, Some(&mut page)).await;
            }
        }
    }

    /// The same, by somebody who has the blocks around the range for himself, and the page if the range cuts blocks.
    pub(super) async fn write_held(
        &self,
        volume: &VolumeQueue,
        write: &mut Unwritten,
        mut page: Option<&mut Lent<'_>>,
    ) -> Result<(), IoError> {
        loop {
            if let Some(page) = &mut page {
                self.bring_edges(volume, write, page).await?;
            }
            if write.range.is_empty() || write_out(volume, write).await? == Written::Done {
                return Ok(());
            }
            assert!(page.is_some(), "a volume refuses a part of a block, and there is none in {}", write.range);
        }
    }

    /// Writes the absent blocks that the range cuts, and takes what it covers of them off the range.
    async fn bring_edges(&self, volume: &VolumeQueue, write: &mut Unwritten, page: &mut Buffer) -> Result<(), IoError> {
        let (head, rest) = split_head(write.range);
        if !head.is_empty() && volume.cuts_absent_block(head) {
            self.bring_block(volume, head, write, page).await?;
            write.at += head.len() as usize;
            write.range = rest;
        }
        let (rest, tail) = split_tail(write.range);
        if !tail.is_empty() && volume.cuts_absent_block(tail) {
            self.bring_block(volume, tail, write, page).await?;
            write.range = rest;
        }
        Ok(())
    }

    /// Writes a block of which the write covers a part; the rest of it is zeros.
    async fn bring_block(
        &self,
        volume: &VolumeQueue,
        part: ByteRange,
        write: &Unwritten,
        page: &mut Buffer,
    ) -> Result<(), IoError> {
        let block = blocks_around(part);
        let whole = 0..block.len() as usize;
        self.transform(block, &[zeros(whole.len())], page.segment(whole.clone()));
        let (from, to) =
            (write.at + (part.start() - write.range.start()) as usize, (part.start() - block.start()) as usize);
        let len = part.len() as usize;
        copy(&[write.buffer.segment(from..from + len)], page.segment(to..to + len));
        let written = volume.write(block.start(), page, whole).await?;
        assert_eq!(written, Written::Done, "a volume takes whole blocks: {block}");
        Ok(())
    }

    /// Gives whole blocks back and writes zeros to the parts of blocks at either end, unless these are absent.
    pub(super) async fn free_as_zeros(&self, volume: &VolumeQueue, range: ByteRange) -> Result<(), IoError> {
        {
            let _write = self.seat().enter(range).await;
            volume.discard(range).await?;
        }
        let (head, rest) = split_head(range);
        let (_, tail) = split_tail(rest);
        for part in [head, tail] {
            if !part.is_empty() && !volume.cuts_absent_block(part) {
                self.write_zeros(part).await?;
            }
        }
        Ok(())
    }

    /// Reads the range and gives nothing back.
    pub(super) async fn read_over_volume(
        &self,
        volume: &VolumeQueue,
        range: ByteRange,
        buffer: &mut Buffer,
    ) -> Result<(), IoError> {
        let mut rest = range;
        while !rest.is_empty() {
            let run = volume.read_run(rest, buffer, 0).await?;
            rest = rest.split_at(run.len).1;
        }
        Ok(())
    }
}

async fn write_out(volume: &VolumeQueue, write: &mut Unwritten) -> Result<Written, IoError> {
    let window = write.at..write.at + write.range.len() as usize;
    volume.write(write.range.start(), &mut write.buffer, window).await
}

/// What lies in the range's first cluster, and the rest.
pub(super) fn split_at_cluster(range: ByteRange) -> (ByteRange, ByteRange) {
    range.split_at(CLUSTER - range.start() % CLUSTER)
}

/// The part of a block with which the range begins, which may be all of it, and the rest.
fn split_head(range: ByteRange) -> (ByteRange, ByteRange) {
    range.split_at(range.start().next_multiple_of(BLOCK) - range.start())
}

/// The rest, and the part of a block with which the range ends, which may be all of it.
fn split_tail(range: ByteRange) -> (ByteRange, ByteRange) {
    range.split_at(range.len().saturating_sub(range.end() % BLOCK))
}

/// The whole blocks that the range touches.
fn blocks_around(range: ByteRange) -> ByteRange {
    let start = range.start() - range.start() % BLOCK;
    // The end of a volume is the end of a block.
    let end = range.end().next_multiple_of(BLOCK);
    ByteRange::new(start, end - start).expect("the end of a block fits into 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange {
        ByteRange::new(start, len).expect("fits")
    }

    #[test]
    fn a_range_is_cut_at_the_borders_of_blocks() {
        let cut = |start, len| {
            let (head, rest) = split_head(range(start, len));
            let (middle, tail) = split_tail(rest);
            [head.len(), middle.len(), tail.len()]
        };
        assert_eq!(cut(0, 8192), [0, 8192, 0]);
        assert_eq!(cut(512, 512), [512, 0, 0]);
        assert_eq!(cut(4096, 512), [0, 0, 512]);
        assert_eq!(cut(3584, 1024), [512, 0, 512]);
        assert_eq!(cut(3584, 4096 + 1024), [512, 4096, 512]);
        assert_eq!(cut(512, 3584), [3584, 0, 0]);
        assert_eq!(blocks_around(range(3584, 1024)), range(0, 8192));
        assert_eq!(blocks_around(range(4096, 4096)), range(4096, 4096));
    }
}
