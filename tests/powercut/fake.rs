//! A pool that is as simple as can be, to prove the driver and the model: each volume and snapshot has an area of its own, a
//! snapshot is a full copy, and the table of areas is written in turn to two places. Each key has a block of its own. With a flaw it breaks one promise, and the
//! test has to notice.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{ByteRange, Device, DeviceHandle, IoError, SharedDevice, Zeroes, read_whole, write_whole};
use strongroom::memory::Buffer;
use strongroom::reactor::{Reactor, yield_now};

use super::model::Listed;
use super::subject::{Outcome, Pool, Queue, Trouble, Writing};

/// Nothing is wrong.
pub const SOUND: u8 = 0;
pub const FLUSHES_NOTHING: u8 = 1;
pub const COMMITS_BEFORE_DATA: u8 = 2;
pub const SNAPSHOTS_WITHOUT_PAUSE: u8 = 3;
pub const ROLLS_BACK_IN_PLACE: u8 = 4;
pub const FORGETS_A_DELETION: u8 = 5;
pub const MIXES_UP_AREAS: u8 = 6;
pub const KEEPS_KEYS_OF_DELETED: u8 = 7;
pub const DESTROYS_KEYS_TOO_EARLY: u8 = 8;
pub const KEEPS_REPLACED_KEYS: u8 = 9;
pub const LEAVES_WHAT_WAS_UNDER_WAY: u8 = 10;
pub const NAMES_KEYS_TOO_EARLY: u8 = 11;

const TABLE: u64 = 1 << 20;
const AREA: u64 = 4 << 40;
/// Where volumes are hot, as the driver has it: what is copied.
const WINDOWS: [u64; 4] = [0, (32 << 20) - (1 << 20), (8 << 30) - (1 << 20), (2 << 40) - (1 << 20)];
const WINDOW: u64 = 2 << 20;
const COPIED_AT_ONCE: u64 = 256 << 10;

/// Behind the tables there is a block for each key.
const KEYS: u64 = 2 * TABLE;
const KEY_BLOCK: u64 = 4096;
/// So many more numbers of areas and blocks may have been used than the last table says.
const MOST_UNKNOWN: u64 = 1000;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Table {
    /// The area and the size of each volume and snapshot.
    areas: BTreeMap<String, (u64, u64)>,
    /// The block of its key.
    keys: BTreeMap<String, u64>,
}

/// The pool.
pub struct FakePool<const FLAW: u8> {
    reactor: Reactor,
    device: Rc<DeviceHandle>,
    table: RefCell<Table>,
    /// The keys in the blocks.
    keys: RefCell<BTreeMap<u64, Vec<u8>>>,
    next_area: Cell<u64>,
    sequence: Cell<u64>,
    committing: Cell<bool>,
    open: RefCell<BTreeMap<String, Rc<FakeQueue<FLAW>>>>,
}

/// A volume.
pub struct FakeQueue<const FLAW: u8> {
    device: Rc<DeviceHandle>,
    area: Cell<u64>,
    writing: Cell<u32>,
    paused: Cell<bool>,
}

fn other(error: IoError) -> Trouble {
    Trouble::Other(error.to_string())
}

impl<const FLAW: u8> FakePool<FLAW> {
    fn new(reactor: &Reactor, device: &SharedDevice) -> Outcome<Self> {
        let handle = device.handle(reactor).map_err(|error| Trouble::Other(error.to_string()))?;
        Ok(Self {
            reactor: reactor.clone(),
            device: Rc::new(handle),
            table: RefCell::default(),
            keys: RefCell::default(),
            next_area: Cell::new(1),
            sequence: Cell::new(0),
            committing: Cell::new(false),
            open: RefCell::default(),
        })
    }

    /// Makes a change of the table durable, after everything that was written before.
    async fn commit(&self, change: impl FnOnce(&mut Table)) -> Outcome<()> {
        while self.committing.get() {
            yield_now().await;
        }
        self.committing.set(true);
        let mut table = self.table.borrow().clone();
        change(&mut table);
        let result = self.write_table(&table).await;
        if result.is_ok() {
            *self.table.borrow_mut() = table;
        }
        self.committing.set(false);
        result.map_err(other)
    }

    async fn write_table(&self, table: &Table) -> Result<(), IoError> {
        if FLAW != COMMITS_BEFORE_DATA {
            self.device.flush().await?;
        }
        let sequence = self.sequence.get() + 1;
        let text = serde_json::to_vec(&(sequence, self.next_area.get(), table)).expect("a table");
        let len = (text.len() + 16).next_multiple_of(4096);
        let mut buffer = self.reactor.buffers().take(len).await;
        buffer.fill(0);
        buffer[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
        buffer[8..12].copy_from_slice(&crc32c::crc32c(&text).to_le_bytes());
        buffer[16..16 + text.len()].copy_from_slice(&text);
        write_whole(&*self.device, sequence % 2 * TABLE, &mut buffer, 0..len).await?;
        self.device.flush().await?;
        self.sequence.set(sequence);
        Ok(())
    }

    async fn read_table(&self) -> Outcome<()> {
        for place in [0, TABLE] {
            let mut buffer = self.reactor.buffers().take(65536).await;
            read_whole(&*self.device, place, &mut buffer, 0..65536).await.map_err(other)?;
            let len = u64::from_le_bytes(buffer[..8].try_into().expect("eight")) as usize;
            let sum = u32::from_le_bytes(buffer[8..12].try_into().expect("four"));
            let Some(text) = buffer.get(16..16 + len.min(1 << 20)).filter(|text| crc32c::crc32c(text) == sum) else {
                continue;
            };
            if let Ok((sequence, next_area, table)) = serde_json::from_slice::<(u64, u64, Table)>(text)
                && sequence > self.sequence.get()
            {
                self.sequence.set(sequence);
                self.next_area.set(next_area);
                *self.table.borrow_mut() = table;
            }
        }
        if self.sequence.get() == 0 { Err(Trouble::Other("no table".to_owned())) } else { Ok(()) }
    }

    async fn write_key(&self, block: u64, key: &[u8]) -> Outcome<()> {
        let mut buffer = self.reactor.buffers().take(KEY_BLOCK as usize).await;
        buffer[..KEY_BLOCK as usize].fill(0);
        buffer[..key.len()].copy_from_slice(key);
        buffer[KEY_BLOCK as usize - 8..][..8].copy_from_slice(&(key.len() as u64).to_le_bytes());
        let at = KEYS + block * KEY_BLOCK;
        write_whole(&*self.device, at, &mut buffer, 0..KEY_BLOCK as usize).await.map_err(other)
    }

    async fn read_keys(&self) -> Outcome<()> {
        let blocks: Vec<u64> = self.table.borrow().keys.values().copied().collect();
        for block in blocks {
            let mut buffer = self.reactor.buffers().take(KEY_BLOCK as usize).await;
            let at = KEYS + block * KEY_BLOCK;
            read_whole(&*self.device, at, &mut buffer, 0..KEY_BLOCK as usize).await.map_err(other)?;
            let len = u64::from_le_bytes(buffer[KEY_BLOCK as usize - 8..][..8].try_into().expect("eight")) as usize;
            self.keys.borrow_mut().insert(block, buffer[..len].to_vec());
        }
        Ok(())
    }

    /// Fills blocks of keys with zeros, durably.
    async fn destroy(&self, blocks: Range<u64>) -> Outcome<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let len = (blocks.end - blocks.start) * KEY_BLOCK;
        let range = ByteRange::new(KEYS + blocks.start * KEY_BLOCK, len).expect("before the areas");
        self.device.write_zeroes(range, Zeroes::MayFree).await.map_err(other)?;
        self.device.flush().await.map_err(other)
    }

    async fn destroy_all_others(&self) -> Outcome<()> {
        let named: std::collections::BTreeSet<u64> = self.table.borrow().keys.values().copied().collect();
        let mut from = 0;
        for block in named.into_iter().chain([self.next_area.get()]) {
            self.destroy(from..block).await?;
            from = block + 1;
        }
        Ok(())
    }

    fn new_area(&self) -> u64 {
        self.next_area.replace(self.next_area.get() + 1)
    }

    fn found(&self, name: &str) -> Outcome<(u64, u64)> {
        self.table.borrow().areas.get(name).copied().ok_or_else(|| Trouble::Other(format!("{name} is not there")))
    }

    async fn copy(&self, from: u64, to: u64, size: u64) -> Outcome<()> {
        for window in WINDOWS {
            let end = size.min(window + WINDOW);
            let mut at = window;
            while at < end {
                let len = COPIED_AT_ONCE.min(end - at) as usize;
                let mut buffer = self.reactor.buffers().take(len).await;
                read_whole(&*self.device, from * AREA + at, &mut buffer, 0..len).await.map_err(other)?;
                write_whole(&*self.device, to * AREA + at, &mut buffer, 0..len).await.map_err(other)?;
                at += len as u64;
            }
        }
        Ok(())
    }

    async fn move_to(&self, volume: &str, from: u64, to: u64, size: u64) -> Outcome<()> {
        self.copy(from, to, size).await?;
        self.commit(|table| {
            table.areas.insert(volume.to_owned(), (to, size));
        })
        .await
    }

    /// Waits until nobody writes, and lets nobody begin until [`resume`].
    async fn paused(&self, name: &str) -> Option<Rc<FakeQueue<FLAW>>> {
        let queue = self.queue(name).ok()?;
        if FLAW != SNAPSHOTS_WITHOUT_PAUSE {
            queue.paused.set(true);
            while queue.writing.get() > 0 {
                yield_now().await;
            }
        }
        Some(queue)
    }
}

fn resume<const FLAW: u8>(queue: Option<Rc<FakeQueue<FLAW>>>) {
    if let Some(queue) = queue {
        queue.paused.set(false);
    }
}

impl<const FLAW: u8> Pool for FakePool<FLAW> {
    type Queue = FakeQueue<FLAW>;
    const SLACK: u64 = 0;

    fn smallest_device() -> u64 {
        1 << 60
    }

    async fn format(reactor: &Reactor, device: &Arc<SharedDevice>) -> Outcome<()> {
        Self::new(reactor, device)?.commit(|_| {}).await
    }

    async fn open(reactor: &Reactor, device: Arc<SharedDevice>) -> Outcome<Rc<Self>> {
        let pool = Self::new(reactor, &device)?;
        pool.read_table().await?;
        // What was written to areas that no table names is not there: areas are numbered on from behind it.
        pool.next_area.set(pool.next_area.get() + MOST_UNKNOWN);
        pool.commit(|_| {}).await?;
        pool.read_keys().await?;
        if FLAW != LEAVES_WHAT_WAS_UNDER_WAY {
            pool.destroy_all_others().await?;
        }
        Ok(Rc::new(pool))
    }

    async fn close(self: Rc<Self>) -> Outcome<()> {
        self.commit(|_| {}).await
    }

    async fn check(_: &Reactor, _: &Arc<SharedDevice>) -> Outcome<()> {
        Ok(())
    }

    fn list(&self) -> Vec<Listed> {
        let table = self.table.borrow();
        let key = |name| Some(self.keys.borrow()[table.keys.get(name)?].clone());
        table.areas.iter().map(|(name, &(_, size))| Listed { name: name.clone(), size, key: key(name) }).collect()
    }

    fn used(&self) -> u64 {
        self.table.borrow().areas.len() as u64
    }

    fn queue(&self, name: &str) -> Outcome<Rc<Self::Queue>> {
        let (area, _) = self.found(name)?;
        let open = || {
            let device = self.device.clone();
            Rc::new(FakeQueue { device, area: Cell::new(area), writing: Cell::new(0), paused: Cell::new(false) })
        };
        Ok(self.open.borrow_mut().entry(name.to_owned()).or_insert_with(open).clone())
    }

    async fn create(&self, name: &str, size: u64, key: Option<Vec<u8>>) -> Outcome<()> {
        let block = self.new_area();
        if let Some(key) = &key
            && FLAW != NAMES_KEYS_TOO_EARLY
        {
            self.write_key(block, key).await?;
        }
        self.keys.borrow_mut().extend(key.clone().map(|key| (block, key)));

        let area =
            if FLAW == MIXES_UP_AREAS { 7 + self.table.borrow().areas.len() as u64 % 4 } else { self.new_area() };
        self.commit(|table| {
            table.areas.insert(name.to_owned(), (area, size));
            table.keys.extend(key.iter().map(|_| (name.to_owned(), block)));
        })
        .await?;
        if let Some(key) = &key
            && FLAW == NAMES_KEYS_TOO_EARLY
        {
            self.write_key(block, key).await?;
            self.device.flush().await?;
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Outcome<bool> {
        self.found(name)?;
        self.open.borrow_mut().remove(name);
        if FLAW == FORGETS_A_DELETION && name.contains('@') && !self.table.borrow().keys.contains_key(name) {
            self.table.borrow_mut().areas.remove(name);
            return Ok(false);
        }
        // As late as can be: the key may be replaced meanwhile.
        let last_with = |table: &Table| {
            let key = table.keys.get(name).copied();
            key.filter(|key| table.keys.values().filter(|other| *other == key).count() == 1)
        };
        if FLAW == DESTROYS_KEYS_TOO_EARLY {
            let last = last_with(&self.table.borrow());
            if let Some(block) = last {
                self.destroy(block..block + 1).await?;
            }
        }
        let mut last = None;
        self.commit(|table| {
            last = last_with(table);
            table.areas.remove(name);
            table.keys.remove(name);
        })
        .await?;
        if let Some(block) = last
            && FLAW != KEEPS_KEYS_OF_DELETED
        {
            self.destroy(block..block + 1).await?;
        }
        Ok(last.is_some())
    }

    async fn replace_key(&self, volume: &str, key: Vec<u8>) -> Outcome<()> {
        let new = self.new_area();
        self.write_key(new, &key).await?;
        let old = self.table.borrow().keys[volume];
        self.keys.borrow_mut().insert(new, key);
        self.commit(|table| table.keys.values_mut().filter(|block| **block == old).for_each(|block| *block = new))
            .await?;
        if FLAW == KEEPS_REPLACED_KEYS { Ok(()) } else { self.destroy(old..old + 1).await }
    }

    async fn snapshot(&self, volume: &str, name: &str) -> Outcome<()> {
        let (from, size) = self.found(volume)?;
        let (to, queue) = (self.new_area(), self.paused(volume).await);
        let copied = self.copy(from, to, size).await;
        resume(queue);
        copied?;
        self.commit(|table| {
            table.areas.insert(format!("{volume}@{name}"), (to, size));
            table.keys.extend(table.keys.get(volume).copied().map(|block| (format!("{volume}@{name}"), block)));
        })
        .await
    }

    async fn clone_snapshot(&self, snapshot: &str, name: &str) -> Outcome<()> {
        let (from, size) = self.found(snapshot)?;
        let to = self.new_area();
        self.copy(from, to, size).await?;
        self.commit(|table| {
            table.areas.insert(name.to_owned(), (to, size));
            table.keys.extend(table.keys.get(snapshot).copied().map(|block| (name.to_owned(), block)));
        })
        .await
    }

    async fn rollback(&self, volume: &str, snapshot: &str) -> Outcome<()> {
        self.reinitialise(volume, Some(&format!("{volume}@{snapshot}"))).await
    }

    async fn reinitialise(&self, volume: &str, source: Option<&str>) -> Outcome<()> {
        // An area that was never used is empty.
        let (from, size) = match source {
            Some(source) => self.found(source)?,
            None => (self.new_area(), 0),
        };
        let size = size.max(self.found(volume)?.1);
        let queue = self.paused(volume).await;
        let to = if FLAW == ROLLS_BACK_IN_PLACE { self.found(volume)?.0 } else { self.new_area() };
        let done = self.move_to(volume, from, to, size).await;
        if let (Ok(()), Some(queue)) = (&done, &queue) {
            queue.area.set(to);
        }
        resume(queue);
        done
    }

    async fn resize(&self, volume: &str, size: u64) -> Outcome<()> {
        let (from, old) = self.found(volume)?;
        if size > old {
            return self
                .commit(|table| {
                    table.areas.insert(volume.to_owned(), (from, size));
                })
                .await;
        }
        let (to, queue) = (self.new_area(), self.paused(volume).await);
        let done = self.move_to(volume, from, to, size).await;
        if let (Ok(()), Some(queue)) = (&done, &queue) {
            queue.area.set(to);
        }
        resume(queue);
        done
    }

    async fn commit(&self) -> Outcome<()> {
        FakePool::commit(self, |_| {}).await
    }

    async fn checkpoint(&self) -> Outcome<()> {
        FakePool::commit(self, |_| {}).await
    }

    async fn settle(&self) {}
}

impl<const FLAW: u8> FakeQueue<FLAW> {
    async fn writing<T>(&self, write: impl Future<Output = Result<T, IoError>>) -> Outcome<T> {
        while self.paused.get() {
            yield_now().await;
        }
        self.writing.set(self.writing.get() + 1);
        let result = write.await;
        self.writing.set(self.writing.get() - 1);
        result.map_err(other)
    }
}

impl<const FLAW: u8> Queue for FakeQueue<FLAW> {
    async fn read(&self, at: u64, buffer: &mut Buffer, len: usize) -> Outcome<()> {
        read_whole(&*self.device, self.area.get() * AREA + at, buffer, 0..len).await.map_err(other)
    }

    async fn write(&self, at: u64, buffer: &mut Buffer, window: Range<usize>) -> Outcome<Writing> {
        let write = async { write_whole(&*self.device, self.area.get() * AREA + at, buffer, window).await };
        self.writing(write).await.map(|()| Writing::Done)
    }

    async fn discard(&self, range: ByteRange) -> Outcome<()> {
        let start = range.start().next_multiple_of(4096);
        let end = range.end() / 4096 * 4096;
        if start >= end {
            return Ok(());
        }
        let zero = async {
            let range = ByteRange::new(self.area.get() * AREA + start, end - start).expect("within the area");
            self.device.write_zeroes(range, Zeroes::MayFree).await
        };
        self.writing(zero).await
    }

    async fn flush(&self) -> Outcome<()> {
        if FLAW == FLUSHES_NOTHING {
            yield_now().await;
            return Ok(());
        }
        self.device.flush().await.map_err(other)
    }
}
