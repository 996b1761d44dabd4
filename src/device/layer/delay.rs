//! The delay layer: each command waits before it goes on, as on a slower device. Commands wait side by side, not in a row.

use std::time::Duration;

use serde::Deserialize;

use crate::reactor::Reactor;

use super::{Command, CommandKind};

/// How long commands wait, in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DelayConfig {
    /// Reads.
    pub read_us: u64,
    /// Writes.
    pub write_us: u64,
    /// Flushes.
    pub flush_us: u64,
    /// Discards and writes of zeroes.
    pub discard_us: u64,
}

/// Makes commands slow.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    config: DelayConfig,
}

impl Delay {
    /// A layer that waits as the configuration says.
    pub fn new(config: &DelayConfig) -> Self {
        Self { config: *config }
    }

    pub(super) async fn wait(&self, reactor: &Reactor, command: Command) {
        let us = match command.kind {
            CommandKind::Read => self.config.read_us,
            CommandKind::Write => self.config.write_us,
            CommandKind::Flush => self.config.flush_us,
            CommandKind::Discard | CommandKind::WriteZeroes => self.config.discard_us,
        };
        if us > 0 {
            reactor.sleep(Duration::from_micros(us)).await;
        }
    }
}
