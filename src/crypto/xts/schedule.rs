//! The AES-256 key schedules of the hand-written kernels: 15 round keys each for encryption, decryption and tweaks,
//! in the order of their use, 16 bytes each (FIPS 197, 5.2; the decryption schedule is that of the equivalent inverse
//! cipher, 5.3.5).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use zeroize::Zeroize;

use super::sector::BLOCK;

/// Rounds of AES-256, and one.
pub(super) const ROUND_KEYS: usize = 15;

/// The round keys of one direction.
pub(super) type Schedule = [[u8; BLOCK]; ROUND_KEYS];

/// All round keys of an XTS key. Overwritten on drop.
#[repr(C, align(16))]
pub(super) struct Schedules {
    pub(super) encrypt: Schedule,
    pub(super) decrypt: Schedule,
    pub(super) tweak: Schedule,
}

impl Schedules {
    /// Expands the two halves of an XTS key.
    ///
    /// # Safety
    /// The CPU has AES-NI.
    #[target_feature(enable = "aes")]
    pub(super) unsafe fn expand(data: &[u8; 32], tweak: &[u8; 32]) -> Self {
        let encrypt = expand(data);
        Self { decrypt: inverse(&encrypt), encrypt, tweak: expand(tweak) }
    }
}

impl Drop for Schedules {
    fn drop(&mut self) {
        for schedule in [&mut self.encrypt, &mut self.decrypt, &mut self.tweak] {
            schedule.as_flattened_mut().zeroize();
        }
    }
}

/// FIPS 197, 5.2 with Nk = 8: two round keys a step, the last step makes one.
#[target_feature(enable = "aes")]
fn expand(key: &[u8; 32]) -> Schedule {
    let (halves, _) = key.as_chunks::<BLOCK>();
    let (mut even, mut odd) = (load(&halves[0]), load(&halves[1]));
    let mut schedule = [[0; BLOCK]; ROUND_KEYS];
    store(&mut schedule[0], even);
    store(&mut schedule[1], odd);
    macro_rules! even {
        ($round:literal, $rcon:literal) => {
            // RotWord, SubWord and Rcon of the last word.
            let mixed = _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$rcon>(odd));
            even = _mm_xor_si128(running_xor(even), mixed);
            store(&mut schedule[$round], even);
        };
    }
    macro_rules! odd {
        ($round:literal) => {
            // SubWord of the last word.
            let mixed = _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even));
            odd = _mm_xor_si128(running_xor(odd), mixed);
            store(&mut schedule[$round], odd);
        };
    }
    even!(2, 0x01);
    odd!(3);
    even!(4, 0x02);
    odd!(5);
    even!(6, 0x04);
    odd!(7);
    even!(8, 0x08);
    odd!(9);
    even!(10, 0x10);
    odd!(11);
    even!(12, 0x20);
    odd!(13);
    even!(14, 0x40);
    schedule
}

#[target_feature(enable = "aes")]
fn inverse(encrypt: &Schedule) -> Schedule {
    let mut schedule = *encrypt;
    schedule.reverse();
    for key in &mut schedule[1..ROUND_KEYS - 1] {
        let mixed = _mm_aesimc_si128(load(key));
        store(key, mixed);
    }
    schedule
}

/// Each word combined with all words before it.
#[target_feature(enable = "sse2")]
fn running_xor(words: __m128i) -> __m128i {
    let words = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    _mm_xor_si128(words, _mm_slli_si128::<8>(words))
}

#[target_feature(enable = "sse2")]
fn load(block: &[u8; BLOCK]) -> __m128i {
    // SAFETY: the block has 16 bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn store(block: &mut [u8; BLOCK], value: __m128i) {
    // SAFETY: the block has 16 bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix A.3: the key, and its last round key.
    #[test]
    fn expands_the_key_of_fips_197() {
        if !std::arch::is_x86_feature_detected!("aes") {
            println!("skipped: this CPU has no AES-NI");
            return;
        }
        let key = 0x603deb10_15ca71be_2b73aef0_857d7781_u128.to_be_bytes();
        let more = 0x1f352c07_3b6108d7_2d9810a3_0914dff4_u128.to_be_bytes();
        let key: [u8; 32] = [key, more].as_flattened().try_into().unwrap();
        // SAFETY: the CPU has AES-NI.
        let schedules = unsafe { Schedules::expand(&key, &key) };
        assert_eq!(schedules.tweak[14], 0xfe4890d1_e6188d0b_046df344_706c631e_u128.to_be_bytes());
        assert_eq!(schedules.decrypt[0], schedules.encrypt[14]);
        assert_eq!(schedules.decrypt[14][..], key[..16]);
    }
}
