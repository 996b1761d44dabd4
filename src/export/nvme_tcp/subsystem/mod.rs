//! Subsystems: what an account's hosts may reach.
//!
//! One subsystem for each account. A namespace is visible to the hosts that its disk is attached to and to no other; a disk that is not shared
//! is never attached to two. The control thread changes a subsystem, controllers on any reactor read it.
//!
//! Locks are taken from the outside in: [`Subsystems`], then [`Subsystem`], then [`Controller`]. Queues are ended with no lock held.

mod connect;
mod controllers;
mod error;
mod host;
mod inventory;
mod limits;
mod name;
mod namespace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::offset_of;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::disk::Disk;

use super::controller::{Controller, EndCause, NewController, Owner};
use super::wire::fabrics::{Connect, ConnectData};
use super::wire::log_page::ReservationNotice;
use super::wire::status::Status;

pub use connect::{ConnectRefusal, Connected};
pub use error::InventoryError;
pub use host::{Host, HostId};
pub use inventory::Subsystems;
pub use limits::{ABORTS, EVENT_REQUESTS, LARGEST_FUSED, LARGEST_TRANSFER, Limits, NAMESPACES};
pub use name::{DISCOVERY_NQN, Nqn};
pub use namespace::{Namespace, NamespaceOptions};

pub(super) use connect::Wanted;
pub(super) use controllers::Controllers;

/// The names of the disks that are namespaces of some subsystem: no disk is in two.
type DisksInUse = Arc<Mutex<HashSet<String>>>;

/// What one account's hosts may reach.
pub struct Subsystem {
    account: String,
    nqn: Nqn,
    serial: [u8; 20],
    limits: Limits,
    made: Instant,
    disks_in_use: DisksInUse,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    removed: bool,
    hosts: BTreeMap<String, Arc<Host>>,
    namespaces: BTreeMap<u32, Entry>,
    controllers: Controllers,
}

/// A namespace and the names of the hosts that it is attached to.
struct Entry {
    namespace: Arc<Namespace>,
    hosts: BTreeSet<String>,
}

impl State {
    fn host_of(&self, nqn: &Nqn) -> Option<&Arc<Host>> {
        self.hosts.values().find(|host| host.nqn == *nqn)
    }

    /// What a host sees, in the order of the identifiers.
    fn view_of(&self, host: &str) -> Arc<[Arc<Namespace>]> {
        let seen = self.namespaces.values().filter(|entry| entry.hosts.contains(host));
        seen.map(|entry| entry.namespace.clone()).collect()
    }

    fn controllers_of(&self, nqn: &Nqn) -> impl Iterator<Item = &Arc<Controller>> {
        self.controllers.iter().filter(move |controller| controller.host() == nqn)
    }

    /// A host is its NQN, to which disks are attached, and its identifier, to which reservations belong. Two machines that share one of
    /// them are a mistake that costs data, so the later one has to wait until the earlier one has gone. Whoever has to authenticate
    /// counts only when that is done: else a stranger could keep a host out by its name.
    fn check_identity(&self, nqn: &Nqn, id: HostId) -> Result<(), Status> {
        let mixed_up = |other: &&Arc<Controller>| (other.host() == nqn) != (other.host_id() == id);
        match self.controllers.iter().filter(|other| other.is_proven()).find(mixed_up) {
            Some(_) => Err(Status::CONNECT_INVALID_HOST),
            None => Ok(()),
        }
    }

    /// Tells a host's controllers that a namespace came, went or changed.
    fn changed(&self, host: &str, nsid: u32) {
        let Some(nqn) = self.hosts.get(host).map(|host| host.nqn.clone()) else { return };
        let view = self.view_of(host);
        for controller in self.controllers_of(&nqn) {
            controller.set_view(view.clone(), nsid);
        }
    }
}

impl Subsystem {
    fn new(region: &str, account: &str, limits: Limits, disks_in_use: DisksInUse) -> Result<Arc<Self>, InventoryError> {
        Ok(Arc::new(Self {
            account: account.to_owned(),
            nqn: Nqn::of_account(account)?,
            serial: name::serial(region, account),
            limits,
            made: Instant::now(),
            disks_in_use,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// The account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The name that hosts connect to.
    pub fn nqn(&self) -> &Nqn {
        &self.nqn
    }

    /// The serial number that hosts see.
    pub fn serial(&self) -> &[u8; 20] {
        &self.serial
    }

    /// When it was made: the time that SMART data counts from.
    pub(super) fn made(&self) -> Instant {
        self.made
    }

    /// What its controllers promise.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The hosts that may connect.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.state().hosts.values().cloned().collect()
    }

    /// All namespaces, each with the names of the hosts that it is attached to.
    pub fn namespaces(&self) -> Vec<(Arc<Namespace>, Vec<String>)> {
        let state = self.state();
        let entries = state.namespaces.values();
        entries.map(|entry| (entry.namespace.clone(), entry.hosts.iter().cloned().collect())).collect()
    }

    /// The controllers that hosts have connected to.
    pub fn controllers(&self) -> Vec<Arc<Controller>> {
        self.state().controllers.iter().cloned().collect()
    }

    /// Whether a host with this name may connect.
    pub(super) fn lets_in(&self, nqn: &Nqn) -> bool {
        self.state().host_of(nqn).is_some()
    }

    /// Lets a host in.
    fn add_host(&self, host: Host) -> Result<(), InventoryError> {
        let mut state = self.state();
        for other in state.hosts.values() {
            let what = if other.name == host.name {
                "name"
            } else if other.nqn == host.nqn {
                "NQN"
            } else if host.id.is_some() && other.id == host.id {
                "host identifier"
            } else {
                continue;
            };
            let (account, host) = (self.account.clone(), other.name.clone());
            return Err(InventoryError::HostExists { account, host, what });
        }
        state.hosts.insert(host.name.clone(), Arc::new(host));
        Ok(())
    }

    /// Detaches a host from everything and ends its controllers.
    fn remove_host(&self, host: &str) -> Result<Arc<Host>, InventoryError> {
        let (removed, ended) = {
            let mut state = self.state();
            let removed = state.hosts.remove(host).ok_or_else(|| self.no_host(host))?;
            for entry in state.namespaces.values_mut() {
                entry.hosts.remove(host);
            }
            let ended: Vec<_> = state.controllers_of(&removed.nqn).cloned().collect();
            (removed, ended)
        };
        for controller in ended {
            controller.end(EndCause::HostRemoved);
        }
        Ok(removed)
    }

    /// Makes a namespace of a disk. No host sees it until it is attached.
    pub fn add_namespace(&self, disk: Arc<Disk>, options: NamespaceOptions) -> Result<Arc<Namespace>, InventoryError> {
        let mut state = self.state();
        if state.removed {
            return Err(InventoryError::NoSubsystem(self.account.clone()));
        }
        let same =
            |entry: &&Entry| entry.namespace.disk().name() == disk.name() || entry.namespace.uuid() == options.uuid;
        if let Some(entry) = state.namespaces.values().find(same) {
            let (account, nsid) = (self.account.clone(), entry.namespace.nsid());
            return Err(InventoryError::DiskExists { account, disk: disk.name().to_owned(), nsid });
        }
        let nsid = self.free_nsid(&state, options.nsid)?;
        let mut in_use = self.disks_in_use.lock().expect("no thread panics while it holds this lock");
        if !in_use.insert(disk.name().to_owned()) {
            return Err(InventoryError::DiskElsewhere(disk.name().to_owned()));
        }
        let namespace = Namespace::new(nsid, disk, &options);
        state.namespaces.insert(nsid, Entry { namespace: namespace.clone(), hosts: BTreeSet::new() });
        Ok(namespace)
    }

    fn free_nsid(&self, state: &State, wanted: Option<u32>) -> Result<u32, InventoryError> {
        let free = |nsid: &u32| (1..=NAMESPACES).contains(nsid) && !state.namespaces.contains_key(nsid);
        match wanted {
            Some(nsid) if free(&nsid) => Ok(nsid),
            Some(nsid) => Err(InventoryError::Nsid { account: self.account.clone(), nsid, most: NAMESPACES }),
            None => (1..=NAMESPACES).find(free).ok_or_else(|| InventoryError::Full(self.account.clone())),
        }
    }

    /// Takes a namespace away from all its hosts.
    pub fn remove_namespace(&self, nsid: u32) -> Result<(), InventoryError> {
        let mut state = self.state();
        let entry = state.namespaces.remove(&nsid).ok_or_else(|| self.no_namespace(nsid))?;
        self.disks_in_use
            .lock()
            .expect("no thread panics while it holds this lock")
            .remove(entry.namespace.disk().name());
        for host in &entry.hosts {
            state.changed(host, nsid);
        }
        Ok(())
    }

    /// Makes a namespace visible to a host. To do it again changes nothing.
    pub fn attach(&self, nsid: u32, host: &str) -> Result<(), InventoryError> {
        let mut state = self.state();
        if !state.hosts.contains_key(host) {
            return Err(self.no_host(host));
        }
        let entry = state.namespaces.get_mut(&nsid).ok_or_else(|| self.no_namespace(nsid))?;
        if let Some(other) = entry.hosts.iter().find(|other| *other != host && !entry.namespace.is_shared()) {
            return Err(InventoryError::NotShared {
                account: self.account.clone(),
                disk: entry.namespace.disk().name().to_owned(),
                host: other.clone(),
            });
        }
        if entry.hosts.insert(host.to_owned()) {
            state.changed(host, nsid);
        }
        Ok(())
    }

    /// Takes a namespace away from a host. To do it again changes nothing.
    pub fn detach(&self, nsid: u32, host: &str) -> Result<(), InventoryError> {
        let mut state = self.state();
        if !state.hosts.contains_key(host) {
            return Err(self.no_host(host));
        }
        let entry = state.namespaces.get_mut(&nsid).ok_or_else(|| self.no_namespace(nsid))?;
        if entry.hosts.remove(host) {
            state.changed(host, nsid);
        }
        Ok(())
    }

    /// Exchanges the disks behind two namespaces: identifiers, identities and hosts stay, and no host is told. Nobody is at work on either, and
    /// the disks have sectors of one size.
    pub(super) fn swap(&self, one: u32, other: u32) -> Result<(), InventoryError> {
        let mut state = self.state();
        let of = |nsid: u32| state.namespaces.get(&nsid).map(|entry| entry.namespace.clone());
        let first = of(one).ok_or_else(|| self.no_namespace(one))?;
        let second = of(other).ok_or_else(|| self.no_namespace(other))?;
        for (namespace, disk) in [(&first, second.disk()), (&second, first.disk())] {
            let entry = state.namespaces.get_mut(&namespace.nsid()).expect("it was just found");
            entry.namespace = namespace.on(disk.clone());
        }
        for host in state.hosts.values() {
            let view = state.view_of(&host.name);
            for controller in state.controllers_of(&host.nqn) {
                controller.replace_view(view.clone());
            }
        }
        Ok(())
    }

    /// Tells all hosts that see the namespace that it has another size.
    pub fn resized(&self, nsid: u32) -> Result<(), InventoryError> {
        let state = self.state();
        let entry = state.namespaces.get(&nsid).ok_or_else(|| self.no_namespace(nsid))?;
        for host in &entry.hosts {
            state.changed(host, nsid);
        }
        Ok(())
    }

    /// Tells a host what became of its registration or reservation (Base section 8.19), on all its controllers that see the namespace.
    pub fn notify_reservation(&self, nsid: u32, host: HostId, what: ReservationNotice) {
        let state = self.state();
        for controller in state.controllers.iter().filter(|controller| controller.host_id() == host) {
            controller.notify_reservation(nsid, what);
        }
    }

    /// Connects a queue: the Admin queue makes a controller, an I/O queue is added to one.
    pub(super) fn connect(self: &Arc<Self>, wanted: &Wanted) -> Result<Connected, ConnectRefusal> {
        let mut state = self.state();
        if state.removed {
            return Err(ConnectRefusal::in_data(offset_of!(ConnectData, subsystem_nqn)));
        }
        let host = state.host_of(&wanted.host).cloned();
        let host = host.ok_or(Status::CONNECT_INVALID_HOST.final_one())?;
        if host.id.is_some_and(|id| id != wanted.host_id) {
            return Err(Status::CONNECT_INVALID_HOST.final_one().into());
        }
        if wanted.queue_id != 0 {
            let controller = state.controllers.get(wanted.controller_id);
            let controller = controller.ok_or(ConnectRefusal::in_data(offset_of!(ConnectData, controller_id)))?;
            controller.add_queue(wanted)?;
            return Ok(wanted.connected(controller.clone(), Some(host)));
        }
        let is_proven = host.authentication.is_none();
        if is_proven {
            state.check_identity(&wanted.host, wanted.host_id)?;
        }
        let view = state.view_of(&host.name);
        let owner = Owner::Subsystem(self.clone());
        let make = |id| Controller::new(NewController { id, owner, wanted, view, is_proven });
        let controller = state.controllers.add(make).ok_or(Status::CONNECT_CONTROLLER_BUSY)?;
        Ok(wanted.connected(controller, Some(host)))
    }

    /// The host of a controller has authenticated.
    pub(super) fn prove(&self, controller: &Controller) -> Result<(), Status> {
        let state = self.state();
        state.check_identity(controller.host(), controller.host_id())?;
        controller.set_proven();
        Ok(())
    }

    /// A controller has ended.
    pub(super) fn forget(&self, id: u16) {
        self.state().controllers.remove(id);
    }

    /// Lets nobody in any more and ends all controllers.
    fn remove(&self) {
        let (controllers, namespaces) = {
            let mut state = self.state();
            state.removed = true;
            (state.controllers.iter().cloned().collect::<Vec<_>>(), std::mem::take(&mut state.namespaces))
        };
        let mut in_use = self.disks_in_use.lock().expect("no thread panics while it holds this lock");
        for entry in namespaces.values() {
            in_use.remove(entry.namespace.disk().name());
        }
        drop(in_use);
        for controller in controllers {
            controller.end(EndCause::SubsystemRemoved);
        }
    }

    fn no_host(&self, host: &str) -> InventoryError {
        InventoryError::NoHost { account: self.account.clone(), host: host.to_owned() }
    }

    fn no_namespace(&self, nsid: u32) -> InventoryError {
        InventoryError::NoNamespace { account: self.account.clone(), nsid }
    }
}
