//! An open store: the keys in memory, and the one way in which they change.
//!
//! What is in memory is what is in the file, except after an error in the last steps of a change: then memory has the change, the
//! caller hears of the error, and the next change writes the file anew.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kms::{AeadError, KmsError, open, seal};

use super::body::{Body, new_id};
use super::commit;
use super::config::{EmbeddedConfig, Unlock};
use super::derive::{self, Key, Use, derive};
use super::error::StoreError;
use super::folder::{Files, Folder, Name};
use super::format::{self, Header, Sealed};
use super::slot::{self, Slot, SlotInfo};
use super::witness::{self, Generation};

/// Of nonce and tag.
pub(super) const SEAL_BYTES: usize = 28;

/// The embedded KMS, unlocked.
pub struct EmbeddedStore {
    pub(super) region: String,
    pub(super) folder: Box<dyn Folder>,
    state: Mutex<State>,
}

/// What is known of an unlocked store.
pub(super) struct State {
    pub(super) header: Header,
    pub(super) body: Body,
    pub(super) root: Key,
    /// Of the present epoch.
    pub(super) material: Key,
}

impl EmbeddedStore {
    /// Opens the store of a configuration, or makes it if the configuration says so. It is this process's alone until it is dropped.
    pub fn open(config: &EmbeddedConfig, region: &str) -> Result<Self, KmsError> {
        let open = || {
            let folder = Box::new(Files::lock(&config.path)?);
            Self::open_in(folder, config, region)
        };
        let store = open().map_err(|error| error.into_kms(name(&config.path)))?;
        store.destroy_due_or_warn();
        Ok(store)
    }

    pub(super) fn open_in(folder: Box<dyn Folder>, config: &EmbeddedConfig, region: &str) -> Result<Self, StoreError> {
        let state = match folder.read(Name::Store)? {
            Some(bytes) => present(&*folder, &bytes, &config.unlock)?,
            None => absent(&*folder, config)?,
        };
        Ok(Self { region: region.to_owned(), folder, state: Mutex::new(state) })
    }

    /// The store's identity and how often it was changed: keep it elsewhere to notice that the files were put back.
    pub fn generation(&self) -> Generation {
        self.state().header.is
    }

    /// Refuses if the store is older than what was noted elsewhere, or another one.
    pub fn check_witness(&self, noted: &Generation) -> Result<(), KmsError> {
        self.generation().follows(noted).map_err(|error| self.told(error))
    }

    /// What unlocks the store.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.state().header.slots.iter().map(Slot::info).collect()
    }

    /// Lets something more unlock the store.
    pub fn add_slot(&self, unlock: &Unlock) -> Result<SlotInfo, KmsError> {
        let mut state = self.state();
        let add = |next: &mut Draft, now: &State| {
            let number = slot::free_number(&now.header.slots)?;
            let slot = Slot::new(now.header.is.store, number, &now.root, unlock)?;
            let info = slot.info();
            next.slots.push(slot);
            Ok(info)
        };
        self.change_state(&mut state, add).map_err(|error| self.told(error))
    }

    /// Lets something no longer unlock the store. A copy of the file from before still opens by it.
    pub fn remove_slot(&self, number: u8) -> Result<(), KmsError> {
        let mut state = self.state();
        let remove = |next: &mut Draft, _: &State| {
            let at = next.slots.iter().position(|slot| slot.number == number);
            next.slots.remove(at.ok_or(StoreError::NoSuchSlot(number))?);
            match next.slots.is_empty() {
                true => Err(StoreError::LastSlot(number)),
                false => Ok(()),
            }
        };
        self.change_state(&mut state, remove).map_err(|error| self.told(error))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A change takes place in one assignment, so a panic of another thread leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change: in the file first, then in memory.
    pub(super) fn change_state<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut Draft, &State) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut next = Draft { slots: state.header.slots.clone(), body: state.body.clone(), epoch: None };
        let answer = change(&mut next, state)?;
        let mut header = state.header.clone();
        header.is.number += 1;
        header.slots = next.slots;
        let material = next.epoch.map(|epoch| {
            header.epoch = epoch.number;
            epoch.material
        });
        let file = seal_file(&header, &next.body, &state.root)?;
        let witness = witness::encode(&header.is, &state.root)?;
        commit::replace(&*self.folder, &file)?;
        (state.header, state.body) = (header, next.body);
        if let Some(material) = material {
            state.material = material;
        }
        commit::finish(&*self.folder, &witness)?;
        Ok(answer)
    }

    /// An error as the users of a KMS see it.
    pub(super) fn told(&self, error: StoreError) -> KmsError {
        error.into_kms(self.called())
    }

    pub(super) fn called(&self) -> String {
        name(&self.folder.path(Name::Store))
    }
}

/// What a change makes of a store.
pub(super) struct Draft {
    pub(super) slots: Vec<Slot>,
    pub(super) body: Body,
    epoch: Option<Epoch>,
}

struct Epoch {
    number: u64,
    material: Key,
}

impl Draft {
    /// Begins a new epoch: other keys for the body and all material.
    pub(super) fn begin_epoch(&mut self, now: &State) -> Result<(), StoreError> {
        let number = now.header.epoch + 1;
        let material = derive(&now.root, Use::Material { store: now.header.is.store, epoch: number })?;
        self.body.move_to(&now.material, &material)?;
        self.epoch = Some(Epoch { number, material });
        Ok(())
    }
}

/// How people call a store.
pub(super) fn name(path: &Path) -> String {
    format!("key store {}", path.display())
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens the file that is there, checks that it is the newest, and clears up after a crash.
fn present(folder: &dyn Folder, bytes: &[u8], unlock: &Unlock) -> Result<State, StoreError> {
    let sealed = format::decode(bytes)?;
    let is = sealed.header.is;
    let lost = || StoreError::NoWitness(folder.path(Name::Witness));
    let damaged = || StoreError::WitnessDamaged(folder.path(Name::Witness));
    let counter = folder.read(Name::Witness)?.ok_or_else(lost)?;
    let newest = witness::decode(&counter).ok_or_else(damaged)?;
    // The passphrase of one store says nothing about another one's file.
    if newest.store != is.store {
        return Err(StoreError::OtherStore { found: is.store, expected: newest.store });
    }
    let state = unseal(sealed, unlock)?;
    if !witness::is_authentic(&counter, &newest, &state.root)? {
        return Err(damaged());
    }
    is.follows(&newest)?;
    if is.number > newest.number {
        commit::count(folder, &witness::encode(&is, &state.root)?)?;
    }
    commit::clear(folder)?;
    Ok(state)
}

/// Makes a store where there is none, if that is what is asked for and nothing says that there was one.
fn absent(folder: &dyn Folder, config: &EmbeddedConfig) -> Result<State, StoreError> {
    let newest = folder.read(Name::Witness)?.and_then(|bytes| witness::decode(&bytes));
    if let Some(newest) = newest.filter(|newest| newest.number > 0) {
        return Err(StoreError::Vanished(newest.number));
    }
    if !config.create {
        return Err(StoreError::Missing);
    }
    let state = fresh(&config.unlock)?;
    let none = Generation { number: 0, ..state.header.is };
    commit::count(folder, &witness::encode(&none, &state.root)?)?;
    commit::replace(folder, &seal_file(&state.header, &state.body, &state.root)?)?;
    commit::finish(folder, &witness::encode(&state.header.is, &state.root)?)?;
    Ok(state)
}

fn fresh(unlock: &Unlock) -> Result<State, StoreError> {
    let (root, store) = (derive::random()?, new_id()?);
    let header =
        Header { is: Generation { store, number: 1 }, epoch: 1, slots: vec![Slot::new(store, 0, &root, unlock)?] };
    let material = derive(&root, Use::Material { store, epoch: header.epoch })?;
    Ok(State { header, body: Body::default(), root, material })
}

/// Unlocks a file that was taken apart.
pub(super) fn unseal(sealed: Sealed<'_>, unlock: &Unlock) -> Result<State, StoreError> {
    let root = slot::unlock(sealed.header.is.store, &sealed.header.slots, unlock)?;
    let body = open_body(&sealed, &root)?;
    let (store, epoch) = (sealed.header.is.store, sealed.header.epoch);
    let material = derive(&root, Use::Material { store, epoch })?;
    Ok(State { header: sealed.header, body, root, material })
}

/// Opens the body, which proves the header and the slots as well.
pub(super) fn open_body(sealed: &Sealed<'_>, root: &Key) -> Result<Body, StoreError> {
    let key = derive(root, Use::Body { store: sealed.header.is.store, epoch: sealed.header.epoch })?;
    let len = sealed.body.len().checked_sub(SEAL_BYTES).ok_or(StoreError::Forged)?;
    let mut plain = vec![0; len];
    open(&key, sealed.authenticated, sealed.body, &mut plain).map_err(|error| match error {
        AeadError::NotAuthentic => StoreError::Forged,
        other => other.into(),
    })?;
    Body::decode(&plain)
}

/// The file of a state.
pub(super) fn seal_file(header: &Header, body: &Body, root: &Key) -> Result<Vec<u8>, StoreError> {
    let plain = body.encode();
    let start = format::encode_header(header, plain.len() + SEAL_BYTES);
    let key = derive(root, Use::Body { store: header.is.store, epoch: header.epoch })?;
    let sealed = seal(&key, &start, &plain)?;
    let file = format::encode(start, &sealed);
    match file.len() as u64 {
        0..=format::MOST_BYTES => Ok(file),
        bytes => Err(StoreError::TooLarge { bytes }),
    }
}
