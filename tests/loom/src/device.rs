//! The clusters of a device, as loom sees them: two that touch a block at the same time, with nothing to order them, are found.

use loom::cell::UnsafeCell;

use crate::volume::units::ClusterId;

/// Blocks that a model looks at in each cluster.
pub const BLOCKS: usize = 2;

/// What is in the blocks.
pub struct Device(Vec<[UnsafeCell<u32>; BLOCKS]>);

// SAFETY: loom checks each access to a cell, and ends the test if two of them race.
#[allow(unsafe_code)]
unsafe impl Sync for Device {}

impl Device {
    /// So many clusters with 0 in them.
    pub fn new(clusters: u32) -> Self {
        Self((0..clusters).map(|_| std::array::from_fn(|_| UnsafeCell::new(0))).collect())
    }

    /// Writes a block.
    #[allow(unsafe_code)]
    pub fn write(&self, cluster: ClusterId, block: u32, content: u32) {
        // SAFETY: loom has found the access to be the only one.
        self.0[cluster.0 as usize][block as usize].with_mut(|cell| unsafe { *cell = content });
    }

    /// Reads a block.
    #[allow(unsafe_code)]
    pub fn read(&self, cluster: ClusterId, block: u32) -> u32 {
        // SAFETY: loom has found that nobody writes meanwhile.
        self.0[cluster.0 as usize][block as usize].with(|cell| unsafe { *cell })
    }
}
