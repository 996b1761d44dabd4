//! Follows the chain through all files: each record is as it was written, and follows the one before.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::AuditError;
use super::error::{Broken, How};
use super::head::Head;
use super::lines::{Kind, Lines};
use super::record::Record;
use super::segments::open_all;
use crate::time::Time;

/// A process that appends writes a line at once: what is unfinished for so long stays so.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// What the next step along the chain has found.
pub(super) enum Step {
    Record(Box<Record>),
    /// The beginning of a record, as a crash leaves it, at the very end.
    Unfinished(Vec<u8>),
    End,
}

/// A walk along the chain. After an error or an end there is nothing more to find.
pub(super) struct Chain {
    lines: Lines,
    head: Head,
}

impl Chain {
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, AuditError> {
        Ok(Self { lines: Lines::new(open_all(path)?, patience), head: Head::START })
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// A finding about the line at which the walk has come to stand.
    pub(super) fn broken(&self, how: How, what: impl Into<String>) -> Broken {
        self.lines.broken(self.head.seq + 1, how, what)
    }

    pub(super) fn next(&mut self) -> Result<Step, AuditError> {
        let seq = self.head.seq + 1;
        match self.lines.next(seq)? {
            None => return Ok(Step::End),
            Some(Kind::Whole) => {}
            Some(Kind::Unfinished { is_current: true }) => return Ok(Step::Unfinished(self.lines.bytes().to_vec())),
            Some(Kind::Unfinished { is_current: false }) => {
                let what = "the file ends within a line, and newer ones follow";
                return Err(self.lines.broken(seq, How::CutOff, what).into());
            }
            Some(Kind::TooLong) => {
                return Err(self.lines.broken(seq, How::Edited, "no record is so long").into());
            }
        }
        let record = match Record::parse(self.lines.bytes()) {
            Ok(record) => record,
            Err(e) => return Err(self.lines.broken(seq, How::Edited, e.to_string()).into()),
        };
        if record.seq != seq {
            return Err(self.out_of_place(record.seq)?.into());
        }
        if record.prev != self.head.hash {
            let what =
                "it does not follow the record before it: one of the two was written anew, with a hash that fits";
            return Err(self.lines.broken(seq, How::Edited, what).into());
        }
        self.head = record.head();
        Ok(Step::Record(Box::new(record)))
    }

    /// A whole record stands where another one should: what has become of that?
    fn out_of_place(&mut self, found: u64) -> Result<Broken, AuditError> {
        let seq = self.head.seq + 1;
        if found < seq {
            let what = format!("record {found}, which stood before, stands here again");
            return Ok(self.lines.broken(seq, How::Reordered, what));
        }
        let here = self.lines.broken(seq, How::Missing, missing(seq, found));
        // A file that is gone at the end changes nothing about this.
        while let Ok(Some(kind)) = self.lines.next(seq) {
            let record = if kind == Kind::Whole { Record::parse(self.lines.bytes()).ok() } else { None };
            if record.is_some_and(|record| record.seq == seq) {
                let there = self.lines.broken(seq, How::Reordered, "");
                let what = format!(
                    "record {found} stands here, and record {seq} in {} line {}",
                    there.segment.display(),
                    there.line
                );
                return Ok(Broken { how: How::Reordered, what, ..here });
            }
        }
        Ok(here)
    }
}

fn missing(seq: u64, found: u64) -> String {
    match found - 1 {
        last if last == seq => format!("record {found} stands in its place"),
        last => format!("records {seq} to {last} are not there; record {found} stands in their place"),
    }
}

/// What a whole chain is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its last record: what to keep elsewhere.
    pub head: Head,
    /// When the first record was written.
    pub first: Option<Time>,
    /// When the last one was written.
    pub last: Option<Time>,
}

/// Reads all of a log and checks every record; with a head that was kept elsewhere, also that the log holds that record, with that hash.
///
/// A log may be verified while a target appends to it: what it appends meanwhile is checked or not.
pub fn verify(path: &Path, expected: Option<Head>) -> Result<Summary, AuditError> {
    let mut chain = Chain::open(path, PATIENCE)?;
    let (mut first, mut last) = (None, None);
    loop {
        match chain.next()? {
            Step::Record(record) => {
                first.get_or_insert(record.time);
                last = Some(record.time);
                if let Some(kept) = expected.filter(|kept| kept.seq == record.seq && kept.hash != record.hash) {
                    return Err(rewritten(&chain, kept).into());
                }
            }
            Step::Unfinished(bytes) => {
                let what = format!(
                    "the last line has no end after {} bytes: a crash leaves that, and so does whoever cuts; opening the log sets it aside",
                    bytes.len()
                );
                return Err(chain.broken(How::CutOff, what).into());
            }
            Step::End => break,
        }
    }
    let head = chain.head();
    match expected {
        Some(kept) if kept.seq > head.seq => {
            let what = format!("the log ends with record {}, and once had record {}", head.seq, kept.seq);
            Err(chain.lines.broken_end(head.seq + 1, How::CutOff, what).into())
        }
        Some(kept) if kept.seq == 0 && kept != Head::START => Err(rewritten(&chain, kept).into()),
        _ => Ok(Summary { head, first, last }),
    }
}

fn rewritten(chain: &Chain, kept: Head) -> Broken {
    let what = "its hash is not the one that was kept: it, or something before it, was replaced, and all hashes since computed anew";
    chain.lines.broken(kept.seq, How::Rewritten, what)
}
