//! The report of a run: what was measured, on what, how quiet it was; written as a table, as JSON, and as one HTML page.

pub mod html;
pub mod plot;
pub mod text;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::quiet::Noise;
use crate::row::RowResult;
use crate::target::Verdict;

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The suite.
    pub suite: &'static str,
    /// When it started: UTC, `2026-11-25T04:28:03Z`.
    pub started: String,
    /// Rounds of each row.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: u32,
    /// MiB of the data file.
    pub file_mib: u64,
    /// The core of the side under test, and the client's.
    pub cores: [usize; 2],
    /// The machine.
    pub machine: Machine,
    /// How quiet it was before.
    pub noise_before: Noise,
    /// How quiet it was after.
    pub noise_after: Noise,
    /// The rows.
    pub rows: Vec<RowResult>,
}

impl Report {
    /// Whether the machine was quiet before and after.
    pub fn quiet(&self) -> bool {
        self.noise_before.quiet && self.noise_after.quiet
    }

    /// How many targets got a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().flat_map(|r| &r.judgements).filter(|j| j.verdict == verdict).count()
    }

    /// The verdicts in one line.
    pub fn verdicts(&self) -> String {
        format!(
            "targets: {} pass, {} short, {} not measured, {} shown only",
            self.count(Verdict::Pass),
            self.count(Verdict::Short),
            self.count(Verdict::NotMeasured),
            self.count(Verdict::Shown)
        )
    }

    /// Writes JSON and HTML, named after suite and time.
    pub fn save(&self, dir: &Path) -> Result<[PathBuf; 2]> {
        fs::create_dir_all(dir).on_file("make", dir)?;
        let name = format!("{}-{}", self.suite, self.started.replace(':', ""));
        let (json, page) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.html")));
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::Answer { program: "the report".into(), why: e.to_string() })?;
        fs::write(&json, text).on_file("write", &json)?;
        fs::write(&page, html::page(self)).on_file("write", &page)?;
        Ok([json, page])
    }
}
