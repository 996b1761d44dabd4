//! Plain text as it lies in segments: copied, compared, or made of zeros.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use crate::memory::Segment;

/// The most that [`zeros`] gives.
pub(super) const MOST_ZEROS: usize = 256 << 10;

static ZEROS: [u8; MOST_ZEROS] = [0; MOST_ZEROS];

/// Bytes in all pieces.
pub(super) fn total(pieces: &[Segment]) -> usize {
    pieces.iter().map(|piece| piece.len()).sum()
}

/// Copies the pieces to where they belong; a piece that is there already stays.
pub(super) fn copy(from: &[Segment], to: Segment) {
    let mut at = 0;
    for piece in from {
        let to = to.part(at, piece.len());
        at += piece.len();
        if to == *piece {
            continue;
        }
        // SAFETY: both are mapped and equally long; the device's memory and the buffers never overlap a client's segment.
        unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), to.as_ptr(), piece.len()) };
    }
}

/// Copies pieces to pieces; there are at least as many bytes to copy as there is room.
pub(super) fn copy_between(from: &[Segment], to: &[Segment]) {
    let (mut piece, mut rest) = (zeros(0), from.iter());
    for place in to {
        let mut at = 0;
        while at < place.len() {
            if piece.is_empty() {
                piece = *rest.next().expect("the source is as long as the places");
                continue;
            }
            let len = piece.len().min(place.len() - at);
            copy(&[piece.part(0, len)], place.part(at, len));
            piece = piece.part(len, piece.len() - len);
            at += len;
        }
    }
}

/// Makes zeros of the pieces.
pub(super) fn clear(pieces: &[Segment]) {
    for piece in pieces {
        // SAFETY: a segment that is read to is mapped and may be written.
        unsafe { piece.as_ptr().write_bytes(0, piece.len()) };
    }
}

/// As many zeros, at most [`MOST_ZEROS`]; only to be read.
pub(super) fn zeros(len: usize) -> Segment {
    let bytes = &ZEROS[..len];
    // SAFETY: static memory, which is always mapped; the source of a write is only read.
    unsafe { Segment::new(NonNull::from(bytes).cast(), bytes.len()) }
}

/// Bytes in pieces, of which some were compared.
pub(super) struct Expected<'a> {
    piece: Segment,
    rest: std::slice::Iter<'a, Segment>,
}

impl<'a> Expected<'a> {
    pub(super) fn new(pieces: &'a [Segment]) -> Self {
        Self { piece: zeros(0), rest: pieces.iter() }
    }

    /// Whether the next bytes are these; false also if there are fewer.
    pub(super) fn goes_on_with(&mut self, mut text: &[u8]) -> bool {
        while !text.is_empty() {
            if self.piece.is_empty() {
                let Some(next) = self.rest.next() else { return false };
                self.piece = *next;
                continue;
            }
            let (now, later) = text.split_at(text.len().min(self.piece.len()));
            // SAFETY: both are mapped and at least that long.
            if unsafe { libc::memcmp(self.piece.as_ptr().cast(), now.as_ptr().cast(), now.len()) } != 0 {
                return false;
            }
            self.piece = self.piece.part(now.len(), self.piece.len() - now.len());
            text = later;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: &[u8]) -> Segment {
        // SAFETY: the tests' bytes live as long as the segments, which are only read.
        unsafe { Segment::new(NonNull::from(bytes).cast(), bytes.len()) }
    }

    #[test]
    fn pieces_are_copied_to_pieces_that_are_cut_elsewhere() {
        let from = [segment(b"abc"), segment(b""), segment(b"defgh")];
        let mut to = [[0; 4]; 2];
        let places = to.each_mut().map(|bytes| {
            // SAFETY: the bytes live until the end of the test, and nobody else looks at them meanwhile.
            unsafe { Segment::new(NonNull::from(bytes).cast(), 4) }
        });
        copy_between(&from, &places);
        assert_eq!(to, [*b"abcd", *b"efgh"]);
    }

    #[test]
    fn bytes_are_compared_across_pieces() {
        let pieces = [segment(b"ab"), segment(b""), segment(b"cdef")];
        let mut expected = Expected::new(&pieces);
        assert!(expected.goes_on_with(b"abc"));
        assert!(expected.goes_on_with(b""));
        assert!(expected.goes_on_with(b"def"));
        assert!(!expected.goes_on_with(b"g"));
        assert!(!Expected::new(&pieces).goes_on_with(b"abx"));
    }
}
