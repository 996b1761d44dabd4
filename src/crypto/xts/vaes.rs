//! The hand-written kernels: the pipeline, compiled for 256-bit and for 512-bit VAES.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m256i, __m512i};

use super::pipeline::{Decrypt, Encrypt, run};
use super::schedule::Schedules;
use super::sector::{SectorSize, Tweak};
use super::span::Span;

/// Whether the CPU has what [`encrypt_256`] and [`decrypt_256`] are compiled for, and AES-NI for key expansion.
pub(super) fn has_256() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("aes") && has!("vaes")
}

/// Whether the CPU has what [`encrypt_512`] and [`decrypt_512`] are compiled for, and AES-NI for key expansion.
pub(super) fn has_512() -> bool {
    has_256() && std::arch::is_x86_feature_detected!("avx512f")
}

macro_rules! kernel {
    ($name:ident, $vector:ty, $direction:ty, $features:literal) => {
        /// Takes a run of whole sectors through the cipher.
        ///
        /// # Safety
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(schedules: &Schedules, sector: SectorSize, tweak: Tweak, span: Span) {
            // SAFETY: compiled for the features, which the caller says the CPU has.
            unsafe { run::<$vector, $direction>(schedules, sector, tweak, span) }
        }
    };
}

kernel!(encrypt_256, __m256i, Encrypt, "avx2,vaes");
kernel!(decrypt_256, __m256i, Decrypt, "avx2,vaes");
kernel!(encrypt_512, __m512i, Encrypt, "avx512f,vaes");
kernel!(decrypt_512, __m512i, Decrypt, "avx512f,vaes");
