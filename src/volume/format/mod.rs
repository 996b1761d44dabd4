//! The pool's format: how a pool lies on its device. Bytes to values and back, and nothing else: no I/O, no state.
//!
//! What the bytes are, in which order they are written and why that survives a power cut stands in `FORMAT.md`, which follows below. What comes
//! from a device is never trusted: each field is checked, and what is wrong becomes a [`FormatError`].
#![doc = include_str!("FORMAT.md")]

mod area;
mod block;
pub mod catalog;
mod error;
mod features;
#[cfg(test)]
mod hostile;
mod journal;
mod key;
pub mod leaf;
pub mod node;
mod owner;
mod page;
mod pointer;
mod record;
mod superblock;
#[cfg(test)]
mod testing;

pub use area::{JournalArea, JournalStart};
pub use block::{BlockStamp, BlockWriter, Records, WORDS_PER_BLOCK, read_block};
pub use error::{FeatureBits, FormatError};
pub use features::Features;
pub use journal::Record;
pub use key::{COPY, KeyCopy, KeySlot, LONGEST_KEY, MOST_KEY_CLUSTERS, SLOTS_PER_CLUSTER, SealedKey};
pub use owner::{LONGEST_HOST, Owner};
pub use pointer::PagePointer;
pub use record::{
    LONGEST_NAME, MOST_ATTRIBUTES, RECORD, SIZE_UNIT, SNAPSHOT_SIGN, VolumeKind, VolumeRecord, is_name, is_size,
};
pub use superblock::Superblock;

/// The version of the format that is written, and the latest that is read.
pub const VERSION: u32 = 1;
