//! A write that arrives in pieces cut anywhere stores what the whole payload would have stored, and an unfinished one leaves nothing behind. A read
//! into pieces cut anywhere brings what a read into one buffer brings.

mod engine;

use std::rc::Rc;
use std::sync::Arc;

use engine::pool::TestPool;
use engine::{bytes_of, device_config, memory_device, on_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, IoError, SharedDevice};
use strongroom::disk::{Disk, DiskQueue, Ground, MOST_PIECES};
use strongroom::memory::{Buffer, LARGEST_BUFFER, Segment};
use strongroom::reactor::Reactor;

const WRITE: usize = 128 << 10;
const AT: u64 = 64 << 10;

fn range(len: u64) -> ByteRange {
    ByteRange::new(AT, len).expect("fits")
}

/// Lengths that follow from a seed and sum up to `total`.
fn cuts(seed: u64, total: usize, most: usize) -> Vec<usize> {
    let mut left = total;
    let mut cuts = Vec::new();
    for draw in bytes_of(seed, 4 * total).chunks_exact(4) {
        let cut = (u32::from_le_bytes(draw.try_into().expect("4 bytes")) as usize % (most + 1)).min(left);
        cuts.push(cut);
        left -= cut;
        if left == 0 {
            break;
        }
    }
    cuts
}

/// Writes the payload in pieces, each from the same small buffer, as a receive buffer is used again.
async fn write_in_pieces(reactor: &Reactor, queue: &Rc<DiskQueue>, data: &[u8], cuts: &[usize]) {
    let mut received = reactor.buffers().take(WRITE).await;
    let mut incoming = queue.begin_write(range(data.len() as u64)).await.expect("begun");
    let mut at = 0;
    for &cut in cuts {
        received[..cut].copy_from_slice(&data[at..at + cut]);
        let middle = cut / 3;
        incoming.add(&[received.segment(0..middle), received.segment(middle..cut)]).expect("taken");
        received[..cut].fill(0xee);
        at += cut;
        assert_eq!(incoming.missing(), data.len() - at);
    }
    queue.commit(incoming).await.expect("written");
}

/// Reads into pieces that lie in the opposite order, with a byte between them that nobody may touch.
async fn read_to_pieces(reactor: &Reactor, queue: &DiskQueue, cuts: &[usize]) -> Vec<u8> {
    let mut room = reactor.buffers().take(WRITE + MOST_PIECES).await;
    room.fill(0xee);
    let mut end = room.len();
    let mut windows = Vec::new();
    for (number, &cut) in cuts.iter().enumerate().take(MOST_PIECES) {
        let so_far: usize = cuts[..number].iter().sum();
        let len = if number == MOST_PIECES - 1 { WRITE - so_far } else { cut };
        windows.push(end - len..end);
        end -= len + 1;
    }
    let mut pieces: Vec<Segment> = windows.iter().map(|window| room.segment(window.clone())).collect();
    queue.read_to(range(WRITE as u64), &mut pieces).await.expect("read");
    assert!(windows.iter().skip(1).all(|window| room[window.end] == 0xee), "a byte outside was touched");
    windows.into_iter().flat_map(|window| room[window].to_vec()).collect()
}

async fn read(queue: &DiskQueue, mut buffer: Buffer) -> Buffer {
    queue.read(range(WRITE as u64), &mut buffer, 0).await.expect("read");
    buffer
}

fn check(device: Arc<SharedDevice>) {
    check_on(device.info().block_size, || device.clone());
}

/// The first write with a key finds absent blocks, the others find present ones.
fn check_on_a_volume(device: Arc<SharedDevice>) {
    let pool = TestPool::new(&device);
    let count = std::cell::Cell::new(0);
    check_on(device.info().block_size, || {
        count.set(count.get() + 1);
        pool.volume(&format!("v{}", count.get()), 1 << 20)
    });
}

fn check_on<G: Into<Ground>>(block_size: u32, ground: impl Fn() -> G) {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        if block_size as usize > sector.bytes() {
            println!("skipped: the device has no blocks of {} bytes", sector.bytes());
            continue;
        }
        for encrypted in [true, false] {
            let disk = match encrypted {
                true => Disk::with_random_key("x", ground(), sector, Kernel::best()),
                false => Disk::plain("x", ground(), sector),
            };
            let disk = disk.expect("a disk");
            on_reactor(move |reactor| async move {
                let queue = disk.queue(&reactor).expect("a queue");
                // Nothing was written: zeros on a volume, noise on a device under an encrypted disk.
                let before = read(&queue, reactor.buffers().take(WRITE).await).await;
                assert!(read_to_pieces(&reactor, &queue, &cuts(9, WRITE, 5000)).await == before[..]);
                for (seed, most) in [(1, 7), (2, 700), (3, 5000), (4, 40_000), (5, WRITE)] {
                    let data = bytes_of(seed, WRITE);
                    write_in_pieces(&reactor, &queue, &data, &cuts(seed, WRITE, most)).await;
                    let buffer = read(&queue, reactor.buffers().take(WRITE).await).await;
                    assert!(buffer[..] == data[..], "cuts of up to {most} bytes (encrypted: {encrypted})");
                    drop(buffer);
                    let pieces = read_to_pieces(&reactor, &queue, &cuts(seed + 10, WRITE, most)).await;
                    assert!(pieces == data, "cuts of up to {most} bytes (encrypted: {encrypted})");
                }
            });
        }
    }
}

#[test]
fn into_memory_of_the_device() {
    check(memory_device(2));
}

#[test]
fn into_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 2);
    check(Arc::new(SharedDevice::open(&config).expect("a device")));
}

#[test]
fn into_a_volume_in_memory() {
    check_on_a_volume(memory_device(32));
}

#[test]
fn into_a_volume_on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 32);
    check_on_a_volume(Arc::new(SharedDevice::open(&config).expect("a device")));
}

#[test]
fn too_much_and_too_little_are_refused_and_give_everything_back() {
    let disk = Disk::with_random_key("x", memory_device(2), SectorSize::B4096, Kernel::best()).expect("a disk");
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let payload = reactor.buffers().take(8192).await;
        let before = reactor.buffers().free_bytes();
        let mut incoming = queue.begin_write(range(8192)).await.expect("begun");
        incoming.add(&[payload.segment(0..8000)]).expect("taken");
        assert_eq!(incoming.add(&[payload.segment(0..193)]), Err(IoError::Misaligned));
        assert_eq!(incoming.missing(), 192);
        assert_eq!(queue.commit(incoming).await, Err(IoError::Misaligned));
        drop(queue.begin_write(range(8192)).await.expect("begun"));
        assert_eq!(reactor.buffers().free_bytes(), before);
        let refused = |range| {
            let queue = queue.clone();
            async move { queue.begin_write(range).await.err() }
        };
        assert_eq!(refused(range(100)).await, Some(IoError::Misaligned));
        assert_eq!(refused(range(4 << 20)).await, Some(IoError::OutOfRange));
        assert_eq!(
            refused(ByteRange::new(0, LARGEST_BUFFER as u64 + 4096).expect("fits")).await,
            Some(IoError::Misaligned)
        );
    });
}

#[test]
fn a_read_into_the_wrong_number_of_bytes_or_pieces_is_refused() {
    let disk = Disk::with_random_key("x", memory_device(2), SectorSize::B512, Kernel::best()).expect("a disk");
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let room = reactor.buffers().take(WRITE).await;
        let mut sectors = vec![room.segment(0..512); MOST_PIECES + 1];
        for (len, pieces) in [(512, 0), (512, 2), (100, 1), (512 * (MOST_PIECES + 1), MOST_PIECES + 1)] {
            assert_eq!(queue.read_to(range(len as u64), &mut sectors[..pieces]).await, Err(IoError::Misaligned));
        }
    });
}

#[test]
fn a_cut_sector_is_never_plain_text_in_the_memory_of_a_device() {
    let device = memory_device(2);
    let disk = Disk::with_random_key("x", device.clone(), SectorSize::B4096, Kernel::best()).expect("a disk");
    let plain = Disk::plain("raw", device, SectorSize::B4096).expect("a disk");
    on_reactor(move |reactor| async move {
        let (queue, raw) = (disk.queue(&reactor).expect("a queue"), plain.queue(&reactor).expect("a queue"));
        let mut payload = reactor.buffers().take(8192).await;
        payload.fill(0xaa);
        let mut incoming = queue.begin_write(range(8192)).await.expect("begun");
        for at in (0..8000).step_by(100) {
            incoming.add(&[payload.segment(at..at + 100)]).expect("taken");
            let mut stored = reactor.buffers().take(8192).await;
            raw.read(range(8192), &mut stored, 0).await.expect("read");
            assert!(!stored.windows(16).any(|bytes| bytes == [0xaa; 16]), "plain text after {at} bytes");
        }
    });
}
