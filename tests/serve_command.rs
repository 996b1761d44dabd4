//! `strongroom serve` starts with a clear report, owns its files alone, and ends as operators expect.

mod engine;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a key and a configuration of one encrypted disk.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let key = dir.path().join("k");
        std::fs::write(&key, engine::bytes_of(3, 64)).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        let site = Self { dir };
        site.configure("");
        site
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[reactor]\nmemory_mib = 8\nhugepages = 'never'\n\
             [[device]]\nname = 'd0'\nkind = 'file'\npath = 'blocks'\nsize = '8M'\ncreate = true\n\
             [[disk]]\nname = 'v0'\ndevice = 'd0'\nencryption = {{ key_file = 'k' }}\n\
             [nbd]\nlisten = ['unix:s', 'tcp:127.0.0.1:0']\n[[nbd.exports]]\nname = 'v0'\ndisk = 'v0'\n{more}"
        );
        std::fs::write(self.path("c.toml"), text).expect("written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command.args(["serve", "--config"]).arg(self.path("c.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a target that has to refuse; returns its error text.
    fn refused(&self) -> String {
        let output = self.command().output().expect("it runs");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// A running target; killed if the test gives up.
struct Target {
    child: Child,
    report: String,
}

impl Target {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut report = String::new();
        while !report.contains("nbd export") {
            let before = report.len();
            lines.read_line(&mut report).expect("text");
            if report.len() == before {
                let mut error = String::new();
                child.stderr.take().expect("a pipe").read_to_string(&mut error).expect("text");
                panic!("the target ended: {report}{error}");
            }
        }
        // Its last words go nowhere, but it has to be able to say them.
        std::thread::spawn(move || lines.read_to_string(&mut String::new()));
        Self { child, report }
    }

    fn signal(&self, signal: i32) {
        #[allow(unsafe_code)]
        // SAFETY: the call touches no memory; the child has not been waited for, so its pid is its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0);
    }

    fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the target did not end within 30 s");
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_report_says_what_was_got_and_sigterm_drains() {
    let site = Site::new();
    let mut target = Target::start(site.command());
    for wanted in ["reactor on core", "io_uring:", "normal pages", "disk v0: 8 MiB", "aes-256-xts", "nbd export \"v0\""]
    {
        assert!(target.report.contains(wanted), "{wanted:?} is not in the report:\n{}", target.report);
    }
    assert!(site.path("s").exists());
    target.signal(libc::SIGTERM);
    assert_eq!(target.exit_code(), Some(0));
    assert!(!site.path("s").exists(), "the socket is left behind");
}

#[test]
fn a_second_process_is_refused_with_the_owners_pid() {
    let site = Site::new();
    let target = Target::start(site.command());
    let error = site.refused();
    assert!(error.contains(&format!("in use by process {}", target.child.id())), "{error}");
}

#[test]
fn two_interrupts_end_at_once() {
    let site = Site::new();
    site.configure("");
    let mut target = Target::start(site.command());
    // A connection in the middle of its handshake holds the drain up.
    let _client = std::os::unix::net::UnixStream::connect(site.path("s")).expect("connected");
    target.signal(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(20));
    target.signal(libc::SIGINT);
    let code = target.exit_code();
    // The drain may have been faster.
    assert!(matches!(code, Some(130 | 0)), "{code:?}");
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let site = Site::new();
    let socket = site.path("notify");
    let notifications = UnixDatagram::bind(&socket).expect("bound");
    notifications.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let mut command = site.command();
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "300000").env_remove("WATCHDOG_PID");
    let mut target = Target::start(command);
    let receive = || {
        let mut message = [0; 256];
        let len = notifications.recv(&mut message).expect("a notification");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    assert!(receive().contains("READY=1"));
    assert!(receive().contains("WATCHDOG=1"));
    target.signal(libc::SIGTERM);
    while !receive().contains("STOPPING=1") {}
    assert_eq!(target.exit_code(), Some(0));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let site = Site::new();
    site.configure("colour = 'red'\n");
    let error = site.refused();
    assert!(error.contains("colour") && error.contains("line"), "{error}");

    site.configure("");
    std::fs::set_permissions(site.path("k"), std::fs::Permissions::from_mode(0o644)).expect("mode set");
    let error = site.refused();
    assert!(error.contains("chmod 600"), "{error}");

    std::fs::set_permissions(site.path("k"), std::fs::Permissions::from_mode(0o600)).expect("mode set");
    std::fs::write(site.path("k"), [7; 64]).expect("written");
    let error = site.refused();
    assert!(error.contains("halves") && error.contains("v0"), "{error}");
}

#[test]
fn no_core_dump_can_be_made() {
    let site = Site::new();
    let target = Target::start(site.command());
    let limits = std::fs::read_to_string(Path::new("/proc").join(target.child.id().to_string()).join("limits"));
    let limits = limits.expect("the limits of a child");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
