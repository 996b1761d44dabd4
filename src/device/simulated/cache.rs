//! The volatile cache of the simulated device: what reads see, and beside it all that a sector may hold after a power cut.
//!
//! Blocks are kept by page of 4 KiB; a page of zeros that are durable takes no memory. A page remembers, oldest first, the durable
//! bytes and every version written since. Invariants: `was` is empty exactly while `now` is durable; otherwise `was[0]` is the durable
//! version of all sectors, every other one names the sectors that its write covered, and for each sector the last version that
//! names it is what `now` holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// The unit in which memory is kept.
pub(super) const PAGE: usize = 4096;
/// What a power cut leaves whole.
pub(super) const SECTOR: usize = 512;
/// Neighbouring pages lie in one shard, so that a command takes few locks.
const PAGES_PER_TURN: u64 = 16;
const SHARDS: usize = 64;
/// A page with more versions than this writes out its oldest: a real cache does not wait for a flush for ever either.
const VERSIONS_MOST: usize = 32;

/// The bytes of a page; none: zeros.
type Bytes = Option<Arc<[u8; PAGE]>>;

/// What a write brings.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Data(&'a [u8]),
    Zeros(usize),
}

impl<'a> Content<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Zeros(len) => len,
        }
    }

    pub(super) fn part(self, from: usize, len: usize) -> Self {
        match self {
            Self::Data(data) => Self::Data(&data[from..from + len]),
            Self::Zeros(_) => Self::Zeros(len),
        }
    }

    pub(super) fn is_zeros(self) -> bool {
        match self {
            Self::Data(data) => data.iter().all(|&byte| byte == 0),
            Self::Zeros(_) => true,
        }
    }

    fn copy_to(self, to: &mut [u8]) {
        match self {
            Self::Data(data) => to.copy_from_slice(data),
            Self::Zeros(_) => to.fill(0),
        }
    }
}

/// Which writes a flush makes durable: those numbered below `next` that were not in flight.
pub(super) struct Completed {
    pub(super) next: u64,
    pub(super) in_flight: Vec<u64>,
}

impl Completed {
    fn has(&self, write: u64) -> bool {
        write < self.next && !self.in_flight.contains(&write)
    }
}

#[derive(Clone)]
struct Version {
    bytes: Bytes,
    /// One bit a sector.
    sectors: u8,
    /// The number of the write.
    write: u64,
}

#[derive(Clone, Default)]
struct Page {
    now: Bytes,
    was: Vec<Version>,
}

#[derive(Clone, Default)]
struct Shard {
    pages: HashMap<u64, Page>,
    /// Pages that are not durable.
    dirty: Vec<u64>,
}

/// Pages and their versions.
pub(super) struct Cache {
    shards: Vec<Mutex<Shard>>,
}

impl Clone for Cache {
    fn clone(&self) -> Self {
        Self { shards: self.shards.iter().map(|shard| Mutex::new(lock(shard).clone())).collect() }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Cache {
    /// Reads what completed writes left.
    pub(super) fn read(&self, at: u64, to: &mut [u8]) {
        let mut done = 0;
        for (page, within, len) in pieces(at, to.len()) {
            let piece = &mut to[done..done + len];
            match self.shard(page).pages.get(&page).and_then(|page| page.now.as_deref()) {
                Some(bytes) => piece.copy_from_slice(&bytes[within..within + len]),
                None => piece.fill(0),
            }
            done += len;
        }
    }

    /// Makes a write visible, and one more version of its sectors.
    pub(super) fn write(&self, write: u64, at: u64, content: Content<'_>) {
        let mut done = 0;
        for (page, within, len) in pieces(at, content.len()) {
            self.shard(page).write(write, page, within, content.part(done, len));
            done += len;
        }
    }

    /// Makes durable what was completed.
    pub(super) fn flush(&self, completed: &Completed) {
        for shard in &self.shards {
            lock(shard).flush(completed);
        }
    }

    /// Whether a page reads as zeros because nothing is kept for it.
    pub(super) fn is_hole(&self, page: u64) -> bool {
        self.shard(page).pages.get(&page).is_none_or(|page| page.now.is_none())
    }

    /// Keeps one version of each sector, which `choose` picks: it is given the number of the sector and of its versions.
    pub(super) fn settle(&self, choose: &impl Fn(u64, usize) -> usize) {
        for shard in &self.shards {
            lock(shard).settle(choose);
        }
    }

    /// All that sectors may hold after a power cut: each version of each sector that is not nothing but zeros.
    pub(super) fn each_possible(&self, mut each: impl FnMut(u64, &[u8])) {
        for shard in &self.shards {
            for (number, page) in &lock(shard).pages {
                let durable = [Version { bytes: page.now.clone(), sectors: u8::MAX, write: 0 }];
                let versions = if page.was.is_empty() { &durable[..] } else { &page.was };
                for (bytes, sectors) in
                    versions.iter().filter_map(|version| Some((version.bytes.as_ref()?, version.sectors)))
                {
                    for sector in (0..PAGE / SECTOR).filter(|sector| sectors & (1 << sector) != 0) {
                        each(number * PAGE as u64 + (sector * SECTOR) as u64, &bytes[sector * SECTOR..][..SECTOR]);
                    }
                }
            }
        }
    }

    /// Pages that take memory.
    pub(super) fn pages_kept(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).pages.len()).sum()
    }

    fn shard(&self, page: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[(page / PAGES_PER_TURN) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().expect("no panic under this lock")
}

/// A range as pieces of pages: the page, the first byte within it, and how many.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = at + len as u64;
    let mut from = at;
    std::iter::from_fn(move || {
        if from == end {
            return None;
        }
        let within = (from % PAGE as u64) as usize;
        let piece = (PAGE - within).min((end - from) as usize);
        let page = from / PAGE as u64;
        from += piece as u64;
        Some((page, within, piece))
    })
}

impl Shard {
    fn write(&mut self, write: u64, number: u64, within: usize, content: Content<'_>) {
        let is_zeros = content.is_zeros();
        if is_zeros && !self.pages.contains_key(&number) {
            return;
        }
        let page = self.pages.entry(number).or_default();
        let before = page.now.clone();
        page.now = overwritten(&before, within, content, is_zeros);
        if page.was.is_empty() {
            page.was.push(Version { bytes: before, sectors: u8::MAX, write: 0 });
            self.dirty.push(number);
        } else if page.was.len() == VERSIONS_MOST {
            page.write_out_oldest();
        }
        let sectors = sectors_of(within, content.len());
        page.was.push(Version { bytes: page.now.clone(), sectors, write });
    }

    fn flush(&mut self, completed: &Completed) {
        let pages = &mut self.pages;
        self.dirty.retain(|number| {
            let Some(page) = pages.get_mut(number) else { return false };
            page.make_durable(completed);
            let is_dirty = !page.was.is_empty();
            if !is_dirty && page.now.is_none() {
                pages.remove(number);
            }
            is_dirty
        });
    }

    fn settle(&mut self, choose: &impl Fn(u64, usize) -> usize) {
        for number in std::mem::take(&mut self.dirty) {
            let Some(page) = self.pages.get_mut(&number) else { continue };
            page.settle(number, choose);
            if page.now.is_none() {
                self.pages.remove(&number);
            }
        }
    }
}

impl Page {
    /// Forgets what is older than the newest completed version, sector by sector.
    fn make_durable(&mut self, completed: &Completed) {
        let Some(base) = self.was.first() else { return };
        let mut durable = base.bytes.clone();
        // The sectors for which a newer version was found, while going back in time.
        let mut superseded = 0;
        for version in self.was[1..].iter_mut().rev() {
            let named = version.sectors;
            version.sectors &= !superseded;
            if completed.has(version.write) {
                durable = merged(&durable, &version.bytes, version.sectors);
                superseded |= named;
                version.sectors = 0;
            }
        }
        self.was[0].bytes = durable;
        self.was.retain(|version| version.sectors != 0);
        if self.was.len() == 1 {
            self.was = Vec::new();
        }
    }

    fn write_out_oldest(&mut self) {
        let oldest = self.was.remove(1);
        self.was[0].bytes = merged(&self.was[0].bytes, &oldest.bytes, oldest.sectors);
    }

    fn settle(&mut self, number: u64, choose: &impl Fn(u64, usize) -> usize) {
        for sector in 0..PAGE / SECTOR {
            let bit = 1 << sector;
            let count = self.was.iter().filter(|version| version.sectors & bit != 0).count();
            if count < 2 {
                continue;
            }
            let chosen = choose(number * (PAGE / SECTOR) as u64 + sector as u64, count);
            let version = self.was.iter().filter(|version| version.sectors & bit != 0).nth(chosen);
            let bytes = version.expect("one of them was chosen").bytes.clone();
            self.now = merged(&self.now, &bytes, bit);
        }
        self.was = Vec::new();
        if self.now.as_ref().is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)) {
            self.now = None;
        }
    }
}

/// A page with some bytes replaced.
fn overwritten(before: &Bytes, within: usize, content: Content<'_>, is_zeros: bool) -> Bytes {
    if is_zeros && (before.is_none() || content.len() == PAGE) {
        return None;
    }
    let mut after = before.as_ref().map_or([0; PAGE], |bytes| **bytes);
    content.copy_to(&mut after[within..within + content.len()]);
    if is_zeros && after.iter().all(|&byte| byte == 0) {
        return None;
    }
    Some(Arc::new(after))
}

/// A page with the sectors of another.
fn merged(page: &Bytes, other: &Bytes, sectors: u8) -> Bytes {
    match sectors {
        0 => page.clone(),
        u8::MAX => other.clone(),
        _ => {
            let zeros = [0; PAGE];
            let from = other.as_deref().unwrap_or(&zeros);
            let mut bytes = page.as_ref().map_or(zeros, |bytes| **bytes);
            for sector in (0..PAGE / SECTOR).filter(|sector| sectors & (1 << sector) != 0) {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                bytes[range.clone()].copy_from_slice(&from[range]);
            }
            Some(Arc::new(bytes))
        }
    }
}

fn sectors_of(within: usize, len: usize) -> u8 {
    let (first, count) = (within / SECTOR, len / SECTOR);
    (((1u16 << count) - 1) << first) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Completed = Completed { next: u64::MAX, in_flight: Vec::new() };

    fn write(cache: &Cache, number: u64, at: u64, byte: u8, len: usize) {
        cache.write(number, at, Content::Data(&vec![byte; len]));
    }

    fn byte(cache: &Cache, at: u64) -> u8 {
        let mut bytes = [0; SECTOR];
        cache.read(at, &mut bytes);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
        bytes[0]
    }

    /// What the sector may hold after a cut, oldest first.
    fn possible(cache: &Cache, at: u64) -> Vec<u8> {
        let mut found = Vec::new();
        for wanted in 0..VERSIONS_MOST {
            let cut = cache.clone();
            cut.settle(&|_, count| wanted.min(count - 1));
            found.push(byte(&cut, at));
        }
        found.dedup();
        found
    }

    #[test]
    fn a_sector_may_keep_any_version_since_the_flush() {
        let cache = Cache::default();
        write(&cache, 1, 0, 1, 4096);
        cache.flush(&ALL);
        write(&cache, 2, 512, 2, 1024);
        write(&cache, 3, 1024, 3, 512);
        assert_eq!(byte(&cache, 1024), 3);
        assert_eq!(possible(&cache, 0), [1]);
        assert_eq!(possible(&cache, 512), [1, 2]);
        assert_eq!(possible(&cache, 1024), [1, 2, 3]);
        cache.flush(&ALL);
        assert_eq!(possible(&cache, 512), [2]);
        assert_eq!(possible(&cache, 1024), [3]);
    }

    #[test]
    fn a_flush_promises_nothing_of_what_was_in_flight() {
        let cache = Cache::default();
        write(&cache, 1, 0, 1, 512);
        write(&cache, 2, 0, 2, 1024);
        write(&cache, 3, 0, 3, 512);
        cache.flush(&Completed { next: 3, in_flight: vec![2] });
        assert_eq!(possible(&cache, 0), [1, 2, 3]);
        assert_eq!(possible(&cache, 512), [0, 2]);
        cache.flush(&Completed { next: 4, in_flight: vec![3] });
        assert_eq!(possible(&cache, 0), [2, 3]);
        assert_eq!(possible(&cache, 512), [2]);
    }

    #[test]
    fn an_older_write_is_superseded_although_it_ends_later() {
        let cache = Cache::default();
        write(&cache, 1, 0, 1, 512);
        write(&cache, 2, 0, 2, 512);
        cache.flush(&Completed { next: 3, in_flight: vec![1] });
        assert_eq!(possible(&cache, 0), [2]);
    }

    #[test]
    fn possible_sectors_are_those_that_a_cut_may_leave() {
        let cache = Cache::default();
        let found = |cache: &Cache| {
            let mut found = Vec::new();
            cache.each_possible(|at, sector| found.extend((sector[0] != 0).then_some((at, sector[0]))));
            found.sort_unstable();
            found
        };
        write(&cache, 1, 0, 1, 1024);
        cache.flush(&ALL);
        write(&cache, 2, 512, 2, 512);
        assert_eq!(found(&cache), [(0, 1), (512, 1), (512, 2)]);
        cache.write(3, 0, Content::Zeros(1024));
        assert_eq!(found(&cache), [(0, 1), (512, 1), (512, 2)]);
        cache.flush(&ALL);
        assert_eq!(found(&cache), []);
    }

    #[test]
    fn zeros_take_no_memory() {
        let cache = Cache::default();
        cache.write(1, 0, Content::Zeros(1 << 20));
        write(&cache, 2, 1 << 40, 0, 1 << 20);
        assert_eq!(cache.pages_kept(), 0);
        write(&cache, 3, 8192, 7, 512);
        assert!(!cache.is_hole(2));
        cache.write(4, 8192, Content::Zeros(512));
        assert!(cache.is_hole(2));
        assert_eq!(possible(&cache, 8192), [0, 7, 0]);
        cache.flush(&ALL);
        assert_eq!(cache.pages_kept(), 0);
    }

    #[test]
    fn a_page_that_is_never_flushed_writes_out_its_oldest_versions() {
        let cache = Cache::default();
        write(&cache, 1, 512, 200, 512);
        for number in 2..100 {
            write(&cache, number, 0, number as u8, 512);
        }
        assert_eq!(byte(&cache, 0), 99);
        assert_eq!(possible(&cache, 512), [200]);
        assert!(possible(&cache, 0).len() <= VERSIONS_MOST);
    }
}
