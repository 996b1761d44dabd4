//! A folder whose power is cut between any two steps, or in the middle of one, and what tests of the store share.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::secrets::SecretRef;

use super::config::{EmbeddedConfig, Unlock};
use super::error::StoreError;
use super::folder::{Folder, Name};

/// A secret in a file, and how a configuration names it.
pub(super) fn secret_file(folder: &Path, name: &str, content: &[u8]) -> SecretRef {
    let path = folder.join(name);
    fs::write(&path, content).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode set");
    SecretRef::File(path)
}

/// A store that a key file opens, which is fast.
pub(super) fn config(folder: &Path) -> EmbeddedConfig {
    let unlock = Unlock::RootKey(secret_file(folder, "root.key", &[0xA7; 32]));
    EmbeddedConfig { path: folder.join("keys.store"), unlock, create: true }
}

/// A file: what is durable, and what is in the page cache. They share it who share the number.
#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    cached: Vec<u8>,
}

type Names = BTreeMap<Name, usize>;

#[derive(Clone, Default)]
struct Content {
    inodes: Vec<Inode>,
    names: Names,
    durable: Names,
    /// Names as they were after each change that is not durable yet.
    pending: Vec<Names>,
    /// Steps until the power is gone; none: it stays.
    left: Option<usize>,
    /// Steps done.
    done: usize,
}

/// What a power cut leaves of what was not made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Half,
    All,
}

/// A simulated folder. Names become durable in the order in which they were changed, any number of them; content by its own `fsync`.
#[derive(Clone, Default)]
pub(super) struct Simulated(Arc<Mutex<Content>>);

impl Simulated {
    /// Cuts the power after so many more steps: the next one is done by half, and no more afterwards.
    pub(super) fn cut_after(&self, steps: usize) {
        self.0.lock().expect("no panic").left = Some(steps);
    }

    /// How many steps were done so far.
    pub(super) fn steps(&self) -> usize {
        self.0.lock().expect("no panic").done
    }

    /// All folders that a power cut now may leave.
    pub(super) fn after_power_cut(&self) -> Vec<Self> {
        let content = self.0.lock().expect("no panic").clone();
        let mut all = vec![];
        for names in [&content.durable].into_iter().chain(&content.pending) {
            for left in [Left::Nothing, Left::Half, Left::All] {
                let inodes = content.inodes.iter().map(|inode| settle(inode, left)).collect();
                let (names, durable) = (names.clone(), names.clone());
                all.push(Self(Arc::new(Mutex::new(Content { inodes, names, durable, ..Content::default() }))));
            }
        }
        all
    }

    /// The folder as it is after the process was killed and the machine stays up.
    pub(super) fn after_kill(&self) -> Self {
        let content = Content { left: None, ..self.0.lock().expect("no panic").clone() };
        Self(Arc::new(Mutex::new(content)))
    }

    /// Everything that lies anywhere on the device, also without a name.
    pub(super) fn device(&self) -> Vec<Vec<u8>> {
        let content = self.0.lock().expect("no panic");
        content.inodes.iter().flat_map(|inode| [inode.durable.clone(), inode.cached.clone()]).collect()
    }

    /// The names that there are.
    pub(super) fn names(&self) -> Vec<Name> {
        self.0.lock().expect("no panic").names.keys().copied().collect()
    }

    /// Puts bytes where a name is, or takes it away, behind the store's back.
    pub(super) fn put(&self, name: Name, bytes: Option<Vec<u8>>) {
        let mut content = self.0.lock().expect("no panic");
        content.names.remove(&name);
        if let Some(bytes) = bytes {
            let inode = content.inodes.len();
            content.inodes.push(Inode { durable: bytes.clone(), cached: bytes });
            content.names.insert(name, inode);
        }
        content.durable = content.names.clone();
        content.pending.clear();
    }

    /// A step: `whole` if there is power for all of it, `torn` if it goes away under way.
    fn step(&self, whole: impl FnOnce(&mut Content), torn: impl FnOnce(&mut Content)) -> Result<(), StoreError> {
        let mut content = self.0.lock().expect("no panic");
        match content.left {
            None => {}
            Some(0) => {
                content.left = Some(usize::MAX);
                torn(&mut content);
                return Err(no_power());
            }
            Some(usize::MAX) => return Err(no_power()),
            Some(left) => content.left = Some(left - 1),
        }
        content.done += 1;
        whole(&mut content);
        Ok(())
    }

    fn change_names(&self, change: impl FnOnce(&mut Names)) -> Result<(), StoreError> {
        let whole = |content: &mut Content| {
            change(&mut content.names);
            content.pending.push(content.names.clone());
        };
        self.step(whole, |_| {})
    }
}

fn settle(inode: &Inode, left: Left) -> Inode {
    let half = inode.cached.len() / 2;
    let content = match left {
        Left::Nothing => inode.durable.clone(),
        Left::All => inode.cached.clone(),
        Left::Half => [&inode.cached[..half], inode.durable.get(half..).unwrap_or_default()].concat(),
    };
    Inode { durable: content.clone(), cached: content }
}

fn no_power() -> StoreError {
    StoreError::Io { path: "simulated".into(), source: io::Error::other("no power") }
}

impl Folder for Simulated {
    fn path(&self, name: Name) -> PathBuf {
        format!("{name:?}").into()
    }

    fn read(&self, name: Name) -> Result<Option<Vec<u8>>, StoreError> {
        let content = self.0.lock().expect("no panic");
        Ok(content.names.get(&name).map(|inode| content.inodes[*inode].cached.clone()))
    }

    fn write(&self, name: Name, bytes: &[u8]) -> Result<(), StoreError> {
        let write = |content: &mut Content, inode: Inode| {
            let number = content.inodes.len();
            content.inodes.push(inode);
            content.names.insert(name, number);
            content.pending.push(content.names.clone());
        };
        let whole = Inode { durable: bytes.to_vec(), cached: bytes.to_vec() };
        let torn = Inode { durable: vec![], cached: bytes[..bytes.len() / 2].to_vec() };
        self.step(|content| write(content, whole), |content| write(content, torn))
    }

    fn link(&self, from: Name, to: Name) -> Result<(), StoreError> {
        let exists = self.0.lock().expect("no panic").names.contains_key(&to);
        assert!(!exists, "link(2) does not overwrite");
        self.change_names(|names| {
            if let Some(inode) = names.get(&from).copied() {
                names.insert(to, inode);
            }
        })
    }

    fn rename(&self, from: Name, to: Name) -> Result<(), StoreError> {
        self.change_names(|names| {
            let inode = names.remove(&from).expect("it was written");
            names.insert(to, inode);
        })
    }

    fn is_same(&self, one: Name, other: Name) -> Result<bool, StoreError> {
        let content = self.0.lock().expect("no panic");
        let (one, other) = (content.names.get(&one), content.names.get(&other));
        Ok(one.is_some() && one == other)
    }

    fn wipe(&self, name: Name) -> Result<(), StoreError> {
        let inode = self.0.lock().expect("no panic").names.get(&name).copied();
        let Some(inode) = inode else { return Ok(()) };
        let whole = |content: &mut Content| {
            let inode = &mut content.inodes[inode];
            inode.cached.fill(0);
            inode.durable = inode.cached.clone();
        };
        let torn = |content: &mut Content| {
            let half = content.inodes[inode].cached.len() / 2;
            content.inodes[inode].cached[..half].fill(0);
        };
        self.step(whole, torn)
    }

    fn remove(&self, name: Name) -> Result<(), StoreError> {
        self.change_names(|names| {
            names.remove(&name);
        })
    }

    fn sync(&self) -> Result<(), StoreError> {
        let whole = |content: &mut Content| {
            content.durable = content.names.clone();
            content.pending.clear();
        };
        self.step(whole, |_| {})
    }
}
