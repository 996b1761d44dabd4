//! Disks at sockets for virtual machines: carries what the configuration says over to the vhost-user server.
//!
//! A disk has a socket for each of an operator's exports, and one for each host that it is attached to.

use std::sync::Arc;

use tracing::warn;

use crate::control::config::{Config, ConfigError};
use crate::control::rpc::Refusal;
use crate::disk::{Consumer, Disk, DiskConfig};
use crate::export::nvme_tcp::{HostId, NvmeTcpServer};
use crate::export::vhost_user::{
    Owner, VhostUserConfig, VhostUserDisk, VhostUserError, VhostUserExportConfig, VhostUserServer,
};
use crate::reactor::Remote;

use super::{Disks, Target};

/// Starts a server with the sockets of all disks that are open.
pub(super) fn serve(
    vhost_user: &VhostUserConfig,
    config: &Config,
    nvme_tcp: Option<&NvmeTcpServer>,
    disks: &Disks,
    reactors: &[Remote],
) -> Result<VhostUserServer, ConfigError> {
    let server = VhostUserServer::start(vhost_user, reactors)?;
    let sockets = Sockets { server: &server, nvme_tcp, config };
    for disk in &config.disks {
        if let Ok(opened) = disks.open(&disk.name) {
            sockets.place(disk, opened)?;
        }
    }
    Ok(server)
}

/// The sockets that a configuration asks for.
struct Sockets<'a> {
    server: &'a VhostUserServer,
    nvme_tcp: Option<&'a NvmeTcpServer>,
    config: &'a Config,
}

impl Sockets<'_> {
    /// Gives a disk all its sockets, or none if one of them cannot be had.
    fn place(&self, disk: &DiskConfig, opened: &Arc<Disk>) -> Result<(), VhostUserError> {
        let placed = self
            .config
            .sockets_of(&disk.name)
            .try_for_each(|export| self.place_export(export, opened))
            .and_then(|()| disk.attached_to.iter().try_for_each(|host| self.place_for(host, opened)));
        if placed.is_err() {
            self.server.remove(&disk.name, None)?;
        }
        placed
    }

    fn place_export(&self, export: &VhostUserExportConfig, opened: &Arc<Disk>) -> Result<(), VhostUserError> {
        self.server.add(VhostUserDisk {
            disk: opened.clone(),
            path: self.server.config().socket_of(&export.name),
            owner: Owner::Export(export.name.clone()),
            read_only: export.read_only,
            consumer: Consumer::new_one(),
            access: self.nvme_tcp.and_then(|nvme_tcp| nvme_tcp.access(&export.disk, None)),
        })
    }

    /// Gives a disk its socket for a host.
    fn place_for(&self, host: &str, opened: &Arc<Disk>) -> Result<(), VhostUserError> {
        let name = opened.name();
        let known = self.config.hosts.iter().find(|other| other.name == host);
        let host_id = known.and_then(|host| host.host_id).map(|id| HostId(id.into_bytes()));
        self.server.add(VhostUserDisk {
            disk: opened.clone(),
            path: self.server.config().socket_for(host, name),
            owner: Owner::Host(host.to_owned()),
            read_only: false,
            // The name that it has over NVMe too: its share is one.
            consumer: known.map_or_else(Consumer::new_one, |host| Consumer::Named(host.nqn.clone())),
            access: self.nvme_tcp.and_then(|nvme_tcp| nvme_tcp.access(name, host_id)),
        })
    }
}

impl Target {
    fn sockets<'a>(&'a self, config: &'a Config) -> Option<Sockets<'a>> {
        Some(Sockets { server: self.vhost_user()?, nvme_tcp: self.nvme_tcp(), config })
    }

    /// Gives a disk that was just opened its sockets.
    pub(super) fn place_sockets(&self, config: &Config, disk: &Arc<Disk>) -> Result<(), ConfigError> {
        let Some(sockets) = self.sockets(config) else { return Ok(()) };
        Ok(sockets.place(config.disk(disk.name())?, disk)?)
    }

    /// Gives a disk that is open a socket for another host.
    pub(super) fn place_socket_for(&self, config: &Config, disk: &str, host: &str) -> Result<(), Refusal> {
        let Some(sockets) = self.sockets(config) else { return Ok(()) };
        let Ok(opened) = self.state().disks.open(disk).cloned() else { return Ok(()) };
        Ok(sockets.place_for(host, &opened)?)
    }

    /// Takes a disk's socket from a host. That its last requests have not ended does not keep it there.
    pub(super) fn remove_socket_for(&self, disk: &str, host: &str) -> Result<(), VhostUserError> {
        let owner = Owner::Host(host.to_owned());
        self.vhost_user().map_or(Ok(()), |server| server.remove(disk, Some(&owner)))
    }

    /// Takes all sockets of a disk away.
    pub(super) fn remove_sockets(&self, disk: &str) {
        if let Some(Err(e)) = self.vhost_user().map(|server| server.remove(disk, None)) {
            warn!("disk {disk}: {e}");
        }
    }
}
