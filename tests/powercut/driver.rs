//! The driver: carries out commands on a pool, several at once, and tells the model when each begins and is answered.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{SharedDevice, SimulatedDevice};
use strongroom::reactor::{Reactor, yield_now};

use super::keys;
use super::model::{Model, State};
use super::op::Op;
use super::sectors::{CLUSTER, Content, SECTOR, SECTORS};
use super::subject::{Outcome, Pool, Queue, Trouble, Writing};

pub const BLOCK: u64 = 4096;
/// A driver that waits for so many turns says that something hangs.
const TURNS_MOST: u64 = 1_000_000;
/// As many volumes as this, and snapshots.
const VOLUMES_MOST: usize = 6;
const SNAPSHOTS_MOST: usize = 8;
/// Sizes of volumes: one cluster and less, a few, and across the borders of leaves (32 MiB), branches (8 GiB) and root pages (2 TiB).
const SIZES: [u64; 10] = [
    4096,
    98304,
    1 << 20,
    1 << 20,
    2 << 20,
    3 << 20,
    (32 << 20) + (1 << 19),
    (64 << 20) + 8192,
    (8 << 30) + (1 << 19),
    (2 << 40) + (1 << 19),
];
/// Where in a volume it is hot: at its beginning and on both sides of the borders.
const SPOTS: [u64; 4] = [0, (32 << 20) - (1 << 17), (8 << 30) - (1 << 17), (2 << 40) - (1 << 17)];

/// Who has which blocks of a volume: writes and discards share them, the filling up of an absent block does not.
#[derive(Default)]
struct Blocks(RefCell<Vec<(Range<u64>, bool)>>);

impl Blocks {
    async fn take(&self, blocks: Range<u64>, alone: bool) {
        while self
            .0
            .borrow()
            .iter()
            .any(|(taken, is_alone)| (alone || *is_alone) && taken.start < blocks.end && blocks.start < taken.end)
        {
            yield_now().await;
        }
        self.0.borrow_mut().push((blocks, alone));
    }

    fn give_back(&self, blocks: &Range<u64>, alone: bool) {
        let mut taken = self.0.borrow_mut();
        let place = taken.iter().position(|(taken, is_alone)| taken == blocks && *is_alone == alone);
        taken.swap_remove(place.expect("taken before"));
    }
}

/// A volume that is open.
struct Open<Q> {
    queue: Rc<Q>,
    blocks: Blocks,
}

/// Carries out commands until the power goes, or there are none left.
pub struct Driver<P: Pool> {
    pub reactor: Reactor,
    pub device: SimulatedDevice,
    pub pool: Rc<P>,
    pub model: RefCell<Model>,
    open: RefCell<BTreeMap<String, Rc<Open<P::Queue>>>>,
    block_size: u64,
    failure: RefCell<Option<String>>,
    /// What was done, for whoever looks into a failure.
    pub trace: Rc<RefCell<Vec<String>>>,
    under_way: RefCell<BTreeMap<u64, String>>,
    next: Cell<u64>,
}

impl<P: Pool> Driver<P> {
    /// Opens the pool on a device.
    pub async fn open(
        reactor: &Reactor,
        device: &SimulatedDevice,
        block_size: u64,
        model: Model,
        trace: Rc<RefCell<Vec<String>>>,
    ) -> Outcome<Rc<Self>> {
        let shared = Arc::new(SharedDevice::simulated("sim", device.clone()));
        let pool = P::open(reactor, shared).await?;
        Ok(Rc::new(Self {
            reactor: reactor.clone(),
            device: device.clone(),
            pool,
            model: RefCell::new(model),
            open: RefCell::default(),
            block_size,
            failure: RefCell::default(),
            trace,
            under_way: RefCell::default(),
            next: Cell::new(0),
        }))
    }

    /// Carries out the commands with so many in flight.
    pub async fn run(self: &Rc<Self>, ops: Vec<Op>, at_once: usize) -> Result<(), String> {
        let ops = Rc::new(RefCell::new(VecDeque::from(ops)));
        let left = Rc::new(Cell::new(at_once));
        for _ in 0..at_once {
            let (driver, ops, left) = (self.clone(), ops.clone(), left.clone());
            self.reactor.spawn(async move {
                while driver.goes_on() {
                    let Some(op) = ops.borrow_mut().pop_front() else { break };
                    driver.carry_out(op).await;
                }
                left.set(left.get() - 1);
            });
        }
        let mut turns = 0;
        while left.get() > 0 {
            yield_now().await;
            turns += 1;
            if turns > TURNS_MOST {
                return Err(format!("these commands hang: {:#?}", self.under_way.borrow()));
            }
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn goes_on(&self) -> bool {
        !self.device.is_cut() && self.failure.borrow().is_none()
    }

    /// Ends all use of the pool's volumes and gives the model back.
    pub fn end(&self) -> Model {
        self.open.borrow_mut().clear();
        self.model.take()
    }

    fn fail(&self, what: impl Display) {
        self.failure.borrow_mut().get_or_insert_with(|| what.to_string());
    }

    async fn carry_out(&self, op: Op) {
        let number = self.next.replace(self.next.get() + 1);
        self.under_way.borrow_mut().insert(number, format!("{op:?}"));
        match op {
            Op::Write { volume, at, len } => self.write(volume, at, len).await,
            Op::Read { volume, at, len } => self.read(volume, at, len).await,
            Op::Discard { volume, at, len } => self.discard(volume, at, len).await,
            Op::Flush { volume } => self.flush(volume).await,
            Op::Create { size } => self.create(size).await,
            Op::Delete { volume } => self.delete_volume(volume).await,
            Op::Snapshot { volume } => self.snapshot(volume).await,
            Op::DeleteSnapshot { snapshot } => self.delete_snapshot(snapshot).await,
            Op::Clone { snapshot } => self.clone_snapshot(snapshot).await,
            Op::Rollback { snapshot } => self.rollback(snapshot).await,
            Op::Reinitialise { volume, source } => self.reinitialise(volume, source).await,
            Op::Resize { volume, size } => self.resize(volume, size).await,
            Op::ReplaceKey { volume } => self.replace_key(volume).await,
            Op::CheckSnapshot { snapshot } => self.look_at_snapshot(snapshot).await,
            Op::Commit => self.commit(false).await,
            Op::Checkpoint => self.commit(true).await,
            Op::Settle => self.pool.settle().await,
        }
        self.under_way.borrow_mut().remove(&number);
    }

    pub fn note(&self, what: impl Display) {
        self.trace.borrow_mut().push(what.to_string());
    }

    /// What an answer means for the model: done, not done, or unknown because the power went.
    fn judge<T>(&self, what: impl Display, outcome: Outcome<T>) -> Answer<T> {
        match outcome {
            Ok(value) => {
                self.note(format_args!("    {what}: done"));
                Answer::Done(value)
            }
            Err(_) if self.device.is_cut() => Answer::Unknown,
            Err(Trouble::NoSpace) => {
                self.note(format_args!("    {what}: no space"));
                Answer::NoSpace
            }
            Err(Trouble::Other(error)) => {
                self.fail(format_args!("{what}: {error}, although the power is on"));
                Answer::Unknown
            }
        }
    }

    /// Chooses among the volumes or snapshots for which `is_fit`.
    fn choose(&self, number: u16, is_fit: impl Fn(&super::model::Volume) -> bool) -> Option<String> {
        let model = self.model.borrow();
        let fit: Vec<_> =
            model.volumes.iter().filter(|(_, volume)| volume.state == State::Here && is_fit(volume)).collect();
        fit.get(usize::from(number) % fit.len().max(1)).map(|(name, _)| (*name).clone())
    }

    fn count(&self, is_counted: impl Fn(&super::model::Volume) -> bool) -> usize {
        self.model.borrow().volumes.values().filter(|volume| is_counted(volume)).count()
    }

    /// A volume for a command; [`Driver::leave`] ends it.
    fn enter(&self, number: u16) -> Option<(String, Rc<Open<P::Queue>>)> {
        let name = self.choose(number, |volume| !volume.is_snapshot() && !volume.is_closed)?;
        let open = self.opened(&name)?;
        self.model.borrow_mut().volume(&name).users += 1;
        Some((name, open))
    }

    fn leave(&self, name: &str) {
        self.model.borrow_mut().volume(name).users -= 1;
    }

    fn opened(&self, name: &str) -> Option<Rc<Open<P::Queue>>> {
        if let Some(open) = self.open.borrow().get(name) {
            return Some(open.clone());
        }
        match self.judge(format_args!("open {name}"), self.pool.queue(name)) {
            Answer::Done(queue) => {
                let open = Rc::new(Open { queue, blocks: Blocks::default() });
                self.open.borrow_mut().insert(name.to_owned(), open.clone());
                Some(open)
            }
            _ => None,
        }
    }

    /// Where a command goes: a place in one of the hot spots, within the volume; none if the volume is too small.
    fn place(&self, name: &str, at: u32, len: u32) -> Option<(u64, u64)> {
        let size = self.model.borrow().volumes[name].size;
        let spots = SPOTS.iter().filter(|&&spot| spot < size).count() as u64;
        let unit = self.block_size.max(SECTOR);
        let spot = SPOTS[(u64::from(at) % spots) as usize];
        // Most commands start at a block.
        let within = if at & 0x300 == 0 { u64::from(at) * 7 } else { u64::from(at) * 7 / BLOCK * BLOCK };
        let at = (spot + within % (1 << 19)).min(size - unit) / unit * unit;
        let len = u64::from(len).next_multiple_of(unit).min(size - at);
        (len > 0).then_some((at, len))
    }

    async fn write(&self, volume: u16, at: u32, len: u32) {
        let Some((name, open)) = self.enter(volume) else { return };
        if let Some((at, len)) = self.place(&name, at, len) {
            let blocks = at / BLOCK..(at + len).div_ceil(BLOCK);
            open.blocks.take(blocks.clone(), false).await;
            let sectors = at / SECTOR..(at + len) / SECTOR;
            let value = self.model.borrow_mut().new_value(&name);
            let start = self.model.borrow_mut().begin_write(&name, sectors.clone(), value);
            self.note(format_args!("{start}: write {value} to {name} sectors {sectors:?}"));
            let mut buffer = self.reactor.buffers().take(len as usize).await;
            self.model.borrow().fill(&mut buffer[..len as usize], value, sectors.start);
            let written = open.queue.write(at, &mut buffer, 0..len as usize).await;
            open.blocks.give_back(&blocks, false);
            let outcome = match written {
                Ok(Writing::Done) => Ok(()),
                Ok(Writing::PartlyAbsent) => {
                    // Beside the block locks: a rollback in between would bring content where this saw absence.
                    open.blocks.take(blocks.clone(), true).await;
                    let outcome = self.fill_up(&open.queue, at, &buffer[..len as usize]).await;
                    open.blocks.give_back(&blocks, true);
                    outcome
                }
                Err(trouble) => Err(trouble),
            };
            match self.judge(format_args!("write {value}"), outcome) {
                Answer::Done(()) => self.model.borrow_mut().end_write(&name, sectors, start),
                Answer::NoSpace => self.model.borrow_mut().fail_write(&name, sectors, start),
                Answer::Unknown => {}
            }
        }
        self.leave(&name);
    }

    /// Writes block by block; an absent one is written as a whole, the rest as zeros, as `disk/` does.
    async fn fill_up(&self, queue: &P::Queue, at: u64, data: &[u8]) -> Outcome<()> {
        let mut done = 0;
        while done < data.len() {
            let from = at + done as u64;
            let within = (from % BLOCK) as usize;
            let len = (BLOCK as usize - within).min(data.len() - done);
            let mut buffer = self.reactor.buffers().take(BLOCK as usize).await;
            buffer.fill(0);
            buffer[within..within + len].copy_from_slice(&data[done..done + len]);
            let written = queue.write(from, &mut buffer, within..within + len).await?;
            if written == Writing::PartlyAbsent {
                let written = queue.write(from - within as u64, &mut buffer, 0..BLOCK as usize).await?;
                if written == Writing::PartlyAbsent {
                    return Err(Trouble::Other("a whole block is called partly absent".to_owned()));
                }
            }
            done += len;
        }
        Ok(())
    }

    async fn read(&self, volume: u16, at: u32, len: u32) {
        let Some((name, open)) = self.enter(volume) else { return };
        if let Some((at, len)) = self.place(&name, at, len) {
            let start = self.model.borrow_mut().begin_running(&name);
            let mut buffer = self.reactor.buffers().take(len as usize).await;
            buffer.fill(0xee);
            let outcome = open.queue.read(at, &mut buffer, len as usize).await;
            if let Answer::Done(()) = self.judge(format_args!("{start}: read {name} at {at}+{len}"), outcome) {
                let checked = self.model.borrow().check_read(&name, at / SECTOR, &buffer[..len as usize], start);
                checked.unwrap_or_else(|wrong| self.fail(format_args!("while in use: {wrong}")));
            }
            self.model.borrow_mut().end_running(&name, start);
        }
        self.leave(&name);
    }

    async fn discard(&self, volume: u16, at: u32, len: u32) {
        let Some((name, open)) = self.enter(volume) else { return };
        if let Some((at, len)) = self.place(&name, at, len) {
            // Whole blocks within the range are freed; the edges stay.
            let whole = at.next_multiple_of(BLOCK)..((at + len) / BLOCK * BLOCK).max(at.next_multiple_of(BLOCK));
            let (blocks, sectors) = (whole.start / BLOCK..whole.end / BLOCK, whole.start / SECTOR..whole.end / SECTOR);
            open.blocks.take(blocks.clone(), false).await;
            let start = self.model.borrow_mut().begin_write(&name, sectors.clone(), 0);
            self.note(format_args!("{start}: discard {name} sectors {sectors:?}"));
            let range = strongroom::device::ByteRange::new(at, len).expect("within the volume");
            let outcome = open.queue.discard(range).await;
            open.blocks.give_back(&blocks, false);
            match self.judge(format_args!("discard of {start}"), outcome) {
                Answer::Done(()) => self.model.borrow_mut().end_write(&name, sectors, start),
                // A full pool may have no page left for a map that a snapshot shares.
                Answer::NoSpace => self.model.borrow_mut().fail_write(&name, sectors, start),
                Answer::Unknown => {}
            }
        }
        self.leave(&name);
    }

    async fn flush(&self, volume: u16) {
        let Some((name, open)) = self.enter(volume) else { return };
        let start = self.model.borrow_mut().tick();
        self.note(format_args!("{start}: flush {name}"));
        let outcome = open.queue.flush().await;
        match self.judge(format_args!("flush of {start}"), outcome) {
            Answer::Done(()) => self.model.borrow_mut().flushed(&name, start),
            Answer::NoSpace => self.fail("a flush found no space"),
            Answer::Unknown => {}
        }
        self.leave(&name);
    }

    async fn create(&self, size: u16) {
        if self.count(|volume| !volume.is_snapshot()) >= VOLUMES_MOST {
            return;
        }
        let name = self.model.borrow_mut().new_name("v");
        let has_key = size % 4 >= 2;
        let size = SIZES[usize::from(size) % SIZES.len()];
        let start = self.model.borrow_mut().begin_making(&name, size, Content::default(), None);
        let key = has_key.then(|| self.model.borrow_mut().begin_lineage(&name));
        self.note(format_args!("{start}: create {name} with {size} bytes and key {key:?}"));
        let outcome = self.pool.create(&name, size, key.map(keys::bytes_of)).await;
        self.end_making(&name, outcome);
    }

    fn end_making(&self, name: &str, outcome: Outcome<()>) {
        match self.judge(format_args!("make {name}"), outcome) {
            Answer::Done(()) => {
                let mut model = self.model.borrow_mut();
                let volume = model.volume(name);
                (volume.state, volume.is_busy) = (State::Here, false);
                drop(model);
                self.check_key(name);
            }
            Answer::NoSpace => {
                self.model.borrow_mut().remove(name);
                self.look_for_gone_keys();
            }
            Answer::Unknown => {}
        }
    }

    /// Holds the key of a volume or snapshot against the model.
    fn check_key(&self, name: &str) {
        let listed = self.pool.list().into_iter().find(|listed| listed.name == name);
        let model = self.model.borrow();
        let checked = model.keys.check(model.volumes[name].lineage, listed.and_then(|listed| listed.key).as_deref());
        checked.unwrap_or_else(|wrong| self.fail(format_args!("{name}: {wrong}")));
    }

    /// A key may be gone since the last answer: then it is nowhere.
    fn look_for_gone_keys(&self) {
        let checked = self.model.borrow().keys.check_found(&keys::found_on(&self.device));
        checked.unwrap_or_else(|wrong| self.fail(wrong));
    }

    async fn replace_key(&self, number: u16) {
        let Some(name) = self.choose(number, |volume| volume.lineage.is_some() && !volume.is_busy) else { return };
        let lineage = self.model.borrow().volumes[&name].lineage.expect("one was asked for");
        let Some(key) = self.model.borrow_mut().keys.begin_replacing(lineage) else { return };
        self.model.borrow_mut().volume(&name).is_busy = true;
        self.note(format_args!("replace the key of {name} by {key}"));
        let outcome = self.pool.replace_key(&name, keys::bytes_of(key)).await;
        match self.judge(format_args!("replacement by key {key}"), outcome) {
            Answer::Done(()) => self.model.borrow_mut().keys.end_replacing(lineage),
            Answer::NoSpace => self.fail("the replacement of a key found no space"),
            Answer::Unknown => return,
        }
        self.model.borrow_mut().volume(&name).is_busy = false;
        self.check_key(&name);
        self.look_for_gone_keys();
    }

    async fn delete_volume(&self, number: u16) {
        let idle = |volume: &super::model::Volume| !volume.is_snapshot() && !volume.is_busy;
        let Some(name) = self.choose(number, idle) else { return };
        self.close_volume(&name).await;
        self.open.borrow_mut().remove(&name);
        self.delete(&name).await;
    }

    /// Waits until nobody uses the volume, and lets nobody in.
    async fn close_volume(&self, name: &str) {
        {
            let mut model = self.model.borrow_mut();
            (model.volume(name).is_closed, model.volume(name).is_busy) = (true, true);
        }
        while self.model.borrow().volumes[name].users > 0 {
            yield_now().await;
        }
    }

    async fn delete_snapshot(&self, number: u16) {
        let Some(name) = self.choose(number, |volume| volume.is_snapshot() && !volume.is_busy) else { return };
        self.delete(&name).await;
    }

    async fn delete(&self, name: &str) {
        {
            let mut model = self.model.borrow_mut();
            let now = model.tick();
            (model.volume(name).state, model.volume(name).is_busy) = (State::Going, true);
            self.note(format_args!("{now}: delete {name}"));
        }
        let outcome = self.pool.delete(name).await;
        match self.judge(format_args!("delete {name}"), outcome) {
            Answer::Done(destroyed) => {
                let is_last = self.model.borrow_mut().remove(name);
                if destroyed != is_last {
                    self.fail(format_args!(
                        "delete {name}: destroyed a key: {destroyed}, and it was the last: {is_last}"
                    ));
                }
                if is_last {
                    self.look_for_gone_keys();
                }
            }
            Answer::NoSpace => {
                let mut model = self.model.borrow_mut();
                let volume = model.volume(name);
                (volume.state, volume.is_busy, volume.is_closed) = (State::Here, false, false);
            }
            Answer::Unknown => {}
        }
    }

    async fn snapshot(&self, number: u16) {
        if self.count(|volume| volume.is_snapshot()) >= SNAPSHOTS_MOST {
            return;
        }
        let Some(volume) = self.choose(number, |volume| !volume.is_snapshot() && !volume.is_busy) else { return };
        let short = self.model.borrow_mut().new_name("s");
        let name = format!("{volume}@{short}");
        let start = {
            let mut model = self.model.borrow_mut();
            model.volume(&volume).is_busy = true;
            let size = model.volume(&volume).size;
            model.begin_making(&name, size, Content::default(), Some(&volume))
        };
        self.note(format_args!("{start}: snapshot {name}"));
        let outcome = self.pool.snapshot(&volume, &short).await;
        match self.judge(format_args!("snapshot {name}"), outcome) {
            Answer::Done(()) => {
                self.model.borrow_mut().end_snapshot(&name);
                self.check_key(&name);
            }
            Answer::NoSpace => {
                let mut model = self.model.borrow_mut();
                model.remove(&name);
                model.end_running(&volume, start);
            }
            Answer::Unknown => return,
        }
        self.model.borrow_mut().volume(&volume).is_busy = false;
    }

    async fn look_at_snapshot(&self, number: u16) {
        let Some(name) = self.choose(number, |volume| volume.is_snapshot() && !volume.is_busy) else { return };
        self.model.borrow_mut().volume(&name).is_busy = true;
        if self.check_snapshot(&name).await.is_some() {
            self.model.borrow_mut().volume(&name).is_busy = false;
        }
    }

    /// Reads a snapshot through a clone; none if the power went, or the clone found no space.
    pub async fn check_snapshot(&self, name: &str) -> Option<()> {
        let clone = self.model.borrow_mut().new_name("look");
        let made = self.pool.clone_snapshot(name, &clone).await;
        match self.judge(format_args!("clone {name} as {clone}, to look at it"), made) {
            Answer::Done(()) => {}
            Answer::NoSpace => {
                self.model.borrow_mut().volume(name).is_busy = false;
                return None;
            }
            Answer::Unknown => return None,
        }
        let Answer::Done(queue) = self.judge(format_args!("open {clone}"), self.pool.queue(&clone)) else {
            return None;
        };
        let read = self.read_whole(name, &*queue).await;
        drop(queue);
        let Answer::Done(pieces) = self.judge(format_args!("read {clone}"), read) else { return None };
        let checked = self.model.borrow_mut().check_whole(name, &pieces);
        if let Err(wrong) = checked {
            self.fail(wrong);
            return None;
        }
        match self.judge(format_args!("delete {clone}"), self.pool.delete(&clone).await) {
            Answer::Done(false) => Some(()),
            Answer::Done(true) => {
                self.fail(format_args!("deleting {clone} destroyed the key of {name}"));
                None
            }
            _ => None,
        }
    }

    /// Reads every cluster that the model knows of, and some around.
    async fn read_whole(&self, name: &str, queue: &P::Queue) -> Outcome<Vec<(u64, Vec<u8>)>> {
        let (size, clusters) = {
            let model = self.model.borrow();
            (model.volumes[name].size, model.volumes[name].content.clusters())
        };
        self.read_clusters(queue, size, clusters).await
    }

    async fn read_clusters(&self, queue: &P::Queue, size: u64, mut clusters: Vec<u64>) -> Outcome<Vec<(u64, Vec<u8>)>> {
        clusters.extend(SPOTS.map(|spot| spot / CLUSTER));
        clusters.extend([(size - 1) / CLUSTER, 9]);
        clusters.retain(|cluster| cluster * CLUSTER < size);
        clusters.sort_unstable();
        clusters.dedup();
        let mut pieces = Vec::with_capacity(clusters.len());
        for cluster in clusters {
            let len = (size - cluster * CLUSTER).min(CLUSTER) as usize;
            let mut buffer = self.reactor.buffers().take(len).await;
            buffer.fill(0xee);
            queue.read(cluster * CLUSTER, &mut buffer, len).await?;
            pieces.push((cluster * SECTORS, buffer[..len].to_vec()));
        }
        Ok(pieces)
    }

    /// Takes a snapshot for one command that needs to know exactly what it holds.
    async fn known_snapshot(&self, number: u16) -> Option<String> {
        self.known_snapshot_of(number, |volume| volume.is_snapshot() && !volume.is_busy).await
    }

    async fn known_snapshot_of(&self, number: u16, is_fit: impl Fn(&super::model::Volume) -> bool) -> Option<String> {
        let name = self.choose(number, is_fit)?;
        self.model.borrow_mut().volume(&name).is_busy = true;
        if self.model.borrow().volumes[&name].taken.is_some() {
            self.check_snapshot(&name).await?;
        }
        Some(name)
    }

    async fn clone_snapshot(&self, number: u16) {
        if self.count(|volume| !volume.is_snapshot()) >= VOLUMES_MOST {
            return;
        }
        let Some(snapshot) = self.known_snapshot(number).await else { return };
        let name = self.model.borrow_mut().new_name("c");
        let start = {
            let mut model = self.model.borrow_mut();
            let (size, content) = (model.volume(&snapshot).size, model.volume(&snapshot).content.clone());
            let (lineage, origin) = (model.volumes[&snapshot].lineage, model.volumes[&snapshot].origin);
            let start = model.begin_making(&name, size, content, None);
            (model.volume(&name).lineage, model.volume(&name).origin) = (lineage, origin);
            start
        };
        self.note(format_args!("{start}: clone {snapshot} as {name}"));
        let outcome = self.pool.clone_snapshot(&snapshot, &name).await;
        self.end_making(&name, outcome);
        self.model.borrow_mut().volume(&snapshot).is_busy = false;
    }

    async fn rollback(&self, number: u16) {
        let Some(full) = self.known_snapshot(number).await else { return };
        let (volume, short) = full.split_once('@').expect("a snapshot's name");
        let is_free = self
            .model
            .borrow()
            .volumes
            .get(volume)
            .is_some_and(|volume| volume.state == State::Here && !volume.is_busy);
        if is_free && let Some(open) = self.opened(volume) {
            self.replace(volume, Some(&full), &open, format_args!("roll {volume} back to {short}"), async || {
                self.pool.rollback(volume, short).await
            })
            .await;
        }
        self.model.borrow_mut().volume(&full).is_busy = false;
    }

    /// Gives a volume what it began with; or, just as well, the content of a snapshot of one of its relatives.
    async fn reinitialise(&self, volume: u16, source: u16) {
        let idle = |volume: &super::model::Volume| !volume.is_snapshot() && !volume.is_busy;
        let Some(name) = self.choose(volume, idle) else { return };
        let origin = self.model.borrow().volumes[&name].origin;
        // So that nothing else begins with it while the snapshot is looked at.
        self.model.borrow_mut().volume(&name).is_busy = true;
        let fit = |volume: &super::model::Volume| volume.is_snapshot() && volume.origin == origin && !volume.is_busy;
        let source = if source.is_multiple_of(3) { None } else { self.known_snapshot_of(source, fit).await };
        let snapshot = source.as_deref();
        if self.goes_on()
            && let Some(open) = self.opened(&name)
        {
            self.replace(&name, snapshot, &open, format_args!("begin {name} anew with {snapshot:?}"), async || {
                self.pool.reinitialise(&name, snapshot).await
            })
            .await;
        } else {
            self.model.borrow_mut().volume(&name).is_busy = false;
        }
        source.into_iter().for_each(|source| self.model.borrow_mut().volume(&source).is_busy = false);
    }

    /// Replaces all of a volume by the content of a snapshot, or by nothing.
    async fn replace(
        &self,
        volume: &str,
        by: Option<&str>,
        open: &Open<P::Queue>,
        what: std::fmt::Arguments<'_>,
        replace: impl AsyncFnOnce() -> Outcome<()>,
    ) {
        // Commands go on meanwhile; but nobody fills up a block that was seen absent before.
        self.model.borrow_mut().volume(volume).is_busy = true;
        let everything = 0..u64::MAX;
        while open.blocks.0.borrow().iter().any(|(_, is_alone)| *is_alone) {
            yield_now().await;
        }
        open.blocks.0.borrow_mut().push((everything.clone(), false));
        let start = self.model.borrow_mut().begin_rollback(volume, by);
        self.note(format_args!("{start}: {what}"));
        let outcome = replace().await;
        open.blocks.give_back(&everything, false);
        let mut model = self.model.borrow_mut();
        match self.judge(format_args!("replacement of {start}"), outcome) {
            Answer::Done(()) => model.end_rollback(volume, start),
            Answer::NoSpace => model.withdraw_rollback(volume, start),
            Answer::Unknown => return,
        }
        model.volume(volume).is_busy = false;
    }

    async fn resize(&self, volume: u16, size: u16) {
        let idle = |volume: &super::model::Volume| !volume.is_snapshot() && !volume.is_busy;
        let Some(name) = self.choose(volume, idle) else { return };
        let new = SIZES[usize::from(size) % SIZES.len()];
        let old = self.model.borrow().volumes[&name].size;
        if new == old {
            return;
        }
        self.model.borrow_mut().volume(&name).is_busy = true;
        if new < old {
            self.close_volume(&name).await;
        }
        self.model.borrow_mut().volume(&name).new_size = Some(new);
        self.note(format_args!("resize {name} from {old} to {new}"));
        let outcome = self.pool.resize(&name, new).await;
        let mut model = self.model.borrow_mut();
        match self.judge(format_args!("resize {name}"), outcome) {
            Answer::Done(()) => model.resized(&name),
            Answer::NoSpace => model.volume(&name).new_size = None,
            Answer::Unknown => return,
        }
        (model.volume(&name).is_busy, model.volume(&name).is_closed) = (false, false);
    }

    async fn commit(&self, checkpoint: bool) {
        let start = self.model.borrow_mut().tick();
        let what = if checkpoint { "checkpoint" } else { "commit" };
        self.note(format_args!("{start}: {what}"));
        let outcome = if checkpoint { self.pool.checkpoint().await } else { self.pool.commit().await };
        if let Answer::Done(()) = self.judge(format_args!("{what} of {start}"), outcome) {
            self.model.borrow_mut().all_flushed(start);
        }
    }

    /// Reads all volumes, whatever they are, and holds each sector against what was ever written there.
    pub async fn look_around(&self) -> Result<(), String> {
        for listed in self.pool.list().into_iter().filter(|listed| !listed.name.contains('@')) {
            let queue =
                self.pool.queue(&listed.name).map_err(|trouble| format!("open {}: {trouble:?}", listed.name))?;
            let hot = SPOTS.iter().flat_map(|spot| (spot / CLUSTER..).take(12)).collect();
            let read = self.read_clusters(&queue, listed.size, hot).await;
            for (first, bytes) in read.map_err(|trouble| format!("read {}: {trouble:?}", listed.name))? {
                for (place, sector) in bytes.chunks_exact(SECTOR as usize).enumerate() {
                    self.model.borrow().value(&listed.name, first + place as u64, sector)?;
                }
            }
        }
        Ok(())
    }

    /// Holds every volume and snapshot against the model, as it is after opening.
    pub async fn verify(&self) -> Result<(), String> {
        let names: Vec<String> = self.model.borrow().volumes.keys().cloned().collect();
        for name in names {
            if self.model.borrow().volumes[&name].is_snapshot() {
                self.model.borrow_mut().volume(&name).is_busy = true;
                if self.check_snapshot(&name).await.is_some() {
                    self.model.borrow_mut().volume(&name).is_busy = false;
                }
            } else if let Some(open) = self.opened(&name) {
                let read = self.read_whole(&name, &*open.queue).await;
                if let Answer::Done(pieces) = self.judge(format_args!("read {name}"), read) {
                    self.model.borrow_mut().check_whole(&name, &pieces)?;
                }
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.device.is_cut() {
                return Ok(());
            }
        }
        Ok(())
    }
}

enum Answer<T> {
    Done(T),
    NoSpace,
    Unknown,
}
