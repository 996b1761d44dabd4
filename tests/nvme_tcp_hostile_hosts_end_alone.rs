//! A malformed or hostile NVMe/TCP host ends its own connection, with the termination that the specification has for it, and nothing else: meanwhile
//! a good host goes on without an error, and afterwards every buffer is back in its pool.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::nvme_client::{
    Digests, FIELD, HEADER_DIGEST, Host, LIMIT, OUT_OF_RANGE, PARAMETER, SEQUENCE, Said, blocks, command, ic_req,
    in_capsule, transport,
};
use common::nvme_target::{NvmeTarget, admin_wish};
use common::{device, encrypted, wait_for};
use strongroom::crypto::xts::SectorSize;
use strongroom::export::nvme_tcp::wire::command::Command;
use strongroom::export::nvme_tcp::wire::opcode::io::{COMPARE, FLUSH, READ, WRITE};
use strongroom::export::nvme_tcp::wire::pdu::{flags, kind};
use strongroom::export::nvme_tcp::wire::status::Status;

const MEMORY: &str = "kind = 'memory'\nsize = '16 MiB'\nhugepages = 'never'";
/// Where hostile hosts write: what the good one checks lies elsewhere.
const FAR: u64 = 1024;
/// Short enough for a test, and a look every quarter of a second.
const IMPATIENT: &str = "stall_timeout_s = 1\nhandshake_timeout_s = 1";
/// The largest transfer, in sectors of 4096 bytes.
const MOST: u32 = 64;

fn target(more: &str) -> NvmeTarget {
    target_on(MEMORY, more)
}

fn target_on(device_toml: &str, more: &str) -> NvmeTarget {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = encrypted("d0", &device(&dir, device_toml), SectorSize::B4096);
    NvmeTarget::start(dir, 1, &[disk], more)
}

/// Runs `attack` on the reactor that also serves a good host, which reads back what it writes all the while, in and out of capsules.
fn beside_a_good_host(target: &NvmeTarget, attack: impl FnOnce(&NvmeTarget)) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let (mut admin, mut io) = target.both("b", Digests::BOTH);
            let mut rounds = 0u64;
            while !over.load(Ordering::Relaxed) || rounds < 10 {
                let small = vec![rounds as u8; 8192];
                let large = vec![!rounds as u8; 128 << 10];
                assert_eq!(io.run(blocks(WRITE, 8, 2), &small).status, Status::SUCCESS, "a write of the good host");
                let written = io.run_asked(blocks(WRITE, 64, 32), &large);
                assert_eq!(written.status, Status::SUCCESS, "a large write of the good host");
                assert!(io.fetch(blocks(READ, 8, 2), 8192).data == small, "a read of the good host");
                assert!(io.fetch(blocks(READ, 64, 32), 128 << 10).data == large, "a large read of the good host");
                assert_eq!(admin.run(command(0x18, 0), &[]).status, Status::SUCCESS, "keep alive");
                rounds += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let attacked = catch_unwind(AssertUnwindSafe(|| attack(target)));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = attacked {
            resume_unwind(panic);
        }
        good.join().expect("the good host");
    });
    target.expect_idle();
}

/// What the target says last, before it closes the connection.
#[track_caller]
fn expect_termination(mut host: Host, status: u16, information: u32, why: &str) {
    let said = host.listen();
    assert_eq!(said, Said::Terminated { status, information }, "{why}");
    assert!(host.is_closed(), "still open: {why}");
}

#[test]
fn wrong_initializations() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        let right = ic_req(Digests::NONE, 1);
        for (at, value, status, information, why) in [
            (0, kind::CAPSULE_CMD, SEQUENCE, 0, "a command before ICReq"),
            (0, kind::IC_RESP, SEQUENCE, 0, "an ICResp from a host"),
            (0, 0xFF, SEQUENCE, 0, "an unknown type before ICReq"),
            (2, 127, FIELD, 2, "a short header"),
            (2, 0, FIELD, 2, "no header"),
            (4, 127, FIELD, 4, "a short length"),
            (4, 129, FIELD, 4, "a long length"),
            (7, 1, FIELD, 4, "a length of 16 MiB"),
            (8, 1, PARAMETER, 8, "another format version"),
            (9, 0x80, PARAMETER, 8, "another format version, upper byte"),
            (10, 1, PARAMETER, 10, "aligned data"),
            (10, 32, FIELD, 10, "an alignment that there is not"),
        ] {
            let mut bytes = right.clone();
            bytes[at] = value;
            let mut host = Host::silent(target.address());
            host.send(&bytes);
            expect_termination(host, status, information, why);
        }
        let mut twice = Host::initialized(target.address(), Digests::NONE, 1);
        twice.send(&ic_req(Digests::NONE, 1));
        expect_termination(twice, SEQUENCE, 0, "a second ICReq");
        // The most that can be asked for, and digests that there are not, are no error.
        let mut most = Host::silent(target.address());
        let mut bytes = right;
        bytes[12..16].fill(0xFF);
        bytes[11] = 0xFC;
        most.send(&bytes);
        most.half_close();
        assert!(most.is_closed());
    });
    target.stop();
}

/// A connection that is an I/O queue.
fn served(target: &NvmeTarget, digests: Digests) -> (Host, Host) {
    target.both("a", digests)
}

#[test]
fn wrong_capsules() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        for digests in [Digests::NONE, Digests { header: true, data: false }, Digests::BOTH] {
            let head: u8 = 72 + if digests.header { 4 } else { 0 };
            let page = vec![0x11; 4096];
            let mut write = blocks(WRITE, FAR, 1);
            write.data = in_capsule(4096);
            for (at, value, data, status, information, why) in [
                (0, kind::C2H_DATA, &[][..], FIELD, 0, "a type that only targets send"),
                (0, kind::R2T, &[], FIELD, 0, "an R2T from a host"),
                (0, kind::CAPSULE_RESP, &[], FIELD, 0, "a response from a host"),
                (0, kind::C2H_TERM_REQ, &[], FIELD, 0, "a termination of the wrong direction"),
                (0, 0x08, &[], FIELD, 0, "an unknown type"),
                (0, 0xFF, &[], FIELD, 0, "an unknown type"),
                (1, 0xFF ^ flags::HEADER_DIGEST, &page, FIELD, 1, "digest flags that were not agreed"),
                (2, 71, &[], FIELD, 2, "a short header"),
                (2, 73, &[], FIELD, 2, "a long header"),
                (2, 0, &[], FIELD, 2, "no header"),
                (3, 72 - 4, &page, FIELD, 3, "data within the header"),
                (3, 0, &page, FIELD, 3, "data at the beginning"),
                (3, head + 1, &page, FIELD, 3, "data at an odd place"),
                (4, 8, &[], FIELD, 4, "shorter than its header"),
                (4, 71, &[], FIELD, 4, "one byte shorter than its header"),
                (7, 0x7F, &page, FIELD, 4, "a length of 2 GiB"),
            ] {
                if at == 1 && !digests.header {
                    continue;
                }
                let (admin, mut host) = served(target, digests);
                let mut bytes = host.capsule(&write, data);
                bytes[at] = value;
                host.send(&bytes);
                expect_termination(host, status, information, why);
                drop(admin);
            }
            // More data than capsules may carry.
            let (_admin, mut host) = served(target, digests);
            write.data = in_capsule(8192 + 4);
            let bytes = host.capsule(&write, &[1; 8192 + 4]);
            host.send(&bytes);
            expect_termination(host, FIELD, 4, "too much data in a capsule");
        }
        // Flags that were not agreed on a connection without digests.
        for wrong in [flags::HEADER_DIGEST, flags::HEADER_DIGEST | flags::DATA_DIGEST] {
            let (_admin, mut host) = served(target, Digests::NONE);
            let mut bytes = host.capsule(&command(FLUSH, 1), &[]);
            bytes[1] = wrong;
            host.send(&bytes);
            expect_termination(host, FIELD, 1, "a digest that was not agreed");
        }
        // Only a data digest's worth of bytes behind the header.
        let (_admin, mut host) = served(target, Digests::BOTH);
        let mut bytes = host.capsule(&command(WRITE, 1), &[1; 4]);
        bytes.truncate(80);
        bytes[4] = 80;
        host.digests.reseal(&mut bytes);
        host.send(&bytes);
        expect_termination(host, FIELD, 4, "no room for the data");
    });
    target.stop();
}

#[test]
fn a_data_offset_beyond_the_header_is_padding() {
    let target = target("");
    for digests in [Digests::NONE, Digests::BOTH] {
        let (_admin, mut io) = served(&target, digests);
        let data: Vec<u8> = (0..4096).map(|n| n as u8).collect();
        let mut write = blocks(WRITE, FAR, 1);
        write.data = in_capsule(4096);
        write.cid = io.next_cid().into();
        let head = 72 + if digests.header { 4 } else { 0 };
        let mut bytes = io.capsule(&write, &data);
        bytes.splice(head..head, [0xEE; 128]);
        let len = bytes.len() as u32;
        bytes[3] = head as u8 + 128;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        digests.reseal(&mut bytes);
        io.send(&bytes);
        assert_eq!(io.finish(write.cid.get(), &[]).status, Status::SUCCESS);
        assert!(io.fetch(blocks(READ, FAR, 1), 4096).data == data);
    }
    target.expect_idle();
    target.stop();
}

#[test]
fn digests_that_do_not_fit() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        // A header cannot be trusted any more (TCP section 3.3.1.1).
        let (_admin, mut host) = served(target, Digests::BOTH);
        let mut bytes = host.capsule(&command(FLUSH, 1), &[]);
        let digest = u32::from_le_bytes(bytes[72..76].try_into().expect("four bytes"));
        bytes[72] ^= 1;
        host.send(&bytes);
        expect_termination(host, HEADER_DIGEST, digest ^ 1, "a wrong header digest");

        let (_admin, mut host) = served(target, Digests::BOTH);
        let mut bytes = host.capsule(&command(FLUSH, 1), &[]);
        bytes[20] ^= 0x40;
        host.send(&bytes);
        expect_termination(host, HEADER_DIGEST, digest, "a damaged header");

        // Damaged data only fails its command: in a capsule, in a data PDU, and of each sort of command.
        let (_admin, mut host) = served(target, Digests::BOTH);
        assert_eq!(host.run(blocks(WRITE, FAR, 2), &[0x77; 8192]).status, Status::SUCCESS);
        for opcode in [WRITE, COMPARE] {
            let mut capsule = blocks(opcode, FAR, 1);
            (capsule.cid, capsule.data) = (host.next_cid().into(), in_capsule(4096));
            let mut bytes = host.capsule(&capsule, &[0x78; 4096]);
            *bytes.last_mut().expect("a digest") ^= 0x80;
            host.send(&bytes);
            assert_eq!(host.finish(capsule.cid.get(), &[]).status, Status::TRANSIENT_TRANSPORT_ERROR);

            let mut asked = blocks(opcode, FAR, 2);
            asked.data = transport(8192);
            let cid = host.send_as_is(asked, &[]);
            let Said::R2t { tag, len: 8192, .. } = host.listen() else { panic!("no R2T") };
            let mut bytes = host.data_pdu(cid, tag, 0, &[0x78; 4096], false);
            bytes[100] ^= 1;
            host.send(&bytes);
            let bytes = host.data_pdu(cid, tag, 4096, &[0x78; 4096], true);
            host.send(&bytes);
            assert_eq!(host.finish(cid, &[]).status, Status::TRANSIENT_TRANSPORT_ERROR);
        }
        assert_eq!(host.run(command(FLUSH, 1), &[]).status, Status::SUCCESS);
        assert_eq!(host.fetch(blocks(READ, FAR, 1), 4096).data.len(), 4096);
    });
    target.stop();
}

/// A write of 32 KiB that was asked for; gives its identifier and tag.
fn asked(target: &NvmeTarget, digests: Digests) -> (Host, Host, u16, u16) {
    let (admin, mut host) = served(target, digests);
    let mut write = blocks(WRITE, FAR, 8);
    write.data = transport(8 * 4096);
    let cid = host.send_as_is(write, &[]);
    let Said::R2t { cid: asked, tag, offset: 0, len: 32768 } = host.listen() else { panic!("no R2T") };
    assert_eq!(asked, cid);
    (admin, host, cid, tag)
}

#[test]
fn data_that_was_not_asked_for() {
    let target = target("");
    let page = vec![0x22; 4096];
    let whole = vec![0x22; 32768];
    beside_a_good_host(&target, |target| {
        for digests in [Digests::NONE, Digests::BOTH] {
            type Spoil<'a> = &'a dyn Fn(&Host, u16, u16) -> Vec<u8>;
            let attacks: [(Spoil, u16, u32, &str); 14] = [
                (&|h, cid, tag| h.data_pdu(cid, tag + 1, 0, &page, false), FIELD, 10, "an unknown tag"),
                (&|h, cid, _| h.data_pdu(cid, 0xFFFF, 0, &page, false), FIELD, 10, "the last tag"),
                (&|h, cid, tag| h.data_pdu(cid + 1, tag, 0, &page, false), FIELD, 8, "the tag of another command"),
                (&|h, cid, tag| h.data_pdu(cid, tag, 4096, &page, false), OUT_OF_RANGE, 0, "a gap"),
                (&|h, cid, tag| h.data_pdu(cid, tag, 0xFFFF_F000, &page, false), OUT_OF_RANGE, 0, "far away"),
                (
                    &|h, cid, tag| h.data_pdu(cid, tag, 0, &[&whole[..], &page].concat(), true),
                    OUT_OF_RANGE,
                    0,
                    "too much",
                ),
                (&|h, cid, tag| h.data_pdu(cid, tag, 0, &page, true), FIELD, 1, "LAST too early"),
                (&|h, cid, tag| h.data_pdu(cid, tag, 0, &whole, false), FIELD, 1, "LAST forgotten"),
                (&|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &page, false), 16, 1), FIELD, 16, "DATAL too large"),
                (&|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &[], false), 16, 0), FIELD, 16, "no data"),
                (&|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &page, false), 2, 23), FIELD, 2, "a short header"),
                (
                    &|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &page, false), 3, 20),
                    FIELD,
                    3,
                    "data in the header",
                ),
                (
                    &|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &page, false), 4, 9),
                    FIELD,
                    16,
                    "a length that differs",
                ),
                (&|h, cid, tag| changed(h, h.data_pdu(cid, tag, 0, &page, false), 7, 1), FIELD, 16, "16 MiB"),
            ];
            for (spoil, status, information, why) in attacks {
                let (_admin, mut host, cid, tag) = asked(target, digests);
                let bytes = spoil(&host, cid, tag);
                host.send(&bytes);
                expect_termination(host, status, information, why);
            }
            // In order, but the same again.
            let (_admin, mut host, cid, tag) = asked(target, digests);
            let bytes = host.data_pdu(cid, tag, 0, &page, false).repeat(2);
            host.send(&bytes);
            expect_termination(host, OUT_OF_RANGE, 0, "the same data twice");
            // After the end.
            let (_admin, mut host, cid, tag) = asked(target, digests);
            let bytes = host.data_pdu(cid, tag, 0, &whole, true);
            host.send(&bytes);
            assert_eq!(host.finish(cid, &[]).status, Status::SUCCESS);
            host.send(&bytes);
            expect_termination(host, FIELD, 10, "data of a command that has ended");
        }
        let (_admin, mut host, cid, tag) = asked(target, Digests::BOTH);
        let mut bytes = host.data_pdu(cid, tag, 0, &page, false);
        bytes[24] ^= 4;
        let received = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
        host.send(&bytes);
        expect_termination(host, HEADER_DIGEST, received, "a wrong header digest");
        // Data before there is any command, and before Connect.
        let (_admin, mut host) = served(target, Digests::NONE);
        let bytes = host.data_pdu(1, 0, 0, &page, true);
        host.send(&bytes);
        expect_termination(host, FIELD, 10, "data out of nothing");
        let mut host = Host::initialized(target.address(), Digests::NONE, 1);
        host.send(&bytes);
        expect_termination(host, FIELD, 10, "data before Connect");
        // A data PDU larger than MAXH2CDATA.
        let (_admin, mut host, cid, tag) = asked(target, Digests::NONE);
        let bytes = host.data_pdu(cid, tag, 0, &vec![0; (256 << 10) + 4], true);
        let _ = host.try_send(&bytes);
        expect_termination(host, LIMIT, 0, "a data PDU beyond MAXH2CDATA");
    });
    target.stop();
}

fn changed(host: &Host, mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    host.digests.reseal(&mut bytes);
    bytes
}

#[test]
fn terminations_from_the_host() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        for data in [0, 72, 128] {
            let (_admin, mut host) = served(target, Digests::BOTH);
            let mut bytes = vec![kind::H2C_TERM_REQ, 0, 24, 0];
            bytes.extend((24 + data as u32).to_le_bytes());
            bytes.extend(vec![1; 16 + data]);
            host.send(&bytes);
            assert!(host.is_closed(), "still open after a termination");
        }
        for (len, why) in [(23u32, "a short termination"), (24 + 129, "a long termination"), (u32::MAX, "4 GiB of it")]
        {
            let (_admin, mut host) = served(target, Digests::NONE);
            let mut bytes = vec![kind::H2C_TERM_REQ, 0, 24, 0];
            bytes.extend(len.to_le_bytes());
            bytes.extend([0; 16]);
            host.send(&bytes);
            expect_termination(host, FIELD, 4, why);
        }
        let (_admin, mut host) = served(target, Digests::NONE);
        host.send(&[&[kind::H2C_TERM_REQ, 0, 72, 0, 24, 0, 0, 0][..], &[0; 16]].concat());
        expect_termination(host, FIELD, 2, "a termination with another header length");
    });
    target.stop();
}

#[test]
fn random_bytes() {
    let target = target(IMPATIENT);
    let mut noise = vec![0; 1 << 16];
    beside_a_good_host(&target, |target| {
        for round in 0..60 {
            getrandom::fill(&mut noise).expect("noise");
            let mut host = match round % 3 {
                0 => Host::silent(target.address()),
                1 => Host::initialized(target.address(), Digests::NONE, 1),
                _ => served(target, Digests::NONE).1,
            };
            if round % 2 == 0 {
                // As if it were something.
                noise[0] = [kind::CAPSULE_CMD, kind::H2C_DATA, kind::IC_REQ, kind::H2C_TERM_REQ][round % 4];
                noise[2] = [72, 24, 128, 24][round % 4];
                noise[5..8].fill(0);
            }
            let _ = host.try_send(&noise[..1 << (round % 16)]);
            host.half_close_if_open();
            assert!(host.is_closed(), "round {round}: still open");
        }
    });
    target.stop();
}

#[test]
fn half_of_everything() {
    let target = target(IMPATIENT);
    beside_a_good_host(&target, |target| {
        // All at once: each waits for the same watchdog.
        let silent = Host::silent(target.address());
        let mut half_request = Host::silent(target.address());
        half_request.send(&ic_req(Digests::NONE, 1)[..60]);
        let not_connected = Host::initialized(target.address(), Digests::NONE, 1);
        let mut half_connect = Host::initialized(target.address(), Digests::NONE, 1);
        let mut connect = admin_wish("a").command();
        connect.data = in_capsule(1024);
        let bytes = half_connect.capsule(&connect, &admin_wish("a").data());
        half_connect.send(&bytes[..500]);
        let mut asked_connect = Host::initialized(target.address(), Digests::NONE, 1);
        connect.data = transport(1024);
        asked_connect.send_as_is(connect, &[]);

        let (admin, controller) = target.admin("a", Digests::NONE);
        let mut queue = 0;
        let mut io = || {
            queue += 1;
            target.io("a", controller, queue, Digests::BOTH, 4)
        };
        let mut half_header = io();
        half_header.send(&[kind::CAPSULE_CMD, 3, 72]);
        let mut half_capsule = io();
        let mut write = blocks(WRITE, FAR, 2);
        write.data = in_capsule(8192);
        let bytes = half_capsule.capsule(&write, &[1; 8192]);
        half_capsule.send(&bytes[..bytes.len() - 1]);
        let mut half_data = io();
        let mut asked = blocks(WRITE, FAR, MOST);
        asked.data = transport(256 << 10);
        let cid = half_data.send_as_is(asked, &[]);
        let Said::R2t { tag, len, .. } = half_data.listen() else { panic!("no R2T") };
        let bytes = half_data.data_pdu(cid, tag, 0, &vec![1; len], true);
        half_data.send(&bytes[..len / 2]);
        // All that was asked for is the rest of a PDU as well: whoever does not send it keeps memory for nothing.
        let mut no_data = io();
        no_data.send_as_is(asked, &[]);
        let mut no_data_but_others = io();
        no_data_but_others.send_as_is(asked, &[]);
        let mut idle = io();

        let mut half = vec![silent, half_request, not_connected, half_connect, asked_connect];
        half.extend([half_header, half_capsule, half_data, no_data]);
        for mut host in half {
            assert!(host.is_closed(), "half of a message, and still open");
        }
        for _ in 0..200 {
            // It goes on asking, and still does not send its data.
            let flush = no_data_but_others.capsule(&command(FLUSH, 1), &[]);
            if no_data_but_others.try_send(&flush).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(no_data_but_others.is_closed(), "the data never comes, and still open");
        // One that has nothing to ask outlives them all.
        assert_eq!(idle.run(command(FLUSH, 1), &[]).status, Status::SUCCESS);
        drop(admin);
    });
    target.stop();
}

#[test]
fn one_byte_at_a_time() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        let mut host = Host::silent(target.address());
        for byte in ic_req(Digests::BOTH, 2) {
            host.send(&[byte]);
        }
        let mut answer = [0; 128];
        std::io::Read::read_exact(&mut host.stream, &mut answer).expect("an ICResp");
        host.digests = Digests::BOTH;
        let controller = host.become_admin(&admin_wish("a"));
        let mut io = target.io("a", controller, 1, Digests::BOTH, 4);
        let data: Vec<u8> = (0..4096).map(|n| (n * 7) as u8).collect();
        let mut write = blocks(WRITE, FAR, 1);
        (write.cid, write.data) = (1000.into(), in_capsule(4096));
        for piece in io.capsule(&write, &data).chunks(13) {
            io.send(piece);
        }
        assert_eq!(io.finish(1000, &[]).status, Status::SUCCESS);
        (write.cid, write.data) = (1001.into(), transport(4096));
        let bytes = io.capsule(&write, &[]);
        bytes.iter().for_each(|&byte| io.send(&[byte]));
        let Said::R2t { cid: 1001, tag, .. } = io.listen() else { panic!("no R2T") };
        // Every dword in a PDU of its own.
        for (n, piece) in data.chunks(4).enumerate() {
            let bytes = io.data_pdu(1001, tag, n * 4, piece, n == 1023);
            io.send(&bytes);
        }
        assert_eq!(io.finish(1001, &[]).status, Status::SUCCESS);
        assert!(io.fetch(blocks(READ, FAR, 1), 4096).data == data);
    });
    target.stop();
}

#[test]
fn a_host_that_never_reads() {
    let target = target(IMPATIENT);
    beside_a_good_host(&target, |target| {
        for count in [MOST, 1] {
            for digests in [Digests::NONE, Digests::BOTH] {
                let (admin, mut greedy) = served(target, digests);
                let mut flood = Vec::new();
                for n in 0..4000u16 {
                    let mut read = blocks(READ, FAR, count);
                    (read.cid, read.data) = (n.into(), transport(count as usize * 4096));
                    flood.extend(greedy.capsule(&read, &[]));
                }
                // The target stops taking commands, and in the end hangs up.
                let _ = greedy.try_send(&flood);
                wait_for("the greedy host to be dropped", || target.server().connections() == 3);
                drop(admin);
                wait_for("its admin queue to end", || target.server().connections() == 2);
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
    beside_a_good_host(&target, |target| {
        for round in 0..20 {
            wait_for("a place", || target.server().connections() < 20);
            let digests = if round % 2 == 0 { Digests::BOTH } else { Digests::NONE };
            let (admin, mut host) = served(target, digests);
            for n in 0..10 {
                let mut read = blocks(READ, FAR + n * 4, 4);
                read.data = transport(16384);
                host.send_as_is(read, &[]);
                host.send_with_data(blocks(WRITE, FAR + n * 2, 2), &[1; 8192]);
                let mut asked = blocks(WRITE, FAR, MOST);
                asked.data = transport(256 << 10);
                let cid = host.send_as_is(asked, &[]);
                let mut fused = blocks(COMPARE, FAR, 1);
                (fused.flags, fused.data) = (0x41, transport(4096));
                host.send_as_is(fused, &[]);
                if round % 4 == 0 {
                    let bytes = host.data_pdu(cid, 0, 0, &[1; 4096], false);
                    host.send(&bytes[..2000]);
                    break;
                }
            }
            // Unread answers make the kernel reset the connection.
            if round % 3 == 0 {
                drop(admin);
                drop(host);
            } else {
                drop(host);
                drop(admin);
            }
        }
    });
    target.stop();
}

#[test]
fn more_hosts_than_there_is_room_for() {
    let target = target("max_connections = 6\nhandshake_timeout_s = 1\nstall_timeout_s = 1");
    beside_a_good_host(&target, |target| {
        wait_for("the good host", || target.server().connections() == 2);
        let strangers: Vec<_> = (0..4).map(|_| Host::silent(target.address())).collect();
        let mut refused: Vec<_> = (0..50).map(|_| Host::silent(target.address())).collect();
        assert!(refused.iter_mut().all(Host::is_closed), "one too many");
        for mut stranger in strangers {
            assert!(stranger.is_closed(), "never connected, and still open");
        }
        wait_for("their places to be free", || target.server().connections() == 2);
        drop(served(target, Digests::NONE));
    });
    // As many as the memory carries, and more.
    let target2 = self::target("");
    beside_a_good_host(&target2, |target| {
        wait_for("the good host", || target.server().connections() == 2);
        let mut flood: Vec<_> = (0..300).map(|_| Host::silent(target.address())).collect();
        flood.iter_mut().for_each(|host| drop(host.try_send(&ic_req(Digests::BOTH, 16))));
        wait_for("the flood to be taken", || target.server().connections() > 90);
    });
    target.stop();
    target2.stop();
}

/// Data lies behind all the commands that came before it was asked for: whoever waits for room must not stand in its way.
#[test]
fn many_large_writes_share_a_small_pool() {
    let target = target("");
    let (admin, controller) = target.admin("a", Digests::NONE);
    std::thread::scope(|scope| {
        for n in 0..6u16 {
            let target = &target;
            scope.spawn(move || {
                let mut host = target.io("a", controller, n + 1, Digests::NONE, 4);
                let large = vec![n as u8; 256 << 10];
                for _ in 0..3 {
                    for place in 0..60u64 {
                        let mut write = blocks(WRITE, (u64::from(n) * 8 + place % 8) * u64::from(MOST), MOST);
                        write.data = transport(large.len());
                        host.send_as_is(write, &[]);
                    }
                    let mut open = 60;
                    while open > 0 {
                        match host.listen() {
                            Said::R2t { cid, tag, offset, len } => {
                                let bytes = host.data_pdu(cid, tag, offset, &large[offset..offset + len], true);
                                host.send(&bytes);
                            }
                            Said::Completion { status: Status::SUCCESS, .. } => open -= 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
                let read = host.fetch(blocks(READ, u64::from(n) * 8 * u64::from(MOST), MOST), large.len());
                assert!(read.data == large, "the data of host {n}");
            });
        }
    });
    drop(admin);
    target.expect_idle();
    target.stop();
}

/// Hosts that have all that they may have under way, and never send the data that they are asked for.
#[test]
fn memory_that_is_hoarded() {
    let target = target("");
    beside_a_good_host(&target, |target| {
        wait_for("the good host", || target.server().connections() == 2);
        let (_admin, controller) = target.admin("a", Digests::NONE);
        let hoard = |opcode: u8, count: u32, fused: bool| -> Vec<u8> {
            let host = Host::silent(target.address());
            let mut bytes = Vec::new();
            for n in 0..60u16 {
                let mut first = blocks(opcode, FAR, count);
                (first.cid, first.data) = (n.into(), transport(count as usize * 4096));
                if fused {
                    first.flags = 0x41;
                    bytes.extend(host.capsule(&first, &[]));
                    let mut second: Command = blocks(WRITE, FAR, count);
                    (second.cid, second.flags, second.data) = ((n + 100).into(), 0x42, in_capsule(4096));
                    bytes.extend(host.capsule(&second, &[2; 4096]));
                } else {
                    bytes.extend(host.capsule(&first, &[]));
                }
            }
            bytes
        };
        let mut hoarders = Vec::new();
        for n in 1..=40 {
            let bytes = match n % 4 {
                0 => hoard(WRITE, MOST, false),
                1 => hoard(COMPARE, MOST, false),
                2 => hoard(COMPARE, 1, true),
                _ => hoard(WRITE, 1, false),
            };
            let mut hoarder = target.io("a", controller, n, Digests::NONE, 16);
            let _ = hoarder.stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = hoarder.try_send(&bytes);
            hoarders.push(hoarder);
        }
        // A newcomer finds room, and the good host too: it ends only after ten rounds.
        let mut late = target.io("a", controller, 64, Digests::NONE, 1);
        assert_eq!(late.run(blocks(WRITE, FAR, 2), &[9; 8192]).status, Status::SUCCESS);
        assert_eq!(late.run_asked(blocks(WRITE, FAR, MOST), &vec![9; 256 << 10]).status, Status::SUCCESS);
        assert_eq!(late.fetch(blocks(READ, FAR, MOST), 256 << 10).data.len(), 256 << 10);
        assert_eq!(late.run_asked(blocks(COMPARE, FAR, MOST), &vec![9; 256 << 10]).status, Status::SUCCESS);
    });
    target.stop();
}
