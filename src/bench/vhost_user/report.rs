//! What a run over vhost-user measured, as a table for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::report::{WaySummary, write_ways};

use super::load::Measured;
use super::{RingKind, Started, VhostUserConfig};

/// A run's result. Rates are for all queues together.
#[derive(Clone, Debug, Serialize)]
pub struct VhostUserReport {
    /// The socket.
    pub target: String,
    /// Bytes of the disk.
    pub disk_size: u64,
    /// Bytes of a block, as the device tells it.
    pub sector_size: u64,
    /// The mix, by fio's name.
    pub rw: String,
    /// Bytes of a request.
    pub bs: u64,
    /// Requests in flight on each queue.
    pub iodepth: u32,
    /// Queues.
    pub queues: u32,
    /// Kind of the rings.
    pub ring: RingKind,
    /// Whether a request takes one entry of its ring, with its pieces in a table beside it.
    pub indirect: bool,
    /// Whether rings and data lie on reserved hugepages.
    pub hugepages: bool,
    /// The core of the load.
    pub cores: [usize; 1],
    /// Seconds measured.
    pub runtime_s: f64,
    /// Processor seconds of the load's thread while it measured. It spins, so this tells only whether it had its core for itself.
    pub cpu_s: f64,
    /// Percent of the time in which the load had nothing to take: near 0, the load generator is the slower side.
    pub waiting_percent: f64,
    /// How often the device wanted to be woken.
    pub kicks: u64,
    /// Failed requests.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Reads.
    pub read: WaySummary,
    /// Writes.
    pub write: WaySummary,
}

impl VhostUserReport {
    pub(super) fn new(config: &VhostUserConfig, started: &Started, measured: Measured) -> Self {
        let (read, write) = measured.results.ways(config.block_size);
        Self {
            target: config.socket.display().to_string(),
            disk_size: started.disk_bytes,
            sector_size: started.sector_bytes,
            rw: config.mix.to_string(),
            bs: config.block_size,
            iodepth: config.iodepth,
            queues: config.queues,
            ring: config.ring,
            indirect: started.is_indirect,
            hugepages: started.is_huge,
            cores: [config.core],
            runtime_s: measured.results.seconds(),
            cpu_s: measured.cpu_s,
            waiting_percent: measured.results.percent(measured.waiting_ticks),
            kicks: measured.kicks,
            errors: measured.results.errors,
            first_error: measured.results.first_error,
            read,
            write,
        }
    }
}

impl fmt::Display for VhostUserReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indirect = if self.indirect { ", indirect" } else { "" };
        let pages = if self.hugepages { "hugepages" } else { "normal pages" };
        writeln!(
            f,
            "{} bs={} iodepth={} queues={} core={}: {}, {}-byte sectors, {} rings{indirect}, {pages}",
            self.rw, self.bs, self.iodepth, self.queues, self.cores[0], self.target, self.sector_size, self.ring
        )?;
        write_ways(f, &self.read, &self.write)?;
        write!(
            f,
            "{:.2} s measured, {:.2} s of processor time, {:.1} % of it waiting for the device, {} kicks, {} errors",
            self.runtime_s, self.cpu_s, self.waiting_percent, self.kicks, self.errors
        )?;
        match &self.first_error {
            Some(error) => write!(f, "; the first: {error}"),
            None => Ok(()),
        }
    }
}
