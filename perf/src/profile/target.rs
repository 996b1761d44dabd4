//! The target that is profiled: a reactor in this process with an encrypted disk in memory, served over each protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{DeviceConfig, SharedDevice};
use strongroom::disk::{Consumer, Disk};
use strongroom::export::nbd::{NbdConfig, NbdServer};
use strongroom::export::nvme_tcp::{Host, NvmeTcpConfig, NvmeTcpServer, Placement};
use strongroom::export::vhost_user::{Owner, VhostUserConfig, VhostUserDisk, VhostUserServer};
use strongroom::reactor::{ReactorConfig, ReactorThread};
use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};

/// MiB of the disk: many times what the caches hold.
pub const DISK_MIB: u64 = 512;
/// The disk's name, in every export.
pub const DISK: &str = "d";
/// The host that is let in, and the subsystem that it sees.
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:5c5f8f2e-0d0c-4b7a-9a43-2f6f0a1b7c11";
const ACCOUNT: &str = "perf";
const HOST: &str = "client";
const NBD_SOCKET: &str = "nbd.sock";
const VHOST_SOCKET: &str = "vhost.sock";

/// The target.
pub struct Target {
    pub disk: Arc<Disk>,
    /// The reactor's core.
    pub core: usize,
    directory: TempDir,
    nvme: NvmeTcpServer,
    subsystem: String,
    // Servers come before the reactor on which they serve.
    _nbd: NbdServer,
    _vhost: VhostUserServer,
    _reactor: ReactorThread,
}

fn config<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a configuration that is the same each time")
}

fn refused(error: impl std::error::Error) -> Failure {
    Failure::Request(format!("the target does not start: {error}"))
}

impl Target {
    /// Starts it on a core.
    pub fn start(core: usize, sector: SectorSize) -> Result<Self> {
        let directory = tempfile::tempdir().context(|| "cannot make a temporary directory".into())?;
        let reactor = ReactorThread::start(core, &ReactorConfig::default()).map_err(refused)?;
        let remotes = [reactor.remote().clone()];
        let device: DeviceConfig = config(json!({ "name": DISK, "kind": "memory", "size": format!("{DISK_MIB} MiB") }));
        let device = Arc::new(SharedDevice::open(&device).map_err(refused)?);
        let disk = Disk::with_random_key(DISK, device, sector, Kernel::best()).map_err(refused)?;
        let socket = format!("unix:{}", directory.path().join(NBD_SOCKET).display());
        let nbd: NbdConfig = config(json!({ "listen": [socket], "exports": [{ "name": DISK, "disk": DISK }] }));
        let nbd = NbdServer::start(&nbd, std::slice::from_ref(&disk), &remotes).map_err(refused)?;
        let nvme: NvmeTcpConfig = config(json!({ "listen": ["127.0.0.1:0"] }));
        let mut nvme = NvmeTcpServer::start(&nvme, "perf", &remotes).map_err(refused)?;
        let subsystem = nvme.add_account(ACCOUNT).map_err(refused)?.nqn().to_string();
        let nqn = HOST_NQN.parse().expect("an NQN");
        nvme.add_host(ACCOUNT, Host { name: HOST.into(), nqn, id: None, authentication: None }).map_err(refused)?;
        let placement =
            Placement { disk: disk.clone(), account: ACCOUNT.into(), nsid: None, uuid: [1; 16], shared: false };
        nvme.add_disk(&placement).map_err(refused)?;
        nvme.attach(DISK, HOST).map_err(refused)?;
        nvme.open().map_err(refused)?;
        let vhost: VhostUserConfig = config(json!({ "directory": directory.path() }));
        let vhost = VhostUserServer::start(&vhost, &remotes).map_err(refused)?;
        let shown = VhostUserDisk {
            disk: disk.clone(),
            path: directory.path().join(VHOST_SOCKET),
            owner: Owner::Export(DISK.into()),
            read_only: false,
            consumer: Consumer::new_one(),
            access: None,
        };
        vhost.add(shown).map_err(refused)?;
        Ok(Self { disk, core, directory, nvme, subsystem, _nbd: nbd, _vhost: vhost, _reactor: reactor })
    }

    /// Where NBD clients connect.
    pub fn nbd_socket(&self) -> PathBuf {
        self.directory.path().join(NBD_SOCKET)
    }

    /// Where virtual machines find it.
    pub fn vhost_socket(&self) -> PathBuf {
        self.directory.path().join(VHOST_SOCKET)
    }

    /// Where NVMe/TCP hosts connect.
    pub fn nvme_address(&self) -> SocketAddr {
        self.nvme.addresses()[0]
    }

    /// What they see.
    pub fn subsystem(&self) -> &str {
        &self.subsystem
    }
}
