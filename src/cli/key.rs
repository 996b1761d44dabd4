//! `strongroom key`: the master keys that wrap the keys of disks.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::control::target::{CmkReport, KeyBackup, RewrapReport};
use crate::kms::Creator;

use super::Outcome;
use super::client::{Ask, say};
use super::key_store::{self, RestoreArgs};
use super::table::{Align, Table, date, printable};

#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    ask: Ask,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Args)]
struct OneKey {
    /// The master key; or an account, for its service key
    key: String,
}

#[derive(Args)]
struct ServiceKeyToo {
    /// It may be a service key, on which all disks of its account depend
    #[arg(long)]
    service_key_too: bool,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// List master keys
    List,
    /// Show one master key
    Show(OneKey),
    /// Make a new version: it wraps new disk keys, and old versions open what they wrapped
    Rotate(OneKey),
    /// Wrap disk keys by the newest version of their master key; data stays as it is
    Rewrap {
        /// The master key, or its account; all, if left out
        key: Option<String>,
    },
    /// Let nothing be wrapped or opened by a key; disks that are attached go on
    Disable {
        #[command(flatten)]
        one: OneKey,
        #[command(flatten)]
        too: ServiceKeyToo,
    },
    /// Let a disabled key be used again
    Enable(OneKey),
    /// Have a key destroyed after a waiting period, and with it the data of all disks whose keys it wraps
    ScheduleDeletion {
        #[command(flatten)]
        one: OneKey,
        /// The waiting period in days, 7 to 366
        #[arg(long, default_value_t = 30)]
        days: u32,
        #[command(flatten)]
        too: ServiceKeyToo,
    },
    /// Keep a key that was to be destroyed; it is disabled then
    CancelDeletion(OneKey),
    /// Write a copy of the embedded store's keys, sealed as they are
    Backup {
        /// The file, on the target's machine; it must not be there
        to: PathBuf,
    },
    /// Put a copy of the embedded store in its place, while no target runs
    Restore(RestoreArgs),
}

pub(super) fn run(args: &KeyArgs) -> Outcome {
    let ask = &args.ask;
    let one = |method: &str, key: &OneKey| ask.print(method, json!({"key": key.key}), |key| show(&key));
    match &args.command {
        KeyCommand::List => ask.print("key.list", json!({}), list),
        KeyCommand::Show(key) => one("key.show", key),
        KeyCommand::Rotate(key) => one("key.rotate", key),
        KeyCommand::Enable(key) => one("key.enable", key),
        KeyCommand::CancelDeletion(key) => one("key.cancel_deletion", key),
        KeyCommand::Disable { one, too } => {
            let params = json!({"key": one.key, "service_key_too": too.service_key_too});
            ask.print("key.disable", params, |key| show(&key))
        }
        KeyCommand::ScheduleDeletion { one, days, too } => {
            let params = json!({"key": one.key, "days": days, "service_key_too": too.service_key_too});
            ask.print("key.schedule_deletion", params, |key| show(&key))
        }
        KeyCommand::Restore(args) => key_store::restore(args),
        KeyCommand::Rewrap { key } => rewrap(ask, key.as_deref()),
        KeyCommand::Backup { to } => {
            let to = std::path::absolute(to)?;
            ask.print("key.backup", json!({"to": to}), |made: KeyBackup| {
                format!("a copy of all master keys, sealed, is in {}\n", made.to.display())
            })
        }
    }
}

/// Fails if a key could not be wrapped anew.
fn rewrap(ask: &Ask, key: Option<&str>) -> Outcome {
    let answer = ask.connect()?.call("key.rewrap", json!({"key": key}))?;
    let report: RewrapReport = serde_json::from_value(answer.clone())?;
    if ask.json {
        say(&format!("{answer:#}\n"));
    } else {
        say(&format!("{} disk keys wrapped anew, {} were up to date\n", report.rewrapped, report.up_to_date));
    }
    match report.failed.as_slice() {
        [] => Ok(std::process::ExitCode::SUCCESS),
        failed => Err(format!("{} disk keys are as they were: {}", failed.len(), failed.join("; ")).into()),
    }
}

fn list(keys: Vec<CmkReport>) -> String {
    let mut table = Table::new(&[
        ("KEY", Align::Left),
        ("ACCOUNT", Align::Left),
        ("MADE BY", Align::Left),
        ("STATE", Align::Left),
        ("VERSION", Align::Right),
        ("WRAPS", Align::Right),
        ("BY OLD VERSIONS", Align::Right),
    ]);
    for CmkReport { cmk, wraps, wraps_by_old_version } in keys {
        let version = cmk.newest().to_string();
        table.row([
            cmk.id.0,
            cmk.account,
            made_by(cmk.creator).to_owned(),
            cmk.state.to_string(),
            version,
            wraps.len().to_string(),
            wraps_by_old_version.to_string(),
        ]);
    }
    table.text_or("there are no master keys; the first encrypted disk of an account makes its service key")
}

fn show(CmkReport { cmk, wraps, wraps_by_old_version }: &CmkReport) -> String {
    let time = |time: Option<u64>| time.map_or("unknown".to_owned(), date);
    let mut lines = vec![
        ("key", cmk.id.to_string()),
        ("alias", cmk.alias.clone().unwrap_or("none".to_owned())),
        ("account", cmk.account.clone()),
        ("made by", made_by(cmk.creator).to_owned()),
        ("created", time(cmk.created_at)),
        ("state", cmk.state.to_string()),
    ];
    if cmk.deletion_at.is_some() {
        lines.push(("destroyed", time(cmk.deletion_at)));
    }
    lines.extend(
        cmk.versions.iter().map(|version| ("version", format!("{}, of {}", version.number, time(version.created_at)))),
    );
    let wraps = if wraps.is_empty() { "nothing".to_owned() } else { wraps.join(", ") };
    lines.push(("wraps", wraps));
    if *wraps_by_old_version > 0 {
        lines.push((
            "",
            format!("{wraps_by_old_version} of them by an old version; `strongroom key rewrap` changes that"),
        ));
    }
    if cmk.creator == Creator::User {
        lines.push(("", "and what its user had encrypted by it, which is kept elsewhere".to_owned()));
    }
    lines.iter().map(|(key, value)| format!("{key:<12} {}\n", printable(value))).collect()
}

fn made_by(creator: Creator) -> &'static str {
    match creator {
        Creator::Service => "service",
        Creator::User => "user",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::{Cmk, CmkId, CmkState, CmkVersion};

    fn report(id: &str, creator: Creator) -> CmkReport {
        let cmk = Cmk {
            id: CmkId(id.to_owned()),
            alias: None,
            account: "acme".to_owned(),
            creator,
            state: CmkState::Enabled,
            versions: vec![CmkVersion { number: 1, created_at: Some(0) }],
            created_at: Some(0),
            deletion_at: None,
        };
        CmkReport { cmk, wraps: vec![], wraps_by_old_version: 0 }
    }

    #[test]
    fn keys_of_users_are_told_from_service_keys() {
        let text = list(vec![report("k1", Creator::Service), report("k2", Creator::User)]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..4], ["k1", "acme", "service", "enabled"]);
        assert_eq!(lines[2][..4], ["k2", "acme", "user", "enabled"]);
        assert!(show(&report("k2", Creator::User)).contains("its user had encrypted by it"));
        assert!(!show(&report("k1", Creator::Service)).contains("its user had encrypted by it"));
    }
}
