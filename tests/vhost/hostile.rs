//! Front ends and guests that mean harm, at a target that also serves a good one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use strongroom::bench::vhost_user::{FrontEnd, RingKind, SharedMemory};

use super::guest::{BASE, Guest, MIB, OK, Queue, features, memory};
use super::ring::{Piece, RingSetup};
use super::{Disk, Target};

pub const BAD: &str = "bad";
const GOOD: &str = "good";

/// Runs `attack` on the reactor that also serves a good guest's disk.
pub fn beside_a_good_guest(attack: impl FnOnce(&mut Target)) {
    let mut target = Target::start(1, &[Disk::named(BAD), Disk::named(GOOD)], "");
    let over = AtomicBool::new(false);
    let socket = target.socket(GOOD);
    let (begun, is_there) = mpsc::channel();
    std::thread::scope(|scope| {
        let (over, socket) = (&over, &socket);
        let good = scope.spawn(move || {
            let mut guest = Guest::connect(socket, RingKind::Split);
            let mut rounds = 0u64;
            while !over.load(Ordering::Relaxed) || rounds < 10 {
                let (small, large) = (vec![rounds as u8; 4096], vec![!rounds as u8; 256 << 10]);
                guest.write(8, &small);
                guest.write(1024, &large);
                assert!(guest.read(8, small.len()) == small, "a read of the good guest");
                assert!(guest.read(1024, large.len()) == large, "a large read of the good guest");
                guest.flush();
                rounds += 1;
                let _ = begun.send(());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        // If it fails, its end is told below.
        let _ = is_there.recv();
        let attacked = catch_unwind(AssertUnwindSafe(|| attack(&mut target)));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = attacked {
            resume_unwind(panic);
        }
        good.join().expect("the good guest");
    });
    // Its disk serves the next guest, and nothing of those before is left.
    let mut guest = Guest::connect(&target.socket(BAD), RingKind::Packed);
    guest.write(0, &[7; 4096]);
    assert_eq!(guest.read(0, 4096), [7; 4096]);
    drop(guest);
    target.stop();
}

/// A guest with two queues: one to break, and one that must go on.
pub struct Hostile {
    pub end: FrontEnd,
    pub memory: Arc<SharedMemory>,
    pub victim: Queue,
    pub other: Queue,
}

pub const SIZE: u16 = 16;
/// Where in a hostile guest's memory its requests are.
pub const CONTROL: usize = MIB;
pub const DATA: usize = MIB + 4096;

impl Hostile {
    pub fn connect(target: &Target, kind: RingKind) -> Self {
        let mut end = FrontEnd::connect(&target.socket(BAD), features(kind, false)).expect("a back end");
        let memory = memory(2, BASE);
        end.set_memory(&[&memory]).expect("taken");
        let setup = RingSetup { kind, size: SIZE, event_index: false };
        let victim = Queue::start(&mut end, 0, memory.clone(), 0, setup);
        let other = Queue::start(&mut end, 1, memory.clone(), MIB / 2, setup);
        Self { end, memory, victim, other }
    }

    /// The next session, when the one before has ended.
    pub fn connect_after(target: &Target, kind: RingKind, before: Self) -> Self {
        drop(before);
        Self::connect(target, kind)
    }

    /// A read of 4096 bytes at place 0 of the disk: header, data, status.
    pub fn read(&self) -> [Piece; 3] {
        self.memory.write(CONTROL, &[0; 16]);
        self.memory.write(CONTROL + 16, &[0xFF]);
        let piece = |at, len, is_written| Piece { guest: self.memory.guest(at), len, is_written };
        [piece(CONTROL, 16, false), piece(DATA, 4096, true), piece(CONTROL + 16, 1, true)]
    }

    /// The other queue still serves.
    #[track_caller]
    pub fn expect_other(&mut self) {
        let chain = self.read();
        self.other.ring.give(&chain, true);
        self.other.publish();
        let (_, written) = self.other.wait(true);
        let mut status = [0xFF];
        self.memory.read(CONTROL + 16, &mut status);
        assert_eq!((status, written), ([OK], 4097));
    }

    /// Lets the device see what was done to the ring: it has to give the queue up, and no other. Then the queue begins anew.
    #[track_caller]
    pub fn expect_broken(&mut self, why: &str) {
        self.victim.publish();
        let _ = self.victim.events.kick.write(1);
        assert!(self.victim.is_broken(), "the queue goes on after {why}");
        self.expect_other();
        self.begin_anew();
    }

    /// Stops the queue and starts it again with an empty ring.
    #[track_caller]
    pub fn begin_anew(&mut self) {
        self.end.stop_queue(0).expect("stopped");
        self.victim = Queue::start(&mut self.end, 0, self.memory.clone(), 0, self.victim.ring.setup);
        let chain = self.read();
        self.victim.ring.give(&chain, false);
        self.victim.publish();
        let (_, written) = self.victim.wait(true);
        assert_eq!(written, 4097, "a queue that begins anew");
    }

    /// Writes descriptors of a split ring from place 0 on, and offers the first.
    pub fn put(&mut self, descriptors: &[(Piece, u16, u16)]) {
        for (at, (piece, flags, next)) in descriptors.iter().enumerate() {
            let at = self.victim.ring.descriptors + at * 16;
            self.victim.ring.write_descriptor(at, piece, *flags, *next);
        }
        self.victim.ring.offer(0);
    }
}
