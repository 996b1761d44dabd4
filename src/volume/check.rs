//! Looking a pool over: everything that its superblock leads to, and what its journal adds.
//!
//! A check reads and writes nothing. A repair opens the pool, which writes down what is lost, and brings the volumes concerned back: what is lost of
//! them fails to be read until it is discarded. Opening also destroys keys that a crash left, and writes copies of keys anew that could not be read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device::SharedDevice;
use crate::reactor::{Reactor, yield_now};

use super::error::PoolError;
use super::home::{Contents, Home};
use super::map::Leaf;
use super::pool::{OpenOptions, Pool, PoolInfo};
use super::units::{CLUSTER, ClusterId, LEAVES_PER_BRANCH, WORDS_PER_LEAF};

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The pool.
    pub pool: PoolInfo,
    /// It was closed.
    pub is_clean: bool,
    /// Records of the journal that were read.
    pub replayed: u64,
    /// Clusters that volumes and snapshots refer to.
    pub clusters: u64,
    /// Sealed keys that a crash has left behind. Opening the pool destroys them; only in a pool that was closed they are a problem.
    pub leftover_keys: usize,
    /// What is wrong, each in a line.
    pub problems: Vec<String>,
    /// Volumes and snapshots that a repair has brought back.
    pub repaired: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks over a pool that nobody has open. `progress` is told how many of all volumes were looked at.
pub async fn check(
    name: &str,
    reactor: &Reactor,
    device: Arc<SharedDevice>,
    options: &OpenOptions,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report, PoolError> {
    let contents = Contents::load(name, reactor, device, options).await?;
    let pool = contents.pool.clone();
    let mut problems = contents.damage.clone();
    let offline: Vec<String> = pool.info().damaged;
    let why = |name: &String| pool.volume(name).ok().and_then(|volume| volume.offline()).unwrap_or_default();
    problems.extend(offline.iter().map(|name| format!("{name} is offline: {}", why(name))));
    let mut found = Found { places: HashMap::new(), leaves: HashMap::new(), problems: Vec::new() };
    let volumes = pool.volumes();
    for (number, volume) in volumes.iter().enumerate() {
        found.look_at(&pool, &volume.name).await?;
        progress(number + 1, volumes.len());
    }
    let clusters = found.places.len() as u64;
    found.count(&pool, u64::from(contents.metadata_clusters()));
    problems.append(&mut found.problems);
    if contents.superblock.is_clean && contents.leftover_keys > 0 {
        problems.push(format!("{} keys are left that no volume has", contents.leftover_keys));
    }
    let report = Report {
        pool: pool.info(),
        is_clean: contents.superblock.is_clean,
        replayed: contents.replayed,
        clusters,
        leftover_keys: contents.leftover_keys,
        problems,
        repaired: Vec::new(),
    };
    pool.forget();
    Ok(report)
}

/// Checks a pool that nobody has open, and brings back what is broken: what is lost stays lost.
pub async fn repair(
    name: &str,
    reactor: &Reactor,
    device: Arc<SharedDevice>,
    options: &OpenOptions,
    progress: impl FnMut(usize, usize),
) -> Result<Report, PoolError> {
    let mut report = check(name, reactor, device.clone(), options, progress).await?;
    let home = Home::open(name, reactor, device, options).await?;
    report.repaired = home.bring_back().await?;
    home.close().await?;
    Ok(report)
}

/// Where each cluster is referred to.
struct Found {
    /// A cluster stands for the same place in every volume, snapshot and clone that shares it.
    places: HashMap<ClusterId, u64>,
    /// Leaves that were looked at, with the number that they have in their volume.
    leaves: HashMap<*const Leaf, usize>,
    problems: Vec<String>,
}

impl Found {
    async fn look_at(&mut self, pool: &Arc<Pool>, name: &str) -> Result<(), PoolError> {
        let volume = pool.volume(name)?;
        let end = volume.size().load(Ordering::Acquire).div_ceil(CLUSTER);
        for (slot, branch) in volume.map.root().slots.iter().enumerate() {
            let Some(branch) = branch.branch.see().node else { continue };
            for (at, leaf) in branch.leaves.iter().enumerate() {
                let Some(leaf) = leaf.see().node else { continue };
                let number = slot * LEAVES_PER_BRANCH + at;
                match self.leaves.insert(leaf, number) {
                    None => self.leaf(name, number, end, leaf),
                    // One leaf stands for all that is lost.
                    Some(other) if other != number && leaf.words().any(|word| word.cluster().is_some()) => {
                        self.problems.push(format!("{name}: leaf {number} is leaf {other} elsewhere"));
                    }
                    Some(_) => {}
                }
            }
            yield_now().await;
        }
        Ok(())
    }

    fn leaf(&mut self, name: &str, number: usize, end: u64, leaf: &Leaf) {
        for (at, word) in leaf.words().enumerate() {
            let index = (number * WORDS_PER_LEAF + at) as u64;
            let Some(cluster) = word.cluster() else { continue };
            if index >= end {
                self.problems.push(format!("{name}: cluster {index} lies behind the end"));
            }
            if let Some(other) = self.places.insert(cluster, index)
                && other != index
            {
                self.problems.push(format!("{name}: cluster {} of the device is at {index} and at {other}", cluster.0));
            }
        }
    }

    /// Whether space is accounted for: nothing is used that nobody refers to.
    fn count(&mut self, pool: &Pool, others: u64) {
        let used = u64::from(pool.space.used_clusters());
        let known = self.places.len() as u64 + others;
        if used != known {
            self.problems.push(format!("{used} clusters are used, and {known} are referred to"));
        }
    }
}
