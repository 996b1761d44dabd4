//! `strongroom bench nvme-tcp://…`: the options that only a target over NVMe/TCP has.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::bench::nvme_tcp::{self, Address, Nqn, NvmeTcpConfig};

use super::super::Outcome;
use super::{BenchArgs, client_core, end_progress, progress};

#[derive(Args)]
#[command(next_help_heading = "NVMe/TCP")]
pub(super) struct NvmeTcpArgs {
    /// The name that this host gives [default: one made up for the run]
    #[arg(long, value_name = "NQN", requires = "target")]
    host_nqn: Option<Nqn>,
    /// The namespace [default: the first one that the host sees]
    #[arg(long, value_name = "ID", requires = "target")]
    nsid: Option<u32>,
    /// I/O queues, each a connection with --iodepth commands in flight, all on one core [default: 1]
    #[arg(long, value_name = "N", requires = "target")]
    connections: Option<u32>,
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

impl NvmeTcpArgs {
    /// An option of these that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.host_nqn.is_some(), "--host-nqn"),
            (self.nsid.is_some(), "--nsid"),
            (self.connections.is_some(), "--connections"),
            (self.header_digest, "--header-digest"),
            (self.data_digest, "--data-digest"),
            (self.idle, "--idle"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}

pub(super) fn run(target: &Address, args: &BenchArgs, runtime: Duration, ramp: Duration) -> Outcome {
    if let Some(option) = args.vhost_user.given() {
        return Err(format!("{option} is for vhost-user back ends; leave it out").into());
    }
    let core = client_core(args, "over NVMe/TCP all connections are driven by one core")?;
    let nvme = &args.nvme_tcp;
    let bench = NvmeTcpConfig {
        target: target.clone(),
        host_nqn: nvme.host_nqn.clone(),
        namespace: nvme.nsid,
        connections: nvme.connections.unwrap_or(1),
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
