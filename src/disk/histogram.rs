//! Latency histograms: one writer counts, anybody reads.
//!
//! Buckets are log-linear: sixteen equal ones for each power of two from 256 ns to 68 s, and sixteen of 16 ns below. A quantile is given as the
//! middle of its bucket, so it is at most 1/32 of its value off, or 8 ns. What takes longer counts in the last bucket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// log2 of the buckets in a power of two.
const SPLIT: u32 = 4;
/// log2 of the nanoseconds that the smallest bucket is wide.
const FINEST: u32 = 4;
/// log2 of the nanoseconds from which on everything is in the last bucket.
const LONGEST: u32 = 36;
const BUCKETS: usize = ((LONGEST - FINEST - SPLIT + 1) << SPLIT) as usize;

/// A histogram that its one writer goes on with.
pub(super) struct Histogram {
    sum_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { sum_ns: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    #[inline]
    pub(super) fn count(&self, ns: u64) {
        add(&self.sum_ns, ns);
        add(&self.buckets[bucket_of(ns)], 1);
    }

    pub(super) fn add_to(&self, latency: &mut Latency) {
        latency.sum_ns += self.sum_ns.load(Ordering::Relaxed);
        for (sum, bucket) in latency.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
    }
}

/// Adds to a counter that this thread alone writes: a load and a store, no locked instruction. Relaxed: only the number matters.
#[inline]
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

#[inline]
fn bucket_of(ns: u64) -> usize {
    let units = ns.min((1 << LONGEST) - 1) >> FINEST;
    match units.checked_ilog2() {
        Some(power) if power >= SPLIT => {
            let above = power - SPLIT;
            ((above as usize) << SPLIT) + (units >> above) as usize
        }
        _ => units as usize,
    }
}

/// The first nanosecond of a bucket.
fn start_of(bucket: usize) -> u64 {
    let above = (bucket >> SPLIT).saturating_sub(1) as u32;
    ((bucket as u64 - (u64::from(above) << SPLIT)) << above) << FINEST
}

/// How long commands took, as far as they were counted when this was read.
#[derive(Clone, Debug)]
pub struct Latency {
    sum_ns: u64,
    buckets: Box<[u64]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { sum_ns: 0, buckets: vec![0; BUCKETS].into() }
    }
}

impl Latency {
    /// How many commands.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Their mean; none without commands.
    pub fn mean(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.sum_ns.checked_div(self.count())?))
    }

    /// The time within which this part of them, 0 to 1, was done; none without commands.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = ((part.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_nanos(start_of(bucket).midpoint(start_of(bucket + 1))))
    }

    /// The buckets that are not empty: from, up to but not including, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u64)> + '_ {
        let full = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(bucket, count)| {
            (Duration::from_nanos(start_of(bucket)), Duration::from_nanos(start_of(bucket + 1)), *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Latency {
        let (histogram, mut latency) = (Histogram::default(), Latency::default());
        values.into_iter().for_each(|ns| histogram.count(ns));
        histogram.add_to(&mut latency);
        latency
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert!(start_of(bucket) < start_of(bucket + 1));
            assert_eq!(bucket_of(start_of(bucket)), bucket);
            assert_eq!(bucket_of(start_of(bucket + 1) - 1), bucket);
        }
        assert_eq!(start_of(BUCKETS), 1 << LONGEST);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_as_near_as_is_said() {
        let mut values: Vec<u64> = (0..20_000u64).map(|n| n * n % 7_000_003 * (1 + n % 50)).collect();
        let latency = of(values.iter().copied());
        values.sort_unstable();
        assert_eq!(latency.count(), 20_000);
        let mean = values.iter().sum::<u64>() / 20_000;
        assert_eq!(latency.mean(), Some(Duration::from_nanos(mean)));
        for part in [0.0, 0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[((part * 20_000.0) as usize).saturating_sub(1)];
            let given = latency.quantile(part).expect("commands").as_nanos() as u64;
            assert!(given.abs_diff(exact) <= 8.max(exact / 32), "{part}: {given} for {exact}");
        }
        assert_eq!(latency.buckets().map(|(_, _, count)| count).sum::<u64>(), 20_000);
        assert_eq!(of([]).quantile(0.5), None);
        assert_eq!(of([]).mean(), None);
    }
}
