//! What was never written to a disk on a volume, or was discarded, reads as zeros without the device: the device's file is taken away under it, so
//! that whatever asks the device fails.

mod engine;

use std::sync::Arc;

use engine::pool::TestPool;
use engine::{bytes_of, device_config, on_reactor};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, IoError, SharedDevice};
use strongroom::disk::Disk;

const BLOCK: u64 = 4096;

fn blocks(first: u64, count: u64) -> ByteRange {
    ByteRange::new(first * BLOCK, count * BLOCK).expect("fits")
}

#[test]
fn never_written_and_discarded_blocks_are_zeros() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = dir.path().join("blocks");
    let config = device_config(DeviceKind::File, Some(path.clone()), 32);
    let pool = TestPool::new(&Arc::new(SharedDevice::open(&config).expect("a device")));
    let disk = Disk::with_random_key("x", pool.volume("v0", 8 << 20), SectorSize::B4096, Kernel::best());
    let disk = disk.expect("a disk");
    on_reactor(move |reactor| async move {
        let queue = disk.queue(&reactor).expect("a queue");
        let mut buffer = reactor.buffers().take(1 << 20).await;
        buffer.copy_from_slice(&bytes_of(1, 1 << 20));
        // Blocks 100 to 119 are there; of these, 105 to 109 are given back.
        queue.write(blocks(100, 20), &[buffer.segment(0..20 * BLOCK as usize)]).await.expect("written");
        queue.discard(blocks(105, 5)).await.expect("discarded");
        queue.flush().await.expect("flushed");
        std::fs::OpenOptions::new().write(true).open(&path).expect("there").set_len(0).expect("taken away");

        for range in [blocks(0, 100), blocks(105, 5), blocks(120, 256), blocks(2047, 1)] {
            buffer.fill(0xee);
            let len = range.len() as usize;
            queue.read(range, &mut buffer, 0).await.expect("nothing has to be read");
            assert!(buffer[..len].iter().all(|byte| *byte == 0), "{range}");
            queue.verify(range).await.expect("nothing has to be read");
            buffer[..len].fill(0);
            assert_eq!(queue.compare(range, &[buffer.segment(0..len)]).await, Ok(true));
        }
        // What is there would have to be read.
        for range in [blocks(100, 1), blocks(104, 2), blocks(109, 2)] {
            assert_eq!(queue.read(range, &mut buffer, 0).await, Err(IoError::Media), "{range}");
        }
        let holes: Vec<_> = queue.extents(blocks(96, 32)).await.expect("known");
        let holes: Vec<_> = holes.iter().map(|extent| (extent.len / BLOCK, extent.is_hole)).collect();
        assert_eq!(holes, [(4, true), (5, false), (5, true), (10, false), (8, true)]);
    });
}
