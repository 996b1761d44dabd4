//! How much space is kept for metadata, so that a full pool can still make a checkpoint.
//!
//! A checkpoint writes each changed node of the maps and of the catalog to a page that is free, while the page that had it before stays in
//! use. At worst all nodes are changed. With N nodes in memory and P pages in use by the durable ones, a checkpoint needs N free pages beside
//! these P. When it is done, at most N pages are in use, and the next one again needs as many: so N + max(P, N) pages have to be there, in
//! clusters that metadata has already or that are held back for it. Every free page of a cluster serves as well as any other, so nothing is
//! lost to fragments.
//!
//! The sum of both kinds of clusters is *promised*. Taking a cluster from those held back and giving it back leave it as it is; a new node
//! raises it first and is refused if it cannot ([`MetadataBudget::admit`]); only a checkpoint that is done lowers it. During a checkpoint P
//! stays what it was at its beginning: the pages written so far are those that were kept for it. Nodes that are admitted meanwhile are covered
//! in the next one, by the second N.

use super::Space;
use crate::volume::sync::{AtomicU64, Ordering};
use crate::volume::units::PAGES_PER_CLUSTER;

/// Clusters that have to be held back beside the `clusters` that metadata has, for `nodes` in memory and `pages_in_use` on the device.
pub fn metadata_clusters_needed(nodes: u64, pages_in_use: u64, clusters: u32) -> u32 {
    promise(nodes, pages_in_use).saturating_sub(clusters)
}

fn promise(nodes: u64, pages_in_use: u64) -> u32 {
    let pages = nodes.saturating_add(nodes.max(pages_in_use));
    u32::try_from(pages.div_ceil(u64::from(PAGES_PER_CLUSTER))).unwrap_or(u32::MAX)
}

/// The nodes that exist and the clusters promised to them.
pub struct MetadataBudget {
    /// Both in one word, so that a promise is never lowered under a node that comes in at the same moment. A node is a page on the device, so
    /// 2^32 of them are 16 TiB of metadata.
    ///
    /// Relaxed throughout: nothing else is published by these numbers, and what is held back has its own order (`stock.rs`).
    state: AtomicU64,
    pages_in_use: AtomicU64,
}

#[derive(Clone, Copy)]
struct State {
    nodes: u32,
    promised: u32,
}

impl State {
    fn of(word: u64) -> Self {
        Self { nodes: (word >> 32) as u32, promised: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.nodes) << 32 | u64::from(self.promised)
    }
}

impl MetadataBudget {
    /// For a pool that has just been opened: `pages_in_use` and `clusters` are the [`super::PageAllocator`]'s. Holds back what is needed, even
    /// if it is not there: then data gets nothing until there is more space.
    pub fn new(nodes: u32, pages_in_use: u64, clusters: u32, space: &Space) -> Self {
        let promised = promise(u64::from(nodes), pages_in_use).max(clusters);
        space.set_held_back(promised - clusters);
        Self { state: AtomicU64::new(State { nodes, promised }.word()), pages_in_use: AtomicU64::new(pages_in_use) }
    }

    fn state(&self) -> State {
        State::of(self.state.load(Ordering::Relaxed))
    }

    fn replace(&self, old: State, new: State) -> bool {
        self.state.compare_exchange(old.word(), new.word(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// So many nodes are about to be made, on any reactor. False if the pool has no space for their pages: then they are not.
    pub fn admit(&self, nodes: u32, space: &Space) -> bool {
        loop {
            let old = self.state();
            let Some(after) = old.nodes.checked_add(nodes) else { return false };
            let pages_in_use = self.pages_in_use.load(Ordering::Relaxed);
            let more = promise(u64::from(after), pages_in_use).saturating_sub(old.promised);
            if more > 0 && !space.hold_back(more) {
                return false;
            }
            if self.replace(old, State { nodes: after, promised: old.promised + more }) {
                return true;
            }
            space.let_up(more);
        }
    }

    /// So many nodes are gone. Their pages are needed until the next checkpoint is done.
    pub fn dismiss(&self, nodes: u32) {
        self.state.fetch_sub(u64::from(nodes) << 32, Ordering::Relaxed);
    }

    /// A checkpoint is done and its pages are released: on the home reactor, after [`super::PageAllocator::release`].
    pub fn settle(&self, pages_in_use: u64, space: &Space) {
        // A promise covers the nodes that there were, so the pages that they have now do not raise it.
        self.pages_in_use.store(pages_in_use, Ordering::Relaxed);
        loop {
            let old = self.state();
            let surplus = old.promised.saturating_sub(promise(u64::from(old.nodes), pages_in_use));
            // Those that metadata has are not given up here, so no more than is held back.
            let less = surplus.min(space.held_back());
            if less == 0 {
                return;
            }
            if self.replace(old, State { promised: old.promised - less, ..old }) {
                let let_up = space.let_up(less);
                debug_assert_eq!(let_up, less, "only the home reactor lowers it");
                return;
            }
        }
    }

    /// Nodes that exist.
    pub fn nodes(&self) -> u32 {
        self.state().nodes
    }

    /// Clusters that metadata has or can have.
    pub fn promised(&self) -> u32 {
        self.state().promised
    }
}

#[cfg(test)]
mod tests {
    use super::super::PageAllocator;
    use super::*;
    use crate::volume::units::{ClusterId, PageNumber};

    /// A pool's metadata: every node is written at each checkpoint.
    struct Metadata {
        space: Space,
        budget: MetadataBudget,
        pages: PageAllocator,
        nodes: Vec<Option<PageNumber>>,
        checkpoint: u64,
    }

    impl Metadata {
        fn new(clusters: u32) -> Self {
            let space = Space::new(clusters);
            let budget = MetadataBudget::new(0, 0, 0, &space);
            Self { space, budget, pages: PageAllocator::new(), nodes: Vec::new(), checkpoint: 0 }
        }

        fn add(&mut self, nodes: u32) -> bool {
            let admitted = self.budget.admit(nodes, &self.space);
            if admitted {
                self.nodes.extend((0..nodes).map(|_| None));
            }
            admitted
        }

        fn remove(&mut self, nodes: usize) {
            for page in self.nodes.drain(..nodes).flatten() {
                self.pages.put_back(page, self.checkpoint + 1);
            }
            self.budget.dismiss(nodes as u32);
        }

        fn checkpoint(&mut self) {
            self.checkpoint += 1;
            for page in &mut self.nodes {
                let new = self.pages.take(&self.space).expect("a page was kept for each node");
                if let Some(old) = page.replace(new) {
                    self.pages.put_back(old, self.checkpoint);
                }
            }
            self.pages.release(self.checkpoint, &self.space);
            self.budget.settle(self.pages.pages_in_use(), &self.space);
            assert_eq!(self.pages.pages_in_use(), self.nodes.len() as u64);
            let enough = self.space.held_back() + self.pages.clusters();
            assert!(enough >= promise(self.nodes.len() as u64, self.nodes.len() as u64));
            assert_eq!(enough, self.budget.promised());
        }

        fn fill(&self) -> Vec<ClusterId> {
            let mut taken = Vec::new();
            self.space.take(usize::MAX, &mut ClusterId(0), &mut taken);
            taken
        }
    }

    #[test]
    fn a_full_pool_makes_checkpoints() {
        let mut metadata = Metadata::new(200);
        assert!(metadata.add(100));
        metadata.checkpoint();
        assert!(metadata.add(50));
        let mut data = metadata.fill();
        assert!(!metadata.add(100));
        assert_eq!(metadata.budget.nodes(), 150);
        for _ in 0..10 {
            metadata.checkpoint();
        }
        metadata.remove(100);
        for _ in 0..3 {
            metadata.checkpoint();
            assert!(metadata.add(3));
        }
        data.extend(metadata.fill());
        metadata.checkpoint();
        metadata.checkpoint();
        assert_eq!(data.len() as u32 + metadata.space.held_back() + metadata.pages.clusters(), 200);
        assert_eq!(metadata.space.mistakes(), 0);
    }

    #[test]
    fn a_random_life_never_lacks_a_page() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut metadata = Metadata::new(300);
        let mut data: Vec<ClusterId> = Vec::new();
        for _ in 0..3000 {
            match random(6) {
                0 => metadata.checkpoint(),
                1 | 2 => _ = metadata.add(random(80) as u32),
                3 => metadata.remove(random(metadata.nodes.len() as u64 + 1) as usize),
                4 => data.extend(metadata.fill()),
                _ => data.drain(random(data.len() as u64 + 1) as usize..).for_each(|c| metadata.space.give_back(c)),
            }
        }
    }

    #[test]
    fn what_is_needed_counts_what_metadata_has() {
        assert_eq!(metadata_clusters_needed(0, 0, 0), 0);
        assert_eq!(metadata_clusters_needed(8, 0, 0), 1);
        assert_eq!(metadata_clusters_needed(8, 9, 0), 2);
        assert_eq!(metadata_clusters_needed(160, 160, 12), 8);
        assert_eq!(metadata_clusters_needed(1, 1, 12), 0);
        assert_eq!(metadata_clusters_needed(u64::MAX, u64::MAX, 0), u32::MAX);
    }
}
