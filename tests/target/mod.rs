//! `strongroom serve` in a process of its own, serving encrypted disks over NVMe/TCP to the hosts of one account; controlled as an
//! operator would, through the `strongroom` command.
//!
//! The process can be killed and started again: its files and its port stay. It ends with the value.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openssl::symm::{Cipher, Crypter, Mode};
use tempfile::TempDir;

/// The target starts and ends within this, or something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub const MIB: u64 = 1 << 20;

/// A host that may connect.
pub struct Client<'a> {
    pub name: &'a str,
    pub nqn: String,
    /// What the host proves itself with, and what the controller does, in the `DHHC-1:` form.
    pub secrets: Option<(String, String)>,
}

/// A disk on a file of its own.
pub struct Disk<'a> {
    pub name: &'a str,
    pub sector_size: usize,
    pub bytes: u64,
    pub shared: bool,
    pub attached_to: &'a [&'a str],
}

/// The target.
pub struct Target {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Target {
    pub fn start(clients: &[Client], disks: &[Disk]) -> Self {
        Self::start_with(clients, disks, "")
    }

    /// The same with more of a configuration.
    pub fn start_with(clients: &[Client], disks: &[Disk], more: &str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let port = free_port();
        let mut text = format!(
            "[reactor]\nmemory_mib = 64\nhugepages = 'never'\n[nvme_tcp]\nlisten = ['127.0.0.1:{port}']\nstate_dir = 'state'\n\
             [control]\nsocket = 'control.sock'\n{more}\n[[account]]\nname = 'acme'\n"
        );
        std::fs::create_dir(folder.path().join("state")).expect("a folder");
        let secret = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        };
        for Client { name, nqn, secrets } in clients {
            text += &format!("[[host]]\nname = '{name}'\naccount = 'acme'\nnqn = '{nqn}'\n");
            if let Some((host, controller)) = secrets {
                secret(&format!("{name}.host"), host.as_bytes());
                secret(&format!("{name}.controller"), controller.as_bytes());
                text += &format!(
                    "dhchap_secret = 'file:{name}.host'\ndhchap_controller_secret = 'file:{name}.controller'\n"
                );
            }
        }
        for Disk { name, sector_size, bytes, shared, attached_to } in disks {
            secret(&format!("{name}.key"), &key_of(name));
            text += &format!(
                "[[device]]\nname = 'file-{name}'\nkind = 'file'\npath = '{name}.img'\nsize = '{}M'\ncreate = true\n\
                 [[disk]]\nname = '{name}'\ndevice = 'file-{name}'\nsector_size = {sector_size}\naccount = 'acme'\n\
                 encryption = {{ key_file = '{name}.key' }}\nshared = {shared}\nattached_to = {attached_to:?}\n",
                bytes / MIB
            );
        }
        std::fs::write(folder.path().join("config.toml"), text).expect("written");
        let process = serve(&folder, port);
        Self { folder, port, process }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn attach(&self, disk: &str, host: &str) {
        self.control(&["disk", "attach", disk, "--host", host]);
    }

    pub fn detach(&self, disk: &str, host: &str) {
        self.control(&["disk", "detach", disk, "--host", host]);
    }

    pub fn resize(&self, disk: &str, bytes: u64) {
        self.control(&["disk", "resize", disk, &format!("{}M", bytes / MIB)]);
    }

    /// Runs the `strongroom` command against this target; returns what it says.
    pub fn control(&self, args: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command
            .args(["30", env!("CARGO_BIN_EXE_strongroom")])
            .args(args)
            .arg("--socket")
            .arg(self.file("control.sock"));
        let output = command.output().expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "strongroom {args:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Ends the target as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    /// Starts it again after [`kill`](Self::kill).
    pub fn restart(&mut self) {
        self.process = serve(&self.folder, self.port);
    }

    /// The bytes that are stored for a disk.
    pub fn stored(&self, disk: &str, offset: u64, length: usize) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; length];
        let file = std::fs::File::open(self.file(&format!("{disk}.img"))).expect("the file");
        file.read_exact_at(&mut bytes, offset).expect("read");
        bytes
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(40).collect();
            last.iter().rev().for_each(|line| eprintln!("[target] {line}"));
        }
    }
}

/// A disk's key. Both halves differ, or it would be refused.
pub fn key_of(disk: &str) -> [u8; 64] {
    openssl::sha::sha512(disk.as_bytes())
}

/// Decrypts stored sectors with OpenSSL: what a client wrote has to come out.
pub fn decrypted(disk: &str, sector_size: usize, first_sector: u128, stored: &[u8]) -> Vec<u8> {
    let key = key_of(disk);
    let sector = |(number, bytes): (u128, &[u8])| {
        let tweak = number.to_le_bytes();
        let mut cipher = Crypter::new(Cipher::aes_256_xts(), Mode::Decrypt, &key, Some(&tweak)).expect("a cipher");
        let mut plain = vec![0; bytes.len() + 16];
        let done = cipher.update(bytes, &mut plain).expect("decrypted");
        plain.truncate(done);
        plain
    };
    (first_sector..).zip(stored.chunks(sector_size)).flat_map(sector).collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Starts the target and waits until it listens everywhere: the control socket comes last.
fn serve(folder: &TempDir, port: u16) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log")).expect("a log");
    let mut process = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["serve", "--config"])
        .arg(folder.path().join("config.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    let control = folder.path().join("control.sock");
    let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && UnixStream::connect(&control).is_ok();
    while !listens() {
        if let Some(status) = process.try_wait().expect("a child") {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("the target ended, {status}:\n{log}");
        }
        assert!(Instant::now() < deadline, "the target does not listen after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}
