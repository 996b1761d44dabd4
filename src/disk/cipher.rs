//! The cipher of one disk on one reactor: which tweak belongs to which range, and nothing else.

use crate::crypto::scrub::scrub;
use crate::crypto::xts::{SectorSize, Tweak, XtsKey};
use crate::device::ByteRange;
use crate::memory::{Secret, Segment};
use crate::reactor::profile::{Stage, stage};

pub(super) struct Cipher {
    key: Secret<XtsKey>,
    sector: SectorSize,
    step: u64,
}

#[allow(unsafe_code)]
impl Cipher {
    pub(super) fn new(key: Secret<XtsKey>, sector: SectorSize, step: u64) -> Self {
        Self { key, sector, step }
    }

    /// The tweak of the range's first sector: its logical number on the disk, times the step.
    fn tweak(&self, range: ByteRange) -> Tweak {
        let first = u128::from(range.start() >> self.sector.shift()) * u128::from(self.step);
        Tweak { first, step: self.step }
    }

    /// Encrypts the range's sectors, which lie in `from`, to `to`. What lies at `after`, if anything, is fetched meanwhile.
    pub(super) fn encrypt(&self, range: ByteRange, from: &[Segment], to: &[Segment], after: *const u8) {
        let _cipher = stage(Stage::Cipher);
        // SAFETY: segments are mapped, and `to` is memory of the device or of a buffer of ours, which no client's segment overlaps;
        // a sector that was put together in the buffer is encrypted where it is.
        unsafe { self.key.encrypt_segments(self.sector, self.tweak(range), from, to, after) }
    }

    /// Decrypts the range's sectors from `from` to `to`, which may be the same memory. What lies at `after`, if anything, is fetched meanwhile.
    pub(super) fn decrypt(&self, range: ByteRange, from: Segment, to: &[Segment], after: *const u8) {
        let _cipher = stage(Stage::Cipher);
        // SAFETY: segments are mapped; `from` is memory of the device or of a buffer of ours, `to` the same segment, or a buffer, or a client's
        // memory, which overlaps neither.
        unsafe { self.key.decrypt_segments(self.sector, self.tweak(range), &[from], to, after) }
    }
}

impl Drop for Cipher {
    /// The key wipes itself; what its use left on this core's stack and in its registers does not.
    fn drop(&mut self) {
        scrub();
    }
}
