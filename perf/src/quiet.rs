//! Whether the machine is quiet enough to believe a measurement: idle time, stolen time and CPU pressure before it starts, and stolen time
//! while it runs.
//!
//! Facts: proc(5) `/proc/stat`, `/proc/loadavg`; kernel documentation, accounting/psi.

use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use crate::failure::{Context, Failure, Result};

/// How long the machine is watched.
const WATCH: Duration = Duration::from_secs(2);
/// Quiet needs this much idle time, in percent of all cores,
const IDLE_LEAST: f64 = 95.0;
/// at most this much stolen time,
const STEAL_MOST: f64 = 1.0;
/// and at most this share of the last ten seconds in which some task waited for a core.
const PRESSURE_MOST: f64 = 10.0;

/// Time that the cores have spent since boot, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreTimes {
    all: u64,
    idle: u64,
    steal: u64,
}

impl CoreTimes {
    /// Up to now.
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context(|| "cannot read /proc/stat".into())?;
        Self::parse(&text).ok_or_else(|| Failure::Answer { program: "/proc/stat".into(), why: text })
    }

    /// The line `cpu`: user nice system idle iowait irq softirq steal (guest times are part of user and nice).
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find(|l| l.starts_with("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map_while(|v| v.parse().ok()).collect();
        match ticks[..] {
            [_, _, _, idle, iowait, _, _, steal] => Some(Self { all: ticks.iter().sum(), idle: idle + iowait, steal }),
            _ => None,
        }
    }

    fn percent(part: u64, all: u64) -> f64 {
        100.0 * part as f64 / all.max(1) as f64
    }

    /// Idle time since then, in percent of all cores.
    pub fn idle_percent(self, now: Self) -> f64 {
        Self::percent(now.idle.saturating_sub(self.idle), now.all.saturating_sub(self.all))
    }

    /// Stolen time since then, in percent of all cores.
    pub fn steal_percent(self, now: Self) -> f64 {
        Self::percent(now.steal.saturating_sub(self.steal), now.all.saturating_sub(self.all))
    }
}

/// What the machine did while nothing was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// Idle time in percent of all cores.
    pub idle_percent: f64,
    /// Stolen time in percent of all cores.
    pub steal_percent: f64,
    /// Load over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Share of the last ten seconds in which some task waited for a core; absent where the kernel does not tell.
    pub cpu_pressure: Option<f64>,
    /// The verdict.
    pub quiet: bool,
}

impl Noise {
    /// Watches the machine for two seconds.
    pub fn watch() -> Result<Self> {
        let before = CoreTimes::now()?;
        sleep(WATCH);
        let now = CoreTimes::now()?;
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let pressure = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        Ok(Self::judge(
            before.idle_percent(now),
            before.steal_percent(now),
            parse_load(&load),
            parse_pressure(&pressure),
        ))
    }

    fn judge(idle_percent: f64, steal_percent: f64, load: [f64; 3], cpu_pressure: Option<f64>) -> Self {
        let quiet = idle_percent >= IDLE_LEAST
            && steal_percent <= STEAL_MOST
            && cpu_pressure.is_none_or(|p| p <= PRESSURE_MOST);
        Self { idle_percent, steal_percent, load, cpu_pressure, quiet }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.quiet { "QUIET" } else { "NOT QUIET" };
        let [one, five, fifteen] = self.load;
        write!(f, "{word}: {:.1} % idle, {:.1} % stolen, ", self.idle_percent, self.steal_percent)?;
        match self.cpu_pressure {
            Some(p) => write!(f, "CPU pressure {p:.1} %, ")?,
            None => write!(f, "CPU pressure unknown, ")?,
        }
        write!(f, "load {one:.2} {five:.2} {fifteen:.2}")?;
        match self.quiet {
            true => Ok(()),
            false => write!(
                f,
                " (quiet is ≥ {IDLE_LEAST} % idle, ≤ {STEAL_MOST} % stolen, ≤ {PRESSURE_MOST} % pressure); believe ratios more than values"
            ),
        }
    }
}

fn parse_load(text: &str) -> [f64; 3] {
    let mut values = text.split_whitespace().map_while(|v| v.parse().ok());
    [(); 3].map(|()| values.next().unwrap_or(0.0))
}

/// `some avg10=12.37 avg60=… avg300=… total=…`
fn parse_pressure(text: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.starts_with("some "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stolen_time_are_shares_of_all_cores() {
        let before = CoreTimes::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n").unwrap();
        let now = CoreTimes::parse("cpu  110 0 100 860 20 0 0 10 0 0\n").unwrap();
        assert_eq!(before.idle_percent(now), 80.0);
        assert_eq!(before.steal_percent(now), 10.0);
        assert_eq!(CoreTimes::parse("cpu 1 2 3\n"), None);
    }

    #[test]
    fn pressure_and_load_are_read() {
        assert_eq!(parse_pressure("some avg10=12.37 avg60=31.33 avg300=18.41 total=1\nfull avg10=0.00\n"), Some(12.37));
        assert_eq!(parse_pressure(""), None);
        assert_eq!(parse_load("2.88 1.86 1.26 1/89 1234\n"), [2.88, 1.86, 1.26]);
    }

    #[test]
    fn one_reason_suffices_for_not_quiet() {
        assert!(Noise::judge(99.0, 0.0, [0.0; 3], Some(1.0)).quiet);
        assert!(Noise::judge(99.0, 0.0, [9.0; 3], None).quiet);
        for noise in [
            Noise::judge(90.0, 0.0, [0.0; 3], None),
            Noise::judge(99.0, 2.0, [0.0; 3], None),
            Noise::judge(99.0, 0.0, [0.0; 3], Some(20.0)),
        ] {
            assert!(noise.to_string().starts_with("NOT QUIET"), "{noise}");
        }
    }
}
