//! A pool that the process has opened: what all reactors share of it, and the blocking calls of control threads.
//!
//! Changes of the pool itself are made on its home reactor ([`super::home::Home`]); a control thread asks it and waits.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::task::Waker;

use crossbeam::queue::SegQueue;
use uuid::Uuid;

use crate::device::SharedDevice;
use crate::reactor::{Census, Reactor, Remote};

use super::busy::Busy;
use super::entry::{Volume, VolumeInfo, holders_in};
use super::error::PoolError;
use super::format::KeySlot;
use super::home::Home;
use super::lineage::Lineages;
use super::map::{Ledger, Remains, Stored};
use super::rounds::Rounds;
use super::seat::Seat;
use super::space::{MetadataBudget, Space};
use super::units::{CLUSTER, ClusterId, PageNumber, VolumeId};

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// How a pool is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Take a pool that another machine has opened and not closed.
    pub take_over: bool,
    /// Report low space when less than this part of the pool is free.
    pub low_space_percent: u8,
    /// Make space that was let go usable again by itself, a moment later; otherwise only when it is needed.
    pub tidies_itself: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { take_over: false, low_space_percent: 10, tidies_itself: true }
    }
}

/// What a pool is like.
#[derive(Clone, Debug)]
pub struct PoolInfo {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Bytes that it manages.
    pub size_bytes: u64,
    /// Bytes in use, by data and metadata.
    pub used_bytes: u64,
    /// Bytes that data can have.
    pub free_bytes: u64,
    /// Bytes that are kept for metadata.
    pub reserved_bytes: u64,
    /// Bytes that were let go and are not usable yet.
    pub freeing_bytes: u64,
    /// Volumes.
    pub volumes: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Sealed keys that are kept in it.
    pub keys: usize,
    /// Less is free than the operator wants.
    pub low_space: bool,
    /// How often its superblock was written.
    pub generation: u64,
    /// Volumes and snapshots that are offline.
    pub damaged: Vec<String>,
}

/// A pool.
pub struct Pool {
    name: String,
    pub(super) number: u64,
    pub(super) uuid: Uuid,
    pub(super) device: Arc<SharedDevice>,
    pub(super) options: OpenOptions,
    pub(super) space: Space,
    /// Set once everything is loaded.
    pub(super) budget: OnceLock<MetadataBudget>,
    pub(super) commits: Rounds,
    pub(super) checkpoints: Rounds,
    pub(super) cycles: Rounds,
    /// The last cycle whose commit and grace period are over.
    cycles_done: AtomicU64,
    /// Commands in flight, on all reactors.
    pub(super) census: Arc<Census>,
    pub(super) busy: Busy,
    /// A word was changed since a commit took them; above [`super::map::Map`]'s own marks.
    dirty: AtomicBool,
    pub(super) volumes: RwLock<BTreeMap<VolumeId, Arc<Volume>>>,
    pub(super) lineages: Lineages,
    /// References to clusters that were let go and count still, and leaves that are still to be taken apart.
    pub(super) waiting: AtomicU64,
    /// Pages of nodes that are gone.
    pub(super) dropped_pages: SegQueue<PageNumber>,
    pub(super) generation: AtomicU64,
    untidy: Untidy,
    home: Remote,
    seats: Mutex<Vec<Remote>>,
}

#[derive(Default)]
struct Untidy {
    is_set: AtomicBool,
    worker: Mutex<Option<Waker>>,
}

impl Ledger for Pool {
    fn share(&self, cluster: ClusterId) {
        self.space.share(cluster);
    }

    fn let_go(&self, _cluster: ClusterId) -> bool {
        // It counts as long as a power cut may bring it back: see `Quarantine`.
        true
    }

    fn admit(&self, nodes: u32) -> bool {
        self.budget().admit(nodes, &self.space)
    }

    fn dismiss(&self, nodes: u32) {
        self.budget().dismiss(nodes);
    }
}

impl Pool {
    pub(super) fn new(
        name: &str,
        reactor: &Reactor,
        device: Arc<SharedDevice>,
        options: OpenOptions,
        found: Found,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            uuid: found.uuid,
            device,
            options,
            space: found.space,
            budget: OnceLock::new(),
            commits: Rounds::default(),
            checkpoints: Rounds::default(),
            cycles: Rounds::default(),
            cycles_done: AtomicU64::new(0),
            census: Census::new(),
            busy: Busy::default(),
            dirty: AtomicBool::new(false),
            volumes: RwLock::default(),
            lineages: Lineages::default(),
            waiting: AtomicU64::new(0),
            dropped_pages: SegQueue::new(),
            generation: AtomicU64::new(found.generation),
            untidy: Untidy::default(),
            home: reactor.remote(),
            seats: Mutex::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    // --- what reactors share ---

    pub(super) fn budget(&self) -> &MetadataBudget {
        self.budget.get().expect("it is set when the pool is loaded, before anything else")
    }

    /// A seat is made on a reactor; how many there were.
    pub(super) fn enrol(&self, reactor: Remote) -> usize {
        let mut seats = self.seats.lock().expect("no thread panics while it holds this lock");
        seats.push(reactor);
        seats.len() - 1
    }

    /// A word of a map was changed, and its map says so.
    #[inline]
    pub(super) fn mark(&self) {
        if !self.dirty.load(Ordering::SeqCst) {
            self.dirty.store(true, Ordering::SeqCst);
        }
    }

    /// A commit takes what is marked.
    pub(super) fn take_marks(&self) {
        self.dirty.store(false, Ordering::SeqCst);
    }

    /// Whether changes of maps may be not durable yet. A commit begins its round before it takes the marks: who finds no mark finds the round.
    #[inline]
    pub(super) fn has_changes(&self) -> bool {
        self.dirty.load(Ordering::SeqCst) || self.commits.is_open()
    }

    pub(super) fn cycles_done(&self) -> u64 {
        self.cycles_done.load(Ordering::SeqCst)
    }

    pub(super) fn cycle_is_done(&self, number: u64) {
        self.cycles_done.store(number, Ordering::SeqCst);
    }

    /// Something was let go.
    pub(super) fn tidy_soon(&self) {
        if self.options.tidies_itself && !self.untidy.is_set.swap(true, Ordering::SeqCst) {
            let worker = self.untidy.worker.lock().expect("no thread panics while it holds this lock").take();
            worker.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until something was let go; false once the pool closes.
    pub(super) fn untidy(&self) -> impl Future<Output = bool> + '_ {
        std::future::poll_fn(|cx| {
            let mut worker = self.untidy.worker.lock().expect("no thread panics while it holds this lock");
            if self.untidy.is_set.swap(false, Ordering::SeqCst) {
                return std::task::Poll::Ready(!self.cycles.is_closed());
            }
            *worker = Some(cx.waker().clone());
            std::task::Poll::Pending
        })
    }

    /// Ends whoever waits for work.
    pub(super) fn close_rounds(&self) {
        for rounds in [&self.commits, &self.checkpoints, &self.cycles] {
            rounds.close();
        }
        self.untidy.is_set.store(true, Ordering::SeqCst);
        let worker = self.untidy.worker.lock().expect("no thread panics while it holds this lock").take();
        worker.into_iter().for_each(Waker::wake);
    }

    // --- what control threads ask ---

    /// What it is like now.
    pub fn info(&self) -> PoolInfo {
        let bytes = |clusters: u32| u64::from(clusters) * CLUSTER;
        let volumes = self.volumes.read().expect("no thread panics while it holds this lock");
        let snapshots = volumes.values().filter(|volume| volume.is_snapshot()).count();
        let size = bytes(self.space.clusters());
        let free = bytes(self.space.available());
        PoolInfo {
            name: self.name.clone(),
            uuid: self.uuid,
            size_bytes: size,
            used_bytes: bytes(self.space.used_clusters()),
            free_bytes: free,
            reserved_bytes: bytes(self.space.held_back()),
            freeing_bytes: self.waiting.load(Ordering::Relaxed) * CLUSTER,
            volumes: volumes.len() - snapshots,
            snapshots,
            keys: holders_in(&volumes).len(),
            low_space: free < size / 100 * u64::from(self.options.low_space_percent),
            generation: self.generation.load(Ordering::Relaxed),
            damaged: volumes.values().filter(|volume| volume.offline().is_some()).map(|volume| volume.name()).collect(),
        }
    }

    /// All volumes and snapshots, in the order in which they were made.
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let volumes = self.volumes.read().expect("no thread panics while it holds this lock");
        let holders = holders_in(&volumes);
        volumes.values().map(|volume| volume.info_among(&volumes, &holders)).collect()
    }

    /// The volume or snapshot of this name.
    pub fn volume(&self, name: &str) -> Result<Arc<Volume>, PoolError> {
        let volumes = self.volumes.read().expect("no thread panics while it holds this lock");
        let found = volumes.values().find(|volume| volume.is_named(name)).cloned();
        found.ok_or_else(|| PoolError::NotFound { pool: self.name.clone(), name: name.to_owned() })
    }

    pub(super) fn volume_numbered(&self, id: VolumeId) -> Option<Arc<Volume>> {
        self.volumes.read().expect("no thread panics while it holds this lock").get(&id).cloned()
    }

    /// The key slots that volumes and snapshots name.
    pub(super) fn named_slots(&self) -> BTreeSet<KeySlot> {
        let volumes = self.volumes.read().expect("no thread panics while it holds this lock");
        volumes.values().filter_map(|volume| volume.key_slot()).collect()
    }

    /// Runs something on the home reactor and waits for it.
    pub(super) fn at_home<T, F>(&self, job: impl FnOnce(Rc<Home>) -> F + Send + 'static) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PoolError>> + 'static,
    {
        let (number, name) = (self.number, self.name.clone());
        self.home.run(async move |_| match Home::find(number) {
            Some(home) => job(home).await,
            None => Err(PoolError::Invalid { pool: name, what: "it is closed".to_owned() }),
        })
    }

    /// Frees nodes that nobody can reach any more; their pages are free after the next checkpoint.
    pub(super) fn free_nodes(&self, remains: Remains) {
        let leave = |stored: &Stored| stored.take().into_iter().for_each(|page| self.dropped_pages.push(page));
        remains.leaves.iter().for_each(|leaf| leave(&leaf.stored));
        remains.branches.iter().for_each(|branch| leave(&branch.stored));
        remains.roots.iter().flat_map(|root| &root.stored).for_each(leave);
    }

    /// The pool is not used any more: volumes and pool know each other, and so would stay for ever.
    pub(super) fn forget(&self) {
        self.volumes.write().expect("no thread panics while it holds this lock").clear();
        self.leave_seats();
    }

    /// Leaves all reactors.
    fn leave_seats(&self) {
        let number = self.number;
        let seats = std::mem::take(&mut *self.seats.lock().expect("no thread panics while it holds this lock"));
        Seat::leave(number);
        for seat in seats {
            seat.post(move |_| Seat::leave(number));
        }
    }
}

/// What was found on the device when the pool was opened.
pub(super) struct Found {
    pub(super) uuid: Uuid,
    pub(super) generation: u64,
    pub(super) space: Space,
}
