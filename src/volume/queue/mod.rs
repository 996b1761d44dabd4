//! The data path of a volume on one reactor: from a place in the volume to a place on the device.
//!
//! | command | what happens |
//! | --- | --- |
//! | read | present blocks are read where they are; absent ones are zeros, without I/O (`read.rs`) |
//! | write to present blocks of a cluster of its own | in place: no metadata (`write.rs`) |
//! | first write | into a cluster of the reactor's reserve; the presence bits are set when the data is written (`write.rs`) |
//! | write to a shared cluster | what is not overwritten is copied to a new cluster (`copy.rs`) |
//! | discard | presence bits are cleared; empty clusters are let go (`discard.rs`) |
//! | flush | one flush of the device, or a commit if maps were changed |
//!
//! A command is polled to its end once it was begun: what it has in flight keeps clusters from being used again, and a command that were dropped
//! half-way would let go of that while the kernel still writes.

mod copy;
mod discard;
mod read;
mod write;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::{ByteRange, Device, DeviceInfo, Extent, IoError};
use crate::memory::Segment;
use crate::reactor::{Flight, Member, Reactor};

use super::entry::Volume;
use super::error::PoolError;
use super::map::{Blocks, Spot};
use super::seat::Seat;
use super::units::{BLOCK, CLUSTER};

pub use read::Run;
pub use write::Written;

/// A volume on one reactor.
pub struct VolumeQueue {
    volume: Arc<Volume>,
    seat: Rc<Seat>,
    writes: Member,
}

/// A write in flight: nobody forks or replaces the volume's root meanwhile, and no cluster is used again.
struct Changing {
    _write: Flight,
    _command: Flight,
}

impl VolumeQueue {
    pub(super) fn open(reactor: &Reactor, volume: &Arc<Volume>) -> Result<Rc<Self>, PoolError> {
        let seat = Seat::on(reactor, volume.pool())?;
        volume.queue_opened();
        Ok(Rc::new(Self { volume: volume.clone(), seat, writes: volume.writes.join(reactor) }))
    }

    /// The volume.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// What it is like, as a device.
    pub fn info(&self) -> DeviceInfo {
        DeviceInfo {
            size: self.volume.size().load(Ordering::Acquire),
            block_size: self.seat.device.info().block_size,
            can_discard: true,
            can_write_zeroes: true,
        }
    }

    fn check(&self, range: ByteRange) -> Result<(), IoError> {
        crate::device::check_range(&self.info(), range.start(), range.len())
    }

    /// Refuses a change of the range.
    fn check_change(&self, range: ByteRange) -> Result<(), IoError> {
        if self.volume.is_snapshot() {
            return Err(IoError::ReadOnly);
        }
        self.check(range)
    }

    /// Begins a command that may change the map; waits while there is a pause.
    async fn change(&self) -> Changing {
        loop {
            let changing = Changing { _write: self.writes.begin(), _command: self.seat.begin() };
            if !self.volume.pause.is_on() {
                return changing;
            }
            drop(changing);
            self.volume.pause.over().await;
        }
    }

    /// The word of a cluster, made one that may be changed. None if the pool has no space for the nodes above it.
    fn own(&self, index: u64) -> Option<Spot<'_>> {
        if let Some(spot) = self.volume.map.spot(index) {
            return Some(spot);
        }
        let mut remains = Default::default();
        let spot = self.volume.map.own(index, &*self.seat.pool, &mut remains);
        self.seat.keep(remains);
        spot
    }

    /// Waits while somebody copies the cluster.
    async fn wait_for_copy(&self, index: u64) {
        let is_busy = || self.volume.map.word(index).is_busy();
        self.seat.pool.busy.wait((self.volume.id(), index), is_busy).await;
    }

    /// The whole range as memory, if all of it is present and in one piece. Holds until the next await.
    #[inline]
    pub fn readable(&self, range: ByteRange) -> Option<Segment> {
        if !self.seat.is_memory || self.check(range).is_err() {
            return None;
        }
        let run = self.locate(range).ok()?;
        if run.len < range.len() { None } else { self.memory(run.place?, range) }
    }

    /// A number that is another one once anything of the volume has moved, come or gone: as long as it is the same, so is what
    /// [`VolumeQueue::readable`] has answered since it was asked for.
    #[inline]
    pub fn version(&self) -> u64 {
        self.volume.map.version()
    }

    /// As [`VolumeQueue::readable`], to be overwritten in place. Holds until the next await.
    #[inline]
    pub fn writable(&self, range: ByteRange) -> Option<Segment> {
        if !self.seat.is_memory || self.volume.pause.is_on() || self.check_change(range).is_err() {
            return None;
        }
        let piece = Piece::first_of(range);
        if piece.len < range.len() {
            return None;
        }
        let word = self.volume.map.spot(piece.index)?.word();
        if word.is_shared() || word.is_busy() || !word.present().has(piece.touched()) {
            return None;
        }
        self.memory(word.cluster()?.byte() + piece.offset, range)
    }

    fn memory(&self, place: u64, range: ByteRange) -> Option<Segment> {
        self.seat.device.direct(ByteRange::new(place, range.len())?)
    }

    /// Whether the first or last block of the range is absent and not covered whole.
    pub fn cuts_absent_block(&self, range: ByteRange) -> bool {
        let is_absent = |byte: u64| {
            let block = (byte % CLUSTER / BLOCK) as u32;
            !self.volume.map.word(byte / CLUSTER).present().has(Blocks::between(block, block))
        };
        let (start, end) = (range.start(), range.end());
        !start.is_multiple_of(BLOCK) && is_absent(start) || !end.is_multiple_of(BLOCK) && is_absent(end)
    }

    /// Which parts of the range hold data, at least one and at most so many; they may end before the range does.
    pub fn extents(&self, range: ByteRange, most: usize) -> Result<Vec<Extent>, IoError> {
        self.check(range)?;
        let mut extents: Vec<Extent> = Vec::new();
        let mut rest = range;
        while !rest.is_empty() {
            let piece = Piece::first_of(rest);
            let word = self.volume.map.word(piece.index);
            let (is_present, len) = piece.run(word.present());
            let is_hole = !is_present && !word.is_lost();
            let count = extents.len();
            match extents.last_mut() {
                Some(last) if last.is_hole == is_hole => last.len += len,
                _ if count == most => break,
                _ => extents.push(Extent { len, is_hole }),
            }
            rest = rest.split_at(len).1;
        }
        Ok(extents)
    }

    /// Makes everything that was answered before durable.
    pub async fn flush(&self) -> Result<(), IoError> {
        if self.seat.pool.has_changes() {
            return self.seat.pool.commits.ask().await;
        }
        let _command = self.seat.begin();
        self.seat.device.flush().await
    }
}

impl Drop for VolumeQueue {
    fn drop(&mut self) {
        self.volume.queue_closed();
    }
}

/// The part of a range that lies in one cluster.
#[derive(Clone, Copy)]
struct Piece {
    /// The cluster of the volume.
    index: u64,
    /// Where in the cluster it begins.
    offset: u64,
    len: u64,
}

impl Piece {
    #[inline]
    fn first_of(range: ByteRange) -> Self {
        let offset = range.start() % CLUSTER;
        Self { index: range.start() / CLUSTER, offset, len: range.len().min(CLUSTER - offset) }
    }

    fn end(self) -> u64 {
        self.offset + self.len
    }

    fn first_block(self) -> u32 {
        (self.offset / BLOCK) as u32
    }

    fn last_block(self) -> u32 {
        ((self.end() - 1) / BLOCK) as u32
    }

    /// Blocks of which it has at least a part.
    #[inline]
    fn touched(self) -> Blocks {
        Blocks::between(self.first_block(), self.last_block())
    }

    /// Blocks that it has whole.
    fn whole(self) -> Blocks {
        let (first, behind) = (self.offset.div_ceil(BLOCK) as u32, (self.end() / BLOCK) as u32);
        if first < behind { Blocks::between(first, behind - 1) } else { Blocks::NONE }
    }

    /// Whether its beginning is present, and how many bytes that is true for.
    #[inline]
    fn run(self, present: Blocks) -> (bool, u64) {
        let (is_present, blocks) = present.run(self.first_block(), self.last_block());
        let end = u64::from(self.first_block() + blocks) * BLOCK;
        (is_present, end.min(self.end()) - self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u64, len: u64) -> Piece {
        Piece::first_of(ByteRange::new(start, len).expect("fits"))
    }

    #[test]
    fn a_piece_ends_with_its_cluster() {
        let first = piece(3 * CLUSTER - 512, 1024);
        assert_eq!((first.index, first.offset, first.len), (2, CLUSTER - 512, 512));
        assert_eq!(first.touched(), Blocks::between(15, 15));
        assert_eq!(first.whole(), Blocks::NONE);
        assert_eq!(piece(512, 3 * BLOCK).whole(), Blocks::between(1, 2));
        assert_eq!(piece(512, 3 * BLOCK).touched(), Blocks::between(0, 3));
        assert_eq!(piece(0, CLUSTER).whole(), Blocks::ALL);
    }

    #[test]
    fn a_run_ends_where_presence_changes() {
        let present = Blocks::between(1, 2);
        assert_eq!(piece(512, 3 * BLOCK).run(present), (false, BLOCK - 512));
        assert_eq!(piece(BLOCK + 512, 512).run(present), (true, 512));
        assert_eq!(piece(BLOCK + 512, CLUSTER).run(present), (true, 2 * BLOCK - 512));
        assert_eq!(piece(3 * BLOCK, CLUSTER).run(present), (false, CLUSTER - 3 * BLOCK));
    }
}
