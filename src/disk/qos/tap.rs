//! The tap of one consumer on one reactor: its commands pass here before they take a buffer, in the order in which they came.
//!
//! The first command of the line looks at the budget, sleeps on the reactor's timers until there may be more, and looks again; the others wait for
//! it. Whoever goes, or is dropped, wakes the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::reactor::Reactor;

use super::bucket::{LocalBucket, Look};
use super::limits::Cost;
use super::{Consumer, Throttle, UNLIMITED};

/// Room that no line outgrows in ordinary use.
const ROOM: usize = 128;

/// What a consumer of a disk has to pass on one reactor, for each command that the disk's limits count: reads, writes, write zeroes, compare
/// and verify. Flush, discard and what only asks pass by.
///
/// A command passes before it takes a buffer and before anybody has to wait for it: a detachment closes the tap instead.
pub struct Tap {
    throttle: Arc<Throttle>,
    reactor: Reactor,
    seat: u64,
    bucket: RefCell<LocalBucket>,
    line: RefCell<VecDeque<Waiting>>,
    next_ticket: Cell<u64>,
    closed: Cell<bool>,
}

/// A command in line.
struct Waiting {
    ticket: u64,
    waker: Waker,
}

impl Tap {
    pub(in crate::disk) fn new(throttle: &Arc<Throttle>, reactor: &Reactor, consumer: &Consumer) -> Self {
        Self {
            throttle: throttle.clone(),
            reactor: reactor.clone(),
            seat: throttle.join(consumer),
            bucket: RefCell::default(),
            line: RefCell::new(VecDeque::with_capacity(ROOM)),
            next_ticket: Cell::new(0),
            closed: Cell::new(false),
        }
    }

    /// Whether a command may go at once, which is paid then; else it has to [`Tap::wait`]. Without limits this is one load.
    #[inline]
    pub fn passes(&self, cost: Cost) -> bool {
        let generation = self.throttle.generation();
        generation == UNLIMITED || self.passes_limits(generation, cost)
    }

    #[inline]
    fn passes_limits(&self, generation: u64, cost: Cost) -> bool {
        !self.closed.get() && self.line.borrow().is_empty() && self.bucket.borrow_mut().pay(generation, cost)
    }

    /// Waits until a command may go. Dropped before, it costs nothing.
    pub async fn wait(&self, cost: Cost) {
        let turn = Turn::take(self, cost);
        turn.comes().await;
        while !self.closed.get() {
            let now_ns = self.now_ns();
            let look = self.bucket.borrow_mut().look(&self.throttle, self.seat, cost, now_ns);
            match look {
                Look::Go => return turn.has_paid.set(true),
                Look::After(ns) => turn.sleeps(Duration::from_nanos(ns)).await,
            }
        }
    }

    /// Waits, if it has to, until a command may go.
    #[inline]
    pub async fn pass(&self, cost: Cost) {
        if !self.passes(cost) {
            self.wait(cost).await;
        }
    }

    /// Holds nobody up any more: those who wait go on at once, unpaid, and have to ask whether they still may.
    pub fn close(&self) {
        self.closed.set(true);
        self.line.borrow().iter().for_each(|waiting| waiting.waker.wake_by_ref());
    }

    fn now_ns(&self) -> u64 {
        let clock = self.reactor.clock();
        clock.nanoseconds(clock.now().0)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let (generation, left) = self.bucket.get_mut().empty();
        self.throttle.budget().leave(self.seat, generation, left);
    }
}

/// A command's place in the line, until it is dropped.
struct Turn<'a> {
    tap: &'a Tap,
    ticket: u64,
    cost: Cost,
    has_paid: Cell<bool>,
}

impl<'a> Turn<'a> {
    fn take(tap: &'a Tap, cost: Cost) -> Self {
        let ticket = tap.next_ticket.replace(tap.next_ticket.get() + 1);
        tap.line.borrow_mut().push_back(Waiting { ticket, waker: Waker::noop().clone() });
        tap.bucket.borrow_mut().join(cost);
        Self { tap, ticket, cost, has_paid: Cell::new(false) }
    }

    /// Waits until the command is the first, or nobody has to wait any more.
    fn comes(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(|cx| {
            if self.tap.closed.get() || self.is_first() {
                return Poll::Ready(());
            }
            self.keep(cx.waker());
            Poll::Pending
        })
    }

    /// Sleeps; not longer than the tap is open.
    async fn sleeps(&self, time: Duration) {
        let mut slept = pin!(self.tap.reactor.sleep(time));
        std::future::poll_fn(|cx| {
            if self.tap.closed.get() {
                return Poll::Ready(());
            }
            self.keep(cx.waker());
            slept.as_mut().poll(cx)
        })
        .await;
    }

    fn is_first(&self) -> bool {
        self.tap.line.borrow().front().is_some_and(|first| first.ticket == self.ticket)
    }

    fn keep(&self, waker: &Waker) {
        let mut line = self.tap.line.borrow_mut();
        let at = line.binary_search_by_key(&self.ticket, |waiting| waiting.ticket).expect("it is in line");
        line[at].waker.clone_from(waker);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let tap = self.tap;
        let was_first = self.is_first();
        let mut line = tap.line.borrow_mut();
        if let Ok(at) = line.binary_search_by_key(&self.ticket, |waiting| waiting.ticket) {
            line.remove(at);
        }
        let mut bucket = tap.bucket.borrow_mut();
        bucket.leave(self.cost);
        match line.front() {
            Some(next) if was_first => next.waker.wake_by_ref(),
            Some(_) => {}
            None => bucket.rest(&tap.throttle, tap.seat, self.has_paid.get()),
        }
    }
}
