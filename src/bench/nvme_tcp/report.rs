//! What a run over NVMe/TCP measured, as a table for people and as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bench::report::{WaySummary, write_ways};

use super::load::Measured;
use super::{Connected, Namespace, Nqn, NvmeTcpConfig};

/// A run's result. Rates are for all connections together.
#[derive(Clone, Debug, Serialize)]
pub struct NvmeTcpReport {
    /// The subsystem.
    pub target: String,
    /// The host's name.
    pub host_nqn: Nqn,
    /// The namespace.
    pub namespace: u32,
    /// Bytes of a sector.
    pub sector_size: u64,
    /// The mix, by fio's name.
    pub rw: String,
    /// Bytes of a command.
    pub bs: u64,
    /// Commands in flight on each connection: less than asked for if the target's queues are shorter.
    pub iodepth: u32,
    /// I/O queues.
    pub connections: u32,
    /// Controllers to which they belong.
    pub controllers: usize,
    /// Whether writes carry their data in the capsule.
    pub in_capsule: bool,
    /// Header digests.
    pub header_digest: bool,
    /// Data digests.
    pub data_digest: bool,
    /// The core of the load.
    pub cores: [usize; 1],
    /// Seconds measured.
    pub runtime_s: f64,
    /// Processor seconds of the load's thread while it measured. It spins, so this tells only whether it had its core for itself.
    pub cpu_s: f64,
    /// Percent of the time in which the load had nothing to receive: near 0, the load generator is the slower side.
    pub waiting_percent: f64,
    /// Failed commands.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Reads.
    pub read: WaySummary,
    /// Writes.
    pub write: WaySummary,
}

impl NvmeTcpReport {
    pub(super) fn new(
        config: &NvmeTcpConfig,
        connected: &Connected,
        namespace: &Namespace,
        in_capsule: bool,
        measured: Measured,
    ) -> Self {
        let (read, write) = measured.results.ways(config.block_size);
        Self {
            target: config.target.to_string(),
            host_nqn: connected.host.nqn.clone(),
            namespace: namespace.id,
            sector_size: namespace.sector_bytes,
            rw: config.mix.to_string(),
            bs: config.block_size,
            iodepth: connected.depth,
            connections: config.connections,
            controllers: connected.associations.len(),
            in_capsule,
            header_digest: config.header_digest,
            data_digest: config.data_digest,
            cores: [config.core],
            runtime_s: measured.results.seconds(),
            cpu_s: measured.cpu_s,
            waiting_percent: measured.results.percent(measured.waiting_ticks),
            errors: measured.results.errors,
            first_error: measured.results.first_error,
            read,
            write,
        }
    }
}

impl fmt::Display for NvmeTcpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} bs={} iodepth={} connections={} core={}: {}, namespace {}, {}-byte sectors",
            self.rw,
            self.bs,
            self.iodepth,
            self.connections,
            self.cores[0],
            self.target,
            self.namespace,
            self.sector_size
        )?;
        write_ways(f, &self.read, &self.write)?;
        write!(
            f,
            "{:.2} s measured, {:.2} s of processor time, {:.1} % of it waiting for the target, {} errors",
            self.runtime_s, self.cpu_s, self.waiting_percent, self.errors
        )?;
        match &self.first_error {
            Some(error) => write!(f, "; the first: {error}"),
            None => Ok(()),
        }
    }
}

/// What became of connections that were held without load.
#[derive(Clone, Debug, Serialize)]
pub struct HoldReport {
    /// The subsystem.
    pub target: String,
    /// The host's name.
    pub host_nqn: Nqn,
    /// I/O queues that were opened.
    pub connections: u32,
    /// Controllers to which they belong; each has an admin connection besides.
    pub controllers: usize,
    /// Commands that a queue may have in flight.
    pub iodepth: u32,
    /// Seconds that it took to open all.
    pub opened_s: f64,
    /// Seconds that they were held.
    pub held_s: f64,
    /// Connections that are still open.
    pub alive: usize,
}

impl HoldReport {
    pub(super) fn new(
        config: &NvmeTcpConfig,
        connected: &Connected,
        opened: Duration,
        held: Duration,
        alive: usize,
    ) -> Self {
        Self {
            target: config.target.to_string(),
            host_nqn: connected.host.nqn.clone(),
            connections: config.connections,
            controllers: connected.associations.len(),
            iodepth: connected.depth,
            opened_s: opened.as_secs_f64(),
            held_s: held.as_secs_f64(),
            alive,
        }
    }

    /// Whether no connection was lost.
    pub fn all_alive(&self) -> bool {
        self.alive == self.connections as usize
    }
}

impl fmt::Display for HoldReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} I/O queues of {} commands on {} controllers, opened in {:.2} s and held for {:.2} s; {} are still open",
            self.target, self.connections, self.iodepth, self.controllers, self.opened_s, self.held_s, self.alive
        )
    }
}
