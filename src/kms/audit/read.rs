//! Reading records, of which only those that are asked for are kept.
//!
//! Each record is checked against its own hash, but not against its neighbours: that is [`verify`](super::verify).

use std::collections::VecDeque;
use std::path::Path;

use super::AuditError;
use super::chain::PATIENCE;
use super::error::How;
use super::event::Operation;
use super::lines::{Kind, Lines};
use super::record::Record;
use super::segments::{Segment, open_all};

/// Which records; all of what is given has to be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those of this account.
    pub account: Option<String>,
    /// Those about this disk.
    pub disk: Option<String>,
    /// Those about this CMK.
    pub key: Option<String>,
    /// Those of this operation.
    pub operation: Option<Operation>,
    /// Those from this number on.
    pub since: Option<u64>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.account, &record.account)
            && is(&self.disk, &record.disk)
            && is(&self.key, &record.key)
            && self.operation.is_none_or(|wanted| wanted == record.operation)
            && self.since.is_none_or(|since| record.seq >= since)
    }
}

/// Records in their order. What cannot be read is an error, and the last item.
pub struct Records {
    lines: Lines,
    filter: Filter,
    /// The number of the record that was read last.
    seq: u64,
    is_at_end: bool,
}

/// The records of a log.
pub fn read(path: &Path, filter: Filter) -> Result<Records, AuditError> {
    Ok(Records::of(open_all(path)?, filter))
}

/// The last records of a log, at most so many of those that the filter takes. Looks at the newest file first, and no further than it has to.
pub fn last(path: &Path, filter: &Filter, most: usize) -> Result<VecDeque<Record>, AuditError> {
    let mut found = VecDeque::new();
    for segment in open_all(path)?.into_iter().rev() {
        if found.len() == most {
            break;
        }
        let room = most - found.len();
        let mut newest = VecDeque::new();
        for record in Records::of(vec![segment], filter.clone()) {
            if newest.len() == room {
                newest.pop_front();
            }
            newest.push_back(record?);
        }
        newest.append(&mut found);
        found = newest;
    }
    Ok(found)
}

impl Records {
    fn of(segments: Vec<Segment>, filter: Filter) -> Self {
        Self { lines: Lines::new(segments, PATIENCE), filter, seq: 0, is_at_end: false }
    }

    fn step(&mut self) -> Result<Option<Record>, AuditError> {
        let seq = self.seq + 1;
        while let Some(kind) = self.lines.next(self.seq + 1)? {
            let (how, what) = match kind {
                Kind::Whole => match Record::parse(self.lines.bytes()) {
                    Ok(record) => {
                        self.seq = record.seq;
                        if self.filter.takes(&record) {
                            return Ok(Some(record));
                        }
                        continue;
                    }
                    Err(e) => (How::Edited, e.to_string()),
                },
                Kind::Unfinished { .. } => (How::CutOff, "the last line has no end".to_owned()),
                Kind::TooLong => (How::Edited, "no record is so long".to_owned()),
            };
            return Err(self.lines.broken(seq, how, what).into());
        }
        Ok(None)
    }
}

impl Iterator for Records {
    type Item = Result<Record, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_at_end {
            return None;
        }
        let step = self.step();
        self.is_at_end = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
