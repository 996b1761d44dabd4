//! A front end may say what it likes: at most its own session ends. The target lives on, a neighbour on the same reactor reads what it wrote all the
//! while, and nothing is left open behind it.
//!
//! Random messages follow from a seed: `VHOST_HOSTILE_SEED=… cargo test --test vhost_user_hostile_messages_end_alone`.

#[path = "common/random.rs"]
mod random;
mod vhost;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use random::Random;
use strongroom::bench::vhost_user::{RingKind, SharedMemory};
use vhost::PATIENCE;
use vhost::guest::{BASE, memory};
use vhost::hostile::{BAD, CONTROL, DATA, Hostile, beside_a_good_guest};
use vhost::ring::{Piece, Ring, RingSetup};
use vhost::wire::{self, NEED_REPLY, REPLY, VERSION, Wire, place, region, state, table, words};
use vmm_sys_util::eventfd::EventFd;

/// Descriptors of all sorts that are no eventfds, or not as they should be.
struct Strange {
    files: Vec<OwnedFd>,
    full: EventFd,
}

impl Strange {
    fn new() -> Self {
        let (end, _closed) = UnixStream::pair().expect("a pair");
        let (open, kept) = UnixStream::pair().expect("a pair");
        let (pipe_out, pipe_in) = std::io::pipe().expect("a pipe");
        // Full: whoever writes to it waits for ever, unless it may not.
        let full = EventFd::new(0).expect("an eventfd");
        full.write(u64::MAX - 1).expect("filled");
        let opened = |path| OwnedFd::from(File::open(path).expect("there"));
        let files = vec![
            opened("/dev/null"),
            opened("/dev/zero"),
            opened("/"),
            tempfile::tempfile().expect("a file").into(),
            end.into(),
            open.into(),
            kept.into(),
            pipe_out.into(),
            pipe_in.into(),
        ];
        Self { files, full }
    }

    fn all(&self) -> Vec<RawFd> {
        self.files.iter().map(AsRawFd::as_raw_fd).chain([self.full.as_raw_fd()]).collect()
    }
}

/// Tells the device by messages of its own where a queue is, up to the kick.
fn place_queue(wire: &mut Wire, memory: &SharedMemory, ring: &Ring, index: u32) {
    let at = ring.place();
    let body = table(1, &[region(BASE, memory.len() as u64, memory.address(0), 0)]);
    assert!(wire.does(wire::SET_MEM_TABLE, &body, &[memory.file().as_raw_fd()]));
    assert!(wire.does(wire::SET_VRING_NUM, &state(index, at.size.into()), &[]));
    assert!(wire.does(wire::SET_VRING_BASE, &state(index, 0), &[]));
    assert!(wire.does(wire::SET_VRING_ADDR, &place(index, at.descriptors, at.device, at.driver), &[]));
}

#[test]
fn files_that_are_no_eventfds() {
    beside_a_good_guest(|target| {
        let strange = Strange::new();
        let good = EventFd::new(0).expect("an eventfd");
        for fd in strange.all() {
            for message in [wire::SET_VRING_KICK, wire::SET_VRING_CALL, wire::SET_VRING_ERR] {
                let memory = memory(2, BASE);
                let mut ring =
                    Ring::new(memory.clone(), 0, RingSetup { kind: RingKind::Split, size: 16, event_index: false });
                let mut wire = Wire::agreed(target.connect(BAD));
                place_queue(&mut wire, &memory, &ring, 0);
                // It may be refused, which ends the session or does not.
                for (other, own) in
                    [(wire::SET_VRING_ERR, &good), (wire::SET_VRING_CALL, &good), (wire::SET_VRING_KICK, &good)]
                {
                    let fd = if other == message { fd } else { own.as_raw_fd() };
                    wire.send(other, VERSION | NEED_REPLY, &words(&[0]), &[fd]);
                    let _ = wire.answer(other);
                }
                wire.send(wire::SET_VRING_ENABLE, VERSION | NEED_REPLY, &state(0, 1), &[]);
                let _ = wire.answer(wire::SET_VRING_ENABLE);
                // Requests that are told to somebody who does not take it, and then one that breaks the ring.
                memory.write(CONTROL, &[0; 17]);
                let piece = |at, len, is_written| Piece { guest: memory.guest(at), len, is_written };
                let chain = [piece(CONTROL, 16, false), piece(DATA, 4096, true), piece(CONTROL + 16, 1, true)];
                for _ in 0..3 {
                    ring.give(&chain, false);
                    ring.publish();
                    let _ = good.write(1);
                    std::thread::sleep(Duration::from_millis(3));
                }
                ring.offer(u16::MAX);
                ring.publish();
                let _ = good.write(1);
                std::thread::sleep(Duration::from_millis(3));
                target.assert_alive();
            }
        }
        // Files that are no memory.
        for fd in strange.all() {
            let mut wire = Wire::agreed(target.connect(BAD));
            let body = table(1, &[region(BASE, 2 << 20, 1 << 40, 0)]);
            assert!(!wire.does(wire::SET_MEM_TABLE, &body, &[fd]), "memory that is none");
        }
    });
}

/// What must not be done, each on a connection of its own: it is not, or the session ends.
#[test]
fn messages_that_cannot_be() {
    beside_a_good_guest(|target| {
        let memory = memory(2, BASE);
        let file = memory.file().as_raw_fd();
        let (len, own) = (memory.len() as u64, memory.address(0));
        let right = region(BASE, len, own, 0);
        let far = u64::MAX - 4095;
        let inflight = |size: u64, queues: u16, entries: u16| {
            [words(&[size, 0]), queues.to_le_bytes().to_vec(), entries.to_le_bytes().to_vec(), vec![0; 4]].concat()
        };
        let config = |offset: u32, size: u32, bytes: &[u8]| [&state(offset, size)[..], &[0; 4], bytes].concat();
        let eventfd = EventFd::new(0).expect("an eventfd");
        let refused: Vec<(u32, Vec<u8>, Vec<RawFd>, &str)> = vec![
            (wire::SET_FEATURES, words(&[1 << 63 | wire::FEATURES]), vec![], "features that were not offered"),
            (wire::SET_FEATURES, vec![1, 2, 3], vec![], "half a number"),
            (wire::SET_MEM_TABLE, table(1, std::slice::from_ref(&right)), vec![], "memory without its file"),
            (wire::SET_MEM_TABLE, table(2, &[right.clone(), right.clone()]), vec![file], "one file for two"),
            (wire::SET_MEM_TABLE, table(2, &[right.clone(), right.clone()]), vec![file, file], "memory twice"),
            (
                wire::SET_MEM_TABLE,
                table(2, std::slice::from_ref(&right)),
                vec![file, file],
                "fewer regions than it says",
            ),
            (wire::SET_MEM_TABLE, table(u32::MAX, std::slice::from_ref(&right)), vec![file], "very many regions"),
            (wire::SET_MEM_TABLE, table(1, &[region(BASE, 0, own, 0)]), vec![file], "a region of nothing"),
            (wire::SET_MEM_TABLE, table(1, &[region(BASE, len + 1, own, 0)]), vec![file], "a region behind its file"),
            (wire::SET_MEM_TABLE, table(1, &[region(BASE, u64::MAX, own, 0)]), vec![file], "a region of all there is"),
            (wire::SET_MEM_TABLE, table(1, &[region(far, 8192, own, 0)]), vec![file], "a region that wraps to 0"),
            (wire::SET_MEM_TABLE, table(1, &[region(BASE, 4096, far, 0)]), vec![file], "a front end's end that wraps"),
            (wire::SET_MEM_TABLE, table(1, &[region(BASE, 4096, own, far)]), vec![file], "an offset far away"),
            (wire::ADD_MEM_REG, [words(&[0]), region(BASE, 0, own, 0)].concat(), vec![file], "a slot of nothing"),
            (wire::ADD_MEM_REG, [words(&[0]), right.clone()].concat(), vec![], "a slot without a file"),
            (wire::REM_MEM_REG, [words(&[0]), right.clone()].concat(), vec![], "a slot that there is not"),
            (wire::SET_VRING_NUM, state(1000, 16), vec![], "the size of a queue that there is not"),
            (wire::SET_VRING_NUM, state(0, 1 << 16), vec![], "too large a ring"),
            (wire::SET_VRING_NUM, state(0, u32::MAX), vec![], "far too large a ring"),
            (wire::SET_VRING_BASE, state(u32::MAX, 0), vec![], "the base of a queue that there is not"),
            (wire::SET_VRING_ADDR, place(1000, own, own, own), vec![], "the place of a queue that there is not"),
            (wire::SET_VRING_ENABLE, state(1000, 1), vec![], "a start of a queue that there is not"),
            (wire::SET_VRING_KICK, words(&[255]), vec![eventfd.as_raw_fd()], "a kick of a queue that there is not"),
            (wire::SET_CONFIG, config(0, 8, &[0; 8]), vec![], "another capacity"),
            (wire::SET_CONFIG, config(32, 1, &[7]), vec![], "a cache that is neither on nor off"),
            (wire::SET_CONFIG, config(u32::MAX, 1, &[1]), vec![], "configuration far away"),
            (wire::SET_INFLIGHT_FD, inflight(64, 1, 16), vec![file], "too little memory for requests at work"),
            (wire::SET_INFLIGHT_FD, inflight(len * 2, 1, 16), vec![file], "more of it than its file has"),
            (wire::SET_INFLIGHT_FD, inflight(u64::MAX, u16::MAX, u16::MAX), vec![file], "a huge one"),
            (wire::SET_INFLIGHT_FD, inflight(0, 0, 0), vec![], "none at all"),
        ];
        for (request, body, fds, why) in refused {
            let mut wire = Wire::agreed(target.connect(BAD));
            assert!(!wire.does(request, &body, &fds), "it was done: {why}");
            drop(wire);
            target.assert_alive();
        }
        // Asked for, and either answered with an error or not at all.
        for (request, body) in [
            (wire::GET_VRING_BASE, state(1000, 0)),
            (wire::GET_CONFIG, config(0, 4097, &[])),
            (wire::GET_CONFIG, config(4000, 200, &[0; 200])),
            (wire::GET_INFLIGHT_FD, inflight(0, u16::MAX, u16::MAX)),
            (wire::GET_INFLIGHT_FD, inflight(0, 0, 0)),
        ] {
            let mut wire = Wire::agreed(target.connect(BAD));
            wire.send(request, VERSION, &body, &[]);
            wire.0.shutdown(std::net::Shutdown::Write).expect("closed");
            assert!(wire.has_ended());
            target.assert_alive();
        }
    });
}

/// What a front end kept of requests at work may say anything.
#[test]
fn requests_at_work_that_never_were() {
    let seed = Random::seed("VHOST_HOSTILE_SEED");
    beside_a_good_guest(|target| {
        let mut random = Random(seed);
        for round in 0..60 {
            let kind = if round % 2 == 0 { RingKind::Split } else { RingKind::Packed };
            let (memory, kept) = (memory(2, BASE), memory(2, 0));
            let noise: Vec<u64> = (0..512).map(|_| random.next() >> random.below(64)).collect();
            kept.write(0, &words(&noise));
            if random.one_in(2) {
                // The version, the number of entries and the flags as they have to be.
                kept.write(0, &[0; 8]);
                kept.write(8, &[1, 0, 16, 0]);
            }
            let mut wire = Wire::agreed(target.connect(BAD));
            let packed = if kind == RingKind::Packed { 1 << 34 } else { 0 };
            assert!(wire.does(wire::SET_FEATURES, &words(&[wire::FEATURES | packed]), &[]));
            let body = [words(&[4096, 0]), vec![1, 0, 16, 0], vec![0; 4]].concat();
            wire.does(wire::SET_INFLIGHT_FD, &body, &[kept.file().as_raw_fd()]);
            let ring = Ring::new(memory.clone(), 0, RingSetup { kind, size: 16, event_index: false });
            memory.write(0, &words(&noise[..64]));
            place_queue(&mut wire, &memory, &ring, 0);
            let eventfd = EventFd::new(0).expect("an eventfd");
            wire.does(wire::SET_VRING_KICK, &words(&[0]), &[eventfd.as_raw_fd()]);
            wire.does(wire::SET_VRING_ENABLE, &state(0, 1), &[]);
            if random.one_in(4) {
                kept.file().set_len(0).expect("cut short");
            }
            let _ = eventfd.write(1);
            std::thread::sleep(Duration::from_millis(2));
            target.assert_alive();
        }
    });
}

#[test]
fn messages_out_of_order_and_without_sense() {
    beside_a_good_guest(|target| {
        let memory = memory(2, BASE);
        let ring = Ring::new(memory.clone(), 0, RingSetup { kind: RingKind::Split, size: 16, event_index: false });
        let at = ring.place();
        let eventfd = EventFd::new(0).expect("an eventfd");
        // A start before there is anything, in every order: nothing runs, or the session ends.
        let steps: [(u32, Vec<u8>, Vec<RawFd>); 4] = [
            (wire::SET_VRING_ENABLE, state(0, 1), vec![]),
            (wire::SET_VRING_KICK, words(&[0]), vec![eventfd.as_raw_fd()]),
            (wire::SET_VRING_ADDR, place(0, at.descriptors, at.device, at.driver), vec![]),
            (wire::SET_VRING_NUM, state(0, 16), vec![]),
        ];
        for turn in 0..steps.len() {
            for backwards in [false, true] {
                let mut order: Vec<_> = (0..steps.len()).map(|n| (n + turn) % steps.len()).collect();
                if backwards {
                    order.reverse();
                }
                let mut wire = Wire::agreed(target.connect(BAD));
                for step in order {
                    let (request, body, fds) = &steps[step];
                    wire.send(*request, VERSION | NEED_REPLY, body, fds);
                    if wire.answer(*request).is_none() {
                        break;
                    }
                }
                target.assert_alive();
            }
        }
        // Before anything was agreed, and without being asked to.
        for request in 0..=wire::LAST + 2 {
            for len in [0, 8, 12, 20, 40, 60] {
                let mut wire = Wire(target.connect(BAD));
                wire.send(request, VERSION, &vec![0xFF; len], &[eventfd.as_raw_fd()]);
                wire.0.shutdown(std::net::Shutdown::Write).expect("closed");
                assert!(wire.has_ended());
            }
        }
        target.assert_alive();
        // Memory with the ring in it is taken away while the queue runs, and the queue's parts are told anew.
        for kind in [RingKind::Split, RingKind::Packed] {
            let mut bad = Hostile::connect(target, kind);
            let _ = bad.end.remove_memory(&bad.memory);
            let _ = bad.victim.events.kick.write(1);
            let mut again = Hostile::connect_after(target, kind, bad);
            again.expect_other();
        }
    });
}

#[test]
fn half_messages_and_other_protocols() {
    beside_a_good_guest(|target| {
        let header = |request: u32, flags: u32, len: u32| -> Vec<u8> {
            [request, flags, len].iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let endings: Vec<(Vec<u8>, &str)> = vec![
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), "HTTP"),
            (header(1, VERSION, 0)[..5].to_vec(), "half a header"),
            ([header(2, VERSION, 8), vec![0; 3]].concat(), "half a body"),
            (header(1, 0, 0), "no version"),
            (header(1, 2, 0), "another version"),
            (header(1, VERSION | REPLY, 0), "an answer to nothing"),
            (header(1, u32::MAX, 0), "all flags"),
            (header(1, VERSION, u32::MAX), "a body of 4 GiB"),
            (header(1, VERSION, 4097), "too long a body"),
            (header(0, VERSION, 0), "the message 0"),
            (header(u32::MAX, VERSION, 0), "a message that there is not"),
            (vec![0; 64], "zeros"),
            (vec![0xFF; 4096], "ones"),
        ];
        for (bytes, why) in &endings {
            let mut wire = Wire(target.connect(BAD));
            wire.send_bytes(bytes, &[]);
            wire.0.shutdown(std::net::Shutdown::Write).expect("closed");
            assert!(wire.has_ended(), "{why}");
            target.assert_alive();
        }
        // Silence holds nobody up but the next one at this socket, who is served when it ends.
        for asks in [false, true] {
            let mut silent = Wire(target.connect(BAD));
            if asks {
                silent.ask(wire::GET_FEATURES, &[]).expect("features");
            }
            let mut next = Wire(target.connect(BAD));
            next.send(wire::GET_FEATURES, VERSION, &[], &[]);
            assert!(next.is_silent(Duration::from_millis(100)), "two front ends at a socket");
            drop(silent);
            assert!(next.answer(wire::GET_FEATURES).is_some());
        }
    });
}

#[test]
fn random_messages() {
    let seed = Random::seed("VHOST_HOSTILE_SEED");
    beside_a_good_guest(|target| {
        let mut random = Random(seed);
        let strange = Strange::new();
        let memory = memory(2, BASE);
        let mut files = strange.all();
        files.push(memory.file().as_raw_fd());
        let before = target.open_files();
        for _ in 0..200 {
            let stream = target.connect(BAD);
            stream.set_write_timeout(Some(PATIENCE)).expect("set");
            let mut wire = if random.one_in(4) { Wire(stream) } else { Wire::agreed(stream) };
            for _ in 0..random.below(20) {
                let request = 1 + random.below(u64::from(wire::LAST)) as u32;
                let words: Vec<u64> = (0..random.below(8))
                    .map(|_| match random.below(5) {
                        0 => random.below(4),
                        1 => random.next() >> random.below(64),
                        2 => BASE + random.below(3 << 20),
                        3 => memory.address(random.below(2 << 20) as usize & !15),
                        _ => 16 << 32,
                    })
                    .collect();
                let fds: Vec<RawFd> = (0..random.below(9).saturating_sub(5))
                    .map(|_| files[random.below(files.len() as u64) as usize])
                    .collect();
                let flags = if random.one_in(30) { random.next() as u32 } else { VERSION };
                wire.send(request, flags, &wire::words(&words), &fds);
            }
            wire.0.shutdown(std::net::Shutdown::Write).expect("closed");
            assert!(wire.has_ended());
            target.assert_alive();
        }
        // What came with messages is closed with their session.
        target.settle_at(before);
    });
}
