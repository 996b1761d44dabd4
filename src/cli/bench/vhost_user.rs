//! `strongroom bench vhost-user:…`: the options that only a vhost-user back end has.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::bench::vhost_user::{self, RingKind, Socket, VhostUserConfig};

use super::super::Outcome;
use super::{BenchArgs, client_core, end_progress, progress, seconds};

#[derive(Args)]
#[command(next_help_heading = "vhost-user")]
pub(super) struct VhostUserArgs {
    /// Queues, each with --iodepth requests in flight, all on one core [default: 1]
    #[arg(long, value_name = "N", requires = "target")]
    queues: Option<u32>,
    /// How the rings look: split or packed [default: split]
    #[arg(long, value_name = "KIND", requires = "target")]
    ring: Option<RingKind>,
    /// Put the pieces of a request into its ring, not into a table beside it
    #[arg(long, requires = "target")]
    direct: bool,
    /// Seconds to sleep after an answer before the next request, as a guest that has little to do [default: 0]
    #[arg(long, value_name = "SECONDS", requires = "target")]
    thinktime: Option<f64>,
}

impl VhostUserArgs {
    /// An option of these that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            (self.queues.is_some(), "--queues"),
            (self.ring.is_some(), "--ring"),
            (self.direct, "--direct"),
            (self.thinktime.is_some(), "--thinktime"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}

pub(super) fn run(socket: &Socket, args: &BenchArgs, runtime: Duration, ramp: Duration) -> Outcome {
    if let Some(option) = args.nvme_tcp.given() {
        return Err(format!("{option} is for targets over NVMe/TCP; leave it out").into());
    }
    let options = &args.vhost_user;
    let bench = VhostUserConfig {
        socket: socket.path().to_owned(),
        queues: options.queues.unwrap_or(1),
        ring: options.ring.unwrap_or(RingKind::Split),
        indirect: !options.direct,
        mix: args.rw,
        read_percent: args.rwmixread,
        block_size: args.bs.0,
        iodepth: args.iodepth,
        runtime,
        ramp,
        thinktime: seconds(options.thinktime.unwrap_or(0.0), "thinktime")?,
        core: client_core(args, "over vhost-user all queues are driven by one core")?,
        seed: args.seed,
    };
    let report = vhost_user::run(&bench, progress(args.json))?;
    end_progress(args.json);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
