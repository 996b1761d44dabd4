//! The CPU's own limit: AES rounds at each vector width with nothing else in the way.
//!
//! AES-256 is 14 rounds a block; XTS encrypts one more block (the tweak) a sector. So the least that a sector can cost is
//! `14 x (blocks + 1)` rounds, each at the measured cost of a round, shared by the lanes of a vector.
#![allow(unsafe_code)]

use std::arch::asm;

/// A width of AES instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Xmm,
    Ymm,
    Zmm,
}

/// Turns of the loop, of sixteen rounds each: eight streams, so that latency does not count.
const TURNS: u64 = 3000;

/// Rounds in a run.
pub(crate) const ROUNDS: u64 = 16 * TURNS;

/// The widths that this CPU has.
pub(crate) fn widths() -> Vec<Width> {
    use std::arch::is_x86_feature_detected as has;
    let mut widths = Vec::new();
    if has!("aes") && has!("avx") {
        widths.push(Width::Xmm);
    }
    if has!("avx2") && has!("vaes") {
        widths.push(Width::Ymm);
    }
    if has!("avx512f") && has!("vaes") {
        widths.push(Width::Zmm);
    }
    widths
}

/// Eight independent rounds, twice, over and over.
macro_rules! rounds {
    ($r:literal) => {
        asm!("2:",
            concat!("vaesenc ", $r, "0, ", $r, "0, ", $r, "8"), concat!("vaesenc ", $r, "1, ", $r, "1, ", $r, "8"),
            concat!("vaesenc ", $r, "2, ", $r, "2, ", $r, "8"), concat!("vaesenc ", $r, "3, ", $r, "3, ", $r, "8"),
            concat!("vaesenc ", $r, "4, ", $r, "4, ", $r, "8"), concat!("vaesenc ", $r, "5, ", $r, "5, ", $r, "8"),
            concat!("vaesenc ", $r, "6, ", $r, "6, ", $r, "8"), concat!("vaesenc ", $r, "7, ", $r, "7, ", $r, "8"),
            concat!("vaesenc ", $r, "0, ", $r, "0, ", $r, "8"), concat!("vaesenc ", $r, "1, ", $r, "1, ", $r, "8"),
            concat!("vaesenc ", $r, "2, ", $r, "2, ", $r, "8"), concat!("vaesenc ", $r, "3, ", $r, "3, ", $r, "8"),
            concat!("vaesenc ", $r, "4, ", $r, "4, ", $r, "8"), concat!("vaesenc ", $r, "5, ", $r, "5, ", $r, "8"),
            concat!("vaesenc ", $r, "6, ", $r, "6, ", $r, "8"), concat!("vaesenc ", $r, "7, ", $r, "7, ", $r, "8"),
            "dec {n}", "jnz 2b", n = inout(reg) TURNS => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, options(nomem, nostack))
    };
}

impl Width {
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::Xmm => 128,
            Self::Ymm => 256,
            Self::Zmm => 512,
        }
    }

    /// Does [`ROUNDS`] rounds. Only for a width that [`widths`] names.
    pub(crate) fn run(self) {
        // SAFETY: the CPU has the width; the loops change only registers that are declared.
        unsafe {
            match self {
                Self::Xmm => rounds!("xmm"),
                Self::Ymm => rounds!("ymm"),
                Self::Zmm => rounds!("zmm"),
            }
        }
    }

    /// The least cycles a byte of XTS, if a round takes `cycles`.
    pub(crate) fn cycles_per_byte(bits: usize, cycles: f64, sector_bytes: usize) -> f64 {
        let blocks = (sector_bytes / 16) as f64;
        14.0 * cycles * (blocks + 1.0) / (bits as f64 / 128.0) / sector_bytes as f64
    }
}
