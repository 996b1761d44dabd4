//! The home of a pool: what keeps it, on one reactor.
//!
//! Data is served by all reactors ([`super::queue`]); everything else is done here, by a few tasks:
//!
//! | task | does |
//! | --- | --- |
//! | commits (`commit.rs`) | writes changed words to the journal, for all flushes that wait |
//! | checkpoints (`checkpoint.rs`) | writes changed nodes when the journal is half full |
//! | cycles, tidiness (`cycle.rs`) | make what was let go usable again |
//! | demolitions (`cycle.rs`) | take apart what was deleted |
//!
//! and by calls of control threads (`operations.rs`, `look.rs`, `keys.rs`). Two locks order them: `changing` for the structure of the pool, taken first, and
//! `committing` for the journal.

mod catalog;
mod checkpoint;
mod commit;
mod cycle;
mod journal;
mod keys;
mod load;
mod lock;
mod look;
mod make;
mod nodes;
mod operations;
mod owner;
mod sink;
mod structure;
mod tally;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::device::Device;
use crate::memory::Buffer;
use crate::reactor::{Event, Reactor, WaitList};

use super::entry::Volume;
use super::error::PoolError;
use super::format::Superblock;
use super::map::Demolition;
use super::pool::Pool;
use super::seat::Seat;
use super::space::PageAllocator;
use super::units::{BRANCHES_PER_ROOT, CLUSTER, PAGE, VolumeId};

use catalog::Catalog;
use journal::{Batch, Journal};
use keys::KeySlots;
use lock::Lock;

pub(super) use load::Contents;
pub use look::Usage;
pub use make::FormatOptions;
pub use operations::{Deleted, Difference, NewVolume, Shrink};

thread_local! {
    /// The pools whose home this reactor is.
    static HOMES: RefCell<Vec<Rc<Home>>> = const { RefCell::new(Vec::new()) };
}

/// What keeps a pool.
pub struct Home {
    pool: Arc<Pool>,
    reactor: Reactor,
    seat: Rc<Seat>,
    journal: Journal,
    memory: Memory,
    /// What is still to be written to the journal.
    carried: RefCell<Vec<Batch>>,
    superblock: RefCell<Superblock>,
    pages: RefCell<PageAllocator>,
    catalog: RefCell<Catalog>,
    keys: RefCell<KeySlots>,
    next_volume: Cell<VolumeId>,
    /// The number of the last checkpoint; nodes remember in which they were stored.
    stored: Cell<u64>,
    /// The last checkpoint failed.
    is_half_stored: Cell<bool>,
    changing: Lock,
    committing: Lock,
    demolitions: RefCell<VecDeque<Demolition>>,
    demolish_now: Bell,
    /// The pool is closed: tasks end at once, and with them the hold on the device.
    closed: Event,
}

/// Bytes of the journal and of metadata that are written together.
const WRITTEN_TOGETHER: usize = 256 << 10;

/// Buffers that the home keeps for itself: a commit must not wait for memory that is held by writes which wait for that commit.
struct Memory {
    /// For who has the lock `committing`.
    journal: Cell<Buffer>,
    /// For who has the lock `changing`.
    metadata: Cell<Buffer>,
    /// The same: for a superblock, or a page of key slots.
    page: Cell<Buffer>,
}

impl Memory {
    async fn new(reactor: &Reactor) -> Self {
        // They are kept for long: what a disk left in them would outlive the wiping of free buffers.
        let take = async |bytes| {
            let mut buffer = reactor.buffers().take(bytes).await;
            buffer.fill(0);
            buffer
        };
        let (journal, metadata) = (take(WRITTEN_TOGETHER).await, take(WRITTEN_TOGETHER).await);
        let page = take(PAGE).await;
        Self { journal: Cell::new(journal), metadata: Cell::new(metadata), page: Cell::new(page) }
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Root pages of a volume of this size.
fn root_pages(size: u64) -> u32 {
    super::map::branches_for(size.div_ceil(CLUSTER)).div_ceil(BRANCHES_PER_ROOT) as u32
}

impl Home {
    /// The home of an open pool, on its reactor.
    pub(super) fn find(pool: u64) -> Option<Rc<Self>> {
        HOMES.with_borrow(|homes| homes.iter().find(|home| home.pool.number == pool).cloned())
    }

    /// The pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Volumes and snapshots, in the order in which they were made.
    fn volumes(&self) -> Vec<Arc<Volume>> {
        self.pool.volumes.read().expect("no thread panics while it holds this lock").values().cloned().collect()
    }

    /// Begins to serve.
    fn start(self: &Rc<Self>) {
        HOMES.with_borrow_mut(|homes| homes.push(self.clone()));
        macro_rules! serve {
            ($($task:ident),*) => {
                $({
                    let home = self.clone();
                    self.reactor.spawn(async move { home.$task().await });
                })*
            };
        }
        serve!(serve_commits, serve_checkpoints, serve_cycles, serve_tidiness, serve_demolitions);
    }

    /// Makes everything durable that was answered.
    pub async fn commit(&self) -> Result<(), PoolError> {
        self.pool.commits.ask().await.map_err(|source| self.failed("make changes durable", source))
    }

    /// Makes everything durable and empties the journal.
    pub async fn checkpoint(&self) -> Result<(), PoolError> {
        self.pool.checkpoints.ask().await.map_err(|source| self.failed("make a checkpoint", source))
    }

    /// Takes all of a device that has become larger; gives the new size.
    pub async fn grow(&self) -> Result<u64, PoolError> {
        let changing = self.changing.lock().await;
        let size = self.seat.device.info().size;
        let clusters = u32::try_from(size / CLUSTER).unwrap_or(u32::MAX);
        let now = self.pool.space.clusters();
        if clusters < now {
            let what = format!("its device has {size} bytes, and {} are in use", u64::from(now) * CLUSTER);
            return Err(self.invalid(what));
        }
        // Durable before anything is written there.
        let number = self.pool.checkpoints.begin();
        let stored = self.checkpoint_with(|superblock| superblock.clusters = clusters).await;
        self.pool.checkpoints.end(number, stored);
        drop(changing);
        stored.map_err(|source| self.failed("write the new size down", source))?;
        self.pool.space.grow(clusters);
        Ok(u64::from(clusters) * CLUSTER)
    }

    /// Brings volumes back of whose maps something is lost; gives their names. A lost key cannot be brought back.
    pub(super) async fn bring_back(&self) -> Result<Vec<String>, PoolError> {
        let offline: Vec<_> = self.volumes().into_iter().filter(|volume| volume.damage().is_some()).collect();
        offline.iter().for_each(|volume| volume.bring_back());
        self.checkpoint().await?;
        Ok(offline.iter().map(|volume| volume.name()).collect())
    }

    /// Closes the pool: everything is durable, the next opening has nothing to replay, and any machine may open it.
    pub async fn close(self: Rc<Self>) -> Result<(), PoolError> {
        if let Some(volume) = self.volumes().iter().find(|volume| volume.queues() > 0) {
            let (pool, name) = (self.pool.name().to_owned(), volume.name());
            return Err(PoolError::InUse { pool, name, remedy: "close what uses it first" });
        }
        let changing = self.changing.lock().await;
        self.settle_failed_keys(&changing).await;
        let stored = self
            .checkpoint_with(|superblock| {
                superblock.is_clean = true;
                superblock.owner = None;
            })
            .await;
        drop(changing);
        let failed = stored.map_err(|source| self.failed("close", source));
        self.abandon();
        failed
    }

    /// Leaves the pool as it is on its device, as a crash would.
    pub fn abandon(self: Rc<Self>) {
        self.pool.close_rounds();
        self.closed.set();
        self.demolish_now.close();
        let number = self.pool.number;
        let gone = HOMES.with_borrow_mut(|homes| {
            let place = homes.iter().position(|home| home.pool.number == number)?;
            Some(homes.swap_remove(place))
        });
        drop(gone);
        // What is being taken apart is freed at once: nobody reads it any more.
        for mut demolition in self.demolitions.take() {
            let mut remains = Default::default();
            while demolition.step(&super::map::Uncounted, &mut remains) {}
        }
        self.pool.forget();
    }
}

/// Wakes one task that waits for work.
#[derive(Default)]
struct Bell {
    has_rung: Cell<bool>,
    is_closed: Cell<bool>,
    waiting: WaitList,
}

impl Bell {
    fn ring(&self) {
        self.has_rung.set(true);
        self.waiting.wake_all();
    }

    fn close(&self) {
        self.is_closed.set(true);
        self.waiting.wake_all();
    }

    /// Waits until it rings; false once it never will again.
    async fn next(&self) -> bool {
        self.waiting.until(|| (self.has_rung.replace(false) || self.is_closed.get()).then_some(())).await;
        !self.is_closed.get()
    }
}
