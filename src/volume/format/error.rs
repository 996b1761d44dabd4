//! What can be wrong with bytes that were read from a pool.

use std::fmt;

use thiserror::Error;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The magic number is missing.
    #[error("this is no Strongroom pool: its first bytes are not those of a superblock")]
    NotAPool,
    /// The bytes are not those that were written.
    #[error("{object}: the checksum is wrong; the bytes are damaged or were written by something else")]
    Checksum {
        /// What was read.
        object: &'static str,
    },
    /// A later version wrote it.
    #[error("the pool has format version {0}; this Strongroom knows versions up to {known}; use a later one", known = super::VERSION)]
    Version(u32),
    /// The pool uses features without which it cannot be read.
    #[error("the pool uses features that this Strongroom does not know (incompatible: {0}); use a later one")]
    Features(FeatureBits),
    /// The pool uses features without which it cannot be written.
    #[error(
        "the pool uses features that this Strongroom does not know (read-only compatible: {0}); it may be read, but not be written; use a later one"
    )]
    ReadOnly(FeatureBits),
    /// A field has a value that nothing would have written.
    #[error("{object}, byte {at}: {what}")]
    Wrong {
        /// What was read.
        object: &'static str,
        /// Where the field starts, from the start of the page or block.
        at: usize,
        /// What is wrong with the field.
        what: String,
    },
}

impl FormatError {
    pub(super) fn wrong(object: &'static str, at: usize, what: impl Into<String>) -> Self {
        Self::Wrong { object, at, what: what.into() }
    }

    /// The same, if what was read starts `by` bytes into the page.
    pub(super) fn further(self, by: usize) -> Self {
        match self {
            Self::Wrong { object, at, what } => Self::Wrong { object, at: at + by, what },
            other => other,
        }
    }
}

/// Feature bits, printed by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureBits(pub u64);

impl fmt::Display for FeatureBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> =
            (0..u64::BITS).filter(|bit| self.0 >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        let noun = if numbers.len() == 1 { "bit" } else { "bits" };
        write!(f, "{noun} {}", numbers.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_named_by_their_bits() {
        let error = FormatError::Features(FeatureBits(1 << 3 | 1 << 40));
        assert!(error.to_string().contains("incompatible: bits 3, 40"), "{error}");
        assert!(FormatError::ReadOnly(FeatureBits(1)).to_string().contains("bit 0)"));
    }
}
