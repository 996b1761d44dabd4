//! Memory that a front end shares with its back end: a file without a name, mapped by both.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};
use vhost::VhostUserMemoryRegionInfo;

use crate::memory::{HugePages, memfd};

const NAME: &CStr = c"strongroom-bench";
const HUGE_PAGE: usize = 2 << 20;

/// A stretch of shared, zeroed memory, which the device sees at addresses of its own.
#[derive(Debug)]
pub struct SharedMemory {
    file: File,
    map: MmapRaw,
    guest: u64,
    is_huge: bool,
}

impl SharedMemory {
    /// Makes at least `len` bytes, rounded up to whole 2 MiB, which the device sees from `guest` on.
    pub fn new(len: usize, guest: u64, policy: HugePages) -> io::Result<Self> {
        let len = len.next_multiple_of(HUGE_PAGE);
        match policy {
            HugePages::Never => Self::normal(len, guest),
            HugePages::Require => Self::huge(len, guest),
            HugePages::Prefer => Self::huge(len, guest).or_else(|_| Self::normal(len, guest)),
        }
    }

    fn normal(len: usize, guest: u64) -> io::Result<Self> {
        Self::of(memfd(NAME, len as u64, 0)?, len, guest, false)
    }

    fn huge(len: usize, guest: u64) -> io::Result<Self> {
        Self::of(memfd(NAME, len as u64, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB)?, len, guest, true)
    }

    fn of(file: File, len: usize, guest: u64, is_huge: bool) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        if is_huge {
            options.populate();
        }
        let map = options.map_raw(&file)?;
        if !is_huge {
            // A kernel without transparent hugepages for shared memory refuses; normal pages serve then. Touched afterwards, so that merged ones
            // are used.
            let _ = map.advise(Advice::HugePage);
            let _ = map.advise(Advice::PopulateWrite);
        }
        Ok(Self { file, map, guest, is_huge })
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it always has some")]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it lies on reserved hugepages.
    pub fn is_huge(&self) -> bool {
        self.is_huge
    }

    /// The file, to do to it what a hostile front end would.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the device sees a byte.
    #[inline]
    pub fn guest(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.len());
        self.guest + offset as u64
    }

    /// Where a byte is in this process, which is how rings are told to the device.
    #[inline]
    pub fn address(&self, offset: usize) -> u64 {
        self.at(offset) as u64
    }

    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len(), "byte {offset} lies outside of {} bytes", self.len());
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    /// Panics unless the range lies inside.
    pub(super) fn check(&self, offset: usize, len: usize) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len()), "{len} bytes at {offset} lie outside");
    }

    /// A place in it, for one value at least.
    pub(super) fn place<T>(&self, offset: usize) -> *mut T {
        self.check(offset, size_of::<T>());
        assert!(offset.is_multiple_of(align_of::<T>()));
        self.at(offset).cast()
    }

    /// Copies bytes into it. The device may read or write them at the same time: it sees the old or the new ones.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: the range lies in the mapping, which nobody in this process has a reference into; what another process does to it at the
        // same time changes bytes that have no meaning for the compiler.
        unsafe { self.at(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Copies bytes out of it.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        self.check(offset, bytes.len());
        // SAFETY: as for `write`.
        unsafe { self.at(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Stores two bytes at once; all that was written before is there when they are seen.
    pub fn store_u16(&self, offset: usize, value: u16) {
        let cell: *const AtomicU16 = self.place(offset);
        // SAFETY: it lies in the mapping, aligned.
        unsafe { &*cell }.store(value.to_le(), Ordering::Release);
    }

    /// Loads two bytes at once; what was written before they were is there.
    pub fn load_u16(&self, offset: usize) -> u16 {
        let cell: *const AtomicU16 = self.place(offset);
        // SAFETY: it lies in the mapping, aligned.
        u16::from_le(unsafe { &*cell }.load(Ordering::Acquire))
    }

    /// How the back end is told of it.
    pub fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: self.guest,
            memory_size: self.len() as u64,
            userspace_addr: self.address(0),
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let memory = SharedMemory::new(1, 1 << 32, HugePages::Never).expect("some memory");
        assert_eq!((memory.len(), memory.is_huge(), memory.guest(8)), (HUGE_PAGE, false, (1 << 32) + 8));
        memory.write(HUGE_PAGE - 3, &[1, 2, 3]);
        let mut bytes = [0; 4];
        memory.read(HUGE_PAGE - 4, &mut bytes);
        assert_eq!(bytes, [0, 1, 2, 3]);
    }
}
