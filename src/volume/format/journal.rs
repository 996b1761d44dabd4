//! What a journal block holds: records of changes, in the order in which they were made. Each says what is so afterwards, not what was before,
//! so replaying a record twice does no harm.
//!
//! Records are stored in frames of a header and a body. By far most are words of the map; those of one volume that follow each other share a frame.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::leaf::check_word;
use super::record::{MOST_ATTRIBUTES, RECORD, is_size};
use super::{FormatError, VolumeRecord};
use crate::volume::units::{CLUSTER, LARGEST_VOLUME, VolumeId};

/// The clusters of the largest volume.
const MOST_CLUSTERS: u32 = (LARGEST_VOLUME / CLUSTER) as u32;
pub(super) const OBJECT: &str = "journal block";

/// What a frame holds.
pub(super) mod kind {
    pub const WORDS: u8 = 1;
    pub const CREATE: u8 = 2;
    pub const FORK: u8 = 3;
    pub const ROLLBACK: u8 = 4;
    pub const RESIZE: u8 = 5;
    pub const DELETE: u8 = 6;
    pub const SET_ATTRIBUTES: u8 = 7;
}

/// The header of a frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FrameHeader {
    /// [`kind`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// Bytes of the body.
    pub len: le::U16,
    /// The volume that it is about; the source of a fork.
    pub volume: le::U32,
}
const _: () = assert!(size_of::<FrameHeader>() == 8);

/// One word in a frame of words.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StoredWord {
    /// Which cluster of the volume.
    pub index: le::U32,
    pub word: le::U64,
}
const _: () = assert!(size_of::<StoredWord>() == 12);

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A cluster of the volume has this word now.
    Word {
        /// Whose map.
        volume: VolumeId,
        /// Which cluster of the volume.
        index: u64,
        /// See [`leaf`](super::leaf).
        word: u64,
    },
    /// There is a new, empty volume.
    Create(Box<VolumeRecord>),
    /// There is a new snapshot or clone, with the content that the source has at this point.
    Fork {
        /// What it was made from.
        source: VolumeId,
        /// The new one. Its roots are not looked at.
        record: Box<VolumeRecord>,
    },
    /// The volume has the content of the snapshot now.
    Rollback {
        /// What changed.
        volume: VolumeId,
        /// Where the content is from.
        snapshot: VolumeId,
    },
    /// The volume has a new size. What lies behind it is gone.
    Resize {
        /// What changed.
        volume: VolumeId,
        /// Bytes.
        size: u64,
    },
    /// The volume or snapshot is gone.
    Delete {
        /// Which one.
        volume: VolumeId,
    },
    /// The volume has other attributes now.
    SetAttributes {
        /// What changed.
        volume: VolumeId,
        /// All of them.
        attributes: Vec<u8>,
    },
}

impl Record {
    /// The frame of a record that is no word: its kind, its volume, and its body, which is put into the scratch space.
    pub(super) fn frame<'a>(&self, scratch: &'a mut [u8; RECORD]) -> (u8, VolumeId, &'a [u8]) {
        let mut body = |bytes: &[u8]| {
            scratch[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        };
        let (kind, volume, len) = match self {
            Self::Word { volume, index, word } => {
                let stored = StoredWord { index: (*index as u32).into(), word: (*word).into() };
                (kind::WORDS, *volume, body(stored.as_bytes()))
            }
            Self::Rollback { volume, snapshot } => (kind::ROLLBACK, *volume, body(&snapshot.0.to_le_bytes())),
            Self::Resize { volume, size } => (kind::RESIZE, *volume, body(&size.to_le_bytes())),
            Self::Delete { volume } => (kind::DELETE, *volume, 0),
            Self::SetAttributes { volume, attributes } => (kind::SET_ATTRIBUTES, *volume, body(attributes)),
            Self::Create(record) => {
                record.encode(scratch);
                (kind::CREATE, record.id, RECORD)
            }
            Self::Fork { source, record } => {
                record.encode(scratch);
                (kind::FORK, *source, RECORD)
            }
        };
        (kind, volume, &scratch[..len])
    }

    /// The record in a frame that is not of words. Errors count from the start of the frame.
    pub(super) fn of_frame(header: &FrameHeader, body: &[u8]) -> Result<Self, FormatError> {
        let volume = VolumeId(header.volume.get());
        match header.kind {
            kind::CREATE => {
                let record = volume_record(body)?;
                if record.id != volume {
                    return Err(FormatError::wrong(OBJECT, 4, "a new volume has two numbers"));
                }
                Ok(Self::Create(record))
            }
            kind::FORK => {
                let record = volume_record(body)?;
                if record.id <= volume {
                    return Err(FormatError::wrong(OBJECT, 4, "a snapshot or clone is older than its source"));
                }
                Ok(Self::Fork { source: volume, record })
            }
            kind::ROLLBACK => {
                let snapshot = VolumeId(u32::from_le_bytes(fixed(body)?));
                if snapshot.is_nobody() || snapshot == volume {
                    return Err(FormatError::wrong(OBJECT, 8, "a volume is rolled back to no other"));
                }
                Ok(Self::Rollback { volume, snapshot })
            }
            kind::RESIZE => {
                let size = u64::from_le_bytes(fixed(body)?);
                if !is_size(size) {
                    return Err(FormatError::wrong(OBJECT, 8, format!("no volume has {size} bytes")));
                }
                Ok(Self::Resize { volume, size })
            }
            kind::DELETE => fixed::<0>(body).map(|[]| Self::Delete { volume }),
            kind::SET_ATTRIBUTES if body.len() > MOST_ATTRIBUTES => {
                Err(FormatError::wrong(OBJECT, 2, format!("{} bytes of attributes", body.len())))
            }
            kind::SET_ATTRIBUTES => Ok(Self::SetAttributes { volume, attributes: body.to_vec() }),
            kind => Err(FormatError::wrong(OBJECT, 0, format!("there is no kind of record {kind}"))),
        }
    }
}

impl StoredWord {
    /// Errors count from the start of the word.
    pub(super) fn load(&self, volume: VolumeId) -> Result<Record, FormatError> {
        let (index, word) = (self.index.get(), self.word.get());
        if index >= MOST_CLUSTERS {
            return Err(FormatError::wrong(OBJECT, 0, format!("no volume has a cluster {index}")));
        }
        match check_word(word) {
            Ok(()) => Ok(Record::Word { volume, index: u64::from(index), word }),
            Err(what) => Err(FormatError::wrong(OBJECT, 4, what)),
        }
    }
}

/// The body as so many bytes.
fn fixed<const N: usize>(body: &[u8]) -> Result<[u8; N], FormatError> {
    let wrong = |_| FormatError::wrong(OBJECT, 2, format!("a record has {} bytes, not {N}", body.len()));
    body.try_into().map_err(wrong)
}

fn volume_record(body: &[u8]) -> Result<Box<VolumeRecord>, FormatError> {
    let record = VolumeRecord::decode(&fixed::<RECORD>(body)?);
    let record = record.map_err(|error| error.further(size_of::<FrameHeader>()))?;
    record.map(Box::new).ok_or_else(|| FormatError::wrong(OBJECT, 8, "a volume record is empty"))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn frame(kind: u8, volume: u32, body: &[u8]) -> Result<Record, FormatError> {
        let header = FrameHeader { kind, reserved: 0, len: (body.len() as u16).into(), volume: volume.into() };
        Record::of_frame(&header, body)
    }

    #[test]
    fn wrong_frames_are_refused_at_their_bytes() {
        let mut volume = [0; RECORD];
        testing::volume(7, "a").encode(&mut volume);
        let mut damaged = volume;
        damaged[4] = 9;
        let wrong: [(u8, u32, &[u8], usize); 15] = [
            (0, 7, &[], 0),
            (8, 7, &[], 0),
            (kind::CREATE, 6, &volume, 4),
            (kind::CREATE, 7, &volume[1..], 2),
            (kind::CREATE, 7, &[0; RECORD], 8),
            (kind::CREATE, 7, &damaged, 12),
            (kind::FORK, 7, &volume, 4),
            (kind::FORK, 9, &volume, 4),
            (kind::ROLLBACK, 7, &[0; 4], 8),
            (kind::ROLLBACK, 7, &[7, 0, 0, 0], 8),
            (kind::ROLLBACK, 7, &[6], 2),
            (kind::RESIZE, 7, &[1, 0, 0, 0, 0, 0, 0, 0], 8),
            (kind::RESIZE, 7, &[], 2),
            (kind::DELETE, 7, &[0], 2),
            (kind::SET_ATTRIBUTES, 7, &[0; MOST_ATTRIBUTES + 1], 2),
        ];
        for (kind, volume, body, named) in wrong {
            match frame(kind, volume, body) {
                Err(FormatError::Wrong { at, .. }) => assert_eq!(at, named, "kind {kind}"),
                other => panic!("kind {kind}: {other:?}"),
            }
        }
    }

    #[test]
    fn wrong_words_are_refused_at_their_bytes() {
        let load = |index: u32, word: u64| StoredWord { index: index.into(), word: word.into() }.load(VolumeId(1));
        assert!(load(MOST_CLUSTERS - 1, 1 << 32 | 1).is_ok());
        assert!(matches!(load(MOST_CLUSTERS, 0), Err(FormatError::Wrong { at: 0, .. })));
        assert!(matches!(load(0, 1), Err(FormatError::Wrong { at: 4, .. })));
    }
}
