//! What a sector is to the cipher: its size, and the number that goes into its tweak.

use thiserror::Error;

/// Bytes in an AES block.
pub(super) const BLOCK: usize = 16;

/// The size of a sector, which is also the XTS data unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectorSize {
    /// 512 bytes, 32 AES blocks.
    B512,
    /// 4096 bytes, 256 AES blocks.
    B4096,
}

impl SectorSize {
    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    /// The size as a power of two.
    pub const fn shift(self) -> u32 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }
}

/// A size that no sector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a sector of {0} bytes is not supported: use 512 or 4096")]
pub struct SectorSizeError(pub u32);

impl TryFrom<u32> for SectorSize {
    type Error = SectorSizeError;

    fn try_from(bytes: u32) -> Result<Self, SectorSizeError> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            _ => Err(SectorSizeError(bytes)),
        }
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> Self {
        1 << size.shift()
    }
}

/// The data unit numbers of a run: the first, and how far it is from one to the next.
///
/// A data unit's number goes into its tweak as 128 bits, little endian (IEEE 1619-2018, 5.1), and wraps at 2^128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tweak {
    /// The number of the run's first data unit.
    pub first: u128,
    /// What a data unit's number is above the one before it: 1, or 8 for the dm-crypt form that counts units of
    /// 512 bytes under sectors of 4096.
    pub step: u64,
}

impl Tweak {
    /// The run that starts at logical sector `first` and counts sectors.
    pub const fn sectors(first: u64) -> Self {
        Self { first: first as u128, step: 1 }
    }

    /// The run that follows `units` data units later.
    pub const fn after(self, units: u64) -> Self {
        Self { first: self.first.wrapping_add((units as u128).wrapping_mul(self.step as u128)), step: self.step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sector_sizes_convert_and_refuse() {
        for bytes in [512u32, 4096] {
            let size = SectorSize::try_from(bytes).unwrap();
            assert_eq!(
                (size.bytes(), 1usize << size.shift(), u32::from(size)),
                (bytes as usize, bytes as usize, bytes)
            );
        }
        let refusal = SectorSize::try_from(520).unwrap_err();
        assert_eq!(refusal.to_string(), "a sector of 520 bytes is not supported: use 512 or 4096");
    }

    #[test]
    fn tweaks_wrap_at_128_bits() {
        assert_eq!(Tweak { first: u128::MAX, step: 8 }.after(2).first, 15);
        assert_eq!(Tweak::sectors(u64::MAX).after(1).first, 1 << 64);
    }
}
