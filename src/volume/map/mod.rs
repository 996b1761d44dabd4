//! The map of a volume: for each 64 KiB, where they are.
//!
//! [`Root`] -> [`Branch`] -> [`Leaf`] -> [`Word`]. Reading follows two edges and loads a word, without a lock and without counting. A snapshot
//! copies the root; from then on both roots lead to the same branches, which are frozen. The first change below a frozen node copies it
//! ([`Map::own`]): that is the only place where the data path takes a lock, for the time that copying one or two pages of memory takes.
//!
//! What was changed since the last commit is found from the top down: the map's `pending`, a bitmap of leaves in each slot of the root, a bitmap of
//! words in each leaf. Who changes a word sets the bits from the bottom up; who takes them clears from the top down. All of it is
//! sequentially consistent: a mark that finds the upper bit still set was made before the bit is cleared, so whoever clears it sees what is below. The flags
//! `changed`, which a checkpoint takes, work in the same way.

mod change;
mod node;
mod remains;
mod word;

use crate::volume::sync::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Mutex, Ordering};
use crate::volume::units::{ClusterId, LEAVES_PER_BRANCH, WORDS_PER_LEAF};

pub use change::{Claim, Discarded, Spot};
pub use node::{Branch, Dead, Edge, Gone, Leaf, Loaded, Node, Root, Seen, Slot, Stored};
pub use remains::{Demolition, Remains};
pub use word::{Blocks, Word};

/// Who counts what maps refer to, and keeps space for storing them.
pub trait Ledger {
    /// One reference more to a cluster that has one.
    fn share(&self, cluster: ClusterId);
    /// One fewer, after a while: whether the caller has to keep it until then.
    fn let_go(&self, cluster: ClusterId) -> bool;
    /// So many nodes are about to be made; false if there would be no space to store them.
    fn admit(&self, nodes: u32) -> bool;
    /// So many nodes are gone.
    fn dismiss(&self, nodes: u32);
}

/// While a journal is replayed nothing is counted: that is done once, when everything is as it will be.
pub struct Uncounted;

impl Ledger for Uncounted {
    fn share(&self, _cluster: ClusterId) {}

    fn let_go(&self, _cluster: ClusterId) -> bool {
        false
    }

    fn admit(&self, _nodes: u32) -> bool {
        true
    }

    fn dismiss(&self, _nodes: u32) {}
}

/// Clusters of a volume below one branch.
const CLUSTERS_PER_BRANCH: u64 = (WORDS_PER_LEAF * LEAVES_PER_BRANCH) as u64;

/// Where a cluster of a volume stands in its map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    slot: usize,
    leaf: usize,
    word: usize,
}

impl Place {
    /// The place of the volume's cluster `index`.
    #[inline]
    pub fn of(index: u64) -> Self {
        Self {
            slot: (index / CLUSTERS_PER_BRANCH) as usize,
            leaf: (index / WORDS_PER_LEAF as u64) as usize % LEAVES_PER_BRANCH,
            word: index as usize % WORDS_PER_LEAF,
        }
    }

    fn index(self) -> u64 {
        self.slot as u64 * CLUSTERS_PER_BRANCH + (self.leaf * WORDS_PER_LEAF + self.word) as u64
    }
}

/// Branches of a volume with so many clusters.
pub fn branches_for(clusters: u64) -> usize {
    clusters.div_ceil(CLUSTERS_PER_BRANCH) as usize
}

/// The map of one volume.
pub struct Map {
    root: AtomicPtr<Root>,
    /// Held while nodes are made or copied.
    making: Mutex<()>,
    /// A word was changed since a commit took them.
    pending: AtomicBool,
    /// Something differs from what is stored.
    changed: AtomicBool,
    /// Clusters that words refer to.
    clusters: AtomicI64,
    /// Rises with each change of where something is, or whether it is there.
    version: AtomicU64,
}

#[allow(unsafe_code)]
impl Map {
    /// A map with this root.
    pub fn new(root: Box<Root>) -> Self {
        Self {
            root: AtomicPtr::new(Box::into_raw(root)),
            making: Mutex::new(()),
            pending: AtomicBool::new(false),
            changed: AtomicBool::new(true),
            clusters: AtomicI64::new(0),
            version: AtomicU64::new(0),
        }
    }

    /// The root. Holds until the command that asked ends.
    #[inline]
    pub fn root(&self) -> &Root {
        // SAFETY: the pointer came from a box; a root that is replaced is freed after a grace period only.
        unsafe { &*self.root.load(Ordering::Acquire) }
    }

    /// Puts another root in its place, while no command changes the map; gives the old one, which may still be read for a while.
    pub fn replace_root(&self, root: Box<Root>) -> Box<Root> {
        let old = self.root.swap(Box::into_raw(root), Ordering::AcqRel);
        self.version.fetch_add(1, Ordering::Release);
        self.changed.store(true, Ordering::SeqCst);
        // SAFETY: it came from a box, and nobody else takes it: roots are replaced by the home reactor alone. The caller keeps it for as long as
        // somebody may read it.
        unsafe { Box::from_raw(old) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // What the root leads to has been let go before, or the whole pool is being dropped: then every node goes with its volumes.
        let root = self.replace_root(Root::new(0));
        let mut remains = Remains::default();
        let mut demolition = Demolition::new(root);
        while demolition.step(&Uncounted, &mut remains) {}
    }
}

impl Map {
    /// The word of a cluster of the volume.
    #[inline]
    pub fn word(&self, index: u64) -> Word {
        let place = Place::of(index);
        let Some(slot) = self.root().slots.get(place.slot) else { return Word::ABSENT };
        let Some(branch) = slot.branch.see().node else { return Word::ABSENT };
        match branch.leaves[place.leaf].see().node {
            Some(leaf) => leaf.load(place.word),
            None => Word::ABSENT,
        }
    }

    /// A word that may be changed, if its leaf is there and owned.
    #[inline]
    pub fn spot(&self, index: u64) -> Option<Spot<'_>> {
        let place = Place::of(index);
        let slot = self.root().slots.get(place.slot)?;
        let branch = slot.branch.owned()?;
        let leaf = branch.leaves[place.leaf].owned()?;
        Some(Spot { map: self, slot, branch, leaf, place })
    }

    /// Makes the word one that may be changed: makes or copies the nodes above it. None if there would be no space to store them. The index
    /// lies within the volume.
    pub fn own(&self, index: u64, ledger: &impl Ledger, remains: &mut Remains) -> Option<Spot<'_>> {
        let place = Place::of(index);
        let _alone = self.making.lock().expect("no thread panics while it holds this lock");
        let slot = &self.root().slots[place.slot];
        let branch = slot.branch.owned();
        let needed = match branch {
            None => 2,
            Some(branch) => u32::from(branch.leaves[place.leaf].owned().is_none()),
        };
        if needed > 0 && !ledger.admit(needed) {
            return None;
        }
        if branch.is_none() {
            let copy = slot.branch.see().node.map_or_else(Branch::new, copy_of_branch);
            remains.let_go_branch(slot.branch.put(copy), ledger);
        }
        let branch = slot.branch.owned().expect("it was just put there");
        let edge = &branch.leaves[place.leaf];
        if needed > 0 {
            let copy = match edge.see().node {
                Some(frozen) => copy_of_leaf(frozen, ledger),
                None => Leaf::new(|_| Word::ABSENT),
            };
            remains.let_go_leaf(edge.put(copy), ledger);
            raise(&branch.changed);
        }
        raise(&self.changed);
        let leaf = edge.owned().expect("it was just put there");
        Some(Spot { map: self, slot, branch, leaf, place })
    }

    /// A number that is another one once anything has moved, come or gone: who finds it as it was finds all that it looked up as it was. What was
    /// somewhere else before is there for nobody else yet: that takes a grace period, which follows the change of the number.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Clusters that words refer to.
    pub fn clusters(&self) -> u64 {
        self.clusters.load(Ordering::Relaxed).max(0) as u64
    }

    /// Sets how many clusters words refer to, when that was counted or taken over from elsewhere.
    pub fn set_clusters(&self, clusters: u64) {
        self.clusters.store(clusters as i64, Ordering::Relaxed);
    }

    /// The first cluster from `from` on, before `end`, that has something. Skips what has no nodes.
    pub fn next_present(&self, from: u64, end: u64) -> Option<u64> {
        let mut index = from;
        while index < end {
            let place = Place::of(index);
            let Some(branch) = self.root().slots.get(place.slot)?.branch.see().node else {
                index = (place.slot as u64 + 1) * CLUSTERS_PER_BRANCH;
                continue;
            };
            let Some(leaf) = branch.leaves[place.leaf].see().node else {
                index = (index / WORDS_PER_LEAF as u64 + 1) * WORDS_PER_LEAF as u64;
                continue;
            };
            if leaf.load(place.word) != Word::ABSENT {
                return Some(index);
            }
            index += 1;
        }
        None
    }

    /// A root that leads to the same branches, which are frozen from now on. No command changes the map meanwhile.
    pub fn fork(&self) -> Box<Root> {
        let mut root = Root::new(self.root().slots.len());
        for (to, from) in root.slots.iter_mut().zip(&self.root().slots) {
            to.branch = from.branch.share();
        }
        root
    }

    /// Whether words were changed since a commit took them.
    pub fn is_pending(&self) -> bool {
        self.pending.load(Ordering::SeqCst)
    }

    /// Begins to take the dirty words: whether there may be some. [`Map::take_dirty`] of every slot has to follow.
    pub fn begin_taking(&self) -> bool {
        self.pending.swap(false, Ordering::SeqCst)
    }

    /// Takes the dirty words below a slot: volume's cluster and the word as it is now.
    pub fn take_dirty(&self, slot: usize, mut each: impl FnMut(u64, Word)) {
        let Some(at) = self.root().slots.get(slot) else { return };
        for (group, leaves) in at.dirty.iter().enumerate() {
            for leaf in bits(take(leaves)) {
                let leaf = group * 64 + leaf;
                let Some(node) = at.branch.see().node.and_then(|branch| branch.leaves[leaf].see().node) else {
                    continue;
                };
                for (group, words) in node.dirty.iter().enumerate() {
                    for word in bits(take(words)) {
                        let word = group * 64 + word;
                        each(Place { slot, leaf, word }.index(), node.load(word).durable());
                    }
                }
            }
        }
    }

    /// Begins to store what has changed: whether something may have.
    pub fn begin_storing(&self) -> bool {
        self.changed.swap(false, Ordering::SeqCst)
    }

    /// What was taken by [`Map::begin_storing`] was not stored after all.
    pub fn store_again(&self) {
        raise(&self.changed);
    }
}

fn copy_of_branch(frozen: &Branch) -> Box<Branch> {
    let mut copy = Branch::new();
    for (to, from) in copy.leaves.iter_mut().zip(&frozen.leaves) {
        *to = from.share();
    }
    copy
}

fn copy_of_leaf(frozen: &Leaf, ledger: &impl Ledger) -> Box<Leaf> {
    Leaf::new(|index| {
        let word = frozen.load(index);
        if let Some(cluster) = word.cluster() {
            ledger.share(cluster);
        }
        word.shared()
    })
}

/// Sets a flag from the bottom up.
fn raise(flag: &AtomicBool) {
    if !flag.load(Ordering::SeqCst) {
        flag.store(true, Ordering::SeqCst);
    }
}

fn take(bitmap: &AtomicU64) -> u64 {
    if bitmap.load(Ordering::SeqCst) == 0 { 0 } else { bitmap.swap(0, Ordering::SeqCst) }
}

/// The numbers of the bits that are set.
fn bits(mut bitmap: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if bitmap == 0 {
            return None;
        }
        let bit = bitmap.trailing_zeros() as usize;
        bitmap &= bitmap - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests;
