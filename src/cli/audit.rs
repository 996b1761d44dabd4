//! `strongroom audit`: what was done with keys, and whether the log of it is as it was written.
//!
//! Works on the files of the log, in this process; a target may be appending to them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::kms::audit::{self, AuditError, Filter, Head, Operation, Outcome as Came, Record, Summary};
use crate::kms::{FREE_CALLS, Usage};

use super::client::say;
use super::table::{Align, Table, printable};
use super::{Failure, Outcome};

/// Records in a table, which holds all of its lines at once, unless it is said how many.
const SHOWN: usize = 100;

#[derive(Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check every record and the chain of them; says which record is the first that was changed, and how
    ///
    /// Exit codes: 0 = the chain is whole; 1 = it is broken, or could not be read. Without --head this does not show a log whose end was cut off
    /// between two records, or that was written anew as a whole: keep heads on another machine.
    Verify {
        /// The log's newest file; older ones are found beside it
        path: PathBuf,
        /// A head from the target's log or from an earlier check: the log has to hold that record
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<Head>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show records, the oldest first
    Show(ShowArgs),
    /// Show how many calls each account has made in each month, and how many are beyond the free ones
    Usage {
        /// The log's newest file; older ones are found beside it
        path: PathBuf,
        /// Calls of an account and month that cost nothing
        #[arg(long, default_value_t = FREE_CALLS, value_name = "CALLS")]
        free: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct ShowArgs {
    /// The log's newest file; older ones are found beside it
    path: PathBuf,
    /// Only records of this account
    #[arg(long)]
    account: Option<String>,
    /// Only records about this disk
    #[arg(long)]
    disk: Option<String>,
    /// Only records about this CMK
    #[arg(long)]
    key: Option<String>,
    /// Only records of this operation, such as attach
    #[arg(long)]
    operation: Option<Operation>,
    /// Only records from this number on
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Only so many, the last ones; all with --json, and 100 without, if left out
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Print each record as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &AuditArgs) -> Outcome {
    match &args.command {
        AuditCommand::Verify { path, head, json } => verify(path, *head, *json),
        AuditCommand::Show(args) if args.json => show_json(args),
        AuditCommand::Show(args) => show_table(args),
        AuditCommand::Usage { path, free, json } => usage(path, *free, *json),
    }
}

fn verify(path: &Path, kept: Option<Head>, as_json: bool) -> Outcome {
    match audit::verify(path, kept) {
        Ok(summary) => {
            say(&if as_json { sound_json(&summary) } else { sound(path, kept, &summary) });
            Ok(ExitCode::SUCCESS)
        }
        Err(AuditError::Broken(broken)) => {
            let mut found = serde_json::to_value(&broken)?;
            found["sound"] = false.into();
            say(&if as_json { format!("{found:#}\n") } else { printable(&format!("BROKEN: {broken}")) + "\n" });
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(e.into()),
    }
}

fn sound(path: &Path, kept: Option<Head>, summary: &Summary) -> String {
    let Summary { head, first, last } = summary;
    let span = match (first, last) {
        (Some(first), Some(last)) => format!(", {first} to {last}"),
        _ => String::new(),
    };
    let proved = match kept {
        Some(kept) => format!("record {} and all before it are as they were when this head was kept", kept.seq),
        None => "no head was given: whether its end was cut off, or all of it written anew, is not known".to_owned(),
    };
    let path = printable(&path.display().to_string());
    format!("{path}: the chain of {} records is whole{span}\n  {proved}\n  head {head}\n", head.seq)
}

fn sound_json(summary: &Summary) -> String {
    let Summary { head, first, last } = summary;
    format!("{:#}\n", json!({"sound": true, "records": head.seq, "head": head, "first": first, "last": last}))
}

impl ShowArgs {
    fn filter(&self) -> Filter {
        Filter {
            account: self.account.clone(),
            disk: self.disk.clone(),
            key: self.key.clone(),
            operation: self.operation,
            since: self.since,
        }
    }
}

fn show_json(args: &ShowArgs) -> Outcome {
    let print = |record: &Record| -> Result<(), Failure> {
        say(&(serde_json::to_string(record)? + "\n"));
        Ok(())
    };
    match args.last {
        Some(most) => audit::last(&args.path, &args.filter(), most)?.iter().try_for_each(print)?,
        None => audit::read(&args.path, args.filter())?.try_for_each(|record| print(&record?))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show_table(args: &ShowArgs) -> Outcome {
    let mut table = Table::new(&[
        ("SEQ", Align::Right),
        ("TIME", Align::Left),
        ("ACTOR", Align::Left),
        ("OPERATION", Align::Left),
        ("ACCOUNT", Align::Left),
        ("DISK", Align::Left),
        ("KEY", Align::Left),
        ("OUTCOME", Align::Left),
        ("REQUEST", Align::Left),
    ]);
    for record in audit::last(&args.path, &args.filter(), args.last.unwrap_or(SHOWN))? {
        let version = record.key_version.map(|version| format!(" v{version}")).unwrap_or_default();
        table.row([
            record.seq.to_string(),
            record.time.to_string(),
            record.actor.to_string(),
            record.operation.to_string(),
            record.account.unwrap_or_default(),
            record.disk.unwrap_or_default(),
            record.key.unwrap_or_default() + &version,
            match record.outcome {
                Came::Done => "done".to_owned(),
                Came::Failed(why) => format!("FAILED: {why}"),
            },
            record.request_id.unwrap_or_default(),
        ]);
    }
    say(&table.text_or("there are no such records"));
    Ok(ExitCode::SUCCESS)
}

fn usage(path: &Path, free: u64, as_json: bool) -> Outcome {
    let usage = audit::usage(path, free)?;
    say(&if as_json { format!("{:#}\n", serde_json::to_value(usage)?) } else { usage_table(usage) });
    Ok(ExitCode::SUCCESS)
}

fn usage_table(usage: Vec<Usage>) -> String {
    let mut table = Table::new(&[
        ("MONTH", Align::Left),
        ("ACCOUNT", Align::Left),
        ("CALLS", Align::Right),
        ("FAILED", Align::Right),
        ("FREE", Align::Right),
        ("BEYOND", Align::Right),
        ("OF WHICH", Align::Left),
    ]);
    for one in usage {
        let of_which: Vec<String> = one.by_operation.iter().map(|(what, calls)| format!("{what} {calls}")).collect();
        table.row([
            one.month,
            one.account,
            one.calls.to_string(),
            one.failed.to_string(),
            one.free_quota.to_string(),
            one.beyond.to_string(),
            of_which.join(", "),
        ]);
    }
    table.text_or("there are no calls that count")
}
