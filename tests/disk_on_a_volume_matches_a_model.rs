//! A disk on a volume of a pool reads what a plain model in memory holds, whatever is written, discarded, zeroed, compared or swapped: with sectors
//! of 512 and of 4096 bytes, encrypted or not, on memory, on a file and on a device that does half of a command, by two reactors at once whose
//! parts of the disk meet in the middle of blocks.
//!
//! A run is reproduced by its seed: `VOLUME_MODEL_SEED=… cargo test --test disk_on_a_volume_matches_a_model`.

#[path = "common/random.rs"]
mod random;

mod engine;

use std::rc::Rc;
use std::sync::Arc;

use engine::pool::TestPool;
use engine::{all, bytes_of, device_config, layered, memory_device, on_reactors};
use random::Random;
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, SharedDevice, Zeroes};
use strongroom::disk::{Disk, DiskQueue, Zeroing};
use strongroom::memory::{Buffer, Segment};

const REACTORS: u64 = 2;
const TASKS: u64 = 3;
const COMMANDS: u64 = 150;
/// What a task has for itself: not whole blocks, unless sectors are.
const PART: u64 = (256 << 10) + 1536;
const BLOCK: u64 = 4096;
const MOST: u64 = 160 << 10;

/// A task with its part of the disk, and what that should hold.
struct Run {
    random: Random,
    queue: Rc<DiskQueue>,
    first: u64,
    sector: u64,
    model: Vec<u8>,
    buffer: Buffer,
    other: Buffer,
}

impl Run {
    /// Bytes of the part, which the model counts.
    fn draw(&mut self, most: u64) -> std::ops::Range<usize> {
        let sectors = self.model.len() as u64 / self.sector;
        let most = if self.random.one_in(3) { most } else { 2 * BLOCK } / self.sector;
        let count = 1 + self.random.below(most);
        let at = self.random.below(sectors - count);
        (at * self.sector) as usize..((at + count) * self.sector) as usize
    }

    fn range(&self, bytes: &std::ops::Range<usize>) -> ByteRange {
        ByteRange::new(self.first + bytes.start as u64, bytes.len() as u64).expect("fits")
    }

    /// New bytes in the buffer, and in the model.
    fn make(&mut self, bytes: &std::ops::Range<usize>) {
        let data = bytes_of(self.random.next(), bytes.len());
        self.buffer[..data.len()].copy_from_slice(&data);
        self.model[bytes.clone()].copy_from_slice(&data);
    }

    /// The buffer's first bytes in three pieces.
    fn pieces(&mut self, len: usize) -> [Segment; 3] {
        let mut cuts = [self.random.below(len as u64 + 1) as usize, self.random.below(len as u64 + 1) as usize];
        cuts.sort_unstable();
        let buffer = &self.buffer;
        [buffer.segment(0..cuts[0]), buffer.segment(cuts[0]..cuts[1]), buffer.segment(cuts[1]..len)]
    }

    async fn step(&mut self) {
        match self.random.below(16) {
            0..=3 => self.write().await,
            4 | 5 => self.write_in_pieces().await,
            6..=9 => self.read().await,
            10 => self.discard().await,
            11 => self.zero(Zeroes::MayFree).await,
            12 => self.zero(Zeroes::KeepAllocated).await,
            13 => self.compare().await,
            14 => self.swap().await,
            _ => self.look().await,
        }
    }

    async fn write(&mut self) {
        let bytes = self.draw(MOST);
        self.make(&bytes);
        let pieces = self.pieces(bytes.len());
        self.queue.write(self.range(&bytes), &pieces).await.expect("written");
    }

    async fn write_in_pieces(&mut self) {
        let bytes = self.draw(MOST);
        self.make(&bytes);
        let pieces = self.pieces(bytes.len());
        let mut incoming = self.queue.begin_write(self.range(&bytes)).await.expect("begun");
        for piece in pieces {
            incoming.add(&[piece]).expect("taken");
            strongroom::reactor::yield_now().await;
        }
        self.queue.commit(incoming).await.expect("written");
    }

    async fn read(&mut self) {
        let bytes = self.draw(MOST);
        // Whatever the buffer held does not shine through.
        self.buffer.fill(0xee);
        let at = (self.random.below(3) * 512) as usize;
        self.queue.read(self.range(&bytes), &mut self.buffer, at).await.expect("read");
        assert!(
            self.buffer[at..at + bytes.len()] == self.model[bytes.clone()],
            "{bytes:?} of the part at {}",
            self.first
        );
        assert!(self.buffer[at + bytes.len()..].iter().all(|byte| *byte == 0xee), "a read left its window");
    }

    async fn discard(&mut self) {
        let bytes = self.draw(MOST);
        let range = self.range(&bytes);
        self.queue.discard(range).await.expect("discarded");
        let (from, to) = (range.start().next_multiple_of(BLOCK), range.end() - range.end() % BLOCK);
        if from < to {
            self.model[(from - self.first) as usize..(to - self.first) as usize].fill(0);
        }
    }

    async fn zero(&mut self, space: Zeroes) {
        let bytes = self.draw(MOST);
        assert!(self.queue.can_zero_fast());
        let how = if space == Zeroes::MayFree { Zeroing::OnlyFast } else { Zeroing::AnyWay };
        self.queue.write_zeroes(self.range(&bytes), space, how).await.expect("zeroed");
        self.model[bytes].fill(0);
    }

    async fn compare(&mut self) {
        let bytes = self.draw(MOST);
        self.buffer[..bytes.len()].copy_from_slice(&self.model[bytes.clone()]);
        let pieces = self.pieces(bytes.len());
        let range = self.range(&bytes);
        assert_eq!(self.queue.compare(range, &pieces).await, Ok(true));
        self.queue.verify(range).await.expect("verified");
        let changed = self.random.below(bytes.len() as u64) as usize;
        self.buffer[changed] ^= 1;
        assert_eq!(self.queue.compare(range, &pieces).await, Ok(false));
    }

    async fn swap(&mut self) {
        let bytes = self.draw(2 * BLOCK);
        let range = self.range(&bytes);
        self.other[..bytes.len()].copy_from_slice(&self.model[bytes.clone()]);
        let is_right = !self.random.one_in(4);
        if !is_right {
            self.other[bytes.len() - 1] ^= 1;
        }
        let before = self.model[bytes.clone()].to_vec();
        self.make(&bytes);
        let (pieces, expected) = (self.pieces(bytes.len()), [self.other.segment(0..bytes.len())]);
        assert_eq!(self.queue.compare_and_write(range, &expected, &pieces).await, Ok(is_right));
        if !is_right {
            self.model[bytes].copy_from_slice(&before);
        }
    }

    /// Holes are zeros, and nothing else is in the way.
    async fn look(&mut self) {
        let bytes = self.draw(MOST);
        let extents = self.queue.extents(self.range(&bytes)).await.expect("known");
        assert!(!extents.is_empty());
        let mut at = bytes.start;
        for extent in extents {
            let end = at + extent.len as usize;
            assert!(!extent.is_hole || self.model[at..end].iter().all(|byte| *byte == 0), "a hole with data at {at}");
            at = end;
        }
        assert!(at <= bytes.end);
        if self.random.one_in(8) {
            self.queue.flush().await.expect("flushed");
        }
    }
}

fn check(device: &Arc<SharedDevice>) {
    let seed = Random::seed("VOLUME_MODEL_SEED");
    let pool = TestPool::new(device);
    for sector in [SectorSize::B512, SectorSize::B4096] {
        if device.info().block_size as usize > sector.bytes() {
            println!("skipped: the device has no blocks of {} bytes", sector.bytes());
            continue;
        }
        for encrypted in [true, false] {
            let part = PART - PART % sector.bytes() as u64;
            let name = format!("v-{}-{encrypted}", sector.bytes());
            let volume = pool.volume(&name, 2 << 20);
            let disk = match encrypted {
                true => Disk::with_random_key(&name, volume, sector, Kernel::best()),
                false => Disk::plain(&name, volume, sector),
            };
            let disk = disk.expect("a disk");
            on_reactors(REACTORS as usize, move |number, reactor| {
                let queue = disk.queue(&reactor).expect("a queue");
                async move {
                    let task_reactor = reactor.clone();
                    all(&reactor, TASKS, move |task| {
                        let (reactor, queue) = (task_reactor.clone(), queue.clone());
                        // Neighbours are on different reactors.
                        let place = task * REACTORS + number as u64;
                        async move {
                            let mut run = Run {
                                random: Random(seed ^ place.wrapping_mul(0x1234_5678_9abc_def1)),
                                queue,
                                first: place * part,
                                sector: sector.bytes() as u64,
                                model: vec![0; part as usize],
                                buffer: reactor.buffers().take(MOST as usize + 4096).await,
                                other: reactor.buffers().take(MOST as usize).await,
                            };
                            for _ in 0..COMMANDS {
                                run.step().await;
                            }
                        }
                    })
                    .await;
                }
            });
        }
    }
}

#[test]
fn in_memory() {
    check(&memory_device(32));
}

#[test]
fn on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 32);
    check(&Arc::new(SharedDevice::open(&config).expect("a device")));
}

#[test]
fn on_a_device_that_does_half_of_a_command() {
    check(&layered(32, "layers = [{ kind = 'fault', rules = [{ effect = 'short', every = 2 }] }]"));
}

#[test]
fn on_a_slow_device() {
    check(&layered(32, "layers = [{ kind = 'delay', write_us = 200, read_us = 50 }]"));
}
