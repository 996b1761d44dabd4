//! Dataset Management (NVM section 3.2.3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Attribute Deallocate: bit 2 of dword 11.
pub const DEALLOCATE: u32 = 1 << 2;

/// A range (NVM section 3.2.3, Figure "Dataset Management - Range Definition").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DsmRange {
    /// Hints about how the range is used.
    pub context: le::U32,
    /// Blocks; zero is allowed and means none.
    pub blocks: le::U32,
    /// The first block.
    pub start: le::U64,
}
const _: () = assert!(size_of::<DsmRange>() == 16);
