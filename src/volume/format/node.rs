//! Pages of 256 pointers: the roots and branches of a volume's map, and the root and index pages of the catalog. Which of them a page is
//! follows from the pointer to it.

use zerocopy::{FromBytes, IntoBytes};

use super::page::{page, page_mut};
use super::pointer::StoredPointer;
use super::{FormatError, PagePointer};
use crate::volume::units::{BRANCHES_PER_ROOT, LEAVES_PER_BRANCH, PAGE};

/// Pointers in a page.
pub const POINTERS_PER_PAGE: usize = PAGE / size_of::<StoredPointer>();
const _: () = assert!(POINTERS_PER_PAGE == LEAVES_PER_BRANCH && POINTERS_PER_PAGE == BRANCHES_PER_ROOT);

const OBJECT: &str = "page of pointers";

/// Writes the page. What is left over points nowhere.
///
/// # Panics
/// If the buffer is not a page, or there are more pointers than fit.
pub fn encode(bytes: &mut [u8], pointers: impl IntoIterator<Item = PagePointer>) {
    let bytes = page_mut(bytes);
    bytes.fill(0);
    let (places, _) = bytes.as_chunks_mut::<{ size_of::<StoredPointer>() }>();
    for (index, pointer) in pointers.into_iter().enumerate() {
        places[index].copy_from_slice(pointer.store().as_bytes());
    }
}

/// The pointers of the page, in order, those to nowhere too.
pub fn decode(bytes: &[u8]) -> Result<impl Iterator<Item = Result<PagePointer, FormatError>> + '_, FormatError> {
    let stored = <[StoredPointer; POINTERS_PER_PAGE]>::ref_from_bytes(page(bytes, OBJECT)?);
    let stored = stored.expect("256 unaligned pointers are a page");
    Ok(stored.iter().enumerate().map(|(index, stored)| {
        PagePointer::load(stored, OBJECT).map_err(|error| error.further(index * size_of::<StoredPointer>()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::units::PageNumber;

    #[test]
    fn pointers_come_back_in_their_places() {
        let mut bytes = vec![0xff; PAGE];
        let sparse: Vec<_> = (0..200)
            .map(|n| if n % 3 == 0 { PagePointer::NONE } else { PagePointer::to(PageNumber(100 + n), &[n as u8]) })
            .collect();
        encode(&mut bytes, sparse.iter().copied());
        let read: Vec<_> = decode(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read[..200], sparse);
        assert!(read[200..].iter().all(PagePointer::is_none));
        assert_eq!(read.len(), POINTERS_PER_PAGE);
    }

    #[test]
    fn one_wrong_pointer_is_named_by_its_byte_and_leaves_the_others_readable() {
        let mut bytes = vec![0; PAGE];
        bytes[16 * 9 + 12] = 1;
        let read: Vec<_> = decode(&bytes).unwrap().collect();
        assert!(matches!(read[9], Err(FormatError::Wrong { at: 156, .. })), "{:?}", read[9]);
        assert_eq!(read.iter().filter(|pointer| pointer.is_ok()).count(), 255);
        assert!(decode(&bytes[1..]).is_err());
    }
}
