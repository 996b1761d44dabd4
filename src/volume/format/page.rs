//! What all pages and blocks have in common: their length and their checksums (CRC32C, the Castagnoli polynomial of RFC 3720).

use super::FormatError;
use crate::volume::units::PAGE;

/// The bytes as a page.
pub(super) fn page<'a>(bytes: &'a [u8], object: &'static str) -> Result<&'a [u8; PAGE], FormatError> {
    let wrong = || FormatError::wrong(object, 0, format!("{} bytes were read, not {PAGE}", bytes.len()));
    bytes.try_into().map_err(|_| wrong())
}

/// The bytes as a page that is going to be written. It is ours, so it has the right length.
pub(super) fn page_mut(bytes: &mut [u8]) -> &mut [u8; PAGE] {
    bytes.try_into().expect("a page is written into a buffer of a page")
}

/// The checksum of the page, computed as if the four bytes at `at`, where it is stored, were zero.
pub(super) fn checksum_around(page: &[u8; PAGE], at: usize) -> u32 {
    let sum = crc32c::crc32c(&page[..at]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &page[at + 4..])
}

/// Puts the checksum where it is stored.
pub(super) fn seal(page: &mut [u8; PAGE], at: usize) {
    let sum = checksum_around(page, at);
    page[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum that is stored is the page's.
pub(super) fn is_sealed(page: &[u8; PAGE], at: usize) -> bool {
    page[at..at + 4] == checksum_around(page, at).to_le_bytes()
}

/// Where the first byte is that is not zero.
pub(super) fn first_set(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_counts_its_own_place_as_zero() {
        let mut bytes = [7; PAGE];
        bytes[12..16].fill(0);
        let plain = crc32c::crc32c(&bytes);
        bytes[12..16].fill(9);
        assert_eq!(checksum_around(&bytes, 12), plain);
    }

    /// The check value of CRC32C in the catalogue of CRCs, and of 32 zeros in RFC 3720 section B.4.
    #[test]
    fn checksum_is_the_published_one() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
