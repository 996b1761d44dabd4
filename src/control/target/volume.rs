//! Disks in pools: made, resized, and deleted with their content.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Deserialize;
use tracing::warn;
use uuid::Uuid;

use crate::control::config::{Config, ConfigError};
use crate::control::keys::wrapped_key;
use crate::control::rpc::{Kind, Refusal};
use crate::control::storage::CLOSE_LIMIT;
use crate::crypto::xts::SectorSize;
use crate::device::Size;
use crate::disk::{DiskConfig, Encryption, Limits};
use crate::export::nbd::Held;
use crate::export::vhost_user::HeldVhostUser;
use crate::kms::audit::{Actor, Operation};
use crate::volume::{Pool, PoolError, Shrink, VolumeInfo, once_free};

use super::disk::{refuse_if_attached, refuse_if_seen};
use super::{Changed, DiskName, DiskReport, Removed, Target};

/// A disk to be made, with its volume.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVolumeDisk {
    /// Its name, and that of the volume.
    pub name: String,
    /// The pool.
    pub pool: String,
    /// Bytes.
    #[serde(default)]
    pub size: Option<Size>,
    /// The snapshot that it is made from, instead of a size.
    #[serde(default)]
    pub from_snapshot: Option<String>,
    /// Bytes in a sector.
    #[serde(default)]
    pub sector_size: Option<u32>,
    /// How it is encrypted, as under `[[disk]]`.
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// Whose it is.
    #[serde(default)]
    pub account: Option<String>,
    /// Several hosts may have it at once.
    #[serde(default)]
    pub shared: bool,
    /// The hosts that see it.
    #[serde(default)]
    pub attached_to: Vec<String>,
    /// The namespace identifier.
    #[serde(default)]
    pub nsid: Option<u32>,
    /// The identity that hosts know it by.
    #[serde(default)]
    pub uuid: Option<Uuid>,
    /// The master key that wraps its key.
    #[serde(default)]
    pub master_key: Option<String>,
    /// How fast it may be.
    #[serde(default)]
    pub limits: Option<Limits>,
}

impl NewVolumeDisk {
    fn config(self) -> Result<DiskConfig, Refusal> {
        let sector_size = self.sector_size.map(SectorSize::try_from).transpose();
        let sector_size = sector_size.map_err(|e| Refusal::new(Kind::Refused, format!("disk {}: {e}", self.name)))?;
        Ok(DiskConfig {
            name: self.name,
            device: None,
            pool: Some(self.pool),
            size: self.size,
            from_snapshot: self.from_snapshot,
            sector_size,
            encryption: self.encryption,
            account: self.account,
            shared: self.shared,
            attached_to: self.attached_to,
            nsid: self.nsid,
            uuid: self.uuid,
            master_key: self.master_key,
            limits: self.limits,
            of_cloud: false,
        })
    }
}

/// How large a disk shall be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSize {
    /// The disk.
    pub name: String,
    /// Its new size; if it is left out, the size that its file or block device has by now.
    #[serde(default)]
    pub size: Option<Size>,
    /// It may become smaller: what lies behind the new end is lost.
    #[serde(default)]
    pub shrink: bool,
}

/// A disk that no client of NBD and no virtual machine may reach until this is dropped.
pub(super) struct HeldDisk {
    _nbd: Option<Held>,
    _vhost_user: Option<HeldVhostUser>,
}

impl Target {
    pub(in crate::control) fn create_disk(
        &self,
        new: NewVolumeDisk,
        actor: Actor,
    ) -> Result<Changed<DiskReport>, Refusal> {
        if new.size.is_none() && new.from_snapshot.is_none() {
            let what = format!("disk {}: give it a size, or the snapshot that it is made from", new.name);
            return Err(Refusal::new(Kind::Refused, what));
        }
        self.create_in_pool(new.config()?, actor)
    }

    /// Makes the volume of a disk in its pool, and opens it.
    pub(in crate::control) fn create_in_pool(
        &self,
        mut new: DiskConfig,
        actor: Actor,
    ) -> Result<Changed<DiskReport>, Refusal> {
        let name = new.name.clone();
        let pool = new.pool.clone().expect("it is asked for disks in pools only");
        let edit = |config: &mut Config| {
            self.choose_nsid(config, &mut new)?;
            config.add_disk(new);
            Ok(())
        };
        self.change(edit, |config| {
            let in_pool = self.storage.pool(&pool)?.pool;
            if in_pool.volume(&name).is_ok() {
                let what =
                    format!("pool {pool} has a volume {name} already; `strongroom disk add --pool` opens it as it is");
                return Err(Refusal::new(Kind::Exists, what));
            }
            self.open_added(config, actor).inspect_err(|_| {
                // Nobody has seen it.
                match once_free(CLOSE_LIMIT, || in_pool.delete(&name)) {
                    Ok(_) | Err(PoolError::NotFound { .. }) => {}
                    Err(e) => warn!("pool {pool}: volume {name} was made for nothing, and cannot be deleted: {e}"),
                }
            })
        })?;
        self.changed_disk(&name)
    }

    /// Closes a disk and deletes its volume. If the volume cannot be deleted, the disk stays, offline, and deleting it can be tried again.
    pub(in crate::control) fn delete_disk(
        &self,
        DiskName { name }: &DiskName,
        actor: Actor,
    ) -> Result<Changed<Removed>, Refusal> {
        let edit = |config: &mut Config| {
            refuse_if_seen(config, name)?;
            self.refuse_conversion(name)?;
            pool_name_of(config, name)?;
            config.disks.retain(|disk| disk.name != *name);
            Ok(())
        };
        self.change(edit, |_| {
            let pool = pool_name_of(&self.state().config, name)?;
            let pool = self.storage.pool(&pool)?.pool;
            self.remove_sockets(name);
            if let Some(server) = self.server_of(name) {
                server.remove_disk(name)?;
            }
            let closed = self.state().disks.set_offline(name, "its volume is being deleted".to_owned());
            drop(closed);
            match self.delete_volume(&pool, name, Some(Operation::DeleteDisk), actor) {
                Ok(()) | Err(PoolError::NotFound { .. }) => Ok(Changed::new(Removed { removed: name.clone() })),
                Err(e) => {
                    self.state().disks.set_offline(name, format!("its volume could not be deleted: {e}"));
                    Err(e.into())
                }
            }
        })
    }

    pub(in crate::control) fn resize(&self, new: &NewSize) -> Result<Changed<DiskReport>, Refusal> {
        let edit = |config: &mut Config| {
            self.refuse_conversion(&new.name)?;
            let disk = config.disk_mut(&new.name)?;
            // What the file says is compared with the volume at the next start; here both change together.
            disk.size = disk.size.and(new.size);
            Ok(())
        };
        self.change(edit, |config| {
            self.state().disks.usable(&new.name)?;
            let pool = config.pool_of(&new.name)?;
            if let (Some(pool), Some(Size(bytes))) = (pool, new.size) {
                return self.resize_volume(config, pool, new, bytes);
            }
            let disk = self.state().disks.needed(&new.name)?;
            match new.size {
                Some(_) if new.shrink => {
                    let what = format!("disk {} takes a device whole, and does not become smaller", new.name);
                    return Err(Refusal::new(Kind::Refused, what));
                }
                Some(Size(bytes)) => drop(disk.grow(bytes).map_err(ConfigError::from)?),
                None => drop(disk.refresh_size().map_err(ConfigError::from)?),
            }
            self.tell_size(&new.name)
        })?;
        self.changed_disk(&new.name)
    }

    /// Tells hosts how large a disk is now.
    pub(super) fn tell_size(&self, name: &str) -> Result<(), Refusal> {
        if let Some(server) = self.vhost_user() {
            server.resized(name);
        }
        Ok(self.server_of(name).map_or(Ok(()), |server| server.resized(name))?)
    }

    /// Deletes a volume or snapshot, and writes that down if its key was in a KMS; also that the key was destroyed, if nobody else has it.
    pub(super) fn delete_volume(
        &self,
        pool: &Arc<Pool>,
        name: &str,
        operation: Option<Operation>,
        actor: Actor,
    ) -> Result<(), PoolError> {
        let wrapped = wrapped_key(&*pool.volume(name)?).ok().flatten();
        let deleted = once_free(CLOSE_LIMIT, || pool.delete(name))?;
        let Some(wrapped) = wrapped else { return Ok(()) };
        let destroyed = deleted.destroyed_key.then_some(Operation::DestroyKey);
        for operation in operation.into_iter().chain(destroyed) {
            if let Err(e) = self.storage.keys().note(name, &wrapped, actor, operation) {
                warn!("{name} is deleted, which is not in the audit log: {e}");
            }
        }
        Ok(())
    }

    fn resize_volume(&self, config: &Config, pool: &str, new: &NewSize, bytes: u64) -> Result<(), Refusal> {
        let (name, pool) = (&new.name, self.storage.pool(pool)?.pool);
        let now = pool.volume(name)?.size().load(Ordering::Acquire);
        if bytes >= now {
            pool.resize(name, bytes, Shrink::Forbidden)?;
            return self.tell_size(name);
        }
        if !new.shrink {
            let what = format!(
                "disk {name} has {now} bytes, and {bytes} are fewer; set shrink (`--shrink`) to cut off what lies behind, which is lost"
            );
            return Err(Refusal::new(Kind::Refused, what));
        }
        refuse_if_attached(config, name)?;
        let _held = self.hold_clients(name)?;
        pool.resize(name, bytes, Shrink::Allowed)?;
        self.tell_size(name)
    }

    /// Keeps clients away from a disk that are no hosts of an NVMe target, which must be none: those of NBD, and virtual machines.
    pub(super) fn hold_clients(&self, disk: &str) -> Result<HeldDisk, Refusal> {
        let in_use = |one: &str, clients: usize, export: &str| {
            let clients = if clients == 1 { format!("a {one}") } else { format!("{clients} {one}s") };
            let what = format!("disk {disk} is used by {clients} over {export}; disconnect first");
            Refusal::new(Kind::InUse, what)
        };
        let nbd = self.nbd().map(|nbd| nbd.hold(disk)).transpose();
        let nbd = nbd.map_err(|clients| in_use("client", clients, "NBD"))?;
        let vhost_user = self.vhost_user().map(|vhost_user| vhost_user.hold(disk)).transpose();
        let vhost_user = vhost_user.map_err(|machines| in_use("virtual machine", machines, "vhost-user"))?;
        Ok(HeldDisk { _nbd: nbd, _vhost_user: vhost_user })
    }

    /// All volumes and snapshots of all pools that are open, with the names of their pools.
    pub(super) fn all_volumes(&self) -> Vec<(String, VolumeInfo)> {
        let open = self.storage.all().into_iter().filter_map(|(name, pool)| Some((name, pool.ok()?)));
        open.flat_map(|(name, open)| open.pool.volumes().into_iter().map(move |volume| (name.clone(), volume)))
            .collect()
    }
}

/// The name of the pool that a disk has to lie in.
pub(super) fn pool_name_of(config: &Config, disk: &str) -> Result<String, Refusal> {
    config.pool_of(disk)?.map(str::to_owned).ok_or_else(|| {
        let what = format!("disk {disk} takes a device whole; only disks in pools have volumes and snapshots");
        Refusal::new(Kind::Refused, what)
    })
}
