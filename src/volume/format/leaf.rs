//! Leaf pages: 512 words of a volume's map, each for one cluster of the volume.
//!
//! | bits of a word | meaning |
//! | --- | --- |
//! | 0..16 | presence: bit n is set if block n of the cluster holds data |
//! | 18 | lost: a repair found that what was here cannot be told; nothing else is set |
//! | 32..64 | the cluster on the device; not 0 if and only if a presence bit is set |
//!
//! All other bits are zero where they are stored; memory uses 16 and 17.

use zerocopy::{FromBytes, little_endian as le};

use super::FormatError;
use super::page::{page, page_mut};
use crate::volume::units::{PAGE, WORDS_PER_LEAF};

const PRESENCE: u64 = 0xffff;
const LOST: u64 = 1 << 18;
const CLUSTER_SHIFT: u32 = 32;

type StoredLeaf = [le::U64; WORDS_PER_LEAF];
const _: () = assert!(size_of::<StoredLeaf>() == PAGE);

const OBJECT: &str = "leaf page";

/// Whether the word may stand on the device. Whether the device has the cluster is for [`Superblock::is_data`](super::Superblock::is_data) to say.
pub fn check_word(word: u64) -> Result<(), &'static str> {
    if word == 0 || word == LOST {
        return Ok(());
    }
    if word & LOST != 0 {
        return Err("a lost word names a cluster or blocks");
    }
    if word & !(PRESENCE | u64::MAX << CLUSTER_SHIFT) != 0 {
        return Err("a word has bits that are not stored");
    }
    if word >> CLUSTER_SHIFT == 0 {
        return Err("a word names blocks of no cluster");
    }
    if word & PRESENCE == 0 {
        return Err("a word names a cluster without blocks");
    }
    Ok(())
}

/// Writes the page. What is left over is absent.
///
/// # Panics
/// If the buffer is not a page, or there are more words than fit.
pub fn encode(bytes: &mut [u8], words: impl IntoIterator<Item = u64>) {
    let bytes = page_mut(bytes);
    bytes.fill(0);
    let (places, _) = bytes.as_chunks_mut::<8>();
    for (index, word) in words.into_iter().enumerate() {
        debug_assert_eq!(check_word(word), Ok(()), "word {word:#x}");
        places[index] = word.to_le_bytes();
    }
}

/// The words of the page, in order, the absent ones too.
pub fn decode(bytes: &[u8]) -> Result<impl Iterator<Item = Result<u64, FormatError>> + '_, FormatError> {
    let stored = StoredLeaf::ref_from_bytes(page(bytes, OBJECT)?).expect("512 unaligned words are a page");
    Ok(stored.iter().enumerate().map(|(index, word)| match check_word(word.get()) {
        Ok(()) => Ok(word.get()),
        Err(what) => Err(FormatError::wrong(OBJECT, index * 8, what)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_their_places() {
        let mut bytes = vec![0xff; PAGE];
        encode(&mut bytes, [0, 5 << 32 | 0xffff, LOST, 1 << 32 | 1]);
        let read: Vec<_> = decode(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read[..5], [0, 5 << 32 | 0xffff, LOST, 1 << 32 | 1, 0]);
        assert_eq!(read.len(), WORDS_PER_LEAF);
    }

    #[test]
    fn words_that_nothing_would_have_written_are_refused() {
        let cluster = 9 << 32;
        for word in [
            1,
            cluster,
            cluster | 1 | 1 << 16,
            cluster | 1 | 1 << 17,
            cluster | 1 | 1 << 19,
            cluster | 1 | 1 << 31,
            LOST | 1,
            LOST | cluster,
        ] {
            assert!(check_word(word).is_err(), "{word:#x}");
            let mut bytes = vec![0; PAGE];
            bytes[8..16].copy_from_slice(&word.to_le_bytes());
            let read: Vec<_> = decode(&bytes).unwrap().collect();
            assert!(matches!(read[1], Err(FormatError::Wrong { at: 8, .. })), "{word:#x}");
            assert!(read[0].is_ok() && read[2].is_ok());
        }
    }
}
