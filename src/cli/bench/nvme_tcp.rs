//! `strongroom bench nvme-tcp://…`: the options that only a target over NVMe/TCP has.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::bench::nvme_tcp::{self, Address, Nqn, NvmeTcpConfig};
use crate::control::Config;

use super::super::Outcome;
use super::BenchArgs;

#[derive(Args)]
#[command(next_help_heading = "NVMe/TCP")]
pub(super) struct NvmeTcpArgs {
    /// The name that this host gives [default: one made up for the run]
    #[arg(long, value_name = "NQN", requires = "target")]
    host_nqn: Option<Nqn>,
    /// The namespace [default: the first one that the host sees]
    #[arg(long, value_name = "ID", requires = "target")]
    nsid: Option<u32>,
    /// I/O queues, each a connection with --iodepth commands in flight, all on one core
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: u32,
    /// Ask for header digests, and check them
    #[arg(long, requires = "target")]
    header_digest: bool,
    /// Ask for data digests, and check them
    #[arg(long, requires = "target")]
    data_digest: bool,
    /// Send no command: open the connections, hold them for --runtime, and tell how many are still open
    #[arg(long, requires = "target")]
    idle: bool,
}

pub(super) fn run(target: &Address, args: &BenchArgs, runtime: Duration, ramp: Duration) -> Outcome {
    let mut config = Config::default();
    if !args.cores.is_empty() {
        config.reactor.cores = Some(args.cores.clone());
    }
    let core = match config.cores()?[..] {
        [core] => core,
        [first, ..] if args.cores.is_empty() => first,
        _ => return Err("over NVMe/TCP all connections are driven by one core; name one with --cores".into()),
    };
    let nvme = &args.nvme_tcp;
    let bench = NvmeTcpConfig {
        target: target.clone(),
        host_nqn: nvme.host_nqn.clone(),
        namespace: nvme.nsid,
        connections: nvme.connections,
        header_digest: nvme.header_digest,
        data_digest: nvme.data_digest,
        mix: args.rw,
        read_percent: args.rwmixread,
        block_size: args.bs.0,
        iodepth: args.iodepth,
        runtime,
        ramp,
        core,
        seed: args.seed,
    };
    if nvme.idle { hold(&bench, args.json) } else { load(&bench, args.json) }
}

fn load(bench: &NvmeTcpConfig, json: bool) -> Outcome {
    let report = nvme_tcp::run(bench, progress(json))?;
    end_progress(json);
    if report.iodepth < bench.iodepth {
        eprintln!("strongroom: the target's queues take {} commands, not {}", report.iodepth, bench.iodepth);
    }
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hold(bench: &NvmeTcpConfig, json: bool) -> Outcome {
    let report = nvme_tcp::hold(bench, progress(json))?;
    end_progress(json);
    if json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.all_alive() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
