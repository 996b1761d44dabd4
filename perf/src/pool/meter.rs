//! What is measured of commands: how many, how long each took, how long the longest, and the CPU time meanwhile; while the meter is on.

use std::cell::{Cell, RefCell};

use hdrhistogram::Histogram;
use strongroom::reactor::{Clock, Ticks};

use crate::process;
use crate::sample::{CpuTime, Latency, Sample};

use super::BLOCK;

/// Latencies are kept to three significant digits.
const DIGITS: u8 = 3;
const LONGEST_TICKS: u64 = 1 << 40;

/// Counts completions while it is on.
pub struct Meter {
    clock: Clock,
    /// When it was switched on, and the CPU seconds of the process then.
    on: Cell<Option<(Ticks, f64)>>,
    ticks: Cell<u64>,
    cpu_s: Cell<f64>,
    latencies: RefCell<Histogram<u64>>,
    /// Since it was last switched on.
    longest: Cell<u64>,
}

impl Meter {
    /// A meter that is off.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            on: Cell::new(None),
            ticks: Cell::new(0),
            cpu_s: Cell::new(0.0),
            latencies: RefCell::new(Histogram::new_with_bounds(1, LONGEST_TICKS, DIGITS).expect("valid bounds")),
            longest: Cell::new(0),
        }
    }

    /// Switches it on.
    pub fn on(&self) {
        self.longest.set(0);
        self.on.set(Some((self.clock.now(), process::own_cpu_s())));
    }

    /// Switches it off; gives the longest latency since it was on, in microseconds.
    pub fn off(&self) -> f64 {
        if let Some((since, cpu_s)) = self.on.take() {
            self.ticks.set(self.ticks.get() + self.clock.now().since(since));
            self.cpu_s.set(self.cpu_s.get() + process::own_cpu_s() - cpu_s);
        }
        self.micros(self.longest.get())
    }

    /// A command that was begun at `started` has completed.
    #[inline]
    pub fn note(&self, started: Ticks, now: Ticks) {
        if self.on.get().is_none() {
            return;
        }
        let ticks = now.since(started);
        self.latencies.borrow_mut().saturating_record(ticks);
        self.longest.set(self.longest.get().max(ticks));
    }

    /// Seconds for which it was on.
    pub fn seconds(&self) -> f64 {
        let so_far = self.on.get().map_or(0, |(since, _)| self.clock.now().since(since));
        self.clock.nanoseconds(self.ticks.get() + so_far) as f64 / 1e9
    }

    /// All that was measured.
    pub fn sample(&self) -> Sample {
        let latencies = self.latencies.borrow();
        let seconds = self.seconds();
        let iops = latencies.len() as f64 / seconds;
        let at = |share: f64| self.micros(latencies.value_at_quantile(share));
        Sample {
            iops: Some(iops),
            mib_per_s: Some(iops * BLOCK as f64 / f64::from(1 << 20)),
            latency_us: Some(Latency {
                mean: self.clock.nanoseconds(latencies.mean() as u64) as f64 / 1e3,
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                p99_99: at(0.9999),
                max: self.micros(latencies.max()),
            }),
            cpu: Some(CpuTime { spent_s: self.cpu_s.get(), elapsed_s: seconds }),
            ..Sample::default()
        }
    }

    fn micros(&self, ticks: u64) -> f64 {
        self.clock.nanoseconds(ticks) as f64 / 1e3
    }
}
