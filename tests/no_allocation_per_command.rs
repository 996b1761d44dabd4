//! At steady state a command costs no heap allocation, on any device or volume, encrypted or not, with limits that are reached or without, and over
//! NBD, NVMe/TCP and vhost-user: an allocator counts.
#![allow(unsafe_code)]

mod common;
mod engine;
mod vhost;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use common::Target;
use common::nbd_client::{Client, FLUSH, FUA, READ, Reply, WRITE};
use common::nvme_client::{self, Digests, Host, Said};
use common::nvme_target::NvmeTarget;
use engine::pool::TestPool;
use engine::{all, device_config, memory_device, on_reactor};
use strongroom::bench::vhost_user::{FrontEnd, RingKind, SharedMemory};
use strongroom::crypto::xts::{Kernel, SectorSize};
use strongroom::device::{ByteRange, DeviceKind, IoError, SharedDevice};
use strongroom::disk::{Consumer, Cost, Disk, DiskQueue, Ground, Limits};
use strongroom::memory::Buffer;
use strongroom::reactor::Reactor;
use vhost::guest::{self, DISCARD, FLUSH as GUEST_FLUSH, GET_ID, IN, OUT, Queue, WRITE_ZEROES};
use vhost::ring::{Piece, Ring, RingSetup};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell of the thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is going away has no cell any more, and is not measured.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one asked for.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SLOTS: u64 = 64;
const COMMANDS: u64 = 200;

/// A write that arrives in pieces which cut a sector.
async fn write_in_pieces(queue: &Rc<DiskQueue>, range: ByteRange, buffer: &Buffer) -> Result<(), IoError> {
    let mut incoming = queue.begin_write(range).await?;
    incoming.add(&[buffer.segment(0..100), buffer.segment(100..5000)])?;
    strongroom::reactor::yield_now().await;
    incoming.add(&[buffer.segment(5000..8192)])?;
    queue.commit(incoming).await
}

/// Swaps what was there when it was read for the same: sometimes another slot has written meanwhile.
async fn swap(queue: &DiskQueue, range: ByteRange, buffer: &mut Buffer) -> Result<(), IoError> {
    queue.read(range, buffer, 0).await?;
    let whole = [buffer.segment(0..8192)];
    queue.compare_and_write(range, &whole, &whole).await.map(drop)
}

/// Each slot reads, writes in every way, compares and flushes `COMMANDS` times, first to warm up, then counted.
async fn count_allocations(reactor: Reactor, queue: Rc<DiskQueue>) -> u64 {
    // What its end costs is not a command's.
    let kept = queue.clone();
    let tap = Rc::new(queue.tap(&Consumer::new_one()));
    let kept_tap = tap.clone();
    let counted = Rc::new(Cell::new(None));
    let warm = Rc::new(Cell::new(0));
    let (task_reactor, first) = (reactor.clone(), counted.clone());
    all(&reactor, SLOTS, move |slot| {
        let (queue, reactor, warm, first) = (queue.clone(), task_reactor.clone(), warm.clone(), first.clone());
        let tap = tap.clone();
        async move {
            let mut buffer = reactor.buffers().take(8192).await;
            for round in 0..2 * COMMANDS {
                if round == COMMANDS {
                    warm.set(warm.get() + 1);
                    while warm.get() < SLOTS {
                        strongroom::reactor::yield_now().await;
                    }
                    if first.get().is_none() {
                        first.set(Some(ALLOCATIONS.get()));
                    }
                }
                let range = ByteRange::new((slot * 7 + round) % 500 * 8192, 8192).expect("fits");
                tap.pass(Cost::of(8192)).await;
                match round % 8 {
                    0 => queue.flush().await,
                    1 => queue.write(range, &[buffer.segment(0..100), buffer.segment(100..8192)]).await,
                    2 => write_in_pieces(&queue, range, &buffer).await,
                    3 => swap(&queue, range, &mut buffer).await,
                    4 => queue.compare(range, &[buffer.segment(0..100), buffer.segment(100..8192)]).await.map(drop),
                    5 => queue.verify(range).await,
                    _ => queue.read(range, &mut buffer, 0).await,
                }
                .expect("done");
            }
        }
    })
    .await;
    // The counter works: the tasks themselves were allocated on this thread.
    assert!(ALLOCATIONS.get() >= SLOTS);
    let allocations = ALLOCATIONS.get() - counted.get().expect("every slot got warm");
    drop((kept, kept_tap));
    allocations
}

fn check(device: Arc<SharedDevice>) {
    check_on(|_| device.clone(), None);
}

/// Blocks are there once the first round was written; what comes after is the steady state.
fn check_on_a_volume(device: Arc<SharedDevice>) {
    let pool = TestPool::new(&device);
    check_on(|encrypted| pool.volume(&format!("encrypted-{encrypted}"), 4 << 20), None);
}

fn check_on<G: Into<Ground>>(ground: impl Fn(bool) -> G, limits: Option<Limits>) {
    for encrypted in [false, true] {
        let disk = if encrypted {
            Disk::with_random_key("x", ground(encrypted), SectorSize::B4096, Kernel::best())
        } else {
            Disk::plain("x", ground(encrypted), SectorSize::B4096)
        };
        let disk = disk.expect("a disk");
        disk.set_limits(limits);
        let allocations = on_reactor(move |reactor| async move {
            let queue = disk.queue(&reactor).expect("a queue");
            count_allocations(reactor, queue).await
        });
        assert_eq!(allocations, 0, "{} commands allocated (encrypted: {encrypted})", SLOTS * COMMANDS);
    }
}

#[test]
fn on_memory() {
    check(memory_device(8));
}

/// Some that nothing reaches, and some that everything has to wait for.
#[test]
fn on_memory_with_limits() {
    let device = memory_device(8);
    for iops in [1_000_000_000, 50_000] {
        check_on(|_| device.clone(), Some(Limits { iops, ..Limits::default() }));
    }
}

#[test]
fn on_null() {
    check(Arc::new(SharedDevice::open(&device_config(DeviceKind::Null, None, 8)).expect("a device")));
}

#[test]
fn on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 8);
    check(Arc::new(SharedDevice::open(&config).expect("a device")));
}

#[test]
fn on_a_volume_in_memory() {
    check_on_a_volume(memory_device(64));
}

#[test]
fn on_a_volume_on_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = device_config(DeviceKind::File, Some(dir.path().join("blocks")), 64);
    check_on_a_volume(Arc::new(SharedDevice::open(&config).expect("a device")));
}

/// A round of a client's commands, 32 at a time: reads of 4 KiB, small and large writes, flushes, and replies with and without chunks.
fn nbd_round(client: &mut Client) {
    let data = engine::bytes_of(1, 300 << 10);
    for batch in 0..16u64 {
        let asked: Vec<_> = (0..32u64)
            .map(|n| {
                let offset = (batch * 32 + n) % 64 * 65536;
                match n % 8 {
                    0 => client.request(FLUSH, 0, 0, 0, &[]),
                    1 => client.request(WRITE, FUA, offset, 300 << 10, &data),
                    2..5 => client.request(WRITE, 0, offset, 4096, &data[..4096]),
                    5 => client.request(READ, 0, offset, 300 << 10, &[]),
                    _ => client.request(READ, 0, offset, 4096, &[]),
                }
            })
            .collect();
        let mut open = asked.len();
        while open > 0 {
            let mut reply = Reply::default();
            while !client.part(&mut reply, |cookie| *asked.iter().find(|a| a.cookie == cookie).expect("asked")) {}
            assert_eq!(reply.error, 0);
            open -= 1;
        }
    }
}

#[test]
fn over_nbd() {
    for structured in [false, true] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let disk = common::encrypted("x", &memory_device(8), SectorSize::B4096);
        let target = Target::start(dir, 1, &[disk], "");
        let mut client = Client::silent(&target.socket()).greet().go("x", structured);
        let count = || target.on_reactor(|| ALLOCATIONS.get());
        nbd_round(&mut client);
        nbd_round(&mut client);
        // What asking itself costs on the reactor.
        let (first, second) = (count(), count());
        nbd_round(&mut client);
        let allocations = count() - second - (second - first);
        assert_eq!(allocations, 0, "512 requests allocated (structured: {structured})");
        drop(client);
        target.stop();
    }
}

/// A round of a host's commands, 32 at a time: small and large reads, writes in the capsule and such that are asked for, compares, flushes.
fn nvme_round(host: &mut Host) {
    use strongroom::export::nvme_tcp::wire::opcode::io::{COMPARE, FLUSH, READ, WRITE, WRITE_ZEROES};
    let data = engine::bytes_of(1, 256 << 10);
    for batch in 0..16u64 {
        for n in 0..32u64 {
            let start = (batch * 32 + n) % 64 * 16;
            let sized = |opcode: u8, sectors: u32| {
                let mut command = nvme_client::blocks(opcode, start, sectors);
                command.data = nvme_client::transport(sectors as usize * 4096);
                command
            };
            match n % 8 {
                0 => host.send_as_is(nvme_client::command(FLUSH, 1), &[]),
                1 => host.send_as_is(sized(WRITE, 64), &[]),
                2 => host.send_as_is(sized(WRITE, 1), &[]),
                3 => host.send_with_data(sized(WRITE, 2), &data[..8192]),
                4 => host.send_as_is(sized(COMPARE, 4), &[]),
                5 => host.send_as_is(sized(READ, 64), &[]),
                6 => host.send_as_is(nvme_client::blocks(WRITE_ZEROES, start, 8), &[]),
                _ => host.send_as_is(sized(READ, 1), &[]),
            };
        }
        let mut open = 32;
        while open > 0 {
            match host.listen() {
                Said::R2t { cid, tag, offset, len } => {
                    let bytes = host.data_pdu(cid, tag, offset, &data[offset..offset + len], true);
                    host.send(&bytes);
                }
                Said::Completion { .. } | Said::Data { success: true, .. } => open -= 1,
                Said::Data { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn over_nvme_tcp() {
    let reached = Limits { iops: 5000, ..Limits::default() };
    for (digests, limits) in [(Digests::NONE, None), (Digests::BOTH, None), (Digests::NONE, Some(reached))] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let disk = common::encrypted("x", &memory_device(8), SectorSize::B4096);
        disk.set_limits(limits);
        let target = NvmeTarget::start(dir, 1, &[disk], "");
        let (admin, mut host) = target.both("a", digests);
        let count = || target.on_reactor(|_| ALLOCATIONS.get());
        nvme_round(&mut host);
        nvme_round(&mut host);
        // How many answers gather depends on the host; a round that sees more of them than ever before makes room.
        let mut round = || {
            // What asking itself costs on the reactor.
            let (first, second) = (count(), count());
            nvme_round(&mut host);
            count() - second - (second - first)
        };
        let rounds: Vec<_> = (0..6).map(|_| round()).collect();
        assert!(rounds.contains(&0), "512 commands allocated each time ({digests:?}): {rounds:?}");
        drop((admin, host));
        target.stop();
    }
}

/// Requests that a guest has in flight, each with a lane of its memory: a page for header, status and a range, then pages for data.
const LANES: usize = 32;
const LANE: usize = 4096 + (128 << 10) + 4096;
/// Where the lanes begin, behind the ring.
const FIRST_LANE: usize = guest::MIB;

/// The pieces of a request of a lane. Data begins at no boundary, and is cut at `cuts`, whatever the sectors are.
fn guest_chain(memory: &SharedMemory, lane: usize, kind: u32, sector: u64, len: usize, cuts: &[usize]) -> Vec<Piece> {
    let at = FIRST_LANE + lane * LANE;
    let piece = |at: usize, len: usize, is_written| Piece { guest: memory.guest(at), len: len as u32, is_written };
    guest::write_header(memory, at, kind, sector);
    let mut chain = vec![piece(at, 16, false)];
    let data = at + 4096 + 12;
    let ends = cuts.iter().copied().chain([len]);
    let mut start = 0;
    for end in ends.filter(|end| *end > 0) {
        chain.push(piece(data + start, end - start, matches!(kind, IN | GET_ID)));
        start = end;
    }
    if matches!(kind, DISCARD | WRITE_ZEROES) {
        // A range of 8 KiB (section 5.2.6): its first sector, how many, no flags.
        memory.write(data, &sector.to_le_bytes());
        memory.write(data + 8, &16u32.to_le_bytes());
        memory.write(data + 12, &[0; 4]);
    }
    chain.push(piece(at + 16, 1, true));
    chain
}

/// A round of a guest's requests, 32 at a time, for half of which it sleeps: everything that a guest may ask for.
fn guest_round(queue: &mut Queue) {
    let memory = queue.ring.memory.clone();
    for batch in 0..16usize {
        for lane in 0..LANES {
            let sector = ((batch * LANES + lane) % 24 * 512) as u64;
            let (kind, len, cuts): (u32, usize, &[usize]) = match lane % 8 {
                0 => (GUEST_FLUSH, 0, &[]),
                1 => (OUT, 128 << 10, &[]),
                2 => (OUT, 4096, &[100, 3001]),
                3 => (IN, 128 << 10, &[512, 70_001]),
                4 => (IN, 4096, &[]),
                5 => (GET_ID, 20, &[]),
                6 => (WRITE_ZEROES, 16, &[]),
                _ => (DISCARD, 16, &[]),
            };
            queue.ring.give(&guest_chain(&memory, lane, kind, sector, len, cuts), batch % 4 > 1);
        }
        queue.publish();
        for _ in 0..LANES {
            queue.wait(batch % 2 == 0);
        }
        for lane in 0..LANES {
            let mut status = [0];
            memory.read(FIRST_LANE + lane * LANE + 16, &mut status);
            assert_eq!(status, [guest::OK], "request {lane} of batch {batch}");
        }
    }
}

#[test]
fn over_vhost_user() {
    let reached = Limits { iops: 5000, ..Limits::default() };
    let ring = |kind, event_index| RingSetup { kind, size: 256, event_index };
    let cases = [
        (ring(RingKind::Split, true), None, None),
        (ring(RingKind::Split, false), None, Some("a")),
        (ring(RingKind::Packed, true), None, Some("a")),
        (ring(RingKind::Packed, false), None, None),
        (ring(RingKind::Split, true), Some(reached), Some("a")),
    ];
    for (setup, limits, of) in cases {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let disk = common::encrypted("x", &memory_device(8), SectorSize::B4096);
        disk.set_limits(limits);
        let target = NvmeTarget::start(dir, 1, std::slice::from_ref(&disk), "");
        let guests = target.show_to_guests(&disk, of);
        let wanted = guest::features(setup.kind, setup.event_index);
        let mut end = FrontEnd::connect(&target.dir.path().join("x.sock"), wanted).expect("a back end");
        let memory = guest::memory(8, guest::BASE);
        end.set_memory(&[&memory]).expect("taken");
        assert!(Ring::bytes(setup.size) <= FIRST_LANE && FIRST_LANE + LANES * LANE <= 8 * guest::MIB);
        let mut queue = Queue::start(&mut end, 0, memory, 0, setup);
        let count = || target.on_reactor(|_| ALLOCATIONS.get());
        guest_round(&mut queue);
        guest_round(&mut queue);
        // What asking itself costs on the reactor.
        let (first, second) = (count(), count());
        guest_round(&mut queue);
        let allocations = count() - second - (second - first);
        assert_eq!(allocations, 0, "512 requests allocated ({setup:?}, limits: {}, guest of {of:?})", limits.is_some());
        drop((queue, end));
        assert!(guests.stop(common::PATIENCE), "the server of guests did not stop in order");
        target.stop();
    }
}
