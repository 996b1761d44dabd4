//! Writing: in place, or into clusters that are new.
//!
//! A write goes forward in steps ([`VolumeQueue::write_some`]). Each takes as many clusters as may be written in one go: they are claimed, one after
//! the other, as long as they are neighbours on the device; written; and published. A cluster of which blocks were discarded meanwhile is written again.

use std::ops::Range;

use crate::device::{ByteRange, IoError, write_whole};
use crate::memory::{Buffer, LARGEST_BUFFER};

use super::super::map::{Claim, Word};
use super::super::units::{CLUSTER, ClusterId};
use super::{Piece, VolumeQueue};

/// Clusters that the largest write touches.
const MOST_CLUSTERS: usize = LARGEST_BUFFER / CLUSTER as usize + 1;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// All of it is written.
    Done,
    /// A block that the write covers partly is absent. What the volume holds for it has to be supplied whole; nothing may be assumed written.
    PartlyAbsent,
}

/// A cluster that a step writes.
#[derive(Clone, Copy)]
struct Target {
    piece: Piece,
    cluster: ClusterId,
    /// With what the blocks are to be published when they are written.
    publish: Option<Word>,
}

/// What a step may do with its first, or next, cluster.
enum Next {
    Write(Target),
    /// It is shared; the copy has been claimed.
    Copy(Word),
    /// Not now: it is shared, and does not come first.
    Later,
    Wait,
    PartlyAbsent,
}

impl VolumeQueue {
    /// Writes `window` of the buffer from byte `at` of the volume on.
    pub async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<Written, IoError> {
        let range = ByteRange::new(at, window.len() as u64).ok_or(IoError::OutOfRange)?;
        let mut changing = self.change().await;
        // Under the change: the volume is made smaller in a pause only.
        self.check_change(range)?;
        let (mut done, mut tries) = (0, 0);
        while done < window.len() {
            let (_, rest) = range.split_at(done as u64);
            match self.write_some(rest, buffer, window.start + done..window.end).await {
                Ok(Some(written)) => done += written,
                Ok(None) => return Ok(Written::PartlyAbsent),
                Err(IoError::NoSpace) => {
                    // Not in flight while it waits: what it waits for is that others have ended.
                    drop(changing);
                    self.seat.make_room(tries).await?;
                    tries += 1;
                    changing = self.change().await;
                    self.check(range)?;
                }
                Err(error) => return Err(error),
            }
        }
        drop(changing);
        Ok(Written::Done)
    }

    /// Writes the beginning of the range, and says how much; nothing if a partly covered block is absent.
    async fn write_some(
        &self,
        range: ByteRange,
        buffer: &mut Buffer,
        window: Range<usize>,
    ) -> Result<Option<usize>, IoError> {
        let mut targets: [Option<Target>; MOST_CLUSTERS] = [None; MOST_CLUSTERS];
        let mut count = 0;
        let mut len = 0;
        while len < range.len() && count < MOST_CLUSTERS {
            let piece = Piece::first_of(range.split_at(len).1);
            match self.next(piece, count == 0) {
                Ok(Next::Write(target)) => {
                    let follows =
                        count == 0 || targets[count - 1].is_some_and(|before| before.cluster.0 + 1 == target.cluster.0);
                    if !follows {
                        break;
                    }
                    targets[count] = Some(target);
                    count += 1;
                    len += piece.len;
                }
                _ if count > 0 => break,
                Ok(Next::Copy(word)) => {
                    self.copy_and_write(piece, word, buffer, window.start).await?;
                    return Ok(Some(piece.len as usize));
                }
                Ok(Next::Wait) => {
                    self.wait_for_copy(piece.index).await;
                    return Ok(Some(0));
                }
                Ok(Next::PartlyAbsent) => return Ok(None),
                Ok(Next::Later) => unreachable!("the first cluster is not put off"),
                Err(error) => return Err(error),
            }
        }
        let first = targets[0].expect("at least one cluster was claimed");
        let place = first.cluster.byte() + first.piece.offset;
        write_whole(&self.seat.device, place, buffer, window.start..window.start + len as usize).await?;
        let mut done = 0;
        for target in targets.iter().flatten() {
            if target.publish.is_some_and(|claimed| !self.publish(target.piece, claimed)) {
                break;
            }
            done += target.piece.len as usize;
        }
        Ok(Some(done))
    }

    /// Claims a cluster.
    fn next(&self, piece: Piece, is_first: bool) -> Result<Next, IoError> {
        let touched = piece.touched();
        let partly = touched.without(piece.whole());
        let space = &self.seat.pool.space;
        let is_exclusive = |cluster| space.is_exclusive(cluster);
        let spot = self.own(piece.index).ok_or(IoError::NoSpace)?;
        let word = spot.word();
        if !is_first && word.is_shared() && !word.cluster().is_some_and(is_exclusive) {
            return Ok(Next::Later);
        }
        let mut spare = None;
        loop {
            let claim = spot.claim(touched, partly, spare, is_exclusive);
            if let Some(unused) = spare.filter(|_| !matches!(claim, Claim::FillNew(_))) {
                self.seat.give_back(unused);
            }
            let target = |cluster, publish| Ok(Next::Write(Target { piece, cluster, publish }));
            match claim {
                Claim::InPlace(cluster) => return target(cluster, None),
                Claim::Fill(word) | Claim::FillNew(word) => {
                    return target(word.cluster().expect("claimed with its cluster"), Some(word));
                }
                Claim::Copy(word) => return Ok(Next::Copy(word)),
                Claim::Busy => return Ok(Next::Wait),
                Claim::PartlyAbsent => return Ok(Next::PartlyAbsent),
                Claim::Lost => return Err(IoError::Media),
                Claim::NeedsCluster => spare = Some(self.seat.take_cluster().ok_or(IoError::NoSpace)?),
            }
        }
    }

    /// What was written is there for everybody now; false if blocks of its cluster were discarded meanwhile.
    fn publish(&self, piece: Piece, claimed: Word) -> bool {
        // Its leaf is still owned: no root is forked while this write is in flight.
        let spot = self.volume.map.spot(piece.index).expect("it was owned when the write began");
        let is_there = spot.publish(claimed, piece.touched());
        if is_there {
            self.seat.mark();
        }
        is_there
    }
}
