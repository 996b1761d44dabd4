//! The process: what it got at its start, how it fares, and what it logs.

use serde::{Deserialize, Serialize};

use crate::control::rpc::{Kind, Refusal};
use crate::memory::Pages;
use crate::reactor::{ReactorThread, StartReport};

use super::{Changed, Target};

/// The process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetReport {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it serves.
    pub uptime_s: u64,
    /// The region that it serves.
    pub region: String,
    /// Its reactors.
    pub reactors: Vec<ReactorReport>,
}

/// A reactor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReactorReport {
    /// The core that it is pinned to.
    pub core: usize,
    /// Bytes of its buffers.
    pub memory_bytes: usize,
    /// What these are on.
    pub memory: String,
    /// What its io_uring can do.
    pub io_uring: String,
    /// How often it went to sleep.
    pub sleeps: u64,
}

impl ReactorReport {
    pub(super) fn new(reactor: &ReactorThread) -> Self {
        let StartReport { core, memory, pages, ring } = reactor.report();
        Self { core: *core, memory_bytes: *memory, memory: describe_pages(pages), io_uring: ring.describe(), sleeps: 0 }
    }
}

/// Buffers in the words of the start-up report.
pub(in crate::control) fn describe_pages(pages: &Pages) -> String {
    match pages {
        Pages::Huge => "2 MiB hugepages".to_owned(),
        Pages::Normal(why) => format!("normal pages ({why})"),
    }
}

/// What is logged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogReport {
    /// The filter.
    pub filter: String,
}

/// What is to be logged; nothing changes without a filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLogFilter {
    /// The filter.
    #[serde(default)]
    pub filter: Option<String>,
}

impl Target {
    pub(in crate::control) fn report(&self) -> TargetReport {
        let sleeps = self.remotes.iter().map(|remote| remote.stats().sleeps());
        let reactors =
            self.reactors.iter().zip(sleeps).map(|(reactor, sleeps)| ReactorReport { sleeps, ..reactor.clone() });
        TargetReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            region: self.state().config.region.clone(),
            reactors: reactors.collect(),
        }
    }

    pub(in crate::control) fn log_level(&self, new: NewLogFilter) -> Result<Changed<LogReport>, Refusal> {
        if let Some(filter) = new.filter {
            self.log.set(&filter).map_err(|e| Refusal::new(Kind::Refused, e.to_string()))?;
        }
        Ok(Changed::new(LogReport { filter: self.log.text() }))
    }
}
