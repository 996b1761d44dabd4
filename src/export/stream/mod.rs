//! What the stream protocols (NBD, NVMe/TCP) have in common: where they listen, how connections come to reactors, and the link to one client.

mod acceptor;
mod address;
mod admission;
mod closing;
mod finish;
mod link;
mod listener;
mod replies;
mod share;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use address::ListenAddress;

pub(crate) use acceptor::{Acceptor, Arrival};
pub(crate) use admission::Connections;
pub(super) use closing::{let_go, on_each};
pub(super) use finish::{Flushed, finish};
pub(super) use link::{LOOKS_UNTIL_STALLED, Link, LinkEnd, Patience, Phase};
pub(crate) use listener::{LONGEST_PATH, Listener, make_room, peer_credentials};
pub(super) use replies::Replies;
pub(super) use share::Share;

/// Why a server cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Something else is at the path.
    #[error("{path} is taken by {by}; stop it or choose another path")]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What is there.
        by: String,
    },
    /// The accept thread cannot be started.
    #[error("cannot start the accept thread: {0}")]
    Thread(io::Error),
}
