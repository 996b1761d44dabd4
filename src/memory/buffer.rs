//! A buffer: a page-aligned part of a reactor's arena that one command owns.
//!
//! Whoever holds the `Buffer` is the only one that touches its bytes. An operation that the kernel carries out takes the
//! buffer into the ring's own table and gives it back with the completion, so memory can never be reused under the kernel.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::rc::Rc;

use super::{BufferPool, Segment};

/// Memory from a [`BufferPool`]; it goes back when dropped. The default is an empty buffer that belongs to no pool.
pub struct Buffer {
    ptr: NonNull<u8>,
    len: usize,
    home: Option<Rc<BufferPool>>,
}

impl Buffer {
    /// # Safety
    /// The `len` bytes at `ptr` lie in the pool's arena and belong to nobody else until this buffer is dropped.
    pub(super) unsafe fn new(ptr: NonNull<u8>, len: usize, home: Rc<BufferPool>) -> Self {
        Self { ptr, len, home: Some(home) }
    }

    /// The bytes in `range` as a segment, for the cipher and for the kernel.
    ///
    /// # Panics
    /// If the range does not lie within the buffer.
    pub fn segment(&self, range: Range<usize>) -> Segment {
        // SAFETY: ptr and len name memory of the arena, which outlives every buffer, or nothing at all.
        unsafe { Segment::new(self.ptr, self.len) }.part(range.start, range.len())
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { ptr: NonNull::dangling(), len: 0, home: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is mapped and initialised, and this buffer is its only owner.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is mapped and initialised, and this buffer is its only owner.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.put_back(self.ptr, self.len);
        }
    }
}

impl fmt::Debug for Buffer {
    // The bytes are a disk's plain text: never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}
