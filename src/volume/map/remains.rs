//! What nothing leads to any more: nodes whose memory, and clusters whose space, may be used again after a while.

use super::node::{Branch, Dead, Gone, Leaf, Root};
use super::{ClusterId, Ledger};

/// What was let go.
#[derive(Default)]
pub struct Remains {
    /// Clusters to which a reference is gone.
    pub clusters: Vec<ClusterId>,
    /// Leaves to which no edge leads.
    pub leaves: Vec<Dead<Leaf>>,
    /// Branches to which no edge leads.
    pub branches: Vec<Dead<Branch>>,
    /// Roots of no volume.
    pub roots: Vec<Box<Root>>,
}

impl Remains {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.leaves.is_empty() && self.branches.is_empty() && self.roots.is_empty()
    }

    pub(super) fn let_go_branch(&mut self, gone: Option<Gone<Branch>>, ledger: &impl Ledger) {
        let Some(dead) = gone.and_then(Gone::let_go) else { return };
        for edge in &dead.leaves {
            self.let_go_leaf(edge.release(), ledger);
        }
        ledger.dismiss(1);
        self.branches.push(dead);
    }

    pub(super) fn let_go_leaf(&mut self, gone: Option<Gone<Leaf>>, ledger: &impl Ledger) {
        let Some(dead) = gone.and_then(Gone::let_go) else { return };
        for cluster in dead.words().filter_map(|word| word.cluster()) {
            if ledger.let_go(cluster) {
                self.clusters.push(cluster);
            }
        }
        ledger.dismiss(1);
        self.leaves.push(dead);
    }
}

/// Takes a root apart, a leaf at a time. Who reads what it led to is not disturbed.
pub struct Demolition {
    root: Option<Box<Root>>,
    slot: usize,
    branch: Option<Dead<Branch>>,
    leaf: usize,
}

impl Demolition {
    /// Of a root that belongs to no volume any more.
    pub fn new(root: Box<Root>) -> Self {
        Self { root: Some(root), slot: 0, branch: None, leaf: 0 }
    }

    /// Lets go of one leaf, or of a branch that others hold too; false when everything is done.
    pub fn step(&mut self, ledger: &impl Ledger, remains: &mut Remains) -> bool {
        if let Some(branch) = &self.branch {
            match branch.leaves.get(self.leaf) {
                Some(edge) => {
                    remains.let_go_leaf(edge.release(), ledger);
                    self.leaf += 1;
                }
                None => {
                    ledger.dismiss(1);
                    remains.branches.extend(self.branch.take());
                }
            }
            return true;
        }
        let Some(root) = &self.root else { return false };
        match root.slots.get(self.slot) {
            Some(slot) => {
                self.slot += 1;
                self.leaf = 0;
                self.branch = slot.branch.release().and_then(Gone::let_go);
            }
            None => remains.roots.extend(self.root.take()),
        }
        true
    }
}
