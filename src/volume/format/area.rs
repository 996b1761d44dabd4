//! Where the journal is: a ring of blocks in clusters that nothing else has.

use crate::volume::units::{BLOCKS_PER_CLUSTER, CLUSTER, ClusterId, PageNumber};

/// The journal's clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalArea {
    /// The first of them.
    pub first: ClusterId,
    /// Blocks in the ring: whole clusters.
    pub blocks: u32,
}

impl JournalArea {
    /// The first cluster of a new pool's journal: behind those of the superblocks.
    pub const FIRST: ClusterId = ClusterId(2);
    const SMALLEST: u64 = 1 << 20;
    const LARGEST: u64 = 64 << 20;

    /// The usual journal for a device of so many clusters: a 256th of it, between 1 and 64 MiB.
    pub fn usual(clusters: u32) -> Self {
        let bytes = ClusterId(clusters).byte() / 256;
        let clusters = bytes.clamp(Self::SMALLEST, Self::LARGEST) / CLUSTER;
        Self { first: Self::FIRST, blocks: clusters as u32 * BLOCKS_PER_CLUSTER as u32 }
    }

    /// A journal of so many bytes, rounded up to whole clusters; none if it would be empty or larger than any.
    pub fn of_bytes(bytes: u64) -> Option<Self> {
        let blocks = bytes.div_ceil(CLUSTER).checked_mul(BLOCKS_PER_CLUSTER as u64)?;
        let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks > 0)?;
        Some(Self { first: Self::FIRST, blocks })
    }

    /// The cluster behind the journal: the first one for data and metadata.
    pub fn end(&self) -> ClusterId {
        ClusterId(self.first.0.saturating_add(self.blocks / BLOCKS_PER_CLUSTER as u32))
    }

    /// Where a block of the ring is.
    ///
    /// # Panics
    /// If the ring has no such block.
    pub fn page(&self, block: u32) -> PageNumber {
        assert!(block < self.blocks, "block {block} of a journal of {}", self.blocks);
        PageNumber(self.first.first_page().0 + u64::from(block))
    }

    /// The block of the ring that follows.
    pub fn after(&self, block: u32) -> u32 {
        if block + 1 < self.blocks { block + 1 } else { 0 }
    }
}

/// Where replay starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalStart {
    /// The block of the ring.
    pub block: u32,
    /// The sequence number that it has, if it was written.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_journals_grow_with_the_device_between_bounds() {
        let mib = |clusters: u32| JournalArea::usual(clusters).blocks / 256;
        assert_eq!([mib(16), mib(16 * 1024), mib(16 * 4096), mib(1 << 20), mib(u32::MAX)], [1, 4, 16, 64, 64]);
        assert_eq!(JournalArea::usual(16 * 1024).end(), ClusterId(2 + 64));
    }

    #[test]
    fn chosen_journals_are_whole_clusters() {
        assert_eq!(JournalArea::of_bytes(1).unwrap().blocks, 16);
        assert_eq!(JournalArea::of_bytes(CLUSTER + 1).unwrap().blocks, 32);
        assert_eq!((JournalArea::of_bytes(0), JournalArea::of_bytes(u64::MAX)), (None, None));
    }

    #[test]
    fn ring_comes_round() {
        let area = JournalArea::of_bytes(CLUSTER).unwrap();
        assert_eq!((area.page(0), area.page(15)), (PageNumber(32), PageNumber(47)));
        assert_eq!((area.after(0), area.after(15)), (1, 0));
    }
}
