//! What the tests of exports share: servers in this process, on a reactor or two and with disks of any kind.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod nbd_client;
pub mod nvme_client;
pub mod nvme_target;
pub mod random;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{DeviceConfig, SharedDevice};
use strongroom::disk::Disk;
use strongroom::export::nbd::{NbdConfig, NbdError, NbdServer};
use strongroom::export::stream::ListenAddress;
use strongroom::memory::HugePages;
use strongroom::reactor::{ReactorConfig, ReactorThread, Remote, allowed_cpus};
use tempfile::TempDir;

/// Servers end within this time, or something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server with its reactors and a directory for its files.
pub struct Target {
    pub dir: TempDir,
    reactors: Vec<ReactorThread>,
    free_bytes: Vec<usize>,
    server: Option<NbdServer>,
}

/// A device from a piece of configuration; `$DIR` stands for the directory.
pub fn device(dir: &TempDir, toml: &str) -> Arc<SharedDevice> {
    let text = toml.replace("$DIR", dir.path().to_str().expect("a UTF-8 path"));
    let config: DeviceConfig = toml::from_str(&format!("name = 'd'\n{text}")).expect("a device");
    Arc::new(SharedDevice::open(&config).expect("opened"))
}

/// An encrypted disk.
pub fn encrypted(name: &str, device: &Arc<SharedDevice>, sector: SectorSize) -> Arc<Disk> {
    Disk::with_random_key(name, device.clone(), sector, Kernel::best()).expect("a disk")
}

/// A disk without encryption.
pub fn plain(name: &str, device: &Arc<SharedDevice>, sector: SectorSize) -> Arc<Disk> {
    Disk::plain(name, device.clone(), sector).expect("a disk")
}

impl Target {
    /// Serves the disks on `reactors` reactors, over a unix socket and TCP. `more` is configuration; without exports in it each disk
    /// is exported under its name.
    pub fn start(dir: TempDir, reactors: usize, disks: &[Arc<Disk>], more: &str) -> Self {
        let mut config: NbdConfig = toml::from_str(more).expect("a configuration");
        if config.exports.is_empty() {
            let export = |disk: &Arc<Disk>| format!("name = '{0}'\ndisk = '{0}'", disk.name());
            config.exports = disks.iter().map(|disk| toml::from_str(&export(disk)).expect("an export")).collect();
        }
        Self::serve(dir, reactors, config, |config, remotes| NbdServer::start(config, disks, remotes))
    }

    /// Serves nothing yet.
    pub fn start_even_empty(dir: TempDir, reactors: usize) -> Self {
        let start = |config: &NbdConfig, remotes: &[Remote]| NbdServer::start_even_empty(config, &[], remotes);
        Self::serve(dir, reactors, NbdConfig::default(), start)
    }

    fn serve(
        dir: TempDir,
        reactors: usize,
        mut config: NbdConfig,
        start: impl FnOnce(&NbdConfig, &[Remote]) -> Result<NbdServer, NbdError>,
    ) -> Self {
        let reactor = ReactorConfig { memory_mib: 16, hugepages: HugePages::Never, ..ReactorConfig::default() };
        let cpus = allowed_cpus();
        let reactors: Vec<_> =
            (0..reactors).map(|n| ReactorThread::start(cpus[n % cpus.len()], &reactor).expect("a reactor")).collect();
        config.listen =
            vec![ListenAddress::Unix(dir.path().join("nbd.sock")), "tcp:127.0.0.1:0".parse().expect("an address")];
        let remotes: Vec<_> = reactors.iter().map(|reactor| reactor.remote().clone()).collect();
        let free_bytes = remotes.iter().map(|remote| remote.call(|r| r.buffers().free_bytes())).collect();
        let server = start(&config, &remotes).expect("a server");
        Self { dir, reactors, free_bytes, server: Some(server) }
    }

    pub fn server(&self) -> &NbdServer {
        self.server.as_ref().expect("running")
    }

    /// Runs a job on the first reactor and gives its answer back.
    pub fn on_reactor<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.reactors[0].remote().call(move |_| job())
    }

    /// The path of the unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("nbd.sock")
    }

    /// Host and port of the TCP socket.
    pub fn tcp(&self) -> String {
        let tcp = self.server().addresses().iter().find_map(|address| match address {
            ListenAddress::Tcp(tcp) => Some(tcp.to_string()),
            ListenAddress::Unix(_) => None,
        });
        tcp.expect("a TCP address")
    }

    /// An NBD URI over the unix socket.
    pub fn unix_uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// An NBD URI over TCP.
    pub fn tcp_uri(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.tcp())
    }

    /// Waits until there are no connections, and checks that every buffer is back in its pool.
    pub fn expect_idle(&self) {
        wait_for("the connections to end", || self.server().connections() == 0);
        for (reactor, before) in self.reactors.iter().zip(&self.free_bytes) {
            assert_eq!(reactor.remote().call(|r| r.buffers().free_bytes()), *before, "buffers are missing");
        }
    }

    /// Stops everything in order.
    pub fn stop(self) -> TempDir {
        self.stop_and_say(|in_order| assert!(in_order, "the server did not stop in order"))
    }

    /// Stops everything on a device that fails: the last flush may fail too.
    pub fn stop_on_failing_device(self) -> TempDir {
        self.stop_and_say(|_| ())
    }

    fn stop_and_say(mut self, say: impl FnOnce(bool)) -> TempDir {
        say(self.server.take().expect("running").stop(PATIENCE));
        assert!(!self.socket().exists(), "the socket file is left");
        self.reactors.iter().for_each(|reactor| reactor.remote().stop());
        self.reactors.into_iter().for_each(ReactorThread::join);
        self.dir
    }
}

/// Waits for something that has to happen soon.
pub fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the programs are there; says loudly which one is not.
pub fn have(programs: &[&str]) -> bool {
    let missing: Vec<_> =
        programs.iter().filter(|p| Command::new("which").arg(p).output().is_ok_and(|o| !o.status.success())).collect();
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?} not installed");
    }
    missing.is_empty()
}

/// Runs a program and gives its output back, whatever became of it.
pub fn attempt(program: &str, args: &[&str]) -> Output {
    let bounded = [&["60", program], args].concat();
    Command::new("timeout").args(bounded).output().expect("the program can be started")
}

/// Runs a program that has to succeed; returns its standard output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}
