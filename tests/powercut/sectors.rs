//! What the sectors of a volume may hold: for each one the writes that a read, a snapshot or a power cut may still show.
//!
//! Times are ticks of the model. A write is *superseded* at the tick at which a write that began after its end has ended: whoever
//! begins to look later must not see it. Writes that were in flight together have no order, so neither supersedes the other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

pub const SECTOR: u64 = 512;
pub const CLUSTER: u64 = 65536;
pub const SECTORS: u64 = CLUSTER / SECTOR;

/// A moment of the model's time.
pub type Tick = u32;
/// After all ticks.
pub const NEVER: Tick = Tick::MAX;
/// The number of a write; 0 stands for zeros.
pub type Value = u32;

/// One write as one sector saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Value,
    pub start: Tick,
    /// When it was answered.
    pub end: Tick,
    pub superseded: Tick,
    /// By something durable: no power cut brings it back.
    pub is_gone: bool,
}

/// A sector that was never written.
const UNTOUCHED: Entry = Entry { value: 0, start: 0, end: 0, superseded: NEVER, is_gone: false };

type Cluster = Rc<Vec<Vec<Entry>>>;

/// The sectors of a volume; what is not there was never written. Clones share clusters until they change.
#[derive(Clone, Default)]
pub struct Content {
    clusters: BTreeMap<u64, Cluster>,
    /// Since when everything is being replaced: what is not there by zeros.
    replacing: Option<Tick>,
}

impl Content {
    /// The clusters that were ever written.
    pub fn clusters(&self) -> Vec<u64> {
        self.clusters.keys().copied().collect()
    }

    pub fn entries(&self, sector: u64) -> &[Entry] {
        let entries = self.clusters.get(&(sector / SECTORS)).map(|cluster| &cluster[(sector % SECTORS) as usize][..]);
        entries.filter(|entries| !entries.is_empty()).unwrap_or(&[UNTOUCHED])
    }

    /// A write begins. Entries superseded before `forget_before` are of no interest to anybody.
    pub fn begin(&mut self, sectors: Range<u64>, value: Value, now: Tick, forget_before: Tick) {
        self.change(sectors, |entries| {
            entries.retain(|entry| entry.superseded >= forget_before);
            entries.push(Entry { value, start: now, end: NEVER, superseded: NEVER, is_gone: false });
        });
    }

    /// The write that began at `start` is answered.
    pub fn end(&mut self, sectors: Range<u64>, start: Tick, now: Tick) {
        self.change(sectors, |entries| {
            for entry in entries {
                if entry.start == start {
                    entry.end = now;
                } else if entry.end < start && entry.superseded == NEVER {
                    entry.superseded = now;
                }
            }
        });
    }

    /// The write that began at `start` has failed: each sector may hold it or not, and nothing is superseded.
    pub fn fail(&mut self, sectors: Range<u64>, start: Tick, now: Tick) {
        self.change(sectors, |entries| {
            entries.iter_mut().filter(|entry| entry.start == start).for_each(|entry| entry.end = now);
        });
    }

    /// Begins to replace everything by another content.
    pub fn begin_replacing(&mut self, by: &Content, now: Tick, forget_before: Tick) {
        for cluster in self.clusters().into_iter().chain(by.clusters()) {
            for sector in cluster * SECTORS..(cluster + 1) * SECTORS {
                if self.entries(sector).iter().all(|entry| entry.start != now) {
                    self.begin(sector..sector + 1, by.entries(sector)[0].value, now, forget_before);
                }
            }
        }
        self.replacing = Some(now);
    }

    /// The replacement that began at `start` is durable: what had ended before is gone.
    pub fn end_replacing(&mut self, start: Tick, now: Tick) {
        self.replacing = None;
        self.change_all(|entries| {
            if entries.iter().any(|entry| entry.start == start) {
                // Reads under way may still have found it.
                for entry in entries.iter_mut().filter(|entry| entry.end < start) {
                    entry.superseded = entry.superseded.min(now);
                    entry.is_gone = true;
                }
            }
            entries.iter_mut().filter(|entry| entry.start == start).for_each(|entry| entry.end = now);
        });
    }

    /// The replacement that began at `start` did not happen.
    pub fn withdraw(&mut self, start: Tick) {
        self.replacing = None;
        self.change_all(|entries| entries.retain(|entry| entry.start != start));
    }

    /// From now on the sector holds exactly this.
    pub fn settle(&mut self, sector: u64, value: Value) {
        if value == 0 && !self.clusters.contains_key(&(sector / SECTORS))
            || self.entries(sector) == [Entry { value, ..UNTOUCHED }]
        {
            return;
        }
        self.change(sector..sector + 1, |entries| *entries = vec![Entry { value, ..UNTOUCHED }]);
    }

    /// Nothing is under way any more.
    pub fn is_settled(&mut self) {
        self.replacing = None;
    }

    /// Forgets what lies behind the end.
    pub fn truncate(&mut self, end: u64) {
        let first = end / SECTORS;
        self.clusters.split_off(&end.div_ceil(SECTORS));
        if !end.is_multiple_of(SECTORS) && self.clusters.contains_key(&first) {
            self.change(end..(first + 1) * SECTORS, Vec::clear);
        }
    }

    fn change(&mut self, sectors: Range<u64>, mut change: impl FnMut(&mut Vec<Entry>)) {
        let replaced =
            self.replacing.map(|start| Entry { value: 0, start, end: NEVER, superseded: NEVER, is_gone: false });
        let mut sector = sectors.start;
        while sector < sectors.end {
            let end = sectors.end.min((sector / SECTORS + 1) * SECTORS);
            let cluster =
                self.clusters.entry(sector / SECTORS).or_insert_with(|| Rc::new(vec![Vec::new(); SECTORS as usize]));
            let cluster = Rc::make_mut(cluster);
            for entries in &mut cluster[(sector % SECTORS) as usize..][..(end - sector) as usize] {
                if entries.is_empty() {
                    entries.push(UNTOUCHED);
                    entries.extend(replaced);
                }
                change(entries);
            }
            sector = end;
        }
    }

    fn change_all(&mut self, mut change: impl FnMut(&mut Vec<Entry>)) {
        for cluster in self.clusters.values_mut() {
            Rc::make_mut(cluster).iter_mut().filter(|entries| !entries.is_empty()).for_each(&mut change);
        }
    }
}

/// The bytes of a sector: who wrote it, into which sector, filled up by repeating.
pub fn fill(bytes: &mut [u8], value: Value, writer: u32, sector: u64) {
    if value == 0 {
        return bytes.fill(0);
    }
    let mut stamp = [0; 32];
    for (place, word) in [u64::from(value), u64::from(writer), sector, !u64::from(value)].into_iter().enumerate() {
        stamp[place * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    bytes.chunks_exact_mut(32).for_each(|chunk| chunk.copy_from_slice(&stamp));
}

/// The number of the write that the bytes claim to come from.
pub fn value_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(content: &Content, since: Tick) -> Vec<Value> {
        let entries = content.entries(5).iter().filter(|entry| entry.superseded >= since && !entry.is_gone);
        entries.map(|entry| entry.value).collect()
    }

    #[test]
    fn a_write_supersedes_what_ended_before_it_began() {
        let mut content = Content::default();
        content.begin(0..10, 1, 10, 0);
        assert_eq!(seen(&content, 11), [0, 1]);
        content.end(0..10, 10, 20);
        assert_eq!(seen(&content, 15), [0, 1]);
        assert_eq!(seen(&content, 21), [1]);
        content.begin(5..6, 2, 30, 0);
        content.begin(5..6, 3, 31, 0);
        content.end(5..6, 30, 40);
        content.end(5..6, 31, 41);
        // In flight together: no order.
        assert_eq!(seen(&content, 42), [2, 3]);
        assert_eq!(seen(&content, 40), [1, 2, 3]);
    }

    #[test]
    fn a_failed_write_may_have_happened_and_supersedes_nothing() {
        let mut content = Content::default();
        content.begin(0..10, 1, 10, 0);
        content.fail(0..10, 10, 20);
        assert_eq!(seen(&content, 30), [0, 1]);
        content.begin(0..10, 2, 31, 30);
        content.end(0..10, 31, 32);
        assert_eq!(seen(&content, 33), [2]);
    }

    #[test]
    fn a_replacement_leaves_what_was_in_flight_with_it() {
        let (mut content, mut other) = (Content::default(), Content::default());
        other.settle(5, 7);
        content.begin(0..10, 1, 10, 0);
        content.end(0..10, 10, 11);
        content.begin(5..6, 2, 12, 0);
        content.begin_replacing(&other, 13, 0);
        content.end_replacing(13, 14);
        assert_eq!(seen(&content, 15), [2, 7]);
        let kept = content.entries(4).iter().filter(|entry| !entry.is_gone);
        assert_eq!(kept.map(|entry| entry.value).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_replacement_also_concerns_what_was_never_written_before() {
        let mut content = Content::default();
        content.begin_replacing(&Content::default(), 10, 0);
        content.begin(0..10, 1, 11, 0);
        content.end(0..10, 11, 12);
        content.end_replacing(10, 13);
        assert_eq!(seen(&content, 14), [0, 1]);
    }

    #[test]
    fn what_lies_behind_the_end_is_forgotten() {
        let mut content = Content::default();
        content.settle(3, 1);
        content.settle(5, 1);
        content.settle(500, 1);
        content.truncate(5);
        assert_eq!(content.entries(3)[0].value, 1);
        assert_eq!(content.entries(5)[0].value, 0);
        assert_eq!(content.clusters(), [0]);
    }
}
