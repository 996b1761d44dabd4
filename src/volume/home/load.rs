//! Opening a pool: the newest superblock, the trees that it leads to, the journal on top, and from all that who has which cluster.
//!
//! Nothing is written until everything is known. Then a checkpoint, or just a superblock after a clean stop, says who has the pool open, and with
//! its new epoch ends the old journal. What cannot be read takes the volumes that need it offline; that, too, is written down: what only a lost page
//! named counts as free, so a page that comes back later must not be believed again.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::{Device, DeviceHandle, SharedDevice, read_whole};
use crate::reactor::Reactor;

use super::super::entry::Volume;
use super::super::error::PoolError;
use super::super::format::{
    FormatError, JournalStart, PagePointer, Record, Superblock, VolumeRecord,
    catalog::{self as record_page, RECORDS_PER_PAGE},
};
use super::super::map::{Demolition, Map, Remains, Root, Uncounted};
use super::super::pool::{Found, OpenOptions, Pool};
use super::super::seat::Seat;
use super::super::space::{MetadataBudget, PageAllocator, Space};
use super::super::units::{BRANCHES_PER_ROOT, CLUSTER, PAGE, PageNumber, VolumeId};
use super::catalog::Catalog;
use super::journal::{self, Journal};
use super::keys::{KeySlots, Survey};
use super::nodes::{Nodes, Page, Reader, pointers_in};
use super::structure::{self, Change};
use super::{Home, Memory, owner, root_pages, tally};

/// What was found in a pool.
pub(in crate::volume) struct Contents {
    pub(in crate::volume) pool: Arc<Pool>,
    pub(in crate::volume) superblock: Superblock,
    pages: PageAllocator,
    catalog: Catalog,
    keys: KeySlots,
    /// What a crash has left in the slots of keys.
    pub(in crate::volume) leftover_keys: usize,
    /// The block after the last that was replayed.
    head: JournalStart,
    next_volume: VolumeId,
    /// What could not be read.
    pub(in crate::volume) damage: Vec<String>,
    /// Whether anything has to be stored.
    is_changed: bool,
    /// Records that were replayed.
    pub(in crate::volume) replayed: u64,
}

impl Home {
    /// Opens a pool. The reactor is its home from now on.
    pub async fn open(
        name: &str,
        reactor: &Reactor,
        device: Arc<SharedDevice>,
        options: &OpenOptions,
    ) -> Result<Rc<Self>, PoolError> {
        let contents = Contents::load(name, reactor, device, options).await?;
        let pool = contents.pool.clone();
        match Self::begin(reactor, contents).await {
            Ok(home) => {
                home.start();
                Ok(home)
            }
            Err(error) => {
                pool.forget();
                Err(error)
            }
        }
    }

    async fn begin(reactor: &Reactor, contents: Contents) -> Result<Rc<Self>, PoolError> {
        let Contents { pool, mut superblock, pages, catalog, keys, head, next_volume, damage, is_changed, .. } =
            contents;
        for what in &damage {
            tracing::error!("pool {}: {what}", pool.name());
        }
        let epoch = superblock.epoch + 1;
        let journal = Journal::new(&superblock, epoch, head);
        superblock.epoch = epoch;
        superblock.owner = Some(owner::this_process());
        superblock.is_clean = false;
        superblock.start = head;
        let home = Rc::new(Self {
            seat: Seat::on(reactor, &pool)?,
            reactor: reactor.clone(),
            journal,
            memory: Memory::new(reactor).await,
            carried: RefCell::default(),
            superblock: RefCell::new(superblock.clone()),
            pages: RefCell::new(pages),
            catalog: RefCell::new(catalog),
            keys: RefCell::new(keys),
            next_volume: Cell::new(next_volume),
            stored: Cell::new(0),
            is_half_stored: Cell::new(false),
            changing: Default::default(),
            committing: Default::default(),
            demolitions: RefCell::default(),
            demolish_now: Default::default(),
            closed: Default::default(),
            pool,
        });
        // What the replay has marked is stored now, or in the journal no more.
        home.collect(&mut Default::default()).await;
        let stored = match is_changed || !damage.is_empty() {
            true => home.checkpoint_with(|_| ()).await,
            false => home.write_superblock(superblock).await,
        };
        stored.map_err(|source| home.failed("write the superblock", source))?;
        // Not before: a deletion that the journal tells of may have been in the device's cache only.
        let settled = home.settle_keys(&home.changing.lock().await).await;
        if let Err(error) = settled {
            tracing::error!("pool {}: key slots cannot be written: {error}", home.pool.name());
        }
        Ok(home)
    }
}

/// Records as the catalog has them.
#[derive(Default)]
struct Records {
    records: Vec<VolumeRecord>,
    catalog: Catalog,
    pages: Vec<PageNumber>,
    damage: Vec<String>,
}

impl Contents {
    /// Reads a pool, and writes nothing.
    pub(in crate::volume) async fn load(
        name: &str,
        reactor: &Reactor,
        device: Arc<SharedDevice>,
        options: &OpenOptions,
    ) -> Result<Self, PoolError> {
        let broken = |source| PoolError::Device { pool: name.to_owned(), source };
        let handle = device.handle(reactor).map_err(broken)?;
        let superblock = read_superblock(name, reactor, &handle).await?;
        owner::refuse_others(name, superblock.owner.as_ref(), options.take_over)?;
        if superblock.clusters > (handle.info().size / CLUSTER).try_into().unwrap_or(u32::MAX) {
            let (needed, size) = (u64::from(superblock.clusters) * CLUSTER, handle.info().size);
            let what =
                format!("its device has {size} bytes, but the pool was made on {needed}; give it the whole device");
            return Err(PoolError::Invalid { pool: name.to_owned(), what });
        }
        let space = Space::new(superblock.clusters);
        let found = Found { uuid: superblock.pool, generation: superblock.generation, space };
        let pool = Pool::new(name, reactor, device, options.clone(), found);
        let loaded = Self::load_into(&pool, reactor, &handle, superblock).await;
        if loaded.is_err() {
            pool.forget();
        }
        loaded
    }

    /// Clusters that superblocks, journal, key slots and pages of metadata have.
    pub(in crate::volume) fn metadata_clusters(&self) -> u32 {
        self.superblock.journal.end().0 + self.pages.clusters() + self.superblock.key_clusters.len() as u32
    }

    async fn load_into(
        pool: &Arc<Pool>,
        reactor: &Reactor,
        device: &DeviceHandle,
        superblock: Superblock,
    ) -> Result<Self, PoolError> {
        let name = pool.name().to_owned();
        let reader = Reader { reactor, device, superblock: &superblock };
        let Records { records, mut catalog, mut pages, mut damage } = read_catalog(&reader).await;
        load_volumes(pool, &reader, &records, &mut pages, &mut damage).await;
        let mut allocator = PageAllocator::new();
        tally::adopt(pool, &superblock, &pages, &mut allocator, &mut damage);

        // The journal, on top of what was stored.
        let mut replayed = 0;
        let mut left = Vec::new();
        let mut last = superblock.next_volume;
        let replay = journal::replay(reactor, device, &superblock, |record| {
            replayed += 1;
            if let Record::Create(record) | Record::Fork { record, .. } = &record {
                last = last.max(VolumeId(record.id.0 + 1));
            }
            let (root, remains, change) = structure::replay(pool, &record, &Uncounted);
            left.extend(root);
            pool.free_nodes(remains);
            match change {
                Change::Added(id) => catalog.add(id),
                Change::Removed(id) => catalog.remove(id),
                Change::None => {}
            }
        });
        let failed = |source| PoolError::Io { pool: name.clone(), what: "read the journal", source };
        let (head, generation) = replay.await.map_err(failed)?;
        if generation > superblock.generation {
            let what = format!("superblock {generation} was written and cannot be read; only an older one can");
            let source = FormatError::Wrong { object: "superblock", at: 0, what };
            return Err(PoolError::Format { pool: name, source });
        }
        for root in left {
            let mut demolition = Demolition::new(root);
            let mut remains = Remains::default();
            while demolition.step(&Uncounted, &mut remains) {}
            pool.free_nodes(remains);
        }
        let nodes = tally::derive(pool, &allocator, &superblock, &mut damage).await + catalog.nodes();
        let budget = MetadataBudget::new(nodes, allocator.pages_in_use(), allocator.clusters(), &pool.space);
        assert!(pool.budget.set(budget).is_ok(), "a pool is loaded once");
        let keys = KeySlots::read(&reader).await;
        let leftover_keys = read_keys(pool, &keys, &mut damage);
        let is_changed = replayed > 0 || !damage.is_empty() || superblock.catalog.is_none();
        let next_volume = last;
        Ok(Self {
            pool: pool.clone(),
            superblock,
            pages: allocator,
            catalog,
            keys,
            leftover_keys,
            head,
            next_volume,
            damage,
            is_changed,
            replayed,
        })
    }
}

/// Gives each lineage its key; how much a crash has left in the slots.
fn read_keys(pool: &Pool, keys: &KeySlots, damage: &mut Vec<String>) -> usize {
    let named = pool.named_slots();
    // The journal may tell of some that were deleted later.
    pool.lineages.keep(&named);
    for (slot, lineage) in pool.lineages.list() {
        match keys.key(slot) {
            Ok(key) => lineage.set(key),
            Err(why) => lineage.lose(why),
        }
    }
    let Survey { damage: mut found, leftovers } = keys.survey(&named);
    damage.append(&mut found);
    leftovers
}

async fn read_superblock(name: &str, reactor: &Reactor, device: &DeviceHandle) -> Result<Superblock, PoolError> {
    let mut both = reactor.buffers().take(2 * PAGE).await;
    for (at, page) in [(0, Superblock::A), (PAGE, Superblock::B)] {
        if read_whole(device, page.byte(), &mut both, at..at + PAGE).await.is_err() {
            // One that cannot be read is one that is not valid.
            both[at..at + PAGE].fill(0);
        }
    }
    let format = |source| PoolError::Format { pool: name.to_owned(), source };
    let superblock = Superblock::newest(&both[..PAGE], &both[PAGE..2 * PAGE]).map_err(format)?;
    superblock.features.check_writable().map_err(format)?;
    Ok(superblock)
}

async fn read_catalog(reader: &Reader<'_>) -> Records {
    let root = reader.superblock.catalog;
    let mut found = Records::default();
    if root.is_none() {
        return found;
    }
    let index = read_pointers(reader, &[root], "catalog", &mut found).await;
    let pages = read_pointers(reader, &index, "catalog", &mut found).await;
    let mut records: HashMap<PagePointer, Vec<VolumeRecord>> = HashMap::new();
    let damage = &mut found.damage;
    let (mut broken, mut good) = (HashSet::new(), Vec::new());
    reader
        .read(pages.iter().copied(), |pointer, page: Page<'_>| match page {
            Ok(bytes) => {
                good.push(pointer.page);
                let decoded = record_page::decode(bytes).into_iter().flatten();
                let mut in_page = Vec::new();
                for record in decoded {
                    match record {
                        Ok(record) => in_page.extend(record),
                        Err(error) => {
                            broken.insert(pointer);
                            damage.push(format!("a volume of the catalog (page {}) is lost: {error}", pointer.page.0));
                        }
                    }
                }
                records.insert(pointer, in_page);
            }
            Err(what) => damage.push(format!("up to {RECORDS_PER_PAGE} volumes of the catalog are lost: {what}")),
        })
        .await;
    found.pages.extend(good);
    for pointer in pages {
        let in_page = records.remove(&pointer).unwrap_or_default();
        let mut ids = [None; RECORDS_PER_PAGE];
        for (place, record) in ids.iter_mut().zip(&in_page) {
            *place = Some(record.id);
        }
        let is_whole = !broken.contains(&pointer) && found.pages.contains(&pointer.page);
        found.catalog.adopt_records(is_whole.then_some(pointer), ids);
        found.records.extend(in_page);
    }
    let all_read = found.damage.is_empty();
    found
        .catalog
        .adopt_index(if all_read { index } else { Vec::new() }, if all_read { root } else { PagePointer::NONE });
    found
}

/// The pointers in some pages, in their order.
async fn read_pointers(
    reader: &Reader<'_>,
    pages: &[PagePointer],
    what: &str,
    found: &mut Records,
) -> Vec<PagePointer> {
    let mut children: HashMap<PagePointer, Vec<PagePointer>> = HashMap::new();
    reader
        .read(pages.iter().copied(), |pointer, page| match page.and_then(pointers_in) {
            Ok(pointers) => {
                found.pages.push(pointer.page);
                children.insert(pointer, pointers);
            }
            Err(damage) => found.damage.push(format!("volumes of the {what} are lost: {damage}")),
        })
        .await;
    let in_order = pages.iter().filter_map(|page| children.remove(page)).flatten();
    in_order.filter(|pointer| !pointer.is_none()).collect()
}

/// Makes the volumes of the records, with what their roots lead to.
async fn load_volumes(
    pool: &Arc<Pool>,
    reader: &Reader<'_>,
    records: &[VolumeRecord],
    pages: &mut Vec<PageNumber>,
    damage: &mut Vec<String>,
) {
    let used = |record: &VolumeRecord| record.roots[..root_pages(record.size) as usize].to_vec();
    let roots: Vec<_> = records.iter().flat_map(used).filter(|root| !root.is_none()).collect();
    let mut found: HashMap<PagePointer, Result<Vec<PagePointer>, String>> = HashMap::new();
    reader.read(roots, |pointer, page| drop(found.insert(pointer, page.and_then(pointers_in)))).await;
    let branches = found.values().flatten().flatten().copied().filter(|branch| !branch.is_none());
    let nodes = Nodes::read(reader, branches.collect::<Vec<_>>()).await;
    pages.extend(found.iter().filter(|(_, page)| page.is_ok()).map(|(pointer, _)| pointer.page));
    pages.extend(nodes.branches.iter().filter(|(_, found)| found.node.is_some()).map(|(pointer, _)| pointer.page));
    pages.extend(nodes.leaves.iter().filter(|(_, found)| found.node.is_some()).map(|(pointer, _)| pointer.page));
    for record in records {
        let root = Volume::empty_root(record.size);
        let mut lost = None;
        for (run, pointer) in used(record).into_iter().enumerate().filter(|(_, pointer)| !pointer.is_none()) {
            let slots = root.slots.iter().skip(run * BRANCHES_PER_ROOT).take(BRANCHES_PER_ROOT);
            match &found[&pointer] {
                Ok(branches) => {
                    root.stored[run].replace(pointer.page, pointer.checksum, 0);
                    for (slot, branch) in slots.zip(branches).filter(|(_, branch)| !branch.is_none()) {
                        let found = &nodes.branches[branch];
                        slot.branch.join(found.node.as_ref().unwrap_or(&nodes.lost_branch));
                        lost = lost.or_else(|| found.damage.clone());
                    }
                }
                Err(what) => {
                    slots.for_each(|slot| slot.branch.join(&nodes.lost_branch));
                    lost = lost.or_else(|| Some(what.clone()));
                }
            }
        }
        add_volume(pool, record, root, lost, damage);
    }
    nodes.done();
}

fn add_volume(
    pool: &Arc<Pool>,
    record: &VolumeRecord,
    root: Box<Root>,
    lost: Option<String>,
    damage: &mut Vec<String>,
) {
    let map = Map::new(root);
    if lost.is_none() {
        map.begin_storing();
    }
    let volume = Volume::new(pool, record, map);
    volume.record_changed.store(lost.is_some(), Ordering::SeqCst);
    if record.is_damaged() {
        volume.take_offline("metadata of it was lost".to_owned());
    }
    if let Some(what) = lost {
        damage.push(format!("{}: {what}", record.name));
        volume.take_offline(what);
    }
    pool.volumes.write().expect("no thread panics while it holds this lock").insert(record.id, volume);
}
