//! The memory device: blocks in memory, on hugepages where there are some. Nothing survives the process.
//!
//! All reactors share one arena. Overlapping commands in flight race on its bytes, as they do on a device's: the bytes are therefore
//! only ever touched through raw pointers, and a sector may hold a mix of two writes until one of them is repeated.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::memory::{Arena, Buffer, Segment};
use crate::reactor::yield_now;

use super::{ByteRange, Device, DeviceInfo, Extent, IoError, Zeroes, check_range};

/// Zeroing takes a turn after each piece of this size, so that it does not hold up its neighbours.
const ZEROED_AT_ONCE: u64 = 256 << 10;

/// A device in memory.
#[derive(Clone, Debug)]
pub struct MemoryDevice {
    arena: Arc<Arena>,
    info: DeviceInfo,
}

impl MemoryDevice {
    /// A device of `size` bytes on an arena.
    ///
    /// # Panics
    /// If the arena is smaller.
    pub fn new(arena: Arc<Arena>, size: u64) -> Self {
        assert!(size <= arena.len() as u64, "the arena is smaller than the device");
        Self { arena, info: DeviceInfo { size, block_size: 512, can_discard: false, can_write_zeroes: true } }
    }

    fn segment(&self, at: u64, len: u64) -> Result<Segment, IoError> {
        check_range(&self.info, at, len)?;
        // SAFETY: the range was checked to lie within the device, which lies within the arena; the arena stays mapped while this
        // handle lives.
        Ok(unsafe { Segment::new(NonNull::new_unchecked(self.arena.base().add(at as usize)), len as usize) })
    }
}

impl Device for MemoryDevice {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        let from = self.segment(at, window.len() as u64)?;
        yield_now().await;
        let to = &mut buffer[window];
        // SAFETY: both are as long as the window; the arena of the device is not the arena of the buffers.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        Ok(to.len())
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        let to = self.segment(at, window.len() as u64)?;
        yield_now().await;
        let from = &buffer[window];
        // SAFETY: both are as long as the window; the arena of the device is not the arena of the buffers.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) };
        Ok(from.len())
    }

    async fn flush(&self) -> Result<(), IoError> {
        Ok(())
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        check_range(&self.info, range.start(), range.len())
    }

    async fn write_zeroes(&self, range: ByteRange, _space: Zeroes) -> Result<(), IoError> {
        check_range(&self.info, range.start(), range.len())?;
        for piece in range.pieces(ZEROED_AT_ONCE) {
            let to = self.segment(piece.start(), piece.len())?;
            // SAFETY: the segment names mapped memory of that length.
            unsafe { std::ptr::write_bytes(to.as_ptr(), 0, to.len()) };
            yield_now().await;
        }
        Ok(())
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        check_range(&self.info, range.start(), range.len())?;
        Ok(vec![Extent { len: range.len(), is_hole: false }])
    }

    fn direct(&self, range: ByteRange) -> Option<Segment> {
        self.segment(range.start(), range.len()).ok()
    }
}
