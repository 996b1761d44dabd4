//! Compare and write is atomic against every other write to its range: on all queues, on all reactors, whatever way the write takes.

mod engine;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine::pool::TestPool;
use engine::{all, bytes_of, device_config, memory_device};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, IoError, SharedDevice, Zeroes};
use strongroom::disk::{Disk, DiskQueue, Ground, Zeroing};
use strongroom::memory::Buffer;
use strongroom::reactor::Reactor;

/// More than there are cores, so that some share one.
const REACTORS: usize = 3;
const TASKS: u64 = 2;
/// Reactors that share a core hand it to each other by the kernel's time slices, some milliseconds each.
const INCREMENTS: u64 = 12;
const SECTOR: usize = 4096;
/// What a write takes on the slow device.
const SLOW_US: u64 = 300;
/// Room for a pool and its metadata.
const POOL_MIB: u64 = 32;

fn sector(number: u64) -> ByteRange {
    ByteRange::new(number * SECTOR as u64, SECTOR as u64).expect("fits")
}

/// What a block holds: who wrote it last in the plain way, and how often it was incremented since.
fn fill(block: &mut [u8], writes: u64, increments: u64) {
    let word = [writes.to_le_bytes(), increments.to_le_bytes()].concat();
    block.chunks_exact_mut(16).for_each(|chunk| chunk.copy_from_slice(&word));
}

fn parse(block: &[u8]) -> (u64, u64) {
    assert!(block.chunks_exact(16).all(|chunk| chunk == &block[..16]), "a block is a mix of two");
    let word = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("8 bytes"));
    (word(0), word(8))
}

/// Increments the block until this has happened once; returns what it was incremented from.
async fn increment(queue: &DiskQueue, at: ByteRange, old: &mut Buffer, new: &mut Buffer) -> (u64, u64) {
    loop {
        queue.read(at, old, 0).await.expect("read");
        // A read beside a write may see a mix; compare and write does not.
        if !old[..SECTOR].chunks_exact(16).all(|chunk| chunk == &old[..16]) {
            continue;
        }
        let (writes, increments) = parse(&old[..SECTOR]);
        fill(&mut new[..SECTOR], writes, increments + 1);
        let pieces = [new.segment(0..100), new.segment(100..SECTOR)];
        if queue.compare_and_write(at, &[old.segment(0..SECTOR)], &pieces).await.expect("done") {
            return (writes, increments);
        }
    }
}

/// Runs a task on each of the reactors, with a queue of its own.
fn on_reactors<F: Future<Output = ()> + 'static>(
    disk: &Arc<Disk>,
    task: impl Fn(usize, Reactor, Rc<DiskQueue>) -> F + Clone + Send + 'static,
) {
    let disk = disk.clone();
    engine::on_reactors(REACTORS, move |number, reactor| {
        let queue = disk.queue(&reactor).expect("a queue");
        task(number, reactor, queue)
    });
}

fn encrypted(ground: impl Into<Ground>) -> Arc<Disk> {
    Disk::with_random_key("x", ground, SectorSize::B4096, Kernel::best()).expect("a disk")
}

fn file(dir: &tempfile::TempDir, mib: u64) -> Arc<SharedDevice> {
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), mib);
    Arc::new(SharedDevice::open(&config).expect("a device"))
}

/// Memory on which a write takes its time: one that passed the gate long ago lands late.
fn slow(mib: u64) -> Arc<SharedDevice> {
    let layers = format!("layers = [{{ kind = 'delay', write_us = {SLOW_US} }}]");
    let mut config = device_config(DeviceKind::Memory, None, mib);
    config.layers = toml::from_str::<toml::Table>(&layers).expect("TOML")["layers"].clone().try_into().expect("layers");
    Arc::new(SharedDevice::open(&config).expect("a device"))
}

/// A disk whose first sectors hold zeros as plain text.
fn zeroed(ground: impl Into<Ground>) -> Arc<Disk> {
    let disk = encrypted(ground);
    let queue_disk = disk.clone();
    engine::on_reactor(move |reactor| async move {
        let queue = queue_disk.queue(&reactor).expect("a queue");
        let range = ByteRange::new(0, 64 << 10).expect("fits");
        queue.write_zeroes(range, Zeroes::MayFree, Zeroing::AnyWay).await.expect("zeroed");
    });
    disk
}

/// All reactors increment one block, while plain writes go to its neighbours.
fn no_increment_is_lost(ground: impl Into<Ground>) {
    let disk = zeroed(ground);
    let last = Arc::new(AtomicU64::new(0));
    let highest = last.clone();
    on_reactors(&disk, move |number, reactor, queue| {
        let last = last.clone();
        async move {
            let task_reactor = reactor.clone();
            all(&reactor, TASKS, move |task| {
                let (reactor, queue, last) = (task_reactor.clone(), queue.clone(), last.clone());
                async move {
                    let (mut old, mut new) =
                        (reactor.buffers().take(SECTOR).await, reactor.buffers().take(SECTOR).await);
                    let neighbour = sector(2 + number as u64 * TASKS + task);
                    for round in 0..INCREMENTS {
                        let (_, before) = increment(&queue, sector(1), &mut old, &mut new).await;
                        last.fetch_max(before + 1, Ordering::Relaxed);
                        let mut data = reactor.buffers().take(SECTOR).await;
                        data.copy_from_slice(&bytes_of(round + 1, SECTOR));
                        queue.write(neighbour, &[data.segment(0..SECTOR)]).await.expect("written");
                        queue.read(neighbour, &mut data, 0).await.expect("read");
                        assert!(data[..] == bytes_of(round + 1, SECTOR)[..], "a neighbour's write was lost");
                    }
                }
            })
            .await;
        }
    });
    assert_eq!(highest.load(Ordering::Relaxed), REACTORS as u64 * TASKS * INCREMENTS);
}

#[test]
fn no_increment_is_lost_in_memory() {
    no_increment_is_lost(memory_device(2));
}

#[test]
fn no_increment_is_lost_on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    no_increment_is_lost(file(&dir, 2));
}

#[test]
fn no_increment_is_lost_on_a_slow_device() {
    no_increment_is_lost(slow(2));
}

/// On a volume the first increment finds an absent block, which the zeros before have left absent.
#[test]
fn no_increment_is_lost_on_volumes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for device in [memory_device(POOL_MIB), slow(POOL_MIB), file(&dir, POOL_MIB)] {
        let pool = TestPool::new(&device);
        no_increment_is_lost(pool.volume("v0", 1 << 20));
    }
}

/// Lets the others end when the writer does, also by a panic.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How a plain writer writes.
#[derive(Clone, Copy)]
enum Way {
    Whole,
    Staged,
    Arriving,
}

async fn write(way: Way, queue: &Rc<DiskQueue>, range: ByteRange, data: &Buffer) {
    let len = range.len() as usize;
    match way {
        Way::Whole => queue.write(range, &[data.segment(0..len)]).await.expect("written"),
        Way::Staged => {
            let staged = queue.stage(range, &[data.segment(0..1000), data.segment(1000..len)]).await.expect("staged");
            queue.commit(staged).await.expect("written");
        }
        Way::Arriving => {
            let mut incoming = queue.begin_write(range).await.expect("begun");
            for at in (0..len).step_by(3000) {
                incoming.add(&[data.segment(at..len.min(at + 3000))]).expect("taken");
                strongroom::reactor::yield_now().await;
            }
            queue.commit(incoming).await.expect("written");
        }
    }
}

/// One reactor writes a block in the plain way and then finds its own write there, incremented or not; the others increment it.
fn no_plain_write_is_lost(ground: impl Into<Ground>) {
    let disk = zeroed(ground);
    let ended = Arc::new(AtomicBool::new(false));
    let incremented = Arc::new(AtomicU64::new(0));
    on_reactors(&disk, move |number, reactor, queue| {
        let (ended, incremented) = (ended.clone(), incremented.clone());
        async move {
            let (mut old, mut new) =
                (reactor.buffers().take(3 * SECTOR).await, reactor.buffers().take(3 * SECTOR).await);
            if number > 0 {
                while !ended.load(Ordering::Relaxed) {
                    increment(&queue, sector(1), &mut old, &mut new).await;
                    incremented.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            let _ended = Ended(ended);
            let around = ByteRange::new(0, 3 * SECTOR as u64).expect("fits");
            let mut round = 0;
            while round < 200 || incremented.load(Ordering::Relaxed) < 20 {
                round += 1;
                let way = [Way::Whole, Way::Staged, Way::Arriving][round as usize % 3];
                fill(&mut new, round, 0);
                write(way, &queue, around, &new).await;
                if round % 2 == 0 {
                    // Long enough for a swap that wrongly did not see this write to land.
                    reactor.sleep(Duration::from_micros(2 * SLOW_US)).await;
                }
                // A read beside an increment may see a mix of two.
                queue.read(sector(1), &mut old, 0).await.expect("read");
                let whole = old[..SECTOR].chunks_exact(16).all(|chunk| chunk == &old[..16]);
                assert!(
                    !whole || parse(&old[..SECTOR]).0 == round,
                    "write {round} was lost: {:?}",
                    parse(&old[..SECTOR])
                );
            }
        }
    });
}

#[test]
fn no_plain_write_is_lost_in_memory() {
    no_plain_write_is_lost(memory_device(2));
}

#[test]
fn no_plain_write_is_lost_on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    no_plain_write_is_lost(file(&dir, 2));
}

#[test]
fn no_plain_write_is_lost_on_a_slow_device() {
    no_plain_write_is_lost(slow(2));
}

#[test]
fn no_plain_write_is_lost_on_volumes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for device in [memory_device(POOL_MIB), slow(POOL_MIB), file(&dir, POOL_MIB)] {
        let pool = TestPool::new(&device);
        no_plain_write_is_lost(pool.volume("v0", 1 << 20));
    }
}

#[test]
fn a_write_that_waits_for_its_client_holds_up_nobody_and_is_not_lost() {
    let disk = zeroed(memory_device(2));
    engine::on_reactor(move |reactor| async move {
        let (queue, other) = (disk.queue(&reactor).expect("a queue"), disk.queue(&reactor).expect("a queue"));
        let (mut data, mut new) = (reactor.buffers().take(8192).await, reactor.buffers().take(4096).await);
        data.copy_from_slice(&bytes_of(1, 8192));
        new.copy_from_slice(&bytes_of(2, 4096));
        let whole = ByteRange::new(0, 8192).expect("fits");
        let mut incoming = queue.begin_write(whole).await.expect("begun");
        incoming.add(&[data.segment(0..5000)]).expect("taken");
        // The first sector is there, the second is not.
        let swap = |range, from, to: strongroom::memory::Segment| {
            let other = other.clone();
            async move { other.compare_and_write(range, &[from], &[to]).await.expect("done") }
        };
        assert!(swap(sector(0), data.segment(0..4096), new.segment(0..4096)).await);
        assert!(!swap(sector(0), data.segment(0..4096), new.segment(0..4096)).await);
        incoming.add(&[data.segment(5000..8192)]).expect("taken");
        queue.commit(incoming).await.expect("written");
        assert!(other.compare(sector(0), &[new.segment(0..4096)]).await.expect("compared"));
        assert!(other.compare(sector(1), &[data.segment(4096..8192)]).await.expect("compared"));
    });
}

#[test]
fn compares_across_pieces_and_refuses_what_does_not_fit() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for device in [memory_device(2), file(&dir, 2)] {
        let disk = encrypted(device);
        engine::on_reactor(move |reactor| async move {
            let queue = disk.queue(&reactor).expect("a queue");
            const LEN: usize = 600 << 10;
            let range = ByteRange::new(4096, LEN as u64).expect("fits");
            let mut data = reactor.buffers().take(LEN).await;
            data[..LEN].copy_from_slice(&bytes_of(9, LEN));
            queue.write(range, &[data.segment(0..LEN)]).await.expect("written");
            let pieces = |data: &Buffer| [data.segment(0..7), data.segment(7..300_000), data.segment(300_000..LEN)];
            assert_eq!(queue.compare(range, &pieces(&data)).await, Ok(true));
            assert_eq!(queue.verify(range).await, Ok(()));
            for changed in [0, 262_143, 262_144, LEN - 1] {
                data[changed] ^= 1;
                assert_eq!(queue.compare(range, &pieces(&data)).await, Ok(false), "byte {changed}");
                data[changed] ^= 1;
            }
            let new = reactor.buffers().take(4096).await;
            let short = [new.segment(0..4095)];
            assert_eq!(queue.compare(sector(0), &short).await, Err(IoError::Misaligned));
            assert_eq!(queue.compare_and_write(sector(0), &short, &short).await, Err(IoError::Misaligned));
            assert_eq!(queue.verify(ByteRange::new(0, 4 << 20).expect("fits")).await, Err(IoError::OutOfRange));
        });
    }
}

#[test]
fn a_drain_waits_for_staged_writes() {
    let disk = encrypted(memory_device(2));
    engine::on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let data = reactor.buffers().take(4096).await;
        let staged = queue.stage(sector(0), &[data.segment(0..4096)]).await.expect("staged");
        let ended = Rc::new(std::cell::Cell::new(false));
        let (drained, draining) = (ended.clone(), queue.clone());
        reactor.spawn(async move {
            draining.drain().await;
            drained.set(true);
        });
        for _ in 0..20 {
            strongroom::reactor::yield_now().await;
        }
        assert!(!ended.get());
        queue.commit(staged).await.expect("written");
        queue.drain().await;
        assert!(
            ended.get() || {
                strongroom::reactor::yield_now().await;
                ended.get()
            }
        );
    });
}
