//! Journal blocks: a header, and records one behind the other up to where the header says. The rest is zero.
//!
//! A block counts only if it is intact and says that it is the one looked for: of this pool, of this epoch, and next in sequence. What stood in
//! its place before is never taken for it, and neither is what another pool left on the device.

use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::journal::{FrameHeader, OBJECT, StoredWord, kind};
use super::page::{is_sealed, page_mut, seal};
use super::record::RECORD;
use super::{FormatError, Record};
use crate::volume::units::{PAGE, VolumeId};

const MAGIC: [u8; 4] = *b"SRjb";
const CHECKSUM_AT: usize = 4;
const HEADER: usize = size_of::<BlockHeader>();
const FRAME: usize = size_of::<FrameHeader>();
const WORD: usize = size_of::<StoredWord>();

/// The least words in a block that holds nothing but words, when no two that follow each other are of the same volume.
pub const WORDS_PER_BLOCK: usize = (PAGE - HEADER) / (FRAME + WORD);
const _: () = assert!(WORDS_PER_BLOCK >= 200);
const _: () = assert!((PAGE - HEADER) / (FRAME + RECORD) == 3);

/// The header of a block.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BlockHeader {
    magic: [u8; 4],
    /// CRC32C of the block with this field zero.
    checksum: le::U32,
    pool: [u8; 16],
    epoch: le::U32,
    /// Bytes of the records.
    len: le::U16,
    /// Zero.
    reserved: le::U16,
    sequence: le::U64,
    generation: le::U64,
}
const _: () = assert!(HEADER == 48);
const _: () = assert!(std::mem::offset_of!(BlockHeader, checksum) == CHECKSUM_AT);

/// Which block of which journal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockStamp {
    /// The pool.
    pub pool: Uuid,
    /// The opening that wrote it.
    pub epoch: u32,
    /// Its place in the order of all blocks of the epoch.
    pub sequence: u64,
    /// The newest superblock that was durable when it was written. A block that names a higher generation than the superblock that was read
    /// proves that a newer superblock was there and is lost.
    pub generation: u64,
}

impl BlockStamp {
    /// The stamp of an intact block, whatever journal it belongs to.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self::of_header(&intact(bytes)?.0))
    }

    fn of_header(header: &BlockHeader) -> Self {
        Self {
            pool: Uuid::from_bytes(header.pool),
            epoch: header.epoch.get(),
            sequence: header.sequence.get(),
            generation: header.generation.get(),
        }
    }
}

/// Fills a block with records.
pub struct BlockWriter<'a> {
    page: &'a mut [u8; PAGE],
    stamp: BlockStamp,
    /// Bytes that are filled, the header's too.
    filled: usize,
    /// Where the last frame starts, and of which volume its words are.
    words: Option<(usize, VolumeId)>,
}

impl<'a> BlockWriter<'a> {
    /// An empty block. The buffer is no block before [`BlockWriter::finish`].
    ///
    /// # Panics
    /// If the buffer is not a page.
    pub fn new(bytes: &'a mut [u8], stamp: BlockStamp) -> Self {
        let page = page_mut(bytes);
        page.fill(0);
        Self { page, stamp, filled: HEADER, words: None }
    }

    /// Whether no record is in it.
    pub fn is_empty(&self) -> bool {
        self.filled == HEADER
    }

    /// Adds the record. False if it does not fit any more; each fits into an empty block.
    ///
    /// # Panics
    /// If attributes or name of the record are longer than they may be.
    #[must_use]
    pub fn push(&mut self, record: &Record) -> bool {
        if let Record::Word { volume, index, word } = *record {
            return self.push_word(volume, index, word);
        }
        let mut scratch = [0; RECORD];
        let (kind, volume, body) = record.frame(&mut scratch);
        self.words = None;
        self.push_frame(kind, volume, body)
    }

    /// Adds changes of structure that hold together or not at all: a block is never there in part. False if they do not all fit any more.
    #[must_use]
    pub fn push_together(&mut self, records: &[Record]) -> bool {
        debug_assert!(!records.iter().any(|record| matches!(record, Record::Word { .. })));
        let (filled, words) = (self.filled, self.words);
        if records.iter().all(|record| self.push(record)) {
            return true;
        }
        self.page[filled..self.filled].fill(0);
        (self.filled, self.words) = (filled, words);
        false
    }

    fn push_word(&mut self, volume: VolumeId, index: u64, word: u64) -> bool {
        let index = u32::try_from(index).expect("no volume has 2^32 clusters");
        let stored = StoredWord { index: index.into(), word: word.into() };
        debug_assert!(stored.load(volume).is_ok(), "word {word:#x} of cluster {index}");
        match self.words {
            Some((frame, same)) if same == volume => self.extend_frame(frame, stored.as_bytes()),
            _ => {
                let frame = self.filled;
                let fits = self.push_frame(kind::WORDS, volume, stored.as_bytes());
                self.words = if fits { Some((frame, volume)) } else { self.words };
                fits
            }
        }
    }

    fn push_frame(&mut self, kind: u8, volume: VolumeId, body: &[u8]) -> bool {
        debug_assert!(!volume.is_nobody());
        let Some(place) = self.page.get_mut(self.filled..self.filled + FRAME + body.len()) else {
            return false;
        };
        let len = (body.len() as u16).into();
        let header = FrameHeader { kind, reserved: 0, len, volume: volume.0.into() };
        place[..FRAME].copy_from_slice(header.as_bytes());
        place[FRAME..].copy_from_slice(body);
        self.filled += place.len();
        true
    }

    /// Adds to the body of the last frame, which starts at `frame`.
    fn extend_frame(&mut self, frame: usize, more: &[u8]) -> bool {
        let Some(place) = self.page.get_mut(self.filled..self.filled + more.len()) else {
            return false;
        };
        place.copy_from_slice(more);
        self.filled += more.len();
        let len = (self.filled - frame - FRAME) as u16;
        self.page[frame + 2..frame + 4].copy_from_slice(&len.to_le_bytes());
        true
    }

    /// Makes a block of the buffer.
    pub fn finish(self) {
        let mut header = BlockHeader::new_zeroed();
        header.magic = MAGIC;
        header.pool = self.stamp.pool.into_bytes();
        header.epoch = self.stamp.epoch.into();
        header.len = ((self.filled - HEADER) as u16).into();
        header.sequence = self.stamp.sequence.into();
        header.generation = self.stamp.generation.into();
        self.page[..HEADER].copy_from_slice(header.as_bytes());
        seal(self.page, CHECKSUM_AT);
    }
}

/// The records of the block, if it is the one looked for: intact, of this pool and epoch, with this sequence number.
pub fn read_block(bytes: &[u8], pool: Uuid, epoch: u32, sequence: u64) -> Option<Records<'_>> {
    let (header, page) = intact(bytes)?;
    let stamp = BlockStamp::of_header(&header);
    if (stamp.pool, stamp.epoch, stamp.sequence) != (pool, epoch, sequence) {
        return None;
    }
    Some(Records { page, at: HEADER, end: HEADER + usize::from(header.len.get()), stamp, words: None })
}

/// The header of the block, if the bytes are those that were written.
fn intact(bytes: &[u8]) -> Option<(BlockHeader, &[u8; PAGE])> {
    let page: &[u8; PAGE] = bytes.try_into().ok()?;
    let (header, _) = BlockHeader::read_from_prefix(page).ok()?;
    (header.magic == MAGIC && is_sealed(page, CHECKSUM_AT)).then_some((header, page))
}

/// The records of a block, in order. After an error comes nothing.
pub struct Records<'a> {
    page: &'a [u8; PAGE],
    stamp: BlockStamp,
    /// Where the next frame, or the next word, starts.
    at: usize,
    /// Where the records end.
    end: usize,
    /// Of which volume the words are that come next, and where they end.
    words: Option<(VolumeId, usize)>,
}

impl Records<'_> {
    /// What the block says of itself.
    pub fn stamp(&self) -> BlockStamp {
        self.stamp
    }

    fn read(&mut self) -> Result<Record, FormatError> {
        if let Some((volume, end)) = self.words {
            return self.word(volume, end);
        }
        let at = self.at;
        let Some(rest) = self.page.get(at..self.end) else {
            return Err(FormatError::wrong(OBJECT, 28, "the records end behind the block"));
        };
        let Ok((header, rest)) = FrameHeader::read_from_prefix(rest) else {
            return Err(FormatError::wrong(OBJECT, at, "half a record stands at the end"));
        };
        let len = usize::from(header.len.get());
        let Some(body) = rest.get(..len) else {
            return Err(FormatError::wrong(OBJECT, at + 2, "a record ends behind the others"));
        };
        let volume = VolumeId(header.volume.get());
        if header.reserved != 0 {
            return Err(FormatError::wrong(OBJECT, at + 1, "reserved bytes are not zero"));
        }
        if volume.is_nobody() {
            return Err(FormatError::wrong(OBJECT, at + 4, "a record is about nobody"));
        }
        if header.kind != kind::WORDS {
            self.at += FRAME + len;
            return Record::of_frame(&header, body).map_err(|error| error.further(at));
        }
        if len == 0 || !len.is_multiple_of(WORD) {
            return Err(FormatError::wrong(OBJECT, at + 2, format!("{len} bytes are no words")));
        }
        self.at += FRAME;
        self.word(volume, self.at + len)
    }

    /// The next of the words that end at `end`.
    fn word(&mut self, volume: VolumeId, end: usize) -> Result<Record, FormatError> {
        let at = self.at;
        self.at += WORD;
        self.words = (self.at < end).then_some((volume, end));
        let (stored, _) = StoredWord::read_from_prefix(&self.page[at..]).expect("the frame holds whole words");
        stored.load(volume).map_err(|error| error.further(at))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.end {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            (self.at, self.words) = (self.end, None);
        }
        Some(record)
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
