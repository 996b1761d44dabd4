//! Looking at maps: what differs between two of them, and who has which space.
//!
//! Both walk maps while I/O goes on, with the lock `changing` held: no root is replaced. A step looks at one leaf without an await.

use std::sync::Arc;

use crate::device::ByteRange;
use crate::reactor::yield_now;

use super::super::entry::Volume;
use super::super::error::PoolError;
use super::super::map::{Blocks, Branch, Leaf, Word};
use super::super::units::{BLOCK, CLUSTER, LEAVES_PER_BRANCH, WORDS_PER_LEAF};
use super::Home;
use super::operations::Difference;

/// Leaves that are looked at before others have a turn.
const LEAVES_PER_TURN: usize = 4;

/// The space of a volume or snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that nobody else refers to.
    pub own_bytes: u64,
    /// Bytes that others refer to as well.
    pub shared_bytes: u64,
}

impl Home {
    /// What differs in `to` from `from`, or from nothing at all: in ascending order, in whole blocks. A block counts as different if it, or a
    /// block of the same cluster, was written in between, whatever was written.
    pub async fn diff(&self, from: Option<&str>, to: &str) -> Result<Vec<Difference>, PoolError> {
        let _changing = self.changing.lock().await;
        let from = from.map(|name| self.pool.volume(name)).transpose()?;
        let to = self.pool.volume(to)?;
        to.refuse_offline()?;
        from.as_ref().map_or(Ok(()), |from| from.refuse_offline())?;
        let size = to.size().load(std::sync::atomic::Ordering::Acquire);
        let mut differences = Differences { found: Vec::new(), size };
        let leaves = size.div_ceil(CLUSTER * WORDS_PER_LEAF as u64) as usize;
        let mut looked_at = 0;
        let mut number = 0;
        while number < leaves {
            let branch = |volume: &Arc<Volume>| branch_of(volume, number).map(std::ptr::from_ref);
            if number.is_multiple_of(LEAVES_PER_BRANCH) && from.as_ref().and_then(branch) == branch(&to) {
                number += LEAVES_PER_BRANCH;
                continue;
            }
            let (old, new) = (from.as_ref().and_then(|from| leaf_of(from, number)), leaf_of(&to, number));
            if old.map(std::ptr::from_ref) != new.map(std::ptr::from_ref) {
                differences.between(number, old, new);
                looked_at += 1;
                if looked_at % LEAVES_PER_TURN == 0 {
                    yield_now().await;
                }
            }
            number += 1;
        }
        Ok(differences.found)
    }

    /// How much space the volume or snapshot has for itself, and how much with others.
    pub async fn usage(&self, name: &str) -> Result<Usage, PoolError> {
        let _changing = self.changing.lock().await;
        let volume = self.pool.volume(name)?;
        let mut usage = Usage::default();
        let slots = volume.map.root().slots.len();
        for number in 0..slots * LEAVES_PER_BRANCH {
            let Some(leaf) = leaf_of(&volume, number) else { continue };
            for cluster in leaf.words().filter_map(Word::cluster) {
                // A leaf that several trees lead to holds its clusters once.
                let is_own = self.pool.space.is_exclusive(cluster) && is_alone(&volume, number);
                *(if is_own { &mut usage.own_bytes } else { &mut usage.shared_bytes }) += CLUSTER;
            }
            if number % LEAVES_PER_TURN == 0 {
                yield_now().await;
            }
        }
        Ok(usage)
    }
}

fn branch_of(volume: &Arc<Volume>, leaf: usize) -> Option<&Branch> {
    volume.map.root().slots.get(leaf / LEAVES_PER_BRANCH)?.branch.see().node
}

fn leaf_of(volume: &Arc<Volume>, leaf: usize) -> Option<&Leaf> {
    branch_of(volume, leaf)?.leaves[leaf % LEAVES_PER_BRANCH].see().node
}

/// Whether no other tree leads to the leaf.
fn is_alone(volume: &Arc<Volume>, leaf: usize) -> bool {
    let holders = |node: &std::sync::atomic::AtomicU32| node.load(std::sync::atomic::Ordering::Relaxed);
    use super::super::map::Node;
    branch_of(volume, leaf).is_some_and(|branch| holders(branch.holders()) == 1)
        && leaf_of(volume, leaf).is_some_and(|leaf| holders(leaf.holders()) == 1)
}

struct Differences {
    found: Vec<Difference>,
    size: u64,
}

impl Differences {
    fn between(&mut self, number: usize, old: Option<&Leaf>, new: Option<&Leaf>) {
        for word in 0..WORDS_PER_LEAF {
            let load = |leaf: Option<&Leaf>| leaf.map_or(Word::ABSENT, |leaf| leaf.load(word).durable());
            let (old, new) = (load(old), load(new));
            if old == new {
                continue;
            }
            let cluster = (number * WORDS_PER_LEAF + word) as u64;
            let is_same_cluster = old.cluster() == new.cluster();
            for block in 0..16 {
                let at = Blocks::between(block, block);
                let (was, is) = (old.present().has(at), new.present().has(at));
                if was != is || is && !is_same_cluster {
                    self.add(cluster * CLUSTER + u64::from(block) * BLOCK, !is);
                }
            }
        }
    }

    fn add(&mut self, start: u64, is_zero: bool) {
        let len = BLOCK.min(self.size.saturating_sub(start));
        if len == 0 {
            return;
        }
        if let Some(last) = self.found.last_mut()
            && last.range.end() == start
            && last.is_zero == is_zero
        {
            last.range = ByteRange::new(last.range.start(), last.range.len() + len).expect("within the volume");
        } else {
            let range = ByteRange::new(start, len).expect("within the volume");
            self.found.push(Difference { range, is_zero });
        }
    }
}
