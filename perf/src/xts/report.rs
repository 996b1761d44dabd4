//! The result: what was measured, as tables, as JSON, and as a verdict.

use std::fmt;

use serde_json::{Value, json};

use super::clock::Sampler;
use super::limit::{ROUNDS, Width};

/// The samples of one implementation at one task.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) bytes: usize,
    /// Core cycles of a call.
    pub(crate) samples: Vec<f64>,
}

impl Row {
    pub(crate) fn new(name: String, what: &str, bytes: usize) -> Self {
        Self { name, what: what.to_owned(), bytes, samples: Vec::new() }
    }

    /// Core cycles a byte at `part` of the samples.
    fn per_byte(&self, part: f64) -> f64 {
        percentile(&self.samples, part) / self.bytes as f64
    }
}

/// The value below which `part` of the samples lie; not a number if there are none.
pub(crate) fn percentile(samples: &[f64], part: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The hot tasks, as columns.
const HOT: [(&str, usize); 4] =
    [("128 x 512 enc", 512), ("128 x 512 dec", 512), ("16 x 4096 enc", 4096), ("16 x 4096 dec", 4096)];

/// The small tasks, as columns.
const SMALL: [&str; 4] = ["1 x 512 enc", "8 x 512 enc", "32 x 512 enc", "1 x 4096 enc"];

/// All rows of a run.
pub(crate) struct Report {
    rows: Vec<Row>,
    hertz: f64,
    taken: usize,
    kept: usize,
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>, sampler: &Sampler) -> Self {
        Self { rows, hertz: sampler.hertz(), taken: sampler.taken, kept: sampler.kept }
    }

    fn row(&self, name: &str, what: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.what == what && !row.samples.is_empty())
    }

    /// The names in the order of measurement, limits apart.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| !row.name.starts_with("limit")) {
            if !names.contains(&row.name.as_str()) {
                names.push(&row.name);
            }
        }
        names
    }

    /// The least cycles a byte at `bits` width, from the rounds measured at the same percentile.
    fn limit(&self, bits: usize, sector_bytes: usize, part: f64) -> Option<f64> {
        let row = self.row(&format!("limit {bits}"), "round")?;
        Some(Width::cycles_per_byte(bits, percentile(&row.samples, part) / ROUNDS as f64, sector_bytes))
    }

    /// The limit that a kernel is measured against: that of its own width.
    fn own_limit(&self, name: &str, sector_bytes: usize, part: f64) -> Option<f64> {
        match name {
            "vaes512" => self.limit(512, sector_bytes, part),
            "vaes256" => self.limit(256, sector_bytes, part),
            _ => None,
        }
    }

    /// Fails with all the tasks at which a hand-written kernel is slower than `slack` times its limit.
    pub(crate) fn check(&self, slack: f64) -> Result<(), String> {
        let mut slow = Vec::new();
        for name in self.names() {
            for (what, sector_bytes) in HOT {
                let (Some(row), Some(limit)) = (self.row(name, what), self.own_limit(name, sector_bytes, 0.05)) else {
                    continue;
                };
                let ratio = row.per_byte(0.05) / limit;
                if ratio > slack {
                    slow.push(format!("{name} at {what} takes {ratio:.3} of the limit, and at most {slack} is wanted"));
                }
            }
        }
        if slow.is_empty() { Ok(()) } else { Err(slow.join("; ")) }
    }

    /// All rows and limits, for tools.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "what": row.what, "bytes": row.bytes, "samples": row.samples.len(),
                    "cycles_p05": percentile(&row.samples, 0.05), "cycles_median": percentile(&row.samples, 0.5),
                })
            })
            .collect();
        let limits: Vec<Value> = [128, 256, 512]
            .iter()
            .flat_map(|&bits| [512, 4096].map(|sector| (bits, sector)))
            .filter_map(|(bits, sector)| {
                let limit = self.limit(bits, sector, 0.05)?;
                Some(json!({ "bits": bits, "sector_bytes": sector, "cycles_per_byte_p05": limit }))
            })
            .collect();
        json!({ "core_hertz": self.hertz, "samples_taken": self.taken, "samples_kept": self.kept, "rows": rows,
            "limits": limits })
    }

    fn hot_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Hot, 64 KiB in place; core cycles a byte: p05 / median (p05 over the own width's limit)\n")?;
        write!(f, "{:<15}", "")?;
        for (what, _) in HOT {
            write!(f, "{what:>25}")?;
        }
        writeln!(f)?;
        for bits in [512, 256, 128] {
            let limits = HOT.map(|(_, sector)| (self.limit(bits, sector, 0.05), self.limit(bits, sector, 0.5)));
            if limits[0].0.is_some() {
                write!(f, "{:<15}", format!("limit {bits}"))?;
                for (p05, median) in limits {
                    write!(f, "{:>25}", cell(p05.unwrap_or(f64::NAN), median.unwrap_or(f64::NAN), None))?;
                }
                writeln!(f)?;
            }
        }
        for name in self.names() {
            write!(f, "{name:<15}")?;
            for (what, sector) in HOT {
                let text = self.row(name, what).map(|row| {
                    let p05 = row.per_byte(0.05);
                    cell(p05, row.per_byte(0.5), self.own_limit(name, sector, 0.05).map(|limit| p05 / limit))
                });
                write!(f, "{:>25}", text.unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn ratio_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nTimes as fast as the rival (medians)\n")?;
        for ours in ["vaes512", "vaes256", "bulk"] {
            for rival in ["bulk", "xts-mode", "openssl EVP", "openssl speed"].iter().filter(|rival| **rival != ours) {
                let ratios = HOT
                    .map(|(what, _)| Some(self.row(rival, what)?.per_byte(0.5) / self.row(ours, what)?.per_byte(0.5)));
                if ratios.iter().all(Option::is_some) {
                    write!(f, "{:<25}", format!("{ours} / {rival}"))?;
                    ratios.iter().flatten().try_for_each(|ratio| write!(f, "{ratio:>15.2}"))?;
                    writeln!(f)?;
                }
            }
        }
        Ok(())
    }

    fn call_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSmall requests, hot, in place: core cycles a call, p05 / median\n")?;
        write!(f, "{:<15}", "")?;
        SMALL.iter().try_for_each(|what| write!(f, "{what:>20}"))?;
        writeln!(f)?;
        for name in self.names() {
            if self.row(name, SMALL[0]).is_some() {
                write!(f, "{name:<15}")?;
                for row in SMALL.map(|what| self.row(name, what)).into_iter().flatten() {
                    let [p05, median] = [0.05, 0.5].map(|part| percentile(&row.samples, part));
                    write!(f, "{:>20}", format!("{p05:.0} / {median:.0}"))?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f, "\nHot, 32 KiB to another 32 KiB: core cycles a byte, p05 / median\n")?;
        self.rows_ending(f, ", moved")?;
        writeln!(f, "\nAt random places of 256 MiB, the next one named: core cycles a byte, p05 / median\n")?;
        self.rows_ending(f, ", cold")
    }

    fn rows_ending(&self, f: &mut fmt::Formatter<'_>, end: &str) -> fmt::Result {
        for row in self.rows.iter().filter(|row| row.what.ends_with(end)) {
            writeln!(f, "{:<15}{:<25}{}", row.name, row.what, cell(row.per_byte(0.05), row.per_byte(0.5), None))?;
        }
        Ok(())
    }
}

fn cell(p05: f64, median: f64, ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) => format!("{p05:.4} / {median:.4} ({ratio:.3})"),
        None => format!("{p05:.4} / {median:.4}"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hot_table(f)?;
        self.ratio_table(f)?;
        self.call_table(f)?;
        writeln!(f, "\n{} of {} samples kept; core clock {:.2} GHz", self.kept, self.taken, self.hertz / 1e9)
    }
}
