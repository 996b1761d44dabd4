//! Reading: present blocks where they are, absent ones as zeros.

use crate::device::{ByteRange, IoError, read_whole};
use crate::memory::Buffer;

use super::{CLUSTER, Piece, VolumeQueue};

/// The beginning of a range, as far as it is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Bytes in it.
    pub len: u64,
    /// Nothing was ever written there: it is zeros, and was not read.
    pub is_absent: bool,
}

/// The same, with its place on the device, if it has one.
pub(super) struct Located {
    pub(super) len: u64,
    pub(super) place: Option<u64>,
}

impl VolumeQueue {
    /// Finds the first run of the range: up to where presence changes, or the device's bytes are not in one piece.
    #[inline]
    pub(super) fn locate(&self, range: ByteRange) -> Result<Located, IoError> {
        let piece = Piece::first_of(range);
        let word = self.volume.map.word(piece.index);
        let (is_present, len) = piece.run(word.present());
        if !is_present && word.is_lost() {
            return Err(IoError::Media);
        }
        let place = word.cluster().filter(|_| is_present).map(|cluster| cluster.byte() + piece.offset);
        let run = Located { len, place };
        if len == range.len() || piece.offset + len < CLUSTER { Ok(run) } else { Ok(self.prolong(run, range)) }
    }

    /// Goes on through the clusters that follow.
    fn prolong(&self, mut run: Located, range: ByteRange) -> Located {
        while run.len < range.len() {
            let next = Piece::first_of(range.split_at(run.len).1);
            let word = self.volume.map.word(next.index);
            let (is_present, len) = next.run(word.present());
            let place = word.cluster().filter(|_| is_present).map(|cluster| cluster.byte());
            let follows = match (run.place, place) {
                (None, None) => !word.is_lost(),
                (Some(start), Some(place)) => start + run.len == place,
                _ => false,
            };
            if !follows {
                break;
            }
            run.len += len;
            if len < CLUSTER {
                break;
            }
        }
        run
    }

    /// Reads the first run of the range into the buffer, from its byte `at` on, and says how long it is.
    pub async fn read_run(&self, range: ByteRange, buffer: &mut Buffer, at: usize) -> Result<Run, IoError> {
        self.check(range)?;
        // From before the map is read: the cluster is nobody else's until the data is here.
        let _command = self.seat.begin();
        let Located { len, place } = self.locate(range)?;
        let window = at..at + len as usize;
        match place {
            Some(place) => read_whole(&self.seat.device, place, buffer, window).await?,
            None => buffer[window].fill(0),
        }
        Ok(Run { len, is_absent: place.is_none() })
    }
}
