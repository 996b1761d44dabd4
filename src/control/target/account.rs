//! Accounts: who owns disks and hosts.

use serde::{Deserialize, Serialize};

use crate::control::config::{AccountConfig, Config};
use crate::control::rpc::Refusal;

use super::{Changed, Target};

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountReport {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its disks.
    pub disks: Vec<String>,
}

impl AccountReport {
    fn of(config: &Config, name: &str) -> Self {
        let hosts = config.hosts.iter().filter(|host| host.account == name).map(|host| host.name.clone());
        let disks = config.disks.iter().filter(|disk| disk.account.as_deref() == Some(name));
        Self { name: name.to_owned(), hosts: hosts.collect(), disks: disks.map(|disk| disk.name.clone()).collect() }
    }
}

/// An account to be added.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its name.
    pub name: String,
}

impl Target {
    pub(in crate::control) fn accounts(&self) -> Vec<AccountReport> {
        let config = &self.state().config;
        config.accounts.iter().map(|account| AccountReport::of(config, &account.name)).collect()
    }

    pub(in crate::control) fn add_account(&self, new: &NewAccount) -> Result<Changed<AccountReport>, Refusal> {
        let edit = |config: &mut Config| {
            config.accounts.push(AccountConfig { name: new.name.clone() });
            Ok(())
        };
        self.change(edit, |config| Ok(Changed::new(AccountReport::of(config, &new.name))))
    }
}
