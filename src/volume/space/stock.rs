//! How many clusters are free, and how many of these are held back for metadata.
//!
//! Both numbers stand in one word, so what is claimed is exact: two takers are never promised the same cluster, and none is promised one that
//! was held back a moment before. Who wants clusters claims them here first and looks for them afterwards; who frees one clears its place
//! first and counts it here afterwards. So there is always a free place for each claim.

use crate::volume::sync::{AtomicU64, Ordering};

const ONE_FREE: u64 = 1 << 32;

pub(super) struct Stock(AtomicU64);

#[derive(Clone, Copy)]
struct Count {
    free: u32,
    held_back: u32,
}

impl Count {
    fn available(self) -> u32 {
        self.free.saturating_sub(self.held_back)
    }

    fn of(word: u64) -> Self {
        Self { free: (word >> 32) as u32, held_back: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.free) << 32 | u64::from(self.held_back)
    }
}

impl Stock {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Relaxed: a figure, old as soon as it is read.
    fn count(&self) -> Count {
        Count::of(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn free(&self) -> u32 {
        self.count().free
    }

    pub(super) fn held_back(&self) -> u32 {
        self.count().held_back
    }

    pub(super) fn available(&self) -> u32 {
        self.count().available()
    }

    /// Changes both numbers at once; what they were before.
    ///
    /// Acquire: with the release of [`Stock::add`] (every change in between is a read-modify-write and passes it on) the caller sees the
    /// cleared place of every cluster that it may have claimed. A claim publishes nothing.
    fn change(&self, mut change: impl FnMut(Count) -> Option<Count>) -> Option<Count> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let after = change(Count::of(word))?.word();
            match self.0.compare_exchange_weak(word, after, Ordering::Acquire, Ordering::Relaxed) {
                Ok(before) => return Some(Count::of(before)),
                Err(now) => word = now,
            }
        }
    }

    /// Claims up to `want` clusters that are not held back; how many.
    pub(super) fn claim(&self, want: u32) -> u32 {
        let claim = |count: Count| match count.available().min(want) {
            0 => None,
            claimed => Some(Count { free: count.free - claimed, ..count }),
        };
        self.change(claim).map_or(0, |before| before.available().min(want))
    }

    /// Claims one cluster, of those held back if there are any.
    pub(super) fn claim_held_back(&self) -> bool {
        self.change(|count| {
            Some(Count { free: count.free.checked_sub(1)?, held_back: count.held_back.saturating_sub(1) })
        })
        .is_some()
    }

    /// Counts clusters whose places were cleared. Release: see [`Stock::change`].
    pub(super) fn add(&self, clusters: u32) {
        self.0.fetch_add(u64::from(clusters) * ONE_FREE, Ordering::Release);
    }

    /// The same, and holds back as many more.
    pub(super) fn add_held_back(&self, clusters: u32) {
        self.0.fetch_add(u64::from(clusters) * (ONE_FREE + 1), Ordering::Release);
    }

    /// A free cluster is found in use, while nobody else uses the stock.
    pub(super) fn remove_one_alone(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) - ONE_FREE, Ordering::Relaxed);
    }

    pub(super) fn set_held_back(&self, clusters: u32) {
        self.change(|count| Some(Count { held_back: clusters, ..count }));
    }

    /// Holds back so many more if there are as many that are not.
    pub(super) fn hold_back(&self, clusters: u32) -> bool {
        self.change(|count| {
            (count.available() >= clusters).then(|| Count { held_back: count.held_back + clusters, ..count })
        })
        .is_some()
    }

    /// Holds back up to so many less; how many less.
    pub(super) fn let_up(&self, clusters: u32) -> u32 {
        self.change(|count| Some(Count { held_back: count.held_back.saturating_sub(clusters), ..count }))
            .map_or(0, |before| before.held_back.min(clusters))
    }
}
