//! What the tests of the format build on.

use super::{PagePointer, VolumeKind, VolumeRecord};
use crate::volume::units::{PageNumber, ROOTS_PER_VOLUME, VolumeId};

/// A volume with one attribute byte and one root page.
pub fn volume(id: u32, name: &str) -> VolumeRecord {
    let mut roots = [PagePointer::NONE; ROOTS_PER_VOLUME];
    roots[0] = PagePointer::to(PageNumber(4000), b"root");
    VolumeRecord {
        id: VolumeId(id),
        kind: VolumeKind::Volume,
        flags: 0,
        parent: VolumeId::NOBODY,
        size: 10 << 30,
        created_at: 1_790_000_000,
        name: name.to_owned(),
        roots,
        attributes: vec![1, 2, 3],
        key: None,
    }
}

/// A snapshot of the volume before it, which is called `of`.
pub fn snapshot(id: u32, name: &str) -> VolumeRecord {
    VolumeRecord { kind: VolumeKind::Snapshot, parent: VolumeId(id - 1), ..volume(id, &format!("of@{name}")) }
}

/// SplitMix64: the same bytes for the same seed.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
