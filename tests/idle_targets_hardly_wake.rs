//! A target with all of its exports and APIs open, and silent clients at the exports, hardly ever wakes: what its threads do by the clock is a
//! few looks a second, on reactors too. Wake-ups are counted, so that a busy machine makes no difference.

mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::nbd_client::{Client, READ};
use common::nvme_client::{Digests, Host};
use common::nvme_target::{admin_wish, host_nqn};
use tempfile::TempDir;

/// Each of the clocks of the process looks once a second, the one for keep-alive timers on a reactor four times.
const WAKE_UPS_PER_S: f64 = 12.0;
/// What other wake-ups there may be while it is watched: the last of its start, for instance.
const ONCE: f64 = 20.0;
const WATCHED: Duration = Duration::from_secs(4);
const SETTLE: Duration = Duration::from_secs(1);

/// A running target; it ends with the value.
struct Serving {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn secret(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode set");
}

impl Serving {
    fn start(dir: &TempDir) -> Self {
        let key: Vec<u8> = (0..64).collect();
        secret(&dir.path().join("key"), &key);
        secret(&dir.path().join("passphrase"), b"a passphrase for a test of idle targets");
        let memory = |name: &str| {
            format!("[[device]]\nname = '{name}'\nkind = 'memory'\nsize = '64 MiB'\nhugepages = 'never'\n")
        };
        let config = format!(
            "[reactor]\ncores = [{core}]\nmemory_mib = 16\nhugepages = 'never'\n\
             [[account]]\nname = 'acc'\n[[host]]\nname = 'a'\naccount = 'acc'\nnqn = '{nqn}'\n\
             {d0}{d1}{d2}[[pool]]\nname = 'p0'\ndevice = 'd2'\ncreate = true\n\
             [[disk]]\nname = 'vol0'\ndevice = 'd0'\nencryption = {{ key_file = 'key' }}\n\
             [[disk]]\nname = 'd'\ndevice = 'd1'\nencryption = {{ key_file = 'key' }}\naccount = 'acc'\nattached_to = ['a']\n\
             [nbd]\nlisten = ['unix:nbd.sock']\n[[nbd.exports]]\nname = 'vol0'\ndisk = 'vol0'\n\
             [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
             [kms]\naudit_log = 'audit'\n\
             [kms.embedded]\npath = 'store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
             [cloud]\nstate_dir = 'state'\n[[cloud.zone]]\nname = 'z'\npool = 'p0'\n[cloud.api]\nlisten = ['127.0.0.1:0']\n\
             [control]\nsocket = 'control.sock'\n",
            core = strongroom::reactor::allowed_cpus()[0],
            nqn = host_nqn("a"),
            d0 = memory("d0"),
            d1 = memory("d1"),
            d2 = memory("d2"),
        );
        std::fs::write(dir.path().join("config.toml"), config).expect("written");
        let mut process = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["serve", "--log", "warn", "--config", "config.toml"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, output }
    }

    /// Where it says that it listens for hosts.
    fn nvme_address(&mut self) -> SocketAddr {
        let mut said = String::new();
        loop {
            let begin = said.len();
            assert_ne!(self.output.read_line(&mut said).expect("readable"), 0, "it ended:\n{said}");
            if let Some((_, address)) = said[begin..].split_once("nvme_tcp listens on ") {
                return address.split_whitespace().next().expect("an address").parse().expect("an address");
            }
        }
    }

    /// How often each thread has begun to wait, which is how often it has been woken, by the threads' names.
    fn waits(&self) -> Vec<(String, u64)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        let mut waits = Vec::new();
        for task in tasks {
            let status = std::fs::read_to_string(task.expect("a task").path().join("status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            if let (Some(name), Some(count)) = (field("Name:"), field("voluntary_ctxt_switches:")) {
                waits.push((name, count.parse().expect("a number")));
            }
        }
        waits
    }
}

#[test]
fn an_idle_target_hardly_wakes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut target = Serving::start(&dir);
    let address = target.nvme_address();
    let mut nbd = Client::silent(&dir.path().join("nbd.sock")).greet().go("vol0", true);
    assert_eq!(nbd.ask(READ, 0, 0, 4096).data.len(), 4096);
    let mut host = Host::initialized(address, Digests::default(), 1);
    host.become_admin(&admin_wish("a"));

    std::thread::sleep(SETTLE);
    let (begun, before) = (Instant::now(), target.waits());
    std::thread::sleep(WATCHED);
    let (watched, after) = (begun.elapsed(), target.waits());

    let sum = |waits: &[(String, u64)]| waits.iter().map(|(_, count)| count).sum::<u64>();
    let wake_ups = sum(&after).saturating_sub(sum(&before)) as f64;
    assert!(
        wake_ups <= WAKE_UPS_PER_S * watched.as_secs_f64() + ONCE,
        "{wake_ups} wake-ups in {watched:?}: before {before:?}, after {after:?}"
    );
    assert!(after.iter().any(|(name, _)| name.starts_with("reactor-")), "{after:?}");
    // The connections were there all the time, and still work.
    assert_eq!(nbd.ask(READ, 0, 0, 4096).data.len(), 4096);
    drop(host);
}
