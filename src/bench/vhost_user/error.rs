//! Why a run over vhost-user did not happen, or did not come to its end.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a run over vhost-user ended early. A request that fails does not end it: it is counted.
#[derive(Debug, Error)]
pub enum VhostUserError {
    /// Nobody is at the socket.
    #[error("{}: cannot connect: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The back end does not do what it was asked to, or went away.
    #[error("{what}: {source}; is this a vhost-user back end, and is another front end connected to it?")]
    Message {
        /// What was asked.
        what: String,
        /// What became of it.
        source: vhost::Error,
    },
    /// A message that the crate cannot send was not sent or not answered.
    #[error("{what}: {source}")]
    Socket {
        /// What was asked.
        what: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// There is no memory for rings and data.
    #[error("cannot make {mib} MiB of memory to share: {source}")]
    Memory {
        /// How much.
        mib: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The device writes into a ring what it may not.
    #[error("queue {queue}: the device breaks its ring: {what}")]
    Ring {
        /// The queue.
        queue: usize,
        /// What it wrote.
        what: String,
    },
    /// The device was silent for too long.
    #[error("queue {queue}: no answer for {seconds} s with {waiting} requests in flight")]
    Silent {
        /// The queue.
        queue: usize,
        /// How long.
        seconds: u64,
        /// How many requests wait.
        waiting: usize,
    },
    /// What is asked for cannot be done with this device.
    #[error("{0}")]
    Config(String),
}
