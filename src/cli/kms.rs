//! `strongroom kms`: the KMS behind the keys of disks.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::KmsReport;

use super::Outcome;
use super::client::Ask;
use super::key_store::{self, UnlockCommand};
use super::table::printable;

#[derive(Args)]
pub(super) struct KmsArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: KmsCommand,
}

#[derive(Subcommand)]
enum KmsCommand {
    /// Ask the KMS how it is
    Status,
    /// List, add and remove what unlocks the embedded store, while no target runs
    #[command(subcommand)]
    Unlock(UnlockCommand),
}

pub(super) fn run(args: &KmsArgs) -> Outcome {
    match &args.command {
        KmsCommand::Status => args.ask.print("kms.status", json!({}), status),
        KmsCommand::Unlock(command) => key_store::unlock(command),
    }
}

fn status(kms: KmsReport) -> String {
    let waiting = if kms.waiting_disks.is_empty() { "none".to_owned() } else { kms.waiting_disks.join(", ") };
    let lines = [
        ("kms", format!("{} ({})", kms.name, kms.kind)),
        ("available", format!("{}: {}", if kms.available { "yes" } else { "NO" }, kms.what)),
        ("calls", format!("{}, of which {} failed; {} tries again", kms.calls, kms.failures, kms.retries)),
        ("waiting", waiting),
    ];
    lines.iter().map(|(key, value)| format!("{key:<12} {}\n", printable(value))).collect()
}
