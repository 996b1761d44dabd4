//! A part of the shared memory in which a ring lies: words at offsets, each access atomic.
//!
//! The memory belongs to two processes and may be changed by the other one at any time. Atomic accesses are defined under that; offsets are checked
//! against the area, whose whole length was found in one region when it was made.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::memory::prefetch_line;

use super::super::memory::GuestMemory;
use super::{Descriptor, RingError};

/// A part of a ring.
pub(super) struct Area {
    at: NonNull<u8>,
    len: usize,
    /// Keeps the memory mapped.
    _memory: Arc<GuestMemory>,
}

// SAFETY: an address of a mapping, which any thread may use while the memory lives; what lies there is only accessed by atomic words.
unsafe impl Send for Area {}

impl Area {
    /// The part of `len` bytes at a front end's address, aligned to `align`.
    pub(super) fn new(
        memory: &Arc<GuestMemory>,
        part: &'static str,
        address: u64,
        len: usize,
        align: usize,
    ) -> Result<Self, RingError> {
        let segment = memory.front_end(address, len).map_err(|source| RingError::Area { part, source })?;
        let at = NonNull::new(segment.as_ptr()).filter(|at| at.as_ptr().addr().is_multiple_of(align));
        let at = at.ok_or(RingError::Misaligned { part, address })?;
        Ok(Self { at, len, _memory: memory.clone() })
    }

    #[inline]
    fn place<T>(&self, offset: usize) -> *mut T {
        assert!(offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.len, "outside the ring");
        // SAFETY: the offset lies within the area.
        unsafe { self.at.as_ptr().add(offset).cast() }
    }

    #[inline]
    pub(super) fn word16(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: the place lies in the area, which is mapped while this lives and aligned for all words; every access to it by this process
        // is atomic.
        unsafe { AtomicU16::from_ptr(self.place(offset)) }
    }

    #[inline]
    pub(super) fn word32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `word16`.
        unsafe { AtomicU32::from_ptr(self.place(offset)) }
    }

    #[inline]
    pub(super) fn word64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word16`.
        unsafe { AtomicU64::from_ptr(self.place(offset)) }
    }

    /// Has a descriptor fetched.
    #[inline]
    pub(super) fn prefetch(&self, number: usize) {
        prefetch_line(self.place::<u64>(number * Descriptor::BYTES).cast());
    }

    /// Reads a descriptor, each of its two words once. The caller has seen with acquire that it was written.
    #[inline]
    pub(super) fn descriptor(&self, number: usize) -> (u64, u64) {
        let word = |at| u64::from_le(self.word64(at).load(Ordering::Relaxed));
        let at = number * Descriptor::BYTES;
        (word(at), word(at + 8))
    }
}
