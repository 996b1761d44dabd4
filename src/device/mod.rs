//! Devices: what reads and writes raw blocks.
//!
//! [`Device`] is the contract that every device and every layer keeps; `tests/device_contract.rs` holds each of them to it.
//!
//! | device | where the blocks are | used for |
//! | --- | --- | --- |
//! | [`FileDevice`] | a regular file or a block device, `O_DIRECT` through io_uring | disks |
//! | [`MemoryDevice`] | memory, on hugepages where there are some | benchmarks, tests, scratch disks |
//! | [`NullDevice`] | nowhere | measuring what lies above |
//! | `SimulatedDevice` | memory behind a volatile cache that loses its power on command; feature `simulation` | tests |
//!
//! Layers change what a device does, and may be put on any device by its configuration: [`layer::Delay`] makes it slow,
//! [`layer::Fault`] makes it fail. A [`SharedDevice`] is opened once for the process; each reactor takes a [`DeviceHandle`] of its own.

mod error;
mod file;
pub mod layer;
mod memory;
mod null;
mod open;
mod range;
#[cfg(feature = "simulation")]
mod simulated;

use std::future::Future;
use std::ops::Range;

use crate::memory::{Buffer, Segment};

pub use error::IoError;
pub use file::FileDevice;
pub use layer::Layered;
pub use memory::MemoryDevice;
pub use null::{Fill, NullDevice};
pub use open::{DeviceConfig, DeviceError, DeviceKind, SharedDevice, Size};
pub use range::ByteRange;
#[cfg(feature = "simulation")]
pub use simulated::{Record, Replay, SimulatedConfig, SimulatedDevice};

/// What a device is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Bytes on it.
    pub size: u64,
    /// Ranges are multiples of this many bytes; a power of two, 512 to 4096.
    pub block_size: u32,
    /// A discarded range takes no space afterwards.
    pub can_discard: bool,
    /// [`Device::write_zeroes`] is faster than writing zeros.
    pub can_write_zeroes: bool,
}

/// What became of the space under a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes in it.
    pub len: u64,
    /// Nothing is stored there: it reads as zeros.
    pub is_hole: bool,
}

/// What happens to the space under zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroes {
    /// It may be given back.
    MayFree,
    /// It stays allocated.
    KeepAllocated,
}

/// A device as one reactor sees it.
///
/// **Ranges.** Start and length are multiples of `block_size` and lie within `size`; anything else is refused with
/// [`IoError::Misaligned`] or [`IoError::OutOfRange`] and changes nothing.
///
/// **Completions** carry the bytes done, counted from the start of the range: at least one block and whole blocks, possibly
/// fewer than asked for. The caller resumes ([`read_whole`], [`write_whole`]). An error says nothing about how much was done.
///
/// **Order.** Commands in flight at the same time have no order. What a completed write wrote is read by every command that
/// starts afterwards, on any reactor. Overlapping writes in flight leave, in each block, what one of them wrote; a block that was
/// being written when the power went holds, in each of its 512-byte sectors, the old or the new bytes.
///
/// **Durability.** A write is durable when a flush that started after its completion has completed.
///
/// **Buffers.** The buffer belongs to the device until the command is complete; a command that is dropped half-way keeps it as long as
/// the kernel may touch it, and leaves an empty buffer behind.
pub trait Device {
    /// What the device is like. While a handle is open only the size changes, and only grows.
    fn info(&self) -> DeviceInfo;

    /// Reads from byte `at` into `window` of the buffer.
    fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> impl Future<Output = Result<usize, IoError>>;

    /// Writes `window` of the buffer from byte `at` on.
    fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>)
    -> impl Future<Output = Result<usize, IoError>>;

    /// Makes all completed writes durable.
    fn flush(&self) -> impl Future<Output = Result<(), IoError>>;

    /// Says that the range's content is not needed. It may be kept, or read as zeros, or as anything that was there before.
    fn discard(&self, range: ByteRange) -> impl Future<Output = Result<(), IoError>>;

    /// Makes the range read as zeros, without moving zeros; [`IoError::Unsupported`] if the device has no such way.
    fn write_zeroes(&self, range: ByteRange, space: Zeroes) -> impl Future<Output = Result<(), IoError>>;

    /// Which parts of the range hold data: at least one extent; they may end before the range does.
    fn extents(&self, range: ByteRange) -> impl Future<Output = Result<Vec<Extent>, IoError>>;

    /// The range as memory that may be read and written in place, if the device is memory and no layer has to see the command.
    fn direct(&self, range: ByteRange) -> Option<Segment>;
}

/// Refuses a range that is not in the device's blocks.
pub fn check_range(info: &DeviceInfo, at: u64, len: u64) -> Result<(), IoError> {
    let range = ByteRange::new(at, len).ok_or(IoError::OutOfRange)?;
    if !range.is_aligned(u64::from(info.block_size)) {
        return Err(IoError::Misaligned);
    }
    if range.end() > info.size {
        return Err(IoError::OutOfRange);
    }
    Ok(())
}

/// Reads the whole window, resuming what comes back short.
pub async fn read_whole(
    device: &impl Device,
    at: u64,
    buffer: &mut Buffer,
    window: Range<usize>,
) -> Result<(), IoError> {
    let mut done = 0;
    while done < window.len() {
        let left = window.start + done..window.end;
        done += device.read(at + done as u64, buffer, left).await?;
    }
    Ok(())
}

/// Writes the whole window, resuming what comes back short.
pub async fn write_whole(
    device: &impl Device,
    at: u64,
    buffer: &mut Buffer,
    window: Range<usize>,
) -> Result<(), IoError> {
    let mut done = 0;
    while done < window.len() {
        let left = window.start + done..window.end;
        done += device.write(at + done as u64, buffer, left).await?;
    }
    Ok(())
}

/// A device without its layers.
pub enum Backend {
    /// A file or block device.
    File(FileDevice),
    /// Memory.
    Memory(MemoryDevice),
    /// Nothing.
    Null(NullDevice),
    /// Memory that loses its power on command.
    #[cfg(feature = "simulation")]
    Simulated(SimulatedDevice),
}

/// A device with its layers: what a disk stands on.
pub type DeviceHandle = Layered<Backend>;

/// Passes a call to whichever device it is: a predictable branch instead of a pointer.
macro_rules! each {
    ($backend:expr, $device:ident => $call:expr) => {
        match $backend {
            Backend::File($device) => $call,
            Backend::Memory($device) => $call,
            Backend::Null($device) => $call,
            #[cfg(feature = "simulation")]
            Backend::Simulated($device) => $call,
        }
    };
}

impl Device for Backend {
    fn info(&self) -> DeviceInfo {
        each!(self, device => device.info())
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        each!(self, device => device.read(at, buffer, window).await)
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        each!(self, device => device.write(at, buffer, window).await)
    }

    async fn flush(&self) -> Result<(), IoError> {
        each!(self, device => device.flush().await)
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        each!(self, device => device.discard(range).await)
    }

    async fn write_zeroes(&self, range: ByteRange, space: Zeroes) -> Result<(), IoError> {
        each!(self, device => device.write_zeroes(range, space).await)
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        each!(self, device => device.extents(range).await)
    }

    fn direct(&self, range: ByteRange) -> Option<Segment> {
        each!(self, device => device.direct(range))
    }
}
