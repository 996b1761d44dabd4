//! The round keys of AES-256, made from FIPS 197 alone: what the target's own key expansion makes is not taken on trust.

pub const ROUND_KEYS: usize = 15;

/// FIPS 197, 5.2, with Nk = 8.
pub fn round_keys(key: &[u8; 32]) -> [[u8; 16]; ROUND_KEYS] {
    let mut words: Vec<[u8; 4]> = key.as_chunks::<4>().0.to_vec();
    let mut constant = 1;
    for i in 8..4 * ROUND_KEYS {
        let mut word = words[i - 1];
        if i % 8 == 0 {
            word.rotate_left(1);
        }
        if i % 4 == 0 {
            word = word.map(substitute);
        }
        if i % 8 == 0 {
            word[0] ^= constant;
            constant = times(constant, 2);
        }
        let before = words[i - 8];
        words.push(std::array::from_fn(|n| word[n] ^ before[n]));
    }
    let bytes = words.as_flattened();
    std::array::from_fn(|round| bytes[16 * round..16 * (round + 1)].try_into().expect("16 bytes"))
}

/// The round keys of the equivalent inverse cipher (FIPS 197, 5.3.5): InvMixColumns of all but the first and the last.
pub fn inverse_round_keys(keys: &[[u8; 16]; ROUND_KEYS]) -> [[u8; 16]; ROUND_KEYS] {
    std::array::from_fn(|round| {
        let key = keys[ROUND_KEYS - 1 - round];
        if round == 0 || round == ROUND_KEYS - 1 { key } else { inverse_mix_columns(key) }
    })
}

/// FIPS 197, 5.3.3.
fn inverse_mix_columns(block: [u8; 16]) -> [u8; 16] {
    let row = [14, 11, 13, 9];
    std::array::from_fn(|n| {
        let column = &block[n / 4 * 4..n / 4 * 4 + 4];
        (0..4).fold(0, |sum, k| sum ^ times(column[k], row[(4 + k - n % 4) % 4]))
    })
}

/// FIPS 197, 4.2.
fn times(a: u8, b: u8) -> u8 {
    let (mut product, mut a, mut b) = (0, a, b);
    while b > 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

/// FIPS 197, 5.1.1.
fn substitute(byte: u8) -> u8 {
    let inverse = (0..=255).find(|&other| times(byte, other) == 1).unwrap_or(0);
    (0..5).fold(0x63, |sum, n| sum ^ inverse.rotate_left(n))
}
