//! The null device: writes go nowhere, reads give zeros. What is measured on it is everything above it.

use std::ops::Range;

use crate::memory::{Buffer, Segment};
use crate::reactor::yield_now;

use super::{ByteRange, Device, DeviceInfo, Extent, IoError, Zeroes, check_range};

/// What a read puts into the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros.
    Zeros,
    /// Nothing: the buffer keeps what it held. Only for measuring inside one process: an export would show one client what
    /// another left in the buffer.
    Nothing,
}

/// A device without blocks.
#[derive(Clone, Copy, Debug)]
pub struct NullDevice {
    info: DeviceInfo,
    fill: Fill,
}

impl NullDevice {
    /// What a read puts into the buffer.
    pub fn fill(&self) -> Fill {
        self.fill
    }

    /// A null device that claims `size` bytes.
    pub fn new(size: u64, fill: Fill) -> Self {
        let info = DeviceInfo { size, block_size: 512, can_discard: true, can_write_zeroes: true };
        Self { info, fill }
    }
}

// Each command completes a turn later, as on a real device: a queue's depth is then really kept in flight.
impl Device for NullDevice {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info, at, window.len() as u64)?;
        yield_now().await;
        if self.fill == Fill::Zeros {
            buffer[window.clone()].fill(0);
        }
        Ok(window.len())
    }

    async fn write(&self, at: u64, _buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info, at, window.len() as u64)?;
        yield_now().await;
        Ok(window.len())
    }

    async fn flush(&self) -> Result<(), IoError> {
        yield_now().await;
        Ok(())
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        check_range(&self.info, range.start(), range.len())
    }

    async fn write_zeroes(&self, range: ByteRange, _space: Zeroes) -> Result<(), IoError> {
        check_range(&self.info, range.start(), range.len())
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        check_range(&self.info, range.start(), range.len())?;
        Ok(vec![Extent { len: range.len(), is_hole: true }])
    }

    fn direct(&self, _range: ByteRange) -> Option<Segment> {
        None
    }
}
