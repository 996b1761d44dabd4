//! Limits of a disk: I/Os and bytes a second, on all reactors together, fair between its consumers.
//!
//! A consumer is who uses the disk and gets a share of it: a host over NVMe, known by its NQN, however many queues and reactors serve it; over NBD a
//! connection. It has a [`Tap`] on each reactor, and its commands pass there.
//!
//! | limits are | a command pays for them |
//! | --- | --- |
//! | not set | one load of a word that nobody writes |
//! | set, and not reached | two comparisons and subtractions in the consumer's own bucket; now and then, at most once a tick while it is busy, the lock of the disk's budget |
//! | reached | it waits in the tap's line; nothing is allocated, and nothing fails |
//!
//! **What counts.** Reads, writes, write zeroes, compare and verify cost one I/O and the bytes of their range, a fused compare and write that of both. A
//! flush and a discard cost nothing: they move no data, and what a flush makes durable was paid for when it was written.
//!
//! **Bursts.** A bucket holds what the rate brings in [`Limits::burst`]; in any time T a disk does at most burst + rate × T. It is full when a limit
//! is first set, and as full as before when one is changed.
//!
//! **Fairness.** Consumers that want more than they get have equal shares of the disk's time, counted by what is scarce for each of them: I/Os or bytes.
//! What one leaves is for the others. `budget.rs` says how. The order within a consumer is that of its commands on each reactor.
//!
//! **Changes.** Limits may be set at any time from any thread. Who waits notices within 20 ms, everybody else with the next command.

mod bucket;
mod budget;
mod limits;
mod tap;
mod tokens;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::reactor::Clock;

use budget::Budget;

pub use limits::{Cost, Limits};
pub use tap::Tap;

/// How often, in the end, tokens are granted: who waits looks again no sooner.
const TICK_NS: u64 = 1_000_000;

/// The number of no limits.
const UNLIMITED: u64 = 0;

static NEXT_SEAT: AtomicU64 = AtomicU64::new(0);
static NEXT_CONSUMER: AtomicU64 = AtomicU64::new(0);

/// Who uses a disk and gets a share of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// The one with this name, wherever it appears: a host's NQN.
    Named(String),
    /// One of its own, by a number.
    Numbered(u64),
}

impl Consumer {
    /// A consumer like no other.
    pub fn new_one() -> Self {
        Self::Numbered(NEXT_CONSUMER.fetch_add(1, Ordering::Relaxed))
    }
}

/// The limits of one disk.
#[derive(Default)]
pub(super) struct Throttle {
    generation: Generation,
    budget: Mutex<Budget>,
}

/// The number of the limits. On cache lines of its own: every command reads it.
#[derive(Default)]
#[repr(align(128))]
struct Generation(AtomicU64);

impl Throttle {
    pub(super) fn limits(&self) -> Option<Limits> {
        self.budget().limits()
    }

    pub(super) fn set_limits(&self, limits: Option<Limits>) {
        let clock = Clock::get();
        self.set_limits_at(limits, clock.nanoseconds(clock.now().0));
    }

    fn set_limits_at(&self, limits: Option<Limits>, now_ns: u64) {
        let mut budget = self.budget();
        // Under the lock: the last number is that of the last limits.
        self.generation.0.store(budget.set_limits(limits, now_ns), Ordering::Release);
    }

    #[inline]
    fn generation(&self) -> u64 {
        self.generation.0.load(Ordering::Acquire)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().expect("no panic under this lock")
    }

    /// A seat for a consumer on one reactor; gives its number.
    fn join(&self, consumer: &Consumer) -> u64 {
        let seat = NEXT_SEAT.fetch_add(1, Ordering::Relaxed);
        self.budget().join(seat, consumer);
        seat
    }
}

#[cfg(test)]
mod tests;
