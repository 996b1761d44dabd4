//! What a disk counts: commands, bytes, errors and latencies, for each queue and summed up.
//!
//! Each queue has counters of its own, which its reactor alone writes; anybody may read them meanwhile, and sees each number as it was at
//! some moment. What queues that are gone have counted stays in the disk's sum.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::device::IoError;
use crate::reactor::{Clock, Ticks};

use super::histogram::{Histogram, Latency, add};

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// Read.
    Read,
    /// Write, whichever way the data came.
    Write,
    /// Flush.
    Flush,
    /// Discard.
    Discard,
    /// Write zeroes.
    WriteZeroes,
    /// Compare.
    Compare,
    /// Compare and write.
    CompareAndWrite,
    /// Verify.
    Verify,
}

impl CommandKind {
    /// All kinds.
    pub const ALL: [CommandKind; 8] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Discard,
        Self::WriteZeroes,
        Self::Compare,
        Self::CompareAndWrite,
        Self::Verify,
    ];
    const KINDS: usize = Self::ALL.len();
    /// The kinds with a histogram are the first ones.
    const MEASURED: usize = 3;
}

/// What was done of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands that have ended, failed ones included.
    pub commands: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
    /// Commands that failed.
    pub errors: u64,
}

/// What a disk or a queue has done so far.
#[derive(Clone, Debug, Default)]
pub struct DiskStats {
    tallies: [Tally; CommandKind::KINDS],
    latencies: [Latency; CommandKind::MEASURED],
    busy: Duration,
}

impl DiskStats {
    /// What was done of a kind.
    pub fn tally(&self, kind: CommandKind) -> Tally {
        self.tallies[kind as usize]
    }

    /// How long commands of a kind took that succeeded: reads, writes and flushes are measured.
    ///
    /// Read and flush: from call to end. Write: from the moment at which all its data was there to the end; how long a client took to send
    /// it is not part of that.
    pub fn latency(&self, kind: CommandKind) -> Option<&Latency> {
        self.latencies.get(kind as usize)
    }

    /// How long there were commands in flight; of a disk, the sum of its queues' times.
    pub fn busy(&self) -> Duration {
        self.busy
    }
}

/// The counters of one queue, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct QueueCounters {
    tallies: [Counted; CommandKind::KINDS],
    busy_ns: AtomicU64,
    latencies: [Histogram; CommandKind::MEASURED],
}

#[derive(Default)]
struct Counted {
    commands: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
}

impl QueueCounters {
    fn add_to(&self, stats: &mut DiskStats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (sum, counted) in stats.tallies.iter_mut().zip(&self.tallies) {
            sum.commands += load(&counted.commands);
            sum.bytes += load(&counted.bytes);
            sum.errors += load(&counted.errors);
        }
        self.latencies.iter().zip(&mut stats.latencies).for_each(|(histogram, sum)| histogram.add_to(sum));
        stats.busy += Duration::from_nanos(load(&self.busy_ns));
    }
}

/// Counts for a queue, on its reactor.
pub(super) struct Meter {
    counters: Arc<QueueCounters>,
    all: Arc<AllCounters>,
    clock: Clock,
    /// Up to when the time with commands in flight is counted.
    busy_until: Cell<Ticks>,
}

impl Meter {
    /// This moment, at which a command begins; `idle` if no other is in flight.
    #[inline]
    pub(super) fn begin(&self, idle: bool) -> Ticks {
        let now = self.now();
        if idle {
            self.busy_until.set(now);
        }
        now
    }

    #[inline]
    pub(super) fn now(&self) -> Ticks {
        self.clock.now()
    }

    /// A command has ended.
    #[inline]
    pub(super) fn end<T>(&self, kind: CommandKind, started: Ticks, bytes: u64, outcome: &Result<T, IoError>) {
        let (counters, now) = (&*self.counters, self.now());
        let tally = &counters.tallies[kind as usize];
        add(&tally.commands, 1);
        add(&counters.busy_ns, self.clock.nanoseconds(now.since(self.busy_until.replace(now))));
        if outcome.is_err() {
            return add(&tally.errors, 1);
        }
        add(&tally.bytes, bytes);
        if let Some(histogram) = counters.latencies.get(kind as usize) {
            histogram.count(self.clock.nanoseconds(now.since(started)));
        }
    }

    pub(super) fn stats(&self) -> DiskStats {
        let mut stats = DiskStats::default();
        self.counters.add_to(&mut stats);
        stats
    }
}

impl Drop for Meter {
    /// Keeps what was counted.
    fn drop(&mut self) {
        let mut all = self.all.0.lock().expect("no panic under this lock");
        all.queues.retain(|queue| !Arc::ptr_eq(queue, &self.counters));
        self.counters.add_to(&mut all.gone);
    }
}

/// The counters of all queues of a disk.
#[derive(Default)]
pub(super) struct AllCounters(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    queues: Vec<Arc<QueueCounters>>,
    /// What queues have counted that are gone.
    gone: DiskStats,
}

impl AllCounters {
    /// Counters for one more queue.
    pub(super) fn meter(self: &Arc<Self>, clock: Clock) -> Meter {
        let counters = Arc::<QueueCounters>::default();
        self.0.lock().expect("no panic under this lock").queues.push(counters.clone());
        Meter { counters, all: self.clone(), clock, busy_until: Cell::new(clock.now()) }
    }

    pub(super) fn sum(&self) -> DiskStats {
        let all = self.0.lock().expect("no panic under this lock");
        let mut sum = all.gone.clone();
        all.queues.iter().for_each(|queue| queue.add_to(&mut sum));
        sum
    }
}
