//! The load over NVMe/TCP: `strongroom bench` in a thread of this process.

use std::time::Duration;

use strongroom::bench::Mix;
use strongroom::bench::nvme_tcp::{NvmeTcpConfig, run};

use crate::failure::Result;

use super::target::{HOST_NQN, Target};
use super::{BLOCK, Load, bench_failed, waited};

/// Keeps commands in flight for so long; gives the client's share of time in which it had nothing to receive, in percent.
pub fn load(target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
    let address = format!("nvme-tcp://{}/{}", target.nvme_address(), target.subsystem());
    let config = NvmeTcpConfig {
        target: address.parse().map_err(bench_failed)?,
        host_nqn: Some(HOST_NQN.parse().map_err(bench_failed)?),
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
    let report = run(&config, |_, _| {}).map_err(bench_failed)?;
    waited(report.first_error, report.waiting_percent)
}
