//! Commands that look at what is stored: compare, verify, and compare and write.
//!
//! Compare and write is atomic against every write to the range, on all queues of the disk, as the fused pair of NVM Command Set 1.0 has to be
//! ("Fused Operation", "Compare and Write"). [`super::gate`] says how.

use crate::device::{ByteRange, IoError, read_whole, write_whole};
use crate::memory::{Buffer, LARGEST_BUFFER, Segment};

use super::bytes::{Expected, total};
use super::footing::Footing;
use super::queue::{DiskQueue, Unwritten};
use super::stats::CommandKind;

/// What is looked at goes through a buffer of at most this size.
const LOOKED_AT_ONCE: u64 = 256 << 10;

impl DiskQueue {
    /// Whether the range holds the bytes of `with`, which come in any number of pieces. Takes one buffer of at most 256 KiB.
    pub async fn compare(&self, range: ByteRange, with: &[Segment]) -> Result<bool, IoError> {
        let command = self.begin();
        let done = self.look_up(range, with).await;
        self.end(command, CommandKind::Compare, range.len(), done)
    }

    async fn look_up(&self, range: ByteRange, with: &[Segment]) -> Result<bool, IoError> {
        self.check(range)?;
        if total(with) as u64 != range.len() {
            return Err(IoError::Misaligned);
        }
        let mut buffer = self.reactor().buffers().take(range.len().min(LOOKED_AT_ONCE) as usize).await;
        self.holds(range, with, &mut buffer).await
    }

    /// Reads the range and gives nothing back: whether the device can read it. Takes one buffer of at most 256 KiB.
    pub async fn verify(&self, range: ByteRange) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.read_over(range).await;
        self.end(command, CommandKind::Verify, range.len(), done)
    }

    async fn read_over(&self, range: ByteRange) -> Result<(), IoError> {
        self.check(range)?;
        let mut buffer = self.reactor().buffers().take(range.len().min(LOOKED_AT_ONCE) as usize).await;
        for piece in range.pieces(LOOKED_AT_ONCE) {
            match self.footing() {
                Footing::Device(device) => {
                    read_whole(device, piece.start(), &mut buffer, 0..piece.len() as usize).await?;
                }
                Footing::Volume(volume) => self.read_over_volume(volume, piece, &mut buffer).await?,
            }
        }
        Ok(())
    }

    /// Writes `write` if the range holds `compare`, and says whether it did. No other write to the range, on any queue of the disk, comes in
    /// between; an error leaves the range as it was or partly written.
    ///
    /// All three are equally long, at most [`LARGEST_BUFFER`]. The memory of both lists stays as it is until this is done. Waits for all
    /// writes that are in flight on the disk: meant for locks, not for data.
    pub async fn compare_and_write(
        &self,
        range: ByteRange,
        compare: &[Segment],
        write: &[Segment],
    ) -> Result<bool, IoError> {
        let command = self.begin();
        let done = self.swap(range, compare, write).await;
        self.end(command, CommandKind::CompareAndWrite, range.len(), done)
    }

    async fn swap(&self, range: ByteRange, compare: &[Segment], write: &[Segment]) -> Result<bool, IoError> {
        self.check(range)?;
        let len = range.len();
        if len > LARGEST_BUFFER as u64 || total(compare) as u64 != len || total(write) as u64 != len {
            return Err(IoError::Misaligned);
        }
        // The one buffer that both halves need: taken first, so that nobody waits for one while others wait for the range.
        self.prepare(range).await;
        let mut buffer = self.reactor().buffers().take(len as usize).await;
        let mut page = if self.may_cut_absent(range) { Some(self.edge().borrow().await) } else { None };
        let _holder = self.seat().hold(self.reach(range)).await;
        if !self.holds(range, compare, &mut buffer).await? {
            return Ok(false);
        }
        if let Some(memory) = self.footing().writable(range) {
            self.transform(range, write, memory);
            return Ok(true);
        }
        let window = 0..len as usize;
        self.transform(range, write, buffer.segment(window.clone()));
        match self.footing() {
            Footing::Device(device) => write_whole(device, range.start(), &mut buffer, window).await?,
            Footing::Volume(volume) => {
                self.write_held(volume, &mut Unwritten { range, buffer, at: 0 }, page.as_mut()).await?;
            }
        }
        Ok(true)
    }

    /// Reads the range through the buffer, in pieces, and compares.
    async fn holds(&self, range: ByteRange, with: &[Segment], buffer: &mut Buffer) -> Result<bool, IoError> {
        let mut expected = Expected::new(with);
        for piece in range.pieces(LOOKED_AT_ONCE) {
            self.read_plain(piece, buffer, 0).await?;
            if !expected.goes_on_with(&buffer[..piece.len() as usize]) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
