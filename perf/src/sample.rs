//! The result of one measurement of one contender, in the same units whoever measured it, and the metrics that are compared.

use serde::{Deserialize, Serialize};

/// Latency of an I/O from its issue to its completion, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Half of all I/Os were as fast or faster.
    pub p50: f64,
    /// 90 % were.
    pub p90: f64,
    /// 99 % were.
    pub p99: f64,
    /// 99.9 % were.
    pub p99_9: f64,
    /// 99.99 % were.
    pub p99_99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of at least one I/O, from the latency of each.
    pub fn of(mut each: Vec<f64>) -> Self {
        each.sort_by(f64::total_cmp);
        let last = each.len() - 1;
        let at = |share: f64| each[(share * last as f64).round() as usize];
        Self {
            mean: each.iter().sum::<f64>() / each.len() as f64,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: each[last],
        }
    }

    /// The points of a percentile plot: name and microseconds.
    pub fn points(&self) -> [(&'static str, f64); 6] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p99_9),
            ("p99.99", self.p99_99),
            ("max", self.max),
        ]
    }
}

/// The result of one measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// I/Os a second. Absent where no I/O is made.
    pub iops: Option<f64>,
    /// MiB a second.
    pub mib_per_s: Option<f64>,
    /// Latency, if the contender tells.
    pub latency_us: Option<Latency>,
    /// CPU time of the side under test, and the time over which it was taken. For a server: its process alone, without the client's.
    pub cpu: Option<CpuTime>,
    /// Memory of the side under test in MiB, where that is what is measured.
    pub memory_mib: Option<f64>,
    /// How long something took, in seconds, where that is what is measured.
    pub seconds: Option<f64>,
    /// The longest latency around an event, in microseconds: the median over the events.
    pub pause_us: Option<f64>,
    /// Share of the machine's time that the host kept for others, in percent, while this was measured.
    pub steal_percent: f64,
    /// What the contender tells about itself: the cipher's kernel, for example.
    pub note: Option<String>,
}

/// CPU time spent in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuTime {
    /// Seconds of user and system time.
    pub spent_s: f64,
    /// Seconds that passed.
    pub elapsed_s: f64,
}

impl CpuTime {
    /// In percent of one core.
    pub fn percent(self) -> f64 {
        100.0 * self.spent_s / self.elapsed_s
    }
}

/// What of a sample is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// I/Os a second.
    Iops,
    /// GiB a second.
    GibPerS,
    /// The median of the latency.
    P50,
    /// The 99th percentile of the latency.
    P99,
    /// CPU time in percent of one core.
    CpuPercent,
    /// Memory in MiB.
    Memory,
    /// How long something took.
    Time,
    /// The longest latency around an event.
    Pause,
}

impl Metric {
    /// Its value in a sample.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Iops => sample.iops,
            Self::GibPerS => sample.mib_per_s.map(|v| v / 1024.0),
            Self::P50 => sample.latency_us.map(|l| l.p50),
            Self::P99 => sample.latency_us.map(|l| l.p99),
            Self::CpuPercent => sample.cpu.map(CpuTime::percent),
            Self::Memory => sample.memory_mib,
            Self::Time => sample.seconds,
            Self::Pause => sample.pause_us,
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iops => "IOPS",
            Self::GibPerS => "GiB/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::CpuPercent => "CPU",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Pause => "pause",
        }
    }

    /// A value of it for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Iops => count(value),
            Self::GibPerS => format!("{value:.2} GiB/s"),
            Self::P50 | Self::P99 | Self::Pause => micros(value),
            Self::Time => format!("{value:.3} s"),
            Self::CpuPercent => format!("{value:.2} %"),
            Self::Memory => format!("{value:.0} MiB"),
        }
    }
}

/// A rate with k or M.
pub fn count(value: f64) -> String {
    match value {
        v if v >= 9_995_000.0 => format!("{:.1}M", v / 1e6),
        v if v >= 999_500.0 => format!("{:.2}M", v / 1e6),
        v if v >= 99_950.0 => format!("{:.0}k", v / 1e3),
        v if v >= 1000.0 => format!("{:.1}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

/// A latency with its unit.
pub fn micros(value: f64) -> String {
    match value {
        v if v >= 999_500.0 => format!("{:.2} s", v / 1e6),
        v if v >= 9_995.0 => format!("{:.1} ms", v / 1e3),
        v if v >= 99.95 => format!("{v:.0} µs"),
        v if v >= 9.995 => format!("{v:.1} µs"),
        v => format!("{v:.2} µs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        assert_eq!(count(25_012_345.0), "25.0M");
        assert_eq!(count(1_904_000.0), "1.90M");
        assert_eq!(count(999_700.0), "1.00M");
        assert_eq!(count(112_600.0), "113k");
        assert_eq!(count(8_912.0), "8.9k");
        assert_eq!(count(12.0), "12");
    }

    #[test]
    fn latencies_carry_their_unit() {
        assert_eq!(micros(0.044), "0.04 µs");
        assert_eq!(micros(12.64), "12.6 µs");
        assert_eq!(micros(561.0), "561 µs");
        assert_eq!(micros(14_500.0), "14.5 ms");
    }

    #[test]
    fn percentiles_are_latencies_that_were_measured() {
        let latency = Latency::of((1..=101).rev().map(f64::from).collect());
        assert_eq!(
            (latency.p50, latency.p90, latency.p99, latency.max, latency.mean),
            (51.0, 91.0, 100.0, 101.0, 51.0)
        );
    }

    #[test]
    fn cpu_is_in_percent_of_a_core() {
        let sample = Sample { cpu: Some(CpuTime { spent_s: 0.02, elapsed_s: 4.0 }), ..Sample::default() };
        assert_eq!(Metric::CpuPercent.of(&sample), Some(0.5));
        assert_eq!(Metric::Iops.of(&sample), None);
    }
}
