//! The files of a log, and in which order they stand.
//!
//! `audit.log` becomes `audit.log.000001` by a second name (link), and a new file then takes the first name (rename). Between the two steps a file has two
//! names, and a reader that opened `audit.log` before finds its file among the older ones: both are told by the inode.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::AuditError;

/// A file that is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Older {
    pub(super) number: u32,
    pub(super) path: PathBuf,
}

/// A file to read.
pub(super) enum Segment {
    Older(PathBuf),
    /// Opened before the folder was looked through.
    Current(PathBuf, File),
    /// It is not there, and has to be.
    Gone(PathBuf),
}

/// All files of a log, the oldest first. A log has a current file; a path without any file is an error.
pub(super) fn open_all(path: &Path) -> Result<Vec<Segment>, AuditError> {
    let current = match File::open(path) {
        Ok(file) => Some(file),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(AuditError::io(path, "open it")(e)),
    };
    let mut older = older(path).map_err(AuditError::io(path, "list its folder"))?;
    let Some(current) = current else {
        if older.is_empty() {
            return Err(AuditError::io(path, "open it")(ErrorKind::NotFound.into()));
        }
        let older = older.into_iter().map(|older| Segment::Older(older.path));
        return Ok(older.chain([Segment::Gone(path.to_owned())]).collect());
    };
    let meta = current.metadata().map_err(AuditError::io(path, "look at it"))?;
    if !meta.is_file() {
        return Err(AuditError::Unfit { path: path.to_owned(), why: "it is no file" });
    }
    // It was closed in the meantime: what came after it is later than our look.
    if let Some(at) = older.iter().position(|older| is_same(&older.path, &meta)) {
        older.truncate(at);
    }
    let older = older.into_iter().map(|older| Segment::Older(older.path));
    Ok(older.chain([Segment::Current(path.to_owned(), current)]).collect())
}

/// The files that are closed, the oldest first.
pub(super) fn older(path: &Path) -> io::Result<Vec<Older>> {
    let mut older = Vec::new();
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?.file_name();
        let suffix = entry.as_encoded_bytes().strip_prefix(name).and_then(|rest| rest.strip_prefix(b"."));
        if let Some(number) = suffix.and_then(number) {
            older.push(Older { number, path: path.with_file_name(entry) });
        }
    }
    older.sort_by_key(|older| older.number);
    Ok(older)
}

/// Six digits, and more if six are not enough.
fn number(suffix: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(suffix).ok()?;
    let number = text.parse().ok()?;
    (number > 0 && format!("{number:06}") == text).then_some(number)
}

/// What a closed file is called.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!("{number:06}"))
}

/// A file whose name is that of the log, a dot and more.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Whether the path names that file.
pub(super) fn is_same(path: &Path, file: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

/// Makes names durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_log_are_told_from_others() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        for name in [
            "audit.log",
            "audit.log.000010",
            "audit.log.000009",
            "audit.log.1000000",
            "audit.log.11",
            "audit.log.0000001",
            "audit.log.000000",
            "audit.log.+00001",
            "audit.log.next",
            "audit.log.torn.000003",
            "other.log.000001",
        ] {
            fs::write(dir.path().join(name), "").expect("written");
        }
        let found: Vec<u32> = older(&path).expect("listed").iter().map(|older| older.number).collect();
        assert_eq!(found, [9, 10, 1_000_000]);
        assert_eq!(numbered(&path, 9), dir.path().join("audit.log.000009"));
    }
}
