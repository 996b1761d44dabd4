//! Where the time of one 4 KiB command on an encrypted disk goes: cycles in each stage on the reactor, which its own counters tell
//! ([`strongroom::reactor::profile`]).
//!
//! The target is in this process: one reactor on the first core, a disk in memory, and a client on the second core that keeps commands in flight.
//! Counting is switched on and off every few milliseconds. What passes while it is off is the whole, with which the sum of the stages is
//! compared; the cost of counting is taken off each stage. Windows of time are ranked by their cycles for a command, and the cheaper half
//! counts: what else ran on the machine is in the other.

mod nbd;
mod nvme;
mod table;
mod target;
mod vhost;
mod window;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;
use strongroom::crypto::xts::SectorSize;
use strongroom::reactor::profile::{ProbeCost, switch};
use strongroom::reactor::{Clock, allowed_cpus, pin_current_thread};

use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::quiet::Noise;

use table::Table;
use target::{DISK, DISK_MIB, Target};
use window::Stages;

/// Bytes of a command.
const BLOCK: usize = 4096;
/// What goes by before the first window, and behind the last.
const RAMP: Duration = Duration::from_millis(300);
/// The depth at which the disk is filled.
const FILL_DEPTH: usize = 64;

/// What to measure.
#[derive(ClapArgs)]
pub struct Args {
    /// Seconds of one load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only loads whose name contains this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Write the result to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    is_write: bool,
    depth: usize,
}

/// How it reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Protocol {
    Nbd,
    NvmeTcp,
    VhostUser,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Nbd, Self::NvmeTcp, Self::VhostUser];

    fn name(self) -> &'static str {
        match self {
            Self::Nbd => "NBD",
            Self::NvmeTcp => "NVMe/TCP",
            Self::VhostUser => "vhost-user",
        }
    }

    /// Keeps commands in flight for so long; gives the percentage of time, or of looks, in which the client had nothing to receive.
    fn load(self, target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
        match self {
            Self::Nbd => nbd::load(target, core, load, time),
            Self::NvmeTcp => nvme::load(target, core, load, time),
            Self::VhostUser => vhost::load(target, core, load, time),
        }
    }
}

/// What a run of `strongroom bench` in this process says: how long it waited, in percent, or what went wrong.
fn waited(first_error: Option<String>, waiting_percent: f64) -> Result<f64> {
    first_error.map_or(Ok(waiting_percent), |said| Err(bench_failed(said)))
}

fn bench_failed(said: impl ToString) -> Failure {
    Failure::Program { program: "strongroom bench".into(), status: "failed".into(), said: said.to_string() }
}

fn blocks() -> u64 {
    (DISK_MIB << 20) / BLOCK as u64
}

/// What was measured of one load.
#[derive(Serialize)]
struct Measured {
    protocol: &'static str,
    load: String,
    client_waits: f64,
    #[serde(flatten)]
    stages: Stages,
}

/// All of it.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    noise_before: Noise,
    cycles_per_us: f64,
    counting: (f64, f64),
    loads: Vec<Measured>,
}

/// Measures, and prints a table for each protocol.
pub fn measure(args: &Args) -> Result<()> {
    let cores = allowed_cpus();
    let (server_core, client_core) = (cores[0], *cores.last().expect("at least one core"));
    if server_core == client_core {
        eprintln!("one core: the target and its client share it, and the idle time of one is the other's work");
    }
    let noise_before = Noise::watch()?;
    let target = Target::start(server_core, SectorSize::B4096)?;
    pin_current_thread(client_core).context(|| format!("cannot run on core {client_core}"))?;
    nbd::fill(&target, client_core, FILL_DEPTH)?;
    switch(true);
    let cost = ProbeCost::measure();
    let mut loads = Vec::new();
    for protocol in Protocol::ALL {
        for (is_write, depth) in [(false, 1), (true, 1), (false, 32), (true, 32)] {
            let load = Load { is_write, depth };
            let name = format!("{} QD{depth}", if is_write { "write" } else { "read" });
            if format!("{} {name}", protocol.name()).contains(&args.only) {
                let time = Duration::from_secs(args.seconds.into());
                let (stages, client_waits) = profile(&target, client_core, protocol, load, time, cost)?;
                loads.push(Measured { protocol: protocol.name(), load: name, client_waits, stages });
            }
        }
    }
    switch(false);
    let cycles_per_us = Clock::get().ticks(Duration::from_millis(1)) as f64 / 1e3;
    let counting = (cost.inner, cost.outer);
    let report = Report { machine: Machine::inspect(None), noise_before, cycles_per_us, counting, loads };
    report.print();
    match &args.json {
        Some(path) => {
            let text = serde_json::to_string_pretty(&report).expect("a report can be written as JSON");
            std::fs::write(path, text).on_file("write", path)
        }
        None => Ok(()),
    }
}

/// One load: its client runs on a thread of its own while this one looks.
fn profile(
    target: &Target,
    client_core: usize,
    protocol: Protocol,
    load: Load,
    time: Duration,
    cost: ProbeCost,
) -> Result<(Stages, f64)> {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            pin_current_thread(client_core).context(|| format!("cannot run on core {client_core}"))?;
            protocol.load(target, client_core, load, RAMP + time + RAMP)
        });
        std::thread::sleep(RAMP);
        let stages = window::measure(&target.disk, target.core, time, cost);
        let waits = client.join().map_err(|_| Failure::Request("the client panicked".into()))?;
        // Why the client stopped tells more than that nothing came of it.
        let waits = waits?;
        Ok((stages?, waits))
    })
}

impl Report {
    fn print(&self) {
        let machine = &self.machine;
        println!("{}, Linux {}, commit {}", machine.cpu, machine.kernel, machine.commit);
        println!("{}", self.noise_before);
        println!(
            "a cycle is one of the clock's, {:.0} a microsecond; counting costs {:.0} + {:.0} for a stage entered\n",
            self.cycles_per_us, self.counting.0, self.counting.1
        );
        for protocol in Protocol::ALL {
            let loads: Vec<_> = self.loads.iter().filter(|load| load.protocol == protocol.name()).collect();
            println!("{}", Table(&loads));
        }
    }
}
