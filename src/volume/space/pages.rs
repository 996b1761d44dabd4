//! Pages of metadata, 16 to a cluster. Only the home reactor has to do with them.
//!
//! A page that durable metadata names is never written: a checkpoint writes to pages that are free, and puts back those that it replaces. They
//! become free when the superblock that no longer names them is durable, and a cluster with nothing but free pages goes back to the pool.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use super::{Misplaced, Reference, Space};
use crate::volume::units::{ClusterId, PAGES_PER_CLUSTER, PageNumber};

/// One bit for each page of a cluster.
type Mask = u16;
const _: () = assert!(Mask::BITS == PAGES_PER_CLUSTER);

/// Which pages of the clusters that metadata has are in use.
pub struct PageAllocator {
    clusters: BTreeMap<ClusterId, Pages>,
    /// Those of the clusters that have a free page.
    roomy: BTreeSet<ClusterId>,
    in_use: u64,
    /// Pages that were put back, with the checkpoint that has to be durable first. Checkpoints rise.
    leaving: VecDeque<(u64, PageNumber)>,
    /// Behind the page that was taken last: the next one is looked for from here on, so that a checkpoint writes neighbours.
    next: Place,
    /// Where to look for the next cluster.
    next_cluster: ClusterId,
}

#[derive(Clone, Copy, Default)]
struct Pages {
    used: Mask,
    /// Those of the used ones that were put back.
    leaving: Mask,
}

#[derive(Clone, Copy)]
struct Place {
    cluster: ClusterId,
    index: u32,
}

impl Place {
    /// None if no device is that large.
    fn of(page: PageNumber) -> Option<Self> {
        let pages = u64::from(PAGES_PER_CLUSTER);
        let cluster = ClusterId(u32::try_from(page.0 / pages).ok()?);
        Some(Self { cluster, index: (page.0 % pages) as u32 })
    }

    fn page(self) -> PageNumber {
        PageNumber(u64::from(self.cluster.0) * u64::from(PAGES_PER_CLUSTER) + u64::from(self.index))
    }

    fn bit(self) -> Mask {
        1 << self.index
    }
}

impl Default for PageAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl PageAllocator {
    /// Nothing is in use.
    pub fn new() -> Self {
        Self {
            clusters: BTreeMap::new(),
            roomy: BTreeSet::new(),
            in_use: 0,
            leaving: VecDeque::new(),
            next: Place { cluster: ClusterId(0), index: 0 },
            next_cluster: ClusterId(0),
        }
    }

    /// A page is found in use while the pool is opened. Several trees may name it.
    pub fn adopt(&mut self, page: PageNumber, space: &Space) -> Result<Reference, Misplaced> {
        let place = Place::of(page).ok_or(Misplaced::Outside)?;
        if !self.clusters.contains_key(&place.cluster) {
            if space.references(place.cluster) > 0 {
                return Err(Misplaced::InData);
            }
            space.refer(place.cluster)?;
        }
        let pages = self.clusters.entry(place.cluster).or_default();
        if pages.used & place.bit() != 0 {
            return Ok(Reference::Further);
        }
        self.set_used(place);
        Ok(Reference::First)
    }

    fn set_used(&mut self, place: Place) {
        let pages = self.clusters.entry(place.cluster).or_default();
        pages.used |= place.bit();
        if pages.used == Mask::MAX {
            self.roomy.remove(&place.cluster);
        } else {
            self.roomy.insert(place.cluster);
        }
        self.in_use += 1;
    }

    /// Takes a page: the one after the last if it is free, else the next free one, else the first one of a new cluster.
    pub fn take(&mut self, space: &Space) -> Option<PageNumber> {
        let place = match self.free_place() {
            Some(place) => place,
            None => Place { cluster: space.take_for_metadata(&mut self.next_cluster)?, index: 0 },
        };
        self.set_used(place);
        self.next = Place { index: place.index + 1, ..place };
        Some(place.page())
    }

    fn free_place(&self) -> Option<Place> {
        let last = self.next.cluster;
        let behind = Mask::MAX.checked_shl(self.next.index).unwrap_or(0);
        if let Some(place) = self.first_free(last, behind) {
            return Some(place);
        }
        let cluster = self.roomy.range((Excluded(last), Unbounded)).next().or_else(|| self.roomy.first())?;
        self.first_free(*cluster, Mask::MAX)
    }

    fn first_free(&self, cluster: ClusterId, among: Mask) -> Option<Place> {
        let free = !self.clusters.get(&cluster)?.used & among;
        (free != 0).then(|| Place { cluster, index: free.trailing_zeros() })
    }

    /// A page is no longer needed once the checkpoint is durable.
    pub fn put_back(&mut self, page: PageNumber, checkpoint: u64) {
        let place = Place::of(page);
        let pages = place.and_then(|place| self.clusters.get_mut(&place.cluster).map(|pages| (pages, place.bit())));
        match pages {
            Some((pages, bit)) if pages.used & bit != 0 && pages.leaving & bit == 0 => {
                pages.leaving |= bit;
                self.leaving.push_back((checkpoint, page));
            }
            _ => {
                tracing::error!(
                    page = page.0,
                    "pool: a page that is not in use is put back; this is a bug, it is left as it is"
                );
                debug_assert!(false, "page {} is not in use", page.0);
            }
        }
    }

    /// The checkpoint is durable: what was put back for it, or for one before, is free.
    pub fn release(&mut self, durable: u64, space: &Space) {
        while let Some((_, page)) = self.leaving.front().filter(|(checkpoint, _)| *checkpoint <= durable) {
            let page = *page;
            self.leaving.pop_front();
            self.set_free(page, space);
        }
    }

    fn set_free(&mut self, page: PageNumber, space: &Space) {
        let place = Place::of(page).expect("it was put back by its place");
        let pages = self.clusters.get_mut(&place.cluster).expect("a cluster stays while a page of it is in use");
        pages.used &= !place.bit();
        pages.leaving &= !place.bit();
        self.in_use -= 1;
        if pages.used == 0 {
            self.clusters.remove(&place.cluster);
            self.roomy.remove(&place.cluster);
            space.give_back_for_metadata(place.cluster);
        } else {
            self.roomy.insert(place.cluster);
        }
    }

    /// Pages in use, with those that wait for a checkpoint.
    pub fn pages_in_use(&self) -> u64 {
        self.in_use
    }

    /// Clusters that metadata has.
    pub fn clusters(&self) -> u32 {
        self.clusters.len() as u32
    }

    /// Whether metadata has this cluster.
    pub fn has(&self, cluster: ClusterId) -> bool {
        self.clusters.contains_key(&cluster)
    }

    /// Whether a page is in use.
    pub fn is_used(&self, page: PageNumber) -> bool {
        Place::of(page)
            .is_some_and(|place| self.clusters.get(&place.cluster).is_some_and(|pages| pages.used & place.bit() != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_taken_one_after_the_other() {
        let space = Space::new(100);
        let mut pages = PageAllocator::new();
        let taken: Vec<_> = (0..40).map(|_| pages.take(&space).expect("there is room").0).collect();
        assert_eq!(taken, (0..40).collect::<Vec<_>>());
        assert_eq!((pages.pages_in_use(), pages.clusters(), space.used_clusters()), (40, 3, 3));
    }

    #[test]
    fn a_page_is_free_when_its_checkpoint_is_durable_and_a_cluster_when_all_its_pages_are() {
        let space = Space::new(4);
        let mut pages = PageAllocator::new();
        let taken: Vec<_> = (0..64).map(|_| pages.take(&space).expect("there is room")).collect();
        assert_eq!(pages.take(&space), None);
        taken[16..31].iter().for_each(|page| pages.put_back(*page, 1));
        pages.put_back(taken[3], 2);
        pages.put_back(taken[31], 3);
        assert_eq!(pages.take(&space), None);
        pages.release(1, &space);
        assert_eq!((pages.pages_in_use(), pages.clusters()), (49, 4));
        assert_eq!(pages.take(&space), Some(taken[16]), "the first after the last one taken, round the end");
        assert_eq!(pages.take(&space), Some(taken[17]));
        pages.put_back(taken[16], 3);
        pages.put_back(taken[17], 3);
        pages.release(2, &space);
        assert!(!pages.is_used(taken[3]) && pages.is_used(taken[17]));
        pages.release(3, &space);
        assert_eq!((pages.pages_in_use(), pages.clusters()), (47, 3));
        assert_eq!((space.free_clusters(), space.held_back(), space.available()), (1, 1, 0));
        assert!(!pages.has(ClusterId(1)));
        assert_eq!((0..17).filter_map(|_| pages.take(&space)).count(), 17);
        assert_eq!((pages.take(&space), space.held_back(), space.mistakes()), (None, 0, 0));
    }

    #[test]
    fn pages_that_are_found_are_kept() {
        let space = Space::new(10);
        assert_eq!(space.refer(ClusterId(5)), Ok(Reference::First));
        let mut pages = PageAllocator::new();
        assert_eq!(pages.adopt(PageNumber(33), &space), Ok(Reference::First));
        assert_eq!(pages.adopt(PageNumber(33), &space), Ok(Reference::Further));
        assert_eq!(pages.adopt(PageNumber(35), &space), Ok(Reference::First));
        assert_eq!(pages.adopt(PageNumber(5 * 16 + 1), &space), Err(Misplaced::InData));
        assert_eq!(pages.adopt(PageNumber(160), &space), Err(Misplaced::Outside));
        assert_eq!(pages.adopt(PageNumber(u64::MAX), &space), Err(Misplaced::Outside));
        let taken: Vec<_> = (0..15).map(|_| pages.take(&space).expect("there is room").0).collect();
        assert_eq!(taken, [32].into_iter().chain(34..35).chain(36..48).chain([0]).collect::<Vec<_>>());
        assert_eq!(space.references(ClusterId(2)), 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic = "is not in use"]
    fn a_page_is_put_back_once() {
        let space = Space::new(10);
        let mut pages = PageAllocator::new();
        let page = pages.take(&space).expect("there is room");
        pages.put_back(page, 1);
        pages.put_back(page, 2);
    }
}
