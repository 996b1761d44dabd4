//! The clusters of a device, as loom sees them: two that touch a block at the same time, with nothing to order them, are found. One block of
//! each cluster is for hosts that do that on purpose.

use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;

use crate::volume::units::ClusterId;

/// Blocks that a model looks at in each cluster.
pub const BLOCKS: usize = 2;
/// One more, which may be written by several at the same time: it holds what one of them wrote.
pub const CONTENDED: u32 = 2;

/// What is in a cluster.
#[derive(Default)]
struct Content {
    blocks: [UnsafeCell<u32>; BLOCKS],
    contended: AtomicU32,
}

/// What is in the clusters.
pub struct Device(Vec<Content>);

// SAFETY: loom checks each access to a cell, and ends the test if two of them race.
#[allow(unsafe_code)]
unsafe impl Sync for Device {}

impl Device {
    /// So many clusters with 0 in them.
    pub fn new(clusters: u32) -> Self {
        Self((0..clusters).map(|_| Content::default()).collect())
    }

    /// Writes a block.
    #[allow(unsafe_code)]
    pub fn write(&self, cluster: ClusterId, block: u32, content: u32) {
        let at = &self.0[cluster.0 as usize];
        if block == CONTENDED {
            return at.contended.store(content, Ordering::Relaxed);
        }
        // SAFETY: loom has found the access to be the only one.
        at.blocks[block as usize].with_mut(|cell| unsafe { *cell = content });
    }

    /// Reads a block.
    #[allow(unsafe_code)]
    pub fn read(&self, cluster: ClusterId, block: u32) -> u32 {
        let at = &self.0[cluster.0 as usize];
        if block == CONTENDED {
            return at.contended.load(Ordering::Relaxed);
        }
        // SAFETY: loom has found that nobody writes meanwhile.
        at.blocks[block as usize].with(|cell| unsafe { *cell })
    }
}
