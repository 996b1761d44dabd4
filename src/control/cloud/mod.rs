//! The cloud in the process: its store is read before the target starts, so that a restart brings back every disk, instance and attachment; its API
//! and its clock run beside the target.

mod backend;
mod keys;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tracing::{info, warn};

use crate::cloud::category::Speed;
use crate::cloud::ecs::disk::switch::Switch;
use crate::cloud::http::{CloudHttpError, CloudServer};
use crate::cloud::intent::{Findings, Intent, Open, Work};
use crate::cloud::rows::{Disk, DiskState, Instance, InstanceState};
use crate::cloud::store::World;
use crate::cloud::{ApiError, Cloud, CloudConfig, DatabaseFile, Store, StoreError};
use crate::disk::{DiskConfig, Encryption, Limits};
use crate::export::nvme_tcp::NAMESPACES;
use crate::time::Time;

use super::config::{AccountConfig, Config, ConfigError, HostConfig};
use super::conversion::finish_switch;
use super::storage::Storage;
use super::target::Target;
use backend::TargetBackend;

/// The file of the store in its folder.
const STORE: &str = "cloud.redb";
/// How often it is looked whether it is time for automatic snapshots, and whether something was left unfinished.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long requests may take when the API is stopped.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Why the cloud does not start.
#[derive(Debug, Error)]
pub enum CloudError {
    /// Its API cannot be served.
    #[error(transparent)]
    Http(#[from] CloudHttpError),
    /// Its store cannot be written.
    #[error("{0}")]
    Store(#[from] ApiError),
    /// A thread cannot be had.
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// What the cloud has in its store, before the target is there.
pub(super) struct Ledger {
    config: CloudConfig,
    store: Arc<Store>,
}

impl Ledger {
    /// Reads the store, if the configuration has a cloud, and adds to the configuration what it holds.
    pub(super) fn open(config: &mut Config) -> Result<Option<Self>, ConfigError> {
        let Some(cloud) = config.cloud.clone() else { return Ok(None) };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&cloud.state_dir);
        let folder = cloud.state_dir.display();
        made.map_err(|e| {
            ConfigError::Wrong(format!("cloud: state_dir {folder} cannot be made: {e}; make it or choose another"))
        })?;
        let cannot = |e: StoreError| ConfigError::Wrong(e.to_string());
        let file = DatabaseFile::open(&cloud.state_dir.join(STORE)).map_err(cannot)?;
        let store = Store::open(Box::new(file)).map_err(cannot)?;
        let without = |disk: &Disk| disk.nsid.is_none() && is_settled(disk);
        if store.read(|world| world.disks.rows().any(without)) {
            let numbered = store.change(|world| -> Result<(), StoreError> {
                number(world, config);
                Ok(())
            });
            numbered.map_err(cannot)?;
        }
        store.read(|world| extend(config, world));
        config.check()?;
        Ok(Some(Self { config: cloud, store: Arc::new(store) }))
    }

    /// Where hosts were switched from a disk to its copy, and the process ended before rows said so, store and configuration follow. That is before
    /// disks are opened: a host that comes back finds the copy in the disk's place.
    pub(super) fn follow_switches(&self, config: &mut Config, storage: &Storage) {
        let switch = |(id, open): (&str, &Open)| match &open.intent {
            Intent::Switch(switch) => Some((id.to_owned(), switch.clone())),
            _ => None,
        };
        for (id, switch) in self.store.read(|world| world.intents.iter().filter_map(switch).collect::<Vec<_>>()) {
            let Switch { source, destination, .. } = &switch;
            match self.follow(&id, &switch, config, storage) {
                Ok(true) => info!("cloud: the hosts of disk {source} were switched to disk {destination}; rows follow"),
                Ok(false) => info!("cloud: the hosts of disk {source} were not switched to disk {destination}"),
                Err(e) => warn!("cloud: disks {source} and {destination}, whose hosts were perhaps switched: {e}"),
            }
        }
    }

    fn follow(&self, id: &str, switch: &Switch, config: &mut Config, storage: &Storage) -> Result<bool, ConfigError> {
        let Some(pool) = config.pool_of(&switch.source)?.map(str::to_owned) else { return Ok(false) };
        let open = storage.pool(&pool)?.pool;
        if !finish_switch(&open, &switch.source, &switch.destination)? {
            return Ok(false);
        }
        let followed = self.store.change(|world| -> Result<(), StoreError> {
            switch.finish(world, Time::now().seconds(), &Findings::new());
            world.intents.remove(id);
            Ok(())
        });
        followed.map_err(|e| ConfigError::Wrong(e.to_string()))?;
        self.store.read(|world| {
            let rows = [&switch.source, &switch.destination].into_iter().filter_map(|id| world.disks.get(id));
            for row in rows {
                let disk = config_of(row, world, &pool, &config.hosts);
                if let Ok(there) = config.disk_mut(&row.id) {
                    *there = disk;
                }
            }
        });
        Ok(true)
    }

    /// Starts the cloud over its target.
    pub(super) fn start(self, target: Arc<Target>, of: &Config) -> Result<RunningCloud, CloudError> {
        let Self { config, store } = self;
        let backend = Arc::new(TargetBackend { target: target.clone() });
        let api = config.api.clone();
        let state_dir = config.state_dir.clone();
        let cloud = Arc::new(Cloud::new(&of.region, config, store, backend));
        cloud.adopt_accounts(of.accounts.iter().map(|account| account.name.as_str()))?;
        cloud.recover();
        target.set_cloud(&cloud);
        let is_tls = api.as_ref().is_some_and(|api| api.tls.is_some());
        let server = api.map(|api| CloudServer::start(&api, &state_dir, cloud.clone())).transpose()?;
        let clock = CloudClock::start(cloud.clone())?;
        Ok(RunningCloud { server, is_tls, _clock: clock, _cloud: cloud })
    }
}

/// The cloud while it runs.
pub(super) struct RunningCloud {
    server: Option<CloudServer>,
    is_tls: bool,
    _clock: CloudClock,
    _cloud: Arc<Cloud>,
}

impl RunningCloud {
    /// Finishes what its API has begun, and ends. False if that took too long: operations are still under way then.
    pub(super) fn stop(self) -> bool {
        self.server.is_none_or(|server| server.stop(STOP_LIMIT))
    }

    /// A few words for the start-up report.
    pub(super) fn describe(&self) -> Vec<String> {
        let Some(server) = &self.server else {
            return vec!["  cloud: for operators' commands only, without an API".to_owned()];
        };
        let way = if self.is_tls { "https" } else { "http" };
        server.addresses().iter().map(|address| format!("  cloud API listens on {way}://{address}")).collect()
    }
}

/// The thread that does what is to be done at its time.
struct CloudClock {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CloudClock {
    fn start(cloud: Arc<Cloud>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("cloud-clock".to_owned()).spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                cloud.tick();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for CloudClock {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Gives each disk that has none a namespace identifier to keep: earlier versions opened disks with whatever was free.
fn number(world: &mut World, config: &Config) {
    let of_file = config.disks.iter().filter_map(|disk| Some((disk.account.clone()?, disk.nsid?)));
    let of_rows = world.disks.rows().filter_map(|disk| Some((disk.account.clone(), disk.nsid?)));
    let mut taken: BTreeSet<(String, u32)> = of_file.chain(of_rows).collect();
    let without = world.disks.rows().filter(|disk| disk.nsid.is_none() && is_settled(disk));
    let without: Vec<(String, String)> = without.map(|disk| (disk.id.clone(), disk.account.clone())).collect();
    for (id, account) in without {
        let free = (1..=NAMESPACES).find(|nsid| !taken.contains(&(account.clone(), *nsid)));
        if let (Some(disk), Some(nsid)) = (world.disks.get_mut(&id), free) {
            disk.nsid = Some(nsid);
            taken.insert((account, nsid));
        }
    }
}

/// Whether a disk is there: neither on its way in nor on its way out.
fn is_settled(disk: &Disk) -> bool {
    !matches!(disk.state, DiskState::Creating | DiskState::Deleting)
}

/// Adds to a configuration what the store has and nothing is left to be done to: the rest is the affair of its recovery.
fn extend(config: &mut Config, world: &World) {
    for (name, _) in world.accounts.iter() {
        if !config.accounts.iter().any(|account| account.name == name) {
            config.accounts.push(AccountConfig { name: name.to_owned() });
        }
    }
    for instance in world.instances.rows().filter(|instance| !is_in_the_making(instance)) {
        let host = HostConfig {
            name: instance.id.clone(),
            account: instance.account.clone(),
            nqn: instance.nqn.clone(),
            host_id: Some(instance.host_id),
            dhchap_secret: instance.dhchap_secret.clone(),
            dhchap_controller_secret: None,
        };
        // One whose secret cannot be read is not let in, and keeps nobody else from being served.
        match host.open() {
            Ok(_) => config.hosts.push(host),
            Err(e) => warn!("cloud: instance {} cannot connect until the next start: {e}", instance.id),
        }
    }
    let zones = config.cloud.as_ref().map(|cloud| cloud.zones.clone()).unwrap_or_default();
    for disk in world.disks.rows().filter(|disk| is_settled(disk)) {
        // A zone that was taken out of the configuration takes its disks with it, until it comes back.
        let Some(zone) = zones.iter().find(|zone| zone.name == disk.zone) else {
            warn!("cloud: disk {}: its zone {} is not in the configuration any more", disk.id, disk.zone);
            continue;
        };
        config.disks.push(config_of(disk, world, &zone.pool, &config.hosts));
    }
}

/// A disk's row in the configuration: it is seen by the hosts of those of its instances that run and may connect.
fn config_of(disk: &Disk, world: &World, pool: &str, hosts: &[HostConfig]) -> DiskConfig {
    let runs = |id: &str| world.instances.get(id).is_some_and(|it| it.state == InstanceState::Running);
    let connects = |id: &str| hosts.iter().any(|host| host.name == id);
    let seen_by = disk.attachments.iter().map(|at| at.instance.clone()).filter(|id| runs(id) && connects(id));
    DiskConfig {
        encryption: Some(if disk.encrypted { Encryption::Kms } else { Encryption::None }),
        shared: disk.shared,
        nsid: disk.nsid,
        uuid: disk.uuid,
        attached_to: seen_by.collect(),
        limits: Some(limits(disk.category.speed(disk.size_gib, disk.shared))),
        ..disk_config(&disk.id, &disk.account, pool)
    }
}

fn is_in_the_making(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Pending | InstanceState::Deleting)
}

/// A disk of the cloud in the configuration.
fn disk_config(id: &str, account: &str, pool: &str) -> DiskConfig {
    DiskConfig {
        pool: Some(pool.to_owned()),
        account: Some(account.to_owned()),
        of_cloud: true,
        ..DiskConfig::plain(id)
    }
}

fn limits(speed: Speed) -> Limits {
    Limits { iops: speed.iops, bytes_per_second: speed.bytes_per_second, burst: Limits::DEFAULT_BURST }
}
