//! `strongroom pool check`: what the pool's own check has found, for people and programs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::client::say;
use crate::cli::offline::{name_of, with_device};
use crate::cli::progress::during;
use crate::cli::table::{bytes, printable};
use crate::volume::check::Report;
use crate::volume::{OpenOptions, Pool};

/// Something is broken.
const DAMAGED: u8 = 1;
/// Nobody knows.
const NOT_CHECKED: u8 = 3;

#[derive(Args)]
pub(super) struct CheckArgs {
    /// The file or block device
    path: PathBuf,
    /// Set aside what is broken, so that everything else can be used: what is lost fails to be read until it is written anew
    #[arg(long)]
    repair: bool,
    /// Check it even though another host or process seems to have it; only if that has certainly ended
    #[arg(long)]
    take_over: bool,
}

pub(super) fn run(args: &CheckArgs, as_json: bool) -> ExitCode {
    match look(args) {
        Ok(report) => {
            say(&if as_json { in_json(args, &report) } else { text(args, &report) });
            if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
        }
        Err(e) => {
            eprintln!("strongroom: {} could not be checked: {e}", args.path.display());
            ExitCode::from(NOT_CHECKED)
        }
    }
}

fn look(args: &CheckArgs) -> Result<Report, Failure> {
    let options = OpenOptions { take_over: args.take_over, ..OpenOptions::default() };
    with_device(&args.path, None, |device, home| {
        let report = during("checking", |percent| {
            let percent = percent.clone();
            let tell = move |done: usize, all: usize| percent.set(100 * done / all.max(1));
            Pool::check(&name_of(&args.path), device.clone(), home, options, args.repair, tell)
        })?;
        Ok(report)
    })
}

fn text(args: &CheckArgs, report: &Report) -> String {
    let path = args.path.display();
    let lines = |lines: &[String]| lines.iter().map(|line| printable(line) + "\n").collect::<String>();
    let end = if report.is_clean { "closed in order" } else { "not closed in order" };
    let (volumes, snapshots) = (report.pool.volumes, report.pool.snapshots);
    let seen = format!("{volumes} volumes, {snapshots} snapshots, {} in use, {end}", bytes(report.pool.used_bytes));
    let verdict = match (report.problems.len(), args.repair) {
        (0, _) => "clean".to_owned(),
        (count, false) => format!("{count} problems; --repair sets aside what is broken"),
        (count, true) => format!("{count} problems, set aside"),
    };
    let repaired =
        report.repaired.iter().map(|name| format!("{name}: brought back; what is lost of it fails to be read"));
    let repaired: Vec<String> = repaired.collect();
    format!("{}{}{path}: {seen}\n{path}: {verdict}\n", lines(&report.problems), lines(&repaired))
}

fn in_json(args: &CheckArgs, report: &Report) -> String {
    let report = json!({
        "path": args.path,
        "sound": report.is_sound(),
        "closed_in_order": report.is_clean,
        "volumes": report.pool.volumes,
        "snapshots": report.pool.snapshots,
        "size_bytes": report.pool.size_bytes,
        "used_bytes": report.pool.used_bytes,
        "journal_records": report.replayed,
        "problems": report.problems,
        "repaired": report.repaired,
    });
    format!("{report:#}\n")
}
