//! The running target: reactors, disks and exports, and every change that is made to them.
//!
//! What the target is, is always said by a [`Config`]: a change is made to a copy of it first, has to pass the checks of a configuration file, is
//! then made to disks and exports, and is remembered last. One change is made at a time; who only asks never waits for one. Changes are
//! not written anywhere: the configuration file is the truth, and comes back with a restart.

mod access;
mod account;
mod cloud;
mod convert;
mod disk;
mod disks;
mod export;
mod host;
mod info;
mod key;
mod key_watch;
mod namespace;
mod pool;
mod snapshot;
mod space;
mod stat;
mod vhost_user;
mod volume;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::disk::Disk;
use crate::export::nbd::{NbdConfig, NbdServer};
use crate::export::nvme_tcp::NvmeTcpServer;
use crate::export::vhost_user::VhostUserServer;
use crate::reactor::{ReactorThread, Remote};

use super::config::Config;
use super::log::LogFilter;
use super::rpc::{Kind, Refusal};
use super::server::ServeError;
use super::storage::Storage;

pub use access::{AccessKeyName, AccessKeyReport, AccessKeysOf, CloudCall, NewAccessKey};
pub use account::{AccountReport, NewAccount};
pub(super) use convert::Converter;
pub use convert::{Cancellation, Conversion, ConversionEncryption, ConversionReport};
pub use disk::{Attachment, DiskDetail, DiskName, DiskReport, NewDisk, VolumeDetail};
pub(super) use disks::Disks;
pub use export::{
    ControllerReport, ExportsReport, NamespaceReport, NbdExportReport, NbdReport, NvmeTcpReport, QueueReport,
    SubsystemReport, VhostUserReport, VhostUserSocketReport,
};
pub use host::{HostName, HostReport};
pub(super) use info::describe_pages;
pub use info::{LogReport, NewLogFilter, ReactorReport, TargetReport};
pub use key::{CmkReport, DeletionOf, KeyBackup, KeyName, KmsReport, RewrapOf, RewrapReport, StateOf};
pub(super) use key_watch::KeyWatch;
pub use pool::{Growth, NewPool, PoolDetail, PoolName, PoolReport, PoolStanding, VolumeReport};
pub use snapshot::{DiffOf, DiffReport, NewSnapshot, RangeReport, Rollback, SnapshotName, SnapshotReport, SnapshotsOf};
pub use stat::{LatencyReport, PoolSpace, StatOf, StatReport, TallyReport, WayReport};
pub use volume::{NewSize, NewVolumeDisk};

/// What every change at run time is answered with.
const NOTE: &str = "not kept across a restart: put it into the configuration file as well";

/// The running target.
pub struct Target {
    started: Instant,
    reactors: Vec<ReactorReport>,
    remotes: Vec<Remote>,
    nbd: Option<NbdServer>,
    nvme_tcp: Option<NvmeTcpServer>,
    vhost_user: Option<VhostUserServer>,
    storage: Arc<Storage>,
    watch: space::Watch,
    conversions: convert::Conversions,
    log: LogFilter,
    /// Held while a change is made.
    changing: Mutex<()>,
    state: Mutex<State>,
    /// The cloud over it, once it is there.
    cloud: OnceLock<Weak<Cloud>>,
}

/// What the target is. Locked for moments only.
struct State {
    config: Config,
    disks: Disks,
}

impl State {
    /// Takes over a changed configuration; gives the disks that it does not have any more.
    fn remember(&mut self, config: Config) -> Vec<Arc<Disk>> {
        self.config = config;
        self.disks.forget_all_but(&self.config)
    }
}

/// What a change has made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed<T> {
    /// How it is now.
    #[serde(flatten)]
    pub now: T,
    /// What a person has to know.
    pub note: String,
}

impl<T> Changed<T> {
    fn new(now: T) -> Self {
        Self { now, note: NOTE.to_owned() }
    }
}

/// What was removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Removed {
    /// Its name.
    pub removed: String,
}

impl Target {
    /// Starts the exports of a configuration.
    pub(super) fn start(
        config: &Config,
        storage: Arc<Storage>,
        disks: Disks,
        reactors: &[ReactorThread],
        log: LogFilter,
    ) -> Result<Self, ServeError> {
        let remotes: Vec<Remote> = reactors.iter().map(|reactor| reactor.remote().clone()).collect();
        let nbd = config.nbd.as_ref().map(|nbd| NbdConfig {
            exports: nbd.exports.iter().filter(|export| disks.open(&export.disk).is_ok()).cloned().collect(),
            ..nbd.clone()
        });
        // Even if all of its disks wait for the KMS: they come later.
        let nbd = nbd.map(|nbd| NbdServer::start_even_empty(&nbd, &disks.all_open(), &remotes)).transpose()?;
        let nvme_tcp = config.nvme_tcp.as_ref();
        let nvme_tcp = nvme_tcp.map(|nvme_tcp| namespace::serve(nvme_tcp, config, &disks, &remotes)).transpose()?;
        let vhost_user = config.vhost_user.as_ref();
        let vhost_user =
            vhost_user.map(|it| vhost_user::serve(it, config, nvme_tcp.as_ref(), &disks, &remotes)).transpose()?;
        Ok(Self {
            started: Instant::now(),
            reactors: reactors.iter().map(ReactorReport::new).collect(),
            remotes,
            nbd,
            nvme_tcp,
            vhost_user,
            watch: space::Watch::start(storage.clone())?,
            storage,
            conversions: convert::Conversions::default(),
            log,
            changing: Mutex::default(),
            state: Mutex::new(State { config: config.clone(), disks }),
            cloud: OnceLock::new(),
        })
    }

    /// Lets operators reach the cloud.
    pub(super) fn set_cloud(&self, cloud: &Arc<Cloud>) {
        self.cloud.set(Arc::downgrade(cloud)).expect("there is one cloud");
    }

    /// The cloud, if the configuration has one.
    pub(super) fn cloud(&self) -> Result<Arc<Cloud>, Refusal> {
        let cloud = self.cloud.get().and_then(Weak::upgrade);
        let without = "this target has no cloud API; add [cloud] to its configuration, with a folder and a zone";
        cloud.ok_or_else(|| Refusal::new(Kind::NotFound, without))
    }

    pub(super) fn nbd(&self) -> Option<&NbdServer> {
        self.nbd.as_ref()
    }

    pub(super) fn nvme_tcp(&self) -> Option<&NvmeTcpServer> {
        self.nvme_tcp.as_ref()
    }

    pub(super) fn vhost_user(&self) -> Option<&VhostUserServer> {
        self.vhost_user.as_ref()
    }

    /// Connections at this moment, on all exports.
    pub(super) fn connections(&self) -> usize {
        self.nbd.as_ref().map_or(0, NbdServer::connections)
            + self.nvme_tcp.as_ref().map_or(0, NvmeTcpServer::connections)
            + self.vhost_user.as_ref().map_or(0, VhostUserServer::sessions)
    }

    /// Stops all exports at once: what is under way is finished, answered and made durable. Returns whether all that was done within the time.
    pub(super) fn stop(self, timeout: Duration) -> bool {
        let Self { nbd, nvme_tcp, vhost_user, watch, .. } = self;
        drop(watch);
        std::thread::scope(|scope| {
            let nbd = scope.spawn(move || nbd.is_none_or(|nbd| nbd.stop(timeout)));
            let vhost_user = scope.spawn(move || vhost_user.is_none_or(|vhost_user| vhost_user.stop(timeout)));
            let nvme_tcp = nvme_tcp.is_none_or(|nvme_tcp| nvme_tcp.stop(timeout));
            let ended = [nbd, vhost_user].map(|end| end.join().expect("it does not panic"));
            ended == [true; 2] && nvme_tcp
        })
    }

    /// Whether a disk of the configuration could not be opened.
    pub(super) fn is_offline(&self, disk: &str) -> bool {
        self.state().disks.offline(disk).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// One change at a time.
    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("no thread panics while it holds this lock")
    }

    /// Makes a change: to a copy of the configuration, which is checked; by `apply`; and then to what is remembered. If `apply` fails, nothing
    /// has changed.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Config) -> Result<(), Refusal>,
        apply: impl FnOnce(&Config) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let _one_at_a_time = self.changing();
        let mut config = self.state().config.clone();
        edit(&mut config)?;
        config.check()?;
        let done = apply(&config)?;
        // Disks that are no more are closed with no lock held.
        let closed = self.state().remember(config);
        drop(closed);
        Ok(done)
    }
}
