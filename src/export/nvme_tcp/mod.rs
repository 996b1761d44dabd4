//! Disks over NVMe/TCP: encrypted namespaces for the initiators of operating systems and hypervisors.
//!
//! A connection is a queue, and belongs to one reactor. Its tasks, and where they live:
//!
//! ```text
//!  socket ─► receiver ─► connection (reader) ─► slot ─► io ─► DiskQueue     a write's data is encrypted from where it arrived
//!    ▲                                           │  └─► admin ─► Controller
//!    └────── replies (sender) ◄──────────────────┘                          a read is decrypted to where it is sent from
//! ```
//!
//! Who may see what is kept in [`Subsystems`], one subsystem for each account; [`NvmeTcpServer`] changes it from the control thread.
//! What a host does with a controller (properties, identify, features, log pages, events) is answered by [`controller`], which knows neither
//! sockets nor reactors.
//!
//! What always holds: a host can end its own queues and nothing else; it holds at most its share of the reactor's buffers; a command that names
//! what its host may not see, or that a reservation forbids, changes nothing; nothing is logged, locked or allocated for an I/O command
//! at steady state.

mod admin;
mod answers;
mod attached;
mod auth;
mod authentication;
mod config;
mod connection;
mod controller;
mod desk;
mod digest;
mod discovery;
mod end;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod io;
mod limits;
mod receiver;
mod reservation;
mod room;
mod server;
mod shard;
mod slot;
mod subsystem;
#[cfg(test)]
mod testing;
mod transfer;
pub mod wire;

use thiserror::Error;

use crate::disk::DiskError;
use crate::disk::reservation::StoreError;

use super::stream::{self, ListenError};

pub use auth::{AuthConfig, HostPolicy, PolicyError};
pub use config::NvmeTcpConfig;
pub use controller::Controller;
pub use server::{HeldNamespace, NvmeTcpServer, Placement};
pub use subsystem::{Host, HostId, InventoryError, NAMESPACES, Namespace, Nqn, Subsystem, Subsystems};

use subsystem::{LARGEST_FUSED as ACWU_BYTES, LARGEST_TRANSFER as MDTS_BYTES};

/// The most data that one command moves.
const LARGEST_TRANSFER: usize = MDTS_BYTES as usize;
/// The most data that each half of a fused pair moves.
const LARGEST_FUSED: usize = ACWU_BYTES as usize;
/// The most of a command that is held in buffers at once.
const PIECE: usize = 128 << 10;
/// The same while the reactor's memory is shared by as many connections as it carries.
const SMALL_PIECE: usize = 16 << 10;
/// The most data of one H2CData PDU (TCP section 3.6.2.3, MAXH2CDATA).
const LARGEST_H2C_DATA: usize = LARGEST_TRANSFER;

type Link = stream::Link<end::EndReason>;

/// Why the NVMe/TCP export does not start, or does not change as asked.
#[derive(Debug, Error)]
pub enum NvmeTcpError {
    /// The configuration cannot be served.
    #[error("nvme_tcp: {0}")]
    Config(String),
    /// It cannot listen.
    #[error("nvme_tcp: {0}")]
    Listen(#[from] ListenError),
    /// A reactor cannot open a disk.
    #[error("nvme_tcp: {0}")]
    Disk(#[from] DiskError),
    /// What a disk's hosts had reserved cannot be read.
    #[error("nvme_tcp: {0}")]
    Reservation(#[from] StoreError),
    /// The inventory refuses a change.
    #[error("nvme_tcp: {0}")]
    Inventory(#[from] InventoryError),
    /// There is no such disk.
    #[error("nvme_tcp: disk {0} is no namespace; add it first")]
    NoDisk(String),
    /// Commands do not end, so nothing was changed.
    #[error(
        "nvme_tcp: commands on disk {0} have not ended in time: a host owes data; it goes on as before, and may be tried again"
    )]
    HoldTimeout(String),
    /// Commands do not end.
    #[error("nvme_tcp: disk {disk} is detached from host {host}, but commands that were under way have not ended yet")]
    DetachTimeout {
        /// The disk.
        disk: String,
        /// The host.
        host: String,
    },
}
