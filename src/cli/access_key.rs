//! `strongroom access-key`: by which requests of an account to the cloud API are signed.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Outcome;
use super::client::Ask;
use super::instance::secret_reference;
use super::table::{Align, Table, date, printable};
use crate::control::target::{AccessKeyReport, Removed};

#[derive(Args)]
pub(super) struct AccessKeyArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: AccessKeyCommand,
}

#[derive(Subcommand)]
enum AccessKeyCommand {
    /// List access keys, with where their secrets lie
    List {
        /// Only those of this account
        account: Option<String>,
    },
    /// Make an access key; its secret stays where it is, and is read when a request comes
    Add {
        /// The account
        account: String,
        /// Its identifier; one is made, if left out
        #[arg(long)]
        id: Option<String>,
        /// Where its secret lies: file:PATH, env:NAME or credential:NAME
        #[arg(long, value_name = "REFERENCE")]
        secret: String,
    },
    /// Take requests that a key has signed again
    Enable {
        /// The access key
        id: String,
    },
    /// Take no more requests that a key has signed
    Disable {
        /// The access key
        id: String,
    },
    /// Forget a key; its secret stays where it lies
    Remove {
        /// The access key
        id: String,
    },
}

pub(super) fn run(args: &AccessKeyArgs) -> Outcome {
    let ask = &args.ask;
    let now = |what: &'static str| {
        move |key: AccessKeyReport| {
            printable(&format!("access key {} of account {} {what}", key.id, key.account)) + "\n"
        }
    };
    match &args.command {
        AccessKeyCommand::List { account } => ask.print("access_key.list", json!({"account": account}), list),
        AccessKeyCommand::Add { account, id, secret } => {
            let secret = secret_reference(secret)?;
            ask.print("access_key.add", json!({"account": account, "id": id, "secret": secret}), now("added"))
        }
        AccessKeyCommand::Enable { id } => ask.print("access_key.enable", json!({"id": id}), now("enabled")),
        AccessKeyCommand::Disable { id } => ask.print("access_key.disable", json!({"id": id}), now("disabled")),
        AccessKeyCommand::Remove { id } => ask.print("access_key.remove", json!({"id": id}), |gone: Removed| {
            printable(&format!("access key {} removed", gone.removed)) + "\n"
        }),
    }
}

fn list(keys: Vec<AccessKeyReport>) -> String {
    let mut table = Table::new(&[
        ("ACCESS KEY", Align::Left),
        ("ACCOUNT", Align::Left),
        ("STATE", Align::Left),
        ("SECRET", Align::Left),
        ("CREATED", Align::Left),
    ]);
    for key in keys {
        let state = if key.enabled { "enabled" } else { "disabled" };
        table.row([key.id, key.account, state.to_owned(), key.secret, date(key.created_at)]);
    }
    table.text_or("there are no access keys")
}
