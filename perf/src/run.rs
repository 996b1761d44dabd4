//! A run of a suite: check the machine, measure row by row, report.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::lab::{Choice, Lab};
use crate::machine::Machine;
use crate::process;
use crate::quiet::Noise;
use crate::report::{Report, text};
use crate::row::Row;
use crate::suite::Suite;
use crate::target::Verdict;

/// Options of every suite.
#[derive(Args)]
pub struct Options {
    /// Rounds: each contender of a row is measured once in each, in turning order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Seconds of one measurement, after one second of ramp
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Two rounds of one second on a 256 MiB file and a 32 GiB volume: to see that everything works, not to believe the figures
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "file_size", "large_volume"])]
    quick: bool,
    /// Only rows whose title contains this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// List the rows and stop
    #[arg(long)]
    list: bool,
    /// Where data files are made, in a directory of their own that is removed afterwards; needs O_DIRECT
    #[arg(long, default_value = "perf/results/work")]
    dir: PathBuf,
    /// MiB of a data file; the encrypted NBD rows need twice that
    #[arg(long, default_value_t = 2048, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..))]
    file_size: u64,
    /// GiB of the volume that the last rows of the suite `pool` are about
    #[arg(long, default_value_t = 1024, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..))]
    large_volume: u64,
    /// Where the JSON and HTML reports go
    #[arg(long, default_value = "perf/results")]
    out: PathBuf,
    /// The strongroom program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    strongroom: Option<PathBuf>,
    /// Exit with status 1 unless every judged target is reached
    #[arg(long)]
    gate: bool,
}

impl Options {
    /// Rounds, seconds, MiB of the file, GiB of the large volume.
    fn size(&self) -> (usize, u32, u64, u64) {
        match self.quick {
            true => (2, 1, 256, 32),
            false => (self.rounds.into(), self.seconds, self.file_size, self.large_volume),
        }
    }

    fn rows(&self, suite: Suite) -> Result<Vec<Row>> {
        let wanted = |row: &Row| self.only.as_ref().is_none_or(|text| row.title().contains(text));
        let rows: Vec<Row> = suite.rows().into_iter().filter(wanted).collect();
        match (rows.is_empty(), &self.only) {
            (true, Some(text)) => Err(Failure::Request(format!("no row's title contains {text:?}; --list shows them"))),
            _ => Ok(rows),
        }
    }
}

/// Runs a suite. Gives whether it passed, which it also does without `--gate`.
pub fn run(suite: Suite, options: &Options) -> Result<bool> {
    let rows = options.rows(suite)?;
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.title()));
        return Ok(true);
    }
    process::require("taskset", "util-linux")?;
    process::require("setpriv", "util-linux")?;
    interrupt::listen()?;
    let (rounds, seconds, file_mib, large_gib) = options.size();
    let strongroom = options.strongroom.clone();
    let lab = Lab::open(Choice { strongroom, dir: options.dir.clone(), seconds, file_mib, large_gib })?;
    let started = utc_now();
    let noise_before = Noise::watch()?;
    let machine = Machine::inspect(lab.spdk.as_deref());
    eprintln!("{noise_before}");
    text::hugepage_warning(machine.hugepages.1).iter().for_each(|warning| eprintln!("{warning}"));
    eprintln!("{}", text::cores([lab.server_core, lab.client_core]));
    let all = rows.len();
    let mut results = Vec::new();
    for (at, row) in rows.into_iter().enumerate() {
        eprintln!("  row {}/{all}  {}", at + 1, row.title());
        let result = row.run(&lab, rounds)?;
        println!("{}", text::row(&result));
        results.push(result);
    }
    let report = Report {
        suite: suite.name(),
        started,
        rounds,
        seconds,
        file_mib,
        cores: [lab.server_core, lab.client_core],
        machine,
        noise_before,
        noise_after: Noise::watch()?,
        rows: results,
    };
    conclude(&report, options)
}

fn conclude(report: &Report, options: &Options) -> Result<bool> {
    println!("{}", text::head(report));
    println!("{}", report.verdicts());
    if !report.quiet() {
        println!("The machine was NOT QUIET: repeat before you believe a value, and look at ratios only.");
    }
    for path in report.save(&options.out)? {
        println!("{}", path.display());
    }
    let missed = report.count(Verdict::Short) + report.count(Verdict::NotMeasured);
    Ok(!options.gate || missed == 0)
}

/// Now, as `date` writes it.
pub fn utc_now() -> String {
    let mut command = Command::new("date");
    process::run("date", command.args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))
        .map_or("unknown".into(), |text| text.trim().to_owned())
}
