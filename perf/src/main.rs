//! What measures Strongroom beside its rivals: one subcommand a suite. `perf/README.md` says how to read the results.

mod contender;
mod echo;
mod failure;
mod interrupt;
mod lab;
mod machine;
mod nbd_client;
mod nbd_load;
mod pool;
mod process;
#[cfg(feature = "profile")]
mod profile;
mod quiet;
mod regress;
mod report;
mod row;
mod run;
mod sample;
mod stats;
mod suite;
mod target;
mod workload;
mod xts;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use run::Options;
use suite::Suite;

/// Measures Strongroom beside its rivals on this machine.
#[derive(Parser)]
#[command(name = "strongroom-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// AES-256-XTS kernels in core cycles per byte, beside the CPU's limit and other libraries
    Xts(xts::Args),
    /// Ours in process on null, memory and file, beside SPDK's bdevperf and fio's io_uring engine
    Engine(Options),
    /// Ours in fio's process, beside fio's null engine and its io_uring engine on the plain file
    Fio(Options),
    /// What encryption costs on a file: encrypted beside plain
    Encrypted(Options),
    /// NBD servers under fio's NBD engine: ours, QEMU's and nbdkit's
    Nbd(Options),
    /// NVMe/TCP targets under `strongroom bench`: ours, SPDK's, and what the wire allows
    Nvme(Options),
    /// vhost-user-blk back ends under `strongroom bench`: ours, QEMU's, SPDK's, and a device without data
    Vhost(Options),
    /// CPU time of NBD servers without load
    Idle(Options),
    /// Where the time of one command goes: cycles in each stage
    #[cfg(feature = "profile")]
    Profile(profile::Args),
    /// Volumes of a pool: beside the device without one, their own overwriting, SPDK's logical volumes; and a pool of 1 TiB
    Pool(Options),
    /// Disks with limits: what a limit costs that is not reached, and how near one is reached
    Limits(Options),
    /// Two builds of ours beside each other: is one slower? `scripts/perf-regress` builds them
    Regress(regress::Options),
    /// Drives a pool inside this process, for the suite `pool`
    #[command(subcommand, hide = true)]
    DrivePool(pool::Args),
    /// engine, fio, encrypted, nbd, nvme, vhost, idle, pool and limits in one run
    All(Options),
}

fn main() -> ExitCode {
    let result: Result<bool, Box<dyn Error>> = match Cli::parse().command {
        Command::Xts(args) => xts::measure(&args).map(|()| true),
        #[cfg(feature = "profile")]
        Command::Profile(args) => profile::measure(&args).map(|()| true).map_err(Into::into),
        Command::Engine(options) => run::run(Suite::Engine, &options).map_err(Into::into),
        Command::Fio(options) => run::run(Suite::Fio, &options).map_err(Into::into),
        Command::Encrypted(options) => run::run(Suite::Encrypted, &options).map_err(Into::into),
        Command::Nvme(options) => run::run(Suite::Nvme, &options).map_err(Into::into),
        Command::Vhost(options) => run::run(Suite::Vhost, &options).map_err(Into::into),
        Command::Nbd(options) => run::run(Suite::Nbd, &options).map_err(Into::into),
        Command::Pool(options) => run::run(Suite::Pool, &options).map_err(Into::into),
        Command::Limits(options) => run::run(Suite::Limits, &options).map_err(Into::into),
        Command::Regress(options) => regress::run(&options).map_err(Into::into),
        Command::DrivePool(args) => pool::run(args).map(|()| true),
        Command::Idle(options) => run::run(Suite::Idle, &options).map_err(Into::into),
        Command::All(options) => run::run(Suite::All, &options).map_err(Into::into),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("strongroom-perf: {error}");
            ExitCode::from(2)
        }
    }
}
