//! The load generator: drives a disk inside this process, as SPDK's bdevperf and fio do, without any protocol in between; or a target of any
//! make over NVMe/TCP ([`nvme_tcp`]) or vhost-user ([`vhost_user`]).
//!
//! In process, each core has one job: a reactor whose slots keep `iodepth` commands in flight. A slot notes the time when a command completes, which
//! is also when its next one starts; latencies go into HdrHistograms in clock ticks and become time when the run is over.

mod job;
pub mod nvme_tcp;
mod pattern;
mod process;
mod report;
mod results;
pub mod vhost_user;
mod workload;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use crate::disk::{Consumer, Disk};
use crate::reactor::ReactorThread;

pub use report::{LatencySummary, Report, WaySummary};
pub use workload::{Access, Mix, UnknownMix};

use job::{Job, Progress};
use results::Results;

/// What to run.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// Reads, writes or both, in order or at random.
    pub mix: Mix,
    /// Percent of reads in a mix of both.
    pub read_percent: u32,
    /// Bytes of a command.
    pub block_size: u64,
    /// Commands in flight for each core.
    pub iodepth: u32,
    /// How long to measure.
    pub runtime: Duration,
    /// How long to run before that.
    pub ramp: Duration,
    /// One reactor on each.
    pub cores: Vec<usize>,
    /// Check all that is read.
    pub verify: bool,
    /// Seed of places and data.
    pub seed: u64,
}

/// Why a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The configuration cannot be run.
    #[error("{0}")]
    Config(String),
    /// A reactor could not open the disk.
    #[error(transparent)]
    Disk(#[from] crate::disk::DiskError),
}

/// Runs the load, a job on each of the configuration's cores, whose reactors these are, and returns what was measured; `progress` is called about once a second with the commands done so far.
pub fn run(
    config: &BenchConfig,
    reactors: &[ReactorThread],
    disk: &Arc<Disk>,
    mut progress: impl FnMut(Duration, u64),
) -> Result<Report, BenchError> {
    check(config, disk)?;
    let counters = Arc::new(Progress::for_jobs(reactors.len()));
    let (results, finished) = mpsc::channel();
    let cpu_before = process::process_cpu_seconds();
    let start = std::time::Instant::now();
    // All cores are one consumer under the disk's limits.
    let consumer = Consumer::new_one();
    for (number, reactor) in reactors.iter().enumerate() {
        let (config, disk, counters, results) = (config.clone(), disk.clone(), counters.clone(), results.clone());
        let consumer = consumer.clone();
        reactor.remote().post(move |reactor| match disk.queue(reactor) {
            Ok(queue) => Job::start(reactor, queue, &consumer, config, number, counters, results),
            Err(e) => drop(results.send(Err(e))),
        });
    }
    drop(results);
    let mut all: Vec<Results> = Vec::new();
    loop {
        match finished.recv_timeout(Duration::from_secs(1)) {
            Ok(result) => all.push(result?),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                progress(start.elapsed(), counters.jobs.iter().map(|c| c.done.load(Ordering::Relaxed)).sum());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let cpu_s = process::process_cpu_seconds() - cpu_before;
    Ok(Report::new(config, disk, cpu_s, all))
}

fn check(config: &BenchConfig, disk: &Disk) -> Result<(), BenchError> {
    let wrong = |text: String| Err(BenchError::Config(text));
    let sector = disk.sector_size().bytes() as u64;
    if config.block_size == 0 || !config.block_size.is_multiple_of(sector) {
        return wrong(format!("--bs {} is not a multiple of the disk's {sector}-byte sectors", config.block_size));
    }
    if config.block_size > crate::memory::LARGEST_BUFFER as u64 {
        return wrong(format!("--bs {} is more than {} bytes", config.block_size, crate::memory::LARGEST_BUFFER));
    }
    let needed = config.block_size * u64::from(config.iodepth) * config.cores.len() as u64;
    if disk.size() < needed {
        return wrong(format!("the disk has {} bytes; {needed} are needed for one command of every slot", disk.size()));
    }
    if config.iodepth == 0 || config.cores.is_empty() {
        return wrong("at least one core and --iodepth 1 are needed".to_owned());
    }
    Ok(())
}
