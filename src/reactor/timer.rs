//! Timers of one reactor: a heap of deadlines and the tasks that wait for them.
//!
//! Meant for delays, time-outs and rate limits: tens to thousands at once. A timer whose future was dropped stays in the heap until its
//! deadline and then wakes a task for nothing.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::clock::{Clock, Ticks};

const TIMERS_AT_START: usize = 1024;

struct Entry {
    due: Ticks,
    waker: Waker,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

pub(super) struct Timers {
    clock: Clock,
    heap: RefCell<BinaryHeap<Reverse<Entry>>>,
}

impl Timers {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, heap: RefCell::new(BinaryHeap::with_capacity(TIMERS_AT_START)) }
    }

    /// Completes when `duration` has passed.
    pub(super) fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + '_ {
        let due = self.clock.now().plus(self.clock.ticks(duration));
        let mut armed = false;
        std::future::poll_fn(move |cx| {
            if self.clock.now() >= due {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut armed, true) {
                self.heap.borrow_mut().push(Reverse(Entry { due, waker: cx.waker().clone() }));
            }
            Poll::Pending
        })
    }

    /// Wakes the tasks whose time has come; returns how many.
    #[inline]
    pub(super) fn expire(&self) -> usize {
        if self.heap.borrow().is_empty() {
            return 0;
        }
        let now = self.clock.now();
        let mut woken = 0;
        while let Some(entry) = self.pop_due(now) {
            entry.waker.wake();
            woken += 1;
        }
        woken
    }

    fn pop_due(&self, now: Ticks) -> Option<Entry> {
        let mut heap = self.heap.borrow_mut();
        if heap.peek()?.0.due > now {
            return None;
        }
        heap.pop().map(|Reverse(entry)| entry)
    }

    /// How long until the next deadline.
    pub(super) fn next_in(&self) -> Option<Duration> {
        let due = self.heap.borrow().peek()?.0.due;
        Some(Duration::from_nanos(self.clock.nanoseconds(due.since(self.clock.now()))))
    }
}
