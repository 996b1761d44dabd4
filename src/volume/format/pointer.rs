//! Pointers to pages. A pointer carries the checksum of what it points to, so that a page that is damaged, stale or in the wrong place is seen.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::FormatError;
use crate::volume::units::PageNumber;

/// A pointer as it is stored.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct StoredPointer {
    /// The page; 0 if there is none.
    page: le::U64,
    /// CRC32C of the page; 0 if there is none.
    checksum: le::U32,
    /// Zero.
    reserved: le::U32,
}
const _: () = assert!(size_of::<StoredPointer>() == 16);

/// Where a page is, and what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PagePointer {
    /// The page; 0, which is a superblock, stands for none.
    pub page: PageNumber,
    /// CRC32C of the page.
    pub checksum: u32,
}

impl PagePointer {
    /// Points nowhere.
    pub const NONE: Self = Self { page: PageNumber(0), checksum: 0 };

    /// Points to the page, which holds the bytes.
    pub fn to(page: PageNumber, bytes: &[u8]) -> Self {
        Self { page, checksum: crc32c::crc32c(bytes) }
    }

    /// Whether it points nowhere.
    pub fn is_none(&self) -> bool {
        self.page == PageNumber(0)
    }

    /// Whether the bytes are those that it was made to point to. None are, if it points nowhere.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        !self.is_none() && crc32c::crc32c(bytes) == self.checksum
    }

    pub(super) fn store(&self) -> StoredPointer {
        StoredPointer { page: self.page.0.into(), checksum: self.checksum.into(), reserved: 0.into() }
    }

    /// Errors count from the start of the pointer.
    pub(super) fn load(stored: &StoredPointer, object: &'static str) -> Result<Self, FormatError> {
        let pointer = Self { page: PageNumber(stored.page.get()), checksum: stored.checksum.get() };
        if pointer.page >= PageNumber::LIMIT {
            return Err(FormatError::wrong(object, 0, format!("page {} lies behind any device", pointer.page.0)));
        }
        if pointer.is_none() && pointer.checksum != 0 {
            return Err(FormatError::wrong(object, 8, "a pointer to no page has a checksum"));
        }
        if stored.reserved.get() != 0 {
            return Err(FormatError::wrong(object, 12, "reserved bytes of a pointer are not zero"));
        }
        Ok(pointer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_matches_only_what_it_was_made_for() {
        let mut bytes = [3; 4096];
        let pointer = PagePointer::to(PageNumber(40), &bytes);
        assert!(pointer.matches(&bytes));
        bytes[4095] ^= 1;
        assert!(!pointer.matches(&bytes));
        assert!(!PagePointer::NONE.matches(&[]));
    }

    #[test]
    fn pointers_to_nowhere_sensible_are_refused() {
        let at = |page: u64, checksum: u32, reserved: u32| StoredPointer {
            page: page.into(),
            checksum: checksum.into(),
            reserved: reserved.into(),
        };
        assert_eq!(PagePointer::load(&at(0, 0, 0), "x"), Ok(PagePointer::NONE));
        for (stored, place) in [(at(1 << 36, 0, 0), 0), (at(0, 1, 0), 8), (at(5, 1, 1), 12)] {
            assert!(matches!(PagePointer::load(&stored, "x"), Err(FormatError::Wrong { at, .. }) if at == place));
        }
    }
}
