//! A guest may put into its rings and do to its memory what it likes: at most its own queue ends. The target lives on, and so do the guest's other
//! queue and a neighbour on the same reactor, which reads what it wrote all the while.
//!
//! What is written at random follows from a seed: `VHOST_HOSTILE_SEED=… cargo test --test vhost_user_hostile_rings_end_alone`.

#[path = "common/random.rs"]
mod random;
mod vhost;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use random::Random;
use strongroom::bench::vhost_user::{RingKind, SharedMemory};
use vhost::guest::{BASE, IN, MIB, OUT, Queue, memory, readable};
use vhost::hostile::{BAD, CONTROL, DATA, Hostile, SIZE, beside_a_good_guest};
use vhost::ring::{INDIRECT, NEXT, Piece, Ring, WRITE};
use vhost::wire::{self, Wire, region, table};

/// Pieces that lie where no memory is, wholly or in part.
fn outside(memory: &SharedMemory) -> Vec<(Piece, &'static str)> {
    let end = memory.guest(memory.len());
    let piece = |guest, len| Piece { guest, len, is_written: true };
    vec![
        (piece(0, 4096), "the address 0"),
        (piece(BASE - 4096, 4096), "an address before the memory"),
        (piece(end, 4096), "an address behind the memory"),
        (piece(end - 1, 2), "one byte too many"),
        (piece(BASE, u32::MAX), "a length of 4 GiB"),
        (piece(u64::MAX, 4096), "an address at the end of all"),
        (piece(u64::MAX - 4094, 4096), "an end that wraps to 0"),
        (piece(memory.address(0), 4096), "an address of the front end"),
    ]
}

#[test]
fn split_rings_that_cannot_be() {
    beside_a_good_guest(|target| {
        let mut bad = Hostile::connect(target, RingKind::Split);
        let [header, data, status] = bad.read();
        bad.put(&[(header, NEXT, 0)]);
        bad.expect_broken("a descriptor that leads to itself");
        bad.put(&[(header, NEXT, 1), (data, NEXT | WRITE, 2), (data, NEXT | WRITE, 1)]);
        bad.expect_broken("a loop");
        bad.put(&[(header, NEXT, SIZE), (data, WRITE, 0)]);
        bad.expect_broken("a next that there is not");
        bad.put(&[(header, NEXT, u16::MAX), (data, WRITE, 0)]);
        bad.expect_broken("a next far away");
        bad.put(&[(header, NEXT, 1), (data, NEXT | WRITE, 2), (header, NEXT, 3), (status, WRITE, 0)]);
        bad.expect_broken("something to read behind something to write");
        bad.victim.ring.offer(SIZE);
        bad.expect_broken("a head that there is not");
        for (piece, why) in outside(&bad.memory) {
            bad.put(&[(header, NEXT, 1), (piece, NEXT | WRITE, 2), (status, WRITE, 0)]);
            bad.expect_broken(why);
            bad.put(&[(piece, NEXT, 1), (data, NEXT | WRITE, 2), (status, WRITE, 0)]);
            bad.expect_broken(why);
            bad.put(&[(header, NEXT, 1), (data, NEXT | WRITE, 2), (piece, WRITE, 0)]);
            bad.expect_broken(why);
        }
        let driver = bad.victim.ring.driver;
        bad.memory.store_u16(driver + 2, SIZE + 2);
        let _ = bad.victim.events.kick.write(1);
        assert!(bad.victim.is_broken(), "the queue goes on with more requests than it has places");
        bad.expect_other();
        bad.begin_anew();
    });
}

#[test]
fn packed_rings_that_cannot_be() {
    beside_a_good_guest(|target| {
        let mut bad = Hostile::connect(target, RingKind::Packed);
        let [header, data, status] = bad.read();
        for (piece, why) in outside(&bad.memory) {
            bad.victim.ring.give(&[header, piece, status], false);
            bad.expect_broken(why);
            bad.victim.ring.give(&[Piece { is_written: false, ..piece }, data, status], false);
            bad.expect_broken(why);
        }
        bad.victim.ring.give(&[header, data, header, status], false);
        bad.expect_broken("something to read behind something to write");
        // Every place leads to the next, all around.
        let ring = bad.victim.ring.descriptors;
        for at in (0..usize::from(SIZE)).rev() {
            bad.victim.ring.write_descriptor(ring + at * 16, &header, 0, NEXT | 1 << 7);
        }
        bad.expect_broken("a chain without an end");
    });
}

#[test]
fn tables_that_cannot_be() {
    beside_a_good_guest(|target| {
        for kind in [RingKind::Split, RingKind::Packed] {
            let mut bad = Hostile::connect(target, kind);
            let [header, data, status] = bad.read();
            let at = DATA + 8192;
            let table = |bad: &Hostile, len: u32| Piece { guest: bad.memory.guest(at), len, is_written: false };
            let give = |bad: &mut Hostile, piece: Piece, more: u16| match kind {
                RingKind::Split => bad.put(&[(piece, INDIRECT | more, 1), (status, WRITE, 0)]),
                RingKind::Packed => {
                    let flags = INDIRECT | more | 1 << 7;
                    let second = bad.victim.ring.descriptors + 16;
                    bad.victim.ring.write_descriptor(second, &status, 0, WRITE | 1 << 7);
                    // The queue may have come on: it begins anew before each of these.
                    bad.victim.ring.write_descriptor(second - 16, &piece, 0, flags);
                }
            };
            let fresh = |bad: &mut Hostile| {
                bad.end.stop_queue(0).expect("stopped");
                bad.victim = Queue::start(&mut bad.end, 0, bad.memory.clone(), 0, bad.victim.ring.setup);
                bad.victim.ring.write_table(at, &[header, data, status]);
            };
            for len in [0, 1, 15, 17, 47] {
                fresh(&mut bad);
                let piece = table(&bad, len);
                give(&mut bad, piece, 0);
                bad.expect_broken("a table that is no number of descriptors");
            }
            for (piece, why) in outside(&bad.memory) {
                fresh(&mut bad);
                give(&mut bad, Piece { len: piece.len & !15, is_written: false, ..piece }, 0);
                bad.expect_broken(why);
                fresh(&mut bad);
                bad.victim.ring.write_table(at, &[header, piece, status]);
                let piece = table(&bad, 48);
                give(&mut bad, piece, 0);
                bad.expect_broken(why);
            }
            fresh(&mut bad);
            let (third, fourth) = if kind == RingKind::Split { (INDIRECT, 0) } else { (0, INDIRECT) };
            let inner = table(&bad, 48);
            bad.victim.ring.write_descriptor(at, &inner, third, fourth);
            give(&mut bad, inner, 0);
            bad.expect_broken("a table in a table");
            if kind == RingKind::Split {
                fresh(&mut bad);
                bad.victim.ring.write_descriptor(at + 16, &data, WRITE | NEXT, 1);
                give(&mut bad, inner, 0);
                bad.expect_broken("a loop in a table");
                fresh(&mut bad);
                bad.victim.ring.write_descriptor(at + 16, &data, WRITE | NEXT, 3);
                give(&mut bad, inner, 0);
                bad.expect_broken("a next behind the table");
                fresh(&mut bad);
                give(&mut bad, inner, NEXT);
                bad.expect_broken("a table that is no end of its chain");
            }
        }
    });
}

/// Requests that a ring may hold, but that are none: they are answered, or end their queue, and the target goes on.
#[test]
fn requests_that_make_no_sense() {
    beside_a_good_guest(|target| {
        for kind in [RingKind::Split, RingKind::Packed] {
            let mut bad = Hostile::connect(target, kind);
            let [header, data, status] = bad.read();
            let short = Piece { len: 15, ..header };
            let none = Piece { len: 0, ..data };
            let requests: [&[Piece]; 9] = [
                &[header],
                &[status],
                &[data],
                &[short, data, status],
                &[short],
                &[header, none, status],
                &[none, header, data, status],
                &[header, data],
                &[header, Piece { len: 1, is_written: true, ..data }, status],
            ];
            for request in requests {
                bad.read();
                bad.victim.ring.give(request, false);
                bad.victim.publish();
                let answered = bad.victim.wait_at_most(true, Duration::from_millis(200)).is_some();
                assert!(answered || bad.victim.is_broken(), "{request:?} is neither answered nor the end of its queue");
                bad.expect_other();
                bad.begin_anew();
            }
            // Wild types and places.
            for (kind, sector) in
                [(OUT, u64::MAX), (IN, u64::MAX), (IN, 1 << 55), (OUT, 1), (3, 0), (u32::MAX, 0), (13, 0), (11, 0)]
            {
                let chain = bad.read();
                bad.memory.write(CONTROL, &kind.to_le_bytes());
                bad.memory.write(CONTROL + 8, &sector.to_le_bytes());
                bad.victim.ring.give(&chain, true);
                bad.victim.publish();
                bad.victim.wait(true);
                let mut answer = [0xFF];
                bad.memory.read(CONTROL + 16, &mut answer);
                assert!(matches!(answer, [1 | 2]), "type {kind} at {sector}: {answer:?}");
            }
        }
    });
}

#[test]
fn descriptors_that_are_rewritten_all_the_time() {
    beside_a_good_guest(|target| {
        let seed = Random::seed("VHOST_HOSTILE_SEED");
        for kind in [RingKind::Split, RingKind::Packed] {
            let mut random = Random(seed);
            let mut bad = Hostile::connect(target, kind);
            let over = AtomicBool::new(false);
            let (memory, area) = (bad.memory.clone(), Ring::bytes(SIZE));
            std::thread::scope(|scope| {
                let over = &over;
                scope.spawn(move || {
                    let mut random = Random(seed ^ 1);
                    while !over.load(Ordering::Relaxed) {
                        // Anywhere in the ring and its tables; a word there says something else for a moment.
                        let at = random.below(area as u64 / 8) as usize * 8;
                        let (mut word, wild) = ([0; 8], random.next() >> random.below(64));
                        memory.read(at, &mut word);
                        memory.write(at, &wild.to_le_bytes());
                        memory.write(at, &word);
                    }
                });
                let deadline = Instant::now() + Duration::from_secs(2);
                while Instant::now() < deadline {
                    let chain = bad.read();
                    if bad.victim.ring.room() >= 3 {
                        bad.victim.ring.give(&chain, random.one_in(2));
                    }
                    bad.victim.ring.publish();
                    let _ = bad.victim.events.kick.write(1);
                    // Completions are no longer to be understood: the device was told anything. The queue may be broken at any time.
                    if readable(bad.victim.events.error.as_raw_fd(), Duration::from_millis(1)) || random.one_in(50) {
                        bad.end.stop_queue(0).expect("stopped");
                        bad.victim = Queue::start(&mut bad.end, 0, bad.memory.clone(), 0, bad.victim.ring.setup);
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
            bad.expect_other();
            bad.begin_anew();
        }
    });
}

#[test]
fn memory_whose_file_is_cut_short() {
    beside_a_good_guest(|target| {
        for kind in [RingKind::Split, RingKind::Packed] {
            // The data, then all of it with the rings.
            for left in [DATA as u64, 0] {
                let mut bad = Hostile::connect(target, kind);
                let chain = bad.read();
                bad.victim.ring.give(&chain, false);
                bad.memory.file().set_len(left).expect("cut short");
                // The ring itself is out of this process's reach when the file is empty: only the kick is left.
                if left > 0 {
                    bad.victim.ring.publish();
                }
                let _ = bad.victim.events.kick.write(1);
                let _ = bad.other.events.kick.write(1);
                std::thread::sleep(Duration::from_millis(100));
                target.assert_alive();
                drop(bad);
            }
        }
        // Memory that its file does not have is refused.
        let short = memory(2, BASE);
        short.file().set_len(MIB as u64).expect("cut short");
        let mut wire = Wire::agreed(target.connect(BAD));
        let body = table(1, &[region(BASE, 2 << 20, 1 << 40, 0)]);
        assert!(
            !wire.does(wire::SET_MEM_TABLE, &body, &[short.file().as_raw_fd()]),
            "memory behind the end of its file"
        );
    });
}
