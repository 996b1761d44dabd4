//! `strongroom instance`: who uses disks of the cloud, and how their hosts connect.

use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use super::Outcome;
use super::client::{Ask, say};
use super::cloud::{Operation, Whose, all, text};
use super::table::{Align, Table, printable};
use crate::secrets::SecretRef;

#[derive(Args)]
pub(super) struct InstanceArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: InstanceCommand,
}

#[derive(Subcommand)]
enum InstanceCommand {
    /// List instances
    List(Whose),
    /// Show one instance, and who its host has to be to connect
    Show {
        /// The instance
        instance: String,
    },
    /// Make an instance, and start it
    Create(CreateArgs),
    /// Let an instance's host see its disks
    Start {
        /// The instance
        instance: String,
    },
    /// Take its disks from an instance's host, which keeps them in name: the keys of encrypted ones leave the memory
    Stop {
        /// The instance
        instance: String,
    },
    /// Delete an instance that is stopped, its system disk, and those of its disks that go with it
    Delete {
        /// The instance
        instance: String,
        /// Also while it runs
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
struct CreateArgs {
    #[command(flatten)]
    whose: Whose,
    /// What it is called
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// The zone; the only one, if left out
    #[arg(long)]
    zone: Option<String>,
    /// The image of its system disk; m-blank is an empty one
    #[arg(long, default_value = "m-blank")]
    image: String,
    /// The NVMe Qualified Name that its host connects with (on Linux: /etc/nvme/hostnqn); one is made, if left out
    #[arg(long)]
    nqn: Option<String>,
    /// The identifier that its host connects with (/etc/nvme/hostid); one is made, if left out
    #[arg(long)]
    host_id: Option<Uuid>,
    /// Where the secret lies by which its host has to authenticate: file:PATH, env:NAME or credential:NAME
    #[arg(long, value_name = "REFERENCE")]
    dhchap_secret: Option<String>,
}

/// Reads where a secret lies. Not while arguments are parsed: who gives the secret itself would see it again in the error.
pub(super) fn secret_reference(text: &str) -> Result<SecretRef, String> {
    let mut reference = SecretRef::try_from(text.to_owned()).map_err(|e| e.to_string())?;
    // Paths mean the same wherever the target runs.
    reference.resolve(&std::env::current_dir().map_err(|e| e.to_string())?);
    Ok(reference)
}

pub(super) fn run(args: &InstanceArgs) -> Outcome {
    let ask = &args.ask;
    let named = |id: &str| vec![("InstanceId", Some(id.to_owned()))];
    match &args.command {
        InstanceCommand::List(whose) => list(ask, whose.account.as_deref()),
        InstanceCommand::Show { instance } => show(ask, instance),
        InstanceCommand::Create(create) => create.run(ask),
        InstanceCommand::Start { instance } => {
            Operation::ecs("StartInstance", None, named(instance)).done(ask, format!("instance {instance} started"))
        }
        InstanceCommand::Stop { instance } => {
            Operation::ecs("StopInstance", None, named(instance)).done(ask, format!("instance {instance} stopped"))
        }
        InstanceCommand::Delete { instance, force } => {
            let mut params = named(instance);
            params.push(("Force", Some(force.to_string())));
            Operation::ecs("DeleteInstance", None, params).done(ask, format!("instance {instance} deleted"))
        }
    }
}

impl CreateArgs {
    fn run(&self, ask: &Ask) -> Outcome {
        let secret = self.dhchap_secret.as_deref().map(secret_reference).transpose()?;
        let params = vec![
            ("ImageId", Some(self.image.clone())),
            ("InstanceType", Some("strongroom.host".to_owned())),
            ("InstanceName", self.label.clone()),
            ("ZoneId", self.zone.clone()),
            ("HostNqn", self.nqn.clone()),
            ("HostId", self.host_id.map(|id| id.to_string())),
            ("DhchapSecret", secret.as_ref().map(ToString::to_string)),
        ];
        Operation::ecs("RunInstances", self.whose.account.as_deref(), params).print(ask, |answer| {
            let ids = answer["InstanceIdSets"]["InstanceIdSet"].as_array();
            ids.into_iter().flatten().filter_map(Value::as_str).map(|id| format!("{id}\n")).collect()
        })
    }
}

fn list(ask: &Ask, account: Option<&str>) -> Outcome {
    let instances = all(ask, "DescribeInstances", account, ("Instances", "Instance"), Vec::new())?;
    if ask.json {
        say(&format!("{:#}\n", Value::Array(instances)));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("INSTANCE", Align::Left),
        ("NAME", Align::Left),
        ("STATUS", Align::Left),
        ("ZONE", Align::Left),
        ("HOST NQN", Align::Left),
    ]);
    for instance in &instances {
        table.row(["InstanceId", "InstanceName", "Status", "ZoneId", "HostNqn"].map(|name| text(instance, name)));
    }
    say(&table.text_or("the account has no instances"));
    Ok(std::process::ExitCode::SUCCESS)
}

fn show(ask: &Ask, id: &str) -> Outcome {
    let params = vec![("InstanceId", Some(id.to_owned())), ("InstanceIds", Some(format!("[{id:?}]")))];
    let found = all(ask, "DescribeInstances", None, ("Instances", "Instance"), params)?;
    let instance = found.first().ok_or_else(|| format!("there is no instance {id}"))?;
    if ask.json {
        say(&format!("{instance:#}\n"));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let lines = [
        ("instance", text(instance, "InstanceId")),
        ("name", text(instance, "InstanceName")),
        ("status", text(instance, "Status")),
        ("zone", text(instance, "ZoneId")),
        ("host nqn", text(instance, "HostNqn")),
        ("host id", text(instance, "HostId")),
    ];
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<10}{}\n", printable(value))).collect();
    say(&lines);
    Ok(std::process::ExitCode::SUCCESS)
}
