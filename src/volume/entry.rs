//! A volume or snapshot that the process knows: its record, its map, and who uses it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::reactor::{Census, Reactor};

use super::error::PoolError;
use super::format::{PagePointer, VolumeRecord};
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
    offline: Mutex<Option<String>>,
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
            offline: Mutex::new(None),
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
        self.offline.lock().expect("no thread panics while it holds this lock").clone()
    }

    pub(super) fn take_offline(&self, why: String) {
        *self.offline.lock().expect("no thread panics while it holds this lock") = Some(why);
    }

    pub(super) fn bring_back(&self) {
        *self.offline.lock().expect("no thread panics while it holds this lock") = None;
        self.record_changed.store(true, Ordering::SeqCst);
    }

    pub(super) fn refuse_offline(&self) -> Result<(), PoolError> {
        match self.offline() {
            None => Ok(()),
            Some(why) => Err(PoolError::Offline { pool: self.pool.name().to_owned(), name: self.name(), why }),
        }
    }

    /// What it is like now.
    pub fn info(&self) -> VolumeInfo {
        self.info_among(&self.pool.volumes.read().expect("no thread panics while it holds this lock"))
    }

    pub(super) fn info_among(&self, volumes: &BTreeMap<VolumeId, Arc<Volume>>) -> VolumeInfo {
        VolumeInfo {
            id: self.id,
            name: self.name(),
            kind: self.kind,
            parent: volumes.get(&self.parent).map(|parent| parent.name()),
            size_bytes: self.size.load(Ordering::Acquire),
            allocated_bytes: self.map.clusters() * CLUSTER,
            created_at: self.created_at,
            attributes: self.attributes(),
            offline: self.offline(),
        }
    }

    /// Its record, with where its map was stored last.
    pub(super) fn record(&self) -> VolumeRecord {
        VolumeRecord {
            id: self.id,
            kind: self.kind,
            flags: if self.offline().is_some() { VolumeRecord::DAMAGED } else { 0 },
            parent: self.parent,
            size: self.size.load(Ordering::Acquire),
            created_at: self.created_at,
            name: self.name(),
            roots: self.map.root().stored.each_ref().map(PagePointer::from),
            attributes: self.attributes(),
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

impl From<&Stored> for PagePointer {
    fn from(stored: &Stored) -> Self {
        let (page, checksum) = stored.get();
        Self { page, checksum }
    }
}
