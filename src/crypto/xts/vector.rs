//! What the pipeline wants of a vector of AES blocks, at 256 and at 512 bits.
//!
//! Everything here is inlined into a function that enables the CPU features; called anywhere else it is undefined
//! behaviour. So the trait's methods are unsafe, with that one condition: **the CPU has the width's features**
//! ([`super::kernel::Kernel::is_supported`]) **and the caller is compiled with them**.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::schedule::{ROUND_KEYS, Schedule};
use super::span::Block;

/// A vector of 128-bit lanes, each an AES block or a tweak.
#[allow(clippy::missing_safety_doc)] // One condition for all, above.
pub(super) trait Vector: Copy {
    /// Blocks in a vector.
    const LANES: usize;
    /// Whether the tweaks are folded with carry-less multiplication, or else with shifts.
    const CLMUL: bool;

    /// Reads a vector. `ptr` can be read, and needs no alignment.
    unsafe fn load(ptr: *const u8) -> Self;
    /// Writes a vector. `ptr` can be written, and needs no alignment.
    unsafe fn store(self, ptr: *mut u8);
    /// Reads a block into all lanes.
    unsafe fn broadcast(block: &Block) -> Self;
    /// Reads a round key into all lanes; here and now, never earlier, later or once for all.
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule) -> Self;

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
    /// Shuffles the dwords of each lane.
    unsafe fn shuffle<const ORDER: i32>(self) -> Self;
    /// The top dword of each lane at the bottom, under zeros.
    unsafe fn top_dword(self) -> Self;
    /// The low word of each lane on top, above zeros.
    unsafe fn low_to_high(self) -> Self;
    /// The high word of each lane times the low word of `factor`'s, carry-less.
    unsafe fn clmul_high(self, factor: Self) -> Self;
}

/// Two lanes: AVX2, VAES, VPCLMULQDQ.
impl Vector for __m256i {
    const LANES: usize = 2;
    const CLMUL: bool = true;

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
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule) -> Self {
        // SAFETY: the trait's condition.
        unsafe { read_key_256::<ROUND>(schedule) }
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
    unsafe fn shuffle<const ORDER: i32>(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_shuffle_epi32::<ORDER>(self) }
    }
    #[inline(always)]
    unsafe fn top_dword(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_bsrli_epi128::<12>(self) }
    }
    #[inline(always)]
    unsafe fn low_to_high(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_bslli_epi128::<8>(self) }
    }
    #[inline(always)]
    unsafe fn clmul_high(self, factor: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm256_clmulepi64_epi128::<0x01>(self, factor) }
    }
}

/// Four lanes: AVX-512F, VAES, VPCLMULQDQ.
impl Vector for __m512i {
    const LANES: usize = 4;
    const CLMUL: bool = false;

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
    unsafe fn round_key<const ROUND: usize>(schedule: &Schedule) -> Self {
        // SAFETY: the trait's condition.
        unsafe { read_key_512::<ROUND>(schedule) }
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
    unsafe fn shuffle<const ORDER: i32>(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_shuffle_epi32::<ORDER>(self) }
    }
    #[inline(always)]
    unsafe fn top_dword(self) -> Self {
        // SAFETY: the trait's condition. One instruction, and not one that takes a slot from AES (a byte shift does).
        unsafe { _mm512_maskz_shuffle_epi32::<0xff>(0x1111, self) }
    }
    #[inline(always)]
    unsafe fn low_to_high(self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_maskz_shuffle_epi32::<0x44>(0xcccc, self) }
    }
    #[inline(always)]
    unsafe fn clmul_high(self, factor: Self) -> Self {
        // SAFETY: the trait's condition.
        unsafe { _mm512_clmulepi64_epi128::<0x01>(self, factor) }
    }
}

/// The load that the compiler can neither move, nor drop, nor do once for all.
#[inline]
#[target_feature(enable = "avx2")]
fn read_key_256<const ROUND: usize>(schedule: &Schedule) -> __m256i {
    const { assert!(ROUND < ROUND_KEYS) };
    let vector;
    // SAFETY: the instruction reads a key within the schedule and changes nothing else.
    unsafe {
        asm!("vbroadcasti128 {}, [{} + {}]", out(ymm_reg) vector, in(reg) schedule, const ROUND * 16,
            options(nostack, preserves_flags, readonly));
    }
    vector
}

/// The load that the compiler can neither move, nor drop, nor do once for all.
#[inline]
#[target_feature(enable = "avx512f")]
fn read_key_512<const ROUND: usize>(schedule: &Schedule) -> __m512i {
    const { assert!(ROUND < ROUND_KEYS) };
    let vector;
    // SAFETY: the instruction reads a key within the schedule and changes nothing else.
    unsafe {
        asm!("vbroadcasti32x4 {}, [{} + {}]", out(zmm_reg) vector, in(reg) schedule, const ROUND * 16,
            options(nostack, preserves_flags, readonly));
    }
    vector
}
