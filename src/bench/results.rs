//! What a load measures while it runs, whatever it drives: latencies by way, failed commands, and how long it took.

use hdrhistogram::Histogram;

use crate::reactor::Clock;

use super::WaySummary;

/// Latencies are kept to three significant digits, up to some minutes of ticks.
const DIGITS: u8 = 3;
const LONGEST_TICKS: u64 = 1 << 40;

/// What was measured.
pub(super) struct Results {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// From the end of the ramp to the last completion.
    pub(super) ticks: u64,
    clock: Clock,
}

impl Results {
    /// Nothing yet.
    pub(super) fn new(clock: Clock) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_TICKS, DIGITS).expect("valid bounds");
        Self { reads: histogram(), writes: histogram(), errors: 0, first_error: None, ticks: 0, clock }
    }

    /// A command took so long.
    #[inline]
    pub(super) fn record(&mut self, is_read: bool, ticks: u64) {
        let histogram = if is_read { &mut self.reads } else { &mut self.writes };
        histogram.saturating_record(ticks);
    }

    /// A command has failed.
    pub(super) fn fail(&mut self, why: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(why);
    }

    /// Adds what was measured beside.
    pub(super) fn add(&mut self, other: Self) {
        self.reads.add(&other.reads).expect("equal bounds");
        self.writes.add(&other.writes).expect("equal bounds");
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.ticks = self.ticks.max(other.ticks);
    }

    /// Seconds measured.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.nanoseconds(self.ticks) as f64 / 1e9
    }

    /// How much of the time measured these ticks of it are, in percent.
    pub(super) fn percent(&self, ticks: u64) -> f64 {
        100.0 * ticks as f64 / self.ticks.max(1) as f64
    }

    /// Reads and writes of so many bytes each.
    pub(super) fn ways(&self, block_size: u64) -> (WaySummary, WaySummary) {
        let to_us = self.clock.nanoseconds(1 << 30) as f64 / f64::from(1 << 30) / 1e3;
        let way = |histogram| WaySummary::new(histogram, block_size, self.seconds(), to_us);
        (way(&self.reads), way(&self.writes))
    }
}
