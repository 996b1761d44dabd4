//! What disks stand on: pools that are open, and the way from a disk in the configuration to one that can be served.
//!
//! Pools are opened after the reactors have started and closed before these stop: a pool lives on the first reactor. A pool that cannot be
//! opened is kept as offline, with the reason; its disks are then offline too, and everything else goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::crypto::xts::{Kernel, XtsKeyBytes};
use crate::device::{DeviceConfig, DeviceError, SharedDevice, Size};
use crate::disk::{Disk, DiskAttributes, DiskConfig};
use crate::kms::audit::{Actor, Operation};
use crate::memory::Secret;
use crate::reactor::Remote;
use crate::volume::format::FormatError;
use crate::volume::{FormatOptions, NewVolume, OpenOptions, Pool, PoolError, once_free};

use super::config::{Config, ConfigError, PoolConfig};
use super::conversion::refuse_part_of;
use super::keys::Keys;

/// How long it may take reactors to let go of a disk that was closed.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// A pool that is open, on its device.
#[derive(Clone)]
pub(super) struct OpenPool {
    pub(super) pool: Arc<Pool>,
    pub(super) device: Arc<SharedDevice>,
}

/// What disks stand on.
pub struct Storage {
    /// Where pools live.
    home: Remote,
    kernel: Kernel,
    /// The way to the keys of disks.
    keys: Keys,
    /// Each pool of the configuration: open, or why it is not.
    pools: Mutex<BTreeMap<String, Result<OpenPool, String>>>,
}

impl Storage {
    /// No pool is open yet.
    pub fn new(config: &Config, home: &Remote) -> Result<Self, ConfigError> {
        let kernel = config.crypto.kernel.choose()?;
        Ok(Self { home: home.clone(), kernel, keys: Keys::new(config), pools: Mutex::default() })
    }

    /// The way to the keys of disks.
    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Opens all pools; one that cannot be opened is offline.
    pub(super) fn open_pools(&self, config: &Config) {
        for pool in &config.pools {
            let Err(e) = self.open_pool(config, &pool.name) else { continue };
            let why = match e {
                // These name the pool themselves.
                ConfigError::Pool(_) | ConfigError::Wrong(_) => e.to_string(),
                other => format!("pool {}: {other}", pool.name),
            };
            warn!("{why}; the pool and its disks are offline");
            self.pools().insert(pool.name.clone(), Err(why));
        }
    }

    /// Opens a pool of the configuration, and formats its device first if that is blank and may be.
    pub fn open_pool(&self, config: &Config, name: &str) -> Result<(), ConfigError> {
        let opened = self.open(config, config.pool(name)?)?;
        self.pools().insert(name.to_owned(), Ok(opened));
        Ok(())
    }

    fn open(&self, config: &Config, pool: &PoolConfig) -> Result<OpenPool, ConfigError> {
        let device = config.devices.iter().find(|device| device.name == pool.device).expect("checked when it was read");
        let device = Arc::new(SharedDevice::open(device)?);
        if pool.create && Pool::is_blank(&pool.name, device.clone(), &self.home)? {
            Pool::format(&pool.name, device.clone(), &self.home, FormatOptions::default())?;
            info!("pool {}: device {} was blank, and is formatted now", pool.name, device.name());
        }
        let options = OpenOptions {
            take_over: pool.take_over,
            low_space_percent: pool.low_space_percent,
            ..OpenOptions::default()
        };
        let opened = Pool::open(&pool.name, device.clone(), &self.home, options);
        let opened = opened.map_err(|e| match e {
            PoolError::Format { source: FormatError::NotAPool, .. } => ConfigError::Wrong(not_a_pool(pool)),
            other => other.into(),
        })?;
        info!("pool {} is open: {} volumes and snapshots", pool.name, opened.volumes().len());
        Ok(OpenPool { pool: opened, device })
    }

    /// A pool that is open; the error says why it is not.
    pub(super) fn pool(&self, name: &str) -> Result<OpenPool, ConfigError> {
        match self.pools().get(name) {
            Some(Ok(open)) => Ok(open.clone()),
            Some(Err(why)) => Err(ConfigError::Offline(why.clone())),
            None => Err(ConfigError::Missing(format!("there is no pool {name}"))),
        }
    }

    /// A pool of the configuration: open, or why it is not.
    pub(super) fn state_of(&self, name: &str) -> Result<OpenPool, String> {
        self.pools().get(name).cloned().unwrap_or_else(|| Err("it was just closed".to_owned()))
    }

    /// All pools: open, or why they are not.
    pub(super) fn all(&self) -> Vec<(String, Result<OpenPool, String>)> {
        self.pools().iter().map(|(name, pool)| (name.clone(), pool.clone())).collect()
    }

    /// Opens a disk of the configuration with its key: its device, or the pool's volume of its name, which is made if there is none and the
    /// configuration says of what.
    pub fn open_disk(&self, config: &Config, name: &str, actor: Actor) -> Result<Arc<Disk>, ConfigError> {
        let disk = config.complete(name)?;
        let Some(pool) = &disk.pool else {
            let device = config.devices.iter().find(|device| Some(&device.name) == disk.device.as_ref());
            let device = SharedDevice::open(device.expect("checked when it was read"))?;
            let opened = Disk::open(&disk, Arc::new(device), self.kernel)?;
            opened.set_limits(disk.limits);
            return Ok(opened);
        };
        let pool = self.pool(pool)?.pool;
        let made = self.make_if_missing(&pool, &disk, actor)?;
        let volume = pool.volume(name)?;
        refuse_part_of(&volume)?;
        let is_new = made.is_some();
        let opened = self.open_volume(&pool, &disk, made, actor);
        if opened.is_err() && is_new {
            // Nobody has written to it.
            if let Err(e) = pool.delete(name) {
                warn!("pool {}: volume {name} was made for nothing, and cannot be deleted: {e}", pool.name());
            }
        }
        opened
    }

    /// Opens a disk in a pool for a conversion, whatever its volume says of that; nobody is served through it.
    pub(super) fn open_for_conversion(
        &self,
        config: &Config,
        name: &str,
        actor: Actor,
    ) -> Result<Arc<Disk>, ConfigError> {
        let (disk, pool) = self.in_pool(config, name)?;
        self.open_volume(&pool, &disk, None, actor)
    }

    fn in_pool(&self, config: &Config, name: &str) -> Result<(DiskConfig, Arc<Pool>), ConfigError> {
        let disk = config.complete(name)?;
        let pool = self.pool(disk.pool.as_deref().expect("asked for disks in pools only"))?.pool;
        Ok((disk, pool))
    }

    /// A plain volume or snapshot, to be read.
    pub(super) fn open_plain(&self, pool: &str, name: &str) -> Result<Arc<Disk>, ConfigError> {
        let volume = self.pool(pool)?.pool.volume(name)?;
        let disk = DiskConfig { pool: Some(pool.to_owned()), ..DiskConfig::plain(name) };
        Ok(Disk::open_volume(&disk, volume, self.kernel, None)?)
    }

    /// A plain disk on a file that is made.
    pub(super) fn open_new_file(&self, path: &Path, bytes: u64) -> Result<Arc<Disk>, ConfigError> {
        let name = path.display().to_string();
        let device = DeviceConfig::new_file(&name, path, bytes);
        let disk = DiskConfig { device: Some(name.clone()), ..DiskConfig::plain(&name) };
        Ok(Disk::open(&disk, Arc::new(SharedDevice::open(&device)?), self.kernel)?)
    }

    /// Makes the volume of a disk in a pool if there is none, and leaves the disk closed.
    pub(super) fn make_disk(&self, config: &Config, name: &str, actor: Actor) -> Result<(), ConfigError> {
        let (disk, pool) = self.in_pool(config, name)?;
        self.make_if_missing(&pool, &disk, actor).map(drop)
    }

    /// Gives the key of a volume that was made now; nothing if there was one.
    fn make_if_missing(
        &self,
        pool: &Arc<Pool>,
        disk: &DiskConfig,
        actor: Actor,
    ) -> Result<Option<Option<Secret<XtsKeyBytes>>>, ConfigError> {
        match pool.volume(&disk.name) {
            Ok(_) => Ok(None),
            Err(missing @ PoolError::NotFound { .. }) => self.make_volume(pool, disk, missing, actor).map(Some),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes the volume of a disk, and gives its key.
    fn make_volume(
        &self,
        pool: &Arc<Pool>,
        disk: &DiskConfig,
        missing: PoolError,
        actor: Actor,
    ) -> Result<Option<Secret<XtsKeyBytes>>, ConfigError> {
        if let Some(snapshot) = &disk.from_snapshot {
            let source = pool.volume(snapshot)?;
            let key = self.keys.of(disk, &source, actor, Operation::CloneDisk)?;
            // Before anything is made.
            Disk::check_source(disk, &source.info(), key.as_deref())?;
            pool.clone_snapshot(snapshot, &disk.name)?;
            return Ok(key);
        }
        let Some(Size(size)) = disk.size else {
            return Err(ConfigError::Missing(format!(
                "disk {}: {missing}; give it a size or a snapshot to have it made",
                disk.name
            )));
        };
        let (key, wrapped) = match self.keys.for_new(disk, actor)? {
            Some(new) => {
                let wrapped = new.wrapped.encode().map_err(|e| ConfigError::of_key(&disk.name)(e.into()))?;
                (Some(new.xts), Some(wrapped))
            }
            None => (disk.read_key()?, None),
        };
        let attributes = DiskAttributes::new(disk, key.as_deref()).encode();
        pool.create_volume(NewVolume { name: disk.name.clone(), size, attributes, key: wrapped })?;
        Ok(key)
    }

    /// Opens a disk on its volume; `made` is its key if the volume was made now.
    fn open_volume(
        &self,
        pool: &Arc<Pool>,
        disk: &DiskConfig,
        made: Option<Option<Secret<XtsKeyBytes>>>,
        actor: Actor,
    ) -> Result<Arc<Disk>, ConfigError> {
        let volume = pool.volume(&disk.name)?;
        if let Some(why) = volume.offline() {
            let (pool, name) = (pool.name().to_owned(), disk.name.clone());
            return Err(PoolError::Offline { pool, name, why }.into());
        }
        let key = match made {
            Some(key) => {
                self.keys.check(disk, &volume, actor, Operation::Attach)?;
                key
            }
            None => self.keys.of(disk, &volume, actor, Operation::Attach)?,
        };
        let opened = Disk::open_volume(disk, volume, self.kernel, key)?;
        opened.set_limits(disk.limits);
        match disk.size {
            Some(Size(wanted)) if wanted > opened.size() => Err(ConfigError::Wrong(format!(
                "disk {}: its volume has {} bytes, and the configuration says {wanted}; the volume's size counts: put it there, and \
                 make the disk larger with `strongroom disk resize`",
                disk.name,
                opened.size()
            ))),
            _ => Ok(opened),
        }
    }

    /// Closes a pool whose disks are closed. Waits for what their last commands still hold.
    pub(super) fn close_pool(&self, name: &str, limit: Duration) -> Result<(), ConfigError> {
        if let Ok(OpenPool { pool, .. }) = self.pool(name) {
            once_free(limit, || pool.close())?;
        }
        self.pools().remove(name);
        Ok(())
    }

    /// Closes all pools once the last queue on their volumes is gone; returns what was wrong.
    pub fn close(&self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        let names: Vec<String> = self.pools().keys().cloned().collect();
        names.iter().filter_map(|name| self.close_pool(name, left()).err()).map(|e| e.to_string()).collect()
    }

    /// A few words for the start-up report.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, pool) in self.all() {
            match pool {
                Ok(OpenPool { pool, device }) => {
                    let info = pool.info();
                    let (size, free) = (info.size_bytes >> 20, info.free_bytes >> 20);
                    let low = if info.low_space { ", LOW ON SPACE" } else { "" };
                    let (volumes, snapshots) = (info.volumes, info.snapshots);
                    lines.push(format!("  device {}: {}", device.name(), device.describe()));
                    lines.push(format!(
                        "  pool {name}: {size} MiB, {free} MiB free{low}, {volumes} volumes, {snapshots} snapshots"
                    ));
                }
                Err(why) => lines.push(format!("  pool {name}: OFFLINE: {why}")),
            }
        }
        lines
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<String, Result<OpenPool, String>>> {
        self.pools.lock().expect("no thread panics while it holds this lock")
    }
}

/// Whether the error is about what a disk stands on, and not about what was asked for: such a disk is offline, and the others are served.
pub(super) fn is_offline(error: &ConfigError) -> bool {
    match error {
        ConfigError::Offline(_) | ConfigError::Kms { .. } => true,
        ConfigError::Pool(error) => {
            !matches!(error, PoolError::NotFound { .. } | PoolError::Exists { .. } | PoolError::Invalid { .. })
        }
        _ => false,
    }
}

fn not_a_pool(pool: &PoolConfig) -> String {
    let (name, device) = (&pool.name, &pool.device);
    if pool.create {
        format!(
            "pool {name}: device {device} holds something else, and create = true formats a blank device only; choose another, or \
             erase it with `strongroom pool create --overwrite` if nobody needs what is there"
        )
    } else {
        format!("pool {name}: device {device} is not a pool; create = true formats it if it is blank")
    }
}

/// Opens what no disk and no pool uses as well: a wrong path is found at start, not on the day it is needed.
pub(super) fn try_unused_devices(config: &Config) -> Result<(), DeviceError> {
    for device in &config.devices {
        let by_disk = config.disks.iter().any(|disk| disk.device.as_ref() == Some(&device.name));
        if !by_disk && !config.pools.iter().any(|pool| pool.device == device.name) {
            let unused = SharedDevice::open(device)?;
            warn!("device {} is used by no disk and no pool ({})", device.name, unused.describe());
        }
    }
    Ok(())
}
