//! An NVMe/TCP target in this process: one account `acc` with the hosts `a` and `b`, and disks that both see.

use std::net::SocketAddr;
use std::sync::Arc;

use strongroom::disk::{Consumer, Disk};
use strongroom::export::nvme_tcp::{Host as Guest, HostId, NvmeTcpConfig, NvmeTcpServer, Placement};
use strongroom::export::vhost_user::{Owner, VhostUserDisk, VhostUserServer};
use strongroom::memory::HugePages;
use strongroom::reactor::{RECEIVE_BYTES, Reactor, ReactorConfig, ReactorThread, allowed_cpus};
use tempfile::TempDir;

use super::nvme_client::{Digests, Host, NEW_CONTROLLER, Wish};
use super::{PATIENCE, wait_for};

/// The account's subsystem.
pub const SUBSYSTEM: &str = "nqn.2026-11.io.strongroom:acc";
/// Entries of an I/O queue, less one.
pub const QUEUE_SIZE: u16 = 63;

pub struct NvmeTarget {
    pub dir: TempDir,
    reactors: Vec<ReactorThread>,
    free_bytes: Vec<usize>,
    server: Option<NvmeTcpServer>,
}

pub fn host_nqn(host: &str) -> String {
    format!("nqn.2014-08.org.example:{host}")
}

pub fn host_id(host: &str) -> [u8; 16] {
    [host.as_bytes()[0]; 16]
}

/// The Admin queue of a host.
pub fn admin_wish(host: &str) -> Wish {
    Wish {
        subsystem: SUBSYSTEM.to_owned(),
        host: host_nqn(host),
        host_id: host_id(host),
        controller: NEW_CONTROLLER,
        queue: 0,
        size: 31,
        keep_alive_ms: 0,
        attributes: 0,
        format: 0,
    }
}

/// An I/O queue of a host. Without flow control of the submission queue, successful reads come without a completion.
pub fn io_wish(host: &str, controller: u16, queue: u16) -> Wish {
    Wish { controller, queue, size: QUEUE_SIZE, attributes: 4, ..admin_wish(host) }
}

impl NvmeTarget {
    /// Serves the disks as namespaces 1, 2, … on `reactors` reactors. `more` is configuration.
    pub fn start(dir: TempDir, reactors: usize, disks: &[Arc<Disk>], more: &str) -> Self {
        let reactor = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
        let cpus = allowed_cpus();
        let reactors: Vec<_> =
            (0..reactors).map(|n| ReactorThread::start(cpus[n % cpus.len()], &reactor).expect("a reactor")).collect();
        let config: NvmeTcpConfig =
            toml::from_str(&format!("listen = ['127.0.0.1:0']\n{more}")).expect("a configuration");
        let remotes: Vec<_> = reactors.iter().map(|reactor| reactor.remote().clone()).collect();
        let free_bytes = remotes.iter().map(|remote| remote.call(|r| r.buffers().free_bytes())).collect();
        let mut server = NvmeTcpServer::start(&config, "eu-1", &remotes).expect("a server");
        server.add_account("acc").expect("an account");
        for name in ["a", "b"] {
            let nqn = host_nqn(name).parse().expect("an NQN");
            let guest = Guest { name: name.to_owned(), nqn, id: None, authentication: None };
            server.add_host("acc", guest).expect("a host");
        }
        for (number, disk) in disks.iter().enumerate() {
            let placement = Placement {
                disk: disk.clone(),
                account: "acc".to_owned(),
                nsid: Some(number as u32 + 1),
                uuid: [number as u8 + 1; 16],
                shared: true,
            };
            server.add_disk(&placement).expect("a namespace");
            for host in ["a", "b"] {
                server.attach(disk.name(), host).expect("attached");
            }
        }
        server.open().expect("open for hosts");
        Self { dir, reactors, free_bytes, server: Some(server) }
    }

    pub fn server(&self) -> &NvmeTcpServer {
        self.server.as_ref().expect("running")
    }

    pub fn address(&self) -> SocketAddr {
        self.server().addresses()[0]
    }

    /// A server on the same reactors that shows the disk to guests, too, at the socket `x.sock`: to those of a host, whom reservations of other hosts
    /// bind, or to such that they do not concern.
    pub fn show_to_guests(&self, disk: &Arc<Disk>, of: Option<&str>) -> VhostUserServer {
        let folder = self.dir.path();
        let config = toml::from_str(&format!("directory = '{}'", folder.display())).expect("a configuration");
        let remotes: Vec<_> = self.reactors.iter().map(|reactor| reactor.remote().clone()).collect();
        let server = VhostUserServer::start(&config, &remotes).expect("a server");
        let shown = VhostUserDisk {
            disk: disk.clone(),
            path: folder.join("x.sock"),
            owner: of.map_or_else(|| Owner::Export("x".to_owned()), |host| Owner::Host(host.to_owned())),
            read_only: false,
            consumer: Consumer::new_one(),
            access: of.and_then(|host| self.server().access(disk.name(), Some(HostId(host_id(host))))),
        };
        server.add(shown).expect("a socket");
        server
    }

    /// Runs a job on the first reactor and gives its answer back.
    pub fn on_reactor<T: Send + 'static>(&self, job: impl FnOnce(&Reactor) -> T + Send + 'static) -> T {
        self.reactors[0].remote().call(job)
    }

    /// An Admin queue with an enabled controller, whose identifier comes with it.
    pub fn admin(&self, host: &str, digests: Digests) -> (Host, u16) {
        let mut admin = Host::initialized(self.address(), digests, 1);
        let controller = admin.become_admin(&admin_wish(host));
        (admin, controller)
    }

    /// An I/O queue.
    pub fn io(&self, host: &str, controller: u16, queue: u16, digests: Digests, most_r2t: u32) -> Host {
        let mut io = Host::initialized(self.address(), digests, most_r2t);
        let done = io.connect(&io_wish(host, controller, queue));
        assert!(done.status.is_success(), "connect of queue {queue}: {}", done.status);
        io
    }

    /// An Admin queue and one I/O queue.
    pub fn both(&self, host: &str, digests: Digests) -> (Host, Host) {
        let (admin, controller) = self.admin(host, digests);
        let io = self.io(host, controller, 1, digests, 4);
        (admin, io)
    }

    /// Waits until there are no connections, and checks that every buffer is back, but for those that the receives of a reactor share.
    pub fn expect_idle(&self) {
        wait_for("the connections to end", || self.server().connections() == 0);
        for (reactor, before) in self.reactors.iter().zip(&self.free_bytes) {
            let held = before - reactor.remote().call(|r| r.buffers().free_bytes());
            // The page is the ring of receive buffers.
            assert!(held.is_multiple_of(RECEIVE_BYTES) || held % RECEIVE_BYTES == 4096, "{held} bytes are missing");
            assert!(held <= before / 4 + 4096, "{held} bytes are missing");
        }
    }

    /// Stops everything in order; every buffer has to be back in its pool.
    pub fn stop(self) -> TempDir {
        self.stop_and_close(|| ())
    }

    /// The same, with `close` when the server has stopped: a pool keeps buffers until it is closed.
    pub fn stop_and_close(mut self, close: impl FnOnce()) -> TempDir {
        let in_order = self.server.take().expect("running").stop(PATIENCE);
        assert!(in_order, "the server did not stop in order");
        close();
        for (reactor, before) in self.reactors.iter().zip(&self.free_bytes) {
            wait_for("the buffers to be back", || reactor.remote().call(|r| r.buffers().free_bytes()) == *before);
        }
        self.reactors.iter().for_each(|reactor| reactor.remote().stop());
        self.reactors.into_iter().for_each(ReactorThread::join);
        self.dir
    }
}
