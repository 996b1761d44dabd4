//! A target that is killed again and again in the middle of its work loses nothing that was flushed: disks, snapshots and clones in its
//! pool are exact each time it is started again, and the pool is sound in between.
//!
//! Killing a process loses nothing that the kernel has, so this is about the order of what the target does and about what it answers too
//! early; lost sectors are a matter of the simulated device's tests.

mod acknowledged;
mod common;
mod operator;

use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use acknowledged::writer::{self, Site};
use acknowledged::{Allowance, Record};
use common::random::Random;
use operator::{Target, command};
use serde_json::Value;
use strongroom::reactor::allowed_cpus;
use tempfile::TempDir;

const ROUNDS: u64 = 12;
/// Writes and flushes take long while other tests use the same disk.
const PATIENCE: Duration = Duration::from_secs(120);
const BLOCK: usize = 4096;
const BLOCKS: usize = 2048;
const SECTORS: usize = 3072;
/// The largest that has the smallest journal: there are many checkpoints.
const POOL: &str = "256M";

#[test]
fn what_was_flushed_is_there_after_each_kill() {
    let seed = Random::seed("KILL_SEED");
    let mut site = KillSite::new(seed);
    for round in 0..ROUNDS {
        site.round(round);
    }
    site.end();
}

/// A folder with a pool, and what its disks may hold.
struct KillSite {
    dir: Option<TempDir>,
    random: Random,
    /// Sectors of a block, and of 512 bytes.
    vol0: Arc<Mutex<Record>>,
    fine: Arc<Mutex<Record>>,
    copy: Option<Arc<Mutex<Record>>>,
    /// A snapshot that is certainly there, and one that was being made when the target was killed.
    snapshot: Option<(String, Allowance)>,
    half_made: Option<(String, Allowance)>,
    /// fio has written and flushed this area, in this round.
    by_fio: Option<u64>,
    have_fio: bool,
}

/// A target under load.
struct Load {
    target: Target,
    writers: Vec<JoinHandle<()>>,
    is_doomed: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl KillSite {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let key = dir.path().join("k");
        std::fs::write(&key, (0..64).collect::<Vec<u8>>()).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
        Self {
            dir: Some(dir),
            random: Random(seed),
            vol0: Arc::new(Mutex::new(Record::new(BLOCK, BLOCKS))),
            fine: Arc::new(Mutex::new(Record::new(512, SECTORS))),
            copy: None,
            snapshot: None,
            half_made: None,
            by_fio: None,
            have_fio: common::have(&["fio"]),
        }
    }

    /// Start, look at everything, work, be killed. Three kinds take turns: each leaves something behind for the next one.
    fn round(&mut self, round: u64) {
        let begin = Instant::now();
        let what = format!("round {round}");
        let kind = round % 3;
        let copy_of = self.snapshot.as_ref().filter(|_| kind != 0).map(|(name, _)| name.as_str());
        let has_copy = copy_of.is_some();
        let target = Target::start_with(self.dir.take().expect("a folder"), &config(copy_of));
        self.expect_what_was_flushed(&what, &target, has_copy);
        if kind == 2 {
            self.go_back(&what, &target);
        }
        let load = self.load(target, has_copy);
        self.run_fio(&load.target, round);
        let name = format!("s{round}");
        match kind {
            0 => {
                self.delete_everything(&load.target);
                load.wait_for_answers(self.random.below(400));
                self.vol0.lock().expect("no panic").begin_snapshot();
                load.target.done(&["snapshot", "create", "vol0", &name]);
                self.snapshot = Some((name, self.vol0.lock().expect("no panic").end_snapshot()));
                load.wait_for_answers(200 + self.random.below(600));
                self.kill(load, Vec::new(), round);
            }
            1 => {
                load.wait_for_answers(200 + self.random.below(600));
                self.vol0.lock().expect("no panic").begin_snapshot();
                let create = start_command(&load.target, &["snapshot", "create", "vol0", &name]);
                self.kill(load, vec![create], round);
                self.half_made = Some((name, self.vol0.lock().expect("no panic").end_snapshot()));
            }
            _ => {
                load.wait_for_answers(200 + self.random.below(600));
                let names = snapshots(&load.target);
                let deletes = names.iter().map(|name| start_command(&load.target, &["snapshot", "delete", name]));
                let deletes = deletes.collect();
                self.kill(load, deletes, round);
            }
        }
        self.expect_sound(&what);
        eprintln!("round {round}: {:.1} s", begin.elapsed().as_secs_f64());
    }

    /// Every unit holds something that it may hold.
    fn expect_what_was_flushed(&mut self, what: &str, target: &Target, has_copy: bool) {
        let socket = target.dir.path().join("n");
        for (name, record) in [("vol0", &self.vol0), ("fine", &self.fine)] {
            settle(&socket, what, name, record);
        }
        if has_copy && self.copy.is_none() {
            let (name, allowance) = self.snapshot.as_ref().expect("made from it");
            let mut record = Record::new(BLOCK, BLOCKS);
            record.roll_back(allowance.clone());
            let record = Arc::new(Mutex::new(record));
            settle(&socket, &format!("{what}: a clone of {name}"), "copy", &record);
            self.copy = Some(record);
        } else if has_copy {
            settle(&socket, what, "copy", self.copy.as_ref().expect("has_copy"));
        }
        if let Some(area) = self.by_fio {
            let fio = fio(target, area, &["--verify_only=1"]).output().expect("it runs");
            let said = String::from_utf8_lossy(&fio.stdout) + String::from_utf8_lossy(&fio.stderr);
            assert!(fio.status.success(), "{what}: fio does not find what it flushed: {said}");
        }
    }

    /// Back to the snapshot that was being made when the target was killed, if it came to be.
    fn go_back(&mut self, what: &str, target: &Target) {
        let (name, allowance) = self.half_made.take().expect("the round before");
        let full = format!("vol0@{name}");
        if !snapshots(target).contains(&full) {
            eprintln!("{what}: {full} did not come to be");
            return;
        }
        until("the clients have left", || json(target, &["export", "list"])["nbd"]["connections"] == 0);
        target.done(&["snapshot", "rollback", "vol0", &name]);
        self.vol0.lock().expect("no panic").roll_back(allowance);
        settle(&target.dir.path().join("n"), &format!("{what}: rolled back to {full}"), "vol0", &self.vol0);
    }

    fn load(&mut self, target: Target, has_copy: bool) -> Load {
        let (is_doomed, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut writers = Vec::new();
        let mut start = |export, record: &Arc<Mutex<Record>>, areas: &[Range<usize>]| {
            let (socket, record) = (target.dir.path().join("n"), record.clone());
            let site = Site { socket, export, record, is_doomed: is_doomed.clone(), answered: answered.clone() };
            writers.extend(areas.iter().map(|area| site.start_writer(self.random.next(), area.clone())));
        };
        start("vol0", &self.vol0, &[0..BLOCKS / 2, BLOCKS / 2..BLOCKS]);
        start("fine", &self.fine, std::slice::from_ref(&(0..SECTORS)));
        if has_copy {
            start("copy", self.copy.as_ref().expect("has_copy"), std::slice::from_ref(&(0..BLOCKS)));
        }
        Load { target, writers, is_doomed, answered }
    }

    /// fio writes an area and flushes it; the other area was that of the round before.
    fn run_fio(&mut self, target: &Target, round: u64) {
        if self.have_fio {
            let fio = fio(target, round, &["--do_verify=0", "--end_fsync=1"]).output().expect("it runs");
            assert!(fio.status.success(), "{}", String::from_utf8_lossy(&fio.stderr));
            self.by_fio = Some(round);
        }
    }

    /// The clone and all snapshots go while clients write: their space becomes free in the background.
    fn delete_everything(&mut self, target: &Target) {
        if self.copy.take().is_some() {
            let key = target.dir.path().join("k");
            target.done(&["disk", "add", "copy", "--pool", "p", "--key-file", key.to_str().expect("text")]);
            target.done(&["disk", "delete", "copy"]);
        }
        for name in snapshots(target) {
            target.done(&["snapshot", "delete", &name]);
        }
        self.snapshot = None;
    }

    /// Kills the target while the commands run and fio writes to the area that is not to be looked at.
    fn kill(&mut self, load: Load, commands: Vec<Child>, round: u64) {
        let other = self.have_fio.then(|| {
            let mut fio = fio(&load.target, round + 1, &["--do_verify=0", "--fsync=8", "--loops=1000"]);
            fio.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        });
        // A command needs a while to reach the target: some are cut off before it does, some while they are carried out, some after.
        let longest = if commands.is_empty() { 30_000 } else { 200_000 };
        std::thread::sleep(Duration::from_micros(self.random.below(longest)));
        load.is_doomed.store(true, Ordering::SeqCst);
        self.dir = Some(load.target.kill());
        load.writers.into_iter().for_each(|writer| writer.join().expect("a writer found nothing wrong"));
        for mut child in commands.into_iter().chain(other) {
            child.wait().expect("a child");
        }
    }

    fn expect_sound(&self, what: &str) {
        let dir = self.dir.as_ref().expect("not running");
        let pool = dir.path().join("pool");
        let (out, err, code) = command(&["pool", "check", pool.to_str().expect("text")], &dir.path().join("nobody"));
        assert_eq!(code, 0, "{what}: {out}{err}");
    }

    /// In the end everything is deleted and trimmed, and nothing stays in use.
    fn end(&mut self) {
        let target = Target::start_with(self.dir.take().expect("a folder"), &config(None));
        self.expect_what_was_flushed("in the end", &target, false);
        self.delete_everything(&target);
        until("the clients have left", || json(&target, &["export", "list"])["nbd"]["connections"] == 0);
        for disk in ["vol0", "fine", "tested"] {
            let mut nbd = common::nbd_client::Client::silent(&target.dir.path().join("n")).greet().go(disk, false);
            assert_eq!(nbd.ask(common::nbd_client::TRIM, common::nbd_client::FUA, 0, 16 << 20).error, 0);
        }
        let allocated = |pool: &Value| {
            pool["contents"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|v| v["allocated_bytes"].as_u64().expect("a number"))
                .sum::<u64>()
        };
        until("all is free", || {
            let pool = json(&target, &["pool", "show", "p"]);
            allocated(&pool) == 0 && pool["freeing_bytes"] == 0
        });
        self.dir = Some(target.stop());
        self.expect_sound("in the end");
    }
}

impl Load {
    /// Waits until so many more commands were answered.
    fn wait_for_answers(&self, more: u64) {
        let wanted = self.answered.load(Ordering::SeqCst) + more;
        until("commands are answered", || self.answered.load(Ordering::SeqCst) >= wanted);
    }
}

fn settle(socket: &Path, what: &str, export: &str, record: &Mutex<Record>) {
    let mut record = record.lock().expect("no panic");
    let bytes = writer::read(socket, export, record.bytes());
    record.settle(&format!("{what}: {export}"), &bytes);
}

fn config(copy_of: Option<&str>) -> String {
    let cores: Vec<_> = allowed_cpus().iter().copied().take(2).collect();
    let mut text = format!(
        "[reactor]\nmemory_mib = 16\nhugepages = 'never'\ncores = {cores:?}\n[control]\nsocket = 'c'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '{POOL}'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n[nbd]\nlisten = ['unix:n']\n"
    );
    let mut disk = |name: &str, more: &str| {
        text += &format!(
            "[[disk]]\nname = '{name}'\npool = 'p'\n{more}\nencryption = {{ key_file = 'k' }}\n\
             [[nbd.exports]]\nname = '{name}'\ndisk = '{name}'\n"
        );
    };
    disk("vol0", "size = '1G'");
    disk("fine", "size = '64M'\nsector_size = 512");
    disk("tested", "size = '1G'");
    if let Some(snapshot) = copy_of {
        disk("copy", &format!("from_snapshot = 'vol0@{snapshot}'"));
    }
    text
}

/// fio on one of two areas, which rounds use in turn; its data follow from the round.
fn fio(target: &Target, round: u64, more: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    let uri = format!("--uri=nbd+unix:///tested?socket={}", target.dir.path().join("n").display());
    command.args(["60", "fio", "--name=kill", "--ioengine=nbd", &uri, "--rw=randwrite", "--bsrange=4k-64k"]);
    command.args(["--iodepth=16", "--size=4m", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1"]);
    command.args([format!("--offset={}m", 4 * (round % 2)), format!("--randseed={}", round + 1)]);
    command.args(more).stdin(Stdio::null());
    command
}

fn start_command(target: &Target, args: &[&str]) -> Child {
    let mut command = Command::new("timeout");
    command.arg("60").arg(env!("CARGO_BIN_EXE_strongroom")).args(args).env("STRONGROOM_SOCKET", target.socket());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn json(target: &Target, args: &[&str]) -> Value {
    serde_json::from_str(&target.done(&[args, &["--json"]].concat())).expect("JSON")
}

fn snapshots(target: &Target) -> Vec<String> {
    let listed = json(target, &["snapshot", "list"]);
    listed.as_array().expect("a list").iter().map(|s| s["name"].as_str().expect("a name").to_owned()).collect()
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
