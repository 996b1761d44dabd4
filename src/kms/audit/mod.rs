//! The audit log: who did what with which key, and what came of it. Nothing that is secret, and nothing about reads and writes of disks.
//!
//! A file of lines, one record each (`record.rs`), that is only ever appended to. Each record carries the hash of the one before, so that
//! what is edited, taken out or moved shows, and where. What always holds:
//!
//! - A record is on stable storage (fdatasync) before [`AuditLog::append`] returns, and records have the order of their numbers.
//! - A file is closed at [`AuditOptions::segment_bytes`] and renamed: `audit.log` is the newest, `audit.log.000001` the oldest. The chain goes on
//!   from file to file. `audit.log` is there at every moment, so a missing one was taken away.
//! - One process appends: it holds an exclusive flock(2). Everybody who may read the files can read and [`verify`] them meanwhile.
//! - A crash can leave the beginning of a record at the end, which nobody was told of. [`AuditLog::open`] sets it aside in `audit.log.torn.SEQ`, where
//!   SEQ is the number of the record that says so. A whole record stays, even without its line's end.
//! - A chain that is broken in any other way is never continued: nothing is appended until somebody has looked.
//!
//! # What this proves, and what it does not
//!
//! The hashes need no secret. They show every change by somebody who does not compute all later ones anew, such as a slip, a bad disk, or a
//! clumsy hand. **Whoever may write the files, root above all, can cut off the end of the log or write all of it anew, and nothing in the files will
//! show it.** Therefore the head, number and hash of the last record, is told to the process's log (target `audit`, level info) when the log
//! is opened, every [`HEAD_EVERY`] records, and when it is closed. Where those lines go to another machine, [`verify`] with such a head
//! proves that the log still holds that record and all before it as they were. What came after the last head that was kept elsewhere, it
//! cannot prove; nor that what the target recorded was true, nor that it recorded everything, if the target itself was replaced.

mod access_key;
mod chain;
mod current;
mod error;
mod event;
mod head;
mod lines;
mod log;
mod read;
mod record;
mod segments;
mod torn;

pub use access_key::AccessKeyId;
pub use chain::{Summary, verify};
pub use error::{AuditError, Broken, How};
pub use event::{Actor, Event, Operation, Outcome};
pub use head::{Hash, Head};
pub use log::{AuditLog, AuditOptions, HEAD_EVERY, usage};
pub use read::{Filter, Records, last, read};
pub use record::{Record, TooLong};

#[doc(inline)]
pub use crate::time::{Date, Month, Time};
