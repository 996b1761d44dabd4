//! Which disk is a namespace for which host, as far as the configuration can tell.

use std::collections::HashMap;

use crate::disk::DiskConfig;
use crate::export::vhost_user::is_file_name;

use super::{Config, ConfigError, known};

/// Checks what disks say about accounts, hosts and exports.
pub(super) fn check_attachments(config: &Config) -> Result<(), ConfigError> {
    let mut uuids = HashMap::new();
    let mut identifiers = HashMap::new();
    for disk in &config.disks {
        check_disk(config, disk).map_err(|e| e.of(format!("disk {}", disk.name)))?;
        if let Some(other) = uuids.insert(disk.uuid_in(&config.region), &disk.name) {
            return Err(twice(disk, other, "uuid"));
        }
        let identifier = disk.account.as_ref().zip(disk.nsid);
        if let Some(other) = identifier.and_then(|identifier| identifiers.insert(identifier, &disk.name)) {
            return Err(twice(disk, other, "account and nsid"));
        }
    }
    Ok(())
}

fn twice(disk: &DiskConfig, other: &str, what: &str) -> ConfigError {
    ConfigError::Twice(format!("disk {}: disk {other} has the same {what}; each disk needs its own", disk.name))
}

fn check_disk(config: &Config, disk: &DiskConfig) -> Result<(), ConfigError> {
    let wrong = |what: String| Err(ConfigError::Wrong(what));
    if disk.nsid.is_some_and(|nsid| nsid == 0) {
        return wrong("nsid = 0 means no namespace; choose 1 or more, or leave it out".to_owned());
    }
    if disk.uuid.is_some_and(|uuid| uuid.is_nil()) {
        return wrong("uuid is zero, which identifies nothing; leave it out to have one derived".to_owned());
    }
    let Some(account) = &disk.account else {
        return match disk {
            DiskConfig { nsid: Some(_), .. } => wrong("nsid needs an account".to_owned()),
            DiskConfig { shared: true, .. } => wrong("shared needs an account".to_owned()),
            DiskConfig { attached_to, .. } if !attached_to.is_empty() => {
                wrong("attached_to needs an account: give the disk the account of its hosts".to_owned())
            }
            _ => Ok(()),
        };
    };
    known("account", account, config.accounts.iter().map(|account| &account.name))?;
    check_hosts_of(config, disk, account)
}

fn check_hosts_of(config: &Config, disk: &DiskConfig, account: &str) -> Result<(), ConfigError> {
    for (index, name) in disk.attached_to.iter().enumerate() {
        known("host", name, config.hosts.iter().map(|host| &host.name))?;
        let host = config.hosts.iter().find(|host| host.name == *name).expect("it is known");
        if host.account != account {
            return Err(ConfigError::Wrong(format!(
                "host {name} belongs to account {}, and the disk to account {account}; a disk is attached to hosts of its own account",
                host.account
            )));
        }
        if disk.attached_to[..index].contains(name) {
            return Err(ConfigError::Twice(format!("it is attached to host {name} already")));
        }
    }
    let Some(first) = disk.attached_to.first() else { return Ok(()) };
    if config.nvme_tcp.is_none() && config.vhost_user.is_none() {
        return Err(ConfigError::Wrong(format!(
            "it is attached to host {first}, but there is no [nvme_tcp]; add it with an address to listen on, or [vhost_user] for virtual machines \
             of this host"
        )));
    }
    if config.vhost_user.is_some() {
        check_sockets(disk)?;
    }
    if disk.shared {
        return Ok(());
    }
    if let Some(second) = disk.attached_to.get(1) {
        return Err(ConfigError::InUse(format!(
            "it is not shared, and is attached to host {first}; detach it there before it is attached to host {second}, or set shared = true if the file system on it can take it"
        )));
    }
    if let Some(export) = config.exports_of(&disk.name).next() {
        return Err(ConfigError::InUse(format!(
            "it is not shared, and is attached to host {first} and the NBD export {export:?} at once; drop one of them, or set shared = true"
        )));
    }
    if let Some(export) = config.sockets_of(&disk.name).next() {
        return Err(ConfigError::InUse(format!(
            "it is not shared, and is attached to host {first} and the vhost-user export {:?} at once; drop one of them, or set shared = true",
            export.name
        )));
    }
    Ok(())
}

/// Over vhost-user the names of hosts and disks are those of folders and files.
fn check_sockets(disk: &DiskConfig) -> Result<(), ConfigError> {
    let mut names = disk.attached_to.iter().chain([&disk.name]);
    match names.find(|name| !is_file_name(name)) {
        None => Ok(()),
        Some(name) => Err(ConfigError::Wrong(format!(
            "with [vhost_user] the names of hosts and of their disks are those of files, which {name:?} cannot be"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    /// Two accounts with a host or two, and disks with what is written for them.
    fn site(disks: &[&str], more: &str) -> String {
        let mut text = String::new();
        for (account, hosts) in [("a", &["h1", "h2"][..]), ("b", &["h3"])] {
            text += &format!("[[account]]\nname='{account}'\n");
            for host in hosts {
                text += &format!("[[host]]\nname='{host}'\naccount='{account}'\nnqn='nqn.2014-08.org.x:{host}'\n");
            }
        }
        for (n, disk) in disks.iter().enumerate() {
            text += &format!("[[device]]\nname='d{n}'\nkind='null'\nsize=4096\n");
            text += &format!("[[disk]]\nname='v{n}'\ndevice='d{n}'\nencryption='none'\n{disk}\n");
        }
        text + more
    }

    const NVME: &str = "[nvme_tcp]\nlisten=['127.0.0.1:0']\n";
    const NBD: &str = "[nbd]\nlisten=['tcp:127.0.0.1:0']\n[[nbd.exports]]\nname='x'\ndisk='v0'\n";

    #[test]
    fn attachments_that_cannot_be_are_refused_with_the_remedy() {
        let id = "uuid='11111111-2222-3333-4444-555555555555'";
        for (disks, more, wanted) in [
            (&["attached_to=['h1']"][..], NVME, "disk v0: attached_to needs an account"),
            (&["nsid=1"], NVME, "nsid needs an account"),
            (&["shared=true"], NVME, "shared needs an account"),
            (&["account='c'"], NVME, "disk v0: there is no account c; the accounts are: a, b"),
            (&["account='a'\nattached_to=['h9']"], NVME, "no host h9; the hosts are: h1, h2, h3"),
            (&["account='a'\nattached_to=['h3']"], NVME, "host h3 belongs to account b"),
            (&["account='a'\nattached_to=['h1']"], NBD, "there is no [nvme_tcp]"),
            (&["account='a'\nattached_to=['h1','h2']"], NVME, "not shared, and is attached to host h1"),
            (&["account='a'\nshared=true\nattached_to=['h1','h1']"], NVME, "attached to host h1 already"),
            (&["account='a'\nattached_to=['h1']"], &format!("{NVME}{NBD}"), "the NBD export \"x\""),
            (&["account='a'\nnsid=0"], NVME, "nsid = 0"),
            (&["account='a'\nnsid=7", "account='a'\nnsid=7"], NVME, "disk v1: disk v0 has the same account and nsid"),
            (&[id, id], NVME, "the same uuid"),
        ] {
            let error = load(&site(disks, more)).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn attachments_that_can_be_are_taken() {
        for (disks, more) in [
            (&["account='a'\nattached_to=['h1']", "account='b'\nattached_to=['h3']"][..], NVME.to_owned()),
            (&["account='a'\nshared=true\nattached_to=['h1','h2']"], format!("{NVME}{NBD}")),
            (&["account='a'\nnsid=7", "account='b'\nnsid=7"], NVME.to_owned()),
            (&["account='a'"], NBD.to_owned()),
        ] {
            load(&site(disks, &more)).expect("taken");
        }
    }
}
