//! A malformed or hostile NBD client ends its own connection and nothing else: meanwhile a good client goes on without an error, and afterwards every
//! buffer is back in its pool.

mod common;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use common::nbd_client::{
    BLOCK_STATUS, CACHE, Client, DF, DISC, EINVAL, ENOSPC, EOVERFLOW, FAST_ZERO, FLUSH, OPT_GO, READ, REQ_ONE, TRIM,
    WRITE, WRITE_ZEROES, request,
};
use common::{Target, device, encrypted, wait_for};
use strongroom::crypto::xts::SectorSize;

const SIZE: u64 = 16 << 20;
const MEMORY: &str = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'";
/// Where hostile clients write: what the good one checks lies elsewhere.
const FAR: u64 = 4 << 20;
/// Short enough for a test, and a look every quarter of a second.
const IMPATIENT: &str = "stall_timeout_s = 1\nhandshake_timeout_s = 1";

fn target(more: &str) -> Target {
    target_on(MEMORY, more)
}

fn target_on(device_toml: &str, more: &str) -> Target {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = encrypted("d0", &device(&dir, device_toml), SectorSize::B4096);
    Target::start(dir, 1, &[disk], more)
}

/// Runs `attack` on the reactor that also serves a good client, which reads back what it writes all the while.
fn beside_a_good_client(target: &Target, attack: impl FnOnce(&Target)) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let mut client = Client::silent(&target.socket()).greet().go("d0", true);
            let mut rounds = 0u64;
            while !over.load(Ordering::Relaxed) || rounds < 10 {
                let data = vec![rounds as u8; 8192];
                assert_eq!(client.write(0, 8192, &data), 0, "a write of the good client");
                let reply = client.ask(READ, 0, 8192, 8192);
                assert!(reply.error == 0 && reply.data == data, "a read of the good client");
                rounds += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let attacked = catch_unwind(AssertUnwindSafe(|| attack(target)));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = attacked {
            resume_unwind(panic);
        }
        good.join().expect("the good client");
    });
    target.expect_idle();
}

fn greeted(target: &Target) -> Client {
    Client::silent(&target.socket()).greet()
}

fn served(target: &Target) -> Client {
    greeted(target).go("d0", true)
}

fn expect_closed(mut client: Client, why: &str) {
    assert!(client.is_closed(), "still open: {why}");
}

#[test]
fn nonsense_in_the_handshake() {
    let target = target("");
    beside_a_good_client(&target, |target| {
        let mut flags = Client::silent(&target.socket());
        flags.send(&0xffff_fff0u32.to_be_bytes());
        expect_closed(flags, "unknown client flags");

        let mut magic = greeted(target);
        magic.send(&[0x55; 64]);
        expect_closed(magic, "wrong option magic");

        let mut huge = greeted(target);
        huge.send(&[b"IHAVEOPT".as_slice(), &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat());
        expect_closed(huge, "an option of 4 GiB");

        let mut unknown = greeted(target);
        unknown.option(1, b"no such export");
        expect_closed(unknown, "an export that is not there");

        let mut not_fixed = Client::silent(&target.socket());
        not_fixed.send(&0u32.to_be_bytes());
        not_fixed.option(OPT_GO, &[0; 6]);
        expect_closed(not_fixed, "an option without fixed newstyle");
    });
    target.stop();
}

#[test]
fn wrong_options_are_answered_and_the_handshake_goes_on() {
    let target = target("");
    let mut client = greeted(&target);
    let unsupported = (1 << 31) + 1;
    let (policy, invalid, unknown) = ((1 << 31) + 2, (1 << 31) + 3, (1 << 31) + 6);
    let name = b"\0\0\0\x05other\0\0".as_slice();
    for (option, data, answer) in [
        (4, b"".as_slice(), unsupported),
        (5, b"", policy),
        (11, b"", unsupported),
        (9999, b"data that nobody knows", unsupported),
        (3, b"data", invalid),
        (8, b"data", invalid),
        (7, b"", invalid),
        (7, b"\xff\xff\xff\xff", invalid),
        (6, b"\0\0\0\0\0\x09\0\0", invalid),
        (7, name, unknown),
        // Without structured replies.
        (10, b"\0\0\0\0\0\0\0\0", invalid),
    ] {
        client.option(option, data);
        assert_eq!(client.option_replies(), [answer], "option {option} {data:?}");
    }
    let mut client = client.go("d0", true);
    assert_eq!(client.ask(READ, 0, 0, 4096).data.len(), 4096);
    drop(client);

    let mut goodbye = greeted(&target);
    goodbye.option(2, b"");
    assert_eq!(goodbye.option_replies(), [1]);
    expect_closed(goodbye, "after ABORT");

    let mut flood = greeted(&target);
    let option = [b"IHAVEOPT".as_slice(), &9999u32.to_be_bytes(), &0u32.to_be_bytes()].concat();
    // The server may hang up in the middle of the flood.
    let _ = flood.stream.write_all(&option.repeat(2000));
    expect_closed(flood, "two thousand options");
    target.expect_idle();
    target.stop();
}

#[test]
fn nonsense_in_requests() {
    let target = target("");
    beside_a_good_client(&target, |target| {
        let mut magic = served(target);
        magic.send(&[0x55; 28]);
        expect_closed(magic, "wrong request magic");

        let mut oversized = served(target);
        oversized.request(WRITE, 0, 0, (32 << 20) + 1, &[]);
        expect_closed(oversized, "a write that is larger than announced");

        let mut old = served(target);
        let mut bytes = request(READ, 0, 1, 0, 4096);
        bytes[..4].copy_from_slice(&0x1256_0953u32.to_be_bytes());
        old.send(&bytes);
        expect_closed(old, "a request of the past");
    });
    target.stop();
}

#[test]
fn wrong_requests_are_refused_and_change_nothing() {
    let target = target("");
    for structured in [true, false] {
        let mut client = greeted(&target).go("d0", structured);
        assert_eq!(client.write(0, 0, &[0x5a; 8192]), 0);
        let end = SIZE;
        let too_large = if structured { EOVERFLOW } else { EINVAL };
        for (kind, flags, offset, length, error) in [
            (READ, 0, 1, 4096, EINVAL),
            (READ, 0, 0, 512, EINVAL),
            (READ, 0, 0, 0, EINVAL),
            (READ, 0, end, 4096, EINVAL),
            (READ, 0, u64::MAX - 4095, 4096, EINVAL),
            (READ, 1 << 9, 0, 4096, EINVAL),
            (READ, FAST_ZERO, 0, 4096, EINVAL),
            (READ, DF, 0, 1 << 20, too_large),
            (TRIM, 0, end - 4096, 8192, EINVAL),
            (TRIM, 0, 512, 4096, EINVAL),
            (WRITE_ZEROES, 0, end - 4096, 8192, ENOSPC),
            (WRITE_ZEROES, 0, 0, 100, EINVAL),
            (CACHE, 0, end, 4096, EINVAL),
            (BLOCK_STATUS, 0, end, 4096, EINVAL),
            (FLUSH, 0, 4096, 0, EINVAL),
            (77, 0, 0, 0, EINVAL),
        ] {
            let reply = client.ask(kind, flags, offset, length);
            assert_eq!(reply.error, error, "{kind} {flags} {offset} {length}");
        }
        // Refused writes have a payload that has to be taken from the stream.
        for (offset, length, error) in [
            (1, 4096, EINVAL),
            (0, 100, EINVAL),
            (end, 4096, ENOSPC),
            (end - 4096, 8192, ENOSPC),
            (512, 1 << 20, EINVAL),
        ] {
            assert_eq!(client.write(0, offset, &vec![1; length]), error, "write {offset} {length}");
        }
        assert_eq!(client.ask(READ, 0, 0, 8192).data, [0x5a; 8192]);
    }
    let mut client = served(&target);
    assert_eq!(client.ask(BLOCK_STATUS, REQ_ONE, 0, 8192).extents, [(8192, 0)]);
    assert_eq!(client.ask(READ, DF, 0, 256 << 10).chunks, 1);
    assert_eq!(client.ask(READ, DF, 0, 1 << 20).error, EOVERFLOW);
    // Zeroes on an encrypted disk are written like all else.
    assert_eq!(client.ask(WRITE_ZEROES, FAST_ZERO, 0, 8192).error, 95);
    assert_eq!(client.ask(READ, 0, 0, 8192).data, [0x5a; 8192]);
    drop(client);
    target.expect_idle();
    target.stop();
}

#[test]
fn half_of_everything() {
    let target = target(IMPATIENT);
    beside_a_good_client(&target, |target| {
        // All at once: each waits for the same watchdog.
        let silent = Client::silent(&target.socket());
        let mut half_option = greeted(target);
        half_option.send(b"IHAVE");
        let mut idle_in_handshake = greeted(target);
        idle_in_handshake.option(9999, b"");
        let mut half_request = served(target);
        half_request.send(&request(READ, 0, 1, 0, 4096)[..10]);
        let mut half_payload = served(target);
        half_payload.request(WRITE, 0, FAR, 64 << 10, &[1; 1000]);
        let mut half_pieces = served(target);
        half_pieces.request(WRITE, 0, FAR, 1 << 20, &vec![1; 700 << 10]);
        let mut idle = served(target);
        for client in [silent, half_option, idle_in_handshake, half_request, half_payload, half_pieces] {
            expect_closed(client, "half of a message");
        }
        // One that has nothing to ask outlives them all.
        assert_eq!(idle.ask(READ, 0, 0, 4096).error, 0);
    });
    target.stop();
}

#[test]
fn a_client_that_never_reads() {
    let target = target(IMPATIENT);
    beside_a_good_client(&target, |target| {
        for (kind, length) in [(READ, 1 << 20), (READ, 4096), (FLUSH, 0)] {
            for structured in [true, false] {
                let mut greedy = greeted(target).go("d0", structured);
                let flood = request(kind, 0, 7, 0, length).repeat(4000);
                // The server stops taking requests, and in the end hangs up.
                let sent = greedy.stream.write_all(&flood);
                if sent.is_ok() && kind == FLUSH {
                    // Replies without data are small enough for the socket's buffers.
                    continue;
                }
                wait_for("the greedy client to be dropped", || target.server().connections() == 1);
            }
        }
    });
    target.stop();
}

#[test]
fn going_away_in_the_middle() {
    let slow = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'
        layers = [{ kind = 'delay', read_us = 20000, write_us = 20000, flush_us = 20000 }]";
    let target = target_on(slow, "");
    beside_a_good_client(&target, |target| {
        for round in 0..20 {
            // The memory of the reactor carries 16 connections.
            wait_for("a place", || target.server().connections() < 10);
            let mut client =
                if round % 2 == 0 { served(target) } else { Client::silent_tcp(&target.tcp()).greet().go("d0", false) };
            for n in 0..10 {
                client.request(READ, 0, n << 14, 16 << 10, &[]);
                client.request(WRITE, 0, (8 << 20) + (n << 14), 16 << 10, &[1; 16 << 10]);
            }
            if round % 3 == 0 {
                client.request(WRITE, 0, FAR, 512 << 10, &[1; 100]);
            }
            // Unread replies make the kernel reset a TCP connection.
            drop(client);
        }
    });
    target.stop();
}

#[test]
fn a_goodbye_is_said_after_the_last_answer() {
    let slow = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'\nlayers = [{ kind = 'delay', read_us = 400000 }]";
    let target = target_on(slow, "");
    for says_goodbye in [true, false] {
        let mut client = served(&target);
        let asked = client.request(READ, 0, 0, 4096, &[]);
        if says_goodbye {
            client.request(DISC, 0, 0, 0, &[]);
        } else {
            client.half_close();
        }
        assert_eq!(client.reply(asked).data.len(), 4096);
        expect_closed(client, "after the goodbye");
    }
    // The same when it is the server that goes.
    let mut client = served(&target);
    let asked = client.request(READ, 0, 0, 4096, &[]);
    let reader = std::thread::spawn(move || {
        let reply = client.reply(asked);
        (reply.data.len(), client.is_closed())
    });
    std::thread::sleep(std::time::Duration::from_millis(200));
    target.stop();
    assert_eq!(reader.join().expect("the client"), (4096, true));
}

#[test]
fn a_read_that_fails_after_its_reply_began_ends_the_connection() {
    let failing = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'
        layers = [{ kind = 'fault', rules = [{ effect = 'error', on = 'read', from = 8388608 }] }]";
    let target = target_on(failing, "");
    let (begin, across) = (8 << 20, (8 << 20) - (256 << 10));
    let mut simple = greeted(&target).go("d0", false);
    assert_eq!(simple.ask(READ, 0, begin, 1 << 20).error, 5);
    assert_eq!(simple.ask(READ, 0, 0, 1 << 20).error, 0);
    simple.request(READ, 0, across, 1 << 20, &[]);
    expect_closed(simple, "the reply cannot be finished");
    let mut structured = served(&target);
    assert_eq!(structured.ask(READ, 0, across, 1 << 20).error, 5);
    assert_eq!(structured.ask(READ, 0, 0, 1 << 20).error, 0);
    drop(structured);
    target.expect_idle();
    target.stop();
}

#[test]
fn more_clients_than_there_is_room_for() {
    let target = target("max_connections = 3");
    let mut held: Vec<_> = (0..3).map(|_| served(&target)).collect();
    expect_closed(Client::silent(&target.socket()), "one too many");
    assert_eq!(held[0].ask(READ, 0, 0, 4096).error, 0);
    drop(held.pop());
    wait_for("the place to be free", || target.server().connections() == 2);
    assert_eq!(served(&target).ask(READ, 0, 0, 4096).error, 0);
    drop(held);
    target.expect_idle();
    target.stop();
}

#[test]
fn many_large_requests_share_a_small_pool() {
    let target = target("");
    std::thread::scope(|scope| {
        for n in 0..8u64 {
            let target = &target;
            scope.spawn(move || {
                let mut client = greeted(target).go("d0", n % 2 == 0);
                let data = vec![n as u8; 2 << 20];
                for _ in 0..10 {
                    assert_eq!(client.write(0, n * (2 << 20), &data), 0);
                    assert!(client.ask(READ, 0, n * (2 << 20), 2 << 20).data == data, "the data of client {n}");
                }
            });
        }
    });
    target.expect_idle();
    target.stop();
}
