//! What stands in place of `src/volume/units.rs`: its types, with small nodes.

/// The product's file.
#[path = "../../../../src/volume/units.rs"]
pub mod real;

pub use real::{BLOCKS_PER_CLUSTER, ClusterId, PAGES_PER_CLUSTER, PageNumber};

/// Words in a leaf.
pub const WORDS_PER_LEAF: usize = 2;
/// Leaves below a branch.
pub const LEAVES_PER_BRANCH: usize = 2;
/// Branches below a root page.
pub const BRANCHES_PER_ROOT: usize = 2;
/// The most root pages that a volume has.
pub const ROOTS_PER_VOLUME: usize = 1;
