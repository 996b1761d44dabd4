//! Changing a word: what a write or a discard may do to it, in steps that are each one atomic exchange.
//!
//! - **First write**: [`Spot::claim`] installs a cluster without presence bits, the data is written, [`Spot::publish`] sets the bits. If blocks of the
//!   cluster were discarded by then, the write is done again: of writes that were in flight together the other may have been the last to reach the
//!   device, and if that one was answered before the discard began, it must not come back. A cluster that was emptied is not used for anything
//!   else meanwhile, because the write is in flight.
//! - **Overwrite**: every block is present and the cluster is this volume's alone: nothing is changed here.
//! - **Write to a shared cluster**: the claim marks the word busy, the writer copies what it does not overwrite to a new cluster, and [`Spot::finish_copy`]
//!   puts that in place. Nobody else changes a busy word; readers go on with the old cluster.
//! - **Discard** ([`Spot::discard`]) clears bits; a cluster without any is let go.

use crate::volume::sync::Ordering;
use crate::volume::units::ClusterId;

use super::node::{Branch, Leaf, Slot};
use super::word::{Blocks, Word};
use super::{Ledger, Map, Place, raise};

/// A word that may be changed: its leaf, and the branch above it, are owned. Stays valid while the command that looked it up is in flight.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    pub(super) map: &'a Map,
    pub(super) slot: &'a Slot,
    pub(super) branch: &'a Branch,
    pub(super) leaf: &'a Leaf,
    pub(super) place: Place,
}

/// What a write may do with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Overwrite it: every block is present.
    InPlace(ClusterId),
    /// Write into the word's cluster, then publish the blocks with the word.
    Fill(Word),
    /// The same; the cluster is the one that was offered.
    FillNew(Word),
    /// Copy it: it is shared. The word is busy until the copy is finished or abandoned.
    Copy(Word),
    /// Wait: somebody else copies it.
    Busy,
    /// Nothing: a block that is covered partly is absent.
    PartlyAbsent,
    /// Nothing without a cluster to offer.
    NeedsCluster,
    /// Nothing: what is here is lost.
    Lost,
}

/// What a discard has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discarded {
    /// Nothing: the blocks were absent.
    Nothing,
    /// Blocks are absent now.
    Blocks,
    /// The same, and the word refers no more to this cluster.
    Cluster(ClusterId),
    /// Nothing: somebody copies the cluster.
    Busy,
}

impl Spot<'_> {
    /// The word as it is.
    #[inline]
    pub fn word(&self) -> Word {
        self.leaf.load(self.place.word)
    }

    fn exchange(&self, from: Word, to: Word) -> Result<(), Word> {
        self.leaf.exchange(self.place.word, from, to)
    }

    /// Asks what a write of blocks `touched`, of which `partly` are not covered whole, may do. `spare` is offered for a first write.
    #[inline]
    pub fn claim(
        &self,
        touched: Blocks,
        partly: Blocks,
        spare: Option<ClusterId>,
        is_exclusive: impl Fn(ClusterId) -> bool,
    ) -> Claim {
        let mut word = self.word();
        loop {
            if word.is_busy() {
                return Claim::Busy;
            }
            if !word.present().has(partly) {
                return if word.is_lost() { Claim::Lost } else { Claim::PartlyAbsent };
            }
            let Some(cluster) = word.cluster() else {
                if word.is_lost() {
                    return Claim::Lost;
                }
                let Some(spare) = spare else { return Claim::NeedsCluster };
                let new = Word::new(spare, Blocks::NONE);
                match self.exchange(word, new) {
                    Ok(()) => {
                        self.map.clusters.fetch_add(1, Ordering::Relaxed);
                        return Claim::FillNew(new);
                    }
                    Err(now) => word = now,
                }
                continue;
            };
            if !word.is_shared() {
                let all_present = word.present().has(touched);
                return if all_present { Claim::InPlace(cluster) } else { Claim::Fill(word) };
            }
            // The hint may be out of date. If nobody else holds the cluster now, nobody will: this leaf is the only way to it.
            let (next, claim) = match is_exclusive(cluster) {
                true => (word.not_shared(), None),
                false => (word.busy(), Some(Claim::Copy(word))),
            };
            match (self.exchange(word, next), claim) {
                (Ok(()), Some(claim)) => return claim,
                (Ok(()), None) => word = next,
                (Err(now), _) => word = now,
            }
        }
    }

    /// The data of these blocks is in the cluster of the word that was claimed. False if it has to be written again: the word has another cluster
    /// now, or none; or blocks of it were discarded.
    #[must_use]
    pub fn publish(&self, claimed: Word, blocks: Blocks) -> bool {
        let mut word = self.word();
        loop {
            if !claimed.is_continued_by(word) {
                return false;
            }
            if word.present().has(blocks) {
                return true;
            }
            match self.exchange(word, word.with(blocks)) {
                Ok(()) => break,
                Err(now) => word = now,
            }
        }
        self.mark();
        true
    }

    /// The copy that was claimed is done: the word is `to` from now on. The old cluster is to be let go.
    pub fn finish_copy(&self, claimed: Word, to: Word) {
        let done = self.exchange(claimed.busy(), to);
        debug_assert_eq!(done, Ok(()), "only who copies a cluster changes its word");
        self.mark();
    }

    /// The copy that was claimed came to nothing: the word is as it was.
    pub fn abandon_copy(&self, claimed: Word) {
        let done = self.exchange(claimed.busy(), claimed);
        debug_assert_eq!(done, Ok(()), "only who copies a cluster changes its word");
    }

    /// Makes blocks absent.
    pub fn discard(&self, blocks: Blocks) -> Discarded {
        let mut word = self.word();
        loop {
            if word.is_busy() {
                return Discarded::Busy;
            }
            let is_found = word.is_lost() && blocks == Blocks::ALL;
            let left = word.present().without(blocks);
            if left == word.present() && !is_found {
                return Discarded::Nothing;
            }
            let is_empty = is_found || left.is_empty();
            let next = if is_empty { Word::ABSENT } else { word.discarded(blocks) };
            match self.exchange(word, next) {
                Ok(()) => break,
                Err(now) => word = now,
            }
        }
        self.mark();
        match word.cluster() {
            Some(cluster) if word.present().without(blocks).is_empty() => {
                self.map.clusters.fetch_sub(1, Ordering::Relaxed);
                Discarded::Cluster(cluster)
            }
            _ => Discarded::Blocks,
        }
    }

    /// Puts a word in place while nobody else uses the map: when a journal is replayed. Lets go of the old cluster.
    pub fn replay(&self, word: Word, ledger: &impl Ledger) {
        let old = self.word();
        self.leaf.set(self.place.word, word);
        let count = |word: Word| i64::from(word.cluster().is_some());
        self.map.clusters.fetch_add(count(word) - count(old), Ordering::Relaxed);
        if let Some(cluster) = old.cluster().filter(|cluster| word.cluster() != Some(*cluster)) {
            ledger.let_go(cluster);
        }
        self.mark();
    }

    /// The word has changed: from the bottom up, see [`super`].
    fn mark(&self) {
        self.map.version.fetch_add(1, Ordering::Release);
        let Place { leaf, word, .. } = self.place;
        self.leaf.dirty[word / 64].fetch_or(1 << (word % 64), Ordering::SeqCst);
        let leaves = &self.slot.dirty[leaf / 64];
        let bit = 1 << (leaf % 64);
        if leaves.load(Ordering::SeqCst) & bit == 0 {
            leaves.fetch_or(bit, Ordering::SeqCst);
        }
        raise(&self.leaf.changed);
        raise(&self.branch.changed);
        raise(&self.map.changed);
        raise(&self.map.pending);
    }
}
