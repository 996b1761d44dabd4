//! A disk under the load of `strongroom bench`: on a volume of a pool, or on the same device without a pool; with limits or without.
//!
//! Every block is written before anything is measured. The reactor under load is the pool's home too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args as Arguments, ValueEnum};
use strongroom::bench::{self, BenchConfig, Mix};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceConfig, DeviceKind, SharedDevice, Size};
use strongroom::disk::{Disk, Limits};
use strongroom::memory::{HugePages, LARGEST_BUFFER};
use strongroom::reactor::{Reactor, ReactorConfig, ReactorThread, Remote};
use strongroom::volume::{FormatOptions, NewVolume, OpenOptions, Pool, Volume};

use super::{CLUSTER, Outcome, on};

/// A device in memory is larger by so much, for a pool on it.
const SPARE_MIB: u64 = 64;

/// One measurement.
#[derive(Arguments)]
pub struct Args {
    /// What the disk stands on
    #[arg(long, value_enum)]
    stands_on: StandsOn,
    /// The file, whose content is lost; a device in memory if left out
    #[arg(long)]
    file: Option<PathBuf>,
    /// MiB of a disk in memory
    #[arg(long)]
    mib: u64,
    /// Encrypt it
    #[arg(long)]
    encrypted: bool,
    /// I/Os a second that it may do at most
    #[arg(long)]
    iops: Option<u64>,
    /// What is done
    #[arg(long)]
    rw: Mix,
    /// Commands in flight
    #[arg(long)]
    depth: u32,
    /// Seconds to measure
    #[arg(long)]
    seconds: f64,
    /// Seconds of load before that
    #[arg(long)]
    ramp: f64,
    /// Never sleep, for programs that look on and cannot bear it
    #[arg(long)]
    spin: bool,
    /// The core
    #[arg(long)]
    core: usize,
}

/// What a disk stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StandsOn {
    /// A volume of a pool.
    Pool,
    /// The device itself.
    Device,
}

impl StandsOn {
    /// Its name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }
}

/// Measures, and gives what `strongroom bench --json` would print.
pub fn measure(args: Args) -> Outcome<String> {
    let mut reactor = ReactorConfig::default();
    if args.spin {
        reactor.idle_us = 0;
    }
    let reactor = ReactorThread::start(args.core, &reactor)?;
    let device = Arc::new(SharedDevice::open(&device(&args))?);
    let disk = match args.stands_on {
        StandsOn::Device => disk(&args, device)?,
        StandsOn::Pool => disk(&args, volume(&args, device, reactor.remote())?)?,
    };
    let to_fill = disk.clone();
    on(reactor.remote(), async move |reactor| fill(&reactor, &to_fill).await)?;
    disk.set_limits(args.iops.map(|iops| Limits { iops, ..Limits::default() }));
    let config = BenchConfig {
        mix: args.rw,
        read_percent: 0,
        block_size: super::BLOCK,
        iodepth: args.depth,
        runtime: Duration::try_from_secs_f64(args.seconds)?,
        ramp: Duration::try_from_secs_f64(args.ramp)?,
        cores: vec![args.core],
        verify: false,
        seed: 1,
    };
    let report = bench::run(&config, &[reactor], &disk, |_, _| {})?;
    Ok(serde_json::to_string(&report)?)
}

fn device(args: &Args) -> DeviceConfig {
    let spare = match args.stands_on {
        StandsOn::Pool => SPARE_MIB,
        StandsOn::Device => 0,
    };
    DeviceConfig {
        name: "perf".into(),
        kind: if args.file.is_some() { DeviceKind::File } else { DeviceKind::Memory },
        size: args.file.is_none().then_some(Size((args.mib + spare) << 20)),
        path: args.file.clone(),
        create: false,
        hugepages: HugePages::Prefer,
        layers: Vec::new(),
    }
}

fn disk(args: &Args, ground: impl Into<strongroom::disk::Ground>) -> Outcome<Arc<Disk>> {
    Ok(match args.encrypted {
        true => Disk::with_random_key("perf", ground, SectorSize::B4096, Kernel::best())?,
        false => Disk::plain("perf", ground, SectorSize::B4096)?,
    })
}

/// A volume as large as the disk in memory, or as the file allows.
fn volume(args: &Args, device: Arc<SharedDevice>, home: &Remote) -> Outcome<Arc<Volume>> {
    Pool::format("perf", device.clone(), home, FormatOptions::default())?;
    let pool = Pool::open("perf", device, home, OpenOptions::default())?;
    let size = match args.file {
        None => args.mib << 20,
        Some(_) => pool.info().free_bytes / 64 * 63 / CLUSTER * CLUSTER,
    };
    Ok(pool.create_volume(NewVolume { name: "v".into(), size, attributes: Vec::new(), key: None })?)
}

/// Writes every block, and makes that durable.
async fn fill(reactor: &Reactor, disk: &Arc<Disk>) -> Outcome<()> {
    let queue = disk.queue(reactor)?;
    let mut buffer = reactor.buffers().take(LARGEST_BUFFER).await;
    buffer.fill(0x5a);
    let whole = ByteRange::new(0, disk.size()).expect("a disk has a size");
    for range in whole.pieces(LARGEST_BUFFER as u64) {
        queue.write(range, &[buffer.segment(0..range.len() as usize)]).await?;
    }
    Ok(queue.flush().await?)
}
