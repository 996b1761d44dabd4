//! `strongroom host`: who may connect.

use std::error::Error;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use crate::control::target::{Changed, HostReport, Removed};
use crate::secrets::SecretRef;

use super::Outcome;
use super::client::Ask;
use super::table::{Align, Table};

#[derive(Args)]
pub(super) struct HostArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Subcommand)]
enum HostCommand {
    /// List hosts
    List,
    /// Let a host connect, until the target stops
    Add(AddArgs),
    /// End a host's connections and let it in no more; its disks have to be detached before
    Remove {
        /// The host
        name: String,
    },
}

#[derive(Args)]
struct AddArgs {
    /// The name that disks are attached to
    name: String,
    /// The account that it belongs to
    #[arg(long)]
    account: String,
    /// The NVMe Qualified Name that it connects with (on Linux: /etc/nvme/hostnqn)
    #[arg(long)]
    nqn: String,
    /// The identifier that it has to connect with (/etc/nvme/hostid); any, if left out
    #[arg(long, value_name = "UUID")]
    host_id: Option<Uuid>,
    /// Where its DH-HMAC-CHAP secret lies: file:PATH, env:NAME or credential:NAME, as the target sees them
    #[arg(long, value_name = "REFERENCE")]
    dhchap_secret: Option<String>,
    /// Where the secret lies by which the target authenticates to the host
    #[arg(long, value_name = "REFERENCE", requires = "dhchap_secret")]
    dhchap_controller_secret: Option<String>,
}

pub(super) fn run(args: &HostArgs) -> Outcome {
    let ask = &args.ask;
    match &args.command {
        HostCommand::List => ask.print("host.list", json!({}), list),
        HostCommand::Add(add) => {
            let params = json!({
                "name": add.name,
                "account": add.account,
                "nqn": add.nqn,
                "host_id": add.host_id,
                "dhchap_secret": reference(add.dhchap_secret.as_ref())?,
                "dhchap_controller_secret": reference(add.dhchap_controller_secret.as_ref())?,
            });
            ask.print("host.add", params, |changed: Changed<HostReport>| {
                super::changed(&format!("host {} added", changed.now.name), &changed.note)
            })
        }
        HostCommand::Remove { name } => ask.print("host.remove", json!({"name": name}), |changed: Changed<Removed>| {
            super::changed(&format!("host {} removed", changed.now.removed), &changed.note)
        }),
    }
}

/// A reference whose path means the same wherever the target runs. A secret in its place gets no further.
fn reference(text: Option<&String>) -> Result<Option<String>, Box<dyn Error>> {
    let Some(text) = text else { return Ok(None) };
    let mut reference = SecretRef::try_from(text.clone())?;
    reference.resolve(&std::env::current_dir()?);
    Ok(Some(reference.to_string()))
}

fn list(hosts: Vec<HostReport>) -> String {
    let columns = ["NAME", "ACCOUNT", "AUTHENTICATES", "DISKS", "NQN"].map(|title| (title, Align::Left));
    let mut table = Table::new(&columns);
    for host in hosts {
        let authenticates = match (host.authenticates, host.target_authenticates) {
            (false, _) => "no",
            (true, false) => "yes",
            (true, true) => "both ways",
        };
        table.row([host.name, host.account, authenticates.to_owned(), host.disks.join(", "), host.nqn]);
    }
    table.text_or("there are no hosts")
}
