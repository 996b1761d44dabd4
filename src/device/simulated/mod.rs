//! The simulated device: blocks in memory behind a volatile cache that loses its power on command.
//!
//! For tests and measurements (cargo feature `simulation`); product builds do without. What it promises is what the contract of
//! [`Device`] promises and nothing more:
//! - a write becomes visible some turns after its start and completes some turns later, drawn from the seed; large ones become visible
//!   in two parts;
//! - a flush makes durable the writes that had completed when it started;
//! - a power cut leaves, in each 512-byte sector, any version since the durable one, also of writes in flight: lost, reordered, torn.
//!   From then on every command fails with [`IoError::Media`];
//! - a discarded page keeps its bytes or reads as zeros, as the seed has it.
//!
//! On a single reactor a run is the same for the same seed. Locks stand on the way of each command; they are short.

mod cache;
mod cut;
mod record;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::memory::{Buffer, Segment};
use crate::reactor::yield_now;

use super::{ByteRange, Device, DeviceInfo, Extent, IoError, Zeroes, check_range};

use cache::{Cache, Completed, Content, PAGE, SECTOR};
use cut::Fate;
use record::Entry;

pub use record::{Record, Replay};

/// `extents` looks at so many pages at once.
const PAGES_LOOKED_AT: u64 = 4096;
/// No command has this number: the power stays on.
const NEVER: u64 = u64::MAX;

/// What a simulated device is like.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedConfig {
    /// Bytes on it.
    pub size: u64,
    /// 512 to 4096.
    pub block_size: u32,
    /// A command takes up to so many turns of its reactor; with 0 it completes at once.
    pub most_turns: u32,
    /// What durations, discards and the moment within a command at which the power goes follow from.
    pub seed: u64,
    /// Writes and flushes are kept for a replay.
    pub is_recorded: bool,
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self { size: 1 << 20, block_size: 512, most_turns: 0, seed: 0, is_recorded: false }
    }
}

/// A device in memory that can lose its power. Clones are the same device.
#[derive(Clone)]
pub struct SimulatedDevice(Arc<Core>);

struct Core {
    config: SimulatedConfig,
    size: Arc<AtomicU64>,
    cache: Cache,
    in_flight: Mutex<InFlight>,
    record: Option<Mutex<Record>>,
    is_cut: AtomicBool,
    /// The number of the write or flush at which the power goes.
    cut_at: AtomicU64,
    flushes: AtomicU64,
}

/// Commands that have not completed.
#[derive(Default)]
struct InFlight {
    /// How many commands there were.
    begun: u64,
    /// By number; what is not wholly visible yet has its content here.
    commands: BTreeMap<u64, Option<Entry>>,
}

/// When what happens to a command.
struct Course {
    number: u64,
    turns_before: u64,
    turns_between: u64,
    turns_after: u64,
    /// The power goes just before it completes.
    is_last: bool,
}

/// A word that follows from two.
fn draw(seed: u64, number: u64) -> u64 {
    // SplitMix64, with the number as its place in the sequence.
    let z = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SimulatedDevice {
    /// A device of zeros.
    pub fn new(config: SimulatedConfig) -> Self {
        Self::with_cache(config, Cache::default())
    }

    fn with_cache(config: SimulatedConfig, cache: Cache) -> Self {
        let record = || Record { config, before: Arc::new(cache.clone()), entries: Vec::new() };
        Self(Arc::new(Core {
            config,
            size: Arc::new(AtomicU64::new(config.size)),
            in_flight: Mutex::default(),
            record: config.is_recorded.then(|| Mutex::new(record())),
            cache,
            is_cut: AtomicBool::new(false),
            cut_at: AtomicU64::new(NEVER),
            flushes: AtomicU64::new(0),
        }))
    }

    /// Cuts the power, if it is still on, and gives the device as it may be when it is on again. Other seeds give other
    /// outcomes of the same cut.
    pub fn cut_power(&self, seed: u64) -> Self {
        self.after_cut(seed, Fate::drawn(seed))
    }

    /// Cuts the power; all that was written survives, also by commands in flight.
    pub fn cut_power_keeping_all(&self) -> Self {
        self.after_cut(self.0.config.seed, Fate::Newest)
    }

    /// Cuts the power; nothing survives but what was flushed.
    pub fn cut_power_keeping_none(&self) -> Self {
        self.after_cut(self.0.config.seed, Fate::Durable)
    }

    fn after_cut(&self, seed: u64, fate: Fate) -> Self {
        let core = &*self.0;
        core.is_cut.store(true, Ordering::SeqCst);
        let cache = core.cache.clone();
        for (number, entry) in &core.in_flight().commands {
            if let Some(entry) = entry {
                entry.apply(&cache, *number);
            }
        }
        cache.settle(&|sector, versions| fate.choose(sector, versions));
        let config = SimulatedConfig { size: core.size.load(Ordering::Acquire), seed, ..core.config };
        Self::with_cache(config, cache)
    }

    /// Cuts the power at the `count`-th write or flush from now, counted from 1: before it, in the middle of it, or when it is nearly
    /// done. [`Self::cut_power`] then gives the device of after.
    pub fn cut_after(&self, count: u64) {
        let begun = self.0.in_flight().begun;
        self.0.cut_at.store(begun.saturating_add(count.max(1)) - 1, Ordering::SeqCst);
    }

    /// Whether the power is off.
    pub fn is_cut(&self) -> bool {
        self.0.is_cut.load(Ordering::SeqCst)
    }

    /// How many writes, flushes and the like there were.
    pub fn commands(&self) -> u64 {
        self.0.in_flight().begun
    }

    /// How many flushes there were.
    pub fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Relaxed)
    }

    /// Shows all that sectors may hold if the power goes now: where they start, and each version that is durable or not superseded durably. What is
    /// on its way belongs to it. Sectors of zeros may be left out.
    pub fn each_possible_sector(&self, mut each: impl FnMut(u64, &[u8])) {
        for entry in self.0.in_flight().commands.values().flatten() {
            if let Entry::Write { at, data } = entry {
                for (sector, bytes) in data.chunks(SECTOR).enumerate() {
                    each(at + (sector * SECTOR) as u64, bytes);
                }
            }
        }
        self.0.cache.each_possible(each);
    }

    /// Bytes of memory that the pages take.
    pub fn bytes_kept(&self) -> u64 {
        (self.0.cache.pages_kept() * PAGE) as u64
    }

    /// Makes the device larger; the new part is zeros.
    ///
    /// # Panics
    /// If it would become smaller, or have a part of a block at its end.
    pub fn grow(&self, to: u64) {
        let before = self.0.size.swap(to, Ordering::AcqRel);
        assert!(before <= to && to.is_multiple_of(u64::from(self.0.config.block_size)), "{before} grows to {to}");
    }

    /// The same content on a device that keeps a record from now on; what was not flushed counts as durable.
    pub fn recorded(&self) -> Self {
        let cache = self.0.cache.clone();
        cache.settle(&|_, versions| versions - 1);
        Self::with_cache(SimulatedConfig { is_recorded: true, ..self.0.config }, cache)
    }

    /// The record so far; none if it is not kept.
    pub fn record(&self) -> Option<Record> {
        self.0.record.as_ref().map(|record| record.lock().expect("no panic under this lock").clone())
    }

    pub(super) fn size(&self) -> &Arc<AtomicU64> {
        &self.0.size
    }

    /// Writes, becoming visible and completing as its course has it.
    async fn change(&self, at: u64, content: Content<'_>) -> Result<(), IoError> {
        let core = &*self.0;
        let course = core.begin(|| Some(Entry::of(at, content)))?;
        // The parts are whole pages, so that overlapping writes leave one of the two in each block.
        let first = match draw(core.config.seed, !course.number) % 3 {
            _ if course.turns_between == 0 => 0,
            third => (content.len() as u64 * third / 3) as usize / PAGE * PAGE,
        };
        wait(course.turns_before).await;
        core.show(&course, at, content.part(0, first))?;
        wait(course.turns_between).await;
        core.show(&course, at + first as u64, content.part(first, content.len() - first))?;
        core.is_visible(course.number);
        wait(course.turns_after).await;
        core.end(&course)
    }

    async fn zero(&self, range: ByteRange) -> Result<(), IoError> {
        self.change(range.start(), Content::Zeros(range.len() as usize)).await
    }
}

async fn wait(turns: u64) {
    for _ in 0..turns {
        yield_now().await;
    }
}

impl Core {
    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().expect("no panic under this lock")
    }

    fn powered(&self) -> Result<(), IoError> {
        if self.is_cut.load(Ordering::SeqCst) { Err(IoError::Media) } else { Ok(()) }
    }

    /// Numbers a command and says how it will go. The power may go here.
    fn begin(&self, entry: impl FnOnce() -> Option<Entry>) -> Result<Course, IoError> {
        let mut in_flight = self.in_flight();
        self.powered()?;
        let number = in_flight.begun;
        in_flight.begun += 1;
        let drawn = draw(self.config.seed, number);
        let moment = (self.cut_at.load(Ordering::SeqCst) == number).then_some((drawn >> 60) % 3);
        if moment == Some(0) {
            self.is_cut.store(true, Ordering::SeqCst);
            return Err(IoError::Media);
        }
        let turns = (drawn & 0xffff) % (u64::from(self.config.most_turns) + 1);
        if turns > 0 || moment.is_some() {
            in_flight.commands.insert(number, entry());
        }
        if moment == Some(1) {
            self.is_cut.store(true, Ordering::SeqCst);
            return Err(IoError::Media);
        }
        let turns_before = (drawn >> 16 & 0xffff) % (turns + 1);
        let turns_between = (drawn >> 32 & 0xffff) % (turns - turns_before + 1);
        let turns_after = turns - turns_before - turns_between;
        Ok(Course { number, turns_before, turns_between, turns_after, is_last: moment.is_some() })
    }

    /// Makes a part of a write visible.
    fn show(&self, course: &Course, at: u64, content: Content<'_>) -> Result<(), IoError> {
        self.powered()?;
        if content.len() == 0 {
            return Ok(());
        }
        self.cache.write(course.number, at, content);
        if let Some(record) = &self.record {
            record.lock().expect("no panic under this lock").entries.push(Entry::of(at, content));
        }
        Ok(())
    }

    /// The whole write is among the versions now; its content need not be kept apart.
    fn is_visible(&self, number: u64) {
        if let Some(content) = self.in_flight().commands.get_mut(&number) {
            *content = None;
        }
    }

    fn end(&self, course: &Course) -> Result<(), IoError> {
        self.powered()?;
        if course.is_last {
            self.is_cut.store(true, Ordering::SeqCst);
            return Err(IoError::Media);
        }
        self.in_flight().commands.remove(&course.number);
        Ok(())
    }

    /// What a flush that starts now makes durable.
    fn completed(&self) -> Completed {
        let in_flight = self.in_flight();
        Completed { next: in_flight.begun, in_flight: in_flight.commands.keys().copied().collect() }
    }
}

impl Device for SimulatedDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            size: self.0.size.load(Ordering::Acquire),
            block_size: self.0.config.block_size,
            can_discard: true,
            can_write_zeroes: true,
        }
    }

    async fn read(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info(), at, window.len() as u64)?;
        let core = &*self.0;
        core.powered()?;
        // A read changes nothing, so it takes no number; its time follows from where it is and how much was written before.
        let turns = draw(core.config.seed, at ^ core.in_flight().begun << 40) % (u64::from(core.config.most_turns) + 1);
        wait(turns / 2).await;
        core.cache.read(at, &mut buffer[window.clone()]);
        wait(turns - turns / 2).await;
        core.powered()?;
        Ok(window.len())
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Result<usize, IoError> {
        check_range(&self.info(), at, window.len() as u64)?;
        self.change(at, Content::Data(&buffer[window.clone()])).await?;
        Ok(window.len())
    }

    async fn flush(&self) -> Result<(), IoError> {
        let core = &*self.0;
        let completed = core.completed();
        let course = core.begin(|| None)?;
        core.flushes.fetch_add(1, Ordering::Relaxed);
        if let Some(record) = &core.record {
            record.lock().expect("no panic under this lock").entries.push(Entry::Flush);
        }
        wait(course.turns_before + course.turns_between).await;
        core.powered()?;
        core.cache.flush(&completed);
        wait(course.turns_after).await;
        core.end(&course)
    }

    async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        let is_freed = |piece: ByteRange| draw(self.0.config.seed, piece.start() ^ piece.len() << 48) & 1 == 0;
        for piece in range.pieces(16 * PAGE as u64).filter(|piece| is_freed(*piece)) {
            self.zero(piece).await?;
        }
        self.0.powered()
    }

    async fn write_zeroes(&self, range: ByteRange, _space: Zeroes) -> Result<(), IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        self.zero(range).await
    }

    async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        check_range(&self.info(), range.start(), range.len())?;
        self.0.powered()?;
        let (looked_at, _) = range.split_at(PAGES_LOOKED_AT * PAGE as u64);
        let mut extents: Vec<Extent> = Vec::new();
        let first = looked_at.start() % PAGE as u64;
        let (head, rest) = looked_at.split_at(if first == 0 { 0 } else { PAGE as u64 - first });
        for piece in head.pieces(PAGE as u64).chain(rest.pieces(PAGE as u64)) {
            let is_hole = self.0.cache.is_hole(piece.start() / PAGE as u64);
            match extents.last_mut() {
                Some(last) if last.is_hole == is_hole => last.len += piece.len(),
                _ => extents.push(Extent { len: piece.len(), is_hole }),
            }
        }
        Ok(extents)
    }

    fn direct(&self, _range: ByteRange) -> Option<Segment> {
        None
    }
}
