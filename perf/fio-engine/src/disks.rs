//! The configurations and disks that the process has opened. Jobs that name the same disk share it, as one consumer under its limits; when the
//! last one lets go of it, it is closed, and so are its pool and all else that its configuration needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use strongroom::control::{CLOSE_LIMIT, Config, ConfigError, Storage, forbid_dumps};
use strongroom::device::DeviceKind;
use strongroom::disk::{Consumer, Disk};
use strongroom::kms::audit::Actor;
use strongroom::memory::HugePages;
use strongroom::reactor::{ReactorConfig, ReactorError, ReactorThread, allowed_cpus};
use thiserror::Error;

/// Why a disk is not opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    #[error("core dumps cannot be forbidden, in which keys would lie: {0}")]
    Dumps(std::io::Error),
}

/// A disk that jobs have opened.
pub(crate) struct OpenDisk {
    pub(crate) disk: Arc<Disk>,
    /// All jobs together.
    pub(crate) consumer: Consumer,
    // Goes after the disk.
    house: Arc<House>,
}

impl OpenDisk {
    /// How the configuration sets up reactors.
    pub(crate) fn reactor_config(&self) -> &ReactorConfig {
        &self.house.config.reactor
    }
}

/// A configuration and what disks of it stand on.
struct House {
    path: PathBuf,
    config: Config,
    storage: Storage,
    /// Where pools live; it sleeps while they have nothing to do.
    home: Option<ReactorThread>,
    disks: Mutex<Vec<Weak<OpenDisk>>>,
}

/// Everything that is open. Held while something is opened or closed: what is half closed is opened by nobody.
static HOUSES: Mutex<Vec<Weak<House>>> = Mutex::new(Vec::new());

fn houses() -> MutexGuard<'static, Vec<Weak<House>>> {
    HOUSES.lock().expect("no thread panics while it holds this lock")
}

/// Opens a disk of a configuration, if that is not done yet.
pub(crate) fn open(conf: &Path, name: &str) -> Result<Arc<OpenDisk>, OpenError> {
    let mut houses = houses();
    houses.retain(|house| house.strong_count() > 0);
    let house = match houses.iter().filter_map(Weak::upgrade).find(|house| house.path == conf) {
        Some(house) => house,
        None => {
            let house = Arc::new(House::open(conf)?);
            houses.push(Arc::downgrade(&house));
            house
        }
    };
    house.disk(name)
}

/// Lets go of disks; those that no other job has are closed.
pub(crate) fn release(disks: Vec<Arc<OpenDisk>>) {
    let _one_at_a_time = houses();
    drop(disks);
}

impl House {
    fn open(path: &Path) -> Result<Self, OpenError> {
        forbid_dumps().map_err(OpenError::Dumps)?;
        let mut config = Config::load(path)?;
        for device in &mut config.devices {
            if device.kind == DeviceKind::Null {
                // What fio reads stays with fio, whose own engine of that name moves no data either.
                device.kind = DeviceKind::NullWithoutData;
            }
        }
        let mut home = ReactorConfig { idle_us: ReactorConfig::default().idle_us, ..config.reactor.clone() };
        if config.pools.is_empty() {
            // It has nothing to do but to be there.
            (home.memory_mib, home.hugepages) = (2, HugePages::Never);
        }
        let core = *config.cores()?.last().unwrap_or(&allowed_cpus()[0]);
        let home = ReactorThread::start(core, &home)?;
        let storage = Storage::new(&config, home.remote())?;
        Ok(Self { path: path.to_owned(), config, storage, home: Some(home), disks: Mutex::default() })
    }

    fn disk(self: &Arc<Self>, name: &str) -> Result<Arc<OpenDisk>, OpenError> {
        let mut disks = self.disks.lock().expect("no thread panics while it holds this lock");
        if let Some(open) = disks.iter().filter_map(Weak::upgrade).find(|open| open.disk.name() == name) {
            return Ok(open);
        }
        if let Some(pool) = self.config.pool_of(name)?
            && !self.has_open(pool, &disks)
        {
            self.storage.open_pool(&self.config, pool)?;
        }
        let disk = self.storage.open_disk(&self.config, name, Actor::System)?;
        let open = Arc::new(OpenDisk { disk, consumer: Consumer::new_one(), house: self.clone() });
        disks.push(Arc::downgrade(&open));
        Ok(open)
    }

    /// Whether a disk of this pool was opened, and the pool with it.
    fn has_open(&self, pool: &str, disks: &[Weak<OpenDisk>]) -> bool {
        let open = disks.iter().filter_map(Weak::upgrade);
        open.into_iter().any(|open| self.config.pool_of(open.disk.name()).ok().flatten() == Some(pool))
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for wrong in self.storage.close(CLOSE_LIMIT) {
            crate::abi::say(&wrong);
        }
        if let Some(home) = self.home.take() {
            home.remote().stop();
            home.join();
        }
    }
}
