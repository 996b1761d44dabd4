//! Writes that each cover a part of one absent block, on two reactors at once and in every way, all get there: the first brings the whole block, and
//! none takes another's sectors back to zeros. Discards of the whole block in between lose nothing that was written after them.

mod engine;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::pool::TestPool;
use engine::{all, device_config, layered, memory_device, on_reactors};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice, Zeroes};
use strongroom::disk::{Disk, DiskQueue, Zeroing};
use strongroom::memory::Buffer;
use strongroom::reactor::{Reactor, yield_now};

const REACTORS: u64 = 2;
const TASKS: u64 = 4;
/// Each writer has one sector of each block.
const WRITERS: u64 = REACTORS * TASKS;
const SECTOR: usize = 512;
const BLOCK: u64 = 4096;
const BLOCKS: u64 = 12;
const ROUNDS: u64 = 8;

fn bytes(at: u64, len: usize) -> ByteRange {
    ByteRange::new(at, len as u64).expect("fits")
}

/// What a writer leaves in its sector of a block.
fn fill(to: &mut [u8], round: u64, writer: u64, block: u64) {
    let word = (round + 1) << 32 | writer << 16 | block;
    to.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&word.to_le_bytes()));
}

/// All tasks of all reactors wait for each other.
struct Barrier(AtomicU64);

impl Barrier {
    async fn wait(&self, reactor: &Reactor) {
        let mine = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        let all = mine.next_multiple_of(WRITERS);
        while self.0.load(Ordering::Acquire) < all {
            // The others may be on this core.
            reactor.sleep(Duration::from_micros(50)).await;
        }
    }
}

/// Writes a sector in one of four ways.
async fn write(way: u64, queue: &Rc<DiskQueue>, range: ByteRange, data: &Buffer, zeros: &Buffer) {
    let whole = [data.segment(0..SECTOR)];
    match way % 4 {
        0 => queue.write(range, &whole).await.expect("written"),
        1 => {
            let staged = queue.stage(range, &whole).await.expect("staged");
            yield_now().await;
            queue.commit(staged).await.expect("written");
        }
        2 => {
            let mut incoming = queue.begin_write(range).await.expect("begun");
            incoming.add(&[data.segment(0..100)]).expect("taken");
            yield_now().await;
            incoming.add(&[data.segment(100..SECTOR)]).expect("taken");
            queue.commit(incoming).await.expect("written");
        }
        _ => {
            let swapped = queue.compare_and_write(range, &[zeros.segment(0..SECTOR)], &whole).await;
            assert_eq!(swapped, Ok(true), "nobody else writes to {range}");
        }
    }
}

async fn take_part(writer: u64, queue: Rc<DiskQueue>, barrier: Arc<Barrier>) {
    let reactor = queue.reactor();
    let (mut data, mut zeros) = (reactor.buffers().take(4096).await, reactor.buffers().take(4096).await);
    zeros.fill(0);
    for round in 0..ROUNDS {
        barrier.wait(reactor).await;
        for block in 0..BLOCKS {
            fill(&mut data[..SECTOR], round, writer, block);
            let range = bytes(block * BLOCK + writer * SECTOR as u64, SECTOR);
            write(round + writer + block, &queue, range, &data, &zeros).await;
            // Others may bring their parts meanwhile; this one stays.
            queue.read(range, &mut zeros, 0).await.expect("read");
            assert!(zeros[..SECTOR] == data[..SECTOR], "round {round}: sector {writer} of block {block}");
            zeros.fill(0);
        }
        barrier.wait(reactor).await;
        for block in 0..BLOCKS {
            for other in 0..WRITERS {
                let range = bytes(block * BLOCK + other * SECTOR as u64, SECTOR);
                queue.read(range, &mut data, 0).await.expect("read");
                fill(&mut zeros[..SECTOR], round, other, block);
                assert!(zeros[..SECTOR] == data[..SECTOR], "round {round}: sector {other} of block {block} is lost");
            }
        }
        zeros.fill(0);
        barrier.wait(reactor).await;
        if writer == round % WRITERS {
            queue.discard(bytes(0, (BLOCKS * BLOCK) as usize)).await.expect("discarded");
        }
    }
}

fn check(device: Arc<SharedDevice>) {
    if device.info().block_size as usize > SECTOR {
        return println!("skipped: the device has no blocks of {SECTOR} bytes");
    }
    let pool = TestPool::new(&device);
    let disk = Disk::with_random_key("x", pool.volume("v0", 1 << 20), SectorSize::B512, Kernel::best());
    let (disk, barrier) = (disk.expect("a disk"), Arc::new(Barrier(AtomicU64::new(0))));
    on_reactors(REACTORS as usize, move |number, reactor| {
        let (queue, barrier) = (disk.queue(&reactor).expect("a queue"), barrier.clone());
        async move {
            all(&reactor, TASKS, move |task| {
                take_part(task * REACTORS + number as u64, queue.clone(), barrier.clone())
            })
            .await;
        }
    });
}

#[test]
fn in_memory() {
    check(memory_device(32));
}

#[test]
fn on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 32);
    check(Arc::new(SharedDevice::open(&config).expect("a device")));
}

#[test]
fn on_a_slow_device() {
    check(layered(32, "layers = [{ kind = 'delay', write_us = 200 }]"));
}

/// A write covers the last sector of a block that is there and all of the next, which is absent. While its data is on the way, the first block is
/// zeroed: the sectors that the write does not touch are zeros once both are done.
#[test]
fn what_is_zeroed_beside_a_write_stays_zeros() {
    let pool = TestPool::new(&layered(32, "layers = [{ kind = 'delay', write_us = 50000 }]"));
    let disk = Disk::with_random_key("x", pool.volume("v0", 1 << 20), SectorSize::B512, Kernel::best());
    let disk = disk.expect("a disk");
    engine::on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut data = reactor.buffers().take(8192).await;
        data.fill(0x55);
        // The other block keeps the cluster.
        for block in [0, 5] {
            queue.write(bytes(block * BLOCK, 4096), &[data.segment(0..4096)]).await.expect("written");
        }
        let is_done = Rc::new(std::cell::Cell::new(false));
        let (writing, done) = (queue.clone(), is_done.clone());
        let source = data.segment(0..SECTOR + 4096);
        reactor.spawn(async move {
            let staged = writing.stage(bytes(4096 - SECTOR as u64, SECTOR + 4096), &[source]).await.expect("staged");
            writing.commit(staged).await.expect("written");
            done.set(true);
        });
        for _ in 0..50 {
            yield_now().await;
        }
        queue.write_zeroes(bytes(0, 4096), Zeroes::MayFree, Zeroing::OnlyFast).await.expect("zeroed");
        assert!(!is_done.get(), "the write was to be in flight");
        while !is_done.get() {
            yield_now().await;
        }
        let untouched = 4096 - SECTOR;
        queue.read(bytes(0, untouched), &mut data, 0).await.expect("read");
        assert!(data[..untouched].iter().all(|byte| *byte == 0), "what was zeroed has come back");
    });
}
