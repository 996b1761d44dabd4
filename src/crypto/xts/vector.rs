//! What the pipeline wants of a vector of AES blocks, at 256 and at 512 bits.
//!
//! Everything here is inlined into a function that enables the CPU features; called anywhere else it is undefined
//! behaviour. So the trait's methods are unsafe, with that one condition: **the CPU has the width's features**
//! ([`super::kernel::Kernel::has_features`]) **and the caller is compiled with them**.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::pipeline::STREAMS;
use super::schedule::{ROUND_KEYS, Schedule};
use super::sector::BLOCK;
use super::span::Block;

/// A vector of 128-bit lanes, each an AES block or a tweak.
#[allow(clippy::missing_safety_doc)] // One condition for all, above.
pub(super) trait Vector: Copy {
    /// Blocks in a vector.
    const LANES: usize;

    /// Reads a vector. `ptr` can be read, and needs no alignment.
    unsafe fn load(ptr: *const u8) -> Self;
    /// Writes a vector. `ptr` can be written, and needs no alignment.
    unsafe fn store(self, ptr: *mut u8);
    /// Reads a block into all lanes.
    unsafe fn broadcast(block: &Block) -> Self;
    /// Reads a round key into all lanes.
    unsafe fn key(key: &[u8; BLOCK]) -> Self;
    /// Reads a round key into all lanes, after everything that `before` says. The compiler neither moves the read nor
    /// saves it, and so keeps the rounds in the order in which they are written.
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule, before: &mut [Self; STREAMS]) -> Self;

    /// The same vector, made here: between the round keys that are read before and after.
    unsafe fn pinned(self) -> Self;

    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn xor3(self, b: Self, c: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    /// Adds 64-bit words.
    unsafe fn add(self, other: Self) -> Self;

    unsafe fn encrypt_round(self, key: Self) -> Self;
    unsafe fn encrypt_last(self, key: Self) -> Self;
    unsafe fn decrypt_round(self, key: Self) -> Self;
    unsafe fn decrypt_last(self, key: Self) -> Self;

    /// Shifts each 64-bit word by its own count; 64 gives 0.
    unsafe fn shl_each(self, counts: Self) -> Self;
    unsafe fn shr_each(self, counts: Self) -> Self;
    /// Shifts each 64-bit word by `count`, which the compiler knows; 64 gives 0.
    unsafe fn shl(self, count: usize) -> Self;
    unsafe fn shr(self, count: usize) -> Self;
    /// Swaps the words of each lane.
    unsafe fn swap(self) -> Self;
    /// Moves the dwords of each lane up by one, the top one to the bottom.
    unsafe fn rotate_up(self) -> Self;
    /// In each lane the lower words of both.
    unsafe fn lower_words(self, other: Self) -> Self;
    /// In each lane the upper words of both.
    unsafe fn upper_words(self, other: Self) -> Self;
}

/// Two lanes: AVX2, VAES.
impl Vector for __m256i {
    const LANES: usize = 2;

    #[inline(always)]
    unsafe fn load(ptr: *const u8) -> Self {
        // SAFETY: the trait's condition, and `ptr` can be read.
        unsafe { _mm256_loadu_si256(ptr.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, ptr: *mut u8) {
        // SAFETY: the trait's condition, and `ptr` can be written.
        unsafe { _mm256_storeu_si256(ptr.cast(), self) }
    }
    #[inline(always)]
    unsafe fn broadcast(block: &Block) -> Self {
        // SAFETY: the trait's condition; a block has 16 bytes.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(block.as_ptr().cast())) }
    }
    #[inline(always)]
    unsafe fn key(key: &[u8; BLOCK]) -> Self {
        // SAFETY: the trait's condition; a key has 16 bytes.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(key.as_ptr().cast())) }
    }
    #[inline(always)]
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule, before: &mut [Self; STREAMS]) -> Self {
        // SAFETY: the trait's condition.
        unsafe { read_key_256::<ROUND>(schedule, before) }
    }
    #[inline(always)]
    unsafe fn pinned(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { pin_256(self) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_xor_si256(self, other) }
    }
    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_xor_si256(_mm256_xor_si256(self, b), c) }
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_and_si256(self, other) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_add_epi64(self, other) }
    }
    #[inline(always)]
    unsafe fn encrypt_round(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_aesenc_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn encrypt_last(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_aesenclast_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn decrypt_round(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_aesdec_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn decrypt_last(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_aesdeclast_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn shl_each(self, counts: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_sllv_epi64(self, counts) }
    }
    #[inline(always)]
    unsafe fn shr_each(self, counts: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_srlv_epi64(self, counts) }
    }
    #[inline(always)]
    unsafe fn shl(self, count: usize) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_sll_epi64(self, _mm_cvtsi64_si128(count as i64)) }
    }
    #[inline(always)]
    unsafe fn shr(self, count: usize) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_srl_epi64(self, _mm_cvtsi64_si128(count as i64)) }
    }
    #[inline(always)]
    unsafe fn swap(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_shuffle_epi32::<0b01_00_11_10>(self) }
    }
    #[inline(always)]
    unsafe fn rotate_up(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_shuffle_epi32::<0b10_01_00_11>(self) }
    }
    #[inline(always)]
    unsafe fn lower_words(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_unpacklo_epi64(self, other) }
    }
    #[inline(always)]
    unsafe fn upper_words(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_unpackhi_epi64(self, other) }
    }
}

/// Four lanes: AVX-512F, VAES.
impl Vector for __m512i {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(ptr: *const u8) -> Self {
        // SAFETY: the trait's condition, and `ptr` can be read.
        unsafe { _mm512_loadu_si512(ptr.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, ptr: *mut u8) {
        // SAFETY: the trait's condition, and `ptr` can be written.
        unsafe { _mm512_storeu_si512(ptr.cast(), self) }
    }
    #[inline(always)]
    unsafe fn broadcast(block: &Block) -> Self {
        // SAFETY: the trait's condition; a block has 16 bytes.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(block.as_ptr().cast())) }
    }
    #[inline(always)]
    unsafe fn key(key: &[u8; BLOCK]) -> Self {
        // SAFETY: the trait's condition; a key has 16 bytes.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(key.as_ptr().cast())) }
    }
    #[inline(always)]
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule, before: &mut [Self; STREAMS]) -> Self {
        // SAFETY: the trait's condition.
        unsafe { read_key_512::<ROUND>(schedule, before) }
    }
    #[inline(always)]
    unsafe fn pinned(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { pin_512(self) }
    }
    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_xor_si512(self, other) }
    }
    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: the trait's condition. 0x96 is the truth table of exclusive or of three.
        unsafe { _mm512_ternarylogic_epi64::<0x96>(self, b, c) }
    }
    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_and_si512(self, other) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_add_epi64(self, other) }
    }
    #[inline(always)]
    unsafe fn encrypt_round(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_aesenc_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn encrypt_last(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_aesenclast_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn decrypt_round(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_aesdec_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn decrypt_last(self, key: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_aesdeclast_epi128(self, key) }
    }
    #[inline(always)]
    unsafe fn shl_each(self, counts: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_sllv_epi64(self, counts) }
    }
    #[inline(always)]
    unsafe fn shr_each(self, counts: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_srlv_epi64(self, counts) }
    }
    #[inline(always)]
    unsafe fn shl(self, count: usize) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_sll_epi64(self, _mm_cvtsi64_si128(count as i64)) }
    }
    #[inline(always)]
    unsafe fn shr(self, count: usize) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_srl_epi64(self, _mm_cvtsi64_si128(count as i64)) }
    }
    #[inline(always)]
    unsafe fn swap(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_shuffle_epi32::<0b01_00_11_10>(self) }
    }
    #[inline(always)]
    unsafe fn rotate_up(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_shuffle_epi32::<0b10_01_00_11>(self) }
    }
    #[inline(always)]
    unsafe fn lower_words(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_unpacklo_epi64(self, other) }
    }
    #[inline(always)]
    unsafe fn upper_words(self, other: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_unpackhi_epi64(self, other) }
    }
}

/// The load that the compiler can neither move before the making of `before`, nor drop, nor do once for all.
#[inline]
#[target_feature(enable = "avx2")]
fn read_key_256<const ROUND: usize>(schedule: &Schedule, before: &mut [__m256i; STREAMS]) -> __m256i {
    const { assert!(ROUND < ROUND_KEYS) };
    let key;
    let [a, b, c, d, e, f, g, h] = before;
    // SAFETY: the instruction reads a key within the schedule and changes nothing else.
    unsafe {
        asm!("vbroadcasti128 {}, [{} + {}] /* {}{}{}{}{}{}{}{} */", out(ymm_reg) key, in(reg) schedule, const ROUND * 16,
            inout(ymm_reg) *a, inout(ymm_reg) *b, inout(ymm_reg) *c, inout(ymm_reg) *d,
            inout(ymm_reg) *e, inout(ymm_reg) *f, inout(ymm_reg) *g, inout(ymm_reg) *h,
            options(nostack, preserves_flags, readonly));
    }
    key
}

/// The load that the compiler can neither move before the making of `before`, nor drop, nor do once for all.
#[inline]
#[target_feature(enable = "avx512f")]
fn read_key_512<const ROUND: usize>(schedule: &Schedule, before: &mut [__m512i; STREAMS]) -> __m512i {
    const { assert!(ROUND < ROUND_KEYS) };
    let key;
    let [a, b, c, d, e, f, g, h] = before;
    // SAFETY: the instruction reads a key within the schedule and changes nothing else.
    unsafe {
        asm!("vbroadcasti32x4 {}, [{} + {}] /* {}{}{}{}{}{}{}{} */", out(zmm_reg) key, in(reg) schedule, const ROUND * 16,
            inout(zmm_reg) *a, inout(zmm_reg) *b, inout(zmm_reg) *c, inout(zmm_reg) *d,
            inout(zmm_reg) *e, inout(zmm_reg) *f, inout(zmm_reg) *g, inout(zmm_reg) *h,
            options(nostack, preserves_flags, readonly));
    }
    key
}

/// Nothing, but in the order of the key loads.
#[inline]
#[target_feature(enable = "avx2")]
fn pin_256(mut vector: __m256i) -> __m256i {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {} */", inout(ymm_reg) vector, options(nostack, preserves_flags, nomem)) };
    vector
}

/// Nothing, but in the order of the key loads.
#[inline]
#[target_feature(enable = "avx512f")]
fn pin_512(mut vector: __m512i) -> __m512i {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {} */", inout(zmm_reg) vector, options(nostack, preserves_flags, nomem)) };
    vector
}
