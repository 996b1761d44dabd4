//! The throughput regression suite: two builds beside each other, row by row, and a verdict that rests on their ratio.
//!
//! | module | owns |
//! | --- | --- |
//! | [`matrix`] | what is compared |
//! | [`side`] | the programs of BASE, HEAD and BASE again |
//! | [`session`] | one side under load |
//! | [`campaign`] | units: who is measured when, and how often |
//! | [`signed_rank`] | the statistics of paired differences |
//! | [`verdict`] | what was found of each figure |
//! | [`instructions`] | instructions of an I/O |
//! | [`history`] | what earlier runs measured |
//! | [`report`], [`text`], [`page`], [`chart`] | how it is told |
//!
//! `scripts/perf-regress` builds both sides and calls this; `perf/README.md` says how to read the result.

mod campaign;
mod chart;
mod history;
mod instructions;
mod matrix;
mod page;
mod report;
mod session;
mod side;
mod signed_rank;
#[cfg(test)]
mod synthetic;
mod text;
mod verdict;

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::machine::Machine;
use crate::process;
use crate::quiet::Noise;
use crate::run::utc_now;

use campaign::{Effort, Rule};
use history::{Entry, History};
use instructions::{Counted, Counter};
use matrix::Row;
use report::{Outcome, Report, Revision};
use session::Slice;
use side::Sides;

/// Where in the directory of results the history is.
const HISTORY: &str = "history/regress.jsonl";

/// What to compare, and how carefully.
#[derive(Args)]
pub struct Options {
    /// The directory with BASE's strongroom and strongroom-perf
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    base: Option<PathBuf>,
    /// The directory with HEAD's
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    head: Option<PathBuf>,
    /// What BASE is: a commit, a blank, and its first line
    #[arg(long, value_name = "TEXT", default_value = "unknown")]
    base_name: String,
    /// What HEAD is
    #[arg(long, value_name = "TEXT", default_value = "unknown")]
    head_name: String,
    /// Only rows whose title contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// List the rows and stop
    #[arg(long)]
    list: bool,
    /// Units of each row at least; each measures both sides twice, and BASE twice more
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    units: u16,
    /// Units of a row at most, where the machine is noisy
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..))]
    most_units: u16,
    /// Measure on until a slowdown of this size would be found
    #[arg(long, default_value_t = 4.0, value_name = "PERCENT")]
    seek: f64,
    /// Milliseconds of a slice, after a third of that as ramp
    #[arg(long, default_value_t = 150, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    slice: u32,
    /// A slowdown of this size is no regression
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT")]
    tolerance: f64,
    /// The chance of a false alarm in a whole run
    #[arg(long, default_value_t = 0.01)]
    level: f64,
    /// Two units of short slices: to see that everything works, without a verdict
    #[arg(long, conflicts_with_all = ["units", "most_units", "slice"])]
    quick: bool,
    /// Do not count instructions
    #[arg(long)]
    no_instructions: bool,
    /// Slow HEAD down by this, in the rows in process, and pass if just that is found; needs builds with the feature `slowdown`
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "5")]
    prove: Option<f64>,
    /// Where the JSON and HTML reports go, and the history
    #[arg(long, default_value = "perf/results")]
    out: PathBuf,
}

impl Options {
    fn effort(&self) -> Effort {
        let (least, most, slice_ms) = match self.quick {
            true => (2, 2, 100),
            false => (self.units.into(), self.most_units.max(self.units).into(), self.slice),
        };
        let seconds = f64::from(slice_ms) / 1e3;
        Effort {
            least,
            most,
            seek_percent: self.seek,
            slice: Slice { seconds, ramp_s: seconds / 3.0 },
            slow_percent: self.prove.unwrap_or(0.0),
        }
    }

    fn rule(&self) -> Result<Rule> {
        let percent = |value: f64| (0.0..100.0).contains(&value);
        if !percent(self.tolerance) || !percent(self.seek) || !self.prove.is_none_or(percent) {
            return Err(Failure::Request("--tolerance, --seek and --prove take percent from 0 to 100".into()));
        }
        if self.level <= 0.0 || self.level > 0.5 {
            return Err(Failure::Request(format!("--level {} is not between 0 and 0.5", self.level)));
        }
        Ok(Rule { margin: (1.0 + self.tolerance / 100.0).ln(), level: self.level })
    }

    fn rows(&self) -> Result<Vec<Row>> {
        // Where a client takes part, it may be the slower side, behind which a slowdown hides.
        let can_prove = |row: &Row| self.prove.is_none() || row.is_in_process();
        let wanted = |row: &Row| can_prove(row) && self.only.as_ref().is_none_or(|text| row.title().contains(text));
        let rows: Vec<Row> = matrix::rows().into_iter().filter(wanted).collect();
        match (rows.is_empty(), &self.only) {
            (true, Some(text)) => {
                let kind = if self.prove.is_some() { "row in process has a" } else { "row has a" };
                Err(Failure::Request(format!("no {kind} title with {text:?}; --list shows them")))
            }
            _ => Ok(rows),
        }
    }
}

fn revision(name: &str) -> Revision {
    let (commit, subject) = name.split_once(' ').unwrap_or((name, ""));
    Revision { commit: commit.into(), subject: subject.into() }
}

/// Compares. Gives whether it passed: no regression, or, with `--prove`, just the one that was made.
pub fn run(options: &Options) -> Result<bool> {
    let rows = options.rows()?;
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.title()));
        return Ok(true);
    }
    let (Some(base), Some(head)) = (&options.base, &options.head) else {
        return Err(Failure::Request("--base and --head are needed; scripts/perf-regress gives them".into()));
    };
    let (effort, rule) = (options.effort(), options.rule()?);
    process::require("taskset", "util-linux")?;
    process::require("setpriv", "util-linux")?;
    interrupt::listen()?;
    let started = utc_now();
    let noise_before = Noise::watch()?;
    let sides = Sides::copy(base, head, options.prove.is_some())?;
    let figures = rows.iter().map(|row| row.figures().len()).sum();
    let measured = campaign::run(rows.clone(), &sides, &effort, rule, figures)?;
    let noise_after = Noise::watch()?;
    let counter = if options.no_instructions || options.prove.is_some() { None } else { Counter::of_this_machine() };
    let instructions = match counter {
        Some(counter) => count(counter, &rows, &sides, options.tolerance / 100.0)?,
        None => Vec::new(),
    };
    let head = revision(&options.head_name);
    let report = Report {
        started,
        base: revision(&options.base_name),
        machine: Machine { commit: head.commit.clone(), ..Machine::inspect(None) },
        head,
        proof_percent: options.prove,
        tolerance_percent: options.tolerance,
        level: options.level,
        slice_s: effort.slice.seconds,
        units: [effort.least, effort.most],
        noise_before,
        noise_after,
        rows: verdict::judge(&measured, rule),
        counter,
        instructions,
    };
    conclude(&report, options)
}

fn count(counter: Counter, rows: &[Row], sides: &Sides, tolerance: f64) -> Result<Vec<Counted>> {
    let counted = rows.iter().filter(|row| instructions::is_counted(row));
    counted
        .map(|row| {
            eprintln!("  counts instructions: {}", row.title());
            instructions::count(counter, row, sides, tolerance)
        })
        .collect()
}

fn conclude(report: &Report, options: &Options) -> Result<bool> {
    let path = options.out.join(HISTORY);
    let mut history = History::read(&path, &report.machine.cpu)?;
    if !options.quick && options.prove.is_none() {
        history.add(&path, Entry::of(report))?;
    }
    println!("{}\n", text::head(report));
    println!("{}", text::table(report));
    println!("{}", text::instructions(report));
    println!("{}", text::conclusion(report));
    for path in report.save(&options.out, &history)? {
        println!("{}", path.display());
    }
    match (options.prove, report.outcome()) {
        (Some(_), _) => Ok(report.proves()),
        (None, Outcome::Clean) => Ok(true),
        (None, Outcome::Regression) => Ok(false),
        (None, Outcome::Unsure) => {
            Err(Failure::Request("the machine was too restless for a verdict; repeat the run".into()))
        }
    }
}
