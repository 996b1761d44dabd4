//! `strongroom bench`: the load generator on the command line, with fio's words.

mod nvme_tcp;
mod vhost_user;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bench::nvme_tcp::{Address, NotAnAddress};
use crate::bench::vhost_user::{self as vhost, Socket};
use crate::bench::{self, BenchConfig, Mix, Report};
use crate::control::{CLOSE_LIMIT, Config, KernelChoice, Storage};
use crate::crypto::xts::SectorSize;
use crate::device::{DeviceConfig, DeviceKind, SharedDevice, Size};
use crate::disk::Disk;
use crate::kms::audit::Actor;
use crate::memory::HugePages;
use crate::reactor::ReactorThread;

use super::{Failure, Outcome};
use nvme_tcp::NvmeTcpArgs;
use vhost_user::VhostUserArgs;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// A target instead of a disk in this process: nvme-tcp://HOST:PORT/SUBSYSTEM_NQN, or vhost-user:/PATH.sock. Data that was there is overwritten by
    /// writes, and what is read is not looked at
    #[arg(
        value_name = "TARGET",
        conflicts_with_all = ["device", "size", "encryption", "sector_size", "kernel", "config", "disk", "verify"],
    )]
    target: Option<Target>,
    /// What lies under the disk: null, memory or file:PATH (an existing file or block device, whose content is lost on writes)
    #[arg(long, default_value = "memory", value_name = "DEVICE", conflicts_with = "config")]
    device: String,
    /// Bytes on a null or memory device
    #[arg(long, default_value = "512M", value_name = "SIZE")]
    size: Size,
    /// Cipher of the disk; its key is made for the run and forgotten
    #[arg(long, default_value = "none", value_enum)]
    encryption: CipherName,
    /// Bytes of a sector, which is also the cipher's data unit: 512 or 4096
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    sector_size: u32,
    /// Kernel of the cipher: auto, vaes512, vaes256 or bulk
    #[arg(long, default_value = "auto", value_name = "NAME")]
    kernel: KernelChoice,
    /// Take the disk from a configuration instead
    #[arg(long, value_name = "FILE", requires = "disk")]
    config: Option<PathBuf>,
    /// Which disk of the configuration
    #[arg(long, value_name = "NAME", requires = "config")]
    disk: Option<String>,
    /// read, write, rw, randread, randwrite or randrw
    #[arg(long, default_value = "randread", value_name = "MIX")]
    rw: Mix,
    /// Percent of reads in rw and randrw
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    rwmixread: u32,
    /// Bytes of a command
    #[arg(long, default_value = "4k", value_name = "SIZE")]
    bs: Size,
    /// Commands in flight for each core, connection or queue
    #[arg(long, default_value_t = 32, value_name = "N")]
    iodepth: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    runtime: f64,
    /// Seconds to run before that
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    ramp: f64,
    /// Cores to run on, one reactor each
    #[arg(long, value_delimiter = ',', value_name = "CORE,…")]
    cores: Vec<usize>,
    /// Write blocks that can be checked, and check what is read
    #[arg(long)]
    verify: bool,
    /// Seed of places and data
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nvme_tcp: NvmeTcpArgs,
    #[command(flatten)]
    vhost_user: VhostUserArgs,
}

/// What is loaded, if it is not in this process.
#[derive(Clone)]
enum Target {
    NvmeTcp(Address),
    VhostUser(Socket),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(vhost::SCHEME) {
            return text.parse().map(Self::VhostUser).map_err(|e: vhost::NotASocket| e.to_string());
        }
        text.parse().map(Self::NvmeTcp).map_err(|e: NotAnAddress| e.to_string())
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum CipherName {
    #[value(name = "none")]
    None,
    #[value(name = "aes-256-xts")]
    Aes256Xts,
}

/// A time that an option gives.
fn seconds(value: f64, option: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value).map_err(|_| format!("--{option} {value} is not a time in seconds"))
}

pub(super) fn run(args: &BenchArgs) -> Outcome {
    let (runtime, ramp) = (seconds(args.runtime, "runtime")?, seconds(args.ramp, "ramp")?);
    match &args.target {
        Some(Target::NvmeTcp(target)) => return nvme_tcp::run(target, args, runtime, ramp),
        Some(Target::VhostUser(socket)) => return vhost_user::run(socket, args, runtime, ramp),
        None => {}
    }
    let mut config = args.config.as_ref().map_or_else(|| Ok(Config::default()), |path| Config::load(path))?;
    if !args.cores.is_empty() {
        config.reactor.cores = Some(args.cores.clone());
    }
    let bench = BenchConfig {
        mix: args.rw,
        read_percent: args.rwmixread,
        block_size: args.bs.0,
        iodepth: args.iodepth,
        runtime,
        ramp,
        cores: config.cores()?,
        verify: args.verify,
        seed: args.seed,
    };
    let reactors = bench.cores.iter().map(|&core| ReactorThread::start(core, &config.reactor));
    let reactors: Vec<ReactorThread> = reactors.collect::<Result<_, _>>()?;
    let report = match &args.disk {
        None => measure(args, &bench, &reactors, &ad_hoc_disk(args)?),
        Some(name) => {
            let storage = Storage::new(&config, reactors[0].remote())?;
            let report = open(&storage, &config, name).and_then(|disk| measure(args, &bench, &reactors, &disk));
            storage.close(CLOSE_LIMIT).iter().for_each(|wrong| eprintln!("strongroom: {wrong}"));
            report
        }
    }?;
    for reactor in reactors {
        reactor.remote().stop();
        reactor.join();
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(storage: &Storage, config: &Config, name: &str) -> Result<Arc<Disk>, Failure> {
    if let Some(pool) = config.pool_of(name)? {
        storage.open_pool(config, pool)?;
    }
    Ok(storage.open_disk(config, name, Actor::System)?)
}

fn measure(
    args: &BenchArgs,
    bench: &BenchConfig,
    reactors: &[ReactorThread],
    disk: &Arc<Disk>,
) -> Result<Report, Failure> {
    let report = bench::run(bench, reactors, disk, progress(args.json))?;
    end_progress(args.json);
    Ok(report)
}

/// The one core of a client's load.
fn client_core(args: &BenchArgs, why_one: &str) -> Result<usize, Failure> {
    let mut config = Config::default();
    if !args.cores.is_empty() {
        config.reactor.cores = Some(args.cores.clone());
    }
    match config.cores()?[..] {
        [core] => Ok(core),
        [first, ..] if args.cores.is_empty() => Ok(first),
        _ => Err(format!("{why_one}; name one with --cores").into()),
    }
}

/// A line on a terminal that tells how far the run is.
fn progress(json: bool) -> impl FnMut(Duration, u64) {
    let show = !json && std::io::stderr().is_terminal();
    move |elapsed, done| {
        if show {
            eprint!("\r{:4.0} s, {done} commands measured", elapsed.as_secs_f64());
            // A progress line that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }
}

fn end_progress(json: bool) {
    if !json && std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

fn ad_hoc_disk(args: &BenchArgs) -> Result<Arc<Disk>, Failure> {
    let sector = SectorSize::try_from(args.sector_size)?;
    let device = |kind, path, size| {
        SharedDevice::open(&DeviceConfig {
            name: args.device.clone(),
            kind,
            path,
            size,
            create: false,
            hugepages: HugePages::Prefer,
            layers: Vec::new(),
        })
    };
    let device = match (args.device.as_str(), args.device.strip_prefix("file:")) {
        ("null", _) => device(DeviceKind::NullWithoutData, None, Some(args.size))?,
        ("memory", _) => device(DeviceKind::Memory, None, Some(args.size))?,
        (_, Some(path)) => device(DeviceKind::File, Some(path.into()), None)?,
        (other, None) => return Err(format!("--device {other} is unknown; write null, memory or file:PATH").into()),
    };
    let device = Arc::new(device);
    Ok(match args.encryption {
        CipherName::None => Disk::plain("bench", device, sector)?,
        CipherName::Aes256Xts => Disk::with_random_key("bench", device, sector, args.kernel.choose()?)?,
    })
}
