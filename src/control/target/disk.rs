//! Disks: what there is, who sees it, and how both change.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::config::{Config, ConfigError, known};
use crate::control::rpc::{Kind, Refusal};
use crate::device::{DeviceConfig, Size};
use crate::disk::DiskConfig;
use crate::export::nvme_tcp::{NvmeTcpError, NvmeTcpServer};

use super::{Changed, Removed, State, Target, namespace};

/// A disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskReport {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub account: Option<String>,
    /// Bytes on it.
    pub size_bytes: u64,
    /// Bytes of a sector.
    pub sector_bytes: u32,
    /// `aes-256-xts` or `none`.
    pub encryption: String,
    /// The device that it takes whole.
    pub device: String,
    /// Whether several hosts may have it at once.
    pub shared: bool,
    /// The identity that hosts know it by.
    pub uuid: Uuid,
    /// The namespace identifier, if it has one.
    pub nsid: Option<u32>,
    /// The hosts that see it.
    pub attached_to: Vec<String>,
    /// The names under which NBD exports it.
    pub nbd_exports: Vec<String>,
}

/// A disk and what it stands on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskDetail {
    /// The disk.
    #[serde(flatten)]
    pub disk: DiskReport,
    /// The kernel of its cipher.
    pub kernel: Option<String>,
    /// What its device is.
    pub device_is: String,
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

/// How large a disk shall be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSize {
    /// The disk.
    pub name: String,
    /// Its new size, not below the old one; if it is left out, the size that its file or block device has by now.
    #[serde(default)]
    pub size: Option<Size>,
}

/// A disk to be added, on a device of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDisk {
    /// The disk, as under `[[disk]]`.
    pub disk: DiskConfig,
    /// Its device, as under `[[device]]`.
    pub device: DeviceConfig,
}

impl State {
    fn disk(&self, nvme_tcp: Option<&NvmeTcpServer>, config: &DiskConfig) -> DiskReport {
        let disk = &self.disks[&config.name];
        DiskReport {
            name: config.name.clone(),
            account: config.account.clone(),
            size_bytes: disk.size(),
            sector_bytes: disk.sector_size().bytes() as u32,
            encryption: if disk.is_encrypted() { "aes-256-xts" } else { "none" }.to_owned(),
            device: config.device.clone(),
            shared: config.shared,
            uuid: config.uuid_in(&self.config.region),
            nsid: nvme_tcp.and_then(|server| namespace::nsid_of(server, config)).or(config.nsid),
            attached_to: config.attached_to.clone(),
            nbd_exports: self.config.exports_of(&config.name).map(str::to_owned).collect(),
        }
    }

    fn disk_named(&self, nvme_tcp: Option<&NvmeTcpServer>, name: &str) -> Result<DiskReport, Refusal> {
        known("disk", name, self.config.disks.iter().map(|disk| &disk.name))?;
        let disk = self.config.disks.iter().find(|disk| disk.name == name).expect("it is known");
        Ok(self.disk(nvme_tcp, disk))
    }
}

impl Target {
    pub(in crate::control) fn disks(&self) -> Vec<DiskReport> {
        let state = self.state();
        state.config.disks.iter().map(|disk| state.disk(self.nvme_tcp(), disk)).collect()
    }

    pub(in crate::control) fn disk(&self, DiskName { name }: &DiskName) -> Result<DiskDetail, Refusal> {
        let state = self.state();
        let report = state.disk_named(self.nvme_tcp(), name)?;
        let disk = &state.disks[name];
        Ok(DiskDetail {
            disk: report,
            kernel: disk.kernel().map(|kernel| kernel.to_string()),
            device_is: disk.device().describe(),
        })
    }

    pub(in crate::control) fn add_disk(&self, new: NewDisk) -> Result<Changed<DiskReport>, Refusal> {
        let name = new.disk.name.clone();
        let edit = |config: &mut Config| {
            if new.disk.device != new.device.name {
                return Err(Refusal::new(
                    Kind::Refused,
                    format!(
                        "disk {name}: it names device {}, but device {} is given",
                        new.disk.device, new.device.name
                    ),
                ));
            }
            config.add_disk(new.disk, new.device);
            Ok(())
        };
        self.change(edit, |config| {
            let disk = config.open_disk(&name)?;
            if let Some(server) = self.nvme_tcp() {
                let placed = config.disks.last().expect("it was just added");
                namespace::place(server, config, placed, &disk)?;
            }
            self.state().disks.insert(name.clone(), disk);
            Ok(())
        })?;
        self.changed_disk(&name)
    }

    pub(in crate::control) fn remove_disk(&self, DiskName { name }: &DiskName) -> Result<Changed<Removed>, Refusal> {
        let edit = |config: &mut Config| {
            let disk = config.disk_mut(name)?;
            let (hosts, device) = (disk.attached_to.join(", "), disk.device.clone());
            if !hosts.is_empty() {
                return Err(Refusal::new(
                    Kind::InUse,
                    format!("disk {name} is attached; detach it first from: {hosts}"),
                ));
            }
            if let Some(export) = config.exports_of(name).next() {
                let what = format!(
                    "disk {name} is the NBD export {export:?}; NBD exports are changed in the configuration file only"
                );
                return Err(Refusal::new(Kind::InUse, what));
            }
            config.disks.retain(|disk| disk.name != *name);
            config.devices.retain(|other| other.name != device);
            Ok(())
        };
        self.change(edit, |_| {
            if let Some(server) = self.server_of(name) {
                server.remove_disk(name)?;
            }
            Ok(Changed::new(Removed { removed: name.clone() }))
        })
    }

    pub(in crate::control) fn attach(&self, to: &Attachment) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            config.disk_mut(&to.name)?.attached_to.push(to.host.clone());
            Ok(())
        };
        self.change(edit, |_| {
            if let Some(server) = self.server_of(&to.name) {
                server.attach(&to.name, &to.host)?;
            }
            Ok(())
        })?;
        self.changed_disk(&to.name)
    }

    pub(in crate::control) fn detach(&self, from: &Attachment) -> Result<Changed<DiskReport>, Refusal> {
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
        let finished = self.change(edit, |_| {
            let Some(server) = self.server_of(&from.name) else { return Ok(Ok(())) };
            match server.detach(&from.name, &from.host) {
                // The host does not see the disk any more, which is to be remembered; only its last commands have not ended.
                Err(late @ NvmeTcpError::DetachTimeout { .. }) => Ok(Err(late)),
                other => Ok(Ok(other?)),
            }
        })?;
        finished?;
        self.changed_disk(&from.name)
    }

    pub(in crate::control) fn resize(&self, new: &NewSize) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            config.disk_mut(&new.name)?;
            Ok(())
        };
        self.change(edit, |_| {
            let disk = self.state().disks[&new.name].clone();
            let grown = match new.size {
                Some(Size(bytes)) => disk.grow(bytes),
                None => disk.refresh_size(),
            };
            grown.map_err(|e| Refusal::from(ConfigError::from(e)))?;
            if let Some(server) = self.server_of(&new.name) {
                server.resized(&new.name)?;
            }
            Ok(())
        })?;
        self.changed_disk(&new.name)
    }

    /// The server, if the disk is a namespace: a change never makes one of a disk that is there, nor takes it back.
    fn server_of(&self, disk: &str) -> Option<&NvmeTcpServer> {
        let is_namespace = self.state().config.disks.iter().any(|other| other.name == disk && other.account.is_some());
        self.nvme_tcp().filter(|_| is_namespace)
    }

    fn changed_disk(&self, name: &str) -> Result<Changed<DiskReport>, Refusal> {
        Ok(Changed::new(self.state().disk_named(self.nvme_tcp(), name)?))
    }
}
