//! A reactor's private stock of clusters, so that a first write takes one without touching what other reactors touch.
//!
//! Clusters are handed out in ascending order: a sequential writer gets neighbours. When the pool is nearly full the stock gets small, down to
//! one cluster, so that none of the last ones lies idle on a reactor that writes nothing.

use super::Space;
use crate::volume::units::ClusterId;

/// A reserve takes at most this part of what is available.
const SHARE: u32 = 256;

/// Clusters that one reactor has taken and not used yet. Given back before it is dropped: what is in it then is lost until the pool is opened
/// again.
pub struct Reserve {
    /// Descending, so that the next one is the last.
    clusters: Vec<ClusterId>,
    capacity: usize,
    /// Where to look next.
    next: ClusterId,
}

impl Reserve {
    /// An empty reserve for up to `capacity` clusters, which looks for the first ones from `start` on.
    pub fn new(capacity: usize, start: ClusterId) -> Self {
        Self { clusters: Vec::with_capacity(capacity), capacity, next: start }
    }

    /// The next cluster; none if the pool has no more.
    #[inline]
    pub fn take(&mut self, space: &Space) -> Option<ClusterId> {
        if self.clusters.is_empty() {
            self.refill(space);
        }
        self.clusters.pop()
    }

    #[cold]
    fn refill(&mut self, space: &Space) {
        let want = (space.available() / SHARE) as usize;
        space.take(want.clamp(1, self.capacity.max(1)), &mut self.next, &mut self.clusters);
        self.clusters.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Gives all clusters back to the pool.
    pub fn give_back_all(&mut self, space: &Space) {
        if let Some(next) = self.clusters.last() {
            self.next = *next;
        }
        self.clusters.drain(..).for_each(|cluster| space.give_back(cluster));
    }

    /// How many clusters are in it.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequential_writer_gets_neighbours() {
        let space = Space::new(100_000);
        let mut reserve = Reserve::new(64, ClusterId(640));
        let taken: Vec<_> = (0..256).map(|_| reserve.take(&space).expect("there is room").0).collect();
        assert_eq!(taken, (640..896).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_clusters_are_taken_one_by_one() {
        let space = Space::new(1000);
        let (mut one, mut other) = (Reserve::new(64, ClusterId(0)), Reserve::new(64, ClusterId(500)));
        space.set_held_back(100);
        let mut taken = 0;
        while one.take(&space).is_some() {
            assert!(one.len() < 4);
            taken += 1;
        }
        assert_eq!((taken, space.free_clusters()), (900, 100));
        assert!(other.take(&space).is_none());
        space.give_back(ClusterId(7));
        assert!(other.take(&space).is_some() && other.take(&space).is_none());
    }

    #[test]
    fn what_is_given_back_is_taken_again_from_where_it_was() {
        let space = Space::new(1 << 20);
        let mut reserve = Reserve::new(64, ClusterId(0));
        let first = reserve.take(&space);
        assert_eq!((first, reserve.len()), (Some(ClusterId(0)), 63));
        reserve.give_back_all(&space);
        assert_eq!(space.used_clusters(), 1);
        reserve.give_back_all(&space);
        assert_eq!(reserve.take(&space).map(|cluster| cluster.0 % 64), Some(0), "a whole word is preferred");
    }
}
