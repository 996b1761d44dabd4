//! Changes of structure: volumes come, fork, go back, change their size and go. In memory, in one go; the same for a change that is being made
//! and for one that is replayed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::entry::Volume;
use super::super::format::{KeySlot, Record, VolumeKind, VolumeRecord};
use super::super::map::{Blocks, Discarded, Ledger, Map, Remains, Root, Word, branches_for};
use super::super::pool::Pool;
use super::super::units::{BLOCK, CLUSTER, VolumeId};

/// Something that was taken out of use and is to be taken apart.
pub(super) type Left = Option<Box<Root>>;

/// A new, empty volume.
pub(super) fn create(pool: &Arc<Pool>, record: &VolumeRecord) -> Arc<Volume> {
    add(pool, record, Map::new(Volume::empty_root(record.size)))
}

/// A new snapshot or clone with the content that the source has now. Nobody writes to the source meanwhile.
pub(super) fn fork(pool: &Arc<Pool>, source: &Volume, record: &VolumeRecord) -> Arc<Volume> {
    let map = Map::new(source.map.fork());
    map.set_clusters(source.map.clusters());
    add(pool, record, map)
}

fn add(pool: &Arc<Pool>, record: &VolumeRecord, map: Map) -> Arc<Volume> {
    let volume = Volume::new(pool, record, map);
    let mut volumes = pool.volumes.write().expect("no thread panics while it holds this lock");
    volumes.insert(record.id, volume.clone());
    volume
}

/// The volume has the content of the snapshot; it gets no smaller. Nobody writes to it meanwhile.
pub(super) fn roll_back(volume: &Volume, snapshot: &Volume) -> Left {
    let size = volume.size().load(Ordering::Acquire).max(snapshot.size().load(Ordering::Acquire));
    let root = extended(snapshot.map.fork(), size);
    let old = volume.map.replace_root(root);
    volume.map.set_clusters(snapshot.map.clusters());
    volume.set_size(size);
    Some(old)
}

/// The volume has nothing any more, and the size that it had. Nobody writes to it meanwhile.
pub(super) fn empty(volume: &Volume) -> Left {
    let old = volume.map.replace_root(Volume::empty_root(volume.size().load(Ordering::Acquire)));
    volume.map.set_clusters(0);
    Some(old)
}

/// The root with room for this size.
fn extended(root: Box<Root>, size: u64) -> Box<Root> {
    let branches = branches_for(size.div_ceil(CLUSTER));
    if branches <= root.slots.len() { root } else { root.moved_to(branches) }
}

/// The volume has another size. What lies behind the end is gone. Nobody writes to it meanwhile.
///
/// None if the pool has no space for the nodes that have to be changed.
pub(super) fn resize(volume: &Volume, size: u64, ledger: &impl Ledger, remains: &mut Remains) -> Option<()> {
    let old = volume.size().load(Ordering::Acquire);
    if size < old {
        cut(volume, size, old, ledger, remains)?;
    }
    let branches = branches_for(size.div_ceil(CLUSTER));
    if branches > volume.map.root().slots.len() {
        // Who reads may still follow the old root; what it leads to lives on.
        remains.roots.push(volume.map.replace_root(volume.map.root().moved_to(branches)));
    }
    volume.set_size(size);
    Some(())
}

/// Makes everything from `size` on absent: first all nodes that this changes are made ready, then their words are changed. Without space for the
/// nodes nothing is lost.
fn cut(volume: &Volume, size: u64, old: u64, ledger: &impl Ledger, remains: &mut Remains) -> Option<()> {
    let (start, behind) = (size / CLUSTER, old.div_ceil(CLUSTER));
    let first = (size % CLUSTER / BLOCK) as u32;
    let mut index = start;
    while let Some(next) = volume.map.next_present(index, behind) {
        volume.map.own(next, ledger, remains)?;
        index = next + 1;
    }
    index = start;
    while let Some(next) = volume.map.next_present(index, behind) {
        let blocks = if next == start { Blocks::between(first, 15) } else { Blocks::ALL };
        let spot = volume.map.own(next, ledger, remains)?;
        if let Discarded::Cluster(cluster) = spot.discard(blocks)
            && ledger.let_go(cluster)
        {
            remains.clusters.push(cluster);
        }
        index = next + 1;
    }
    Some(())
}

/// The volume or snapshot is gone.
pub(super) fn delete(pool: &Pool, volume: &Volume) -> Left {
    pool.volumes.write().expect("no thread panics while it holds this lock").remove(&volume.id());
    Some(volume.map.replace_root(Root::new(0)))
}

/// Makes a change again that the journal tells of. What makes no sense, because its volume is not there, is left out: it was deleted later, or
/// its record could not be read.
pub(super) fn replay(pool: &Arc<Pool>, record: &Record, ledger: &impl Ledger) -> (Left, Remains, Change) {
    let mut remains = Remains::default();
    let volume = |id: VolumeId| pool.volume_numbered(id);
    let mut left = None;
    let mut change = Change::None;
    match record {
        Record::Word { volume: id, index, word } => {
            let fits = |volume: &Arc<Volume>| *index < volume.size().load(Ordering::Acquire).div_ceil(CLUSTER);
            if let Some(volume) = volume(*id).filter(|volume| !volume.is_snapshot() && fits(volume))
                && let Some(spot) = volume.map.own(*index, ledger, &mut remains)
            {
                spot.replay(Word(*word), ledger);
            }
        }
        Record::Create(record) => {
            create(pool, record);
            change = Change::Added(record.id);
        }
        Record::Fork { source, record } => match volume(*source) {
            Some(source) => {
                fork(pool, &source, record);
                change = Change::Added(record.id);
            }
            None => {
                tracing::error!("journal: {} was made from a volume that is not there; it is left out", record.name)
            }
        },
        Record::Rollback { volume: id, snapshot } => {
            if let (Some(volume), Some(snapshot)) = (volume(*id), volume(*snapshot)) {
                left = roll_back(&volume, &snapshot);
            }
        }
        Record::Resize { volume: id, size } => {
            if let Some(volume) = volume(*id) {
                if *size < BLOCK {
                    // Every block lies behind such an end: nothing has to be looked for.
                    left = empty(&volume);
                }
                resize(&volume, *size, ledger, &mut remains);
            }
        }
        Record::Delete { volume: id } => {
            if let Some(volume) = volume(*id) {
                left = delete(pool, &volume);
                change = Change::Removed(*id);
            }
        }
        Record::SetAttributes { volume: id, attributes } => {
            if let Some(volume) = volume(*id) {
                volume.set_attributes(attributes.clone());
            }
        }
    }
    (left, remains, change)
}

/// What a change means for the catalog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing, or a record that says so itself.
    None,
    /// There is one more.
    Added(VolumeId),
    /// There is one fewer.
    Removed(VolumeId),
}

/// The record of a new volume or snapshot.
pub(super) fn new_record(
    id: VolumeId,
    kind: VolumeKind,
    parent: VolumeId,
    name: String,
    size: u64,
    attributes: Vec<u8>,
    key: Option<KeySlot>,
) -> VolumeRecord {
    VolumeRecord {
        id,
        kind,
        flags: 0,
        parent,
        size,
        created_at: super::now(),
        name,
        roots: [super::super::format::PagePointer::NONE; super::super::units::ROOTS_PER_VOLUME],
        attributes,
        key,
    }
}
