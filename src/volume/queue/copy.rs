//! Writing to a cluster that others hold too: what the write does not cover is copied to a new cluster, as it is.
//!
//! The word is busy meanwhile: nobody else changes it, and readers go on with the old cluster. It goes through one of the
//! buffers that the seat keeps for this, so that no copy ever waits for memory that other writes hold.

use crate::device::{IoError, read_whole, write_whole};
use crate::memory::Buffer;

use super::super::map::{Blocks, Word};
use super::super::units::{BLOCK, ClusterId};
use super::{Piece, VolumeQueue};

impl VolumeQueue {
    /// Carries out a copy that was claimed: the cluster as it was, with the piece that lies in the buffer from `at` on.
    pub(super) async fn copy_and_write(
        &self,
        piece: Piece,
        old: Word,
        buffer: &Buffer,
        at: usize,
    ) -> Result<(), IoError> {
        let done = match self.seat.take_cluster() {
            None => Err(IoError::NoSpace),
            Some(new) => {
                let filled = self.fill(new, piece, old, buffer, at).await;
                if filled.is_err() {
                    // Something may have been written there, and nothing is any more.
                    self.seat.let_go(new);
                }
                filled.map(|present| Word::new(new, present))
            }
        };
        let spot = self.volume.map.spot(piece.index).expect("it was owned when the copy was claimed");
        match done {
            Ok(word) => {
                spot.finish_copy(old, word);
                self.seat.mark();
                if let Some(cluster) = old.cluster() {
                    self.seat.let_go(cluster);
                }
            }
            Err(_) => spot.abandon_copy(old),
        }
        self.seat.pool.busy.over((self.volume.id(), piece.index));
        done.map(drop)
    }

    /// Fills the new cluster; says which blocks are present in it.
    async fn fill(
        &self,
        new: ClusterId,
        piece: Piece,
        old: Word,
        buffer: &Buffer,
        at: usize,
    ) -> Result<Blocks, IoError> {
        let device = &self.seat.device;
        let from = old.cluster().expect("only a word with a cluster is shared");
        let mut whole = self.seat.copy_buffer().await;
        let bytes =
            |first: u32, blocks: u32| first as usize * BLOCK as usize..(first + blocks) as usize * BLOCK as usize;
        // In one go, with whatever lies between: one read of 64 KiB is cheaper than two of less.
        if let Some((first, last)) = old.present().without(piece.whole()).span() {
            let window = bytes(first, last - first + 1);
            read_whole(device, from.byte() + window.start as u64, &mut whole, window).await?;
        }
        let (offset, len) = (piece.offset as usize, piece.len as usize);
        whole[offset..offset + len].copy_from_slice(&buffer[at..at + len]);
        let present = old.present().with(piece.touched());
        for (first, blocks) in present.runs() {
            let window = bytes(first, blocks);
            write_whole(device, new.byte() + window.start as u64, &mut whole, window).await?;
        }
        Ok(present)
    }
}
