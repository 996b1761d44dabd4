//! The few things that the store does with files: all that a test has to imitate to take the power away between any two of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::secrets::check_private;

use super::error::StoreError;
use super::format::MOST_BYTES;

/// A file of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    /// The store.
    Store,
    /// The store that is about to replace it.
    New,
    /// The store that was replaced, until it is overwritten.
    Old,
    /// The counter file.
    Witness,
    /// The counter file that is about to replace it.
    NewWitness,
}

/// Where the files are.
pub(super) trait Folder: Send + Sync {
    /// What a file is called, for errors.
    fn path(&self, name: Name) -> PathBuf;
    /// All of a file, if there is one.
    fn read(&self, name: Name) -> Result<Option<Vec<u8>>, StoreError>;
    /// Makes a file of these bytes, durable when it returns; its name is not.
    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), StoreError>;
    /// Gives a file a second name, if there is such a file.
    fn link(&self, from: Name, to: Name) -> Result<(), StoreError>;
    /// Gives a file a new name, in the place of whatever had that name.
    fn rename(&self, from: Name, to: Name) -> Result<(), StoreError>;
    /// Whether both names are of one file; no if one of them is nobody's.
    fn is_same(&self, one: Name, other: Name) -> Result<bool, StoreError>;
    /// Overwrites all of a file with zeros, durable when it returns; nothing if there is none.
    fn wipe(&self, name: Name) -> Result<(), StoreError>;
    /// Takes a name away; nothing if there is none.
    fn remove(&self, name: Name) -> Result<(), StoreError>;
    /// Makes all names durable.
    fn sync(&self) -> Result<(), StoreError>;
}

/// The file system.
pub(super) struct Files {
    store: PathBuf,
    folder: PathBuf,
    /// Held while this exists; the kernel lets go of it when the process ends, however that is.
    _lock: File,
}

impl Files {
    /// Keeps everybody else away from a store.
    pub(super) fn lock(store: &Path) -> Result<Self, StoreError> {
        let path = beside(store, "lock");
        let lock = make(OpenOptions::new().write(true).create(true).truncate(false), &path);
        let lock = lock.map_err(|source| failed(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse),
            Err(TryLockError::Error(source)) => return Err(failed(&path, source)),
        }
        Ok(Self { store: store.to_owned(), folder: folder_of(store), _lock: lock })
    }
}

impl Folder for Files {
    fn path(&self, name: Name) -> PathBuf {
        match name {
            Name::Store => self.store.clone(),
            Name::New => beside(&self.store, "new"),
            Name::Old => beside(&self.store, "old"),
            Name::Witness => beside(&self.store, "generation"),
            Name::NewWitness => beside(&self.store, "generation.new"),
        }
    }

    fn read(&self, name: Name) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.path(name))
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let write = || {
            let mut file = make(OpenOptions::new().write(true).create(true).truncate(true), &path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| failed(&path, source))
    }

    fn link(&self, from: Name, to: Name) -> Result<(), StoreError> {
        let to = self.path(to);
        unless_absent(fs::hard_link(self.path(from), &to)).map_err(|source| failed(&to, source))
    }

    fn rename(&self, from: Name, to: Name) -> Result<(), StoreError> {
        let to = self.path(to);
        fs::rename(self.path(from), &to).map_err(|source| failed(&to, source))
    }

    fn is_same(&self, one: Name, other: Name) -> Result<bool, StoreError> {
        let identity = |name| {
            let path = self.path(name);
            match fs::symlink_metadata(&path) {
                Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(failed(&path, source)),
            }
        };
        let (one, other) = (identity(one)?, identity(other)?);
        Ok(one.is_some() && one == other)
    }

    fn wipe(&self, name: Name) -> Result<(), StoreError> {
        let path = self.path(name);
        let wipe = || {
            let mut file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(&path)?;
            let bytes = file.metadata()?.len();
            io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
            file.sync_all()
        };
        unless_absent(wipe()).map_err(|source| failed(&path, source))
    }

    fn remove(&self, name: Name) -> Result<(), StoreError> {
        let path = self.path(name);
        unless_absent(fs::remove_file(&path)).map_err(|source| failed(&path, source))
    }

    fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&self.folder)
    }
}

/// All of a private file, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(path, source)),
    };
    check_private(path, &file)?;
    let mut bytes = vec![];
    // The file may grow while it is read.
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|source| failed(path, source))?;
    match read as u64 {
        0..=MOST_BYTES => Ok(Some(bytes)),
        bytes => Err(StoreError::TooLarge { bytes }),
    }
}

/// Writes a private file that was not there, durably.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file =
        make(OpenOptions::new().write(true).create_new(true), path).map_err(|source| failed(path, source))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|source| failed(path, source));
    written.and_then(|()| sync_folder(&folder_of(path)))
}

fn make(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| failed(folder, source))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `PATH.ending`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}
