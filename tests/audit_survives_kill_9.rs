//! A process that is killed while it appends to an audit log loses no record that it was told of, and neither does one whose disk is full: the
//! chain is whole afterwards, and goes on.
//!
//! Killing a process loses nothing that the kernel has; what a power cut leaves, an unfinished record of any length, is made by hand.

mod common;
mod trail;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::random::Random;
use strongroom::kms::audit::{AuditError, AuditLog, Filter, Head, Operation, Outcome, last, read, verify};
use trail::{event, options};

/// The log that the child appends to.
const PATH: &str = "STRONGROOM_TEST_AUDIT_LOG";
/// A few records each, so that many kills meet the change to a new file.
const SEGMENT: u64 = 1200;
const ROUNDS: u64 = 25;

/// What the child does; by itself this test has nothing to do.
#[test]
fn child() {
    let Ok(path) = std::env::var(PATH) else { return };
    let log = AuditLog::open_with(Path::new(&path), options(SEGMENT)).expect("opened");
    for n in 0.. {
        let said = match log.append(&event(n)) {
            Ok(()) => format!("ack {}\n", log.head()),
            Err(AuditError::Io { source, .. }) => format!("full {source}\n"),
            Err(e) => panic!("{e}"),
        };
        // Past the test's own output, which is kept back.
        std::io::stderr().write_all(said.as_bytes()).expect("somebody listens");
        if said.starts_with("full") && n % 2 == 1 {
            return;
        }
    }
}

fn start(path: &Path, before: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let this = std::env::current_exe().expect("a path");
    let mut child = Command::new("bash")
        .args(["-c", &format!("{before} exec \"$0\" child --exact --nocapture --test-threads=1")])
        .arg(this)
        .env(PATH, path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let said = BufReader::new(child.stderr.take().expect("a pipe"));
    (child, said)
}

/// The last record that the child was told of.
fn last_acknowledged(said: impl BufRead) -> Option<Head> {
    let lines = said.lines().map_while(Result::ok).inspect(|line| assert!(!line.contains("panicked"), "{line}"));
    lines.filter_map(|line| line.strip_prefix("ack ").and_then(|head| head.parse().ok())).last()
}

#[test]
fn every_acknowledged_record_is_there_after_each_kill() {
    let mut random = Random(Random::seed("AUDIT_KILL_SEED"));
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("audit.log");
    let mut acknowledged = None;
    for round in 0..ROUNDS {
        let (mut child, mut said) = start(&path, "");
        let mut line = String::new();
        while !line.starts_with("ack ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("text"), 0, "round {round}: the child ended");
        }
        let first: Head = line["ack ".len()..].trim().parse().expect("a head");
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let head = last_acknowledged(said).unwrap_or(first);
        if let Err(e) = verify(&path, Some(head)) {
            panic!("round {round}: {e}");
        }
        if let Some(before) = acknowledged.replace(head) {
            verify(&path, Some(before)).expect("and what was acknowledged before");
        }
    }
    let records = read(&path, Filter::default()).expect("opened").count() as u64;
    eprintln!("{records} records after {ROUNDS} kills");
    assert!(dir.path().join("audit.log.000001").exists(), "new files were begun");
}

#[test]
fn a_full_disk_leaves_a_whole_chain() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("audit.log");
    // No file may have more than 1 KiB: a record is written in part, and the rest of it refused (EFBIG). Standard error is a pipe.
    let (mut child, said) = start(&path, "trap '' XFSZ; ulimit -f 1;");
    let lines: Vec<String> = said.lines().map_while(Result::ok).collect();
    assert!(child.wait().expect("ended").success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("full ")), "{lines:?}");
    let head: Head =
        lines.iter().rev().find_map(|line| line.strip_prefix("ack ")).expect("acknowledged").parse().expect("a head");
    assert_eq!(verify(&path, Some(head)).expect("whole").head, head, "nothing of what was refused is left");
    let log = AuditLog::open_with(&path, options(SEGMENT)).expect("opened");
    log.append(&event(0)).expect("there is room now");
    assert_eq!(log.head().seq, head.seq + 1);
}

#[test]
fn an_unfinished_record_is_set_aside_and_told_of() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("whole");
    let log = AuditLog::open(&path).expect("opened");
    (1..=3).for_each(|n| log.append(&event(n)).expect("recorded"));
    drop(log);
    let whole = fs::read(&path).expect("read");
    let second = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).expect("three lines").0 + 1;
    for len in second..whole.len() {
        let site = tempfile::tempdir_in(&dir).expect("a directory");
        let path = site.path().join("audit.log");
        fs::write(&path, &whole[..len]).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode set");
        let log = AuditLog::open(&path).expect("opened");
        let (is_cut, is_whole) = (len > second && len < whole.len() - 1, len == whole.len() - 1);
        assert_eq!(log.head().seq, 2 + u64::from(is_cut || is_whole), "{len}");
        log.append(&event(4)).expect("recorded");
        let head = log.head();
        drop(log);
        verify(&path, Some(head)).expect("whole");
        let records: Vec<_> = read(&path, Filter::default()).expect("opened").map(|r| r.expect("a record")).collect();
        let aside = site.path().join("audit.log.torn.000003");
        assert_eq!(aside.exists(), is_cut, "{len}");
        if is_cut {
            assert_eq!(fs::read(&aside).expect("read"), &whole[second..len], "nothing is thrown away");
            assert_eq!(records[2].operation, Operation::RecoverLog);
            let Outcome::Failed(why) = &records[2].outcome else { panic!("it says what was found") };
            assert!(why.contains(&format!("{} bytes", len - second)) && why.contains("audit.log.torn.000003"), "{why}");
        }
        assert_eq!(is_whole, records[2].disk.as_deref() == Some("vol3"), "a whole record without its line's end stays");
        assert_eq!(last(&path, &Filter::default(), 1).expect("read")[0].disk.as_deref(), Some("vol4"));
    }
}
