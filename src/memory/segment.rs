//! A segment: a piece of memory that somebody else owns, such as a part of a receive buffer, of a memory device
//! or of a guest's memory.
//!
//! A segment is a pointer and a length and nothing more. Whoever makes one promises that the bytes stay mapped
//! for as long as the segment is used; other parties (a guest, another reactor that serves an overlapping command)
//! may change them meanwhile, so they are read and written through raw pointers and never seen as a Rust slice.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// A piece of memory: address and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    ptr: NonNull<u8>,
    len: usize,
}

impl Segment {
    /// Names the `len` bytes at `ptr`.
    ///
    /// # Safety
    /// The bytes are mapped, and stay mapped while the segment is used. They are writable if the segment is handed
    /// to something that writes.
    pub unsafe fn new(ptr: NonNull<u8>, len: usize) -> Self {
        Self { ptr, len }
    }

    /// The address of the first byte.
    pub fn as_ptr(self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// The length in bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether the segment has no bytes.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The part that starts `offset` bytes in and is `len` bytes long.
    ///
    /// # Panics
    /// If the part does not lie within the segment.
    pub fn part(self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset, "part outside its segment");
        // SAFETY: the part lies within the segment, so the address stays within the same mapping.
        Self { ptr: unsafe { self.ptr.add(offset) }, len }
    }
}
