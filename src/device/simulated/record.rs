//! The record of a run: every write and flush in the order in which the device took them, to be replayed as dm-log-writes does.
//!
//! A write is recorded when it becomes visible, a flush when it starts. Each beginning of the record is therefore a state in which a
//! power cut could have left the device.

use std::sync::Arc;

use super::cache::{Completed, Content};
use super::{Cache, SimulatedConfig, SimulatedDevice};

/// One command.
#[derive(Clone)]
pub(super) enum Entry {
    Write { at: u64, data: Arc<[u8]> },
    Zeros { at: u64, len: usize },
    Flush,
}

impl Entry {
    pub(super) fn of(at: u64, content: Content<'_>) -> Self {
        match content {
            Content::Data(data) => Self::Write { at, data: data.into() },
            Content::Zeros(len) => Self::Zeros { at, len },
        }
    }

    pub(super) fn apply(&self, cache: &Cache, write: u64) {
        match self {
            Self::Write { at, data } => cache.write(write, *at, Content::Data(data)),
            Self::Zeros { at, len } => cache.write(write, *at, Content::Zeros(*len)),
            Self::Flush => {}
        }
    }
}

/// Writes and flushes, and what the device held before them.
#[derive(Clone)]
pub struct Record {
    pub(super) config: SimulatedConfig,
    pub(super) before: Arc<Cache>,
    pub(super) entries: Vec<Entry>,
}

impl Record {
    /// How many writes and flushes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The device as it was after the first `count` entries; it records nothing itself.
    pub fn replay_to(&self, count: usize) -> SimulatedDevice {
        let mut replay = self.replay();
        replay.advance(count);
        replay.device()
    }

    /// A walk through the record.
    pub fn replay(&self) -> Replay<'_> {
        Replay { record: self, cache: (*self.before).clone(), position: 0 }
    }
}

/// A walk through a record: each step costs what was written since the one before.
pub struct Replay<'a> {
    record: &'a Record,
    cache: Cache,
    position: usize,
}

impl Replay<'_> {
    /// How many entries are applied.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Goes on behind the next flush and gives the device as it was then; none at the end of the record.
    pub fn next_flush(&mut self) -> Option<SimulatedDevice> {
        let rest = &self.record.entries[self.position..];
        let flush = rest.iter().position(|entry| matches!(entry, Entry::Flush))?;
        self.advance(flush + 1);
        Some(self.device())
    }

    fn advance(&mut self, count: usize) {
        for entry in &self.record.entries[self.position..self.position + count] {
            entry.apply(&self.cache, 0);
        }
        self.cache.flush(&Completed { next: u64::MAX, in_flight: Vec::new() });
        self.position += count;
    }

    fn device(&self) -> SimulatedDevice {
        let config = SimulatedConfig { is_recorded: false, ..self.record.config };
        SimulatedDevice::with_cache(config, self.cache.clone())
    }
}
