//! What a run measured, as a table for people and as JSON.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::crypto::xts::Kernel;
use crate::disk::Disk;

use super::BenchConfig;
use super::results::Results;

/// A run's result. Rates are for all cores together.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The mix, by fio's name.
    pub rw: String,
    /// Bytes of a command.
    pub bs: u64,
    /// Commands in flight for each core.
    pub iodepth: u32,
    /// Seconds measured.
    pub runtime_s: f64,
    /// The cores.
    pub cores: Vec<usize>,
    /// The disk.
    pub disk: String,
    /// `aes-256-xts` or `none`.
    pub encryption: &'static str,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// The kernel of the cipher.
    pub kernel: Option<String>,
    /// Processor seconds of the whole process, ramp included.
    pub cpu_s: f64,
    /// Failed commands and failed comparisons.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Reads.
    pub read: WaySummary,
    /// Writes.
    pub write: WaySummary,
}

/// Reads or writes.
#[derive(Clone, Debug, Serialize)]
pub struct WaySummary {
    /// Commands.
    pub ios: u64,
    /// Commands a second.
    pub iops: f64,
    /// MiB a second.
    pub mib_per_s: f64,
    /// How long commands took.
    pub latency_us: LatencySummary,
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencySummary {
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
    /// 99.99th percentile.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

impl Report {
    pub(super) fn new(config: &BenchConfig, disk: &Disk, cpu_s: f64, jobs: Vec<Results>) -> Self {
        let mut jobs = jobs.into_iter();
        let mut sum = jobs.next().expect("at least one core");
        jobs.for_each(|job| sum.add(job));
        let (read, write) = sum.ways(config.block_size);
        Self {
            rw: config.mix.to_string(),
            bs: config.block_size,
            iodepth: config.iodepth,
            runtime_s: sum.seconds(),
            cores: config.cores.clone(),
            disk: disk.name().to_owned(),
            encryption: if disk.is_encrypted() { "aes-256-xts" } else { "none" },
            sector_size: disk.sector_size().bytes() as u32,
            kernel: disk.kernel().map(|kernel: Kernel| kernel.to_string()),
            cpu_s,
            errors: sum.errors,
            first_error: sum.first_error,
            read,
            write,
        }
    }
}

impl WaySummary {
    pub(super) fn new(histogram: &Histogram<u64>, block_size: u64, seconds: f64, to_us: f64) -> Self {
        let ios = histogram.len();
        let iops = if seconds > 0.0 { ios as f64 / seconds } else { 0.0 };
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 * to_us;
        let latency_us = LatencySummary {
            mean: histogram.mean() * to_us,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 * to_us,
        };
        Self { ios, iops, mib_per_s: iops * block_size as f64 / f64::from(1 << 20), latency_us }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel.as_ref().map_or(String::new(), |kernel| format!(" (kernel {kernel})"));
        writeln!(
            f,
            "{} bs={} iodepth={} cores={:?}: disk {}, {}-byte sectors, encryption {}{kernel}",
            self.rw, self.bs, self.iodepth, self.cores, self.disk, self.sector_size, self.encryption
        )?;
        write_ways(f, &self.read, &self.write)?;
        write!(f, "{:.2} s measured, {:.2} s of processor time, {} errors", self.runtime_s, self.cpu_s, self.errors)?;
        match &self.first_error {
            Some(error) => write!(f, "; the first: {error}"),
            None => Ok(()),
        }
    }
}

/// The table of what was done of reads and writes.
pub(super) fn write_ways(f: &mut fmt::Formatter<'_>, read: &WaySummary, write: &WaySummary) -> fmt::Result {
    writeln!(f, "          IOPS      MiB/s   mean µs    p50    p90    p99  p99.9 p99.99       max")?;
    for (name, way) in [("read", read), ("write", write)] {
        if way.ios > 0 {
            let l = &way.latency_us;
            writeln!(
                f,
                "{name:5} {:9.0} {:10.1} {:9.2} {:6.2} {:6.2} {:6.2} {:6.2} {:6.2} {:9.1}",
                way.iops, way.mib_per_s, l.mean, l.p50, l.p90, l.p99, l.p99_9, l.p99_99, l.max
            )?;
        }
    }
    Ok(())
}
