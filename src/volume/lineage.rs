//! Lineages: a volume with its snapshots, and the clones made from them, have one sealed key in common. What the bytes of a key mean is not known here.
//!
//! A lineage is in memory what a key slot is on the device. It lives while a volume or snapshot names the slot; only the home reactor makes one,
//! changes its key and forgets it, anybody may read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::format::{KeySlot, SealedKey};

/// What is known of a key.
#[derive(Clone, Debug)]
enum State {
    /// The slot was not read yet, or is not the lineage's any more.
    Unknown,
    Sealed(SealedKey),
    /// Neither copy could be read, and why.
    Lost(String),
}

/// Volumes and snapshots with the same key.
pub(super) struct Lineage {
    slot: KeySlot,
    state: Mutex<State>,
}

impl Lineage {
    fn new(slot: KeySlot, state: State) -> Arc<Self> {
        Arc::new(Self { slot, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }

    /// Where the key is.
    pub(super) fn slot(&self) -> KeySlot {
        self.slot
    }

    /// The key; none if it is lost or destroyed.
    pub(super) fn key(&self) -> Option<SealedKey> {
        match &*self.state() {
            State::Sealed(key) => Some(key.clone()),
            _ => None,
        }
    }

    /// Why there is no key, if it is lost.
    pub(super) fn lost(&self) -> Option<String> {
        match &*self.state() {
            State::Lost(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// The key was read, or replaced.
    pub(super) fn set(&self, key: SealedKey) {
        *self.state() = State::Sealed(key);
    }

    /// The key cannot be read.
    pub(super) fn lose(&self, why: String) {
        *self.state() = State::Lost(why);
    }
}

/// The lineages of a pool, by their slots.
#[derive(Default)]
pub(super) struct Lineages(Mutex<BTreeMap<KeySlot, Arc<Lineage>>>);

impl Lineages {
    fn all(&self) -> MutexGuard<'_, BTreeMap<KeySlot, Arc<Lineage>>> {
        self.0.lock().expect("no thread panics while it holds this lock")
    }

    /// A lineage with a new key.
    pub(super) fn begin(&self, slot: KeySlot, key: SealedKey) {
        self.all().insert(slot, Lineage::new(slot, State::Sealed(key)));
    }

    /// The lineage with this slot. If it is met for the first time, its key is still to be read.
    pub(super) fn with(&self, slot: KeySlot) -> Arc<Lineage> {
        self.all().entry(slot).or_insert_with(|| Lineage::new(slot, State::Unknown)).clone()
    }

    /// All of them.
    pub(super) fn list(&self) -> BTreeMap<KeySlot, Arc<Lineage>> {
        self.all().clone()
    }

    /// Forgets those whose slots nobody names. Who still holds a volume that is gone finds no key in it.
    pub(super) fn keep(&self, named: &BTreeSet<KeySlot>) {
        self.all().retain(|slot, lineage| {
            let is_named = named.contains(slot);
            if !is_named {
                *lineage.state() = State::Unknown;
            }
            is_named
        });
    }
}
