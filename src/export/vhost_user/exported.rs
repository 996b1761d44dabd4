//! A disk at a socket: what its sessions, its queues and the control thread have in common.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::warn;

use crate::disk::reservation::{Access, AccessCell};
use crate::disk::{Consumer, Disk};
use crate::export::clients::Clients;

use super::message::Channel;

/// Numbers for disks at sockets: one at the same path that comes later is another one.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Whose a socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An operator's, by the name of the export.
    Export(String),
    /// An instance's, by the name of the host.
    Host(String),
}

/// A disk that gets a socket.
#[derive(Clone)]
pub struct VhostUserDisk {
    /// The disk.
    pub disk: Arc<Disk>,
    /// Where its socket is.
    pub path: PathBuf,
    /// Whose it is.
    pub owner: Owner,
    /// Refuse everything that changes the disk.
    pub read_only: bool,
    /// For whom its requests count.
    pub consumer: Consumer,
    /// What reservations of other hosts leave to it; everything, if the disk has none.
    pub access: Option<Arc<AccessCell>>,
}

/// A disk at a socket.
pub(super) struct Exported {
    pub(super) number: u64,
    pub(super) of: VhostUserDisk,
    /// Queues that it offers.
    pub(super) queues: u16,
    /// Requests of a queue that are served at once.
    pub(super) iodepth: u16,
    /// Sessions: one at a time, or a hold.
    pub(super) clients: Arc<Clients>,
    /// The disk is taken from its front end, or the target stops.
    withdrawn: AtomicBool,
    session: Mutex<Option<SessionView>>,
    channel: Mutex<Option<Channel>>,
}

/// A session, for reports.
#[derive(Clone, Debug)]
pub(super) struct SessionView {
    pub(super) peer: String,
    /// Queues that are served.
    pub(super) queues: usize,
    /// The cores of their reactors.
    pub(super) cores: Vec<usize>,
}

impl Exported {
    pub(super) fn new(of: VhostUserDisk, queues: u16, iodepth: u16) -> Arc<Self> {
        Arc::new(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            of,
            queues,
            iodepth,
            clients: Arc::default(),
            withdrawn: AtomicBool::new(false),
            session: Mutex::default(),
            channel: Mutex::default(),
        })
    }

    /// The socket, for the log.
    pub(super) fn socket(&self) -> std::path::Display<'_> {
        self.of.path.display()
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.of.disk
    }

    /// What reservations let it do now.
    #[inline]
    pub(super) fn access(&self) -> Access {
        self.of.access.as_ref().map_or(Access::FULL, |cell| cell.get())
    }

    /// No session begins any more, and what has not begun to work on the disk does not.
    pub(super) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    pub(super) fn session(&self) -> MutexGuard<'_, Option<SessionView>> {
        self.session.lock().expect(NO_PANIC)
    }

    /// The way back to the front end of the session, if it has one.
    pub(super) fn set_channel(&self, channel: Option<OwnedFd>) {
        *self.channel.lock().expect(NO_PANIC) = channel.map(Channel::new);
    }

    /// Tells the front end that the disk has another size. Without a channel it finds that out when it asks.
    pub(super) fn tell_size(&self) {
        if let Some(channel) = &*self.channel.lock().expect(NO_PANIC)
            && let Err(e) = channel.tell_config_changed()
        {
            warn!(
                "vhost_user {}: its front end was not told that disk {} has another size: {e}",
                self.socket(),
                self.disk().name()
            );
        }
    }
}

const NO_PANIC: &str = "no thread panics while it holds this lock";
