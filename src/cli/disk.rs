//! `strongroom disk`: what there is, who sees it, and how both change.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::control::target::{Changed, DiskDetail, DiskReport, Removed};
use crate::device::Size;

use super::Outcome;
use super::client::Ask;
use super::table::{Align, Table, bytes, printable};

#[derive(Args)]
pub(super) struct DiskArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: DiskCommand,
}

#[derive(Subcommand)]
enum DiskCommand {
    /// List disks
    List,
    /// Show one disk with what it stands on
    Show {
        /// The disk
        name: String,
    },
    /// Open a disk on a device of its own, until the target stops
    Add(Box<AddArgs>),
    /// Close a disk that nobody sees; its content stays where it is
    Remove {
        /// The disk
        name: String,
    },
    /// Let a host see a disk as a namespace
    Attach {
        /// The disk
        name: String,
        /// The host
        #[arg(long)]
        host: String,
    },
    /// Take a disk from a host, once the commands that it has sent are finished
    Detach {
        /// The disk
        name: String,
        /// The host
        #[arg(long)]
        host: String,
    },
    /// Make a disk larger, or look again how large its file or block device is
    Resize {
        /// The disk
        name: String,
        /// The new size, such as 20G; look again, if left out
        size: Option<Size>,
    },
}

#[derive(Args)]
struct AddArgs {
    /// Its name, and that of its device
    name: String,
    /// file, memory or null
    #[arg(long, default_value = "file")]
    kind: String,
    /// The file or block device
    #[arg(long)]
    path: Option<PathBuf>,
    /// Bytes of memory, or of a file that is created
    #[arg(long)]
    size: Option<Size>,
    /// Make the file if it does not exist
    #[arg(long, requires = "size")]
    create: bool,
    /// Bytes of a sector: 512 or 4096
    #[arg(long, default_value_t = 4096, value_name = "BYTES")]
    sector_size: u32,
    #[command(flatten)]
    encryption: EncryptionArgs,
    /// What the cipher's tweak counts: sector or 512
    #[arg(long, value_name = "UNIT", requires = "key_file")]
    tweak_unit: Option<String>,
    /// Whose disk it is
    #[arg(long)]
    account: Option<String>,
    /// Several hosts may have it at once
    #[arg(long)]
    shared: bool,
    /// A host that sees it; may be there several times
    #[arg(long = "attach", value_name = "HOST")]
    attached_to: Vec<String>,
    /// The namespace identifier; the lowest free one, if left out
    #[arg(long)]
    nsid: Option<u32>,
    /// The identity that hosts know it by; derived from its names, if left out
    #[arg(long)]
    uuid: Option<Uuid>,
}

/// One of them has to be there: nobody gets a plain disk by leaving something out.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct EncryptionArgs {
    /// A file with the key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Only `none`: what is written is stored as it is
    #[arg(long, value_parser = ["none"])]
    encryption: Option<String>,
}

pub(super) fn run(args: &DiskArgs) -> Outcome {
    let ask = &args.ask;
    let now = |what: &'static str| move |disk: Changed<DiskReport>| change(what, &disk);
    match &args.command {
        DiskCommand::List => ask.print("disk.list", json!({}), list),
        DiskCommand::Show { name } => ask.print("disk.show", json!({"name": name}), |disk| show(&disk)),
        DiskCommand::Add(add) => ask.print("disk.add", new_disk(add)?, now("added")),
        DiskCommand::Remove { name } => ask.print("disk.remove", json!({"name": name}), |changed: Changed<Removed>| {
            super::changed(&format!("disk {} removed", changed.now.removed), &changed.note)
        }),
        DiskCommand::Attach { name, host } => {
            ask.print("disk.attach", json!({"name": name, "host": host}), now("attached"))
        }
        DiskCommand::Detach { name, host } => {
            ask.print("disk.detach", json!({"name": name, "host": host}), now("detached"))
        }
        DiskCommand::Resize { name, size } => {
            let size = size.map(|Size(bytes)| bytes);
            ask.print("disk.resize", json!({"name": name, "size": size}), now("resized"))
        }
    }
}

/// Paths mean the same wherever the target runs.
fn new_disk(add: &AddArgs) -> std::io::Result<Value> {
    let absolute = |path: &PathBuf| std::path::absolute::<&Path>(path.as_ref());
    let encryption = match &add.encryption.key_file {
        None => json!("none"),
        Some(file) => {
            let mut encryption = json!({"key_file": absolute(file)?});
            if let Some(unit) = &add.tweak_unit {
                encryption["tweak_unit"] = json!(unit);
            }
            encryption
        }
    };
    Ok(json!({
        "disk": {
            "name": add.name,
            "device": add.name,
            "sector_size": add.sector_size,
            "encryption": encryption,
            "account": add.account,
            "shared": add.shared,
            "attached_to": add.attached_to,
            "nsid": add.nsid,
            "uuid": add.uuid,
        },
        "device": {
            "name": add.name,
            "kind": add.kind,
            "path": add.path.as_ref().map(absolute).transpose()?,
            "size": add.size.map(|Size(bytes)| bytes),
            "create": add.create,
        },
    }))
}

fn change(what: &str, changed: &Changed<DiskReport>) -> String {
    let disk = &changed.now;
    let seen = match disk.attached_to.join(", ") {
        none if none.is_empty() => "attached to no host".to_owned(),
        hosts => format!("attached to {hosts}"),
    };
    super::changed(&format!("disk {} {what}: {}, {seen}", disk.name, bytes(disk.size_bytes)), &changed.note)
}

fn list(disks: Vec<DiskReport>) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SIZE", Align::Right),
        ("SECTOR", Align::Right),
        ("ENCRYPTION", Align::Left),
        ("ACCOUNT", Align::Left),
        ("NSID", Align::Right),
        ("ATTACHED TO", Align::Left),
        ("NBD", Align::Left),
    ]);
    for disk in disks {
        let shared = if disk.shared { " (shared)" } else { "" };
        table.row([
            disk.name,
            bytes(disk.size_bytes),
            disk.sector_bytes.to_string(),
            disk.encryption,
            disk.account.unwrap_or_default(),
            disk.nsid.map(|nsid| nsid.to_string()).unwrap_or_default(),
            disk.attached_to.join(", ") + shared,
            disk.nbd_exports.join(", "),
        ]);
    }
    table.text_or("there are no disks")
}

fn show(DiskDetail { disk, kernel, device_is }: &DiskDetail) -> String {
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let kernel = kernel.as_ref().map(|kernel| format!(" (kernel {kernel})")).unwrap_or_default();
    let lines = [
        ("name", disk.name.clone()),
        ("size", format!("{} ({} bytes)", bytes(disk.size_bytes), disk.size_bytes)),
        ("sector", format!("{} bytes", disk.sector_bytes)),
        ("encryption", format!("{}{kernel}", disk.encryption)),
        ("device", format!("{}: {device_is}", disk.device)),
        ("uuid", disk.uuid.to_string()),
        ("account", or_none(disk.account.clone().unwrap_or_default())),
        ("nsid", or_none(disk.nsid.map(|nsid| nsid.to_string()).unwrap_or_default())),
        ("shared", if disk.shared { "yes" } else { "no" }.to_owned()),
        ("attached to", or_none(disk.attached_to.join(", "))),
        ("nbd exports", or_none(disk.nbd_exports.join(", "))),
    ];
    lines.iter().map(|(key, value)| format!("{key:<12} {}\n", printable(value))).collect()
}
