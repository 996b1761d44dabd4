//! Who has which cluster: derived from the maps when a pool is opened, and stored nowhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::reactor::yield_now;

use super::super::entry::Volume;
use super::super::format::Superblock;
use super::super::map::{Branch, Leaf, Node as _, Word};
use super::super::pool::Pool;
use super::super::space::{PageAllocator, Reference};
use super::super::units::{ClusterId, PageNumber};
use super::root_pages;

/// Nodes that are counted before others have a turn.
const NODES_PER_TURN: usize = 64;

/// Marks what the superblocks, the journal, the key slots and the pages of metadata have.
pub(super) fn adopt(
    pool: &Pool,
    superblock: &Superblock,
    pages: &[PageNumber],
    allocator: &mut PageAllocator,
    damage: &mut Vec<String>,
) {
    for cluster in 0..superblock.journal.end().0 {
        pool.space.refer(ClusterId(cluster)).expect("the superblock was checked: the journal lies within the pool");
    }
    for cluster in &superblock.key_clusters {
        pool.space.refer(*cluster).expect("the superblock was checked: clusters of keys lie within the pool");
    }
    for page in pages {
        if let Err(misplaced) = allocator.adopt(*page, &pool.space) {
            damage.push(format!("page {} of metadata {misplaced}", page.0));
        }
    }
}

/// Counts who refers to which cluster, says which nodes are owned, and how many nodes there are.
pub(super) async fn derive(
    pool: &Arc<Pool>,
    allocator: &PageAllocator,
    superblock: &Superblock,
    damage: &mut Vec<String>,
) -> u32 {
    let volumes: Vec<Arc<Volume>> =
        pool.volumes.read().expect("no thread panics while it holds this lock").values().cloned().collect();
    let mut tally = Tally {
        pool,
        allocator,
        superblock,
        leaves: HashMap::new(),
        branches: HashMap::new(),
        is_shared: false,
        bad: 0,
    };
    let mut nodes = 0;
    for volume in &volumes {
        let mut clusters = 0;
        for slot in &volume.map.root().slots {
            if let Some(branch) = slot.branch.see().node {
                clusters += tally.branch(branch);
                if tally.leaves.len().is_multiple_of(NODES_PER_TURN) {
                    yield_now().await;
                }
            }
        }
        volume.map.set_clusters(clusters);
        nodes += root_pages(volume.size().load(Ordering::Acquire));
    }
    if tally.bad > 0 {
        damage.push(format!("{} words name clusters that metadata has", tally.bad));
    }
    nodes += (tally.leaves.len() + tally.branches.len()) as u32;
    if tally.is_shared {
        tally.leaves.values().for_each(|(leaf, _)| mark_shared(pool, leaf));
    }
    for volume in volumes.iter().filter(|volume| !volume.is_snapshot()) {
        for slot in &volume.map.root().slots {
            if slot.branch.own_if_alone()
                && let Some(branch) = slot.branch.see().node
            {
                for edge in &branch.leaves {
                    edge.own_if_alone();
                }
            }
        }
    }
    nodes
}

/// What was counted.
struct Tally<'a> {
    pool: &'a Pool,
    allocator: &'a PageAllocator,
    superblock: &'a Superblock,
    /// Clusters of each leaf, by the leaf's address.
    leaves: HashMap<*const Leaf, (&'a Leaf, u64)>,
    branches: HashMap<*const Branch, u64>,
    is_shared: bool,
    bad: u64,
}

impl<'a> Tally<'a> {
    fn is_metadata(&self, cluster: ClusterId) -> bool {
        self.allocator.has(cluster) || self.superblock.key_clusters.contains(&cluster)
    }

    fn lose(&mut self, leaf: &Leaf, index: usize) {
        leaf.set(index, Word::UNREADABLE);
        leaf.changed.store(true, Ordering::SeqCst);
        self.bad += 1;
    }

    fn branch(&mut self, branch: &'a Branch) -> u64 {
        if let Some(clusters) = self.branches.get(&std::ptr::from_ref(branch)) {
            return *clusters;
        }
        let leaves = branch.leaves.iter().filter_map(|edge| edge.see().node);
        let clusters = leaves.map(|leaf| self.leaf(leaf)).sum();
        self.branches.insert(branch, clusters);
        clusters
    }

    fn leaf(&mut self, leaf: &'a Leaf) -> u64 {
        if let Some((_, clusters)) = self.leaves.get(&std::ptr::from_ref(leaf)) {
            return *clusters;
        }
        let mut clusters = 0;
        for (index, word) in leaf.words().enumerate() {
            let Some(cluster) = word.cluster() else { continue };
            match self.pool.space.refer(cluster) {
                Ok(Reference::First) => {}
                // Metadata was marked before: whoever comes first in the data is not the first there.
                Ok(Reference::Further) if self.is_metadata(cluster) => {
                    self.pool.space.let_go(cluster);
                    self.lose(leaf, index);
                    continue;
                }
                Ok(Reference::Further) => self.is_shared = true,
                Err(_) => {
                    self.lose(leaf, index);
                    continue;
                }
            }
            clusters += 1;
        }
        self.leaves.insert(leaf, (leaf, clusters));
        debug_assert!(leaf.holders().load(Ordering::Relaxed) > 0);
        clusters
    }
}

fn mark_shared(pool: &Pool, leaf: &Leaf) {
    for (index, word) in leaf.words().enumerate() {
        if word.cluster().is_some_and(|cluster| pool.space.references(cluster) > 1) {
            leaf.set_shared(index, word);
        }
    }
}
