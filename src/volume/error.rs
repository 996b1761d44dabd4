//! What can go wrong with a pool, for people: which pool, which volume, and what to do.

use thiserror::Error;

use crate::device::{DeviceError, IoError};

use super::format::FormatError;

/// Why something cannot be done with a pool.
#[derive(Debug, Error)]
pub enum PoolError {
    /// There is no such volume or snapshot.
    #[error("pool {pool}: there is no {name}")]
    NotFound {
        /// The pool.
        pool: String,
        /// The volume or snapshot.
        name: String,
    },
    /// There is one already.
    #[error("pool {pool}: {name} exists already; choose another name")]
    Exists {
        /// The pool.
        pool: String,
        /// The volume or snapshot.
        name: String,
    },
    /// Somebody uses it.
    #[error("pool {pool}: {name} is in use; {remedy}")]
    InUse {
        /// The pool.
        pool: String,
        /// The volume or snapshot.
        name: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The pool is full.
    #[error(
        "pool {pool}: there is no space left; delete volumes or snapshots, or make its device larger and grow the pool"
    )]
    NoSpace {
        /// The pool.
        pool: String,
    },
    /// What is on the device cannot be used.
    #[error("pool {pool}: {source}")]
    Format {
        /// The pool.
        pool: String,
        /// What is wrong.
        source: FormatError,
    },
    /// Another machine has it, or had it and did not close it.
    #[error(
        "pool {pool}: host {host} (pid {pid}) has opened it and did not close it; if that host is certainly down, open the pool with take_over"
    )]
    OwnedElsewhere {
        /// The pool.
        pool: String,
        /// The host's name.
        host: String,
        /// The process there.
        pid: u32,
    },
    /// Metadata of the volume cannot be read.
    #[error(
        "pool {pool}: {name} is offline: {why}; the other volumes are not concerned (strongroom pool check --repair sets aside what is broken)"
    )]
    Offline {
        /// The pool.
        pool: String,
        /// The volume.
        name: String,
        /// What is broken.
        why: String,
    },
    /// The request makes no sense.
    #[error("pool {pool}: {what}")]
    Invalid {
        /// The pool.
        pool: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// The device failed.
    #[error("pool {pool}: cannot {what}: {source}")]
    Io {
        /// The pool.
        pool: String,
        /// What was attempted.
        what: &'static str,
        /// What the device answered.
        source: IoError,
    },
    /// The device cannot be opened on a reactor.
    #[error("pool {pool}: {source}")]
    Device {
        /// The pool.
        pool: String,
        /// Why not.
        source: DeviceError,
    },
}
