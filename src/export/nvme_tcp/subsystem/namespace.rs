//! Namespaces: how an attached disk appears to hosts.

use std::sync::Arc;

use crate::disk::Disk;

/// How a disk becomes a namespace.
#[derive(Clone, Copy, Debug)]
pub struct NamespaceOptions {
    /// The identifier; the lowest free one, if there is none.
    pub nsid: Option<u32>,
    /// The disk's identity, which is kept across restarts and servers.
    pub uuid: [u8; 16],
    /// Whether several hosts may have it.
    pub shared: bool,
    /// What reservations on it can do (RESCAP, NVM section 4.1.5.1).
    pub reservation_capabilities: u8,
}

/// A disk as hosts see it. The namespace, its identifier and its identity belong together for as long as it exists; the disk behind them may become
/// another with the same content.
pub struct Namespace {
    nsid: u32,
    uuid: [u8; 16],
    shared: bool,
    reservation_capabilities: u8,
    disk: Arc<Disk>,
}

impl Namespace {
    pub(super) fn new(nsid: u32, disk: Arc<Disk>, options: &NamespaceOptions) -> Arc<Self> {
        let NamespaceOptions { uuid, shared, reservation_capabilities, .. } = *options;
        Arc::new(Self { nsid, uuid, shared, reservation_capabilities, disk })
    }

    /// The same namespace with another disk behind it.
    pub(super) fn on(&self, disk: Arc<Disk>) -> Arc<Self> {
        let Self { nsid, uuid, shared, reservation_capabilities, .. } = *self;
        Arc::new(Self { nsid, uuid, shared, reservation_capabilities, disk })
    }

    /// The namespace identifier.
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// The disk.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The disk's UUID.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The Namespace Globally Unique Identifier: the UUID's bytes, which are just as unique. Hosts that know no UUIDs go by it.
    pub fn nguid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Whether several hosts may have it.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// What reservations on it can do.
    pub fn reservation_capabilities(&self) -> u8 {
        self.reservation_capabilities
    }

    /// Logical blocks.
    pub fn blocks(&self) -> u64 {
        self.disk.size() / self.block_bytes()
    }

    /// Bytes of a logical block: the disk's sector.
    pub fn block_bytes(&self) -> u64 {
        self.disk.sector_size().bytes() as u64
    }
}
