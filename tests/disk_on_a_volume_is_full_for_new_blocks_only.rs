//! In a full pool a write that needs space is refused as such, over NBD and NVMe/TCP with the code that the protocol has for it; everything else goes
//! on: what is there is read and overwritten, what is absent reads as zeros, and what is given back can be written again.

mod common;
mod engine;

use std::sync::Arc;

use common::Target;
use common::nbd_client::{Client, READ, TRIM};
use common::nvme_client::{Digests, blocks};
use common::nvme_target::NvmeTarget;
use engine::pool::TestPool;
use engine::{bytes_of, memory_device};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::disk::Disk;
use strongroom::export::nvme_tcp::wire::opcode::io::{READ as NVME_READ, WRITE as NVME_WRITE};
use strongroom::export::nvme_tcp::wire::status::Status;

const CLUSTER: u64 = 64 << 10;
/// More than the pool has.
const VOLUME: u64 = 64 << 20;
/// `NBD_ENOSPC` ("Error values").
const ENOSPC: u32 = 28;

/// A pool of 32 MiB with two volumes that promise more.
fn two_disks() -> (TestPool, [Arc<Disk>; 2]) {
    let pool = TestPool::new(&memory_device(32));
    let disk = |name: &str| {
        Disk::with_random_key(name, pool.volume(name, VOLUME), SectorSize::B4096, Kernel::best()).expect("a disk")
    };
    let disks = [disk("v0"), disk("v1")];
    (pool, disks)
}

#[test]
fn over_nbd() {
    let (pool, disks) = two_disks();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let target = Target::start(dir, 1, &disks, "");
    let client = |export| Client::silent(&target.socket()).greet().go(export, true);
    let (mut filler, mut other) = (client("v0"), client("v1"));
    let data = bytes_of(1, CLUSTER as usize);
    assert_eq!(other.write(0, 0, &data), 0);
    let full = (0..VOLUME / CLUSTER).find(|n| match filler.write(0, n * CLUSTER, &data) {
        0 => false,
        error => {
            assert_eq!(error, ENOSPC);
            true
        }
    });
    let full = full.expect("the pool is smaller than the volume");
    assert!(full > 128, "{full} clusters of 64 KiB fit into a pool of 32 MiB");
    // Others are refused what needs space, and nothing else; and the connection goes on.
    assert_eq!(other.write(0, CLUSTER, &data), ENOSPC);
    for n in [0, full - 1] {
        let again = bytes_of(n + 2, CLUSTER as usize);
        assert_eq!(filler.write(0, n * CLUSTER, &again), 0, "cluster {n} is there");
        assert!(filler.ask(READ, 0, n * CLUSTER, CLUSTER as u32).data == again);
    }
    assert!(filler.ask(READ, 0, full * CLUSTER, CLUSTER as u32).data.iter().all(|byte| *byte == 0));
    assert!(other.ask(READ, 0, 0, CLUSTER as u32).data == data);
    // What is given back is used again, also by others.
    assert_eq!(filler.ask(TRIM, 0, 16 * CLUSTER, 32 * CLUSTER as u32).error, 0);
    assert_eq!(other.write(0, CLUSTER, &data), 0);
    assert_eq!(filler.write(0, full * CLUSTER, &data), 0);
    drop((filler, other));
    target.stop();
    drop((disks, pool));
}

#[test]
fn over_nvme_tcp() {
    let (pool, disks) = two_disks();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let target = NvmeTarget::start(dir, 1, &disks, "");
    let (admin, mut host) = target.both("a", Digests::NONE);
    let data = bytes_of(1, CLUSTER as usize);
    let sectors = CLUSTER / 4096;
    let mut write = |n: u64| host.run_asked(blocks(NVME_WRITE, n * sectors, sectors as u32), &data).status;
    let full = (0..VOLUME / CLUSTER).find(|n| match write(*n) {
        Status::SUCCESS => false,
        status => {
            assert_eq!(status, Status::CAPACITY_EXCEEDED);
            true
        }
    });
    let full = full.expect("the pool is smaller than the volume");
    assert_eq!(write(full), Status::CAPACITY_EXCEEDED);
    assert_eq!(write(0), Status::SUCCESS);
    let read = host.fetch(blocks(NVME_READ, 0, sectors as u32), CLUSTER as usize);
    assert!(read.status.is_success() && read.data == data);
    drop((admin, host));
    target.stop_and_close(|| drop(pool));
    drop(disks);
}
