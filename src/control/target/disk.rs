//! Disks: what there is, who sees it, and how both change.

use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::control::config::{Config, known};
use crate::control::keys::wrapped_key;
use crate::control::rpc::{Kind, Refusal};
use crate::device::DeviceConfig;
use crate::disk::{DiskConfig, Encryption, Limits};
use crate::export::nvme_tcp::{NvmeTcpError, NvmeTcpServer};
use crate::kms::WrappedKey;
use crate::kms::audit::{Actor, Operation};
use crate::volume::{Usage, VolumeInfo};

use super::{Changed, Removed, State, Target, disks, namespace};

/// A disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskReport {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub account: Option<String>,
    /// Bytes on it; absent while it is offline.
    pub size_bytes: Option<u64>,
    /// Bytes of a sector; absent while it is not open.
    pub sector_bytes: Option<u32>,
    /// `open`; `detached`: its key is not in memory, because nobody uses it; or `offline`.
    pub state: String,
    /// `aes-256-xts` or `none`.
    pub encryption: String,
    /// Where its key is: `kms` or `file`; absent for a plain disk.
    pub key: Option<String>,
    /// The device that it takes whole.
    pub device: Option<String>,
    /// The pool that its volume lies in.
    pub pool: Option<String>,
    /// Bytes of the pool that its volume refers to; absent without a volume.
    pub allocated_bytes: Option<u64>,
    /// Why it is not served, if it is not.
    pub offline: Option<String>,
    /// Whether several hosts may have it at once.
    pub shared: bool,
    /// The identity that hosts know it by.
    pub uuid: Uuid,
    /// The namespace identifier, if it has one.
    pub nsid: Option<u32>,
    /// How fast it may be; as fast as it can, if absent.
    pub limits: Option<Limits>,
    /// The hosts that see it.
    pub attached_to: Vec<String>,
    /// The names under which NBD exports it.
    pub nbd_exports: Vec<String>,
    /// The sockets at which virtual machines find it while it is open.
    #[serde(default)]
    pub vhost_user_sockets: Vec<String>,
}

/// A disk and what it stands on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskDetail {
    /// The disk.
    #[serde(flatten)]
    pub disk: DiskReport,
    /// The kernel of its cipher.
    pub kernel: Option<String>,
    /// What it stands on; absent while it is offline.
    pub device_is: Option<String>,
    /// Its volume, if it lies in a pool and is not offline.
    pub volume: Option<VolumeDetail>,
}

/// A disk's volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeDetail {
    /// The snapshot that it was made from.
    pub made_from: Option<String>,
    /// When it was made: seconds since 1970.
    pub created_at: u64,
    /// Bytes of the pool that nobody else refers to: what its deletion would free.
    pub own_bytes: u64,
    /// Bytes of the pool that snapshots or clones refer to as well.
    pub shared_bytes: u64,
    /// Its snapshots.
    pub snapshots: Vec<String>,
}

/// The name of a disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskName {
    /// The name.
    pub name: String,
}

/// A disk and a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The disk.
    pub name: String,
    /// The host.
    pub host: String,
}

/// A disk to be added, on a device of its own or on a volume that is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDisk {
    /// The disk, as under `[[disk]]`.
    pub disk: DiskConfig,
    /// Its device, as under `[[device]]`, unless it lies in a pool.
    #[serde(default)]
    pub device: Option<DeviceConfig>,
}

impl State {
    /// What is known without asking anybody; the pool is asked with the state unlocked.
    fn disk(&self, nvme_tcp: Option<&NvmeTcpServer>, config: &DiskConfig) -> DiskReport {
        let disk = self.disks.open(&config.name);
        let offline = self.disks.offline(&config.name);
        let key = match self.config.encryption_of(config) {
            Ok(Encryption::Kms) => Some("kms"),
            Ok(Encryption::Xts(_)) => Some("file"),
            Ok(Encryption::None) | Err(_) => None,
        };
        let sockets = self.config.socket_paths(config);
        DiskReport {
            name: config.name.clone(),
            account: config.account.clone(),
            size_bytes: disk.ok().map(|disk| disk.size()),
            sector_bytes: disk.ok().map(|disk| disk.sector_size().bytes() as u32),
            state: match (disk, offline) {
                (Ok(_), _) => "open",
                (Err(_), None) => "detached",
                (Err(_), Some(_)) => "offline",
            }
            .to_owned(),
            encryption: if key.is_some() { "aes-256-xts" } else { "none" }.to_owned(),
            key: key.map(str::to_owned),
            device: config.device.clone(),
            pool: config.pool.clone(),
            allocated_bytes: None,
            offline: offline.map(str::to_owned),
            shared: config.shared,
            uuid: config.uuid_in(&self.config.region),
            nsid: nvme_tcp.and_then(|server| namespace::nsid_of(server, config)).or(config.nsid),
            limits: config.limits,
            attached_to: config.attached_to.clone(),
            nbd_exports: self.config.exports_of(&config.name).map(str::to_owned).collect(),
            vhost_user_sockets: sockets.iter().map(|path| path.display().to_string()).collect(),
        }
    }

    fn disk_named(&self, nvme_tcp: Option<&NvmeTcpServer>, name: &str) -> Result<DiskReport, Refusal> {
        Ok(self.disk(nvme_tcp, self.config.disk(name)?))
    }
}

impl Target {
    pub(in crate::control) fn disks(&self) -> Vec<DiskReport> {
        let mut disks: Vec<DiskReport> = {
            let state = self.state();
            state.config.disks.iter().map(|disk| state.disk(self.nvme_tcp(), disk)).collect()
        };
        let volumes = self.all_volumes();
        for disk in &mut disks {
            let volume =
                volumes.iter().find(|(pool, volume)| Some(pool) == disk.pool.as_ref() && volume.name == disk.name);
            disk.allocated_bytes = volume.map(|(_, volume)| volume.allocated_bytes);
            disk.size_bytes = disk.size_bytes.or(volume.map(|(_, volume)| volume.size_bytes));
        }
        disks
    }

    pub(in crate::control) fn disk(&self, DiskName { name }: &DiskName) -> Result<DiskDetail, Refusal> {
        let (mut report, opened) = {
            let state = self.state();
            (state.disk_named(self.nvme_tcp(), name)?, state.disks.open(name).ok().cloned())
        };
        let volume = self.volume_detail(&mut report)?;
        Ok(DiskDetail {
            disk: report,
            kernel: opened.as_ref().and_then(|disk| disk.kernel()).map(|kernel| kernel.to_string()),
            device_is: opened.map(|disk| disk.ground().describe()),
            volume,
        })
    }

    fn volume_detail(&self, disk: &mut DiskReport) -> Result<Option<VolumeDetail>, Refusal> {
        let Some(pool) = disk.pool.as_ref().filter(|_| disk.offline.is_none()) else { return Ok(None) };
        let pool = self.storage.pool(pool)?.pool;
        let volumes = pool.volumes();
        let Some(VolumeInfo { allocated_bytes, size_bytes, parent, created_at, .. }) =
            volumes.iter().find(|volume| volume.name == disk.name)
        else {
            return Ok(None);
        };
        disk.allocated_bytes = Some(*allocated_bytes);
        disk.size_bytes = disk.size_bytes.or(Some(*size_bytes));
        let Usage { own_bytes, shared_bytes } = pool.usage(&disk.name)?;
        let prefix = format!("{}@", disk.name);
        let snapshots = volumes.iter().filter(|volume| volume.name.starts_with(&prefix));
        Ok(Some(VolumeDetail {
            made_from: parent.clone(),
            created_at: *created_at,
            own_bytes,
            shared_bytes,
            snapshots: snapshots.map(|snapshot| snapshot.name.clone()).collect(),
        }))
    }

    pub(in crate::control) fn add_disk(
        &self,
        NewDisk { mut disk, device }: NewDisk,
        actor: Actor,
    ) -> Result<Changed<DiskReport>, Refusal> {
        let name = disk.name.clone();
        let refused = |what: String| Err(Refusal::new(Kind::Refused, format!("disk {name}: {what}")));
        let given = device.as_ref().map(|device| &device.name);
        if disk.pool.is_none() && disk.device.as_ref() != given {
            let or_none = |name: Option<&String>| name.map_or("no device".to_owned(), |name| format!("device {name}"));
            return refused(format!("it names {}, but {} is given", or_none(disk.device.as_ref()), or_none(given)));
        }
        if disk.pool.is_some() && (disk.size.is_some() || disk.from_snapshot.is_some()) {
            return refused("disk.add opens a volume that is there; disk.create makes one".to_owned());
        }
        let edit = |config: &mut Config| {
            self.choose_nsid(config, &mut disk)?;
            config.add_disk(disk);
            device.into_iter().for_each(|device| config.add_device(device));
            Ok(())
        };
        self.change(edit, |config| self.open_added(config, actor))?;
        self.changed_disk(&name)
    }

    /// Opens the disk that was added last, if somebody uses it.
    pub(super) fn open_added(&self, config: &Config, actor: Actor) -> Result<(), Refusal> {
        let name = &config.disks.last().expect("it was just added").name;
        if config.is_used(name)? {
            return self.open(config, name, actor);
        }
        self.storage.make_disk(config, name, actor)?;
        self.state().disks.set_detached(name);
        Ok(())
    }

    /// Opens a disk with its key, and makes it a namespace if it has an account.
    pub(super) fn open(&self, config: &Config, name: &str, actor: Actor) -> Result<(), Refusal> {
        let disk = self.storage.open_disk(config, name, actor)?;
        if let Some(server) = self.nvme_tcp() {
            namespace::place(server, config, config.disk(name)?, &disk)?;
        }
        if let Err(e) = self.place_sockets(config, &disk) {
            if let Some(server) = self.nvme_tcp().filter(|_| config.disk(name).is_ok_and(|disk| disk.account.is_some()))
            {
                server.remove_disk(name)?;
            }
            return Err(e.into());
        }
        self.state().disks.insert(disk);
        Ok(())
    }

    pub(in crate::control) fn remove_disk(&self, DiskName { name }: &DiskName) -> Result<Changed<Removed>, Refusal> {
        let edit = |config: &mut Config| {
            refuse_if_seen(config, name)?;
            self.refuse_conversion(name)?;
            let device = config.disk(name)?.device.clone();
            config.disks.retain(|disk| disk.name != *name);
            config.devices.retain(|other| Some(&other.name) != device.as_ref());
            Ok(())
        };
        self.change(edit, |_| {
            self.remove_sockets(name);
            if let Some(server) = self.server_of(name) {
                server.remove_disk(name)?;
            }
            Ok(Changed::new(Removed { removed: name.clone() }))
        })
    }

    pub(in crate::control) fn attach(&self, to: &Attachment, actor: Actor) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            config.disk(&to.name)?;
            self.state().disks.usable(&to.name)?;
            config.disk_mut(&to.name)?.attached_to.push(to.host.clone());
            Ok(())
        };
        self.change(edit, |config| {
            if self.state().disks.is_detached(&to.name) {
                return self.open(config, &to.name, actor);
            }
            self.check_key(config, &to.name, actor, Operation::Attach)?;
            self.place_socket_for(config, &to.name, &to.host)?;
            if let Some(server) = self.server_of(&to.name)
                && let Err(e) = server.attach(&to.name, &to.host)
            {
                self.remove_socket_for(&to.name, &to.host)?;
                return Err(e.into());
            }
            Ok(())
        })?;
        self.keep_nsid(&to.name);
        self.changed_disk(&to.name)
    }

    /// The namespace keeps its identifier while the disk is detached.
    fn keep_nsid(&self, name: &str) {
        let _one_at_a_time = self.changing();
        let mut state = self.state();
        let Ok(disk) = state.config.disk(name) else { return };
        let Some(now) = self.nvme_tcp().and_then(|server| namespace::nsid_of(server, disk)) else { return };
        let account = disk.account.clone();
        // When all others were taken it has got one that a disk keeps which is not attached.
        for other in state.config.disks.iter_mut().filter(|other| other.account == account && other.nsid == Some(now)) {
            other.nsid = None;
        }
        if let Ok(disk) = state.config.disk_mut(name) {
            disk.nsid = Some(now);
        }
    }

    /// Makes sure that the key of a disk may be used for something now, if a KMS keeps it, and writes that down.
    pub(super) fn check_key(
        &self,
        config: &Config,
        name: &str,
        actor: Actor,
        operation: Operation,
    ) -> Result<(), Refusal> {
        let Some(pool) = config.pool_of(name)? else { return Ok(()) };
        let volume = self.storage.pool(pool)?.pool.volume(name)?;
        Ok(self.storage.keys().check(config.disk(name)?, &volume, actor, operation)?)
    }

    /// Takes a disk from a host. If nobody else has it, and a KMS keeps its key, the key is wiped on every reactor before this answers.
    pub(in crate::control) fn detach(&self, from: &Attachment, actor: Actor) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            let Attachment { name, host } = from;
            known("host", host, config.hosts.iter().map(|host| &host.name))?;
            let disk = config.disk_mut(name)?;
            if !disk.attached_to.contains(host) {
                return Err(Refusal::new(Kind::NotFound, format!("disk {name} is not attached to host {host}")));
            }
            disk.attached_to.retain(|other| other != host);
            Ok(())
        };
        let finished = self.change(edit, |config| {
            // The host does not see the disk any more, which is to be remembered; only its last commands have not ended.
            let late = self.remove_socket_for(&from.name, &from.host).map_err(Refusal::from);
            let server = self.server_of(&from.name);
            let detached = match server.map_or(Ok(()), |server| server.detach(&from.name, &from.host)) {
                Err(late @ NvmeTcpError::DetachTimeout { .. }) => Ok(Err(late.into())),
                other => Ok(other.map(|()| late)?),
            };
            if !config.is_used(&from.name)? {
                if let Some(server) = server {
                    server.remove_disk(&from.name)?;
                }
                self.remove_sockets(&from.name);
                let disk = self.state().disks.set_detached(&from.name);
                disk.map(disks::close);
            }
            detached
        })?;
        self.note_detached(&from.name, actor);
        finished?;
        self.changed_disk(&from.name)
    }

    /// The wrapped key of a disk, if a KMS keeps it.
    fn wrapped_key_of(&self, name: &str) -> Option<WrappedKey> {
        let pool = self.state().config.pool_of(name).ok()??.to_owned();
        let volume = self.storage.pool(&pool).ok()?.pool.volume(name).ok()?;
        wrapped_key(&volume).ok()?
    }

    /// Writes down that a disk was taken from a host. That it cannot be written down does not undo it.
    pub(super) fn note_detached(&self, name: &str, actor: Actor) {
        self.note_operation(name, actor, Operation::Detach);
    }

    /// Writes down something that was done with a disk and that needs nothing of the KMS.
    pub(super) fn note_operation(&self, name: &str, actor: Actor, operation: Operation) {
        let Some(wrapped) = self.wrapped_key_of(name) else { return };
        if let Err(e) = self.storage.keys().note(name, &wrapped, actor, operation) {
            let operation: &str = operation.into();
            warn!("disk {name}: {operation} is not in the audit log: {e}");
        }
    }

    /// The server, if the disk is a namespace: a change never makes one of a disk that is there, nor takes it back. A disk that is offline is none.
    pub(super) fn server_of(&self, disk: &str) -> Option<&NvmeTcpServer> {
        let state = self.state();
        let is_namespace = state.config.disks.iter().any(|other| other.name == disk && other.account.is_some());
        self.nvme_tcp().filter(|_| is_namespace && state.disks.open(disk).is_ok())
    }

    pub(super) fn changed_disk(&self, name: &str) -> Result<Changed<DiskReport>, Refusal> {
        Ok(Changed::new(self.state().disk_named(self.nvme_tcp(), name)?))
    }
}

/// Refuses what must not happen to a disk that a host or a client may use.
pub(super) fn refuse_if_seen(config: &Config, name: &str) -> Result<(), Refusal> {
    refuse_if_attached(config, name)?;
    let what = if let Some(export) = config.exports_of(name).next() {
        format!("disk {name} is the NBD export {export:?}; NBD exports are changed in the configuration file only")
    } else if let Some(export) = config.sockets_of(name).next() {
        let export = &export.name;
        format!(
            "disk {name} is the vhost-user export {export:?}; such exports are changed in the configuration file only"
        )
    } else {
        return Ok(());
    };
    Err(Refusal::new(Kind::InUse, what))
}

pub(super) fn refuse_if_attached(config: &Config, name: &str) -> Result<(), Refusal> {
    let hosts = config.disk(name)?.attached_to.join(", ");
    if hosts.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(Kind::InUse, format!("disk {name} is attached; detach it first from: {hosts}")))
}
