//! The embedded key store, while no target has it open: what unlocks it, and restoring it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::control::Config;
use crate::control::config::KmsConfig;
use crate::kms::audit::{Actor, Operation};
use crate::kms::embedded::{EmbeddedConfig, EmbeddedStore, Overwrite, SlotInfo, Unlock};
use crate::kms::generation_event;
use crate::secrets::{SecretRef, effective_uid};

use super::Failure;
use super::client::say;
use super::table::{Align, Table};

/// Which store.
#[derive(Args)]
pub(super) struct StoreArgs {
    /// The target's configuration, which names the store and what unlocks it; no target may have it open
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The backup
    from: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    /// Replace a store that is newer than the backup: the keys that were made since are lost, and with them their disks
    #[arg(long)]
    lose_newer: bool,
}

#[derive(Subcommand)]
pub(super) enum UnlockCommand {
    /// List what unlocks the store
    List(StoreArgs),
    /// Let something more unlock the store
    Add {
        #[command(flatten)]
        by: ByArgs,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Let something unlock the store no longer; a copy of the store from before still opens by it
    Remove {
        /// Its number, as listed
        number: u8,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// What unlocks.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct ByArgs {
    /// A passphrase: file:PATH, env:NAME or credential:NAME
    #[arg(long, value_name = "REFERENCE", value_parser = reference)]
    passphrase: Option<SecretRef>,
    /// 32 random bytes, or 64 hex digits: file:PATH, env:NAME or credential:NAME
    #[arg(long, value_name = "REFERENCE", value_parser = reference)]
    root_key: Option<SecretRef>,
    /// A TPM 2.0: device:/dev/tpmrm0 or swtpm:host=…,port=…
    #[arg(long, value_name = "TCTI")]
    tpm: Option<String>,
}

impl ByArgs {
    fn unlock(&self) -> Unlock {
        match (&self.passphrase, &self.root_key, &self.tpm) {
            (Some(reference), ..) => Unlock::Passphrase(reference.clone()),
            (_, Some(reference), _) => Unlock::RootKey(reference.clone()),
            (.., tpm) => Unlock::Tpm { tcti: tpm.clone().unwrap_or_default(), pcrs: Vec::new() },
        }
    }
}

fn reference(text: &str) -> Result<SecretRef, String> {
    SecretRef::try_from(text.to_owned()).map_err(|e| e.to_string())
}

pub(super) fn restore(args: &RestoreArgs) -> super::Outcome {
    let overwrite = if args.lose_newer { Overwrite::Anything } else { Overwrite::NothingNewer };
    let (kms, embedded, _) = config(&args.store)?;
    let audit = kms.open_audit_log()?;
    let actor = Actor::User { uid: effective_uid(), pid: std::process::id() as i32 };
    let now = EmbeddedStore::restore(&embedded, &args.from, overwrite)?;
    audit.append(&generation_event(actor, Operation::Restore, &now))?;
    say(&format!("the keys of {} are restored: {now}\n", args.from.display()));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn unlock(command: &UnlockCommand) -> super::Outcome {
    match command {
        UnlockCommand::List(store) => say(&list(&open(store)?.slots())),
        UnlockCommand::Add { by, store } => {
            let slot = open(store)?.add_slot(&by.unlock())?;
            say(&format!("slot {} unlocks the store by a {}\n", slot.number, slot.kind));
        }
        UnlockCommand::Remove { number, store } => {
            open(store)?.remove_slot(*number)?;
            say(&format!("slot {number} is gone\n"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(slots: &[SlotInfo]) -> String {
    let mut table = Table::new(&[("SLOT", Align::Right), ("UNLOCKED BY", Align::Left)]);
    for slot in slots {
        table.row([slot.number.to_string(), slot.kind.to_string()]);
    }
    table.text_or("nothing unlocks the store")
}

fn open(store: &StoreArgs) -> Result<EmbeddedStore, Failure> {
    let (_, embedded, region) = config(store)?;
    Ok(EmbeddedStore::open(&embedded, &region)?)
}

/// The KMS of a configuration, its store, and its region.
fn config(StoreArgs { config: path }: &StoreArgs) -> Result<(KmsConfig, EmbeddedConfig, String), Failure> {
    let config = Config::load(path)?;
    let kms = config.kms.ok_or_else(|| no_store(path))?;
    let embedded = kms.embedded.clone().ok_or_else(|| no_store(path))?;
    Ok((kms, embedded, config.region))
}

fn no_store(path: &Path) -> String {
    format!("{} has no [kms.embedded]; keys of other KMS are kept and saved by their own means", path.display())
}
