//! Discarding: whole blocks become absent, and read as zeros from then on.

use crate::device::{ByteRange, IoError};

use super::super::map::Discarded;
use super::{Piece, VolumeQueue};

impl VolumeQueue {
    /// Makes the whole blocks of the range absent. What it covers partly stays as it is.
    pub async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        let mut changing = self.change().await;
        self.check_change(range)?;
        let (mut rest, mut tries) = (range, 0);
        while !rest.is_empty() {
            let piece = Piece::first_of(rest);
            match self.discard_piece(piece) {
                Some(Discarded::Busy) => self.wait_for_copy(piece.index).await,
                Some(_) => rest = rest.split_at(piece.len).1,
                None => {
                    // A frozen leaf has to be copied, and there is no space to store one more.
                    drop(changing);
                    self.seat.make_room(tries).await?;
                    tries += 1;
                    changing = self.change().await;
                    self.check(range)?;
                }
            }
        }
        drop(changing);
        Ok(())
    }

    /// Discards in one cluster; none if there is no space for the nodes above it.
    fn discard_piece(&self, piece: Piece) -> Option<Discarded> {
        let blocks = piece.whole();
        let word = self.volume.map.word(piece.index);
        let is_there = !word.present().without(blocks).eq(&word.present()) || word.is_lost() || word.is_busy();
        if blocks.is_empty() || !is_there {
            return Some(Discarded::Nothing);
        }
        let done = self.own(piece.index)?.discard(blocks);
        if let Discarded::Cluster(cluster) = done {
            self.seat.let_go(cluster);
        }
        if matches!(done, Discarded::Cluster(_) | Discarded::Blocks) {
            self.seat.mark();
        }
        Some(done)
    }
}
