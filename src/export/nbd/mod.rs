//! Disks over NBD, the network block device protocol (`doc/proto.md` of the NBD project).
//!
//! Served: fixed newstyle over unix sockets and TCP; several exports; several connections to one export; structured replies; read, write,
//! flush, FUA, trim, write zeroes (also only if fast), block status with `base:allocation`, cache; block sizes. The export name `""` means the
//! only export, if there is just one. TLS is refused: use a unix socket, or a tunnel.
//!
//! A connection belongs to one reactor. Its tasks, and where they live:
//!
//! ```text
//!  socket ─► receiver ─► session (reader) ─► slot ─► DiskQueue        the payload of a write stays where it arrived
//!    ▲                                        │
//!    └────── replies (sender) ◄───────────────┘                      the buffer of a read goes out as it is
//! ```
//!
//! Exports may come and go while the server runs; one that has clients does not go.
//!
//! What always holds: a client can end its own connection and nothing else; it holds at most its share of the reactor's buffers; a request
//! that is not in the disk's sectors is refused and changes nothing; nothing is logged or allocated for a request at steady state.

mod config;
mod end;
mod exports;
mod handshake;
mod option;
mod receiver;
mod refusal;
mod request;
mod server;
mod session;
mod shard;
mod slot;
mod wire;

use thiserror::Error;

use crate::disk::DiskError;

use super::stream::{self, ListenError};

pub use config::{NbdConfig, NbdExportConfig};
pub use server::{Held, NbdServer};

/// Why the NBD export does not start.
#[derive(Debug, Error)]
pub enum NbdError {
    /// The configuration cannot be served.
    #[error("nbd: {0}")]
    Config(String),
    /// It cannot listen.
    #[error("nbd: {0}")]
    Listen(#[from] ListenError),
    /// There is no export of this name.
    #[error("nbd: there is no export {0:?}")]
    NoExport(String),
    /// Clients have the export.
    #[error("nbd: export {export:?} {}", why_in_use(*clients))]
    InUse {
        /// Its name.
        export: String,
        /// How many; 0 if its disk is just being changed.
        clients: usize,
    },
    /// Commands of the export did not end.
    #[error("nbd: export {0:?} is closed, but its last commands have not ended: its key stays in memory until they do")]
    CloseTimeout(String),
    /// A reactor cannot open a disk.
    #[error("nbd: {0}")]
    Disk(#[from] DiskError),
}

fn why_in_use(clients: usize) -> String {
    match clients {
        0 => "is just being changed; try again".to_owned(),
        clients => format!("has {clients} clients; disconnect them first"),
    }
}

type Link = stream::Link<end::EndReason>;
