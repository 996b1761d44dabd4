//! Feature bits: what a pool uses beyond its format version.

use super::FormatError;
use super::error::FeatureBits;

/// The features that a pool uses. A new pool uses none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Who does not know them cannot read the pool.
    pub incompatible: u64,
    /// Who does not know them may read the pool, but not write it.
    pub read_only: u64,
    /// Who does not know them may do anything. Writing the superblock drops the bit, and that says that the feature was not kept up.
    pub compatible: u64,
}

impl Features {
    /// Incompatible: the superblock names clusters of key slots, and volume records may name slots.
    pub const KEYS: u64 = 1;

    /// What this version knows.
    pub const KNOWN: Self = Self { incompatible: Self::KEYS, read_only: 0, compatible: 0 };

    /// Whether the pool may have keys.
    pub fn has_keys(&self) -> bool {
        self.incompatible & Self::KEYS != 0
    }

    /// The features as this version has to see them: without the compatible ones that it does not know.
    pub(super) fn understood(self) -> Result<Self, FormatError> {
        let unknown = self.incompatible & !Self::KNOWN.incompatible;
        if unknown != 0 {
            return Err(FormatError::Features(FeatureBits(unknown)));
        }
        Ok(Self { compatible: self.compatible & Self::KNOWN.compatible, ..self })
    }

    /// Refuses features without which the pool must not be written.
    pub fn check_writable(&self) -> Result<(), FormatError> {
        match self.read_only & !Self::KNOWN.read_only {
            0 => Ok(()),
            unknown => Err(FormatError::ReadOnly(FeatureBits(unknown))),
        }
    }
}
