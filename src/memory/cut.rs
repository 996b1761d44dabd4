//! Cuts memory that lies in segments into pieces, one behind the other, in the list itself: nothing is copied, and none of it is allocated.

use super::Segment;

/// Segments of which a part is used up.
pub struct Cut<'a> {
    segments: &'a mut [Segment],
    /// The first that is not used up.
    at: usize,
    /// What remains of it, if it was cut.
    rest: Option<Segment>,
}

impl<'a> Cut<'a> {
    /// All of them.
    pub fn new(segments: &'a mut [Segment]) -> Self {
        Self { segments, at: 0, rest: None }
    }

    /// The next `bytes` bytes; fewer if there are not so many.
    pub fn take(&mut self, bytes: usize) -> &mut [Segment] {
        let first = self.at;
        if let Some(rest) = self.rest.take() {
            self.segments[first] = rest;
        }
        let mut wanted = bytes;
        while wanted > 0 && self.at < self.segments.len() {
            let segment = self.segments[self.at];
            if segment.len() > wanted {
                self.segments[self.at] = segment.part(0, wanted);
                self.rest = Some(segment.part(wanted, segment.len() - wanted));
                return &mut self.segments[first..=self.at];
            }
            wanted -= segment.len();
            self.at += 1;
        }
        &mut self.segments[first..self.at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ptr::NonNull;

    /// Memory that nobody looks at: only addresses are compared.
    #[allow(unsafe_code)]
    fn whole(len: usize) -> Segment {
        // SAFETY: nothing reads or writes it.
        unsafe { Segment::new(NonNull::dangling(), len) }
    }

    proptest! {
        #[test]
        fn pieces_are_the_whole_in_order(lens in prop::collection::vec(1usize..300, 1..20), wants in prop::collection::vec(0usize..700, 1..40)) {
            let buffer = whole(lens.iter().sum());
            let mut at = 0;
            let mut segments: Vec<Segment> = lens.iter().map(|&len| { at += len; buffer.part(at - len, len) }).collect();
            let mut cut = Cut::new(&mut segments);
            let mut taken = 0;
            for want in wants {
                let mut got = 0;
                for segment in cut.take(want) {
                    prop_assert_eq!(segment.as_ptr() as usize, buffer.as_ptr() as usize + taken);
                    taken += segment.len();
                    got += segment.len();
                }
                prop_assert_eq!(got, want.min(buffer.len() - (taken - got)));
            }
        }
    }
}
