//! `strongroom pool`: what disks, snapshots and clones lie in.
//!
//! `list`, `show NAME`, `add`, `remove` and `grow` ask the running target. `create`, `check` and `show --path` work on a file or block device that no
//! target has open, in this process.

mod check;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::{Changed, PoolReport, Removed, VolumeReport};
use crate::device::{SharedDevice, Size};
use crate::reactor::Remote;
use crate::volume::{FormatOptions, OpenOptions, Pool, PoolInfo, VolumeInfo};

use super::client::{Ask, say};
use super::offline::{name_of, with_device};
use super::progress::during;
use super::table::bytes;
use super::{Failure, Outcome};

#[derive(Args)]
pub(super) struct PoolArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: PoolCommand,
}

#[derive(Subcommand)]
enum PoolCommand {
    /// List the target's pools with their space
    List,
    /// Show one pool with its volumes and snapshots
    Show {
        /// The pool of the target
        #[arg(required_unless_present = "path")]
        name: Option<String>,
        /// Read this file or block device instead, which no target has open; if it was not closed in order, it is recovered first
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        path: Option<PathBuf>,
    },
    /// Format a blank file or block device as a pool; needs no target
    Create(CreateArgs),
    /// Verify a pool that no target has open: checksums, maps, counts, and space that is lost
    ///
    /// Exit codes: 0 = clean; 1 = something is broken, and was set aside with --repair; 3 = it could not be checked.
    Check(check::CheckArgs),
    /// Open a pool on a file or block device, until the target stops
    Add(AddArgs),
    /// Close a pool without open disks; its content stays where it is
    Remove {
        /// The pool
        name: String,
    },
    /// Take in what a pool's file or block device has become larger
    Grow {
        /// The pool
        name: String,
        /// Make its file so large first, such as 200G
        #[arg(long)]
        size: Option<Size>,
    },
}

#[derive(Args)]
struct CreateArgs {
    /// The file or block device
    path: PathBuf,
    /// Make the file, sparse and of this size, if it does not exist
    #[arg(long)]
    size: Option<Size>,
    /// Bytes of the journal; by default a 256th of the device, between 1 MiB and 64 MiB
    #[arg(long, value_name = "SIZE")]
    journal: Option<Size>,
    /// Format it whatever is on it: that is lost
    #[arg(long)]
    overwrite: bool,
}

#[derive(Args)]
struct AddArgs {
    /// Its name, and that of its device
    name: String,
    /// The file or block device
    #[arg(long)]
    path: PathBuf,
    /// Format it if it is blank
    #[arg(long)]
    create: bool,
    /// Make the file, sparse and of this size, if it does not exist
    #[arg(long, requires = "create")]
    size: Option<Size>,
    /// Warn when less than so many percent are free
    #[arg(long, default_value_t = 10, value_name = "PERCENT")]
    low_space_percent: u8,
    /// Open it even though another host or process seems to have it; only if that has certainly ended
    #[arg(long)]
    take_over: bool,
}

pub(super) fn run(args: &PoolArgs) -> Outcome {
    let ask = &args.ask;
    let now = |what: &'static str| move |pool: Changed<PoolReport>| change(what, &pool);
    match &args.command {
        PoolCommand::List => ask.print("pool.list", json!({}), show::list),
        PoolCommand::Show { path: Some(path), .. } => show_offline(path, ask.json),
        PoolCommand::Show { name, .. } => ask.print("pool.show", json!({"name": name}), |pool| show::one(&pool)),
        PoolCommand::Create(create) => format(create, ask.json),
        PoolCommand::Check(check) => Ok(check::run(check, ask.json)),
        PoolCommand::Add(add) => ask.print("pool.add", add.params()?, now("added")),
        PoolCommand::Remove { name } => ask.print("pool.remove", json!({"name": name}), |changed: Changed<Removed>| {
            super::changed(&format!("pool {} removed", changed.now.removed), &changed.note)
        }),
        PoolCommand::Grow { name, size } => {
            let size = size.map(|Size(bytes)| bytes);
            ask.print("pool.grow", json!({"name": name, "size": size}), now("grown"))
        }
    }
}

impl AddArgs {
    /// The parameters of `pool.add`. Paths mean the same wherever the target runs.
    fn params(&self) -> std::io::Result<serde_json::Value> {
        Ok(json!({
            "pool": {
                "name": self.name,
                "device": self.name,
                "create": self.create,
                "low_space_percent": self.low_space_percent,
                "take_over": self.take_over,
            },
            "device": {
                "name": self.name,
                "kind": "file",
                "path": std::path::absolute(&self.path)?,
                "size": self.size.map(|Size(bytes)| bytes),
                "create": self.size.is_some(),
            },
        }))
    }
}

fn change(what: &str, changed: &Changed<PoolReport>) -> String {
    let pool = &changed.now;
    let space = pool
        .standing
        .as_ref()
        .map(|standing| format!(": {}, {} free", bytes(standing.size_bytes), bytes(standing.free_bytes)));
    super::changed(&format!("pool {} {what}{}", pool.name, space.unwrap_or_default()), &changed.note)
}

fn format(args: &CreateArgs, as_json: bool) -> Outcome {
    let path = &args.path;
    if args.size.is_none() && !path.exists() {
        return Err(format!("{} does not exist; --size makes a file", path.display()).into());
    }
    let (info, _) = with_device(path, args.size, |device, home| {
        let name = name_of(path);
        if !args.overwrite && !Pool::is_blank(&name, device.clone(), home)? {
            return Err(format!(
                "{} is not blank: its first pages hold something; choose another, or --overwrite if nobody needs it",
                path.display()
            )
            .into());
        }
        let options = FormatOptions { journal_bytes: args.journal.map(|Size(bytes)| bytes) };
        during("formatting", |_| Pool::format(&name, device.clone(), home, options))?;
        look(path, device, home)
    })?;
    if as_json {
        say(&format!("{:#}\n", show::offline_json(&info, &[])));
    } else {
        say(&format!(
            "{} is a pool now: {}, {} free\n",
            path.display(),
            bytes(info.size_bytes),
            bytes(info.free_bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn show_offline(path: &Path, as_json: bool) -> Outcome {
    let (info, volumes) = with_device(path, None, |device, home| look(path, device, home))?;
    let volumes: Vec<VolumeReport> = volumes.into_iter().map(|volume| VolumeReport::new(volume, false)).collect();
    let text = if as_json {
        format!("{:#}\n", show::offline_json(&info, &volumes))
    } else {
        show::offline(&path.display().to_string(), &info, &volumes)
    };
    say(&text);
    Ok(ExitCode::SUCCESS)
}

/// Opens a pool, reads what it is, and closes it.
fn look(path: &Path, device: &Arc<SharedDevice>, home: &Remote) -> Result<(PoolInfo, Vec<VolumeInfo>), Failure> {
    let pool = during("opening", |_| Pool::open(&name_of(path), device.clone(), home, OpenOptions::default()))?;
    let seen = (pool.info(), pool.volumes());
    pool.close()?;
    Ok(seen)
}
