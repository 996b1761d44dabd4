//! The log as the target has it: opened, checked and counted once, then appended to.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tracing::{info, warn};

use crate::kms::usage::{FREE_CALLS, Usage, UsageBook};

use super::AuditError;
use super::chain::{Chain, PATIENCE, Step};
use super::current::Current;
use super::error::How;
use super::event::Event;
use super::head::Head;
use super::record::Record;
use super::torn;
use crate::time::Time;

/// Records between two heads that are told to the process's log.
pub const HEAD_EVERY: u64 = 256;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// A file that would become larger is closed, and a new one begun.
    pub segment_bytes: u64,
    /// Calls of an account in a month that cost nothing.
    pub free_calls: u64,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, free_calls: FREE_CALLS }
    }
}

/// An audit log that is open for appending, by any thread. It waits for the disk, so no reactor may call it.
pub struct AuditLog {
    writer: Mutex<Writer>,
}

struct Writer {
    current: Current,
    options: AuditOptions,
    head: Head,
    usage: UsageBook,
    /// Why nothing can be appended any more.
    stopped: Option<String>,
}

impl AuditLog {
    /// Opens a log, or begins one. All of it is read and checked.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        Self::open_with(path, AuditOptions::default())
    }

    /// The same, kept in another way.
    pub fn open_with(path: &Path, options: AuditOptions) -> Result<Self, AuditError> {
        let current = Current::open(path)?;
        let mut chain = Chain::open(path, Duration::ZERO)?;
        let mut usage = UsageBook::new(options.free_calls);
        let tail = loop {
            match chain.next()? {
                Step::Record(record) => usage.count(&record),
                Step::Unfinished(tail) => break Some(tail),
                Step::End => break None,
            }
        };
        let mut writer = Writer { current, options, head: chain.head(), usage, stopped: None };
        if let Some(tail) = tail {
            writer.mend(&tail)?;
        }
        writer.tell_of_torn()?;
        writer.tell_head();
        Ok(Self { writer: Mutex::new(writer) })
    }

    /// Records an event; when this returns, the record is on stable storage. After an error it is not, or that cannot be known, and
    /// whoever wanted to do something that has to be recorded must not do it.
    pub fn append(&self, event: &Event) -> Result<(), AuditError> {
        self.writer().append(event)
    }

    /// The last record.
    pub fn head(&self) -> Head {
        self.writer().head
    }

    /// Calls by account and month, the oldest month first.
    pub fn usage(&self) -> Vec<Usage> {
        self.writer().usage.reports()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no thread panics while it holds this lock")
    }
}

impl Writer {
    fn append(&mut self, event: &Event) -> Result<(), AuditError> {
        if let Some(why) = &self.stopped {
            return Err(AuditError::stopped(self.current.path(), why));
        }
        let record = Record::following(self.head, Time::now(), event);
        let written = self.write(&record);
        if let Err(AuditError::Stopped { why, .. }) = &written {
            self.stopped = Some(why.clone());
        }
        written?;
        self.took(&record);
        if record.seq.is_multiple_of(HEAD_EVERY) {
            self.tell_head();
        }
        Ok(())
    }

    fn write(&mut self, record: &Record) -> Result<(), AuditError> {
        let path = self.current.path().to_owned();
        let line = record.line().map_err(|source| AuditError::TooLong { path, source })?;
        if self.current.is_full(&line, self.options.segment_bytes) {
            self.current.rotate()?;
        }
        self.current.append(&line)
    }

    fn took(&mut self, record: &Record) {
        self.head = record.head();
        self.usage.count(record);
    }

    /// A record that is whole but for the end of its line stays; the beginning of one is set aside.
    fn mend(&mut self, tail: &[u8]) -> Result<(), AuditError> {
        let follows = |record: &Record| record.seq == self.head.seq + 1 && record.prev == self.head.hash;
        if let Some(record) = Record::parse(tail).ok().filter(follows) {
            self.current.append(b"\n")?;
            self.took(&record);
            return Ok(());
        }
        torn::set_aside(self.current.path(), self.head.seq + 1, tail)?;
        self.current.cut(tail.len() as u64)
    }

    fn tell_of_torn(&mut self) -> Result<(), AuditError> {
        let Some(event) = torn::event(self.current.path(), self.head.seq + 1)? else { return Ok(()) };
        warn!(target: "audit", "audit log {}: {:?}", self.current.path().display(), event.outcome);
        self.append(&event)
    }

    fn tell_head(&self) {
        info!(target: "audit", head = %self.head, "audit log {} ends with this record", self.current.path().display());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tell_head();
    }
}

/// Calls by account and month, from a log that nobody has to have open; the oldest month first.
pub fn usage(path: &Path, free_calls: u64) -> Result<Vec<Usage>, AuditError> {
    let mut chain = Chain::open(path, PATIENCE)?;
    let mut usage = UsageBook::new(free_calls);
    loop {
        match chain.next()? {
            Step::Record(record) => usage.count(&record),
            Step::Unfinished(_) => return Err(chain.broken(How::CutOff, "the last line has no end").into()),
            Step::End => return Ok(usage.reports()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use crate::kms::audit::record::tests::event;
    use crate::kms::audit::segments::{beside, numbered};
    use crate::kms::audit::{Actor, Operation, Outcome, verify};

    use super::*;

    fn place() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        (dir, path)
    }

    fn filled(path: &Path, records: u64) -> AuditLog {
        let log = AuditLog::open(path).expect("opened");
        (0..records).for_each(|_| log.append(&event()).expect("recorded"));
        log
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let (_dir, path) = place();
        let head = filled(&path, 3).head();
        assert_eq!(head.seq, 3);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let log = filled(&path, 2);
        assert_eq!(log.head().seq, 5);
        assert_eq!(verify(&path, Some(head)).expect("whole").head, log.head());
    }

    #[test]
    fn one_process_appends() {
        let (_dir, path) = place();
        let options = AuditOptions { segment_bytes: 1, ..AuditOptions::default() };
        let log = AuditLog::open_with(&path, options).expect("opened");
        for _ in 0..3 {
            // Each time in another file.
            assert!(matches!(AuditLog::open(&path), Err(AuditError::InUse(_))));
            log.append(&event()).expect("recorded");
        }
        drop(log);
        assert_eq!(filled(&path, 0).head().seq, 3);
    }

    #[test]
    fn what_is_no_log_of_ours_is_refused() {
        let (dir, path) = place();
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("linked");
        assert!(matches!(AuditLog::open(&path), Err(AuditError::Unfit { .. })));
        fs::remove_file(&path).expect("removed");
        filled(&path, 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).expect("mode set");
        let error = AuditLog::open(&path).err().expect("refused").to_string();
        assert!(error.contains("chmod go-w"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode set");
        assert_eq!(filled(&path, 0).head().seq, 1, "an auditor may be let read it");
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        assert!(AuditLog::open(&path).is_err());
    }

    #[test]
    fn a_file_that_somebody_touches_is_left_alone() {
        let (dir, path) = place();
        let log = filled(&path, 2);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut f| std::io::Write::write_all(&mut f, b"x"))
            .expect("written");
        let error = log.append(&event()).expect_err("stopped").to_string();
        assert!(error.contains("somebody has changed the file"), "{error}");
        assert!(matches!(log.append(&event()), Err(AuditError::Stopped { .. })), "and it stays so");
        drop(log);
        let (moved, log) = (dir.path().join("moved"), filled(&path, 1));
        assert_eq!(log.head().seq, 4, "the byte was set aside and told of");
        fs::rename(&path, &moved).expect("renamed");
        let error = log.append(&event()).expect_err("stopped").to_string();
        assert!(error.contains("moved, deleted or replaced"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_record_stops_nothing() {
        let (_dir, path) = place();
        let log = filled(&path, 1);
        let long = Event { disk: Some("x".repeat(100_000)), ..event() };
        assert!(matches!(log.append(&long), Err(AuditError::TooLong { .. })));
        log.append(&event()).expect("recorded");
        assert_eq!(log.head().seq, 2);
    }

    #[test]
    fn a_crash_between_the_steps_of_a_new_file_is_mended() {
        let (_dir, path) = place();
        let options = AuditOptions { segment_bytes: 1, ..AuditOptions::default() };
        let head = filled(&path, 1).head();
        fs::write(beside(&path, "next"), "").expect("written");
        fs::hard_link(&path, numbered(&path, 1)).expect("linked");
        assert_eq!(verify(&path, None).expect("whole").head, head, "a file with two names is read once");
        let log = AuditLog::open_with(&path, options).expect("opened");
        assert!(!beside(&path, "next").exists() && !numbered(&path, 1).exists());
        log.append(&event()).expect("recorded");
        assert!(numbered(&path, 1).exists() && !numbered(&path, 2).exists());
        drop(log);
        // Before anything was appended to the new file.
        fs::rename(&path, numbered(&path, 2)).expect("renamed");
        fs::write(&path, "").expect("written");
        let log = AuditLog::open_with(&path, options).expect("opened");
        log.append(&event()).expect("recorded");
        assert_eq!(verify(&path, Some(head)).expect("whole").head.seq, 3);
    }

    #[test]
    fn a_crash_between_the_steps_of_setting_aside_is_told_of() {
        let (_dir, path) = place();
        filled(&path, 1);
        let append = |bytes: &[u8]| {
            let file = fs::OpenOptions::new().append(true).open(&path);
            file.and_then(|mut file| std::io::Write::write_all(&mut file, bytes)).expect("written");
        };
        // The tail was kept and taken from the log, and of the record that tells of it only the beginning was written.
        torn::set_aside(&path, 2, b"{\"seq\":2,\"ti").expect("set aside");
        append(b"{\"seq\":2,");
        let log = filled(&path, 0);
        assert_eq!(log.head().seq, 2);
        drop(log);
        assert_eq!(fs::read(beside(&path, "torn.000002")).expect("read"), b"{\"seq\":2,\"ti{\"seq\":2,");
        // Kept, and not yet taken from the log.
        torn::set_aside(&path, 3, b"{\"se").expect("set aside");
        append(b"{\"se");
        assert_eq!(filled(&path, 0).head().seq, 3);
        assert_eq!(fs::read(beside(&path, "torn.000003")).expect("read"), b"{\"se");
        assert_eq!(filled(&path, 0).head().seq, 3, "it is told once");
    }

    #[test]
    fn usage_is_the_same_however_it_is_counted() {
        let (_dir, path) = place();
        let options = AuditOptions { free_calls: 3, ..AuditOptions::default() };
        let log = AuditLog::open_with(&path, options).expect("opened");
        let failed = || Outcome::Failed("no".to_owned());
        for (operation, outcome) in [
            (Operation::CreateDisk, Outcome::Done),
            (Operation::Attach, Outcome::Done),
            (Operation::Attach, failed()),
            (Operation::Detach, Outcome::Done),
            (Operation::Snapshot, Outcome::Done),
            (Operation::Rotate, Outcome::Done),
            (Operation::DeleteDisk, failed()),
        ] {
            log.append(&Event { operation, outcome, ..event() }).expect("recorded");
        }
        // Nobody's: it is not billed.
        log.append(&Event::new(Actor::System, Operation::Attach, Outcome::Done)).expect("recorded");
        let kept = log.usage();
        let [Usage { calls: 5, failed: 1, free_quota: 3, beyond: 2, by_operation, .. }] = &kept[..] else {
            panic!("{kept:?}")
        };
        assert_eq!(by_operation[&Operation::Attach], 2);
        let json = serde_json::to_value(&kept).expect("JSON");
        assert_eq!(json[0]["by_operation"]["create_disk"], 1);
        assert_eq!(serde_json::from_value::<Vec<Usage>>(json).expect("usage"), kept);
        assert_eq!(super::usage(&path, 3).expect("read"), kept);
        drop(log);
        assert_eq!(AuditLog::open_with(&path, options).expect("opened").usage(), kept);
    }

    #[test]
    fn threads_share_a_log() {
        let (_dir, path) = place();
        let log = filled(&path, 0);
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| (0..25).for_each(|_| log.append(&event()).expect("recorded")))));
        });
        assert_eq!(verify(&path, Some(log.head())).expect("whole").head.seq, 100);
    }
}
