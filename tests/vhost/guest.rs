//! A guest: a front end with memory of its own, queues in it, and requests of a block device (virtio 1.2, section 5.2.6).

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom::bench::vhost_user::{FrontEnd, QueueEvents, RingKind, SharedMemory, feature};
use strongroom::memory::HugePages;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use super::PATIENCE;
use super::ring::{Piece, Ring, RingSetup};

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

pub const OK: u8 = 0;
pub const IO_ERROR: u8 = 1;
pub const UNSUPPORTED: u8 = 2;
/// No status of a device.
pub const NO_STATUS: u8 = 0xFF;

/// Where the device sees the first memory of a guest.
pub const BASE: u64 = 1 << 32;
pub const MIB: usize = 1 << 20;

/// Everything that guests want, for rings of a kind.
pub fn features(kind: RingKind, event_index: bool) -> u64 {
    use feature::{
        BLK_SIZE, CONFIG_WCE, DISCARD, EVENT_IDX, FLUSH, INDIRECT_DESC, MQ, RING_PACKED, RO, SEG_MAX, SIZE_MAX,
        VERSION_1, WRITE_ZEROES,
    };
    let always = SIZE_MAX | SEG_MAX | RO | BLK_SIZE | FLUSH | CONFIG_WCE | MQ | DISCARD | WRITE_ZEROES;
    let packed = if kind == RingKind::Packed { RING_PACKED } else { 0 };
    always | INDIRECT_DESC | VERSION_1 | packed | if event_index { EVENT_IDX } else { 0 }
}

/// Memory at a place that the device sees.
pub fn memory(mib: usize, guest: u64) -> Arc<SharedMemory> {
    Arc::new(SharedMemory::new(mib * MIB, guest, HugePages::Never).expect("memory"))
}

/// A queue that runs.
pub struct Queue {
    pub index: usize,
    pub ring: Ring,
    pub events: QueueEvents,
}

impl Queue {
    /// A ring at `offset` of a memory, and the device told to serve it.
    pub fn start(end: &mut FrontEnd, index: usize, memory: Arc<SharedMemory>, offset: usize, setup: RingSetup) -> Self {
        let ring = Ring::new(memory, offset, setup);
        let events = QueueEvents::new().expect("eventfds");
        end.start_queue(index, &ring.place(), ring.base(), &events).unwrap_or_else(|e| panic!("queue {index}: {e}"));
        Self { index, ring, events }
    }

    /// Lets the device see what was given, and kicks it if it wants that.
    pub fn publish(&mut self) {
        if self.ring.publish() {
            self.events.kick.write(1).expect("a kick");
        }
    }

    /// Waits for a completion: asleep until it is told, or looking again and again.
    #[track_caller]
    pub fn wait(&mut self, asleep: bool) -> (u16, u32) {
        self.wait_at_most(asleep, PATIENCE).expect("a completion in time")
    }

    pub fn wait_at_most(&mut self, asleep: bool, limit: Duration) -> Option<(u16, u32)> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = self.ring.take() {
                return Some(done);
            }
            if Instant::now() >= deadline {
                return None;
            }
            if !asleep {
                std::thread::yield_now();
                continue;
            }
            if !self.ring.listen() && !readable(self.events.call.as_raw_fd(), limit) {
                return self.ring.take();
            }
            // Told or not, what there was to tell is looked at now.
            let _ = self.events.call.read();
            self.ring.do_not_listen();
        }
    }

    /// Whether the device has said that the ring is broken; waits for it.
    pub fn is_broken(&self) -> bool {
        readable(self.events.error.as_raw_fd(), PATIENCE)
    }
}

/// Waits until a descriptor can be read.
pub fn readable(fd: RawFd, limit: Duration) -> bool {
    let epoll = Epoll::new().expect("an epoll");
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, 0)).expect("added");
    let mut events = [EpollEvent::default()];
    epoll.wait(limit.as_millis() as i32, &mut events).is_ok_and(|count| count > 0)
}

/// The header of a request, and behind it a status that no device has given.
pub fn write_header(memory: &SharedMemory, at: usize, kind: u32, sector: u64) {
    memory.write(at, &kind.to_le_bytes());
    memory.write(at + 4, &[0; 4]);
    memory.write(at + 8, &sector.to_le_bytes());
    memory.write(at + 16, &[NO_STATUS]);
}

/// A guest with one queue and one request at a time.
pub struct Guest {
    pub end: FrontEnd,
    pub memory: Arc<SharedMemory>,
    pub queue: Queue,
    /// Where a request's header, status and data are in the memory.
    control: usize,
    data: usize,
}

/// Bytes of data that a [`Guest`] has room for.
pub const DATA_BYTES: usize = 4 * MIB;

impl Guest {
    pub fn connect(socket: &Path, kind: RingKind) -> Self {
        Self::with(socket, RingSetup { kind, size: 64, event_index: true })
    }

    pub fn with(socket: &Path, setup: RingSetup) -> Self {
        let mut end = FrontEnd::connect(socket, features(setup.kind, setup.event_index)).expect("a back end");
        let memory = memory(6, BASE);
        end.set_memory(&[&memory]).expect("taken");
        let queue = Queue::start(&mut end, 0, memory.clone(), 0, setup);
        let control = Ring::bytes(setup.size).next_multiple_of(4096);
        Self { end, memory, queue, control, data: control + 4096 }
    }

    /// The header, data and status of a request with its data in one piece.
    pub fn chain(&self, kind: u32, sector: u64, len: usize) -> Vec<Piece> {
        self.write_header(kind, sector);
        let piece = |at, len, is_written| Piece { guest: self.memory.guest(at), len, is_written };
        let mut chain = vec![piece(self.control, 16, false)];
        if len > 0 {
            chain.push(piece(self.data, len as u32, matches!(kind, IN | GET_ID)));
        }
        chain.push(piece(self.control + 16, 1, true));
        chain
    }

    pub fn write_header(&self, kind: u32, sector: u64) {
        write_header(&self.memory, self.control, kind, sector);
    }

    pub fn status(&self) -> u8 {
        let mut status = [0];
        self.memory.read(self.control + 16, &mut status);
        status[0]
    }

    pub fn data(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(self.data, &mut bytes);
        bytes
    }

    /// The address of the data, as the device sees it.
    pub fn data_at(&self) -> u64 {
        self.memory.guest(self.data)
    }

    /// Gives a chain to the device and waits until it is done; its status, and how many bytes the device says it wrote.
    #[track_caller]
    pub fn run(&mut self, chain: &[Piece]) -> (u8, u32) {
        let id = self.queue.ring.give(chain, false);
        self.queue.publish();
        let (done, written) = self.queue.wait(true);
        assert_eq!(done, id);
        (self.status(), written)
    }

    #[track_caller]
    pub fn write(&mut self, sector: u64, bytes: &[u8]) {
        self.memory.write(self.data, bytes);
        assert_eq!(self.run(&self.chain(OUT, sector, bytes.len())).0, OK, "a write at {sector}");
    }

    #[track_caller]
    pub fn read(&mut self, sector: u64, len: usize) -> Vec<u8> {
        self.memory.write(self.data, &vec![0xA5; len]);
        let (status, written) = self.run(&self.chain(IN, sector, len));
        assert_eq!((status, written), (OK, len as u32 + 1), "a read at {sector}");
        self.data(len)
    }

    #[track_caller]
    pub fn flush(&mut self) {
        assert_eq!(self.run(&self.chain(FLUSH, 0, 0)).0, OK, "a flush");
    }
}
