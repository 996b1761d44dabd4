//! The load over NBD: one connection over a Unix socket, in a thread of this process.

use std::time::Duration;

use crate::failure::Result;
use crate::nbd_client::Connection;
use crate::nbd_load::{self, Order, Until};
use crate::workload::{Rw, Workload};

use super::target::Target;
use super::{BLOCK, DISK, DISK_MIB, Load, blocks};

/// Keeps requests in flight for so long; gives the share of looks at the socket that found nothing, in percent.
pub fn load(target: &Target, core: usize, load: Load, time: Duration) -> Result<f64> {
    let rw = if load.is_write { Rw::RandWrite } else { Rw::RandRead };
    run(target, core, rw, load.depth, Until::Time { ramp: Duration::ZERO, run: time })
}

/// Writes each block of the disk once, in order.
pub fn fill(target: &Target, core: usize, depth: usize) -> Result<()> {
    run(target, core, Rw::Write, depth, Until::Count(blocks())).map(drop)
}

fn run(target: &Target, core: usize, rw: Rw, depth: usize, until: Until) -> Result<f64> {
    let mut connection = Connection::open(&target.nbd_socket(), DISK)?;
    let workload = Workload { rw, block_kib: (BLOCK >> 10) as u32, depth: depth as u32 };
    let order = Order { workload, size: DISK_MIB << 20, until };
    Ok(nbd_load::run(&mut connection, order, core)?.vain_looks_percent)
}
