//! What can be wrong with an audit log, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::record::TooLong;

/// Why a log cannot be read, or not be appended to.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The system refuses. Nothing was recorded; the same may succeed later.
    #[error("audit log {path}: cannot {what}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else appends to it.
    #[error("audit log {path}: another process has it open; only one can append to it", path = .0.display())]
    InUse(PathBuf),
    /// It is no file of ours.
    #[error("audit log {path}: {why}", path = .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: &'static str,
    },
    /// The chain is broken.
    #[error("audit log {0}; nothing is appended to such a log: find out why, keep its files, and begin a new one")]
    Broken(#[from] Broken),
    /// The event cannot be a record.
    #[error("audit log {path}: {source}", path = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it would be.
        source: TooLong,
    },
    /// It cannot be known any more what is in the file.
    #[error("audit log {path}: nothing is appended to it any more until it is opened anew: {why}", path = .path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
        /// What has happened.
        why: String,
    },
}

impl AuditError {
    pub(super) fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, what, source }
    }

    pub(super) fn stopped(path: &Path, why: impl Into<String>) -> Self {
        Self::Stopped { path: path.to_owned(), why: why.into() }
    }
}

/// How a chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A record is not as it was written.
    Edited,
    /// Records were taken out.
    Missing,
    /// Records stand in another order, or twice.
    Reordered,
    /// The end is not there.
    CutOff,
    /// The chain is one, but not the one whose head was kept elsewhere.
    Rewritten,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edited => "edited",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::CutOff => "cut off",
            Self::Rewritten => "rewritten",
        })
    }
}

/// The first record that is not as it should be.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[error("{path} line {line}: record {seq} is {how}: {what}", path = .segment.display())]
pub struct Broken {
    /// The file.
    pub segment: PathBuf,
    /// The line in it, from 1 on.
    pub line: u64,
    /// The record that should be there.
    pub seq: u64,
    /// How it is broken.
    pub how: How,
    /// The same in more words.
    pub what: String,
}
