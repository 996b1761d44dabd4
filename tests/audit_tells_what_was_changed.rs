//! Whatever somebody changes in the files of an audit log, verifying it tells the first record that is not as it was, where, and how; what
//! no hash chain can show, shows against a head that was kept elsewhere.

mod trail;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use strongroom::kms::audit::{AuditError, AuditLog, Broken, Head, How, verify};
use tempfile::TempDir;
use trail::{event, options};

/// A log of several files, and what stands in them.
struct Site {
    dir: TempDir,
    files: Vec<(PathBuf, Vec<u8>)>,
    head: Head,
}

/// Small files, so that there are several.
const SEGMENT: u64 = 1500;
const RECORDS: u64 = 9;

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let path = dir.path().join("audit.log");
        let log = AuditLog::open_with(&path, options(SEGMENT)).expect("opened");
        (1..=RECORDS).for_each(|n| log.append(&event(n)).expect("recorded"));
        let head = log.head();
        drop(log);
        let mut paths: Vec<PathBuf> =
            fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        // The newest one has no number, and is the last.
        paths.rotate_left(1);
        let files: Vec<_> = paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("read"))).collect();
        assert!(files.len() >= 3, "there are several files");
        Self { dir, files, head }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// The finding when a file holds something else; afterwards it is as before.
    fn with(&self, file: usize, content: &[u8], head: Option<Head>) -> Result<(), Broken> {
        let (path, before) = &self.files[file];
        fs::write(path, content).expect("written");
        let found = finding(&self.path(), head);
        fs::write(path, before).expect("written");
        found
    }

    fn lines(&self, file: usize) -> Vec<Vec<u8>> {
        self.files[file].1.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// Records in the files before.
    fn before(&self, file: usize) -> u64 {
        (0..file).map(|file| self.lines(file).len() as u64).sum()
    }
}

fn finding(path: &Path, head: Option<Head>) -> Result<(), Broken> {
    match verify(path, head) {
        Ok(_) => Ok(()),
        Err(AuditError::Broken(broken)) => Err(broken),
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn nothing_is_told_of_a_log_as_it_was() {
    let site = Site::new();
    let summary = verify(&site.path(), Some(site.head)).expect("whole");
    assert_eq!((summary.head, summary.head.seq), (site.head, RECORDS));
    assert!(summary.first <= summary.last && summary.first.is_some());
    assert!(verify(&site.path(), None).is_ok());
    assert!(matches!(verify(&site.dir.path().join("other"), None), Err(AuditError::Io { .. })));
}

#[test]
fn every_byte_that_is_edited_shows() {
    let site = Site::new();
    for file in 0..site.files.len() {
        let (path, content) = &site.files[file];
        let mut line = 1;
        for at in 0..content.len() {
            let other = [content[at] ^ 0x20, b'\n', b'"', b' ', 0xff][at % 5];
            for changed in [content[at] ^ 1, other] {
                if changed == content[at] {
                    continue;
                }
                let mut other = content.clone();
                other[at] = changed;
                let broken = site.with(file, &other, None).expect_err("it shows");
                assert_eq!((&broken.segment, broken.line), (path, line), "byte {at}: {broken}");
                assert_eq!(broken.seq, site.before(file) + line, "byte {at}: {broken}");
                let is_last = at == content.len() - 1;
                assert_eq!(broken.how, if is_last { How::CutOff } else { How::Edited }, "byte {at}: {broken}");
            }
            line += u64::from(content[at] == b'\n');
        }
    }
}

#[test]
fn every_byte_that_is_put_in_or_taken_out_shows() {
    let site = Site::new();
    let content = &site.files[1].1;
    for at in 0..content.len() {
        let mut fewer = content.clone();
        fewer.remove(at);
        site.with(1, &fewer, None).expect_err("it shows");
        for byte in [b' ', b'\n', b'0'] {
            let mut more = content.clone();
            more.insert(at, byte);
            site.with(1, &more, None).expect_err("it shows");
        }
    }
}

#[test]
fn every_line_that_is_taken_out_is_named() {
    let site = Site::new();
    for file in 0..site.files.len() {
        let lines = site.lines(file);
        for at in 0..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(at);
            let seq = site.before(file) + at as u64 + 1;
            let found = site.with(file, &fewer.concat(), None);
            if seq == RECORDS {
                assert_eq!(found, Ok(()), "nobody can tell whether there was one more");
                let broken = site.with(file, &fewer.concat(), Some(site.head)).expect_err("it shows");
                assert_eq!((broken.how, broken.seq), (How::CutOff, RECORDS), "{broken}");
                continue;
            }
            let broken = found.expect_err("it shows");
            assert_eq!((broken.how, broken.seq), (How::Missing, seq), "{broken}");
        }
    }
}

#[test]
fn all_lines_that_are_swapped_or_repeated_are_named() {
    let site = Site::new();
    let lines = site.lines(0);
    for one in 0..lines.len() {
        for other in one + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(one, other);
            let broken = site.with(0, &swapped.concat(), None).expect_err("it shows");
            assert_eq!((broken.how, broken.seq, broken.line), (How::Reordered, one as u64 + 1, one as u64 + 1));
            assert!(broken.what.contains(&format!("line {}", other + 1)), "{broken}");
        }
        let mut twice = lines.clone();
        twice.insert(one, lines[one].clone());
        let broken = site.with(0, &twice.concat(), None).expect_err("it shows");
        assert_eq!((broken.how, broken.line), (How::Reordered, one as u64 + 2), "{broken}");
    }
}

#[test]
fn every_cut_of_the_end_shows_against_a_head() {
    let site = Site::new();
    let last = site.files.len() - 1;
    let content = &site.files[last].1;
    for len in 0..content.len() {
        let is_between_records = len == 0 || content[len - 1] == b'\n';
        match site.with(last, &content[..len], None) {
            Ok(()) => assert!(is_between_records, "{len}"),
            Err(broken) => assert!(broken.how == How::CutOff && !is_between_records, "{len}: {broken}"),
        }
        let broken = site.with(last, &content[..len], Some(site.head)).expect_err("it shows");
        let whole = content[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!((broken.how, broken.seq), (How::CutOff, site.before(last) + whole + 1), "{len}: {broken}");
    }
}

#[test]
fn files_that_are_gone_or_change_places_are_named() {
    let site = Site::new();
    for file in 0..site.files.len() {
        let (path, content) = &site.files[file];
        fs::remove_file(path).expect("removed");
        let broken = finding(&site.path(), None).expect_err("it shows");
        assert_eq!((broken.how, broken.seq), (How::Missing, site.before(file) + 1), "{broken}");
        fs::write(path, content).expect("written");
    }
    let (first, second) = (&site.files[0], &site.files[1]);
    fs::write(&first.0, &second.1).expect("written");
    fs::write(&second.0, &first.1).expect("written");
    let broken = finding(&site.path(), None).expect_err("it shows");
    assert_eq!((broken.how, broken.seq, &broken.segment), (How::Reordered, 1, &first.0), "{broken}");
}

#[test]
fn a_chain_that_was_computed_anew_shows_against_a_head_only() {
    let site = Site::new();
    let other = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = other.path().join("audit.log");
    let forged = AuditLog::open(&path).expect("opened");
    (1..=RECORDS + 1).for_each(|n| forged.append(&event(n + 1)).expect("recorded"));
    drop(forged);
    assert_eq!(finding(&path, None), Ok(()), "it is a chain");
    let broken = finding(&path, Some(site.head)).expect_err("it shows");
    assert_eq!((broken.how, broken.seq, broken.line), (How::Rewritten, RECORDS, RECORDS), "{broken}");
    // One record alone, computed anew with a hash that fits, breaks the chain at the next one.
    let mut lines = site.lines(0);
    lines[0] = fs::read(&path).expect("read").split_inclusive(|byte| *byte == b'\n').next().expect("a line").to_vec();
    let broken = site.with(0, &lines.concat(), None).expect_err("it shows");
    assert_eq!((broken.how, broken.seq, broken.line), (How::Edited, 2, 2), "{broken}");
}

#[test]
fn nothing_is_appended_to_a_broken_log() {
    let site = Site::new();
    for file in 0..site.files.len() {
        let (path, content) = &site.files[file];
        let mut other = content.clone();
        other[10] ^= 1;
        fs::write(path, &other).expect("written");
        let error = AuditLog::open_with(&site.path(), options(SEGMENT)).err().expect("refused").to_string();
        assert!(error.contains("is edited") && error.contains("nothing is appended"), "{error}");
        assert_eq!(fs::read(path).expect("read"), other, "nothing was changed");
        fs::write(path, content).expect("written");
    }
    fs::remove_file(site.path()).expect("removed");
    let error = AuditLog::open_with(&site.path(), options(SEGMENT)).err().expect("refused").to_string();
    assert!(error.contains("is missing") && !site.path().exists(), "{error}");
}

fn audit(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_strongroom"), "audit"]).args(args).output().expect("it runs")
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn the_command_says_it_and_fails() {
    let site = Site::new();
    let path = site.path();
    let path = path.to_str().expect("text");
    let head = site.head.to_string();
    let sound = audit(&["verify", path, "--head", &head]);
    assert!(sound.status.success() && printed(&sound).contains(&format!("head {head}")), "{sound:?}");
    let sound: Value = serde_json::from_str(&printed(&audit(&["verify", path, "--json"]))).expect("JSON");
    assert_eq!((&sound["sound"], &sound["head"]), (&true.into(), &head.into()));
    assert_eq!(audit(&["verify", path, "--head", "9"]).status.code(), Some(2));

    let shown = printed(&audit(&["show", path, "--last", "2"]));
    assert!(shown.lines().count() == 3 && shown.contains("vol9") && shown.contains("uid 1000, pid 9"), "{shown}");
    let shown =
        printed(&audit(&["show", path, "--disk", "vol3", "--operation", "attach", "--account", "acme", "--json"]));
    let record: Value = serde_json::from_str(&shown).expect("one line of JSON");
    assert_eq!((&record["seq"], &record["disk"]), (&3.into(), &"vol3".into()));
    assert_eq!(printed(&audit(&["show", path, "--since", "8", "--key", "key-1", "--json"])).lines().count(), 2);
    assert_eq!(audit(&["show", path, "--operation", "wombat"]).status.code(), Some(2));
    let usage = printed(&audit(&["usage", path, "--free", "5"]));
    assert!(usage.contains("acme") && usage.contains("attach 9"), "{usage}");
    let usage: Value = serde_json::from_str(&printed(&audit(&["usage", path, "--free", "5", "--json"]))).expect("JSON");
    assert_eq!((&usage[0]["calls"], &usage[0]["beyond"]), (&9.into(), &4.into()));

    let mut other = site.files[1].1.clone();
    other[10] ^= 1;
    fs::write(&site.files[1].0, other).expect("written");
    let broken = audit(&["verify", path]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(printed(&broken).contains("audit.log.000002 line 1") && printed(&broken).contains("edited"), "{broken:?}");
    let json = audit(&["verify", path, "--json"]);
    let found: Value = serde_json::from_str(&printed(&json)).expect("JSON");
    assert_eq!((json.status.code(), &found["sound"], &found["how"]), (Some(1), &false.into(), &"edited".into()));
    assert_eq!(audit(&["show", path]).status.code(), Some(1));
    assert_eq!(audit(&["usage", path]).status.code(), Some(1));
}
