//! Disks of the cloud, in the words of `strongroom disk`.

use clap::Args;
use serde_json::Value;

use super::{Operation, text};
use crate::cli::client::{Ask, say};
use crate::cli::table::{Align, Table};
use crate::cli::{Failure, Outcome};
use crate::cloud::id::Noun;
use crate::device::Size;

/// What is said of a disk that the cloud makes.
#[derive(Args)]
pub(in crate::cli) struct CloudDiskArgs {
    /// Make it in the cloud, of this category: cloud, cloud_efficiency or cloud_ssd
    #[arg(long, conflicts_with = "pool")]
    pub(in crate::cli) category: Option<String>,
    /// With a key of its own, wrapped by the account's service key
    #[arg(long, requires = "category")]
    encrypted: bool,
    /// The master key that wraps its key, instead of the account's service key
    #[arg(long, requires = "encrypted", value_name = "KEY")]
    key: Option<String>,
    /// The zone; the only one, if left out
    #[arg(long, requires = "category")]
    zone: Option<String>,
    /// What it is called
    #[arg(long, requires = "category", value_name = "NAME")]
    label: Option<String>,
}

impl CloudDiskArgs {
    /// Makes the disk.
    pub(in crate::cli) fn create(
        &self,
        ask: &Ask,
        account: Option<&str>,
        size: Option<Size>,
        from_snapshot: Option<&str>,
        shared: bool,
    ) -> Outcome {
        // A disk from a snapshot is what the snapshot is, unless somebody says otherwise.
        let encrypted = (self.encrypted || from_snapshot.is_none()).then(|| self.encrypted.to_string());
        let params = vec![
            ("DiskCategory", self.category.clone()),
            ("Size", size.map(gib).transpose()?),
            ("SnapshotId", from_snapshot.map(str::to_owned)),
            ("Encrypted", encrypted),
            ("KMSKeyId", self.key.clone()),
            ("ZoneId", self.zone.clone()),
            ("DiskName", self.label.clone()),
            ("MultiAttach", shared.then(|| "Enabled".to_owned())),
        ];
        Operation::ecs("CreateDisk", account, params).print(ask, |answer| format!("{}\n", text(&answer, "DiskId")))
    }
}

/// Whether a name is that of one of the cloud's disks.
pub(in crate::cli) fn is_one(name: &str) -> bool {
    Noun::Disk.fits(name)
}

fn gib(Size(bytes): Size) -> Result<String, Failure> {
    const GIB: u64 = 1 << 30;
    if bytes == 0 || !bytes.is_multiple_of(GIB) {
        return Err(format!("{bytes} bytes are no whole GiB; disks of the cloud have whole ones").into());
    }
    Ok((bytes / GIB).to_string())
}

/// Lets an instance have a disk, or takes the disk from it.
pub(in crate::cli) fn attach(ask: &Ask, action: &str, disk: &str, instance: &str) -> Outcome {
    let params = vec![("DiskId", Some(disk.to_owned())), ("InstanceId", Some(instance.to_owned()))];
    let what = if action == "AttachDisk" { "attached to" } else { "detached from" };
    Operation::ecs(action, None, params).done(ask, format!("disk {disk} {what} instance {instance}"))
}

/// Deletes a disk.
pub(in crate::cli) fn delete(ask: &Ask, disk: &str) -> Outcome {
    let params = vec![("DiskId", Some(disk.to_owned()))];
    Operation::ecs("DeleteDisk", None, params).done(ask, format!("disk {disk} deleted"))
}

/// Makes a disk larger.
pub(in crate::cli) fn resize(ask: &Ask, disk: &str, size: Size) -> Outcome {
    let gib = gib(size)?;
    let what = format!("disk {disk} resized: {gib} GiB");
    let params = vec![("DiskId", Some(disk.to_owned())), ("NewSize", Some(gib)), ("Type", Some("online".to_owned()))];
    Operation::ecs("ResizeDisk", None, params).done(ask, what)
}

/// Gives a disk its first content back.
pub(in crate::cli) fn reinitialise(ask: &Ask, disk: &str) -> Outcome {
    let params = vec![("DiskId", Some(disk.to_owned()))];
    Operation::ecs("ReInitDisk", None, params).done(ask, format!("disk {disk} has its first content"))
}

/// Lists an account's disks.
pub(in crate::cli) fn list(ask: &Ask, account: &str) -> Outcome {
    let disks = super::all(ask, "DescribeDisks", Some(account), ("Disks", "Disk"), Vec::new())?;
    if ask.json {
        say(&format!("{:#}\n", Value::Array(disks)));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("DISK", Align::Left),
        ("NAME", Align::Left),
        ("STATUS", Align::Left),
        ("SIZE", Align::Right),
        ("CATEGORY", Align::Left),
        ("ENCRYPTED", Align::Left),
        ("ATTACHED TO", Align::Left),
        ("FROM", Align::Left),
    ]);
    for disk in &disks {
        let attachments = disk["Attachments"]["Attachment"].as_array();
        let instances = attachments.into_iter().flatten().map(|at| text(at, "InstanceId"));
        let shared = if disk["EnableShared"] == true { " (shared)" } else { "" };
        table.row([
            text(disk, "DiskId"),
            text(disk, "DiskName"),
            text(disk, "Status"),
            format!("{} GiB", text(disk, "Size")),
            text(disk, "Category"),
            if disk["Encrypted"] == true { text(disk, "KMSKeyId") } else { "no".to_owned() },
            instances.collect::<Vec<_>>().join(", ") + shared,
            text(disk, "SourceSnapshotId"),
        ]);
    }
    say(&table.text_or("the account has no disks"));
    Ok(std::process::ExitCode::SUCCESS)
}
