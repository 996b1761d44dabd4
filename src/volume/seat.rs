//! A pool as one reactor sees it: its handle on the device, its stock of clusters, what it has in flight, and what it has let go.
//!
//! What a reactor lets go waits here until a cycle that began afterwards is done: then no journal names it and no command in flight on any
//! reactor can still touch it. A seat is made when it is first needed and lives until the pool is closed, or its reactor retires.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::{ByteRange, Device, DeviceHandle, IoError};
use crate::memory::Buffer;
use crate::reactor::{Flight, Lending, Lent, Member, Reactor, yield_now};

use super::error::PoolError;
use super::map::Remains;
use super::pool::Pool;
use super::space::{Quarantine, Reserve};
use super::units::{CLUSTER, ClusterId};

/// Clusters that a reactor stocks: 16 MiB.
const RESERVE: usize = 256;
/// Clusters that are freed in one go.
const FREED_AT_ONCE: usize = 512;

/// Changes of words after which a reactor asks for a commit.
const CHANGES: u32 = 64 << 10;
/// Copies of clusters that a reactor makes at a time, at most.
const COPIES: usize = 64;
/// The part of a reactor's memory that is for them.
const COPIES_SHARE: usize = 16;

thread_local! {
    /// The seats on this reactor, by the number of their pool.
    static SEATS: RefCell<Vec<(u64, Rc<Seat>)>> = const { RefCell::new(Vec::new()) };
}

/// The calling reactor will take no more turns, and the pools go on without it: waits until what it has let go may be used again, and gives back what it
/// has in stock. Nobody uses a volume there any more. Without this a pool would wait for the reactor for ever.
pub async fn retire() {
    while let Some((number, seat)) = SEATS.with_borrow(|seats| seats.first().cloned()) {
        // A pool that closes meanwhile, or whose device has failed, needs nothing back.
        while !seat.is_tidy() && seat.pool.cycles.ask().await.is_ok() {
            yield_now().await;
        }
        seat.reserve.borrow_mut().give_back_all(&seat.pool.space);
        Seat::leave(number);
    }
}

/// A pool on one reactor.
pub(super) struct Seat {
    pub(super) pool: Arc<Pool>,
    pub(super) reactor: Reactor,
    pub(super) device: DeviceHandle,
    /// Whether the device's blocks are memory that may be touched in place.
    pub(super) is_memory: bool,
    member: Member,
    reserve: RefCell<Reserve>,
    quarantine: RefCell<Quarantine>,
    /// Nodes whose memory is freed after a cycle.
    nodes: RefCell<VecDeque<(u64, Remains)>>,
    copies: Lending,
    /// Changes of words since a commit was asked for because there were many.
    changes: Cell<u32>,
}

impl Seat {
    /// The pool's seat on this reactor.
    pub(super) fn on(reactor: &Reactor, pool: &Arc<Pool>) -> Result<Rc<Self>, PoolError> {
        if let Some(seat) = Self::find(pool.number) {
            return Ok(seat);
        }
        let broken = |source| PoolError::Device { pool: pool.name().to_owned(), source };
        let device = pool.device.handle(reactor).map_err(broken)?;
        let first = ByteRange::new(0, CLUSTER).expect("a small range");
        let size = pool.device.info().size;
        // Reactors look for space in different places, so that each writes neighbours.
        let seats = pool.enrol(reactor.remote());
        let start = ClusterId((size / CLUSTER).min(u64::from(u32::MAX)) as u32 / 8 * (seats as u32 % 8));
        let seat = Rc::new(Self {
            is_memory: device.direct(first).is_some(),
            member: pool.census.join(reactor),
            pool: pool.clone(),
            reactor: reactor.clone(),
            device,
            reserve: RefCell::new(Reserve::new(RESERVE, start)),
            quarantine: RefCell::new(Quarantine::new()),
            nodes: RefCell::default(),
            copies: Lending::new(copy_buffers(reactor)),
            changes: Cell::new(0),
        });
        SEATS.with_borrow_mut(|seats| seats.push((pool.number, seat.clone())));
        Ok(seat)
    }

    pub(super) fn find(pool: u64) -> Option<Rc<Self>> {
        SEATS.with_borrow(|seats| seats.iter().find(|(number, _)| *number == pool).map(|(_, seat)| seat.clone()))
    }

    /// The pool is closed: nobody needs the seat any more.
    pub(super) fn leave(pool: u64) {
        let left = SEATS.with_borrow_mut(|seats| {
            let place = seats.iter().position(|(number, _)| *number == pool)?;
            Some(seats.swap_remove(place))
        });
        drop(left);
    }

    /// A command begins.
    #[inline]
    pub(super) fn begin(&self) -> Flight {
        self.member.begin()
    }

    /// A word of a map was changed. After many, a commit is asked for, although nobody waits for it: what has to be written is never much.
    #[inline]
    pub(super) fn mark(&self) {
        self.pool.mark();
        self.changes.set(self.changes.get() + 1);
        if self.changes.get() == CHANGES {
            self.changes.set(0);
            self.pool.commits.request();
        }
    }

    /// A cluster of nobody's; none if the pool has no more.
    pub(super) fn take_cluster(&self) -> Option<ClusterId> {
        self.reserve.borrow_mut().take(&self.pool.space)
    }

    /// A cluster that was taken, and in which nothing was written, goes back.
    pub(super) fn give_back(&self, cluster: ClusterId) {
        self.pool.space.give_back(cluster);
    }

    /// There was no space, for the `tries`-th time. Waits until what was let go can be used again, and until other reactors have given back
    /// what they have in stock; fails if there is nothing to wait for.
    pub(super) async fn make_room(&self, tries: u32) -> Result<(), IoError> {
        if self.pool.waiting.load(Ordering::SeqCst) == 0 && tries > 0 {
            return Err(IoError::NoSpace);
        }
        self.pool.cycles.ask().await
    }

    /// A cluster to which a word led until now, and which others may hold, is let go; or one that was taken, and into which something may have been
    /// written.
    pub(super) fn let_go(&self, cluster: ClusterId) {
        self.pool.waiting.fetch_add(1, Ordering::SeqCst);
        self.quarantine.borrow_mut().push(cluster, self.pool.cycles.next());
        self.pool.tidy_soon();
    }

    /// What nothing leads to any more is kept until it may be used again.
    pub(super) fn keep(&self, mut remains: Remains) {
        if remains.is_empty() {
            return;
        }
        for cluster in remains.clusters.drain(..) {
            self.let_go(cluster);
        }
        if !remains.is_empty() {
            self.nodes.borrow_mut().push_back((self.pool.cycles.next(), remains));
            self.pool.tidy_soon();
        }
    }

    /// Frees what has waited long enough, and gives the reserve back if space is scarce. False if something is left to be freed.
    pub(super) fn tidy(&self) -> bool {
        let pool = &self.pool;
        let done = pool.cycles_done();
        let freed = self.quarantine.borrow_mut().release(done, FREED_AT_ONCE, &pool.space);
        pool.waiting.fetch_sub(freed as u64, Ordering::SeqCst);
        let ripe = {
            let mut nodes = self.nodes.borrow_mut();
            let count = nodes.iter().take_while(|(cycle, _)| *cycle <= done).count();
            nodes.drain(..count).map(|(_, remains)| remains).collect::<Vec<_>>()
        };
        ripe.into_iter().for_each(|remains| self.pool.free_nodes(remains));
        if pool.space.available() == 0 {
            self.reserve.borrow_mut().give_back_all(&pool.space);
        }
        !self.quarantine.borrow().has_ripe(done)
    }

    /// A buffer for the copy of a cluster. Copies wait for each other only.
    pub(super) async fn copy_buffer(&self) -> Lent<'_> {
        // If there was no memory when the seat was made: there is nobody to wait for but those who hold buffers.
        self.copies.prepare(&self.reactor, CLUSTER as usize).await;
        self.copies.borrow().await
    }

    /// Whether it keeps nodes or clusters.
    pub(super) fn is_tidy(&self) -> bool {
        self.quarantine.borrow().is_empty() && self.nodes.borrow().is_empty()
    }
}

/// Buffers for copies of clusters, taken one behind the other: taken here and there later, and kept, they would leave no large buffer to anybody.
fn copy_buffers(reactor: &Reactor) -> Vec<Buffer> {
    let pool = reactor.buffers();
    let most = (pool.arena().len() / COPIES_SHARE / CLUSTER as usize).clamp(1, COPIES);
    (0..most).map_while(|_| pool.try_take(CLUSTER as usize)).collect()
}
