//! What a disk's limits are, and what a command costs under them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The limits of a disk. One of zero is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// I/Os a second.
    pub iops: u64,
    /// Bytes a second.
    pub bytes_per_second: u64,
    /// How long a disk that was not used may go faster: the buckets hold what the rates bring in this time, and at least two I/Os and
    /// [`Limits::LEAST_BURST_BYTES`]. Shorter than [`Limits::LEAST_BURST`] counts as that, longer than [`Limits::MOST_BURST`] too.
    #[serde(skip)]
    pub burst: Duration,
}

impl Limits {
    /// The burst of limits that name none.
    pub const DEFAULT_BURST: Duration = Duration::from_millis(100);
    /// The shortest burst: grants are made once a millisecond, and must not lose what came meanwhile.
    pub const LEAST_BURST: Duration = Duration::from_millis(10);
    /// The longest burst.
    pub const MOST_BURST: Duration = Duration::from_secs(3600);
    /// What the bucket of bytes holds at least.
    pub const LEAST_BURST_BYTES: u64 = 256 << 10;

    /// Whether anything is limited.
    pub fn is_any(&self) -> bool {
        self.iops > 0 || self.bytes_per_second > 0
    }
}

impl Default for Limits {
    /// No limits.
    fn default() -> Self {
        Self { iops: 0, bytes_per_second: 0, burst: Self::DEFAULT_BURST }
    }
}

/// What a command costs: one I/O and its bytes, whatever it does with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// I/Os.
    pub ios: u32,
    /// Bytes.
    pub bytes: u64,
}

impl Cost {
    /// Of a command on so many bytes.
    pub fn of(bytes: u64) -> Self {
        Self { ios: 1, bytes }
    }

    /// Of two commands on so many bytes each: a fused compare and write.
    pub fn of_pair(bytes: u64) -> Self {
        Self { ios: 2, bytes: 2 * bytes }
    }
}
