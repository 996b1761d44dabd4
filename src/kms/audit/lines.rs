//! The lines of a log, file after file, one at a time in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::AuditError;
use super::error::{Broken, How};
use super::record::LONGEST_LINE;
use super::segments::Segment;

const READ_BYTES: usize = 256 << 10;
/// Between two looks whether the rest of a line has come.
const PAUSE: Duration = Duration::from_millis(5);

/// What stands in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line with its end, which [`Lines::bytes`] leaves out.
    Whole,
    /// The last one of its file, without its end.
    Unfinished { is_current: bool },
    /// No record is so long.
    TooLong,
}

/// Cuts files into lines.
pub(super) struct Lines {
    rest: std::vec::IntoIter<Segment>,
    now: Option<Now>,
    segment: PathBuf,
    line: u64,
    bytes: Vec<u8>,
    patience: Duration,
}

struct Now {
    reader: BufReader<File>,
    is_current: bool,
}

impl Lines {
    /// A process that has the log open may be in the middle of writing the last line: that much time is left to it.
    pub(super) fn new(segments: Vec<Segment>, patience: Duration) -> Self {
        Self { rest: segments.into_iter(), now: None, segment: PathBuf::new(), line: 0, bytes: Vec::new(), patience }
    }

    /// What was read last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A finding about the line that was read last, where `seq` should stand.
    pub(super) fn broken(&self, seq: u64, how: How, what: impl Into<String>) -> Broken {
        Broken { segment: self.segment.clone(), line: self.line, seq, how, what: what.into() }
    }

    /// A finding about the line that is not there.
    pub(super) fn broken_end(&self, seq: u64, how: How, what: impl Into<String>) -> Broken {
        Broken { line: self.line + 1, ..self.broken(seq, how, what) }
    }

    /// The next line; `None` behind the last one. `seq` is the record that should come, for what is said about a file that is gone.
    pub(super) fn next(&mut self, seq: u64) -> Result<Option<Kind>, AuditError> {
        loop {
            if let Some(mut now) = self.now.take() {
                let kind = self.read(&mut now)?;
                if kind.is_some() {
                    self.now = Some(now);
                    return Ok(kind);
                }
            }
            let (path, file, is_current) = match self.rest.next() {
                None => return Ok(None),
                Some(Segment::Current(path, file)) => (path, file, true),
                Some(Segment::Older(path)) => {
                    let file = File::open(&path).map_err(AuditError::io(&path, "open it"))?;
                    (path, file, false)
                }
                Some(Segment::Gone(path)) => {
                    (self.segment, self.line) = (path, 1);
                    return Err(self.broken(seq, How::Missing, "the newest file of the log is gone").into());
                }
            };
            (self.segment, self.line) = (path, 0);
            self.now = Some(Now { reader: BufReader::with_capacity(READ_BYTES, file), is_current });
        }
    }

    fn read(&mut self, now: &mut Now) -> Result<Option<Kind>, AuditError> {
        self.bytes.clear();
        self.read_more(now)?;
        if now.is_current && self.is_unfinished() && is_appended_to(now.reader.get_ref()) {
            let deadline = Instant::now() + self.patience;
            while self.is_unfinished() && Instant::now() < deadline {
                std::thread::sleep(PAUSE);
                self.read_more(now)?;
            }
        }
        if self.bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        Ok(Some(match self.bytes.pop_if(|last| *last == b'\n') {
            Some(_) => Kind::Whole,
            None if self.bytes.len() >= LONGEST_LINE => Kind::TooLong,
            None => Kind::Unfinished { is_current: now.is_current },
        }))
    }

    fn is_unfinished(&self) -> bool {
        !self.bytes.is_empty() && self.bytes.len() < LONGEST_LINE && self.bytes.last() != Some(&b'\n')
    }

    fn read_more(&mut self, now: &mut Now) -> Result<(), AuditError> {
        let room = LONGEST_LINE - self.bytes.len();
        let read = now.reader.by_ref().take(room as u64).read_until(b'\n', &mut self.bytes);
        read.map(|_| ()).map_err(AuditError::io(&self.segment, "read it"))
    }
}

/// Whether a process has the log open. That is asked by taking its lock for a moment, which whoever opens a log bears.
fn is_appended_to(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            // If this fails, the lock goes with the file.
            let _ = file.unlock();
            false
        }
        Err(_) => true,
    }
}
