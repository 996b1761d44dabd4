//! Accounts and hosts in the configuration: whose the disks are, and who may connect.

use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use crate::export::nvme_tcp::{AuthConfig, Host, HostId, HostPolicy, InventoryError, Nqn};
use crate::secrets::SecretRef;

use super::ConfigError;

/// An account: the owner of disks and hosts. Each has an NVMe subsystem of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// The name that disks and hosts refer to, and that ends the name of the subsystem.
    pub name: String,
}

/// A host that may connect to its account's subsystem.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The name that disks refer to.
    pub name: String,
    /// The account that it belongs to.
    pub account: String,
    /// The NVMe Qualified Name that it connects with (on Linux: `/etc/nvme/hostnqn`).
    pub nqn: String,
    /// The identifier that it has to connect with (`/etc/nvme/hostid`); any, if it is left out.
    #[serde(default)]
    pub host_id: Option<Uuid>,
    /// Where the secret lies by which the host has to authenticate (DH-HMAC-CHAP, in the form `DHHC-1:…`).
    #[serde(default)]
    pub dhchap_secret: Option<SecretRef>,
    /// Where the secret lies by which the target authenticates to the host, if the host asks it to.
    #[serde(default)]
    pub dhchap_controller_secret: Option<SecretRef>,
}

impl HostConfig {
    /// The host for the server, with its secrets read.
    pub(in crate::control) fn open(&self) -> Result<Host, ConfigError> {
        let nqn = self.nqn()?;
        let authentication = self.dhchap_secret.clone().map(|secret| {
            let config = AuthConfig::new(secret, self.dhchap_controller_secret.clone());
            HostPolicy::load(nqn.as_str(), &config).map(Arc::new)
        });
        let id = self.host_id.map(|id| HostId(id.into_bytes()));
        Ok(Host { name: self.name.clone(), nqn, id, authentication: authentication.transpose()? })
    }

    fn nqn(&self) -> Result<Nqn, ConfigError> {
        self.nqn.parse().map_err(|e: InventoryError| ConfigError::Wrong(format!("host {}: {e}", self.name)))
    }
}

/// What holds between hosts and their accounts.
pub(super) fn check_hosts(accounts: &[AccountConfig], hosts: &[HostConfig]) -> Result<(), ConfigError> {
    for account in accounts {
        Nqn::of_account(&account.name).map_err(|e| ConfigError::Wrong(e.to_string()))?;
    }
    for (index, host) in hosts.iter().enumerate() {
        host.nqn()?;
        super::known("account", &host.account, accounts.iter().map(|account| &account.name))
            .map_err(|e| e.of(format!("host {}", host.name)))?;
        if host.dhchap_controller_secret.is_some() && host.dhchap_secret.is_none() {
            return Err(ConfigError::Wrong(format!(
                "host {}: dhchap_controller_secret needs dhchap_secret: a target authenticates only to a host that does so itself",
                host.name
            )));
        }
        if host.host_id.is_some_and(|id| id.is_nil()) {
            return Err(ConfigError::Wrong(format!(
                "host {}: host_id is zero, which identifies nobody; leave it out or take the one in /etc/nvme/hostid",
                host.name
            )));
        }
        for other in hosts[..index].iter().filter(|other| other.account == host.account) {
            let same = match () {
                () if other.nqn == host.nqn => "nqn",
                () if host.host_id.is_some() && other.host_id == host.host_id => "host_id",
                () => continue,
            };
            return Err(ConfigError::Twice(format!(
                "host {}: host {} has the same {same}; each host needs its own",
                host.name, other.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Both {
            #[serde(default)]
            account: Vec<AccountConfig>,
            host: Vec<HostConfig>,
        }
        let both: Both = toml::from_str(text).map_err(|e| e.to_string())?;
        check_hosts(&both.account, &both.host).map_err(|e| e.to_string())
    }

    #[test]
    fn hosts_belong_to_accounts_and_are_told_apart() {
        let host = |name: &str, more: &str| format!("[[host]]\nname='{name}'\naccount='a'\nnqn='nqn.{name}'\n{more}\n");
        let account = "[[account]]\nname='a'\n";
        let id = "host_id='11111111-2222-3333-4444-555555555555'";
        for (text, wanted) in [
            (host("h", ""), "host h: there is no account a; the accounts are: none"),
            (account.replace("'a'", "'a b'") + &host("h", ""), "account \"a b\": a name has"),
            (account.to_owned() + &host("h", "").replace("nqn.h", "iqn.h"), "host h: \"iqn.h\" is not"),
            (format!("{account}{}", host("h", "dhchap_controller_secret='env:X'")), "needs dhchap_secret"),
            (format!("{account}{}", host("h", "host_id='00000000-0000-0000-0000-000000000000'")), "is zero"),
            (format!("{account}{}{}", host("h", id), host("i", id)), "host i: host h has the same host_id"),
            (format!("{account}{}{}", host("h", ""), host("i", "").replace("nqn.i", "nqn.h")), "the same nqn"),
            (format!("{account}{}", host("h", "colour='red'")), "colour"),
        ] {
            let error = check(&text).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
        assert_eq!(check(&format!("{account}{}{}", host("h", id), host("i", "dhchap_secret='env:X'"))), Ok(()));
    }

    #[test]
    fn a_secret_in_the_place_of_its_reference_is_refused_and_not_repeated() {
        let error = check("[[host]]\nname='h'\naccount='a'\nnqn='nqn.h'\ndhchap_secret='DHHC-1:00:c2VjcmV0:'");
        let error = error.expect_err("refused");
        assert!(error.contains("file:PATH"), "{error}");
    }
}
