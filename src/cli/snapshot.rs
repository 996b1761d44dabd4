//! `strongroom snapshot`: the content of disks at moments in the past.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::control::target::{Changed, DiffReport, DiskReport, Removed, SnapshotReport};

use super::client::{Ask, say};
use super::table::{Align, Table, bytes, date, printable};
use super::{Outcome, cloud, disk};

#[derive(Args)]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Keep a disk's content of this moment; takes no time and, at first, no space
    Create {
        /// The disk
        disk: String,
        /// The snapshot's name; DISK@NAME from then on. The cloud gives its snapshots identifiers, and they need no name
        name: Option<String>,
    },
    /// List snapshots, the oldest first
    List {
        /// Only those of this disk
        disk: Option<String>,
        /// Only those that this account has in the cloud, as the cloud has them
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Delete a snapshot; disks made from it keep their content
    Delete {
        /// The snapshot: DISK@NAME, or s-… of the cloud
        name: String,
        /// The pool; needed if several have a snapshot of this name
        #[arg(long)]
        pool: Option<String>,
    },
    /// Give a disk the content of one of its snapshots; what was written since is lost
    ///
    /// No host and no NBD client may have it meanwhile: file systems do not bear it. Detach the disk from its hosts before, and attach it again after.
    Rollback {
        /// The disk
        disk: String,
        /// The snapshot's name, without the disk's; s-… of the cloud
        snapshot: String,
    },
    /// List the ranges of a disk or snapshot that differ from an earlier snapshot, for incremental backup
    Diff {
        /// The earlier snapshot, if there is one, and the disk or later snapshot. Without FROM: all that was ever written
        #[arg(required = true, num_args = 1..=2, value_names = ["[FROM] TO"])]
        names: Vec<String>,
        /// The pool; needed if several have what is named
        #[arg(long)]
        pool: Option<String>,
    },
}

pub(super) fn run(args: &SnapshotArgs) -> Outcome {
    let ask = &args.ask;
    match &args.command {
        SnapshotCommand::Create { disk, name } if cloud::disk::is_one(disk) => {
            cloud::snapshot::create(ask, disk, name.as_deref())
        }
        SnapshotCommand::Create { name: None, .. } => Err("a snapshot needs a name".into()),
        SnapshotCommand::Create { disk, name } => {
            ask.print("snapshot.create", json!({"disk": disk, "name": name}), |snapshot: SnapshotReport| {
                printable(&format!("snapshot {} created: {}", snapshot.name, bytes(snapshot.size_bytes))) + "\n"
            })
        }
        SnapshotCommand::List { disk, account: Some(account) } => cloud::snapshot::list(ask, account, disk.as_deref()),
        SnapshotCommand::List { disk, account: None } => ask.print("snapshot.list", json!({"disk": disk}), list),
        SnapshotCommand::Delete { name, .. } if cloud::snapshot::is_one(name) => cloud::snapshot::delete(ask, name),
        SnapshotCommand::Delete { name, pool } => {
            ask.print("snapshot.delete", json!({"name": name, "pool": pool}), |gone: Removed| {
                printable(&format!("snapshot {} deleted", gone.removed)) + "\n"
            })
        }
        SnapshotCommand::Rollback { disk, snapshot } if cloud::snapshot::is_one(snapshot) => {
            cloud::snapshot::rollback(ask, disk, snapshot)
        }
        SnapshotCommand::Rollback { disk, snapshot } => {
            let what = format!("rolled back to {snapshot}");
            ask.print("snapshot.rollback", json!({"disk": disk, "snapshot": snapshot}), |now: Changed<DiskReport>| {
                disk::change(&what, &now)
            })
        }
        SnapshotCommand::Diff { names, pool } => diff(ask, names, pool.as_deref()),
    }
}

fn list(snapshots: Vec<SnapshotReport>) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("ALLOCATED", Align::Right),
        ("CREATED", Align::Left),
        ("POOL", Align::Left),
    ]);
    for snapshot in snapshots {
        let size = if snapshot.offline.is_some() { "OFFLINE".to_owned() } else { bytes(snapshot.size_bytes) };
        let created = date(snapshot.created_at);
        table.row([snapshot.name, size, bytes(snapshot.allocated_bytes), created, snapshot.pool]);
    }
    table.text_or("there are no snapshots")
}

/// Asks until the difference is whole: the target answers it in pieces.
fn diff(ask: &Ask, names: &[String], pool: Option<&str>) -> Outcome {
    let (from, to) = if let [from, to] = names { (Some(from), to) } else { (None, &names[0]) };
    let mut client = ask.connect()?;
    let mut whole = DiffReport { size_bytes: 0, ranges: Vec::new(), next_offset: Some(0) };
    while let Some(offset) = whole.next_offset {
        let params = json!({"from": from, "to": to, "pool": pool, "offset": offset});
        let piece: DiffReport = serde_json::from_value(client.call("snapshot.diff", params)?)?;
        whole.size_bytes = piece.size_bytes;
        whole.ranges.extend(piece.ranges);
        whole.next_offset = piece.next_offset;
    }
    if ask.json {
        let ranges: Value = json!(whole.ranges);
        say(&format!("{:#}\n", json!({"size_bytes": whole.size_bytes, "ranges": ranges})));
    } else {
        say(&table(&whole));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(diff: &DiffReport) -> String {
    let mut table = Table::new(&[("OFFSET", Align::Right), ("LENGTH", Align::Right), ("KIND", Align::Left)]);
    let (mut data, mut zeros) = (0, 0);
    for range in &diff.ranges {
        let sum = if range.kind == "zero" { &mut zeros } else { &mut data };
        *sum += range.length;
        table.row([range.offset.to_string(), range.length.to_string(), range.kind.clone()]);
    }
    let sum = format!("{} of data and {} of zeros in {} differ", bytes(data), bytes(zeros), bytes(diff.size_bytes));
    if diff.ranges.is_empty() { "nothing differs\n".to_owned() } else { table.text_or("") + &sum + "\n" }
}
