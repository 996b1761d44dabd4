//! Data that can be checked: each block's content follows from the seed, the block's number and how often it was written.

/// Fills a block.
pub(super) fn fill(block: &mut [u8], seed: u64, number: u64, generation: u32) {
    let mut word = start(seed, number, generation);
    for bytes in block.chunks_exact_mut(8) {
        bytes.copy_from_slice(&word.to_le_bytes());
        word = step(word);
    }
}

/// The first byte that is not what [`fill`] made; nothing if all are.
pub(super) fn first_difference(block: &[u8], seed: u64, number: u64, generation: u32) -> Option<usize> {
    let mut word = start(seed, number, generation);
    for (index, bytes) in block.chunks_exact(8).enumerate() {
        let wanted = word.to_le_bytes();
        if bytes != wanted {
            return bytes.iter().zip(wanted).position(|(a, b)| *a != b).map(|byte| index * 8 + byte);
        }
        word = step(word);
    }
    None
}

fn start(seed: u64, number: u64, generation: u32) -> u64 {
    // Never zero, from which xorshift would not move; the generation only touches bits that the last line keeps.
    (step(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) ^ (u64::from(generation) << 32)) | 1
}

/// Marsaglia's xorshift64 ("Xorshift RNGs", Journal of Statistical Software 8/14, 2003).
fn step(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ word << 17
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_found() {
        let mut block = [0; 512];
        fill(&mut block, 1, 2, 3);
        assert_eq!(first_difference(&block, 1, 2, 3), None);
        assert!(first_difference(&block, 1, 2, 4).is_some() && first_difference(&block, 1, 3, 3).is_some());
        for at in 0..512 {
            block[at] ^= 0x80;
            assert_eq!(first_difference(&block, 1, 2, 3), Some(at));
            block[at] ^= 0x80;
        }
    }
}
