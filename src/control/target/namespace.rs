//! Disks as namespaces: carries what the configuration says over to the NVMe/TCP server.
//!
//! A disk with an account is a namespace of the account's subsystem, also while no host sees it.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::control::config::{Config, ConfigError};
use crate::disk::{Disk, DiskConfig};
use crate::export::nvme_tcp::{NAMESPACES, NvmeTcpConfig, NvmeTcpError, NvmeTcpServer, Placement};
use crate::reactor::Remote;

use super::Disks;

/// Starts a server and lets the first host in when everything is in its place.
pub(super) fn serve(
    nvme_tcp: &NvmeTcpConfig,
    config: &Config,
    disks: &Disks,
    reactors: &[Remote],
) -> Result<NvmeTcpServer, ConfigError> {
    if let Some(folder) = &nvme_tcp.state_dir {
        make_private(folder)?;
    }
    let mut server = NvmeTcpServer::start(nvme_tcp, &config.region, reactors)?;
    for account in &config.accounts {
        server.add_account(&account.name)?;
    }
    for host in &config.hosts {
        server.add_host(&host.account, host.open()?)?;
    }
    // Whoever has chosen an identifier has it, before others get what is free.
    let (chosen, others): (Vec<_>, Vec<_>) = config.disks.iter().partition(|disk| disk.nsid.is_some());
    for disk in chosen.into_iter().chain(others) {
        if let Ok(opened) = disks.open(&disk.name) {
            place(&server, config, disk, opened)?;
        }
    }
    server.open()?;
    Ok(server)
}

/// Makes a folder that nobody else may look into, unless there is one already. A host that asks for a persistent reservation is not the one to
/// find out that there is no place for it.
fn make_private(folder: &Path) -> Result<(), ConfigError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| {
        let folder = folder.display();
        ConfigError::Wrong(format!("nvme_tcp: state_dir {folder} cannot be made: {e}; make it or choose another"))
    })
}

/// Makes a disk a namespace, if it has an account, and lets its hosts see it. If that fails, it is none.
pub(super) fn place(
    server: &NvmeTcpServer,
    config: &Config,
    disk: &DiskConfig,
    opened: &Arc<Disk>,
) -> Result<(), NvmeTcpError> {
    let Some(account) = &disk.account else { return Ok(()) };
    server.add_disk(&Placement {
        disk: opened.clone(),
        account: account.clone(),
        // Not one that a disk has which no host sees now.
        nsid: disk.nsid.or_else(|| free_nsid(Some(server), config, account)),
        uuid: disk.uuid_in(&config.region).into_bytes(),
        shared: disk.shared,
    })?;
    let attached = disk.attached_to.iter().try_for_each(|host| server.attach(&disk.name, host));
    if attached.is_err() {
        server.remove_disk(&disk.name)?;
    }
    attached
}

/// The lowest identifier in an account's subsystem that no disk has: neither in the configuration, nor because it was free when the disk was opened.
pub(super) fn free_nsid(server: Option<&NvmeTcpServer>, config: &Config, account: &str) -> Option<u32> {
    let of_account = config.disks.iter().filter(|disk| disk.account.as_deref() == Some(account));
    let subsystem = server.and_then(|server| server.subsystems().subsystem(account).ok());
    let open = subsystem.map(|subsystem| subsystem.namespaces()).unwrap_or_default();
    let taken: BTreeSet<u32> =
        of_account.filter_map(|disk| disk.nsid).chain(open.iter().map(|(namespace, _)| namespace.nsid())).collect();
    (1..=NAMESPACES).find(|nsid| !taken.contains(nsid))
}

/// The identifier that a disk has in its account's subsystem.
pub(super) fn nsid_of(server: &NvmeTcpServer, disk: &DiskConfig) -> Option<u32> {
    let subsystem = server.subsystems().subsystem(disk.account.as_deref()?).ok()?;
    let mut namespaces = subsystem.namespaces().into_iter();
    namespaces.find(|(namespace, _)| namespace.disk().name() == disk.name).map(|(namespace, _)| namespace.nsid())
}
