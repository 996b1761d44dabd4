//! All subsystems of a server, and the discovery subsystem, which tells hosts about them.

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::super::controller::{Controller, NewController, Owner, QueueHandle};
use super::super::discovery::Listing;
use super::*;

/// All subsystems of a server.
pub struct Subsystems {
    region: String,
    limits: Limits,
    disks_in_use: DisksInUse,
    state: Mutex<Inventory>,
}

#[derive(Default)]
struct Inventory {
    by_account: BTreeMap<String, Arc<Subsystem>>,
    addresses: Vec<SocketAddr>,
    /// Changes of what some host may find (GENCTR, Base section 5.16.1.23).
    generation: u64,
    /// The discovery subsystem's controllers.
    controllers: Controllers,
}

impl Inventory {
    fn subsystem(&self, account: &str) -> Result<&Arc<Subsystem>, InventoryError> {
        self.by_account.get(account).ok_or_else(|| InventoryError::NoSubsystem(account.to_owned()))
    }

    /// What these hosts find has changed.
    fn changed(&mut self, concerns: impl Fn(&Nqn) -> bool) {
        self.generation += 1;
        for controller in self.controllers.iter().filter(|controller| concerns(controller.host())) {
            controller.discovery_changed();
        }
    }
}

impl Subsystems {
    /// An empty inventory. Hosts are told to connect to `addresses`; for one that stands for all of a machine's addresses they
    /// are told the address at which they reached the discovery subsystem.
    pub fn new(region: &str, addresses: Vec<SocketAddr>, limits: Limits) -> Arc<Self> {
        let state = Inventory { addresses, ..Inventory::default() };
        Arc::new(Self {
            region: region.to_owned(),
            limits,
            disks_in_use: DisksInUse::default(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, Inventory> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// What controllers promise.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Tells hosts to connect to other addresses.
    pub fn advertise(&self, addresses: Vec<SocketAddr>) {
        let mut state = self.state();
        state.addresses = addresses;
        state.changed(|_| true);
    }

    /// Makes the subsystem of an account.
    pub fn add_subsystem(&self, account: &str) -> Result<Arc<Subsystem>, InventoryError> {
        let mut state = self.state();
        if state.by_account.contains_key(account) {
            return Err(InventoryError::SubsystemExists(account.to_owned()));
        }
        let subsystem = Subsystem::new(&self.region, account, self.limits, self.disks_in_use.clone())?;
        state.by_account.insert(account.to_owned(), subsystem.clone());
        Ok(subsystem)
    }

    /// Removes an account's subsystem and ends its controllers.
    pub fn remove_subsystem(&self, account: &str) -> Result<(), InventoryError> {
        let subsystem = {
            let mut state = self.state();
            let subsystem = state.subsystem(account)?.clone();
            state.by_account.remove(account);
            state.changed(|nqn| subsystem.lets_in(nqn));
            subsystem
        };
        subsystem.remove();
        Ok(())
    }

    /// The subsystem of an account.
    pub fn subsystem(&self, account: &str) -> Result<Arc<Subsystem>, InventoryError> {
        self.state().subsystem(account).cloned()
    }

    /// All subsystems, in the order of the accounts' names.
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.state().by_account.values().cloned().collect()
    }

    /// The discovery subsystem's controllers.
    pub fn discovery_controllers(&self) -> Vec<Arc<Controller>> {
        self.state().controllers.iter().cloned().collect()
    }

    /// Lets a host into an account's subsystem.
    pub fn add_host(&self, account: &str, host: Host) -> Result<(), InventoryError> {
        let mut state = self.state();
        let nqn = host.nqn.clone();
        state.subsystem(account)?.add_host(host)?;
        state.changed(|other| *other == nqn);
        Ok(())
    }

    /// Detaches a host from everything in the account and ends its controllers.
    pub fn remove_host(&self, account: &str, host: &str) -> Result<(), InventoryError> {
        let subsystem = self.subsystem(account)?;
        let removed = subsystem.remove_host(host)?;
        self.state().changed(|other| *other == removed.nqn);
        Ok(())
    }

    /// Connects a queue (Base section 6.3). `listener_address` is the address at which the host reached us.
    pub fn connect(
        self: &Arc<Self>,
        command: &Connect,
        data: &ConnectData,
        listener_address: SocketAddr,
        queue: QueueHandle,
        now: Instant,
    ) -> Result<Connected, ConnectRefusal> {
        let wanted = Wanted::read(command, data, &self.limits, (listener_address, queue, now))?;
        if wanted.subsystem.as_str() == DISCOVERY_NQN {
            return self.connect_discovery(&wanted);
        }
        let subsystem = {
            let state = self.state();
            state.by_account.values().find(|subsystem| *subsystem.nqn() == wanted.subsystem).cloned()
        };
        let unknown = ConnectRefusal::in_data(offset_of!(ConnectData, subsystem_nqn));
        subsystem.ok_or(unknown)?.connect(&wanted)
    }

    /// Anybody may ask what there is; the answer depends on who asks.
    fn connect_discovery(self: &Arc<Self>, wanted: &Wanted) -> Result<Connected, ConnectRefusal> {
        if wanted.queue_id != 0 {
            return Err(ConnectRefusal::in_command(offset_of!(Connect, queue_id)));
        }
        let owner = Owner::Discovery(self.clone());
        let make = |id| Controller::new(NewController { id, owner, wanted, view: Arc::new([]) });
        let controller = self.state().controllers.add(make).ok_or(Status::CONNECT_CONTROLLER_BUSY)?;
        Ok(wanted.connected(controller, false))
    }

    /// The serial number of the discovery subsystem.
    pub(in super::super) fn discovery_serial(&self) -> [u8; 20] {
        name::serial(&self.region, DISCOVERY_NQN)
    }

    /// A controller of the discovery subsystem has ended.
    pub(in super::super) fn forget(&self, id: u16) {
        self.state().controllers.remove(id);
    }

    /// What a host may find.
    pub(in super::super) fn listing(&self, host: &Nqn) -> Listing {
        let state = self.state();
        let subsystems = state.by_account.values().filter(|subsystem| subsystem.lets_in(host));
        Listing {
            generation: state.generation,
            addresses: state.addresses.clone(),
            subsystems: subsystems.map(|subsystem| subsystem.nqn().clone()).collect(),
            queue_entries: self.limits.queue_entries,
        }
    }
}
