//! The file device: a regular file or a block device, read and written past the page cache (`O_DIRECT`) through the reactor's ring.
//!
//! Facts: open(2), fallocate(2), lseek(2) (`SEEK_DATA`, `SEEK_HOLE`), statx(2) (`STATX_DIOALIGN`).
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{Buffer, Segment};
use crate::reactor::{File, Reactor, offload};

use super::{ByteRange, Device, DeviceInfo, Extent, IoError, Zeroes, check_range};

/// The most extents that one answer carries.
const MOST_EXTENTS: usize = 128;

/// A file or block device, as one reactor sees it.
pub struct FileDevice {
    file: File,
    /// For calls on the helper thread, which may outlive this handle by a moment.
    seekable: Arc<OwnedFd>,
    info: DeviceInfo,
    /// The size of now: the file may grow.
    size: Arc<AtomicU64>,
}

impl FileDevice {
    /// Takes an open descriptor whose properties are known; `size` is what it has at any moment.
    pub fn new(reactor: &Reactor, fd: OwnedFd, info: DeviceInfo, size: Arc<AtomicU64>) -> io::Result<Self> {
        let seekable = Arc::new(fd.try_clone()?);
        Ok(Self { file: File::new(reactor, fd), seekable, info, size })
    }

    /// Whole blocks of what the kernel did; a completion of less than one block makes no progress and is the device's failure.
    fn whole_blocks(&self, done: usize) -> Result<usize, IoError> {
        match done - done % self.info.block_size as usize {
            0 => Err(IoError::Media),
            whole => Ok(whole),
        }
    }
}

impl Device for FileDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { size: self.size.load(Ordering::Acquire), ..self.info }
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info(), at, window.len() as u64)?;
        loop {
            match self.file.read_at(at, buffer, window.clone()).await {
                Ok(done) => return self.whole_blocks(done),
                Err(e) if is_transient(&e) => continue,
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info(), at, window.len() as u64)?;
        loop {
            match self.file.write_at(at, buffer, window.clone()).await {
                Ok(done) => return self.whole_blocks(done),
                Err(e) if is_transient(&e) => continue,
                Err(e) => return Err(e.into()),
            }
        }
    }

    async fn flush(&self) -> Result<(), IoError> {
        loop {
            match self.file.sync_data().await {
                Err(e) if is_transient(&e) => continue,
                other => return Ok(other?),
            }
        }
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        Ok(self.file.fallocate(mode, range.start(), range.len()).await?)
    }

    async fn write_zeroes(&self, range: ByteRange, space: Zeroes) -> Result<(), IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        let how = match space {
            Zeroes::MayFree => libc::FALLOC_FL_PUNCH_HOLE,
            Zeroes::KeepAllocated => libc::FALLOC_FL_ZERO_RANGE,
        };
        Ok(self.file.fallocate(how | libc::FALLOC_FL_KEEP_SIZE, range.start(), range.len()).await?)
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        let fd = self.seekable.clone();
        offload(move || find_extents(&fd, range)).await.map_err(IoError::from)
    }

    fn direct(&self, _range: ByteRange) -> Option<Segment> {
        None
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

/// Walks data and holes with lseek. Blocking.
fn find_extents(fd: &OwnedFd, range: ByteRange) -> io::Result<Vec<Extent>> {
    let mut extents = Vec::new();
    let mut at = range.start();
    while at < range.end() && extents.len() < MOST_EXTENTS {
        let data = seek(fd, at, libc::SEEK_DATA)?.unwrap_or(range.end()).min(range.end());
        if data > at {
            extents.push(Extent { len: data - at, is_hole: true });
        }
        if data < range.end() {
            let hole = seek(fd, data, libc::SEEK_HOLE)?.unwrap_or(range.end()).min(range.end());
            extents.push(Extent { len: hole - data, is_hole: false });
            at = hole;
        } else {
            at = data;
        }
    }
    Ok(extents)
}

/// `None` where nothing of the kind follows (`ENXIO`).
fn seek(fd: &OwnedFd, at: u64, whence: i32) -> io::Result<Option<u64>> {
    // SAFETY: the call touches no memory of ours.
    let found = unsafe { libc::lseek(fd.as_raw_fd(), at as libc::off_t, whence) };
    if found >= 0 {
        return Ok(Some(found as u64));
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        e => Err(e),
    }
}
