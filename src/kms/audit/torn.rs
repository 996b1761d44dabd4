//! The beginning of a record that a crash has left: kept in a file of its own, so that the log can go on and nothing is thrown away.
//!
//! The file is called by the number of the record that will tell of it. If a crash comes before that record is written, the file is still
//! there at the next start and has no record yet: so no such event goes untold.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::AuditError;
use super::event::{Actor, Event, Operation, Outcome};
use super::segments::{beside, sync_folder};

/// Keeps what was found at the end of the log, before it is taken from there.
pub(super) fn set_aside(path: &Path, seq: u64, tail: &[u8]) -> Result<(), AuditError> {
    let aside = name(path, seq);
    let mut kept = match fs::read(&aside) {
        Ok(kept) => kept,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(AuditError::io(&aside, "read it")(e)),
    };
    // A crash may have come after this step, and left the tail where it is; or while the record was written that tells of an earlier one.
    if kept.ends_with(tail) {
        return Ok(());
    }
    kept.extend(tail);
    let new = beside(path, "torn.new");
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&kept)?;
        file.sync_all()?;
        fs::rename(&new, &aside)?;
        sync_folder(path)
    };
    write().map_err(AuditError::io(&aside, "set an unfinished record aside"))
}

/// What has to be recorded about it, if anything was set aside for the record of this number.
pub(super) fn event(path: &Path, seq: u64) -> Result<Option<Event>, AuditError> {
    let aside = name(path, seq);
    let bytes = match fs::metadata(&aside) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(AuditError::io(&aside, "look at it")(e)),
    };
    let file = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let why = format!("a crash had left the beginning of a record at the end: {bytes} bytes, set aside in {file}");
    Ok(Some(Event::new(Actor::System, Operation::RecoverLog, Outcome::Failed(why))))
}

fn name(path: &Path, seq: u64) -> PathBuf {
    beside(path, &format!("torn.{seq:06}"))
}
