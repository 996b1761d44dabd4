//! The load over vhost-user: `strongroom bench` as a virtual machine's front end, in a thread of this process.

use std::time::Duration;

use strongroom::bench::Mix;
use strongroom::bench::vhost_user::{RingKind, VhostUserConfig, run};

use crate::failure::{Failure, Result};

use super::target::Target;
use super::{BLOCK, Load};

/// Keeps requests in flight for so long. The front end polls, and does not tell how long it waits.
pub fn load(target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
    let failed =
        |why: String| Failure::Program { program: "strongroom bench".into(), status: "failed".into(), said: why };
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
        ramp: Duration::ZERO,
        core,
        seed: 1,
    };
    let report = run(&config, |_, _| {}).map_err(|e| failed(e.to_string()))?;
    match report.first_error {
        Some(error) => Err(failed(error)),
        None => Ok(report.waiting_percent),
    }
}
