//! The load over NVMe/TCP: `strongroom bench` in a thread of this process.

use std::time::Duration;

use strongroom::bench::Mix;
use strongroom::bench::nvme_tcp::{NvmeTcpConfig, run};

use crate::failure::{Failure, Result};

use super::target::{HOST_NQN, Target};
use super::{BLOCK, Load};

/// Keeps commands in flight for so long; gives the client's share of time in which it had nothing to receive, in percent.
pub fn load(target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
    let failed =
        |why: String| Failure::Program { program: "strongroom bench".into(), status: "failed".into(), said: why };
    let address = format!("nvme-tcp://{}/{}", target.nvme_address(), target.subsystem());
    let config = NvmeTcpConfig {
        target: address.parse().map_err(|e| failed(format!("{e}")))?,
        host_nqn: Some(HOST_NQN.parse().map_err(|e| failed(format!("{e}")))?),
        namespace: None,
        connections: 1,
        header_digest: false,
        data_digest: false,
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
