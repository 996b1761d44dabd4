//! References to clusters that were let go. They count until a cycle is over: one commit, so that no journal still has them, and one grace period, so
//! that no command in flight still touches the clusters. Only then is a cluster free, if that was the last reference, or somebody's
//! alone, who may write to it in place: until then a power cut would show what they write to whom the reference belonged.

use std::collections::VecDeque;

use super::Space;
use crate::volume::units::ClusterId;

/// Room that is kept when the list has been longer for once, as after the deletion of a volume.
const ROOM: usize = 4096;

/// One reactor's references that wait, first come, first gone.
#[derive(Default)]
pub struct Quarantine {
    clusters: VecDeque<ClusterId>,
    /// How many of them, in order, wait for which cycle. Cycles rise.
    cycles: VecDeque<(u64, usize)>,
}

impl Quarantine {
    /// An empty list with room.
    pub fn new() -> Self {
        Self { clusters: VecDeque::with_capacity(ROOM), cycles: VecDeque::with_capacity(16) }
    }

    /// A reference is gone once `cycle` is done. One that comes later never waits for less.
    pub fn push(&mut self, cluster: ClusterId, cycle: u64) {
        self.clusters.push_back(cluster);
        match self.cycles.back_mut() {
            Some((last, count)) if *last >= cycle => *count += 1,
            _ => self.cycles.push_back((cycle, 1)),
        }
    }

    /// All cycles up to `done` are done: takes back up to `most` references that waited for these, and says how many.
    pub fn release(&mut self, done: u64, most: usize, space: &Space) -> usize {
        let mut freed = 0;
        while let Some((cycle, count)) = self.cycles.front_mut() {
            if *cycle > done || freed == most {
                break;
            }
            let now = (*count).min(most - freed);
            self.clusters.drain(..now).for_each(|cluster| space.release(cluster));
            freed += now;
            *count -= now;
            if *count == 0 {
                self.cycles.pop_front();
            }
        }
        if self.clusters.is_empty() {
            self.clusters.shrink_to(ROOM);
        }
        freed
    }

    /// Whether a reference waits for a cycle up to `done`.
    pub fn has_ripe(&self, done: u64) -> bool {
        self.cycles.front().is_some_and(|(cycle, _)| *cycle <= done)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_waits_for_its_cycle() {
        let space = Space::new(100);
        let (mut taken, mut from) = (Vec::new(), ClusterId(0));
        space.take(10, &mut from, &mut taken);
        let mut quarantine = Quarantine::new();
        for (cluster, cycle) in taken.iter().zip([3, 3, 4, 4, 4, 2, 7, 7, 7, 7]) {
            quarantine.push(*cluster, cycle);
        }
        assert_eq!(quarantine.release(2, usize::MAX, &space), 0);
        assert!(!quarantine.has_ripe(2) && quarantine.has_ripe(3));
        assert_eq!(quarantine.release(3, usize::MAX, &space), 2);
        assert_eq!(space.used_clusters(), 8);
        // One that was pushed for an earlier cycle waits with those before it.
        assert_eq!(quarantine.release(6, 3, &space), 3);
        assert_eq!((quarantine.release(6, 3, &space), quarantine.release(6, 3, &space)), (1, 0));
        assert_eq!(quarantine.len(), 4);
        assert_eq!(quarantine.release(u64::MAX, usize::MAX, &space), 4);
        assert!(quarantine.is_empty() && space.used_clusters() == 0 && space.mistakes() == 0);
    }

    #[test]
    fn nobody_has_a_cluster_alone_before_the_cycle_of_another_reference_is_over() {
        let space = Space::new(100);
        let (mut taken, mut from) = (Vec::new(), ClusterId(0));
        space.take(1, &mut from, &mut taken);
        let cluster = taken[0];
        space.share(cluster);
        let mut quarantine = Quarantine::new();
        quarantine.push(cluster, 3);
        assert!(!space.is_exclusive(cluster));
        assert_eq!(quarantine.release(3, usize::MAX, &space), 1);
        assert!(space.is_exclusive(cluster));
        quarantine.push(cluster, 4);
        assert_eq!(quarantine.release(4, usize::MAX, &space), 1);
        assert!(space.used_clusters() == 0 && space.mistakes() == 0);
    }
}
