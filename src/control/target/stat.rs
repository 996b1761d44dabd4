//! What disks have done since they were opened. Numbers only grow; who wants rates asks twice.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::config::known;
use crate::control::rpc::Refusal;
use crate::disk::{CommandKind, Disk, DiskStats, Latency};
use crate::volume::PoolInfo;

use super::Target;

/// Which disk; all, if it is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatOf {
    /// The disk.
    #[serde(default)]
    pub name: Option<String>,
}

/// What a disk has done since it was opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatReport {
    /// The disk.
    pub name: String,
    /// The pool that it lies in.
    #[serde(default)]
    pub pool: Option<PoolSpace>,
    /// Seconds since the target serves.
    pub uptime_s: f64,
    /// Seconds in which commands were in flight, summed over the reactors.
    pub busy_s: f64,
    /// Reads.
    pub read: WayReport,
    /// Writes, those of compare and write not counted.
    pub write: WayReport,
    /// Flushes.
    pub flush: WayReport,
    /// Discards.
    pub discard: TallyReport,
    /// Write zeroes.
    pub write_zeroes: TallyReport,
    /// Compares.
    pub compare: TallyReport,
    /// Compare and write.
    pub compare_and_write: TallyReport,
    /// Verifies.
    pub verify: TallyReport,
}

/// The space of a disk's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpace {
    /// The pool.
    pub name: String,
    /// Bytes that new data can have.
    pub free_bytes: u64,
    /// Whether that is little.
    pub low_space: bool,
}

/// Commands of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct TallyReport {
    /// Commands that have ended, failed ones included.
    pub commands: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
    /// Commands that failed.
    pub errors: u64,
}

/// Commands of a kind whose latency is measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WayReport {
    /// How many.
    #[serde(flatten)]
    pub tally: TallyReport,
    /// How long they took; absent before the first one.
    pub latency_us: Option<LatencyReport>,
    /// The histogram: from this many nanoseconds on, up to but not including this many, so many commands. Empty buckets are left out.
    pub histogram_ns: Vec<(u64, u64, u64)>,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LatencyReport {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// The longest, as far as the histogram tells.
    pub max: f64,
}

impl LatencyReport {
    fn of(latency: &Latency) -> Option<Self> {
        let us = |time: Duration| time.as_nanos() as f64 / 1000.0;
        let quantile = |part| latency.quantile(part).map(us);
        Some(Self {
            mean: us(latency.mean()?),
            p50: quantile(0.5)?,
            p90: quantile(0.9)?,
            p99: quantile(0.99)?,
            p99_9: quantile(0.999)?,
            max: quantile(1.0)?,
        })
    }
}

impl StatReport {
    fn of(disk: &Disk, pool: Option<PoolSpace>, uptime: Duration) -> Self {
        let stats = disk.stats();
        let tally = |kind| tally(&stats, kind);
        let way = |kind| way(&stats, kind);
        Self {
            name: disk.name().to_owned(),
            pool,
            uptime_s: uptime.as_secs_f64(),
            busy_s: stats.busy().as_secs_f64(),
            read: way(CommandKind::Read),
            write: way(CommandKind::Write),
            flush: way(CommandKind::Flush),
            discard: tally(CommandKind::Discard),
            write_zeroes: tally(CommandKind::WriteZeroes),
            compare: tally(CommandKind::Compare),
            compare_and_write: tally(CommandKind::CompareAndWrite),
            verify: tally(CommandKind::Verify),
        }
    }
}

fn tally(stats: &DiskStats, kind: CommandKind) -> TallyReport {
    let tally = stats.tally(kind);
    TallyReport { commands: tally.commands, bytes: tally.bytes, errors: tally.errors }
}

fn way(stats: &DiskStats, kind: CommandKind) -> WayReport {
    let latency = stats.latency(kind);
    let buckets = latency.iter().flat_map(|latency| latency.buckets());
    WayReport {
        tally: tally(stats, kind),
        latency_us: latency.and_then(LatencyReport::of),
        histogram_ns: buckets.map(|(from, to, count)| (from.as_nanos() as u64, to.as_nanos() as u64, count)).collect(),
    }
}

impl Target {
    pub(in crate::control) fn stat(&self, StatOf { name }: &StatOf) -> Result<Vec<StatReport>, Refusal> {
        // Counters are summed up with no lock held.
        let disks: Vec<_> = {
            let state = self.state();
            if let Some(name) = name {
                known("disk", name, state.config.disks.iter().map(|disk| &disk.name))?;
            }
            let open = state.disks.all_open().into_iter();
            let wanted = open.filter(|disk| name.as_deref().is_none_or(|name| disk.name() == name));
            let with_pool =
                |disk: Arc<Disk>| (state.config.pool_of(disk.name()).ok().flatten().map(str::to_owned), disk);
            wanted.map(with_pool).collect()
        };
        let uptime = self.started.elapsed();
        let stat =
            |(pool, disk): &(Option<String>, Arc<Disk>)| StatReport::of(disk, self.space(pool.as_deref()), uptime);
        Ok(disks.iter().map(stat).collect())
    }

    fn space(&self, pool: Option<&str>) -> Option<PoolSpace> {
        let PoolInfo { name, free_bytes, low_space, .. } = self.storage.pool(pool?).ok()?.pool.info();
        Some(PoolSpace { name, free_bytes, low_space })
    }
}
