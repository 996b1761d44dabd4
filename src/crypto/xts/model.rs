//! A model of the 512-bit vector in 128-bit instructions, so that the 512-bit form of the pipeline is tested on CPUs
//! that cannot run it. What stays unproven there is the mapping of each operation to its one AVX-512 instruction.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::pipeline::{Decrypt, Encrypt, STREAMS, run};
use super::schedule::{Schedule, Schedules};
use super::sector::{BLOCK, SectorSize, Tweak};
use super::span::{Block, Span};
use super::vector::Vector;
use super::{Kernel, XtsKey};

const LANES: usize = 4;

/// Four lanes of two words.
#[derive(Clone, Copy)]
struct Model([Block; LANES]);

impl Model {
    fn words(self, other: Self, mut f: impl FnMut(u64, u64) -> u64) -> Self {
        let mut out = self;
        for (out, other) in out.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened()) {
            *out = f(*out, *other);
        }
        out
    }

    /// # Safety
    /// The CPU has AES-NI.
    #[target_feature(enable = "aes")]
    unsafe fn lanes(self, key: Self, f: unsafe fn(__m128i, __m128i) -> __m128i) -> Self {
        let mut out = self;
        for (out, key) in out.0.iter_mut().zip(key.0) {
            // SAFETY: a block and a vector are both 16 bytes of any value; the CPU has AES-NI.
            *out = unsafe {
                transmute::<__m128i, Block>(f(transmute::<Block, __m128i>(*out), transmute::<Block, __m128i>(key)))
            };
        }
        out
    }
}

/// Defines an AES instruction as a function pointer that the model can call for each lane.
macro_rules! aes {
    ($name:ident, $instruction:ident) => {
        #[target_feature(enable = "aes")]
        fn $name(block: __m128i, key: __m128i) -> __m128i {
            $instruction(block, key)
        }
    };
}
aes!(enc, _mm_aesenc_si128);
aes!(enc_last, _mm_aesenclast_si128);
aes!(dec, _mm_aesdec_si128);
aes!(dec_last, _mm_aesdeclast_si128);

impl Vector for Model {
    const LANES: usize = LANES;

    unsafe fn load(ptr: *const u8) -> Self {
        // SAFETY: the caller says that a vector can be read.
        Self(unsafe { ptr.cast::<[Block; LANES]>().read_unaligned() })
    }
    unsafe fn store(self, ptr: *mut u8) {
        // SAFETY: the caller says that a vector can be written.
        unsafe { ptr.cast::<[Block; LANES]>().write_unaligned(self.0) }
    }
    unsafe fn broadcast(block: &Block) -> Self {
        Self([*block; LANES])
    }
    unsafe fn key(key: &[u8; BLOCK]) -> Self {
        let word = u128::from_le_bytes(*key);
        Self([[word as u64, (word >> 64) as u64]; LANES])
    }
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule, _before: &mut [Self; STREAMS]) -> Self {
        // SAFETY: there is no condition.
        unsafe { Self::key(&schedule[ROUND]) }
    }
    unsafe fn pinned(self) -> Self {
        self
    }
    unsafe fn xor(self, other: Self) -> Self {
        self.words(other, |a, b| a ^ b)
    }
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        self.words(b, |a, b| a ^ b).words(c, |a, c| a ^ c)
    }
    unsafe fn and(self, other: Self) -> Self {
        self.words(other, |a, b| a & b)
    }
    unsafe fn add(self, other: Self) -> Self {
        self.words(other, u64::wrapping_add)
    }
    unsafe fn encrypt_round(self, key: Self) -> Self {
        // SAFETY: the tests check for AES-NI.
        unsafe { self.lanes(key, enc) }
    }
    unsafe fn encrypt_last(self, key: Self) -> Self {
        // SAFETY: the tests check for AES-NI.
        unsafe { self.lanes(key, enc_last) }
    }
    unsafe fn decrypt_round(self, key: Self) -> Self {
        // SAFETY: the tests check for AES-NI.
        unsafe { self.lanes(key, dec) }
    }
    unsafe fn decrypt_last(self, key: Self) -> Self {
        // SAFETY: the tests check for AES-NI.
        unsafe { self.lanes(key, dec_last) }
    }
    unsafe fn shl_each(self, counts: Self) -> Self {
        self.words(counts, |word, count| word.checked_shl(count as u32).unwrap_or(0))
    }
    unsafe fn shr_each(self, counts: Self) -> Self {
        self.words(counts, |word, count| word.checked_shr(count as u32).unwrap_or(0))
    }
    unsafe fn shl(self, count: usize) -> Self {
        self.words(self, |word, _| word.checked_shl(count as u32).unwrap_or(0))
    }
    unsafe fn shr(self, count: usize) -> Self {
        self.words(self, |word, _| word.checked_shr(count as u32).unwrap_or(0))
    }
    unsafe fn swap(self) -> Self {
        Self(self.0.map(|[low, high]| [high, low]))
    }
    unsafe fn rotate_up(self) -> Self {
        Self(self.0.map(|[low, high]| [low << 32 | high >> 32, high << 32 | low >> 32]))
    }
    unsafe fn lower_words(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| [self.0[lane][0], other.0[lane][0]]))
    }
    unsafe fn upper_words(self, other: Self) -> Self {
        Self(std::array::from_fn(|lane| [self.0[lane][1], other.0[lane][1]]))
    }
}

#[test]
fn the_pipeline_at_512_bits_gives_the_bytes_of_the_bulk_kernel() {
    if !std::arch::is_x86_feature_detected!("aes") {
        println!("skipped: this CPU has no AES-NI");
        return;
    }
    let key: [u8; 64] = std::array::from_fn(|i| i as u8 ^ 0x3c);
    let bulk = XtsKey::expand(Kernel::Bulk, &key).unwrap();
    let (data, tweak_key) = (key.first_chunk().unwrap(), key.last_chunk().unwrap());
    // SAFETY: the CPU has AES-NI.
    let schedules = unsafe { Schedules::expand(data, tweak_key) };
    for sector in [SectorSize::B512, SectorSize::B4096] {
        for sectors in 1..20 {
            for (first, step) in [(7, 1), (u128::from(u64::MAX) - 30, 8), (u128::MAX - 5, 1), (1 << 90, u64::MAX)] {
                let tweak = Tweak { first, step };
                let plain: Vec<u8> = (0..sectors * sector.bytes()).map(|i| ((i * 31) >> 3) as u8).collect();
                let mut wanted = vec![0; plain.len()];
                bulk.encrypt(sector, tweak, &plain, &mut wanted);
                let mut got = vec![0; plain.len()];
                // SAFETY: both vectors have that many blocks.
                let span = unsafe { Span::new(plain.as_ptr(), got.as_mut_ptr(), plain.len() / BLOCK) };
                // SAFETY: the CPU has AES-NI, which is all that the model needs.
                unsafe { run::<Model, Encrypt>(&schedules, sector, tweak, span) };
                assert!(got == wanted, "encrypt {sectors} x {sector:?}, {tweak:?}");
                // SAFETY: the vector has that many blocks.
                let span = unsafe { Span::new(got.as_ptr(), got.as_mut_ptr(), plain.len() / BLOCK) };
                // SAFETY: the CPU has AES-NI, which is all that the model needs.
                unsafe { run::<Model, Decrypt>(&schedules, sector, tweak, span) };
                assert!(got == plain, "decrypt {sectors} x {sector:?}, {tweak:?}");
            }
        }
    }
}
