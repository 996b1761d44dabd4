//! A range of bytes on a device or disk.

use std::fmt;

/// `len` bytes from byte `start`; the end never overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    len: u64,
}

impl ByteRange {
    /// The range, unless its end does not fit into 64 bits.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len)?;
        Some(Self { start, len })
    }

    /// The first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// The number of bytes.
    pub fn len(self) -> u64 {
        self.len
    }

    /// Whether there are no bytes in it.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.start + self.len
    }

    /// Whether start and length are multiples of `unit` bytes.
    pub fn is_aligned(self, unit: u64) -> bool {
        self.start.is_multiple_of(unit) && self.len.is_multiple_of(unit)
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(self, other: ByteRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Cuts off the first `len` bytes, or all if it has fewer; returns them and the rest.
    pub fn split_at(self, len: u64) -> (Self, Self) {
        let len = len.min(self.len);
        (Self { start: self.start, len }, Self { start: self.start + len, len: self.len - len })
    }

    /// The range in pieces of `len` bytes; the last may be shorter.
    pub fn pieces(self, len: u64) -> impl Iterator<Item = ByteRange> {
        let mut rest = self;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (piece, left) = rest.split_at(len);
            rest = left;
            Some(piece)
        })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflowing_end_is_refused() {
        assert_eq!(ByteRange::new(u64::MAX, 1), None);
        assert!(ByteRange::new(u64::MAX - 1, 1).is_some());
    }

    #[test]
    fn pieces_cover_the_range_once() {
        let pieces: Vec<_> = ByteRange::new(10, 25).expect("fits").pieces(10).map(|p| (p.start(), p.len())).collect();
        assert_eq!(pieces, [(10, 10), (20, 10), (30, 5)]);
    }
}
