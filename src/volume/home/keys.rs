//! Key slots on the device: read when the pool is opened, kept in memory as they are there, and written in place.
//!
//! What always holds:
//! - a record that names a slot is committed only when both copies of the key are durable, so a live lineage has its key after any power cut;
//! - a copy is emptied only when the record that named it last is durably gone, and a delete is answered only when both are emptied durably;
//! - a key is replaced one copy after the other, with a flush in between: a cut leaves the old key, the new one, or one copy of each, of which the new
//!   one counts; when the call is answered, the old one is nowhere.
//!
//! A crash may leave keys that no record names, and copies that were replaced by halves. [`Home::settle_keys`] ends both when the pool is opened.
//!
//! Slots are written by one task at a time, the one that has the lock `changing`. A device of larger blocks than a sector gets its neighbours written along
//! with a copy, out of memory and as they are: a torn write of bytes that are there already changes nothing. What could not be read is not in memory,
//! so a page that could not be read is written only as a whole, when it is known what all of it has to be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use crate::device::{Device, IoError, write_whole};

use super::super::error::PoolError;
use super::super::format::{
    COPY, Features, KeyCopy, KeySlot, LONGEST_KEY, MOST_KEY_CLUSTERS, SLOTS_PER_CLUSTER, SealedKey,
};
use super::super::lineage::Lineage;
use super::super::units::{CLUSTER, ClusterId, PAGE};
use super::Home;
use super::lock::Held;
use super::nodes::Reader;

const SLOTS_IN_BYTES: usize = CLUSTER as usize;

/// A copy in a slot.
type Place = (KeySlot, KeyCopy);

/// All slots, as the device has them.
pub(super) struct KeySlots {
    pool: Uuid,
    clusters: Vec<ClusterId>,
    /// The bytes of the clusters, one behind the other.
    image: Vec<u8>,
    /// Pages of the image that could not be read.
    unreadable: BTreeSet<usize>,
    /// Copies of which it is unknown whether the device has what the image says: writing them failed.
    unsure: BTreeSet<Place>,
}

/// What was found in the slots.
#[derive(Default)]
pub(in crate::volume) struct Survey {
    /// What must not be, each in a line.
    pub(in crate::volume) damage: Vec<String>,
    /// Slots with a key that no record names, or of which one copy was replaced: what a crash may leave.
    pub(in crate::volume) leftovers: usize,
}

impl KeySlots {
    /// Reads all slots.
    pub(super) async fn read(reader: &Reader<'_>) -> Self {
        let clusters = reader.superblock.key_clusters.clone();
        let mut slots = Self {
            pool: reader.superblock.pool,
            image: vec![0; clusters.len() * SLOTS_IN_BYTES],
            clusters,
            unreadable: BTreeSet::new(),
            unsure: BTreeSet::new(),
        };
        for page in 0..slots.image.len() / PAGE {
            let mut buffer = reader.reactor.buffers().take(PAGE).await;
            let range = page * PAGE..(page + 1) * PAGE;
            match reader.try_to_read(slots.byte(range.start) / PAGE as u64, &mut buffer, PAGE).await {
                Ok(()) => slots.image[range].copy_from_slice(&buffer[..PAGE]),
                Err(_) => drop(slots.unreadable.insert(page)),
            }
        }
        slots
    }

    /// Where on the device a byte of the image is.
    fn byte(&self, at: usize) -> u64 {
        self.clusters[at / SLOTS_IN_BYTES].byte() + (at % SLOTS_IN_BYTES) as u64
    }

    /// Where in the image a copy is; none if the pool has no such slot.
    fn range(&self, (slot, copy): Place) -> Option<Range<usize>> {
        let start = slot.cluster_index() * SLOTS_IN_BYTES;
        let within = copy.bytes(slot);
        (slot.cluster_index() < self.clusters.len()).then_some(start + within.start..start + within.end)
    }

    fn all(&self) -> impl Iterator<Item = KeySlot> + use<> {
        KeySlot::all(self.clusters.len())
    }

    /// What a copy holds, or what is wrong.
    fn copy(&self, place: Place) -> Result<Option<SealedKey>, String> {
        let range = self.range(place).ok_or("the pool has no such slot")?;
        if self.unreadable.contains(&(range.start / PAGE)) {
            return Err(format!("page {} cannot be read", self.byte(range.start) / PAGE as u64));
        }
        SealedKey::decode(&self.image[range], self.pool, place.0).map_err(|error| error.to_string())
    }

    /// The key in a slot: the newest of its copies that are intact.
    pub(super) fn key(&self, slot: KeySlot) -> Result<SealedKey, String> {
        let copies = KeyCopy::BOTH.map(|copy| self.copy((slot, copy)));
        let newest = copies.iter().flatten().flatten().max_by_key(|key| key.generation);
        newest.cloned().ok_or_else(|| {
            let wrong = copies.into_iter().find_map(Result::err).unwrap_or_else(|| "it is empty".to_owned());
            format!("its key cannot be read (slot {slot}): {wrong}")
        })
    }

    /// Looks over all slots; `named` are those that records name.
    pub(super) fn survey(&self, named: &BTreeSet<KeySlot>) -> Survey {
        let mut survey = Survey::default();
        for page in &self.unreadable {
            let page = self.byte(page * PAGE) / PAGE as u64;
            survey.damage.push(format!("page {page}, of key slots, cannot be read"));
        }
        for slot in self.all() {
            let [a, b] = KeyCopy::BOTH.map(|copy| self.copy((slot, copy)));
            for (copy, found) in [(KeyCopy::A, &a), (KeyCopy::B, &b)] {
                let range = self.range((slot, copy)).expect("one of all slots");
                if let Err(wrong) = found
                    && !self.unreadable.contains(&(range.start / PAGE))
                {
                    survey.damage.push(format!("key slot {slot}, copy {copy:?}: {wrong}"));
                }
            }
            match (named.contains(&slot), a, b) {
                (true, Ok(Some(a)), Ok(Some(b))) if a.generation != b.generation => survey.leftovers += 1,
                (true, Ok(Some(a)), Ok(Some(b))) if a != b => {
                    survey.damage.push(format!("key slot {slot}: its copies are two keys"));
                }
                (true, Ok(Some(_)), Ok(None)) | (true, Ok(None), Ok(Some(_))) => {
                    survey.damage.push(format!("key slot {slot}: one of its copies is missing"));
                }
                (false, Ok(Some(_)), _) | (false, _, Ok(Some(_))) => survey.leftovers += 1,
                _ => {}
            }
        }
        survey
    }

    /// A slot that nobody has and that can be written.
    fn free_slot(&self, lineages: &BTreeMap<KeySlot, Arc<Lineage>>) -> Option<KeySlot> {
        let is_empty = |slot| KeyCopy::BOTH.iter().all(|copy| self.copy((slot, *copy)) == Ok(None));
        self.all().find(|slot| !lineages.contains_key(slot) && is_empty(*slot))
    }

    /// There is one more cluster, of empty slots.
    fn add_cluster(&mut self, cluster: ClusterId) {
        self.clusters.push(cluster);
        self.image.resize(self.clusters.len() * SLOTS_IN_BYTES, 0);
    }

    /// Puts a key into a copy of the image, or nothing.
    fn put(&mut self, place: Place, key: Option<&SealedKey>) {
        let (pool, range) = (self.pool, self.range(place).expect("a slot that the pool has"));
        match key {
            Some(key) => key.encode(&mut self.image[range], pool, place.0),
            None => self.image[range].fill(0),
        }
    }

    /// Makes a copy of the image what it has to be. True if the device has to be told.
    fn correct(&mut self, place: Place, lineages: &BTreeMap<KeySlot, Arc<Lineage>>) -> bool {
        let Some(key) = wanted(place.0, lineages) else { return false };
        let range = self.range(place).expect("a slot that the pool has");
        let before: [u8; COPY] = self.image[range.clone()].try_into().expect("a copy");
        self.put(place, key.as_ref());
        self.image[range] != before || self.unsure.contains(&place)
    }

    /// Makes a page of the image, which could not be read, what it has to be. False if the key of a slot in it is not known.
    fn rebuild(&mut self, page: usize, lineages: &BTreeMap<KeySlot, Arc<Lineage>>) -> bool {
        let (cluster, start) = (page * PAGE / SLOTS_IN_BYTES, page * PAGE % SLOTS_IN_BYTES);
        let copy = if start < SLOTS_IN_BYTES / 2 { KeyCopy::A } else { KeyCopy::B };
        let slots: Vec<KeySlot> = KeySlot::within(cluster, start..start + PAGE).collect();
        if slots.iter().any(|slot| wanted(*slot, lineages).is_none()) {
            return false;
        }
        for slot in slots {
            self.correct((slot, copy), lineages);
        }
        true
    }
}

/// What a slot has to hold: a key or nothing. None if that is not known.
fn wanted(slot: KeySlot, lineages: &BTreeMap<KeySlot, Arc<Lineage>>) -> Option<Option<SealedKey>> {
    match lineages.get(&slot) {
        None => Some(None),
        Some(lineage) => lineage.key().map(Some),
    }
}

impl Home {
    /// Gives the lineage of the volume another key. The old one is nowhere on the device when this is done.
    pub async fn replace_key(&self, volume: &str, key: Vec<u8>) -> Result<(), PoolError> {
        let changing = self.changing.lock().await;
        let target = self.pool.volume(volume)?;
        let Some(lineage) = target.lineage() else {
            return Err(self.invalid(format!("{volume} was made without a key, so none can be replaced")));
        };
        self.check_key(&key)?;
        let failed = |source| self.failed("replace a key", source);
        self.restore_slot(&changing, lineage.slot()).await.map_err(failed)?;
        let generation = lineage.key().map_or(0, |key| key.generation) + 1;
        let key = SealedKey { generation, bytes: key.into() };
        for copy in KeyCopy::BOTH {
            let place = (lineage.slot(), copy);
            if self.keys.borrow().range(place).is_none() {
                return Err(self.invalid(format!("{volume} names a key slot that the pool does not have")));
            }
            self.keys.borrow_mut().put(place, Some(&key));
            self.write_copies(&changing, &[place]).await.map_err(failed)?;
            // It is the newest copy, so it counts from now on.
            lineage.set(key.clone());
        }
        Ok(())
    }

    /// Keeps the key of a new lineage, durably. Until a record names the slot, nothing but memory does.
    pub(super) async fn add_key(&self, changing: &Held<'_>, key: Vec<u8>) -> Result<KeySlot, PoolError> {
        let free = || self.keys.borrow().free_slot(&self.pool.lineages.list());
        let slot = match free() {
            Some(slot) => slot,
            None => {
                self.add_key_cluster(changing).await?;
                free().expect("a new cluster has free slots")
            }
        };
        self.pool.lineages.begin(slot, SealedKey { generation: 1, bytes: key.into() });
        match self.write_slot(changing, slot).await {
            Ok(()) => Ok(slot),
            Err(source) => {
                self.withdraw_key(changing, slot).await;
                Err(self.failed("keep a key", source))
            }
        }
    }

    /// The volume for which a key was added is not made.
    pub(super) async fn withdraw_key(&self, changing: &Held<'_>, slot: KeySlot) {
        if let Err(error) = self.destroy_key(changing, slot).await {
            tracing::error!(
                "pool {}: key slot {slot} cannot be emptied: {error}; it will be when the pool is opened",
                self.pool.name()
            );
        }
    }

    /// Empties a slot that no record names any more, durably.
    pub(super) async fn destroy_key(&self, changing: &Held<'_>, slot: KeySlot) -> Result<(), IoError> {
        self.pool.lineages.keep(&self.pool.named_slots());
        self.restore_slot(changing, slot).await?;
        self.write_slot(changing, slot).await
    }

    /// Makes all slots hold what the records name, and nothing else. Changes of the records are durable before.
    pub(super) async fn settle_keys(&self, changing: &Held<'_>) -> Result<(), IoError> {
        self.pool.lineages.keep(&self.pool.named_slots());
        let unreadable = self.keys.borrow().unreadable.clone();
        let mut outcome = Ok(());
        for page in unreadable {
            // What is lost stays as it is: its volumes are offline, and perhaps it can be read another time.
            outcome = outcome.and(self.restore_page(changing, page).await.map(drop));
        }
        let lineages = self.pool.lineages.list();
        let due: Vec<Place> = {
            let mut keys = self.keys.borrow_mut();
            let places = keys.all().flat_map(|slot| KeyCopy::BOTH.map(|copy| (slot, copy)));
            let is_readable = |keys: &KeySlots, place| {
                let range = keys.range(place).expect("one of all slots");
                !keys.unreadable.contains(&(range.start / PAGE))
            };
            places.filter(|place| is_readable(&keys, *place) && keys.correct(*place, &lineages)).collect()
        };
        outcome.and(self.write_copies(changing, &due).await)
    }

    /// Before the pool is closed: what failed to be emptied is tried once more.
    pub(super) async fn settle_failed_keys(&self, changing: &Held<'_>) {
        let named = self.pool.named_slots().len();
        if self.keys.borrow().unsure.is_empty() && named == self.pool.lineages.list().len() {
            return;
        }
        let settled = match self.commit_holding(changing).await {
            Ok(()) => self.settle_keys(changing).await,
            failed => failed,
        };
        if let Err(error) = settled {
            tracing::error!("pool {}: key slots cannot be written: {error}", self.pool.name());
        }
    }

    /// Makes a cluster of key slots, and names it in both superblocks before anything is put into it.
    async fn add_key_cluster(&self, _changing: &Held<'_>) -> Result<(), PoolError> {
        if self.superblock.borrow().key_clusters.len() == MOST_KEY_CLUSTERS {
            let most = MOST_KEY_CLUSTERS * SLOTS_PER_CLUSTER;
            let what = format!(
                "all its {most} keys are in use; delete encrypted disks with their snapshots, or use another pool"
            );
            return Err(self.invalid(what));
        }
        let cluster = self.seat.take_cluster();
        let cluster = cluster.ok_or_else(|| PoolError::NoSpace { pool: self.pool.name().to_owned() })?;
        let failed = |source| self.failed("make room for keys", source);
        // Whatever the cluster held before, somebody's data perhaps, must not be taken for keys.
        if let Err(source) = self.empty(cluster).await {
            self.seat.let_go(cluster);
            return Err(failed(source));
        }
        let mut superblock = self.superblock.borrow().clone();
        superblock.features.incompatible |= Features::KEYS;
        superblock.key_clusters.push(cluster);
        // If this fails, a superblock may name the cluster nevertheless, so it stays taken.
        self.write_superblock(superblock).await.map_err(failed)?;
        self.keys.borrow_mut().add_cluster(cluster);
        let same = self.superblock.borrow().clone();
        self.write_superblock(same).await.map_err(failed)
    }

    /// Fills a cluster with zeros, durably.
    async fn empty(&self, cluster: ClusterId) -> Result<(), IoError> {
        let mut buffer = self.memory.metadata.take();
        buffer[..SLOTS_IN_BYTES].fill(0);
        let written = write_whole(&self.seat.device, cluster.byte(), &mut buffer, 0..SLOTS_IN_BYTES).await;
        self.memory.metadata.set(buffer);
        written?;
        self.seat.device.flush().await
    }

    /// Writes both copies of a slot as they have to be, durably.
    async fn write_slot(&self, changing: &Held<'_>, slot: KeySlot) -> Result<(), IoError> {
        let places = KeyCopy::BOTH.map(|copy| (slot, copy));
        if self.keys.borrow().range(places[0]).is_none() {
            return Ok(());
        }
        let lineages = self.pool.lineages.list();
        for place in places {
            self.keys.borrow_mut().correct(place, &lineages);
        }
        self.write_copies(changing, &places).await
    }

    /// Writes copies as the image has them, durably: as many as can be written.
    async fn write_copies(&self, _changing: &Held<'_>, places: &[Place]) -> Result<(), IoError> {
        if places.is_empty() {
            return Ok(());
        }
        let mut written = Vec::with_capacity(places.len());
        let mut outcome = Ok(());
        self.keys.borrow_mut().unsure.extend(places);
        for place in places {
            let block = self.seat.device.info().block_size as usize;
            let (range, is_unreadable) = {
                let keys = self.keys.borrow();
                let start = keys.range(*place).expect("a slot that the pool has").start;
                (
                    start / block * block..start / block * block + block.max(COPY),
                    keys.unreadable.contains(&(start / PAGE)),
                )
            };
            let done = if is_unreadable { Err(IoError::Media) } else { self.write_image(range).await };
            match done {
                Ok(()) => written.push(*place),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        self.seat.device.flush().await?;
        let mut keys = self.keys.borrow_mut();
        for place in written {
            keys.unsure.remove(&place);
        }
        outcome
    }

    /// Writes a page that could not be read, if its copies are known from elsewhere. Whether it was written.
    async fn restore_page(&self, _changing: &Held<'_>, page: usize) -> Result<bool, IoError> {
        if !self.keys.borrow_mut().rebuild(page, &self.pool.lineages.list()) {
            return Ok(false);
        }
        self.write_image(page * PAGE..(page + 1) * PAGE).await?;
        self.seat.device.flush().await?;
        self.keys.borrow_mut().unreadable.remove(&page);
        Ok(true)
    }

    /// The same for the pages of a slot, before its copies are written.
    async fn restore_slot(&self, changing: &Held<'_>, slot: KeySlot) -> Result<(), IoError> {
        for copy in KeyCopy::BOTH {
            let page = self.keys.borrow().range((slot, copy)).map(|range| range.start / PAGE);
            let page = page.filter(|page| self.keys.borrow().unreadable.contains(page));
            if let Some(page) = page {
                self.restore_page(changing, page).await?;
            }
        }
        Ok(())
    }

    /// Writes a part of the image, of a page at most.
    async fn write_image(&self, range: Range<usize>) -> Result<(), IoError> {
        let len = range.len();
        let mut buffer = self.memory.page.take();
        let at = {
            let keys = self.keys.borrow();
            buffer[..len].copy_from_slice(&keys.image[range.clone()]);
            keys.byte(range.start)
        };
        let written = write_whole(&self.seat.device, at, &mut buffer, 0..len).await;
        // So that nothing of it is ever written elsewhere.
        buffer[..len].fill(0);
        self.memory.page.set(buffer);
        written
    }

    pub(super) fn check_key(&self, key: &[u8]) -> Result<(), PoolError> {
        if (1..=LONGEST_KEY).contains(&key.len()) {
            return Ok(());
        }
        Err(self.invalid(format!("a sealed key of {} bytes cannot be kept; it has 1 to {LONGEST_KEY}", key.len())))
    }
}
