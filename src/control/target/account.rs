//! Accounts: who owns disks and hosts.

use serde::{Deserialize, Serialize};

use crate::control::config::{AccountConfig, Config};
use crate::control::rpc::Refusal;
use crate::export::nvme_tcp::NvmeTcpServer;

use super::{Changed, Target};

/// An account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountReport {
    /// Its name.
    pub name: String,
    /// The NVMe subsystem that its hosts connect to.
    pub subsystem: Option<String>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its disks.
    pub disks: Vec<String>,
}

impl AccountReport {
    fn of(config: &Config, nvme_tcp: Option<&NvmeTcpServer>, name: &str) -> Self {
        let subsystem = nvme_tcp.and_then(|server| server.subsystems().subsystem(name).ok());
        let hosts = config.hosts.iter().filter(|host| host.account == name).map(|host| host.name.clone());
        let disks = config.disks.iter().filter(|disk| disk.account.as_deref() == Some(name));
        Self {
            name: name.to_owned(),
            subsystem: subsystem.map(|subsystem| subsystem.nqn().to_string()),
            hosts: hosts.collect(),
            disks: disks.map(|disk| disk.name.clone()).collect(),
        }
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
        config.accounts.iter().map(|account| AccountReport::of(config, self.nvme_tcp(), &account.name)).collect()
    }

    pub(in crate::control) fn add_account(&self, new: &NewAccount) -> Result<Changed<AccountReport>, Refusal> {
        let edit = |config: &mut Config| {
            config.accounts.push(AccountConfig { name: new.name.clone() });
            Ok(())
        };
        self.change(edit, |config| {
            if let Some(server) = self.nvme_tcp() {
                server.add_account(&new.name)?;
            }
            Ok(Changed::new(AccountReport::of(config, self.nvme_tcp(), &new.name)))
        })
    }
}
