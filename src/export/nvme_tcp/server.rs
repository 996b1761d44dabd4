//! The server: listens, spreads queues over reactors, changes who sees what, and stops in order.
//!
//! All of it runs on the control thread. A change is made in the inventory first or last, so that no host ever sees a namespace that a reactor
//! cannot serve: a disk is opened on every reactor before it is attached, and closed after the last of its commands has ended.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::disk::Disk;
use crate::disk::reservation::AccessCell;
use crate::export::stream::{Acceptor, Arrival, Connections, ListenAddress, Listener, finish, on_each};
use crate::reactor::Remote;

use super::NvmeTcpError;
use super::config::NvmeTcpConfig;
use super::desk::{Desk, holder};
use super::shard::{Shard, ShardSetup, ViewsOf};
use super::subsystem::{Host, HostId, Limits, NamespaceOptions, Subsystem, Subsystems};
use super::wire::status::Status;

/// Numbers for servers, so that several can share a reactor.
static NEXT_SERVER: AtomicU64 = AtomicU64::new(0);
/// How long a detach waits for the host's commands to end.
const DETACH_LIMIT: Duration = Duration::from_secs(60);

/// How long the end of a disk waits for commands that wait for their hosts' data: they have no part of it any more, but hold on to it.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Stands for a host without an identifier, which is never a registrant.
const UNKNOWN: HostId = HostId([0xFF; 16]);

/// A disk that becomes a namespace.
#[derive(Clone)]
pub struct Placement {
    /// The disk.
    pub disk: Arc<Disk>,
    /// Whose it is.
    pub account: String,
    /// The namespace identifier; the lowest free one, if there is none.
    pub nsid: Option<u32>,
    /// The disk's identity, which is kept across restarts and servers.
    pub uuid: [u8; 16],
    /// Whether several hosts may have it.
    pub shared: bool,
}

/// A disk that is a namespace.
struct Placed {
    disk: Arc<Disk>,
    account: String,
    nsid: u32,
}

/// A namespace whose hosts' commands wait, until this is dropped. None of them fails; hosts that wait for too long do not know that.
pub struct HeldNamespace<'a> {
    server: &'a NvmeTcpServer,
    subsystem: Arc<Subsystem>,
    nsid: u32,
}

impl Drop for HeldNamespace<'_> {
    fn drop(&mut self) {
        for reactor in &self.server.reactors {
            let (number, nqn, nsid) = (self.server.number, self.subsystem.nqn().to_string(), self.nsid);
            reactor.post(move |_| Shard::release(number, &nqn, nsid));
        }
    }
}

/// A running NVMe/TCP server. Dropped without [`NvmeTcpServer::stop`], it ends its connections without waiting for them.
pub struct NvmeTcpServer {
    number: u64,
    reactors: Vec<Remote>,
    connections: Arc<Connections>,
    addresses: Vec<SocketAddr>,
    subsystems: Arc<Subsystems>,
    placed: Mutex<Vec<Placed>>,
    state_dir: Option<PathBuf>,
    /// Bound, and waiting for [`NvmeTcpServer::open`].
    listeners: Vec<Listener>,
    acceptor: Option<Acceptor>,
}

impl NvmeTcpServer {
    /// Takes the addresses and makes the reactors ready. Hosts that connect wait until [`NvmeTcpServer::open`]: one that found its subsystem missing
    /// would give up for good.
    pub fn start(config: &NvmeTcpConfig, region: &str, reactors: &[Remote]) -> Result<Self, NvmeTcpError> {
        config.check()?;
        if reactors.is_empty() {
            return Err(NvmeTcpError::Config("there are no reactors to serve on".to_owned()));
        }
        let listen: Vec<ListenAddress> = config.listen.iter().map(|&address| ListenAddress::Tcp(address)).collect();
        let listeners = listen.iter().map(Listener::bind).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(Listener::tcp_address).collect();
        let limits = Limits {
            queue_entries: config.queue_depth as u16,
            io_queues: config.io_queues,
            in_capsule_data: config.in_capsule_bytes,
        };
        let subsystems = Subsystems::new(region, addresses.clone(), limits);
        let number = NEXT_SERVER.fetch_add(1, Ordering::Relaxed);
        let setup = ShardSetup {
            server: number,
            config: config.clone(),
            subsystems: subsystems.clone(),
            address: addresses[0],
            reactors: reactors.into(),
        };
        let most: Vec<usize> = reactors
            .iter()
            .map(|remote| {
                let setup = setup.clone();
                remote.call(move |reactor| Shard::open(reactor, setup))
            })
            .collect();
        let connections = Connections::new(config.max_connections, &most);
        Ok(Self {
            number,
            reactors: reactors.to_vec(),
            connections,
            addresses,
            subsystems,
            placed: Mutex::default(),
            state_dir: config.state_dir.clone(),
            listeners,
            acceptor: None,
        })
    }

    /// Lets hosts in: the inventory is as it has to be. To do it again changes nothing.
    pub fn open(&mut self) -> Result<(), NvmeTcpError> {
        if self.acceptor.is_some() {
            return Ok(());
        }
        let (number, reactors) = (self.number, self.reactors.clone());
        let deliver = move |arrival: Arrival| {
            reactors[arrival.admission.reactor()].post(move |_| Shard::arrive(number, arrival));
        };
        let listeners = std::mem::take(&mut self.listeners);
        self.acceptor = Some(Acceptor::start("nvme_tcp", listeners, self.connections.clone(), deliver)?);
        for address in &self.addresses {
            info!("nvme_tcp listens on {address}");
        }
        Ok(())
    }

    /// Where the server listens, with the actual ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves a connected socket as if it had come to the first listener.
    #[cfg(feature = "fuzzing")]
    pub(super) fn serve(&self, socket: std::os::fd::OwnedFd) {
        let admission = self.connections.admit().expect("one host after the other");
        let (number, reactor) = (self.number, &self.reactors[admission.reactor()]);
        let arrival = Arrival { socket, peer: "a socket pair".to_owned(), reached: None, admission };
        reactor.post(move |_| Shard::arrive(number, arrival));
    }

    /// Connections at this moment.
    pub fn connections(&self) -> usize {
        self.connections.count()
    }

    /// The inventory: for reports.
    pub fn subsystems(&self) -> &Arc<Subsystems> {
        &self.subsystems
    }

    /// Makes an account's subsystem.
    pub fn add_account(&self, account: &str) -> Result<Arc<Subsystem>, NvmeTcpError> {
        Ok(self.subsystems.add_subsystem(account)?)
    }

    /// Lets a host into an account's subsystem.
    pub fn add_host(&self, account: &str, host: Host) -> Result<(), NvmeTcpError> {
        Ok(self.subsystems.add_host(account, host)?)
    }

    /// Makes a disk a namespace of its account, which nobody sees yet: opens it on each reactor.
    pub fn add_disk(&self, placement: &Placement) -> Result<u32, NvmeTcpError> {
        let Placement { disk, account, nsid, uuid, shared } = placement;
        let subsystem = self.subsystems.subsystem(account)?;
        let desk = Arc::new(Desk::open(disk.name(), self.state_dir.as_deref())?);
        for reactor in &self.reactors {
            let (number, opened, desk) = (self.number, disk.clone(), desk.clone());
            let opened = reactor.call(move |_| Shard::open_disk(number, &opened, desk));
            if let Err(e) = opened {
                self.close_disk(disk.name());
                return Err(e.into());
            }
        }
        let reservation_capabilities = desk.capabilities();
        let options = NamespaceOptions { nsid: *nsid, uuid: *uuid, shared: *shared, reservation_capabilities };
        match subsystem.add_namespace(disk.clone(), options) {
            Ok(namespace) => {
                let nsid = namespace.nsid();
                self.placed().push(Placed { disk: disk.clone(), account: account.clone(), nsid });
                Ok(nsid)
            }
            Err(e) => {
                self.close_disk(disk.name());
                Err(e.into())
            }
        }
    }

    fn placed(&self) -> std::sync::MutexGuard<'_, Vec<Placed>> {
        self.placed.lock().expect("no thread panics while it holds this lock")
    }

    fn place_of(&self, disk: &str) -> Result<(Arc<Subsystem>, u32), NvmeTcpError> {
        let placed = self.placed();
        let place = placed.iter().find(|placed| placed.disk.name() == disk);
        let place = place.ok_or_else(|| NvmeTcpError::NoDisk(disk.to_owned()))?;
        Ok((self.subsystems.subsystem(&place.account)?, place.nsid))
    }

    /// Lets a host see a disk. The reactors have it open, and look the namespace up when the host first names it.
    pub fn attach(&self, disk: &str, host: &str) -> Result<(), NvmeTcpError> {
        let (subsystem, nsid) = self.place_of(disk)?;
        Ok(subsystem.attach(nsid, host)?)
    }

    /// Takes a disk from a host; its commands under way are finished first.
    pub fn detach(&self, disk: &str, host: &str) -> Result<(), NvmeTcpError> {
        let (subsystem, nsid) = self.place_of(disk)?;
        subsystem.detach(nsid, host)?;
        let Some(nqn) = subsystem.hosts().iter().find(|other| other.name == host).map(|host| host.nqn.clone()) else {
            return Ok(());
        };
        let whose = ViewsOf { subsystem: subsystem.nqn().to_string(), host: Some(nqn.to_string()), host_id: None };
        if drain(self.number, &self.reactors, nsid, &whose, Instant::now() + DETACH_LIMIT) {
            return Ok(());
        }
        Err(NvmeTcpError::DetachTimeout { disk: disk.to_owned(), host: host.to_owned() })
    }

    /// Takes a disk out of its account's subsystem, from all hosts first.
    pub fn remove_disk(&self, disk: &str) -> Result<(), NvmeTcpError> {
        let (subsystem, nsid) = self.place_of(disk)?;
        let seen_by = subsystem.namespaces().into_iter().find(|(namespace, _)| namespace.nsid() == nsid);
        for host in seen_by.map(|(_, hosts)| hosts).unwrap_or_default() {
            self.detach(disk, &host)?;
        }
        subsystem.remove_namespace(nsid)?;
        self.placed().retain(|placed| placed.disk.name() != disk);
        self.close_disk(disk);
        Ok(())
    }

    /// Makes the commands of a disk's hosts wait, and waits itself until those that have begun are over, on all reactors; if they are not by then,
    /// everything goes on as before.
    pub fn hold(&self, disk: &str, limit: Duration) -> Result<HeldNamespace<'_>, NvmeTcpError> {
        let (subsystem, nsid) = self.place_of(disk)?;
        let deadline = Instant::now() + limit;
        // Whatever happens from here on, it is released again.
        let held = HeldNamespace { server: self, subsystem, nsid };
        let (done, over) = sync_channel(self.reactors.len());
        for reactor in &self.reactors {
            let (number, nqn, done) = (self.number, held.subsystem.nqn().to_string(), done.clone());
            reactor.post(move |_| {
                Shard::hold(number, &nqn, nsid, move || {
                    // Nobody waits any more if the time is over.
                    let _ = done.send(());
                });
            });
        }
        let is_over = || over.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
        if self.reactors.iter().all(|_| is_over()) {
            return Ok(held);
        }
        Err(NvmeTcpError::HoldTimeout(disk.to_owned()))
    }

    /// How many hosts have registered with the disk's reservation.
    pub fn registrants(&self, disk: &str) -> usize {
        let (number, name) = (self.number, disk.to_owned());
        self.reactors[0].call(move |_| Shard::registrants(number, &name))
    }

    /// What reservations let a host do with a disk that reaches it in another way, kept up to date; it cannot register there. `None` if the disk is no
    /// namespace.
    pub fn access(&self, disk: &str, host_id: Option<HostId>) -> Option<Arc<AccessCell>> {
        let (number, name) = (self.number, disk.to_owned());
        let host = holder(host_id.filter(|id| id.is_some()).unwrap_or(UNKNOWN));
        self.reactors[0].call(move |_| Shard::access(number, &name, host))
    }

    /// Puts another disk, which is a namespace of the same account that nobody sees, behind the held one; and the other way round. Hosts go
    /// on with it, and are told nothing, unless it is larger: the identifier, the identity and who sees it stay with the namespace.
    pub fn swap(&self, held: &HeldNamespace<'_>, with: &str) -> Result<(), NvmeTcpError> {
        let (subsystem, other) = self.place_of(with)?;
        if !Arc::ptr_eq(&subsystem, &held.subsystem) {
            return Err(NvmeTcpError::Config(format!("disk {with} belongs to another account")));
        }
        let namespaces = subsystem.namespaces();
        let named = |nsid: u32| namespaces.iter().find(|(namespace, _)| namespace.nsid() == nsid);
        if let (Some((one, _)), Some((two, seen_by))) = (named(held.nsid), named(other))
            && (one.block_bytes() != two.block_bytes() || one.blocks() > two.blocks() || !seen_by.is_empty())
        {
            return Err(NvmeTcpError::Config(format!("disk {with} cannot take the place of another one")));
        }
        subsystem.swap(held.nsid, other)?;
        for placed in self.placed().iter_mut().filter(|placed| placed.account == subsystem.account()) {
            if placed.nsid == held.nsid {
                placed.nsid = other;
            } else if placed.nsid == other {
                placed.nsid = held.nsid;
            }
        }
        Ok(())
    }

    /// Tells the hosts of a disk that it has another size.
    pub fn resized(&self, disk: &str) -> Result<(), NvmeTcpError> {
        let (subsystem, nsid) = self.place_of(disk)?;
        Ok(subsystem.resized(nsid)?)
    }

    /// When this returns, no reactor has the disk's key any more, and nothing of its plain text is left in free buffers.
    fn close_disk(&self, name: &str) {
        let (number, closed) = (self.number, name.to_owned());
        if !on_each(&self.reactors, CLOSE_LIMIT, move |reactor| Shard::close_disk(reactor, number, closed)) {
            warn!("disk {name}: hosts owe data to commands that had begun; its key stays in memory until these end");
        }
    }

    /// Stops: no more connections, no more commands; what is under way is finished, answered and made durable. Returns whether all that was
    /// done within `timeout`.
    pub fn stop(mut self, timeout: Duration) -> bool {
        self.acceptor = None;
        self.end_connections();
        let number = self.number;
        finish("nvme_tcp", &self.connections, &self.reactors, timeout, move |flushed| Shard::flush(number, flushed))
    }

    fn end_connections(&self) {
        let number = self.number;
        self.reactors.iter().for_each(|reactor| reactor.post(move |_| Shard::stop(number)));
    }
}

/// Takes a namespace out of views on all reactors and waits until the commands there have ended; false if they have not by then.
fn drain(server: u64, reactors: &[Remote], nsid: u32, whose: &ViewsOf, deadline: Instant) -> bool {
    let (done, ended) = sync_channel(reactors.len());
    for reactor in reactors {
        let (whose, done) = (whose.clone(), done.clone());
        reactor.post(move |_| {
            Shard::drain(server, nsid, &whose, Status::INVALID_NAMESPACE, move || {
                // Nobody waits any more if the time is over.
                let _ = done.send(());
            });
        });
    }
    reactors.iter().all(|_| ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok())
}

impl Drop for NvmeTcpServer {
    fn drop(&mut self) {
        let number = self.number;
        self.acceptor = None;
        self.end_connections();
        self.reactors.iter().for_each(|reactor| reactor.post(move |_| Shard::close(number)));
    }
}
