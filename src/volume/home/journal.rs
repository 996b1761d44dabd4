//! The journal's ring: where the next block goes, what may not be overwritten yet, and reading it back.
//!
//! Blocks from `start` on, which the durable superblock names, are needed until a checkpoint is durable that begins later. A block counts only
//! with the epoch of this opening and the next sequence number, so what an earlier opening left in the ring is never taken for what follows.

use std::cell::Cell;

use crate::device::{DeviceHandle, IoError, read_whole, write_whole};
use crate::memory::{Buffer, LARGEST_BUFFER};
use crate::reactor::Reactor;

use super::super::format::{
    BlockStamp, BlockWriter, JournalArea, JournalStart, Record, Superblock, WORDS_PER_BLOCK, read_block,
};
use super::super::map::Word;
use super::super::units::{PAGE, VolumeId};

/// What a commit writes: words, and then a change that comes after all of them.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) words: Vec<(VolumeId, u64, Word)>,
    /// Records that make one change: they stand in one block, so a power cut leaves all of them or none. They are few enough for an empty one.
    pub(super) change: Vec<Record>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.change.is_empty()
    }
}

/// The ring.
pub(super) struct Journal {
    area: JournalArea,
    /// What all blocks of this opening say.
    pool: uuid::Uuid,
    epoch: u32,
    /// From here on blocks are needed.
    start: Cell<JournalStart>,
    /// The next block.
    head: Cell<JournalStart>,
}

impl Journal {
    /// A ring in which nothing is needed and the next block is this one.
    pub(super) fn new(superblock: &Superblock, epoch: u32, head: JournalStart) -> Self {
        let (area, pool) = (superblock.journal, superblock.pool);
        Self { area, pool, epoch, start: Cell::new(head), head: Cell::new(head) }
    }

    /// The next block: what a checkpoint that begins now names as the start.
    pub(super) fn head(&self) -> JournalStart {
        self.head.get()
    }

    fn used(&self) -> u32 {
        (self.head.get().sequence - self.start.get().sequence) as u32
    }

    /// Whether it is time for a checkpoint.
    pub(super) fn is_half_full(&self) -> bool {
        self.used() > self.area.blocks / 2
    }

    /// A durable superblock names this start.
    pub(super) fn starts_at(&self, start: JournalStart) {
        self.start.set(start);
    }

    /// The blocks of the batches; none if they do not fit. `generation` is that of the durable superblock.
    pub(super) fn encode(&self, batches: &[Batch], generation: u64) -> Option<Vec<u8>> {
        let free = (self.area.blocks - self.used()) as usize;
        let words: usize = batches.iter().map(|batch| batch.words.len()).sum();
        if words / WORDS_PER_BLOCK > free {
            return None;
        }
        let stamp = BlockStamp { pool: self.pool, epoch: self.epoch, sequence: self.head.get().sequence, generation };
        let mut blocks = Blocks { bytes: Vec::new(), next: stamp };
        blocks.fill(batches);
        (blocks.bytes.len() / PAGE <= free).then_some(blocks.bytes)
    }

    /// Writes encoded blocks, through the buffer. They are durable after the device's next flush.
    pub(super) async fn append(&self, device: &DeviceHandle, bytes: &[u8], buffer: &mut Buffer) -> Result<(), IoError> {
        let mut rest = bytes;
        let mut head = self.head.get();
        while !rest.is_empty() {
            let until_end = (self.area.blocks - head.block) as usize * PAGE;
            let (now, later) = rest.split_at(rest.len().min(until_end).min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            write_whole(device, self.area.page(head.block).byte(), buffer, 0..now.len()).await?;
            let blocks = (now.len() / PAGE) as u32;
            head = JournalStart {
                block: (head.block + blocks) % self.area.blocks,
                sequence: head.sequence + u64::from(blocks),
            };
            rest = later;
        }
        self.head.set(head);
        Ok(())
    }
}

/// Blocks that are being filled.
struct Blocks {
    bytes: Vec<u8>,
    next: BlockStamp,
}

impl Blocks {
    fn fill(&mut self, batches: &[Batch]) {
        let mut pieces = batches.iter().flat_map(Piece::all_of).peekable();
        while pieces.peek().is_some() {
            let at = self.bytes.len();
            self.bytes.resize(at + PAGE, 0);
            let mut writer = BlockWriter::new(&mut self.bytes[at..], self.next);
            while pieces.next_if(|piece| piece.push_into(&mut writer)).is_some() {}
            writer.finish();
            self.next.sequence += 1;
        }
    }
}

/// What has to stand in one block.
enum Piece<'a> {
    Word(Record),
    Change(&'a [Record]),
}

impl<'a> Piece<'a> {
    fn all_of(batch: &'a Batch) -> impl Iterator<Item = Self> {
        let word = |&(volume, index, word): &(VolumeId, u64, Word)| Record::Word { volume, index, word: word.0 };
        let change = (!batch.change.is_empty()).then_some(Piece::Change(&batch.change));
        batch.words.iter().map(move |of| Piece::Word(word(of))).chain(change)
    }

    fn push_into(&self, writer: &mut BlockWriter<'_>) -> bool {
        match self {
            Self::Word(word) => writer.push(word),
            Self::Change(records) => writer.push_together(records),
        }
    }
}

/// Reads what is to be replayed: all records from the superblock's start on, up to the first block that does not follow. Gives the block after the
/// last one, and the newest superblock that a block knows of.
pub(super) async fn replay(
    reactor: &Reactor,
    device: &DeviceHandle,
    superblock: &Superblock,
    mut each: impl FnMut(Record),
) -> Result<(JournalStart, u64), IoError> {
    let area = superblock.journal;
    let mut buffer = reactor.buffers().take(LARGEST_BUFFER.min(area.blocks as usize * PAGE)).await;
    let start = superblock.start;
    let (mut head, mut generation) = (start, 0);
    while head.sequence - start.sequence < u64::from(area.blocks) {
        let blocks = ((area.blocks - head.block) as usize).min(buffer.len() / PAGE);
        read_whole(device, area.page(head.block).byte(), &mut buffer, 0..blocks * PAGE).await?;
        for block in buffer[..blocks * PAGE].chunks(PAGE) {
            let Some(records) = read_block(block, superblock.pool, superblock.epoch, head.sequence) else {
                // Not the next one; but it may tell of a superblock that has been lost since.
                let stamp = BlockStamp::of(block).filter(|stamp| stamp.pool == superblock.pool);
                return Ok((head, stamp.map_or(generation, |stamp| generation.max(stamp.generation))));
            };
            generation = generation.max(records.stamp().generation);
            for record in records {
                match record {
                    Ok(record) => each(record),
                    // Its checksum is right, so we wrote it; nothing that follows can be trusted to be read rightly either.
                    Err(error) => {
                        tracing::error!("journal block {}: {error}; the replay ends there", head.sequence);
                        return Ok((head, generation));
                    }
                }
            }
            head = JournalStart { block: area.after(head.block), sequence: head.sequence + 1 };
        }
    }
    Ok((head, generation))
}
