//! Snapshots of the cloud, in the words of `strongroom snapshot`.

use serde_json::Value;

use super::{Operation, text};
use crate::cli::Outcome;
use crate::cli::client::{Ask, say};
use crate::cli::table::{Align, Table};
use crate::cloud::id::Noun;

/// Whether a name is that of one of the cloud's snapshots.
pub(in crate::cli) fn is_one(name: &str) -> bool {
    Noun::Snapshot.fits(name)
}

/// Takes a snapshot.
pub(in crate::cli) fn create(ask: &Ask, disk: &str, name: Option<&str>) -> Outcome {
    let params = vec![("DiskId", Some(disk.to_owned())), ("SnapshotName", name.map(str::to_owned))];
    Operation::ecs("CreateSnapshot", None, params).print(ask, |answer| format!("{}\n", text(&answer, "SnapshotId")))
}

/// Deletes a snapshot.
pub(in crate::cli) fn delete(ask: &Ask, snapshot: &str) -> Outcome {
    let params = vec![("SnapshotId", Some(snapshot.to_owned()))];
    Operation::ecs("DeleteSnapshot", None, params).done(ask, format!("snapshot {snapshot} deleted"))
}

/// Gives a disk the content of one of its snapshots.
pub(in crate::cli) fn rollback(ask: &Ask, disk: &str, snapshot: &str) -> Outcome {
    let params = vec![("DiskId", Some(disk.to_owned())), ("SnapshotId", Some(snapshot.to_owned()))];
    Operation::ecs("ResetDisk", None, params).done(ask, format!("disk {disk} rolled back to {snapshot}"))
}

/// Lists an account's snapshots.
pub(in crate::cli) fn list(ask: &Ask, account: &str, disk: Option<&str>) -> Outcome {
    let params = vec![("DiskId", disk.map(str::to_owned))];
    let snapshots = super::all(ask, "DescribeSnapshots", Some(account), ("Snapshots", "Snapshot"), params)?;
    if ask.json {
        say(&format!("{:#}\n", Value::Array(snapshots)));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("SNAPSHOT", Align::Left),
        ("NAME", Align::Left),
        ("DISK", Align::Left),
        ("SIZE", Align::Right),
        ("STATUS", Align::Left),
        ("ENCRYPTED", Align::Left),
        ("CREATED", Align::Left),
    ]);
    for snapshot in &snapshots {
        table.row([
            text(snapshot, "SnapshotId"),
            text(snapshot, "SnapshotName"),
            text(snapshot, "SourceDiskId"),
            format!("{} GiB", text(snapshot, "SourceDiskSize")),
            text(snapshot, "Status"),
            if snapshot["Encrypted"] == true { text(snapshot, "KMSKeyId") } else { "no".to_owned() },
            text(snapshot, "CreationTime"),
        ]);
    }
    say(&table.text_or("the account has no snapshots"));
    Ok(std::process::ExitCode::SUCCESS)
}
