//! A server's part on one reactor: the connections served here, the hosts' views of their namespaces, and the watchdog of both.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::disk::reservation::{AccessCell, HostId as Holder};
use crate::disk::{Consumer, Disk, DiskError, DiskQueue};
use crate::export::stream::{Arrival, Flushed, LOOKS_UNTIL_STALLED, Patience, Share, let_go};
use crate::memory::PAGE;
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Event, RECEIVE_BYTES, Reactor, ReceiveBuffers, Remote, Socket, WaitList};

use super::attached::{Attached, HostView};
use super::config::NvmeTcpConfig;
use super::connection::{Connection, Queue};
use super::controller::{Controller, EndCause, EndQueue};
use super::desk::Desk;
use super::end::EndReason;
use super::handshake::initialize;
use super::receiver::Receiver;
use super::subsystem::{HostId, Subsystems};
use super::wire::status::Status;
use super::{LARGEST_TRANSFER, Link, PIECE, SMALL_PIECE};

/// How often the watchdog looks at keep-alive timers: their granularity is coarser (Base section 5.17.2.1, KAS).
const LOOK: Duration = Duration::from_millis(250);
/// How often a drain looks whether the last command has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(1);
/// What a connection has to be able to hold so that one command goes through: a small piece and a page on each of its accounts.
const LEAST_SHARE: usize = 2 * (SMALL_PIECE + PAGE);

thread_local! {
    /// The shards of this reactor, by the number of their server.
    static SHARDS: RefCell<HashMap<u64, Rc<Shard>>> = RefCell::default();
}

/// Who a view belongs to.
#[derive(PartialEq, Eq, Hash)]
struct ViewKey {
    subsystem: String,
    host: String,
    host_id: HostId,
}

/// Some views: those of a host, by its NQN or its identifier.
#[derive(Clone)]
pub(super) struct ViewsOf {
    pub(super) subsystem: String,
    pub(super) host: Option<String>,
    pub(super) host_id: Option<HostId>,
}

impl ViewsOf {
    fn contains(&self, key: &ViewKey) -> bool {
        self.subsystem == key.subsystem
            && self.host.as_ref().is_none_or(|host| *host == key.host)
            && self.host_id.is_none_or(|id| id == key.host_id)
    }
}

/// A disk as it is served here.
type OpenDisk = (Rc<DiskQueue>, Arc<Desk>);

pub(super) struct Shard {
    pub(super) reactor: Reactor,
    server: u64,
    /// All reactors of the server.
    reactors: Arc<[Remote]>,
    pub(super) subsystems: Arc<Subsystems>,
    /// Where hosts are taken to have reached us that did not come over TCP.
    address: SocketAddr,
    receive: Rc<ReceiveBuffers>,
    disks: RefCell<HashMap<String, OpenDisk>>,
    views: RefCell<HashMap<ViewKey, Rc<HostView>>>,
    /// Namespaces whose commands have to wait, by subsystem and identifier.
    held: RefCell<Vec<(String, u32)>>,
    /// Commands that wait for that to end.
    released: WaitList,
    connections: RefCell<HashMap<u64, Rc<Link>>>,
    /// The controllers whose Admin queues are here, by connection.
    controllers: RefCell<HashMap<u64, Arc<Controller>>>,
    next_connection: Cell<u64>,
    share: Rc<Share>,
    patience: Patience,
    in_capsule_bytes: usize,
    queue_depth: u16,
    coarse_now: Cell<Instant>,
    stopped: Event,
}

/// What a server gives each of its shards.
#[derive(Clone)]
pub(super) struct ShardSetup {
    pub(super) server: u64,
    pub(super) config: NvmeTcpConfig,
    pub(super) subsystems: Arc<Subsystems>,
    pub(super) address: SocketAddr,
    pub(super) reactors: Arc<[Remote]>,
}

impl Shard {
    /// Starts the server's part on this reactor. Returns how many connections its memory carries.
    pub(super) fn open(reactor: &Reactor, setup: ShardSetup) -> usize {
        let pool_bytes = reactor.buffers().arena().len();
        let receive_bytes = (pool_bytes / 4).max(2 * RECEIVE_BYTES);
        let shared_bytes = pool_bytes - receive_bytes;
        let share = Rc::new(Share::new(shared_bytes, LEAST_SHARE));
        let config = &setup.config;
        let shard = Rc::new(Self {
            reactor: reactor.clone(),
            server: setup.server,
            reactors: setup.reactors,
            subsystems: setup.subsystems,
            address: setup.address,
            receive: ReceiveBuffers::new(reactor, receive_bytes),
            disks: RefCell::default(),
            views: RefCell::default(),
            held: RefCell::default(),
            released: WaitList::default(),
            connections: RefCell::default(),
            controllers: RefCell::default(),
            next_connection: Cell::new(0),
            share: share.clone(),
            patience: Patience { handshake_s: config.handshake_timeout_s, stall_s: config.stall_timeout_s },
            in_capsule_bytes: config.in_capsule_bytes as usize,
            queue_depth: config.queue_depth as u16,
            coarse_now: Cell::new(Instant::now()),
            stopped: Event::default(),
        });
        reactor.spawn(shard.clone().watch());
        SHARDS.with_borrow_mut(|shards| shards.insert(setup.server, shard));
        share.most_connections()
    }

    fn find(server: u64) -> Option<Rc<Self>> {
        SHARDS.with_borrow(|shards| shards.get(&server).cloned())
    }

    /// Starts to serve a connection; one that comes when the server has gone is closed.
    pub(super) fn arrive(server: u64, arrival: Arrival) {
        let Some(shard) = Self::find(server) else { return };
        let reactor = shard.reactor.clone();
        reactor.spawn(during(Stage::Receive, shard.serve(arrival)));
    }

    /// Takes no more commands on this reactor.
    pub(super) fn stop(server: u64) {
        if let Some(shard) = Self::find(server) {
            shard.connections.borrow().values().for_each(|link| link.stop());
        }
    }

    /// Ends one connection.
    fn end(server: u64, connection: u64, cause: EndCause) {
        if let Some(shard) = Self::find(server)
            && let Some(link) = shard.connections.borrow().get(&connection)
        {
            link.cut(EndReason::Controller(cause));
        }
    }

    /// How many hosts have registered with a disk's reservation.
    pub(super) fn registrants(server: u64, disk: &str) -> usize {
        let Some(shard) = Self::find(server) else { return 0 };
        let disks = shard.disks.borrow();
        disks.get(disk).map_or(0, |(_, desk)| desk.report(|report| report.registrants().len()))
    }

    /// What the reservation of a disk lets a host do.
    pub(super) fn access(server: u64, disk: &str, host: Holder) -> Option<Arc<AccessCell>> {
        let shard = Self::find(server)?;
        let disks = shard.disks.borrow();
        disks.get(disk).map(|(_, desk)| desk.access_of(host))
    }

    /// Opens a disk here.
    pub(super) fn open_disk(server: u64, disk: &Arc<Disk>, desk: Arc<Desk>) -> Result<(), DiskError> {
        let Some(shard) = Self::find(server) else { return Ok(()) };
        let mut disks = shard.disks.borrow_mut();
        if !disks.contains_key(disk.name()) {
            disks.insert(disk.name().to_owned(), (disk.queue(&shard.reactor)?, desk));
        }
        Ok(())
    }

    /// Lets go of a disk that nobody sees any more; ends when the key is gone and the plain text too.
    pub(super) async fn close_disk(reactor: Reactor, server: u64, name: String) {
        let opened = Self::find(server).and_then(|shard| shard.disks.borrow_mut().remove(&name));
        let_go(reactor, opened.map(|(queue, _)| queue)).await;
    }

    /// Takes a namespace out of views; `done` runs when no command that found it there is at work on this reactor. Those that are not at work yet
    /// end with `status`.
    pub(super) fn drain(server: u64, nsid: u32, whose: &ViewsOf, status: Status, done: impl FnOnce() + 'static) {
        let Some(shard) = Self::find(server) else { return done() };
        let views = shard.views.borrow();
        let gone: Vec<Rc<Attached>> =
            views.iter().filter(|(key, _)| whose.contains(key)).filter_map(|(_, view)| view.remove(nsid)).collect();
        let reactor = shard.reactor.clone();
        gone.iter().for_each(|attached| attached.withdraw(status));
        shard.reactor.spawn(async move {
            for attached in gone {
                while !attached.is_at_rest() {
                    reactor.sleep(DRAIN_LOOK).await;
                }
            }
            done();
        });
    }

    /// Lets no command find a namespace: those that come wait. `done` runs when those that have found it are over, on this reactor.
    pub(super) fn hold(server: u64, subsystem: &str, nsid: u32, done: impl FnOnce() + 'static) {
        let Some(shard) = Self::find(server) else { return done() };
        shard.held.borrow_mut().push((subsystem.to_owned(), nsid));
        let views = shard.views.borrow();
        let of_subsystem = views.iter().filter(|(key, _)| key.subsystem == subsystem);
        let found: Vec<Rc<Attached>> = of_subsystem.filter_map(|(_, view)| view.remove(nsid)).collect();
        let reactor = shard.reactor.clone();
        shard.reactor.spawn(async move {
            for attached in found {
                // A command has what it has found until it is over; the view has let go of it.
                while Rc::strong_count(&attached) > 1 {
                    reactor.sleep(DRAIN_LOOK).await;
                }
            }
            done();
        });
    }

    /// Lets commands find the namespace again, and whatever disk is behind it now.
    pub(super) fn release(server: u64, subsystem: &str, nsid: u32) {
        let Some(shard) = Self::find(server) else { return };
        shard.held.borrow_mut().retain(|held| held.0 != subsystem || held.1 != nsid);
        shard.released.wake_all();
    }

    /// Takes a namespace out of views on all reactors, and waits until the commands at work there have ended.
    pub(super) async fn drain_everywhere(&self, nsid: u32, whose: ViewsOf, status: Status) {
        let left = Countdown::from(self.reactors.len());
        for reactor in self.reactors.iter() {
            let (server, whose, left) = (self.server, whose.clone(), left.clone());
            reactor.post(move |_| Shard::drain(server, nsid, &whose, status, move || left.count()));
        }
        left.over().await;
    }

    /// Makes all disks durable, and tells `done` which of them could not.
    pub(super) fn flush(server: u64, done: Flushed) {
        let Some(shard) = Self::find(server) else { return done(Vec::new()) };
        let queues: Vec<_> = shard.disks.borrow().values().map(|(queue, _)| queue.clone()).collect();
        shard.reactor.spawn(async move {
            let mut failed = Vec::new();
            for queue in queues {
                if let Err(e) = queue.flush().await {
                    failed.push(format!("disk {}: {e}", queue.disk().name()));
                }
            }
            done(failed);
        });
    }

    /// Lets go of the disks once the last connection has ended.
    pub(super) fn close(server: u64) {
        if let Some(shard) = SHARDS.with_borrow_mut(|shards| shards.remove(&server)) {
            shard.stopped.set();
        }
    }

    /// The view of a controller's host on this reactor; namespaces come in when the host first names them.
    pub(super) fn view(&self, controller: &Controller) -> Rc<HostView> {
        let key = ViewKey {
            subsystem: controller.subsystem().map(|subsystem| subsystem.nqn().to_string()).unwrap_or_default(),
            host: controller.host().to_string(),
            host_id: controller.host_id(),
        };
        self.views.borrow_mut().entry(key).or_default().clone()
    }

    /// A namespace that the queue's host sees.
    #[inline]
    pub(super) async fn namespace(&self, queue: &Queue, nsid: u32) -> Option<Rc<Attached>> {
        match queue.view.get(nsid) {
            Some(attached) => Some(attached),
            None => self.find_namespace(queue, nsid).await,
        }
    }

    /// Looks a namespace up. One that is held is in no view, so that its commands come here and wait.
    async fn find_namespace(&self, queue: &Queue, nsid: u32) -> Option<Rc<Attached>> {
        if let Some(subsystem) = queue.controller.subsystem() {
            let nqn = subsystem.nqn().as_str();
            let is_held = || self.held.borrow().iter().any(|held| held.1 == nsid && held.0 == nqn);
            self.released.until(|| (!is_held()).then_some(())).await;
        }
        // Another command may have looked it up meanwhile.
        if let Some(attached) = queue.view.get(nsid) {
            return Some(attached);
        }
        let namespace = queue.controller.sees(nsid)?;
        let (disk, desk) = self.disks.borrow().get(namespace.disk().name())?.clone();
        // Its name is what a host proves; identifiers it makes up.
        let consumer = Consumer::Named(queue.controller.host().to_string());
        let attached = Attached::new(namespace, disk, desk, queue.controller.host_id(), &consumer);
        queue.view.insert(attached.clone());
        Some(attached)
    }

    /// How controllers end this connection, from any thread.
    pub(super) fn end_queue(&self, connection: u64, peer: &str) -> Arc<dyn EndQueue> {
        let (remote, server) = (self.reactor.remote(), self.server);
        Arc::new(QueueOnReactor { remote, server, connection, peer: peer.to_owned() })
    }

    pub(super) fn share(&self) -> &Rc<Share> {
        &self.share
    }

    pub(super) fn in_capsule_bytes(&self) -> usize {
        self.in_capsule_bytes
    }

    pub(super) fn queue_depth(&self) -> u16 {
        self.queue_depth
    }

    /// The time of the watchdog's last look: exact enough for keep-alive timers, and free.
    pub(super) fn coarse_now(&self) -> Instant {
        self.coarse_now.get()
    }

    /// The most of a command that is held in buffers at once: small enough that each connection may hold one for what it sends, and one for what it
    /// is sent.
    pub(super) fn piece(&self) -> usize {
        let quarter = self.share.bytes() / 4;
        let below = if quarter.is_power_of_two() { quarter } else { quarter.next_power_of_two() / 2 };
        below.clamp(SMALL_PIECE, PIECE)
    }

    /// Pieces of one write that may be on their way at once.
    pub(super) fn pieces_ahead(&self) -> usize {
        if self.share.bytes() >= 2 * LARGEST_TRANSFER { super::io::MOST_AHEAD } else { 1 }
    }

    async fn serve(self: Rc<Self>, arrival: Arrival) {
        let number = self.next_connection.replace(self.next_connection.get() + 1);
        let socket = Socket::new(&self.reactor, arrival.socket);
        let link = Rc::new(Link::new(&self.reactor, socket, arrival.peer));
        self.connections.borrow_mut().insert(number, link.clone());
        self.share.join();
        let mut receiver = Receiver::new(&link, &self.receive);
        match initialize(&link, &mut receiver).await {
            Err(reason) => {
                link.give_reason(reason);
                log_end(&link, None);
            }
            Ok(agreed) => {
                let place = (number, arrival.reached.unwrap_or(self.address));
                let connection = Connection::new(&self, &link, place, agreed.digests, agreed.most_r2t);
                connection.run(&mut receiver).await;
                log_end(&link, Some(&connection));
            }
        }
        drop(receiver);
        self.share.leave();
        self.connections.borrow_mut().remove(&number);
        self.controllers.borrow_mut().remove(&number);
        // A view is of use while a queue holds it; hosts make up their identifiers, so others must not gather here.
        self.views.borrow_mut().retain(|_, view| Rc::strong_count(view) > 1);
        drop(link);
        drop(arrival.admission);
    }

    /// Looks after stalled hosts and expired keep-alive timers until the server is closed. One timer serves all connections.
    async fn watch(self: Rc<Self>) {
        let link_interval_ms = self.patience.stall_s * 1000 / u64::from(LOOKS_UNTIL_STALLED);
        let mut until_link_ms = link_interval_ms;
        while !self.stopped.happens_within(&self.reactor, LOOK).await {
            self.coarse_now.set(Instant::now());
            let looked_ms = LOOK.as_millis() as u64;
            until_link_ms = until_link_ms.saturating_sub(looked_ms);
            if until_link_ms == 0 {
                until_link_ms = link_interval_ms;
                self.connections.borrow().values().for_each(|link| link.look(self.patience));
            }
            self.end_expired();
        }
    }

    /// Ends the controllers whose hosts have been silent for too long, if their Admin queue is here.
    fn end_expired(&self) {
        let now = self.coarse_now.get();
        for controller in self.controllers.borrow().values().filter(|controller| controller.is_expired(now)) {
            controller.end(EndCause::KeepAliveExpired);
        }
    }

    /// The watchdog looks after a controller whose Admin queue this connection is.
    pub(super) fn watch_controller(&self, connection: u64, controller: &Arc<Controller>) {
        self.controllers.borrow_mut().insert(connection, controller.clone());
    }
}

/// Counts what other reactors finish.
struct Countdown {
    left: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Countdown {
    fn from(left: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(left), waiting: Mutex::default() })
    }

    fn count(&self) {
        // The lock is taken after the count, and by the waiting task before it looks at the count: one of the two sees the other.
        self.left.fetch_sub(1, Ordering::AcqRel);
        let waiting = self.waiting.lock().expect("no thread panics while it holds this lock").take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    fn over(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|cx| {
            *self.waiting.lock().expect("no thread panics while it holds this lock") = Some(cx.waker().clone());
            if self.left.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// A connection as controllers reach it.
struct QueueOnReactor {
    remote: Remote,
    server: u64,
    connection: u64,
    peer: String,
}

impl EndQueue for QueueOnReactor {
    fn end(&self, cause: EndCause) {
        let (server, connection) = (self.server, self.connection);
        self.remote.post(move |_| Shard::end(server, connection, cause));
    }

    fn peer(&self) -> &str {
        &self.peer
    }
}

fn log_end(link: &Link, connection: Option<&Connection>) {
    let reason = link.take_reason();
    let queue = connection.and_then(Connection::queue);
    let peer = &link.peer;
    let is_probe = queue.is_none() && matches!(reason, EndReason::Closed | EndReason::ClosedMidway);
    let host = queue.as_ref().map_or("", |queue| queue.controller.host().as_str());
    let (controller, id) = queue.as_ref().map_or((0, 0), |queue| (queue.controller.id(), queue.id));
    let [commands, errors, bytes_read, bytes_written] = connection.map_or([0; 4], |c| {
        [&c.tally.commands, &c.tally.errors, &c.tally.bytes_read, &c.tally.bytes_written].map(|counter| counter.get())
    });
    if reason.is_orderly() || is_probe {
        info!(
            peer,
            host,
            controller,
            queue = id,
            commands,
            errors,
            bytes_read,
            bytes_written,
            "nvme_tcp connection ended: {reason}"
        );
    } else {
        warn!(
            peer,
            host,
            controller,
            queue = id,
            commands,
            errors,
            bytes_read,
            bytes_written,
            "nvme_tcp connection ended: {reason}"
        );
    }
}
