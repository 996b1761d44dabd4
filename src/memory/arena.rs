//! The arena: one stretch of memory on 2 MiB pages, or on normal pages when there are none.
//!
//! Hugepages matter twice: the processor keeps one TLB entry for 2 MiB instead of 512, and the kernel pins one page
//! instead of 512 when the arena is registered with io_uring. What was got is kept beside the memory, so that start-up can
//! say it aloud. The whole arena is touched when it is made: no page fault happens on the data path.

use std::io;

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw};
use serde::Deserialize;
use thiserror::Error;

/// log2 of the hugepage size that is asked for, as `mmap(2)` takes it (`MAP_HUGE_2MB`).
const HUGE_PAGE_BITS: u8 = 21;
const HUGE_PAGE: usize = 1 << HUGE_PAGE_BITS;

/// What to do about hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Take hugepages, and normal pages when there are too few.
    #[default]
    Prefer,
    /// Refuse to start without hugepages.
    Require,
    /// Take normal pages.
    Never,
}

/// What kind of pages an arena lies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved 2 MiB pages (`hugetlbfs`).
    Huge,
    /// Normal pages, which the kernel may merge into transparent hugepages; with the reason.
    Normal(String),
}

/// Why there is no arena.
#[derive(Debug, Error)]
pub enum ArenaError {
    /// `hugepages = "require"` and the kernel has too few.
    #[error(
        "{mib} MiB of 2 MiB hugepages are required and not free ({source}); reserve them with \
         `echo {pages} > /proc/sys/vm/nr_hugepages`, or set hugepages = \"prefer\""
    )]
    NoHugePages {
        /// MiB asked for.
        mib: usize,
        /// The same in hugepages.
        pages: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Not even normal pages.
    #[error("cannot map {mib} MiB of memory: {source}")]
    NoMemory {
        /// MiB asked for.
        mib: usize,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A stretch of zeroed memory, mapped and touched.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
    pages: Pages,
}

impl Arena {
    /// Maps at least `len` bytes, rounded up to whole 2 MiB.
    pub fn new(len: usize, policy: HugePages) -> Result<Self, ArenaError> {
        let len = len.next_multiple_of(HUGE_PAGE);
        let mib = len >> 20;
        let reason = match policy {
            HugePages::Never => "hugepages = \"never\"".to_owned(),
            HugePages::Prefer | HugePages::Require => {
                match MmapOptions::new().len(len).huge(Some(HUGE_PAGE_BITS)).populate().map_anon() {
                    Ok(map) => return Ok(Self { map: map.into(), pages: Pages::Huge }),
                    Err(source) if policy == HugePages::Require => {
                        return Err(ArenaError::NoHugePages { mib, pages: len / HUGE_PAGE, source });
                    }
                    Err(e) => format!("no {mib} MiB of 2 MiB hugepages free: {e}"),
                }
            }
        };
        let map = normal_pages(len).map_err(|source| ArenaError::NoMemory { mib, source })?;
        Ok(Self { map: map.into(), pages: Pages::Normal(reason) })
    }

    /// The first byte.
    pub fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the arena has no bytes; it always has some.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kind of pages it lies on.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }
}

/// Normal pages, with the kernel asked to merge them, and touched afterwards so that the merged ones are used.
fn normal_pages(len: usize) -> io::Result<MmapMut> {
    let mut map = MmapMut::map_anon(len)?;
    // A kernel without transparent hugepages refuses; normal pages serve then.
    let _ = map.advise(Advice::HugePage);
    for page in map.chunks_mut(4096) {
        page[0] = 0;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_to_hugepages_and_says_what_it_got() {
        let arena = Arena::new(1, HugePages::Prefer).expect("some memory");
        assert_eq!(arena.len(), HUGE_PAGE);
        if let Pages::Normal(reason) = arena.pages() {
            assert!(reason.contains("hugepages"), "{reason}");
        }
    }

    #[test]
    fn never_takes_normal_pages() {
        let arena = Arena::new(1 << 20, HugePages::Never).expect("some memory");
        assert!(matches!(arena.pages(), Pages::Normal(_)));
    }
}
