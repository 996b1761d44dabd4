//! Hosts: who may connect, and how they have to prove who they are.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::control::config::{Config, HostConfig, known};
use crate::control::rpc::{Kind, Refusal};
use crate::export::nvme_tcp::NvmeTcpError;

use super::{Changed, Removed, Target};

/// A host. Nothing of its secrets is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostReport {
    /// Its name.
    pub name: String,
    /// The account that it belongs to.
    pub account: String,
    /// The name that it connects with.
    pub nqn: String,
    /// The identifier that it has to connect with.
    pub host_id: Option<Uuid>,
    /// Whether it has to authenticate.
    pub authenticates: bool,
    /// Whether the target can authenticate to it.
    pub target_authenticates: bool,
    /// The disks that it sees.
    pub disks: Vec<String>,
}

impl HostReport {
    fn of(config: &Config, host: &HostConfig) -> Self {
        let disks = config.disks.iter().filter(|disk| disk.attached_to.contains(&host.name));
        Self {
            name: host.name.clone(),
            account: host.account.clone(),
            nqn: host.nqn.clone(),
            host_id: host.host_id,
            authenticates: host.dhchap_secret.is_some(),
            target_authenticates: host.dhchap_controller_secret.is_some(),
            disks: disks.map(|disk| disk.name.clone()).collect(),
        }
    }
}

/// The name of a host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostName {
    /// The name.
    pub name: String,
}

impl Target {
    pub(in crate::control) fn hosts(&self) -> Vec<HostReport> {
        let config = &self.state().config;
        config.hosts.iter().map(|host| HostReport::of(config, host)).collect()
    }

    pub(in crate::control) fn add_host(&self, new: HostConfig) -> Result<Changed<HostReport>, Refusal> {
        let name = new.name.clone();
        let edit = |config: &mut Config| {
            config.add_host(new);
            Ok(())
        };
        self.change(edit, |config| {
            let host = config.hosts.iter().find(|host| host.name == name).expect("it was just added");
            // Secrets are read also if nobody can connect yet: a wrong one is found now and not later.
            let opened = host.open()?;
            if let Some(server) = self.nvme_tcp() {
                server.add_host(&host.account, opened)?;
            }
            Ok(Changed::new(HostReport::of(config, host)))
        })
    }

    pub(in crate::control) fn remove_host(&self, HostName { name }: &HostName) -> Result<Changed<Removed>, Refusal> {
        let edit = |config: &mut Config| {
            known("host", name, config.hosts.iter().map(|host| &host.name))?;
            let disks = config.disks.iter().filter(|disk| disk.attached_to.contains(name));
            let disks: Vec<&str> = disks.map(|disk| disk.name.as_str()).collect();
            if !disks.is_empty() {
                let disks = disks.join(", ");
                return Err(Refusal::new(Kind::InUse, format!("host {name} has disks; detach them first: {disks}")));
            }
            config.hosts.retain(|host| host.name != *name);
            Ok(())
        };
        self.change(edit, |_| {
            if let Some(server) = self.nvme_tcp() {
                let account = self.account_of(name);
                server.subsystems().remove_host(&account, name).map_err(NvmeTcpError::from)?;
            }
            Ok(Changed::new(Removed { removed: name.clone() }))
        })
    }

    fn account_of(&self, host: &str) -> String {
        let state = self.state();
        let host = state.config.hosts.iter().find(|other| other.name == host).expect("it is known");
        host.account.clone()
    }
}
