//! The seeds and findings of the fuzzers, one by one: nothing may come of them but answers. And the seeds are what they say they are,
//! conversations that go well, so that a fuzzer begins deep inside.
//!
//! `cargo test --test fuzz_corpus_is_harmless -- --ignored` writes the seeds anew.

mod common;

use std::path::{Path, PathBuf};

use common::nvme_client::{
    CC, Digests, ENABLE, NEW_CONTROLLER, Wish, admin, command, ic_req, in_capsule, property_get, property_set,
    transport,
};
use strongroom::export::nvme_tcp::fuzzing::{ACCOUNT, CONTROLLER, HOST_ID, OPEN_HOST, PROVING_HOST, Playground, pdu};
use strongroom::export::nvme_tcp::wire::command::Command;
use strongroom::export::nvme_tcp::wire::opcode::admin as op;
use strongroom::export::nvme_tcp::wire::opcode::{FABRICS, fabrics, io};
use strongroom::export::nvme_tcp::wire::pdu::kind;
use strongroom::export::nvme_tcp::wire::status::Status;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// All files of a corpus, in order.
fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(corpus(target)).expect("a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds");
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

#[test]
fn decoding_harms_nothing() {
    for (path, bytes) in files("pdu") {
        println!("{}", path.display());
        // Also cut anywhere.
        (0..=bytes.len()).for_each(|len| pdu(&bytes[..len]));
    }
}

#[test]
fn answers_of_a_kmip_server_harm_nothing() {
    for (path, bytes) in files("kmip_answer") {
        println!("{}", path.display());
        (0..=bytes.len()).for_each(|len| strongroom::kms::kmip::fuzzing::answer(&bytes[..len]));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                strongroom::kms::kmip::fuzzing::answer(&wrong);
            }
        }
    }
}

#[test]
fn requests_to_the_cloud_api_harm_nothing() {
    use strongroom::cloud::http::fuzzing::{claim, parameters};
    for (target, entry) in [("cloud_parameters", parameters as fn(&[u8]) -> bool), ("cloud_claim", claim)] {
        for (path, bytes) in files(target) {
            println!("{}", path.display());
            assert!(entry(&bytes), "a seed is something that can be read");
            for len in 0..bytes.len() {
                entry(&bytes[..len]);
                let mut wrong = bytes.clone();
                wrong[len] ^= 1 << (len % 8);
                entry(&wrong);
            }
        }
    }
}

#[test]
fn conversations_harm_nothing() {
    let playground = Playground::new();
    for (path, bytes) in files("connection") {
        println!("{}", path.display());
        playground.play(&bytes);
        // Without its end, and with each byte of some wrong.
        playground.play(&bytes[..bytes.len() * 2 / 3]);
        for at in (0..bytes.len()).step_by(97) {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << (at % 8);
            playground.play(&wrong);
        }
    }
}

#[test]
fn the_seeds_are_conversations_that_go_well() {
    let playground = Playground::new();
    for (name, conversation) in conversations() {
        let committed = std::fs::read(corpus("connection").join(name));
        assert!(committed.is_ok_and(|it| it == conversation.bytes()), "{name}: write the seeds anew");
        let said = playground.play(&conversation.bytes());
        expect_success(name, conversation.digests, &said);
    }
}

#[test]
#[ignore = "writes into tests/fuzz/corpus"]
fn write_the_seeds() {
    for (name, conversation) in conversations() {
        write("connection", name, &conversation.bytes());
        let digests = u8::from(conversation.digests.header) | u8::from(conversation.digests.data) << 1;
        for (number, pdu) in conversation.pdus.iter().enumerate().skip(1) {
            write("pdu", &format!("{name}-{number}"), &[&[digests], &pdu[..]].concat());
        }
    }
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(corpus(target)).expect("a directory");
    std::fs::write(corpus(target).join(name), bytes).expect("written");
}

/// Every completion is a success, and nothing is terminated.
fn expect_success(name: &str, digests: Digests, said: &[u8]) {
    let mut rest = &said[128..];
    let mut completions = 0;
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes")) as usize;
        let (pdu, more) = rest.split_at(len);
        rest = more;
        assert_ne!(pdu[0], kind::C2H_TERM_REQ, "{name}: terminated: {pdu:x?}");
        if pdu[0] == kind::CAPSULE_RESP {
            let status = Status::from_wire(u16::from_le_bytes([pdu[22], pdu[23]]));
            let cid = u16::from_le_bytes([pdu[20], pdu[21]]);
            // What waits for an event ends with its connection.
            let ends = status.is_success() || status == Status::ABORTED_SQ_DELETION;
            assert!(ends, "{name}: command {cid}: {status} (digests: {digests:?})");
            completions += 1;
        }
    }
    assert!(completions > 0, "{name}: nothing was answered");
}

/// What a host says, PDU by PDU.
struct Conversation {
    digests: Digests,
    pdus: Vec<Vec<u8>>,
}

impl Conversation {
    fn begin(digests: Digests) -> Self {
        Self { digests, pdus: vec![ic_req(digests, 4)] }
    }

    fn admin(digests: Digests, host: &str) -> Self {
        let mut it = Self::begin(digests);
        it.connect(&Wish { host: host.to_owned(), ..wish() });
        it
    }

    fn ready(digests: Digests) -> Self {
        let mut it = Self::admin(digests, OPEN_HOST);
        it.say(property_set(CC, ENABLE), &[]);
        it
    }

    fn io(digests: Digests) -> Self {
        let mut it = Self::begin(digests);
        it.connect(&Wish { queue: 1, controller: CONTROLLER, attributes: 4, ..wish() });
        it
    }

    fn connect(&mut self, wish: &Wish) {
        self.say(wish.command(), &wish.data());
    }

    /// A command, with data in its capsule if there is any.
    fn say(&mut self, mut command: Command, data: &[u8]) -> u16 {
        if !data.is_empty() {
            command.data = in_capsule(data.len());
        }
        let cid = self.pdus.len() as u16;
        command.cid = cid.into();
        self.pdus.push(self.digests.capsule(&command, data));
        cid
    }

    /// A command that brings data.
    fn ask(&mut self, mut command: Command, room: usize) {
        command.data = transport(room);
        self.say(command, &[]);
    }

    /// A command whose data is asked for with one R2T, and comes in two PDUs.
    fn give(&mut self, mut command: Command, tag: u16, data: &[u8]) {
        command.data = transport(data.len());
        let cid = self.say(command, &[]);
        let (first, second) = data.split_at(data.len() / 4);
        self.pdus.push(self.digests.data_pdu(cid, tag, 0, first, false));
        self.pdus.push(self.digests.data_pdu(cid, tag, first.len(), second, true));
    }

    fn bytes(&self) -> Vec<u8> {
        self.pdus.concat()
    }
}

fn wish() -> Wish {
    Wish {
        subsystem: format!("nqn.2026-11.io.strongroom:{ACCOUNT}"),
        host: OPEN_HOST.to_owned(),
        host_id: HOST_ID,
        controller: NEW_CONTROLLER,
        queue: 0,
        size: 31,
        keep_alive_ms: 0,
        attributes: 0,
        format: 0,
    }
}

/// A command on sectors of 512 bytes of namespace 1.
fn blocks(opcode: u8, start: u32, count: u32) -> Command {
    let mut command = command(opcode, 1);
    (command.cdw10, command.cdw12) = (start.into(), (count - 1).into());
    command
}

fn fused(fuse: u8, opcode: u8, start: u32) -> Command {
    let command = blocks(opcode, start, 1);
    Command { flags: command.flags | fuse, ..command }
}

fn conversations() -> Vec<(&'static str, Conversation)> {
    let mut all = vec![
        ("identify", identify(Digests::NONE)),
        ("identify-with-digests", identify(Digests::BOTH)),
        ("log-pages", log_pages()),
        ("features", features()),
        ("discovery", discovery()),
        ("shutdown", shutdown()),
        ("read-and-write", read_and_write(Digests::NONE)),
        ("read-and-write-with-digests", read_and_write(Digests::BOTH)),
        ("r2t", r2t(Digests::NONE)),
        ("r2t-with-digests", r2t(Digests::BOTH)),
        ("other-commands", other_commands()),
        ("compare-and-write", compare_and_write()),
        ("reservations", reservations()),
        ("authentication", authentication()),
        ("termination", termination()),
    ];
    all.sort_by_key(|(name, _)| *name);
    all
}

fn identify(digests: Digests) -> Conversation {
    let mut it = Conversation::ready(digests);
    // CAP has eight bytes, VS, CC and CSTS four.
    for (offset, size) in [(0, 1), (8, 0), (CC, 0), (0x1C, 0)] {
        it.say(property_get(offset, size), &[]);
    }
    for cns in [0x01, 0x02, 0x06, 0x1C] {
        it.ask(admin(op::IDENTIFY, 0, cns, 0), 4096);
    }
    for cns in [0x00, 0x03, 0x05, 0x08] {
        it.ask(admin(op::IDENTIFY, 1, cns, 0), 4096);
    }
    it.say(admin(op::KEEP_ALIVE, 0, 0, 0), &[]);
    it
}

fn log_pages() -> Conversation {
    let mut it = Conversation::ready(Digests::NONE);
    for page in [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0C, 0x12, 0x80] {
        it.ask(admin(op::GET_LOG_PAGE, u32::MAX, 0x000F_0000 | page, 0), 64);
    }
    it
}

fn features() -> Conversation {
    let mut it = Conversation::ready(Digests::NONE);
    for feature in [0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x0A, 0x0B, 0x0F] {
        it.say(admin(op::GET_FEATURES, 0, feature, 0), &[]);
    }
    it.ask(admin(op::GET_FEATURES, 0, 0x81, 1), 16);
    it.say(admin(op::SET_FEATURES, 0, 0x07, 0x0003_0003), &[]);
    it.say(admin(op::SET_FEATURES, 0, 0x06, 0), &[]);
    it.say(admin(op::SET_FEATURES, 0, 0x0B, 0x100), &[]);
    it.say(admin(op::SET_FEATURES, 0, 0x0F, 5000), &[]);
    it.say(admin(op::SET_FEATURES, 1, 0x82, 0xE), &[]);
    it.say(admin(op::SET_FEATURES, 0, 0x16, 0), &[1; 512]);
    let event = it.say(admin(op::ASYNC_EVENT_REQUEST, 0, 0, 0), &[]);
    it.say(admin(op::ABORT, 0, u32::from(event) << 16, 0), &[]);
    it
}

fn discovery() -> Conversation {
    let mut it = Conversation::begin(Digests::NONE);
    it.connect(&Wish { subsystem: "nqn.2014-08.org.nvmexpress.discovery".to_owned(), ..wish() });
    it.say(property_set(CC, ENABLE), &[]);
    it.ask(admin(op::IDENTIFY, 0, 0x01, 0), 4096);
    it.ask(admin(op::GET_LOG_PAGE, 0, 0x00FF_0070, 0), 1024);
    it.ask(admin(op::GET_LOG_PAGE, 0, 0x07FF_0070, 0), 8192);
    it.say(admin(op::SET_FEATURES, 0, 0x0B, 1 << 31), &[]);
    it.say(admin(op::ASYNC_EVENT_REQUEST, 0, 0, 0), &[]);
    it
}

fn shutdown() -> Conversation {
    let mut it = Conversation::ready(Digests::NONE);
    it.say(property_set(CC, ENABLE | 1 << 14), &[]);
    it.say(property_set(CC, 0), &[]);
    it.say(property_set(CC, ENABLE), &[]);
    it
}

fn read_and_write(digests: Digests) -> Conversation {
    let mut it = Conversation::io(digests);
    it.say(blocks(io::WRITE, 0, 1), &[0x5A; 512]);
    let mut durable = blocks(io::WRITE, 1, 2);
    durable.cdw12 = (durable.cdw12.get() | 1 << 30).into();
    it.say(durable, &[0xA5; 1024]);
    it.ask(blocks(io::READ, 0, 2), 1024);
    let mut other = blocks(io::WRITE, 3, 1);
    other.nsid = 2.into();
    it.say(other, &[1; 4096]);
    it.say(command(io::FLUSH, 1), &[]);
    it.say(command(io::FLUSH, u32::MAX), &[]);
    it.ask(blocks(io::READ, 100, 512), 256 << 10);
    it
}

fn r2t(digests: Digests) -> Conversation {
    let mut it = Conversation::io(digests);
    it.give(blocks(io::WRITE, 0, 2), 0, &[0x11; 1024]);
    it.give(blocks(io::COMPARE, 0, 1), 0, &[0x11; 512]);
    let mut ranges = command(io::DATASET_MANAGEMENT, 1);
    (ranges.cdw10, ranges.cdw11) = (1.into(), 4.into());
    it.give(ranges, 0, &[[0, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0], [0; 16]].concat());
    it
}

fn other_commands() -> Conversation {
    let mut it = Conversation::io(Digests::NONE);
    it.say(blocks(io::WRITE_ZEROES, 10, 300), &[]);
    let mut freed = blocks(io::WRITE_ZEROES, 10, 3);
    freed.cdw12 = (freed.cdw12.get() | 1 << 25).into();
    it.say(freed, &[]);
    it.say(blocks(io::COMPARE, 10, 2), &[0; 1024]);
    it.say(blocks(io::VERIFY, 0, 1000), &[]);
    let mut ranges = command(io::DATASET_MANAGEMENT, 1);
    ranges.cdw11 = 4.into();
    it.say(ranges, &[0, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    it.say(command(FABRICS, fabrics::DISCONNECT.into()), &[]);
    it
}

fn compare_and_write() -> Conversation {
    let mut it = Conversation::io(Digests::NONE);
    it.say(blocks(io::WRITE, 20, 1), &[1; 512]);
    it.say(fused(1, io::COMPARE, 20), &[1; 512]);
    it.say(fused(2, io::WRITE, 20), &[2; 512]);
    it.say(fused(1, io::COMPARE, 20), &[2; 512]);
    it.give(fused(2, io::WRITE, 20), 0, &[3; 512]);
    it
}

fn reservations() -> Conversation {
    let mut it = Conversation::io(Digests::NONE);
    let keys = |current: u64, second: u64| [current.to_le_bytes(), second.to_le_bytes()].concat();
    // The key of before is ignored: an earlier host may have left one.
    it.say(admin(io::RESERVATION_REGISTER, 1, 0b1010, 0), &keys(0, 7));
    it.ask(admin(io::RESERVATION_REPORT, 1, 31, 1), 128);
    it.say(admin(io::RESERVATION_ACQUIRE, 1, 0x100, 0), &keys(7, 0));
    it.say(admin(io::RESERVATION_RELEASE, 1, 0x100, 0), &keys(7, 0)[..8]);
    it.say(admin(io::RESERVATION_RELEASE, 1, 1, 0), &keys(7, 0)[..8]);
    it
}

fn authentication() -> Conversation {
    let mut it = Conversation::begin(Digests::NONE);
    it.connect(&Wish { host: PROVING_HOST.to_owned(), host_id: [0x63; 16], ..wish() });
    // AUTH_Negotiate: transaction 1, one descriptor, three hash functions, the null group (Base section 8.13.5.2).
    let mut negotiate = vec![0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 3, 1];
    negotiate.extend([1, 2, 3]);
    negotiate.resize(12 + 30, 0);
    negotiate.push(0);
    negotiate.resize(12 + 64, 0);
    let specific = 0xE901_0100;
    let mut send = admin(FABRICS, fabrics::AUTHENTICATION_SEND.into(), specific, negotiate.len() as u32);
    it.say(send, &negotiate);
    it.ask(admin(FABRICS, fabrics::AUTHENTICATION_RECEIVE.into(), specific, 256), 256);
    // DH-HMAC-CHAP_Reply with a wrong response, and the failure that follows.
    let mut reply = vec![1, 2, 0, 0, 1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    reply.resize(16 + 64, 0x33);
    send.cdw11 = (reply.len() as u32).into();
    it.say(send, &reply);
    it.ask(admin(FABRICS, fabrics::AUTHENTICATION_RECEIVE.into(), specific, 256), 256);
    it
}

fn termination() -> Conversation {
    let mut it = Conversation::ready(Digests::BOTH);
    it.say(admin(op::KEEP_ALIVE, 0, 0, 0), &[]);
    it.pdus.push([&[kind::H2C_TERM_REQ, 0, 24, 0, 24, 0, 0, 0, 1, 0][..], &[0; 14]].concat());
    it
}
