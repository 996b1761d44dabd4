//! A volume or snapshot that the process knows: its record, its map, and who uses it.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::reactor::{Census, Reactor};

use super::error::PoolError;
use super::format::{KeySlot, PagePointer, VolumeRecord};
use super::lineage::Lineage;
use super::map::{Map, Root, Stored, branches_for};
use super::pause::Pause;
use super::pool::Pool;
use super::queue::VolumeQueue;
use super::units::{CLUSTER, VolumeId};

pub use super::format::{SNAPSHOT_SIGN, VolumeKind};

/// A volume or snapshot.
pub struct Volume {
    id: VolumeId,
    pool: Arc<Pool>,
    kind: VolumeKind,
    /// The volume that a snapshot is of; the snapshot that a clone is of; or nobody.
    parent: VolumeId,
    name: String,
    created_at: u64,
    size: Arc<AtomicU64>,
    attributes: Mutex<Vec<u8>>,
    damage: Mutex<Option<String>>,
    lineage: Option<Arc<Lineage>>,
    pub(super) map: Map,
    pub(super) pause: Pause,
    /// Writes and discards in flight, on all reactors.
    pub(super) writes: Arc<Census>,
    queues: AtomicUsize,
    /// The record differs from what is stored.
    pub(super) record_changed: AtomicBool,
}

/// What a volume or snapshot is like.
#[derive(Clone, Debug)]
pub struct VolumeInfo {
    /// Its number, which no other ever has.
    pub id: VolumeId,
    /// Its name; that of a snapshot is `volume@snapshot`.
    pub name: String,
    /// What it is.
    pub kind: VolumeKind,
    /// The volume that a snapshot is of, or the snapshot that a clone is of, if that is still there.
    pub parent: Option<String>,
    /// It had a parent when it was made: without one of now, that is gone.
    pub had_parent: bool,
    /// Bytes in it.
    pub size_bytes: u64,
    /// Bytes of the pool that it refers to, alone or with others.
    pub allocated_bytes: u64,
    /// When it was made: seconds since 1970.
    pub created_at: u64,
    /// What the layers above keep with it.
    pub attributes: Vec<u8>,
    /// Why it cannot be used.
    pub offline: Option<String>,
    /// A sealed key is kept with it.
    pub has_key: bool,
    /// Volumes and snapshots that have this key, itself among them. The key is destroyed with the last of them.
    pub holders_of_key: usize,
}

impl Volume {
    pub(super) fn new(pool: &Arc<Pool>, record: &VolumeRecord, map: Map) -> Arc<Self> {
        Arc::new(Self {
            id: record.id,
            pool: pool.clone(),
            kind: record.kind,
            parent: record.parent,
            name: record.name.clone(),
            created_at: record.created_at,
            size: Arc::new(AtomicU64::new(record.size)),
            attributes: Mutex::new(record.attributes.clone()),
            damage: Mutex::new(None),
            lineage: record.key.map(|slot| pool.lineages.with(slot)),
            map,
            pause: Pause::default(),
            writes: Census::new(),
            queues: AtomicUsize::new(0),
            record_changed: AtomicBool::new(true),
        })
    }

    /// An empty root for a volume of this size.
    pub(super) fn empty_root(size: u64) -> Box<Root> {
        Root::new(branches_for(size.div_ceil(CLUSTER)))
    }

    /// The name; that of a snapshot is `volume@snapshot`.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    /// Its number.
    pub fn id(&self) -> VolumeId {
        self.id
    }

    /// Bytes in it, as they change.
    pub fn size(&self) -> &Arc<AtomicU64> {
        &self.size
    }

    /// Bytes in a block of the pool's device: the smallest piece that can be written.
    pub fn block_size(&self) -> u32 {
        self.pool.device.info().block_size
    }

    /// Its pool.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What the layers above keep with it.
    pub fn attributes(&self) -> Vec<u8> {
        self.attributes.lock().expect("no thread panics while it holds this lock").clone()
    }

    pub(super) fn set_attributes(&self, attributes: Vec<u8>) {
        *self.attributes.lock().expect("no thread panics while it holds this lock") = attributes;
        self.record_changed.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
        self.record_changed.store(true, Ordering::SeqCst);
    }

    /// Whether it is frozen.
    pub fn is_snapshot(&self) -> bool {
        self.kind == VolumeKind::Snapshot
    }

    pub(super) fn parent(&self) -> VolumeId {
        self.parent
    }

    /// Why it cannot be used, if it cannot.
    pub fn offline(&self) -> Option<String> {
        self.damage().or_else(|| self.lineage.as_ref()?.lost())
    }

    /// What was lost of its map. That is written down: a page that comes back later must not be believed. A lost key is not; it may come back.
    pub(super) fn damage(&self) -> Option<String> {
        self.damage.lock().expect("no thread panics while it holds this lock").clone()
    }

    pub(super) fn take_offline(&self, why: String) {
        *self.damage.lock().expect("no thread panics while it holds this lock") = Some(why);
    }

    pub(super) fn bring_back(&self) {
        *self.damage.lock().expect("no thread panics while it holds this lock") = None;
        self.record_changed.store(true, Ordering::SeqCst);
    }

    /// The key that is kept with it: bytes whose meaning the layers above know. Its snapshots, and what was cloned from them, have the same.
    pub fn sealed_key(&self) -> Option<Arc<[u8]>> {
        Some(self.lineage.as_ref()?.key()?.bytes)
    }

    pub(super) fn lineage(&self) -> Option<&Arc<Lineage>> {
        self.lineage.as_ref()
    }

    pub(super) fn key_slot(&self) -> Option<KeySlot> {
        self.lineage.as_ref().map(|lineage| lineage.slot())
    }

    pub(super) fn refuse_offline(&self) -> Result<(), PoolError> {
        match self.offline() {
            None => Ok(()),
            Some(why) => Err(PoolError::Offline { pool: self.pool.name().to_owned(), name: self.name(), why }),
        }
    }

    /// What it is like now.
    pub fn info(&self) -> VolumeInfo {
        let volumes = self.pool.volumes.read().expect("no thread panics while it holds this lock");
        self.info_among(&volumes, &holders_in(&volumes))
    }

    pub(super) fn info_among(
        &self,
        volumes: &BTreeMap<VolumeId, Arc<Volume>>,
        holders: &HashMap<KeySlot, usize>,
    ) -> VolumeInfo {
        VolumeInfo {
            id: self.id,
            name: self.name(),
            kind: self.kind,
            parent: volumes.get(&self.parent).map(|parent| parent.name()),
            had_parent: !self.parent.is_nobody(),
            size_bytes: self.size.load(Ordering::Acquire),
            allocated_bytes: self.map.clusters() * CLUSTER,
            created_at: self.created_at,
            attributes: self.attributes(),
            offline: self.offline(),
            has_key: self.lineage.is_some(),
            holders_of_key: self.key_slot().and_then(|slot| holders.get(&slot).copied()).unwrap_or(0),
        }
    }

    /// Its record, with where its map was stored last.
    pub(super) fn record(&self) -> VolumeRecord {
        VolumeRecord {
            id: self.id,
            kind: self.kind,
            flags: if self.damage().is_some() { VolumeRecord::DAMAGED } else { 0 },
            parent: self.parent,
            size: self.size.load(Ordering::Acquire),
            created_at: self.created_at,
            name: self.name(),
            roots: self.map.root().stored.each_ref().map(PagePointer::from),
            attributes: self.attributes(),
            key: self.key_slot(),
        }
    }

    /// Opens the volume on a reactor.
    pub fn queue(self: &Arc<Self>, reactor: &Reactor) -> Result<Rc<VolumeQueue>, PoolError> {
        self.refuse_offline()?;
        if self.is_snapshot() {
            let what = format!("{} is a snapshot and never changes; make a volume from it and use that", self.name);
            return Err(PoolError::Invalid { pool: self.pool.name().to_owned(), what });
        }
        VolumeQueue::open(reactor, self)
    }

    /// Opens a snapshot on a reactor, to be read. Whatever would change it is refused as [`IoError::ReadOnly`](crate::device::IoError::ReadOnly).
    pub fn frozen_queue(self: &Arc<Self>, reactor: &Reactor) -> Result<Rc<VolumeQueue>, PoolError> {
        self.refuse_offline()?;
        if !self.is_snapshot() {
            let what = format!("{} is a volume, and changes", self.name);
            return Err(PoolError::Invalid { pool: self.pool.name().to_owned(), what });
        }
        VolumeQueue::open(reactor, self)
    }

    /// Queues that are open, on all reactors.
    pub(super) fn queues(&self) -> usize {
        self.queues.load(Ordering::SeqCst)
    }

    pub(super) fn queue_opened(&self) {
        self.queues.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn queue_closed(&self) {
        self.queues.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How many volumes and snapshots name each key slot.
pub(super) fn holders_in(volumes: &BTreeMap<VolumeId, Arc<Volume>>) -> HashMap<KeySlot, usize> {
    let mut holders = HashMap::new();
    for slot in volumes.values().filter_map(|volume| volume.key_slot()) {
        *holders.entry(slot).or_default() += 1;
    }
    holders
}

impl From<&Stored> for PagePointer {
    fn from(stored: &Stored) -> Self {
        let (page, checksum) = stored.get();
        Self { page, checksum }
    }
}
