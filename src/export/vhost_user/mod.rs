//! Disks over vhost-user, for the virtual machines of this host: virtio-blk devices (virtio 1.2, section 5.2) whose rings lie in the guests' memory.
//!
//! Served: packed and split rings, indirect descriptors, event index; several queues; flush, discard, write zeroes; a write cache that the guest
//! may turn off; requests that were under way when the target was killed (`INFLIGHT_SHMFD`); memory that comes and goes.
//!
//! A disk has a socket, and its session a thread for the protocol, which touches no data. A queue belongs to one reactor:
//!
//! ```text
//!  socket ─► session (thread) ── starts, stops ──► queue (poller)
//!  guest's memory:  ring ─────────────────────────► slot ─► DiskQueue      a write is encrypted from where the guest has it
//!                   data ◄──────────────────────────┘                      a read is decrypted to where the guest wants it
//! ```
//!
//! What always holds: a guest's ring can end its own queue and nothing else, a front end its own session; nothing is told to the guest as done that is
//! not; what the front end has taken back is not touched; nothing is logged, locked or allocated for a request at steady state.

mod config;
mod config_space;
mod end;
mod exported;
mod fault;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod leftover;
pub mod memory;
mod message;
mod queue;
mod reactors;
mod request;
pub mod ring;
mod server;
mod session;
mod shard;
mod signal;
mod slot;
mod socket;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::disk::DiskError;

use super::stream::ListenError;

pub use config::{VhostUserConfig, VhostUserExportConfig, is_file_name};
pub use exported::{Owner, VhostUserDisk};
pub use server::{HeldVhostUser, SocketReport, VhostUserServer};

/// Why the vhost-user export does not start, or does not change as asked.
#[derive(Debug, Error)]
pub enum VhostUserError {
    /// The configuration cannot be served.
    #[error("vhost_user: {0}")]
    Config(String),
    /// A folder for sockets cannot be made.
    #[error("vhost_user: {folder} cannot be made: {source}; make it or choose another directory")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot listen.
    #[error("vhost_user: {0}")]
    Listen(#[from] ListenError),
    /// Another disk has the socket.
    #[error("vhost_user: {0} is the socket of another disk")]
    Taken(PathBuf),
    /// A reactor cannot open a disk.
    #[error("vhost_user: {0}")]
    Disk(#[from] DiskError),
    /// Requests do not end.
    #[error(
        "vhost_user: {0} is gone, but its last requests have not ended: the disk's key stays in memory until they do"
    )]
    CloseTimeout(PathBuf),
}
