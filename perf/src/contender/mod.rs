//! The contenders: who can be measured, and how one measurement of each is made.
//!
//! - [`mod@bench`]: ours in process, `strongroom bench`
//! - [`fio`]: fio's own io_uring engine on a file, and fio as the client of every NBD server
//! - [`fio_engine`]: ours in fio's process, and fio's null engine
//! - [`nbd`]: NBD servers under fio's load: ours, QEMU's, nbdkit's
//! - [`nvme`]: NVMe/TCP targets under the load of `strongroom bench`: ours, SPDK's
//! - [`vhost`]: vhost-user-blk back ends under the load of `strongroom bench`: ours, QEMU's, SPDK's
//! - [`pool`]: a pool on a file, driven in a process of its own
//! - [`large_pool`]: a pool of 1 TiB on a simulated device
//! - [`echo`]: what the wire allows without a target
//! - [`spdk`]: SPDK's programs through a script that the user names
//! - [`idle`]: the same NBD servers with an open connection and no load

pub mod bench;
pub mod echo;
pub mod fio;
pub mod fio_engine;
pub mod idle;
pub mod large_pool;
pub mod nbd;
pub mod nvme;
pub mod pool;
pub mod spdk;
pub mod vhost;

use crate::failure::Result;
use crate::lab::Lab;
use crate::sample::Sample;
use crate::workload::Workload;

/// The name of our side in every row.
pub const OURS: &str = "strongroom";

/// Someone who can be measured.
pub trait Contender {
    /// Its name, the same in all rows in which it takes part.
    fn name(&self) -> &'static str;

    /// Makes ready what lasts for the whole row. A contender that fails here is left out of the row, with the reason.
    fn prepare(&mut self, lab: &Lab) -> Result<()>;

    /// Makes one measurement.
    fn measure(&mut self, lab: &Lab, workload: Option<Workload>) -> Result<Sample>;
}

/// A contender of any kind.
pub type AnyContender = Box<dyn Contender>;
