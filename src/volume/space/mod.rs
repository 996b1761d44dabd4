//! The clusters of a pool's device: which are free, and how often each of the others is referred to.
//!
//! Nothing of this is stored: it is derived from the maps when the pool is opened ([`Space::refer`]), and kept without locks while reactors
//! take, share and let go. The way of a cluster:
//!
//! 1. *free*, until somebody takes it ([`Space::take`], mostly by a [`Reserve`]); from then on it is his, with one reference;
//! 2. more references come ([`Space::share`]) and go ([`Space::let_go`]);
//! 3. the last one gone, it stays used: commands in flight may still touch it, and the journal may still name it. It waits in a
//!    [`Quarantine`];
//! 4. [`Space::free`]: somebody may take it again.
//!
//! Counting is exact at every moment for who holds a reference. The bitmap stands in chunks for 2 GiB of device each, which never move, so the
//! device grows while others work. 1 TiB costs 2 MiB, what is shared or freed costs more (`chunk.rs`).
//!
//! Metadata is written to fresh pages at a checkpoint, and a checkpoint that has begun must find its pages: [`Space`] holds clusters back for
//! it, [`MetadataBudget`] says how many, [`PageAllocator`] takes them.
//!
//! Mistakes with these calls are mistakes of our own. They stop a debug build; otherwise they are logged and counted, and the cluster is
//! left as it is: space may be lost until the pool is opened again, but no cluster is given to two.

mod budget;
mod chunk;
mod pages;
mod quarantine;
mod reserve;
mod stock;

use std::fmt;

use crate::volume::sync::{AtomicU32, AtomicU64, OnceLock, Ordering, SEGMENT_CHUNKS, SEGMENTS, spin_loop};
use crate::volume::units::ClusterId;
use chunk::{CHUNK_CLUSTERS, Chunk, Slot, WORD_CLUSTERS};
use stock::Stock;

pub use budget::{MetadataBudget, metadata_clusters_needed};
pub use pages::PageAllocator;
pub use quarantine::Quarantine;
pub use reserve::Reserve;

/// Chunks in which whole words are looked for before any free cluster will do.
const WHOLE_WORD_CHUNKS: usize = 4;

/// Which clusters are used, and how often.
pub struct Space {
    stock: Stock,
    /// Up to where there are chunks. Changed when these are made (release), read before they are looked up (acquire).
    clusters: AtomicU32,
    segments: Box<[OnceLock<Segment>]>,
    mistakes: AtomicU64,
}

type Segment = Box<[OnceLock<Chunk>]>;

/// How a reference that was found counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The first one.
    First,
    /// One more.
    Further,
}

/// Why something that the pool's metadata says about a place on the device cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// It is beyond the end of the device.
    Outside,
    /// A page of metadata in a cluster that something else has.
    InData,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "is beyond the end of the device",
            Self::InData => "is in a cluster that has data",
        })
    }
}

impl std::error::Error for Misplaced {}

impl Space {
    /// A device of so many clusters, all of them free.
    pub fn new(clusters: u32) -> Self {
        let space = Self {
            stock: Stock::new(),
            clusters: AtomicU32::new(0),
            segments: (0..SEGMENTS).map(|_| OnceLock::new()).collect(),
            mistakes: AtomicU64::new(0),
        };
        space.grow(clusters);
        space
    }

    /// The device has this many clusters now; nothing happens if it has as many already.
    pub fn grow(&self, clusters: u32) {
        let mut old = self.clusters();
        loop {
            if clusters <= old {
                return;
            }
            for number in old as usize / CHUNK_CLUSTERS..=(clusters - 1) as usize / CHUNK_CLUSTERS {
                self.make_chunk(number);
            }
            // Of several that grow at once, each adds what it has moved the end by.
            match self.clusters.compare_exchange(old, clusters, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
        let (from, to) = (old as usize, clusters as usize);
        for number in from / CHUNK_CLUSTERS..=(to - 1) / CHUNK_CLUSTERS {
            let start = number * CHUNK_CLUSTERS;
            self.chunk(number).add(from.max(start) - start..to.min(start + CHUNK_CLUSTERS) - start);
        }
        self.stock.add(clusters - old);
    }

    fn make_chunk(&self, number: usize) {
        let room = || (0..SEGMENT_CHUNKS).map(|_| OnceLock::new()).collect();
        let segment = self.segments[number / SEGMENT_CHUNKS].get_or_init(room);
        segment[number % SEGMENT_CHUNKS].get_or_init(Chunk::new);
    }

    fn chunk(&self, number: usize) -> &Chunk {
        let chunk =
            self.segments[number / SEGMENT_CHUNKS].get().and_then(|segment| segment[number % SEGMENT_CHUNKS].get());
        chunk.expect("a chunk is made before the end of the device moves past it")
    }

    fn place(&self, cluster: ClusterId) -> Option<(&Chunk, Slot)> {
        let number = cluster.0 as usize;
        (cluster.0 < self.clusters()).then(|| (self.chunk(number / CHUNK_CLUSTERS), Slot(number % CHUNK_CLUSTERS)))
    }

    /// The place of a cluster that somebody holds.
    fn held(&self, cluster: ClusterId, what: &str) -> Option<(&Chunk, Slot)> {
        let place = self.place(cluster).filter(|(chunk, slot)| chunk.is_held(*slot));
        if place.is_none() {
            self.mistake(cluster, what);
        }
        place
    }

    #[cold]
    fn mistake(&self, cluster: ClusterId, what: &str) {
        self.mistakes.fetch_add(1, Ordering::Relaxed);
        tracing::error!(cluster = cluster.0, "pool: {what}; this is a bug, the cluster is left as it is");
        debug_assert!(false, "cluster {}: {what}", cluster.0);
    }

    // --- what is known ---

    /// Clusters of the device.
    pub fn clusters(&self) -> u32 {
        self.clusters.load(Ordering::Acquire)
    }

    /// Those that nobody has, with those held back.
    pub fn free_clusters(&self) -> u32 {
        self.stock.free()
    }

    /// Those that somebody has, those in reserves and those that wait to be free.
    pub fn used_clusters(&self) -> u32 {
        self.clusters().saturating_sub(self.free_clusters())
    }

    /// Those of the free ones that only metadata gets.
    pub fn held_back(&self) -> u32 {
        self.stock.held_back()
    }

    /// Those that [`Space::take`] would find.
    pub fn available(&self) -> u32 {
        self.stock.available()
    }

    /// How often a cluster is referred to: 0 if it is free, waits to be free, or is not there.
    pub fn references(&self, cluster: ClusterId) -> u32 {
        match self.place(cluster) {
            Some((chunk, slot)) if chunk.is_held(slot) => 1 + chunk.extra(slot),
            _ => 0,
        }
    }

    /// Whether the caller, which refers to the cluster, is the only one that does.
    pub fn is_exclusive(&self, cluster: ClusterId) -> bool {
        self.held(cluster, "a cluster that nobody has is asked about")
            .is_some_and(|(chunk, slot)| chunk.extra(slot) == 0)
    }

    /// How often these calls were used wrongly.
    pub fn mistakes(&self) -> u64 {
        self.mistakes.load(Ordering::Relaxed)
    }

    // --- opening ---

    /// A reference is found while the pool is opened, by one thread that is alone with it: the first one makes the cluster used.
    pub fn refer(&self, cluster: ClusterId) -> Result<Reference, Misplaced> {
        let (chunk, slot) = self.place(cluster).ok_or(Misplaced::Outside)?;
        if chunk.take_alone(slot) {
            self.stock.remove_one_alone();
            return Ok(Reference::First);
        }
        chunk.add_extra(slot);
        Ok(Reference::Further)
    }

    // --- holders ---

    /// One reference more to a cluster; the caller has one.
    pub fn share(&self, cluster: ClusterId) {
        if let Some((chunk, slot)) = self.held(cluster, "a cluster that nobody has is shared") {
            chunk.add_extra(slot);
        }
    }

    /// One reference fewer. True if that was the last one: the cluster stays used until [`Space::free`].
    pub fn let_go(&self, cluster: ClusterId) -> bool {
        const WHAT: &str = "a cluster that nobody has is let go";
        let Some((chunk, slot)) = self.held(cluster, WHAT) else { return false };
        if chunk.remove_extra(slot) {
            return false;
        }
        // Nobody else has it, so nobody else comes here.
        let is_first = chunk.set_gone(slot);
        if !is_first {
            self.mistake(cluster, WHAT);
        }
        is_first
    }

    /// One reference fewer, of a cluster that may be taken again if that was the last one.
    pub fn release(&self, cluster: ClusterId) {
        if self.let_go(cluster) {
            self.free(cluster);
        }
    }

    /// A cluster that was let go may be taken again.
    pub fn free(&self, cluster: ClusterId) {
        match self.place(cluster) {
            Some((chunk, slot)) if chunk.forget_gone(slot) && chunk.set_free(slot) => self.stock.add(1),
            _ => self.mistake(cluster, "a cluster that was not let go is freed"),
        }
    }

    /// A cluster that was taken and that nobody else has ever known may be taken again.
    pub fn give_back(&self, cluster: ClusterId) {
        if self.clear(cluster) {
            self.stock.add(1);
        }
    }

    /// The same for one that was taken for metadata: it is held back again.
    pub fn give_back_for_metadata(&self, cluster: ClusterId) {
        if self.clear(cluster) {
            self.stock.add_held_back(1);
        }
    }

    fn clear(&self, cluster: ClusterId) -> bool {
        let place = self.place(cluster).filter(|(chunk, slot)| chunk.is_held(*slot) && chunk.extra(*slot) == 0);
        let cleared = place.is_some_and(|(chunk, slot)| chunk.set_free(slot));
        if !cleared {
            self.mistake(cluster, "a cluster that is free or shared is given back");
        }
        cleared
    }

    // --- taking ---

    /// Takes up to `want` clusters, of those not held back, and adds them to `out`; how many.
    ///
    /// They are looked for from `from` on, which moves behind the last one. A whole word of the bitmap is preferred for each 64, so what is
    /// taken together lies together. Fewer than wanted means that there are no more.
    pub fn take(&self, want: usize, from: &mut ClusterId, out: &mut Vec<ClusterId>) -> usize {
        let claimed = self.stock.claim(u32::try_from(want).unwrap_or(u32::MAX));
        self.find(claimed, from, out);
        claimed as usize
    }

    /// Takes a cluster for metadata, of those held back if there are any.
    pub fn take_for_metadata(&self, from: &mut ClusterId) -> Option<ClusterId> {
        if !self.stock.claim_held_back() {
            return None;
        }
        let mut out = Vec::with_capacity(1);
        self.find(1, from, &mut out);
        out.pop()
    }

    /// Finds clusters that were claimed. They are there (`stock.rs`); it goes round again only if others took what it was about to.
    fn find(&self, claimed: u32, from: &mut ClusterId, out: &mut Vec<ClusterId>) {
        if claimed == 0 {
            return;
        }
        let first = out.len();
        let mut left = claimed;
        if left >= WORD_CLUSTERS as u32 {
            left -= self.find_words(left, *from, out);
        }
        while left > 0 {
            left -= self.find_bits(left, *from, out);
            if left > 0 {
                spin_loop();
            }
        }
        debug_assert_eq!(out.len() - first, claimed as usize);
        if let Some(last) = out.last() {
            *from = ClusterId(last.0.wrapping_add(1));
        }
    }

    /// All chunks, from the one with `from` on; that one again at the end, from its beginning.
    fn chunks_from(&self, from: ClusterId) -> impl Iterator<Item = (usize, &Chunk, Slot)> {
        let chunks = (self.clusters() as usize).div_ceil(CHUNK_CLUSTERS);
        let from = if from.0 < self.clusters() { from.0 as usize } else { 0 };
        (0..=chunks).map(move |step| {
            let number = (from / CHUNK_CLUSTERS + step) % chunks;
            let slot = if step == 0 { from % CHUNK_CLUSTERS } else { 0 };
            (number * CHUNK_CLUSTERS, self.chunk(number), Slot(slot))
        })
    }

    fn find_words(&self, want: u32, from: ClusterId, out: &mut Vec<ClusterId>) -> u32 {
        let mut left = want;
        let promising = self.chunks_from(from).filter(|(_, chunk, _)| chunk.has_free(WORD_CLUSTERS as u32));
        for (start, chunk, slot) in promising.take(WHOLE_WORD_CHUNKS) {
            left -= chunk.take_words(slot, left, |slot| out.push(ClusterId((start + slot.0) as u32)));
            if left < WORD_CLUSTERS as u32 {
                break;
            }
        }
        want - left
    }

    fn find_bits(&self, want: u32, from: ClusterId, out: &mut Vec<ClusterId>) -> u32 {
        let mut left = want;
        for (start, chunk, slot) in self.chunks_from(from).filter(|(_, chunk, _)| chunk.has_free(1)) {
            left -= chunk.take_bits(slot, left, |slot| out.push(ClusterId((start + slot.0) as u32)));
            if left == 0 {
                break;
            }
        }
        want - left
    }

    // --- what is held back for metadata ---

    /// Holds back so many clusters for metadata, even if there are not as many.
    pub fn set_held_back(&self, clusters: u32) {
        self.stock.set_held_back(clusters);
    }

    /// Holds back so many more; false, and no change, if they are not there.
    pub fn hold_back(&self, clusters: u32) -> bool {
        self.stock.hold_back(clusters)
    }

    /// Holds back up to so many less; how many less.
    pub fn let_up(&self, clusters: u32) -> u32 {
        self.stock.let_up(clusters)
    }
}

#[cfg(test)]
mod tests;
