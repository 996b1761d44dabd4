//! The file that is appended to: its lock, its length, and how it is closed and a new one begun.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::AuditError;
use super::chain::verify;
use super::segments::{beside, is_same, numbered, older, sync_folder};

const MODE: u32 = 0o600;
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The newest file of a log, locked.
pub(super) struct Current {
    path: PathBuf,
    file: File,
    /// All that was acknowledged ends here.
    len: u64,
}

impl Current {
    /// Opens the file, or makes the first one of a log.
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        loop {
            let file = open_or_create(path)?;
            lock(path, &file)?;
            let meta = file.metadata().map_err(AuditError::io(path, "look at it"))?;
            // The former owner may have closed this file between our opening and our locking it.
            if !is_same(path, &meta) {
                continue;
            }
            fit(path, &meta)?;
            let current = Self { path: path.to_owned(), file, len: meta.len() };
            current.finish_rotation(&meta)?;
            return Ok(current);
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a line would make it larger than that.
    pub(super) fn is_full(&self, line: &[u8], most: u64) -> bool {
        self.len > 0 && self.len + line.len() as u64 > most
    }

    /// Appends bytes, and returns when they are on stable storage. After [`AuditError::Io`] the file is as it was.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), AuditError> {
        self.expect_untouched()?;
        if let Err(e) = self.file.write_all(bytes) {
            return Err(self.take_back(e));
        }
        // After a failure the kernel may have let go of what it could not write: a second attempt would prove nothing.
        self.file.sync_data().map_err(|e| self.stopped(format!("cannot make a record durable: {e}")))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Takes so many bytes from the end.
    pub(super) fn cut(&mut self, bytes: u64) -> Result<(), AuditError> {
        let len = self.len - bytes;
        let cut = self.file.set_len(len).and_then(|()| self.file.sync_all());
        cut.map_err(AuditError::io(&self.path, "take an unfinished record from its end"))?;
        self.len = len;
        Ok(())
    }

    /// Closes the file and begins a new one under its name. May be called again after it has failed.
    pub(super) fn rotate(&mut self) -> Result<(), AuditError> {
        self.expect_untouched()?;
        let next = beside(&self.path, "next");
        let file = self.begin(&next)?;
        let closed = self.closed_name()?;
        match fs::hard_link(&self.path, &closed) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(AuditError::io(&closed, "name a closed file")(e)),
        }
        // From here on the new file is the log, whether or not that is durable: the old one is whole under its other name.
        fs::rename(&next, &self.path).map_err(AuditError::io(&next, "rename it"))?;
        self.file = file;
        self.len = 0;
        sync_folder(&self.path).map_err(|e| self.stopped(format!("cannot make a new file durable: {e}")))
    }

    /// An empty file, locked before it gets its name.
    fn begin(&self, next: &Path) -> Result<File, AuditError> {
        remove_if_there(next)?;
        let file = options().create_new(true).open(next).map_err(AuditError::io(next, "make it"))?;
        lock(next, &file)?;
        file.sync_all().map_err(AuditError::io(next, "make it durable"))?;
        Ok(file)
    }

    /// The first free number, or the one that the file has already.
    fn closed_name(&self) -> Result<PathBuf, AuditError> {
        let meta = self.file.metadata().map_err(AuditError::io(&self.path, "look at it"))?;
        let older = older(&self.path).map_err(AuditError::io(&self.path, "list its folder"))?;
        Ok(match older.last() {
            Some(last) if is_same(&last.path, &meta) => last.path.clone(),
            Some(last) => numbered(&self.path, last.number + 1),
            None => numbered(&self.path, 1),
        })
    }

    /// A crash may have come between the steps of [`Current::rotate`]: back to before the first one.
    fn finish_rotation(&self, meta: &Metadata) -> Result<(), AuditError> {
        let path = &self.path;
        remove_if_there(&beside(path, "next"))?;
        let older = older(path).map_err(AuditError::io(path, "list its folder"))?;
        if let Some(last) = older.last().filter(|last| is_same(&last.path, meta)) {
            fs::remove_file(&last.path).map_err(AuditError::io(&last.path, "take away its second name"))?;
        }
        sync_folder(path).map_err(AuditError::io(path, "make its name durable"))
    }

    /// Somebody may have moved the file away, replaced it, or written to it.
    fn expect_untouched(&self) -> Result<(), AuditError> {
        let meta = self.file.metadata().map_err(AuditError::io(&self.path, "look at it"))?;
        if !is_same(&self.path, &meta) {
            return Err(self.stopped("somebody has moved, deleted or replaced the file".to_owned()));
        }
        if meta.len() != self.len {
            let why = format!("somebody has changed the file: it has {} bytes instead of {}", meta.len(), self.len);
            return Err(self.stopped(why));
        }
        Ok(())
    }

    /// A part of a record may have been written, to a file system that is full now.
    fn take_back(&self, error: std::io::Error) -> AuditError {
        match self.file.set_len(self.len).and_then(|()| self.file.sync_all()) {
            Ok(()) => AuditError::io(&self.path, "append a record")(error),
            Err(e) => self.stopped(format!("cannot append a record: {error}; nor take back a part of it: {e}")),
        }
    }

    fn stopped(&self, why: String) -> AuditError {
        AuditError::stopped(&self.path, why)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // A link would be renamed instead of the file when that is closed.
    options.read(true).append(true).mode(MODE).custom_flags(libc::O_NOFOLLOW);
    options
}

/// Only a log without any file gets a first one.
fn open_or_create(path: &Path) -> Result<File, AuditError> {
    match options().open(path) {
        Ok(file) => return Ok(file),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => {
            let why = "it is a symbolic link; name the file itself";
            return Err(AuditError::Unfit { path: path.to_owned(), why });
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(AuditError::io(path, "open it")(e)),
    }
    let older = older(path).map_err(AuditError::io(path, "list its folder"))?;
    if !older.is_empty() {
        // This tells which record is missing.
        verify(path, None)?;
    }
    options().create(true).open(path).map_err(AuditError::io(path, "make it"))
}

/// A reader takes the lock for a moment: only who keeps it has the log.
fn lock(path: &Path, file: &File) -> Result<(), AuditError> {
    let mut tries = LOCK_TRIES;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if tries > 0 => {}
            Err(TryLockError::WouldBlock) => return Err(AuditError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => return Err(AuditError::io(path, "lock it")(e)),
        }
        tries -= 1;
        std::thread::sleep(LOCK_PAUSE);
    }
}

fn fit(path: &Path, meta: &Metadata) -> Result<(), AuditError> {
    let why = if !meta.is_file() {
        "it is no file"
    } else if meta.mode() & WRITABLE_BY_OTHERS != 0 {
        "others than its owner may write it; take that from them (chmod go-w), and verify what it holds"
    } else {
        return Ok(());
    };
    Err(AuditError::Unfit { path: path.to_owned(), why })
}

fn remove_if_there(path: &Path) -> Result<(), AuditError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(AuditError::io(path, "remove it")(e)),
        _ => Ok(()),
    }
}
