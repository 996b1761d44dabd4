//! A guest's memory, as its front end shares it: regions of files, mapped into this process, by the guest's addresses and by the front end's.
//!
//! A table never changes; when regions come or go there is a new one, which has the mappings of the others in common with the one before. A mapping
//! ends with the last table that has it, so whoever holds a table may touch what it names, for as long as he holds it.
//!
//! Everything about a region is checked once, when it is mapped; an address is checked each time. What lies there is the guest's: it changes under our
//! hands, so it is read by atomic words or copied, and never seen as a slice. A front end that cuts its file off breaks its own memory and
//! nothing else ([`super::fault`]). The pages are left out of core dumps: they hold the guest's plain text.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use thiserror::Error;

use crate::memory::Segment;

use super::fault::Watch;

/// Regions that a table may have; QEMU offers up to 509 slots.
pub const MOST_REGIONS: usize = 509;

/// A region as the front end describes it.
#[derive(Debug)]
pub struct RegionInfo {
    /// The guest's address of its first byte.
    pub guest: u64,
    /// Bytes in it.
    pub len: u64,
    /// The front end's address of its first byte.
    pub front_end: u64,
    /// The file in which it lies.
    pub file: OwnedFd,
    /// Where it begins in the file.
    pub offset: u64,
}

/// Why memory cannot be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// What was said of the region cannot be.
    #[error("a region of {len} bytes at {guest:#x} {what}")]
    Wrong {
        /// The guest's address.
        guest: u64,
        /// Bytes in it.
        len: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel does not map it.
    #[error("a region of {len} bytes at {guest:#x} cannot be mapped: {source}")]
    Map {
        /// The guest's address.
        guest: u64,
        /// Bytes in it.
        len: u64,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// An address that the guest's memory does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{len} bytes at {address:#x} are not in the guest's memory")]
pub struct Outside {
    /// The address.
    pub address: u64,
    /// Bytes from there on.
    pub len: u64,
}

/// A guest's memory.
#[derive(Default)]
pub struct GuestMemory {
    /// By the guest's addresses, ascending; none overlaps another.
    regions: Vec<Region>,
}

#[derive(Clone)]
struct Region {
    guest: u64,
    front_end: u64,
    len: u64,
    /// The first byte.
    at: NonNull<u8>,
    mapping: Arc<Mapping>,
}

// SAFETY: an address of a mapping, which any thread may use while the mapping lives.
unsafe impl Send for Region {}
// SAFETY: as above; nothing is changed through it.
unsafe impl Sync for Region {}

impl GuestMemory {
    /// No memory.
    pub fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Maps these regions.
    pub fn of(regions: Vec<RegionInfo>) -> Result<Arc<Self>, MemoryError> {
        let mut table = Self::default();
        for region in regions {
            table.add(region)?;
        }
        Ok(Arc::new(table))
    }

    /// The same memory and one region more.
    pub fn with(&self, region: RegionInfo) -> Result<Arc<Self>, MemoryError> {
        let mut table = Self { regions: self.regions.clone() };
        table.add(region)?;
        Ok(Arc::new(table))
    }

    /// The same memory without the region at this address.
    pub fn without(&self, guest: u64, len: u64) -> Result<Arc<Self>, MemoryError> {
        let mut table = Self { regions: self.regions.clone() };
        table.regions.retain(|region| region.guest != guest || region.len != len);
        if table.regions.len() == self.regions.len() {
            return Err(MemoryError::Wrong { guest, len, what: "is not there" });
        }
        Ok(Arc::new(table))
    }

    fn add(&mut self, info: RegionInfo) -> Result<(), MemoryError> {
        let RegionInfo { guest, len, front_end, .. } = info;
        let wrong = |what| Err(MemoryError::Wrong { guest, len, what });
        if len == 0 || guest.checked_add(len).is_none() || front_end.checked_add(len).is_none() {
            return wrong("has no end");
        }
        if self.regions.len() == MOST_REGIONS {
            return wrong("is one too many");
        }
        let overlaps = |a: u64, b: u64, b_len: u64| a < b + b_len && b < a + len;
        if self
            .regions
            .iter()
            .any(|other| overlaps(guest, other.guest, other.len) || overlaps(front_end, other.front_end, other.len))
        {
            return wrong("overlaps another one");
        }
        let (mapping, at) = Mapping::new(&info)?;
        let place = self.regions.partition_point(|other| other.guest < guest);
        self.regions.insert(place, Region { guest, front_end, len, at, mapping: Arc::new(mapping) });
        Ok(())
    }

    /// Whether the front end has taken away what somebody touched.
    #[inline]
    pub fn is_broken(&self) -> bool {
        self.regions.iter().any(|region| region.mapping.watch.is_broken())
    }

    /// Gives the pieces in which the bytes at a guest's address lie: one, unless they cross the border of two regions.
    #[inline]
    pub fn segments(&self, guest: u64, len: u32, mut out: impl FnMut(Segment)) -> Result<(), Outside> {
        let outside = Outside { address: guest, len: u64::from(len) };
        let (mut at, mut left) = (guest, u64::from(len));
        while left > 0 {
            let region = self.region(at).ok_or(outside)?;
            let now = left.min(region.len - (at - region.guest));
            out(region.segment(at - region.guest, now));
            left -= now;
            at = at.checked_add(now).ok_or(outside)?;
        }
        Ok(())
    }

    /// The bytes at a guest's address, which have to lie in one region.
    pub fn whole(&self, guest: u64, len: u32) -> Result<Segment, Outside> {
        let outside = Outside { address: guest, len: u64::from(len) };
        let region = self.region(guest).ok_or(outside)?;
        let (offset, len) = (guest - region.guest, u64::from(len));
        if region.len - offset < len { Err(outside) } else { Ok(region.segment(offset, len)) }
    }

    /// The bytes at a front end's address, which have to lie in one region.
    pub fn front_end(&self, address: u64, len: usize) -> Result<Segment, Outside> {
        let outside = Outside { address, len: len as u64 };
        let holds = |region: &&Region| address >= region.front_end && address - region.front_end < region.len;
        let region = self.regions.iter().find(holds).ok_or(outside)?;
        let offset = address - region.front_end;
        if region.len - offset < len as u64 { Err(outside) } else { Ok(region.segment(offset, len as u64)) }
    }

    #[inline]
    fn region(&self, guest: u64) -> Option<&Region> {
        // A guest has a handful of regions, and nearly all of its memory is in one of them: looking at each is the quickest.
        self.regions.iter().find(|region| guest.wrapping_sub(region.guest) < region.len)
    }
}

impl Region {
    #[inline]
    fn segment(&self, offset: u64, len: u64) -> Segment {
        debug_assert!(offset + len <= self.len);
        // SAFETY: the bytes lie in the mapping, which lives as long as the table; whoever has the segment holds the table. All of the
        // mapping can be written.
        unsafe { Segment::new(self.at.add(offset as usize), len as usize) }
    }
}

/// A mapped part of a file.
struct Mapping {
    watch: Watch,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process; it is only unmapped through this, once.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing is changed through it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the region; also tells where its first byte is.
    fn new(info: &RegionInfo) -> Result<(Self, NonNull<u8>), MemoryError> {
        let RegionInfo { guest, len, ref file, offset, .. } = *info;
        let failed = |source| MemoryError::Map { guest, len, source };
        let wrong = |what| Err(MemoryError::Wrong { guest, len, what });
        let file = File::from(file.try_clone().map_err(failed)?);
        let page = page_bytes(&file).map_err(failed)?;
        let Some(end) = offset.checked_add(len) else {
            return wrong("has no end in its file");
        };
        if end > file.metadata().map_err(failed)?.len() {
            return wrong("goes beyond the end of its file");
        }
        // A hugetlb file is mapped by whole pages of its own.
        let from = offset - offset % page;
        let Ok(bytes) = usize::try_from((end - from).next_multiple_of(page)) else {
            return wrong("is too large");
        };
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses where; nothing of ours is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, file.as_raw_fd(), from as i64) };
        if start == libc::MAP_FAILED {
            return Err(failed(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast::<u8>()).expect("the kernel does not map the first page");
        // SAFETY: the range was mapped just now. Both are wishes that a kernel may refuse; a hugetlb file does the first.
        unsafe {
            libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTDUMP);
            libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTFORK);
        }
        let watch = Watch::new(start, bytes).inspect_err(|_| {
            // SAFETY: nobody knows of the mapping.
            unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
        });
        // SAFETY: the region's first byte lies in the mapping.
        let at = unsafe { start.add((offset - from) as usize) };
        Ok((Self { watch: watch.map_err(failed)?, start, len: bytes }, at))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.watch.end();
        // SAFETY: the last table that had this mapping is gone, and whoever has a segment holds a table.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// In what units the file is mapped.
fn page_bytes(file: &File) -> io::Result<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the structure is whole, and the descriptor is open.
    if unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it.
    let stat = unsafe { stat.assume_init() };
    let is_huge = stat.f_type == libc::HUGETLBFS_MAGIC;
    Ok(if is_huge { stat.f_bsize as u64 } else { 4096 })
}
