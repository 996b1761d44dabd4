//! The load over vhost-user: `strongroom bench` as a virtual machine's front end, in a thread of this process.

use std::time::Duration;

use strongroom::bench::Mix;
use strongroom::bench::vhost_user::{RingKind, VhostUserConfig, run};

use crate::failure::Result;

use super::target::Target;
use super::{BLOCK, Load, bench_failed, waited};

/// Keeps requests in flight for so long; gives the share of time in which the front end had nothing to take, in percent.
pub fn load(target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
    let config = VhostUserConfig {
        socket: target.vhost_socket(),
        queues: 1,
        ring: RingKind::Split,
        indirect: false,
        mix: if load.is_write { Mix::RandWrite } else { Mix::RandRead },
        read_percent: 100,
        block_size: BLOCK as u64,
        iodepth: load.depth as u32,
        runtime: time,
        thinktime: Duration::ZERO,
        ramp: Duration::ZERO,
        core,
        seed: 1,
    };
    let report = run(&config, |_, _| {}).map_err(bench_failed)?;
    waited(report.first_error, report.waiting_percent)
}
