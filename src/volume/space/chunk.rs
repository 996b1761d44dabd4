//! The state of the clusters of one piece of the device: a bit for each that is free, and what is known of those in use.
//!
//! | state | `free` | `gone` | `extra` |
//! | --- | --- | --- | --- |
//! | free | 1 | 0 | 0 |
//! | taken, or referred to once | 0 | 0 | 0 |
//! | referred to n times | 0 | 0 | n - 1 |
//! | let go by the last one, not free yet | 0 | 1 | 0 |
//!
//! `gone` and `extra` are made when something in their piece is first let go or shared: a pool that never shares pays for one bit a cluster.
//! Whoever comes second while one is made waits for that allocation. Both stay for the life of the pool.
//! A cluster beyond the end of the device has a 0 in `free` until the device grows, so nobody who searches looks at the size.

use crate::volume::sync::{AtomicU32, AtomicU64, CHUNK_WORDS, GROUP_CLUSTERS, OnceLock, Ordering};

pub(super) const CHUNK_CLUSTERS: usize = CHUNK_WORDS * WORD_CLUSTERS;
pub(super) const WORD_CLUSTERS: usize = 64;

const _: () = assert!(CHUNK_CLUSTERS.is_multiple_of(GROUP_CLUSTERS));

pub(super) struct Chunk {
    free: Bits,
    /// How many of `free` are set, so that a search passes over what is full. Changed after the bits: see [`Chunk::has_free`].
    available: AtomicU32,
    gone: OnceLock<Bits>,
    extra: Box<[OnceLock<Group>]>,
}

type Bits = Box<[AtomicU64]>;
type Group = Box<[AtomicU32]>;

fn no_bits() -> Bits {
    (0..CHUNK_WORDS).map(|_| AtomicU64::new(0)).collect()
}

/// Where a cluster's bit is, in a chunk.
#[derive(Clone, Copy)]
pub(super) struct Slot(pub(super) usize);

impl Slot {
    fn word(self, bits: &Bits) -> &AtomicU64 {
        &bits[self.0 / WORD_CLUSTERS]
    }

    fn bit(self) -> u64 {
        1 << (self.0 % WORD_CLUSTERS)
    }
}

impl Chunk {
    /// All clusters are beyond the end of the device.
    pub(super) fn new() -> Self {
        Self {
            free: no_bits(),
            available: AtomicU32::new(0),
            gone: OnceLock::new(),
            extra: (0..CHUNK_CLUSTERS / GROUP_CLUSTERS).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Whether a search is worth while.
    ///
    /// The number follows the bits: up before the stock counts what was freed, down after what was claimed was found. Over all chunks it is
    /// therefore at least the number of claims that still look for their cluster, so one of these finds a chunk that says yes. In between it
    /// may wrap below zero, which also says yes. Relaxed: who has claimed is ordered after the changes that count, by the stock.
    pub(super) fn has_free(&self, at_least: u32) -> bool {
        self.available.load(Ordering::Relaxed) >= at_least
    }

    /// Makes clusters free that were beyond the end of the device. Release, as [`Chunk::set_free`].
    pub(super) fn add(&self, slots: std::ops::Range<usize>) {
        let (first, last) = (slots.start / WORD_CLUSTERS, (slots.end - 1) / WORD_CLUSTERS);
        for word in first..=last {
            let from = slots.start.max(word * WORD_CLUSTERS) % WORD_CLUSTERS;
            let to = slots.end.min((word + 1) * WORD_CLUSTERS) - word * WORD_CLUSTERS;
            let mask = (!0 << from) & (!0 >> (WORD_CLUSTERS - to));
            self.free[word].fetch_or(mask, Ordering::Release);
        }
        self.available.fetch_add(slots.len() as u32, Ordering::Relaxed);
    }

    /// Takes words that are free as a whole, while at least 64 are wanted; how many clusters.
    pub(super) fn take_words(&self, from: Slot, want: u32, mut found: impl FnMut(Slot)) -> u32 {
        let mut taken = 0;
        for (number, word) in self.free.iter().enumerate().skip(from.0.div_ceil(WORD_CLUSTERS)) {
            if want - taken < WORD_CLUSTERS as u32 {
                break;
            }
            // Acquire: as in `take_bits`.
            if word.load(Ordering::Relaxed) == !0
                && word.compare_exchange(!0, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                taken += WORD_CLUSTERS as u32;
                (0..WORD_CLUSTERS).for_each(|bit| found(Slot(number * WORD_CLUSTERS + bit)));
            }
        }
        self.available.fetch_sub(taken, Ordering::Relaxed);
        taken
    }

    /// Takes what is free, from `from` on; how many clusters.
    pub(super) fn take_bits(&self, from: Slot, want: u32, mut found: impl FnMut(Slot)) -> u32 {
        let mut taken = 0;
        let mut usable = !0 << (from.0 % WORD_CLUSTERS);
        for (number, word) in self.free.iter().enumerate().skip(from.0 / WORD_CLUSTERS) {
            if taken == want {
                break;
            }
            let wanted = lowest(word.load(Ordering::Relaxed) & usable, want - taken);
            usable = !0;
            if wanted == 0 {
                continue;
            }
            // Acquire: with the release of `set_free`, whoever has the cluster now is ordered after everything that was done to it before.
            let mut got = word.fetch_and(!wanted, Ordering::Acquire) & wanted;
            taken += got.count_ones();
            while got != 0 {
                found(Slot(number * WORD_CLUSTERS + got.trailing_zeros() as usize));
                got &= got - 1;
            }
        }
        self.available.fetch_sub(taken, Ordering::Relaxed);
        taken
    }

    /// Takes one cluster while nobody else uses the chunk, as when the pool is opened; whether it was free. Loads and stores: for each cluster of the
    /// pool, three operations that keep others out are most of what opening costs.
    pub(super) fn take_alone(&self, slot: Slot) -> bool {
        let word = slot.word(&self.free);
        let bits = word.load(Ordering::Relaxed);
        let was_free = bits & slot.bit() != 0;
        if was_free {
            word.store(bits & !slot.bit(), Ordering::Relaxed);
            self.available.store(self.available.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
        }
        was_free
    }

    /// Makes a cluster free; false if it is already. Release: see `take_bits`.
    pub(super) fn set_free(&self, slot: Slot) -> bool {
        let was_used = slot.word(&self.free).fetch_or(slot.bit(), Ordering::Release) & slot.bit() == 0;
        if was_used {
            self.available.fetch_add(1, Ordering::Relaxed);
        }
        was_used
    }

    /// Whether somebody has the cluster. Relaxed: who asks about a cluster that it holds gets the truth, others a figure.
    pub(super) fn is_held(&self, slot: Slot) -> bool {
        let has = |bits: &Bits| slot.word(bits).load(Ordering::Relaxed) & slot.bit() != 0;
        !has(&self.free) && !self.gone.get().is_some_and(has)
    }

    /// Notes that the last reference is gone; false if it was already.
    ///
    /// Relaxed, here and in [`Chunk::forget_gone`]: the bit only finds mistakes. A read-modify-write sees the latest value in any case.
    pub(super) fn set_gone(&self, slot: Slot) -> bool {
        let word = slot.word(self.gone.get_or_init(no_bits));
        word.fetch_or(slot.bit(), Ordering::Relaxed) & slot.bit() == 0
    }

    /// Whether it was noted that the last reference is gone; it no longer is.
    pub(super) fn forget_gone(&self, slot: Slot) -> bool {
        let clear = |bits: &Bits| slot.word(bits).fetch_and(!slot.bit(), Ordering::Relaxed) & slot.bit() != 0;
        self.gone.get().is_some_and(clear)
    }

    fn group(&self, slot: Slot) -> &OnceLock<Group> {
        &self.extra[slot.0 / GROUP_CLUSTERS]
    }

    /// References after the first one.
    ///
    /// Acquire: who finds none left is ordered after everything that the others did before they let go.
    pub(super) fn extra(&self, slot: Slot) -> u32 {
        let count = |group: &Group| group[slot.0 % GROUP_CLUSTERS].load(Ordering::Acquire);
        self.group(slot).get().map_or(0, count)
    }

    /// One reference more.
    ///
    /// Relaxed: who adds one has one itself, so the cluster stays; the new holder learns of it in some other way, which orders the rest.
    /// The number fits: each reference is a word of 8 bytes in memory.
    pub(super) fn add_extra(&self, slot: Slot) {
        let group = self.group(slot).get_or_init(|| (0..GROUP_CLUSTERS).map(|_| AtomicU32::new(0)).collect());
        group[slot.0 % GROUP_CLUSTERS].fetch_add(1, Ordering::Relaxed);
    }

    /// One reference fewer, if there is one after the first.
    ///
    /// Not a plain subtraction: of two that let go of a cluster with two references, exactly one has to find none left. Release: what was done
    /// to the cluster comes before. Acquire for who finds none: see [`Chunk::extra`].
    pub(super) fn remove_extra(&self, slot: Slot) -> bool {
        let Some(group) = self.group(slot).get() else { return false };
        let count = &group[slot.0 % GROUP_CLUSTERS];
        let mut extra = count.load(Ordering::Acquire);
        while extra > 0 {
            match count.compare_exchange_weak(extra, extra - 1, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => extra = now,
            }
        }
        false
    }
}

/// The lowest set bits, at most `most` of them.
fn lowest(bits: u64, most: u32) -> u64 {
    let mut beyond = bits;
    for _ in 0..most.min(bits.count_ones()) {
        beyond &= beyond - 1;
    }
    bits & !beyond
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bits_are_taken() {
        assert_eq!(lowest(0b1011_0100, 2), 0b1_0100);
        assert_eq!(lowest(!0, 64), !0);
        assert_eq!(lowest(!0, 1), 1);
        assert_eq!(lowest(0, 5), 0);
        assert_eq!(lowest(1 << 63, 5), 1 << 63);
    }

    #[test]
    fn ranges_become_free_whatever_their_edges() {
        for range in
            [0..1, 0..64, 63..65, 5..6, 64..192, 70..130, 0..CHUNK_CLUSTERS, CHUNK_CLUSTERS - 1..CHUNK_CLUSTERS]
        {
            let chunk = Chunk::new();
            chunk.add(range.clone());
            let mut found = Vec::new();
            assert_eq!(chunk.take_bits(Slot(0), u32::MAX, |slot| found.push(slot.0)) as usize, range.len());
            assert_eq!(found, range.collect::<Vec<_>>());
            assert!(!chunk.has_free(1));
        }
    }

    #[test]
    fn whole_words_are_taken_whole() {
        let chunk = Chunk::new();
        chunk.add(1..64 * 4);
        let mut found = Vec::new();
        assert_eq!(chunk.take_words(Slot(0), 150, |slot| found.push(slot.0)), 128);
        assert_eq!(found, (64..192).collect::<Vec<_>>());
        assert!(chunk.has_free(127) && !chunk.has_free(128));
        assert_eq!(chunk.take_words(Slot(193), 150, |_| ()), 0);
    }
}
