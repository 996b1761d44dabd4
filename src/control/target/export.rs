//! Exports: where the target listens, and what is found there.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::config::Config;
use crate::disk::Disk;
use crate::export::nbd::NbdError;
use crate::export::nvme_tcp::{Controller, Nqn, NvmeTcpServer, Subsystem};
use crate::export::vhost_user::{Owner, SocketReport, VhostUserServer};

use super::Target;

/// All exports; one that the configuration does not have is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportsReport {
    /// NBD.
    pub nbd: Option<NbdReport>,
    /// NVMe/TCP.
    pub nvme_tcp: Option<NvmeTcpReport>,
    /// vhost-user.
    #[serde(default)]
    pub vhost_user: Option<VhostUserReport>,
}

/// The vhost-user export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VhostUserReport {
    /// The folder of the sockets.
    pub directory: String,
    /// What is found there.
    pub sockets: Vec<VhostUserSocketReport>,
}

/// A disk at a socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VhostUserSocketReport {
    /// The socket.
    pub path: String,
    /// The disk.
    pub disk: String,
    /// The export, if it is an operator's.
    pub export: Option<String>,
    /// The host, if the disk is attached to one.
    pub host: Option<String>,
    /// Whether the virtual machine cannot change the disk.
    pub read_only: bool,
    /// Who is connected.
    pub peer: Option<String>,
    /// For each queue that the virtual machine uses, the core of the reactor that serves it.
    pub queue_cores: Vec<usize>,
}

impl VhostUserReport {
    fn of(server: &VhostUserServer) -> Self {
        let socket = |socket: SocketReport| {
            let (export, host) = match socket.owner {
                Owner::Export(name) => (Some(name), None),
                Owner::Host(name) => (None, Some(name)),
            };
            VhostUserSocketReport {
                path: socket.path.display().to_string(),
                disk: socket.disk,
                export,
                host,
                read_only: socket.read_only,
                peer: socket.peer,
                queue_cores: socket.queue_cores,
            }
        };
        Self {
            directory: server.config().directory.display().to_string(),
            sockets: server.report().into_iter().map(socket).collect(),
        }
    }
}

/// The NBD export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NbdReport {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Connections at this moment.
    pub connections: usize,
    /// What is found there.
    pub exports: Vec<NbdExportReport>,
}

/// A disk under a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NbdExportReport {
    /// The name.
    pub name: String,
    /// The disk.
    pub disk: String,
    /// Whether clients cannot change it.
    pub read_only: bool,
    /// Whether clients do not find it, because its disk is offline.
    pub offline: bool,
}

/// The NVMe/TCP export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NvmeTcpReport {
    /// Where it listens.
    pub listen: Vec<String>,
    /// Connections at this moment: one for each queue.
    pub connections: usize,
    /// What is found there.
    pub subsystems: Vec<SubsystemReport>,
}

/// What an account's hosts may reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubsystemReport {
    /// The name that hosts connect to.
    pub nqn: String,
    /// Whose it is.
    pub account: String,
    /// The hosts that may connect.
    pub hosts: Vec<String>,
    /// Its disks.
    pub namespaces: Vec<NamespaceReport>,
    /// The controllers that hosts have now.
    pub controllers: Vec<ControllerReport>,
}

/// A disk as hosts see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NamespaceReport {
    /// Its identifier in the subsystem.
    pub nsid: u32,
    /// The disk.
    pub disk: String,
    /// The disk's identity.
    pub uuid: Uuid,
    /// Bytes on it.
    pub size_bytes: u64,
    /// Bytes of a logical block.
    pub block_bytes: u64,
    /// Whether several hosts may have it at once.
    pub shared: bool,
    /// The hosts that see it.
    pub attached_to: Vec<String>,
}

/// A host's association with a subsystem.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControllerReport {
    /// Its identifier in the subsystem.
    pub id: u16,
    /// The name of the subsystem.
    pub subsystem: String,
    /// The account; none for the discovery subsystem.
    pub account: Option<String>,
    /// The host's name here; none if it only looks at the discovery subsystem.
    pub host: Option<String>,
    /// The name that the host connected with.
    pub host_nqn: String,
    /// The identifier that it connected with.
    pub host_id: Uuid,
    /// Its connections.
    pub queues: Vec<QueueReport>,
    /// How long the host may be silent; 0 means for ever.
    pub keep_alive_ms: u64,
    /// How long it has been silent.
    pub silent_ms: u64,
}

/// A queue, which is a connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueReport {
    /// Its identifier; 0 is the Admin queue.
    pub id: u16,
    /// Who is at the other end.
    pub peer: String,
}

impl SubsystemReport {
    fn of(subsystem: &Subsystem) -> Self {
        let namespaces = subsystem.namespaces().into_iter().map(|(namespace, hosts)| NamespaceReport {
            nsid: namespace.nsid(),
            disk: namespace.disk().name().to_owned(),
            uuid: Uuid::from_bytes(namespace.uuid()),
            size_bytes: namespace.blocks() * namespace.block_bytes(),
            block_bytes: namespace.block_bytes(),
            shared: namespace.is_shared(),
            attached_to: hosts,
        });
        Self {
            nqn: subsystem.nqn().to_string(),
            account: subsystem.account().to_owned(),
            hosts: subsystem.hosts().iter().map(|host| host.name.clone()).collect(),
            namespaces: namespaces.collect(),
            controllers: subsystem.controllers().iter().map(|controller| ControllerReport::of(controller)).collect(),
        }
    }
}

impl ControllerReport {
    fn of(controller: &Controller) -> Self {
        let subsystem = controller.subsystem();
        let hosts = subsystem.map(|subsystem| subsystem.hosts()).unwrap_or_default();
        let host = hosts.iter().find(|host| host.nqn == *controller.host());
        Self {
            id: controller.id(),
            subsystem: subsystem.map_or_else(Nqn::discovery, |subsystem| subsystem.nqn().clone()).to_string(),
            account: subsystem.map(|subsystem| subsystem.account().to_owned()),
            host: host.map(|host| host.name.clone()),
            host_nqn: controller.host().to_string(),
            host_id: Uuid::from_bytes(controller.host_id().0),
            queues: controller.peers().into_iter().map(|(id, peer)| QueueReport { id, peer }).collect(),
            keep_alive_ms: controller.keep_alive_time().as_millis() as u64,
            silent_ms: controller.silence(Instant::now()).as_millis() as u64,
        }
    }
}

impl Target {
    pub(in crate::control) fn exports(&self) -> ExportsReport {
        ExportsReport {
            nbd: self.nbd_report(),
            nvme_tcp: self.nvme_tcp().map(nvme_tcp_report),
            vhost_user: self.vhost_user().map(VhostUserReport::of),
        }
    }

    /// All controllers, those of the discovery subsystem last.
    pub(in crate::control) fn controllers(&self) -> Vec<ControllerReport> {
        let Some(server) = self.nvme_tcp() else { return Vec::new() };
        let subsystems = server.subsystems();
        let of_accounts = subsystems.subsystems().into_iter().flat_map(|subsystem| subsystem.controllers());
        let all = of_accounts.chain(subsystems.discovery_controllers());
        all.map(|controller| ControllerReport::of(&controller)).collect()
    }

    /// Lets NBD clients find a disk under the names that the configuration has for it.
    pub(super) fn export_over_nbd(&self, config: &Config, disk: &Arc<Disk>) -> Result<(), NbdError> {
        let Some(server) = self.nbd() else { return Ok(()) };
        let exports = config.nbd.iter().flat_map(|nbd| &nbd.exports).filter(|export| export.disk == disk.name());
        exports.into_iter().try_for_each(|export| server.add_export(export, disk))
    }

    fn nbd_report(&self) -> Option<NbdReport> {
        let server = self.nbd.as_ref()?;
        let state = self.state();
        let exports = state.config.nbd.iter().flat_map(|nbd| &nbd.exports);
        Some(NbdReport {
            listen: server.addresses().iter().map(ToString::to_string).collect(),
            connections: server.connections(),
            exports: exports
                .map(|export| NbdExportReport {
                    name: export.name.clone(),
                    disk: export.disk.clone(),
                    read_only: export.read_only,
                    offline: state.disks.open(&export.disk).is_err(),
                })
                .collect(),
        })
    }
}

fn nvme_tcp_report(server: &NvmeTcpServer) -> NvmeTcpReport {
    NvmeTcpReport {
        listen: server.addresses().iter().map(ToString::to_string).collect(),
        connections: server.connections(),
        subsystems: server.subsystems().subsystems().iter().map(|subsystem| SubsystemReport::of(subsystem)).collect(),
    }
}
