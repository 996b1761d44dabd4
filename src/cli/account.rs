//! `strongroom account`: who owns disks and hosts.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::{AccountReport, Changed};

use super::Outcome;
use super::client::Ask;
use super::cloud::Operation;
use super::table::{Align, Table};

#[derive(Args)]
pub(super) struct AccountArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: AccountCommand,
}

#[derive(Subcommand)]
enum AccountCommand {
    /// List accounts with their hosts and disks
    List,
    /// Add an account: in the cloud for good, without one until the target stops
    Add {
        /// Its name
        name: String,
    },
    /// Open the KMS for an account of the cloud, without which it has no encrypted disks
    OpenKms {
        /// Its name
        name: String,
    },
}

pub(super) fn run(args: &AccountArgs) -> Outcome {
    match &args.command {
        AccountCommand::List => args.ask.print("account.list", json!({}), list),
        AccountCommand::OpenKms { name } => {
            let open = Operation { product: "kms", action: "OpenKmsService", account: Some(name), params: Vec::new() };
            open.done(&args.ask, format!("the KMS is open for account {name}"))
        }
        AccountCommand::Add { name } => {
            args.ask.print("account.add", json!({"name": name}), |changed: Changed<AccountReport>| {
                super::changed(&format!("account {} added", changed.now.name), &changed.note)
            })
        }
    }
}

fn list(accounts: Vec<AccountReport>) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("HOSTS", Align::Left),
        ("DISKS", Align::Left),
        ("SUBSYSTEM", Align::Left),
    ]);
    for account in accounts {
        table.row([
            account.name,
            account.hosts.join(", "),
            account.disks.join(", "),
            account.subsystem.unwrap_or_default(),
        ]);
    }
    table.text_or("there are no accounts")
}
