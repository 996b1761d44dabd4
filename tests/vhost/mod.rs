//! `strongroom serve` with disks over vhost-user in a process of its own, and guests of it: what the tests of that export share.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod guest;
pub mod hostile;
pub mod ring;
pub mod wire;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What has to happen happens within this, or something hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A disk with a socket.
#[derive(Clone, Copy)]
pub struct Disk<'a> {
    pub name: &'a str,
    /// Lines of its device: `kind` and what belongs to it. `size` is there.
    pub device: &'a str,
    pub mib: u64,
    pub sector: u32,
    pub is_encrypted: bool,
    pub read_only: bool,
}

impl<'a> Disk<'a> {
    /// Encrypted, in memory.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            device: "kind = 'memory'\nhugepages = 'never'",
            mib: 16,
            sector: 4096,
            is_encrypted: true,
            read_only: false,
        }
    }
}

/// The target. It ends with the value.
pub struct Target {
    pub dir: TempDir,
    process: Child,
}

impl Target {
    /// Serves the disks on `reactors` reactors. `more` stands in the section of the export.
    pub fn start(reactors: usize, disks: &[Disk], more: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let cpus = strongroom::reactor::allowed_cpus();
        let cores: Vec<usize> = (0..reactors).map(|n| cpus[n % cpus.len()]).collect();
        let mut text = format!(
            "[reactor]\ncores = {:?}\nmemory_mib = 32\nhugepages = 'never'\n[control]\nsocket = 'control.sock'\n\
             [vhost_user]\ndirectory = 'v'\n{more}\n",
            &cores[..reactors.min(cpus.len())]
        );
        for disk in disks {
            let Disk { name, device, mib, sector, is_encrypted, read_only } = disk;
            let key = dir.path().join(format!("{name}.key"));
            std::fs::write(&key, openssl::sha::sha512(name.as_bytes())).expect("written");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
            let encryption = if *is_encrypted { format!("{{ key_file = '{name}.key' }}") } else { "'none'".to_owned() };
            text += &format!(
                "[[vhost_user.exports]]\nname = '{name}'\ndisk = '{name}'\nread_only = {read_only}\n\
                 [[device]]\nname = 'under-{name}'\nsize = '{mib} MiB'\n{device}\n\
                 [[disk]]\nname = '{name}'\ndevice = 'under-{name}'\nsector_size = {sector}\nencryption = {encryption}\n"
            );
        }
        std::fs::write(dir.path().join("config.toml"), text).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["serve", "--log", "info", "--config"])
            .arg(dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let mut target = Self { dir, process };
        for disk in disks {
            let socket = target.socket(disk.name);
            target.wait_for("its sockets", || socket.exists());
        }
        target
    }

    pub fn socket(&self, disk: &str) -> PathBuf {
        self.dir.path().join("v").join(format!("{disk}.sock"))
    }

    /// Runs the `strongroom` command against this target; returns what it says.
    pub fn control(&self, args: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args(["30", env!("CARGO_BIN_EXE_strongroom")]).args(args);
        let output = command.arg("--socket").arg(self.dir.path().join("control.sock")).output().expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "strongroom {args:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A connection that says nothing yet. A socket serves one front end at a time: the one before may not have left.
    pub fn connect(&self, disk: &str) -> UnixStream {
        let stream = UnixStream::connect(self.socket(disk)).expect("the target listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut happened: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !happened() {
            self.assert_alive();
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        let status = self.process.try_wait().expect("a child");
        assert!(status.is_none(), "the target ended, {status:?}:\n{}", self.log());
    }

    /// Descriptors that it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("it is there").count()
    }

    /// Waits until it has no more descriptors open than that.
    #[track_caller]
    pub fn settle_at(&mut self, files: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.open_files() > files {
            assert!(Instant::now() < deadline, "{} descriptors are open, {files} were", self.open_files());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as an operator would; it has to end in order.
    pub fn stop(mut self) {
        self.assert_alive();
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().expect("it runs");
        assert!(sent.success());
        let status = self.process.wait().expect("a child");
        assert!(status.success(), "the target ended with {status}:\n{}", self.log());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<_> = log.lines().rev().take(40).collect();
            last.iter().rev().for_each(|line| eprintln!("[target] {line}"));
        }
    }
}
