//! What is asked of a contender: direction, order, size and depth of the I/O.

use std::fmt;

use serde::Serialize;

/// Direction and order, by fio's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rw {
    /// Reads, one behind the other.
    Read,
    /// Writes, one behind the other.
    Write,
    /// Reads anywhere.
    RandRead,
    /// Writes anywhere.
    RandWrite,
}

impl Rw {
    /// The name that fio, `strongroom bench` and bdevperf share.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
        }
    }

    /// Whether data goes to the device.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::RandWrite)
    }
}

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Direction and order.
    pub rw: Rw,
    /// KiB of one I/O.
    pub block_kib: u32,
    /// I/Os in flight.
    pub depth: u32,
}

impl Workload {
    /// Random reads of 4 KiB.
    pub const fn randread_4k(depth: u32) -> Self {
        Self { rw: Rw::RandRead, block_kib: 4, depth }
    }

    /// Random writes of 4 KiB.
    pub const fn randwrite_4k(depth: u32) -> Self {
        Self { rw: Rw::RandWrite, block_kib: 4, depth }
    }

    /// Reads of 128 KiB in order.
    pub const fn read_128k(depth: u32) -> Self {
        Self { rw: Rw::Read, block_kib: 128, depth }
    }

    /// Writes of 128 KiB in order.
    pub const fn write_128k(depth: u32) -> Self {
        Self { rw: Rw::Write, block_kib: 128, depth }
    }

    /// The block size as every tool here takes it: `4k`.
    pub fn block_size(self) -> String {
        format!("{}k", self.block_kib)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} QD{}", self.rw.name(), self.block_size(), self.depth)
    }
}
