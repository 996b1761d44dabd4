//! The units in which a pool counts, and how they convert.
//!
//! ```text
//! device   | cluster 0      | cluster 1      | …            64 KiB each
//!          | page 0 … 15    | page 16 … 31   | …            4 KiB each
//! volume   word = one cluster of 16 blocks; leaf = 512 words = 32 MiB; branch = 256 leaves = 8 GiB; root = 256 branches = 2 TiB
//! ```
//!
//! This file needs nothing but `std`: the tests of races compile it by its path.

/// Bytes in a cluster, which is what space is given out in.
pub const CLUSTER: u64 = 64 << 10;
/// Bytes in a block, which is what is present or absent in a volume.
pub const BLOCK: u64 = 4 << 10;
/// Bytes in a page of metadata. Pages are buffers in memory too, hence `usize`.
pub const PAGE: usize = 4 << 10;
/// Blocks in a cluster; as many as a word has presence bits.
pub const BLOCKS_PER_CLUSTER: usize = 16;
/// Pages in a cluster.
pub const PAGES_PER_CLUSTER: u32 = 16;
/// Words in a leaf: 32 MiB of volume.
pub const WORDS_PER_LEAF: usize = 512;
/// Leaves below a branch: 8 GiB of volume.
pub const LEAVES_PER_BRANCH: usize = 256;
/// Branches below a root page: 2 TiB of volume.
pub const BRANCHES_PER_ROOT: usize = 256;
/// The most root pages that a volume has.
pub const ROOTS_PER_VOLUME: usize = 16;
/// Bytes in the largest volume: 32 TiB.
pub const LARGEST_VOLUME: u64 =
    CLUSTER * (WORDS_PER_LEAF * LEAVES_PER_BRANCH * BRANCHES_PER_ROOT * ROOTS_PER_VOLUME) as u64;

const _: () = assert!(CLUSTER == BLOCK * BLOCKS_PER_CLUSTER as u64);
const _: () = assert!(CLUSTER == PAGE as u64 * PAGES_PER_CLUSTER as u64);
const _: () = assert!(LARGEST_VOLUME == 32 << 40);

/// A cluster of the device: 64 KiB from byte `n * 64 KiB` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u32);

impl ClusterId {
    /// The cluster that the byte lies in; none if no device is that large.
    pub fn holding(byte: u64) -> Option<Self> {
        u32::try_from(byte / CLUSTER).ok().map(Self)
    }

    /// Its first byte on the device.
    pub const fn byte(self) -> u64 {
        self.0 as u64 * CLUSTER
    }

    /// The first of its pages.
    pub const fn first_page(self) -> PageNumber {
        PageNumber(self.0 as u64 * PAGES_PER_CLUSTER as u64)
    }
}

/// A page of metadata on the device: 4 KiB from byte `n * 4 KiB` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u64);

impl PageNumber {
    /// The first page behind the largest device, which has 2^32 clusters.
    pub const LIMIT: Self = Self((PAGES_PER_CLUSTER as u64) << 32);

    /// The page that starts at the byte; none if no page does.
    pub fn at_byte(byte: u64) -> Option<Self> {
        let page = Self(byte / PAGE as u64);
        (byte.is_multiple_of(PAGE as u64) && page < Self::LIMIT).then_some(page)
    }

    /// Its first byte on the device. A page from [`PageNumber::LIMIT`] on may have `u64::MAX`, where no device has anything.
    pub const fn byte(self) -> u64 {
        self.0.saturating_mul(PAGE as u64)
    }

    /// The cluster that it lies in; none from [`PageNumber::LIMIT`] on.
    pub fn cluster(self) -> Option<ClusterId> {
        u32::try_from(self.0 / u64::from(PAGES_PER_CLUSTER)).ok().map(ClusterId)
    }

    /// Which of its cluster's pages it is, from 0 on.
    pub const fn index_in_cluster(self) -> u32 {
        (self.0 % PAGES_PER_CLUSTER as u64) as u32
    }
}

/// A volume or snapshot. A number is given once in the life of a pool; 0 is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub u32);

impl VolumeId {
    /// No volume.
    pub const NOBODY: Self = Self(0);

    /// Whether it is no volume.
    pub fn is_nobody(self) -> bool {
        self == Self::NOBODY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_clusters_convert_both_ways() {
        let page = PageNumber(16 * 7 + 5);
        assert_eq!((page.cluster(), page.index_in_cluster()), (Some(ClusterId(7)), 5));
        assert_eq!(page.byte(), 7 * CLUSTER + 5 * 4096);
        assert_eq!(PageNumber::at_byte(page.byte()), Some(page));
        assert_eq!(ClusterId::holding(page.byte()), Some(ClusterId(7)));
        assert_eq!(ClusterId(7).first_page(), PageNumber(16 * 7));
        assert_eq!(ClusterId(7).byte(), 7 * CLUSTER);
    }

    #[test]
    fn what_no_device_has_does_not_convert() {
        assert_eq!(PageNumber::at_byte(4097), None);
        assert_eq!(PageNumber::at_byte(PageNumber::LIMIT.byte()), None);
        assert_eq!(ClusterId::holding(1 << 48), None);
        assert_eq!(ClusterId::holding((1 << 48) - 1), Some(ClusterId(u32::MAX)));
        assert_eq!(PageNumber::LIMIT.cluster(), None);
        assert_eq!(PageNumber(PageNumber::LIMIT.0 - 1).cluster(), Some(ClusterId(u32::MAX)));
        assert_eq!(PageNumber(u64::MAX).byte(), u64::MAX);
    }
}
