//! `strongroom disk`: what there is, who sees it, and how both change.

mod convert;
mod new;
mod show;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::{Changed, DiskReport, Removed};
use crate::device::Size;

use super::Outcome;
use super::client::Ask;
use super::cloud::disk as cloud;
use super::table::bytes;
use new::{AddArgs, CreateArgs};

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
    List {
        /// Only those that this account has in the cloud, as the cloud has them
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Show one disk with what it stands on
    Show {
        /// The disk
        name: String,
    },
    /// Make a disk in a pool, or one of the cloud: empty, or with the content of a snapshot
    Create(Box<CreateArgs>),
    /// Close a disk that nobody sees, and delete it from its pool: its content is gone, its snapshots stay
    Delete {
        /// The disk
        name: String,
    },
    /// Open a disk on a device of its own, or one that is in a pool already, until the target stops
    Add(Box<AddArgs>),
    /// Close a disk that nobody sees; its content stays where it is
    Remove {
        /// The disk
        name: String,
    },
    /// Let a host see a disk as a namespace, or an instance have a disk of the cloud
    Attach {
        /// The disk
        name: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Take a disk from a host or an instance, once the commands that it has sent are finished
    Detach {
        /// The disk
        name: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Copy a disk to one that is encrypted, or is not, while hosts go on writing; the same command goes on after a crash
    Convert(convert::ConvertArgs),
    /// List conversions since the target was started
    Conversions,
    /// End a conversion and delete its destination; or use a disk again from which hosts were switched
    ConvertCancel(convert::CancelArgs),
    /// Give a disk in a pool what it began with: nothing, or the snapshot that it was made from. What it has now is lost
    ///
    /// Its snapshots stay. No host and no NBD client may have it meanwhile.
    #[command(alias = "reinitialise")]
    Reinit {
        /// The disk
        name: String,
    },
    /// Make a disk larger, or smaller if it lies in a pool, or look again how large its file or block device is
    Resize {
        /// The disk
        name: String,
        /// The new size, such as 20G; look again, if left out
        size: Option<Size>,
        /// It may become smaller: what lies behind the new end is lost. No host and no client may have it meanwhile
        #[arg(long, requires = "size")]
        shrink: bool,
    },
}

/// Who gets or loses a disk.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The instance, for a disk of the cloud
    instance: Option<String>,
    /// The host
    #[arg(long)]
    host: Option<String>,
}

impl Whom {
    /// Carries a change out: `method` for a host, `action` for an instance.
    fn change(&self, ask: &Ask, disk: &str, (method, action): (&str, &str), what: &'static str) -> Outcome {
        if let Some(instance) = &self.instance {
            return cloud::attach(ask, action, disk, instance);
        }
        let params = json!({"name": disk, "host": self.host});
        ask.print(method, params, |disk: Changed<DiskReport>| change(what, &disk))
    }
}

pub(super) fn run(args: &DiskArgs) -> Outcome {
    let ask = &args.ask;
    let now = |what: &'static str| move |disk: Changed<DiskReport>| change(what, &disk);
    match &args.command {
        DiskCommand::List { account: Some(account) } => cloud::list(ask, account),
        DiskCommand::List { account: None } => ask.print("disk.list", json!({}), show::list),
        DiskCommand::Show { name } => ask.print("disk.show", json!({"name": name}), |disk| show::one(&disk)),
        DiskCommand::Create(create) if create.is_for_cloud() => create.in_cloud(ask),
        DiskCommand::Create(create) => ask.print("disk.create", create.params()?, now("created")),
        DiskCommand::Delete { name } if cloud::is_one(name) => cloud::delete(ask, name),
        DiskCommand::Delete { name } => ask.print("disk.delete", json!({"name": name}), |changed: Changed<Removed>| {
            super::changed(&format!("disk {} deleted", changed.now.removed), &changed.note)
        }),
        DiskCommand::Add(add) => ask.print("disk.add", add.params()?, now("added")),
        DiskCommand::Remove { name } => ask.print("disk.remove", json!({"name": name}), |changed: Changed<Removed>| {
            super::changed(&format!("disk {} removed", changed.now.removed), &changed.note)
        }),
        DiskCommand::Attach { name, whom } => whom.change(ask, name, ("disk.attach", "AttachDisk"), "attached"),
        DiskCommand::Detach { name, whom } => whom.change(ask, name, ("disk.detach", "DetachDisk"), "detached"),
        DiskCommand::Resize { name, size: Some(size), shrink: false } if cloud::is_one(name) => {
            cloud::resize(ask, name, *size)
        }
        DiskCommand::Convert(args) => convert::convert(ask, args),
        DiskCommand::Conversions => convert::list(ask),
        DiskCommand::ConvertCancel(args) => convert::cancel(ask, args),
        DiskCommand::Reinit { name } if cloud::is_one(name) => cloud::reinitialise(ask, name),
        DiskCommand::Reinit { name } => ask.print("disk.reinitialise", json!({"name": name}), now("reinitialised")),
        DiskCommand::Resize { name, size, shrink } => {
            let size = size.map(|Size(bytes)| bytes);
            ask.print("disk.resize", json!({"name": name, "size": size, "shrink": shrink}), now("resized"))
        }
    }
}

pub(super) fn change(what: &str, changed: &Changed<DiskReport>) -> String {
    let disk = &changed.now;
    let seen = match disk.attached_to.join(", ") {
        none if none.is_empty() => "attached to no host".to_owned(),
        hosts => format!("attached to {hosts}"),
    };
    let size = disk.size_bytes.map_or("offline".to_owned(), bytes);
    super::changed(&format!("disk {} {what}: {size}, {seen}", disk.name), &changed.note)
}
