//! The report of a comparison: what was found, on what, and how sure it is.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::{Context, Failure, Result};
use crate::machine::Machine;
use crate::quiet::Noise;

use super::history::History;
use super::instructions::{Counted, Counter};
use super::page;
use super::verdict::{Figure, Finding, Missing, RowVerdict};

/// What was built.
#[derive(Clone, Debug, Serialize)]
pub struct Revision {
    /// The commit, with `+changes` if the work tree differed.
    pub commit: String,
    /// Its first line.
    pub subject: String,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it started: UTC, `2026-11-25T04:28:03Z`.
    pub started: String,
    /// What was compared with.
    pub base: Revision,
    /// What was judged.
    pub head: Revision,
    /// Percent by which HEAD was slowed down on purpose.
    pub proof_percent: Option<f64>,
    /// A slowdown of so many percent is no regression.
    pub tolerance_percent: f64,
    /// The chance of a false alarm in the whole run.
    pub level: f64,
    /// Seconds of a slice.
    pub slice_s: f64,
    /// Units of a row at least, and at most.
    pub units: [usize; 2],
    /// The machine.
    pub machine: Machine,
    /// How quiet it was before.
    pub noise_before: Noise,
    /// How quiet it was after.
    pub noise_after: Noise,
    /// The rows.
    pub rows: Vec<RowVerdict>,
    /// Who counted instructions.
    pub counter: Option<Counter>,
    /// Instructions of an I/O.
    pub instructions: Vec<Counted>,
}

/// What a run comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing got worse.
    Clean,
    /// Something did.
    Regression,
    /// BASE was found to differ from itself: the run proves nothing.
    Unsure,
}

impl Report {
    /// All figures, with their rows.
    pub fn figures(&self) -> impl Iterator<Item = (&RowVerdict, &Figure)> {
        self.rows.iter().flat_map(|row| row.figures.iter().map(move |figure| (row, figure)))
    }

    /// What got worse, in words.
    pub fn regressions(&self) -> Vec<String> {
        let slower = self.figures().filter(|(_, figure)| figure.finding == Finding::Slower);
        let broken = self.rows.iter().filter_map(|row| match &row.missing {
            Some(Missing::Broken(why)) => Some(format!("{}: HEAD cannot do it: {why}", row.title)),
            _ => None,
        });
        let more = self.instructions.iter().filter(|counted| counted.finding == Finding::Slower);
        slower
            .map(|(row, figure)| format!("{}: {} {:+.1} %", row.title, figure.metric.name(), figure.change))
            .chain(broken)
            .chain(more.map(|counted| {
                let [base, head] = [counted.base, counted.head].map(|s| s.map_or(0.0, |s| s.median));
                let percent = 100.0 * (head / base - 1.0);
                format!("{}: instructions of an I/O {base:.0} to {head:.0} ({percent:+.1} %)", counted.title)
            }))
            .collect()
    }

    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        let unsure = self.figures().any(|(_, figure)| figure.finding == Finding::Unsure);
        match (unsure, self.regressions().is_empty()) {
            (true, _) => Outcome::Unsure,
            (false, true) => Outcome::Clean,
            (false, false) => Outcome::Regression,
        }
    }

    /// Whether a slowdown on purpose was found in every row, and nothing where there was none.
    pub fn proves(&self) -> bool {
        let is_found = |row: &RowVerdict| row.figures.first().is_some_and(|speed| speed.finding == Finding::Slower);
        self.rows.iter().all(is_found) && self.outcome() == Outcome::Regression
    }

    /// Writes JSON and HTML, named after the time.
    pub fn save(&self, dir: &Path, history: &History) -> Result<[PathBuf; 2]> {
        fs::create_dir_all(dir).on_file("make", dir)?;
        let name = format!("regress-{}", self.started.replace(':', ""));
        let (json, html) = (dir.join(format!("{name}.json")), dir.join(format!("{name}.html")));
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::Answer { program: "the report".into(), why: e.to_string() })?;
        fs::write(&json, text).on_file("write", &json)?;
        fs::write(&html, page::page(self, history)).on_file("write", &html)?;
        Ok([json, html])
    }
}
