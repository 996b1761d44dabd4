//! Pools: what there is, how full, and how both change.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::config::{Config, ConfigError, PoolConfig};
use crate::control::rpc::{Kind, Refusal};
use crate::control::storage::{CLOSE_LIMIT, OpenPool};
use crate::device::{DeviceConfig, Size};
use crate::volume::{PoolInfo, VolumeInfo, VolumeKind};

use super::{Changed, Removed, Target};

/// A pool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// Its device.
    pub device: String,
    /// Why it is not served, if it is not; all that follows is absent then.
    pub offline: Option<String>,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Option<PoolStanding>,
}

/// How a pool stands that is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolStanding {
    /// The identity that it was given when it was made.
    pub uuid: Uuid,
    /// Bytes of it.
    pub size_bytes: u64,
    /// Bytes in use, for data and for what the pool has to know.
    pub used_bytes: u64,
    /// Bytes that new data can have.
    pub free_bytes: u64,
    /// Bytes that are kept back, so that a full pool can still record a deletion.
    pub reserved_bytes: u64,
    /// Bytes of deleted volumes and snapshots that are just becoming free.
    pub freeing_bytes: u64,
    /// Whether less is free than `low_space_percent`.
    pub low_space: bool,
    /// From which part on it is low on space.
    pub low_space_percent: u8,
    /// How many volumes it has.
    pub volumes: usize,
    /// How many snapshots.
    pub snapshots: usize,
    /// Volumes and snapshots that are offline because something in the pool is broken.
    pub damaged: Vec<String>,
}

/// A pool with its volumes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolDetail {
    /// The pool.
    #[serde(flatten)]
    pub pool: PoolReport,
    /// What its device is; absent while it is offline.
    pub device_is: Option<String>,
    /// Its volumes and snapshots.
    pub contents: Vec<VolumeReport>,
}

/// A volume or snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Its name: that of its disk, or `disk@snapshot`.
    pub name: String,
    /// `volume` or `snapshot`.
    pub kind: String,
    /// The volume that a snapshot is of, or the snapshot that a volume was made from.
    pub parent: Option<String>,
    /// Bytes on it.
    pub size_bytes: u64,
    /// Bytes of the pool that it refers to.
    pub allocated_bytes: u64,
    /// When it was made: seconds since 1970.
    pub created_at: u64,
    /// Whether it is open as a disk.
    pub is_disk: bool,
    /// Why it cannot be used, if it cannot.
    pub offline: Option<String>,
}

/// The name of a pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolName {
    /// The name.
    pub name: String,
}

/// A pool to be made, on a device of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// The pool, as under `[[pool]]`.
    pub pool: PoolConfig,
    /// Its device, as under `[[device]]`.
    pub device: DeviceConfig,
}

/// How large a pool shall be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// The pool.
    pub name: String,
    /// The new size of its file; if it is left out, the size that its file or block device has by now.
    #[serde(default)]
    pub size: Option<Size>,
}

impl PoolReport {
    fn of(config: &PoolConfig, pool: Result<&OpenPool, String>) -> Self {
        let standing = pool.as_ref().ok().map(|open| PoolStanding::of(config, open.pool.info()));
        Self { name: config.name.clone(), device: config.device.clone(), offline: pool.err(), standing }
    }
}

impl PoolStanding {
    fn of(config: &PoolConfig, info: PoolInfo) -> Self {
        Self {
            uuid: info.uuid,
            size_bytes: info.size_bytes,
            used_bytes: info.used_bytes,
            free_bytes: info.free_bytes,
            reserved_bytes: info.reserved_bytes,
            freeing_bytes: info.freeing_bytes,
            low_space: info.low_space,
            low_space_percent: config.low_space_percent,
            volumes: info.volumes,
            snapshots: info.snapshots,
            damaged: info.damaged,
        }
    }
}

impl VolumeReport {
    /// A volume, and whether it is open as a disk.
    pub fn new(volume: VolumeInfo, is_disk: bool) -> Self {
        Self {
            kind: if volume.kind == VolumeKind::Snapshot { "snapshot" } else { "volume" }.to_owned(),
            name: volume.name,
            parent: volume.parent,
            size_bytes: volume.size_bytes,
            allocated_bytes: volume.allocated_bytes,
            created_at: volume.created_at,
            is_disk,
            offline: volume.offline,
        }
    }
}

impl Target {
    pub(in crate::control) fn pools(&self) -> Vec<PoolReport> {
        let configs = self.state().config.pools.clone();
        configs.iter().map(|config| self.pool_report(config).0).collect()
    }

    fn pool_report(&self, config: &PoolConfig) -> (PoolReport, Option<OpenPool>) {
        match self.storage.state_of(&config.name) {
            Ok(open) => (PoolReport::of(config, Ok(&open)), Some(open)),
            Err(why) => (PoolReport::of(config, Err(why)), None),
        }
    }

    pub(in crate::control) fn pool(&self, PoolName { name }: &PoolName) -> Result<PoolDetail, Refusal> {
        let config = self.state().config.pool(name)?.clone();
        let (pool, open) = self.pool_report(&config);
        let volumes = open.as_ref().map(|open| open.pool.volumes()).unwrap_or_default();
        let state = self.state();
        let is_disk = |volume: &VolumeInfo| {
            let disk = state.config.disk(&volume.name).ok();
            disk.is_some_and(|disk| disk.pool.as_ref() == Some(name) && state.disks.offline(&disk.name).is_none())
        };
        Ok(PoolDetail {
            pool,
            device_is: open.map(|open| open.device.describe()),
            contents: volumes
                .into_iter()
                .map(|volume| {
                    let is_disk = is_disk(&volume);
                    VolumeReport::new(volume, is_disk)
                })
                .collect(),
        })
    }

    pub(in crate::control) fn add_pool(&self, new: NewPool) -> Result<Changed<PoolReport>, Refusal> {
        let NewPool { pool, device } = new;
        if pool.device != device.name {
            let what =
                format!("pool {}: it names device {}, but device {} is given", pool.name, pool.device, device.name);
            return Err(Refusal::new(Kind::Refused, what));
        }
        let name = pool.name.clone();
        let edit = |config: &mut Config| {
            config.add_device(device);
            config.pools.push(pool);
            Ok(())
        };
        self.change(edit, |config| {
            self.storage.open_pool(config, &name)?;
            let pool = config.pool(&name)?;
            Ok(Changed::new(self.pool_report(pool).0))
        })
    }

    /// Closes a pool without disks; everything in it stays there.
    pub(in crate::control) fn remove_pool(&self, PoolName { name }: &PoolName) -> Result<Changed<Removed>, Refusal> {
        let edit = |config: &mut Config| {
            let device = config.pool(name)?.device.clone();
            let disks = config.disks.iter().filter(|disk| disk.pool.as_ref() == Some(name));
            let disks: Vec<&str> = disks.map(|disk| disk.name.as_str()).collect();
            if !disks.is_empty() {
                let what = format!("pool {name} has open disks; remove them first: {}", disks.join(", "));
                return Err(Refusal::new(Kind::InUse, what));
            }
            config.pools.retain(|pool| pool.name != *name);
            config.devices.retain(|other| other.name != device);
            Ok(())
        };
        self.change(edit, |_| {
            self.storage.close_pool(name, CLOSE_LIMIT)?;
            Ok(Changed::new(Removed { removed: name.clone() }))
        })
    }

    /// Makes a pool as large as its device, and a file larger first if a size is given.
    pub(in crate::control) fn grow_pool(&self, growth: &Growth) -> Result<Changed<PoolReport>, Refusal> {
        let name = &growth.name;
        let edit = |config: &mut Config| {
            config.pool(name)?;
            Ok(())
        };
        self.change(edit, |config| {
            let OpenPool { pool, device } = self.storage.pool(name)?;
            match growth.size {
                Some(Size(bytes)) => device.grow(bytes),
                None => device.refresh_size(),
            }
            .map_err(ConfigError::from)?;
            pool.grow()?;
            let config = config.pool(name)?;
            Ok(Changed::new(self.pool_report(config).0))
        })
    }
}
