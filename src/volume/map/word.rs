//! A word of the map: where the 64 KiB of a volume that it stands for are, and which of their blocks are present.
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0..16 | presence: block i of the cluster holds data; an absent block reads as zeros |
//! | 16 | SHARED: another leaf may hold the cluster too. A hint: clear is certain, set has to be looked up. In memory only |
//! | 17 | BUSY: a copy of the cluster is under way; whoever wants to change the word waits. In memory only |
//! | 18 | LOST: what was here could not be read when the pool was repaired; reads fail |
//! | 19..32 | how often blocks of the cluster were discarded, modulo 8192; see [`Word::is_continued_by`]. In memory only |
//! | 32..64 | the cluster; none while nothing was ever written here |

use crate::volume::units::{BLOCKS_PER_CLUSTER, ClusterId};

const PRESENCE: u64 = 0xffff;
const SHARED: u64 = 1 << 16;
const BUSY: u64 = 1 << 17;
const LOST: u64 = 1 << 18;
const DISCARD: u64 = 1 << 19;
const DISCARDS: u64 = 0x1fff * DISCARD;
const CLUSTER_SHIFT: u32 = 32;
const CLUSTER: u64 = !0 << CLUSTER_SHIFT;

/// A set of the blocks of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks(u16);

impl Blocks {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// Blocks `first` to `last`, both included.
    pub fn between(first: u32, last: u32) -> Self {
        debug_assert!(first <= last && (last as usize) < BLOCKS_PER_CLUSTER);
        let up_to_last = u32::MAX >> (31 - last);
        Self((up_to_last & (u32::MAX << first)) as u16)
    }

    /// Blocks that are in one of them.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Blocks that are in this and not in the other.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other's blocks are in this.
    pub fn has(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether there are none in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// How many blocks from `first` on, up to `last` included, are all in it, or all not in it; and which of the two.
    pub fn run(self, first: u32, last: u32) -> (bool, u32) {
        let from_first = self.0 >> first;
        let is_in = from_first & 1 == 1;
        let same = if is_in { from_first.trailing_ones() } else { from_first.trailing_zeros() };
        (is_in, same.min(last - first + 1))
    }

    /// The first and the last block in it.
    pub fn span(self) -> Option<(u32, u32)> {
        (self.0 != 0).then(|| (self.0.trailing_zeros(), 15 - self.0.leading_zeros()))
    }

    /// The runs of blocks in it: first block and how many.
    pub fn runs(self) -> impl Iterator<Item = (u32, u32)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let first = rest.trailing_zeros();
            let len = (rest >> first).trailing_ones();
            rest &= !Blocks::between(first, first + len - 1).0;
            Some((first, len))
        })
    }
}

/// A word of the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word(pub u64);

impl Word {
    /// Nothing was ever written here.
    pub const ABSENT: Self = Self(0);
    /// What was here cannot be read any more.
    pub const UNREADABLE: Self = Self(LOST);

    /// A cluster of which these blocks are present.
    pub fn new(cluster: ClusterId, present: Blocks) -> Self {
        Self(u64::from(cluster.0) << CLUSTER_SHIFT | u64::from(present.0))
    }

    /// The cluster.
    pub fn cluster(self) -> Option<ClusterId> {
        match (self.0 >> CLUSTER_SHIFT) as u32 {
            0 => None,
            number => Some(ClusterId(number)),
        }
    }

    /// The blocks that hold data.
    pub fn present(self) -> Blocks {
        Blocks((self.0 & PRESENCE) as u16)
    }

    /// Whether another leaf may hold the cluster.
    pub fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }

    /// Whether a copy is under way.
    pub fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Whether the content is lost.
    pub fn is_lost(self) -> bool {
        self.0 & LOST != 0
    }

    pub(super) fn shared(self) -> Self {
        if self.cluster().is_some() { Self(self.0 | SHARED) } else { self }
    }

    pub(super) fn not_shared(self) -> Self {
        Self(self.0 & !SHARED)
    }

    pub(super) fn busy(self) -> Self {
        Self(self.0 | BUSY)
    }

    pub(super) fn with(self, present: Blocks) -> Self {
        Self(self.0 | u64::from(present.0))
    }

    /// The word after these blocks were discarded; others are left.
    pub(super) fn discarded(self, gone: Blocks) -> Self {
        let discards = self.0.wrapping_add(DISCARD) & DISCARDS;
        Self(self.0 & !(DISCARDS | u64::from(gone.0)) | discards)
    }

    /// Whether `later` has the same cluster, and none of its blocks was discarded in between: what was written into the cluster meanwhile is the
    /// newest that is there. A block that is absent before and after may have been written and discarded by others, so presence cannot tell.
    pub(super) fn is_continued_by(self, later: Self) -> bool {
        (self.0 ^ later.0) & (CLUSTER | DISCARDS) == 0
    }

    /// The word as it is stored: without what is known in memory only, and nothing for a cluster without data.
    pub fn durable(self) -> Self {
        if self.present().is_empty() && !self.is_lost() {
            return Self::ABSENT;
        }
        Self(self.0 & !(SHARED | BUSY | DISCARDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_from_the_first_to_the_last() {
        assert_eq!(Blocks::between(0, 15), Blocks::ALL);
        assert_eq!(Blocks::between(3, 3), Blocks(0b1000));
        assert_eq!(Blocks::between(14, 15), Blocks(0xc000));
        let blocks = Blocks(0b0110_0001);
        assert_eq!(blocks.runs().collect::<Vec<_>>(), [(0, 1), (5, 2)]);
        assert_eq!(Blocks::ALL.runs().collect::<Vec<_>>(), [(0, 16)]);
        assert_eq!((blocks.span(), Blocks::NONE.span()), (Some((0, 6)), None));
        assert_eq!(blocks.run(1, 15), (false, 4));
        assert_eq!(blocks.run(5, 5), (true, 1));
        assert_eq!(blocks.run(7, 15), (false, 9));
        assert_eq!(Blocks::ALL.run(2, 15), (true, 14));
    }

    #[test]
    fn what_is_stored_says_nothing_about_memory() {
        let word = Word::new(ClusterId(7), Blocks::between(0, 1));
        assert_eq!(word.shared().busy().discarded(Blocks::NONE).durable(), word);
        assert_eq!(Word::new(ClusterId(7), Blocks::NONE).shared().durable(), Word::ABSENT);
        assert_eq!(Word::UNREADABLE.durable(), Word::UNREADABLE);
        assert_eq!(word.cluster(), Some(ClusterId(7)));
        assert_eq!(Word::ABSENT.cluster(), None);
        assert_eq!(Word::ABSENT.shared(), Word::ABSENT);
    }

    #[test]
    fn a_word_is_continued_until_something_is_discarded() {
        let word = Word::new(ClusterId(u32::MAX), Blocks::between(0, 1));
        assert!(word.is_continued_by(word.with(Blocks::ALL).shared()));
        assert!(!word.is_continued_by(Word::new(ClusterId(7), word.present())));
        let mut discarded = word;
        for _ in 1..8192 {
            discarded = discarded.discarded(Blocks::between(1, 1));
            assert!(!word.is_continued_by(discarded));
            assert_eq!((discarded.cluster(), discarded.present()), (word.cluster(), Blocks::between(0, 0)));
            assert!(!discarded.is_lost() && !discarded.is_shared());
        }
        // The count has gone round.
        assert!(word.is_continued_by(discarded.discarded(Blocks::between(1, 1))));
    }
}
