//! The catalog: all volume records of the pool, as a tree of three levels. Root page and index pages are pages of pointers
//! ([`node`](super::node)), record pages hold four records. Where a record stands in it means nothing.

use super::node::POINTERS_PER_PAGE;
use super::page::{page, page_mut};
use super::record::RECORD;
use super::{FormatError, VolumeRecord};
use crate::volume::units::PAGE;

/// Records in a record page.
pub const RECORDS_PER_PAGE: usize = PAGE / RECORD;
/// The most volumes and snapshots in a pool: 262,144.
pub const MOST_RECORDS: usize = RECORDS_PER_PAGE * POINTERS_PER_PAGE * POINTERS_PER_PAGE;

/// Writes a record page. What is left over is free.
///
/// # Panics
/// If the buffer is not a page, or there are more records than fit.
pub fn encode<'a>(bytes: &mut [u8], records: impl IntoIterator<Item = &'a VolumeRecord>) {
    let bytes = page_mut(bytes);
    bytes.fill(0);
    let (places, _) = bytes.as_chunks_mut::<RECORD>();
    for (index, record) in records.into_iter().enumerate() {
        record.encode(&mut places[index]);
    }
}

/// The records of the page: an item for each place, none for a free one. A record that is wrong leaves the others readable.
pub fn decode(
    bytes: &[u8],
) -> Result<impl Iterator<Item = Result<Option<VolumeRecord>, FormatError>> + '_, FormatError> {
    let (places, _) = page(bytes, "record page")?.as_chunks::<RECORD>();
    let record = |(index, place): (usize, &[u8; RECORD])| {
        VolumeRecord::decode(place).map_err(|error| error.further(index * RECORD))
    };
    Ok(places.iter().enumerate().map(record))
}

#[cfg(test)]
mod tests {
    use super::super::{PagePointer, testing};
    use super::*;
    use crate::volume::units::PageNumber;

    #[test]
    fn records_come_back_in_their_places() {
        let records = [testing::volume(3, "a"), testing::snapshot(9, "b")];
        let mut bytes = vec![0xff; PAGE];
        encode(&mut bytes, &records);
        let read: Vec<_> = decode(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [Some(records[0].clone()), Some(records[1].clone()), None, None]);
    }

    #[test]
    fn wrong_record_is_named_by_its_byte_and_leaves_the_others_readable() {
        let records = [testing::volume(1, "a"), testing::volume(2, "b"), testing::volume(3, "c")];
        let mut bytes = vec![0; PAGE];
        encode(&mut bytes, &records);
        bytes[RECORD + 4] = 77;
        let read: Vec<_> = decode(&bytes).unwrap().collect();
        assert!(matches!(read[1], Err(FormatError::Wrong { at: 1028, .. })), "{:?}", read[1]);
        assert_eq!((&read[0], &read[2]), (&Ok(Some(records[0].clone())), &Ok(Some(records[2].clone()))));
        assert!(decode(&bytes[..RECORD]).is_err());
    }

    #[test]
    fn each_corrupted_byte_of_a_record_page_is_noticed() {
        let mut bytes = vec![0; PAGE];
        encode(&mut bytes, &[testing::volume(3, "a"), testing::snapshot(9, "b")]);
        let pointer = PagePointer::to(PageNumber(99), &bytes);
        for at in 0..PAGE {
            bytes[at] ^= 0x40;
            assert!(!pointer.matches(&bytes), "byte {at}");
            bytes[at] ^= 0x40;
        }
        assert!(pointer.matches(&bytes));
    }
}
