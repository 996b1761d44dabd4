//! The clock of the data path: the processor's time stamp counter.
//!
//! Reading it is one instruction and no system call. Its rate is measured once against the kernel's monotonic clock.
//! Where the counter does not run at a constant rate (no `constant_tsc`, or another architecture), the monotonic clock
//! itself is read, in nanoseconds.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A moment, in units that only [`Clock`] can turn into time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// The ticks from `earlier` to this moment; zero if it lies later.
    pub fn since(self, earlier: Ticks) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `ticks` later.
    pub fn plus(self, ticks: u64) -> Ticks {
        Ticks(self.0.saturating_add(ticks))
    }
}

/// How the counter relates to time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
    ns_per_tick: f64,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    #[cfg(target_arch = "x86_64")]
    TimeStampCounter,
    Monotonic(Instant),
}

impl Clock {
    /// The process's clock, measured at the first call (some 10 ms).
    pub fn get() -> Clock {
        static CLOCK: OnceLock<Clock> = OnceLock::new();
        *CLOCK.get_or_init(Clock::measure)
    }

    fn measure() -> Clock {
        #[cfg(target_arch = "x86_64")]
        if constant_tsc() {
            let (t0, c0) = (Instant::now(), read_tsc());
            std::thread::sleep(Duration::from_millis(10));
            let (ns, ticks) = (t0.elapsed().as_nanos(), read_tsc() - c0);
            return Clock { source: Source::TimeStampCounter, ns_per_tick: ns as f64 / ticks as f64 };
        }
        Clock { source: Source::Monotonic(Instant::now()), ns_per_tick: 1.0 }
    }

    /// This moment.
    #[inline]
    pub fn now(&self) -> Ticks {
        match self.source {
            #[cfg(target_arch = "x86_64")]
            Source::TimeStampCounter => Ticks(read_tsc()),
            Source::Monotonic(start) => Ticks(start.elapsed().as_nanos() as u64),
        }
    }

    /// Ticks as nanoseconds.
    #[inline]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }

    /// A duration in ticks.
    pub fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 / self.ns_per_tick) as u64
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn read_tsc() -> u64 {
    // SAFETY: RDTSC exists on every x86_64 processor and touches no memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Whether the kernel found the counter to run at a constant rate, in all sleep states that it uses.
#[cfg(target_arch = "x86_64")]
fn constant_tsc() -> bool {
    std::fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|text| text.split_whitespace().any(|flag| flag == "constant_tsc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_a_sleep_about_right() {
        let clock = Clock::get();
        let start = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        let ns = clock.nanoseconds(clock.now().since(start));
        assert!(ns >= 19_000_000, "a 20 ms sleep measured as {ns} ns");
    }

    #[test]
    fn ticks_and_time_convert_both_ways() {
        let clock = Clock::get();
        let ns = clock.nanoseconds(clock.ticks(Duration::from_secs(1)));
        assert!((999_000_000..=1_001_000_000).contains(&ns), "{ns}");
    }
}
