//! Whatever several NVMe/TCP queues on two reactors do at once, each reads what it wrote: thousands of random commands against a plain model in
//! memory, with and without digests, on disks in memory and in a file.
//!
//! A run is reproduced by its seed: `NVME_MODEL_SEED=… cargo test --test nvme_tcp_matches_a_model`.

mod common;

use std::collections::HashMap;
use std::ops::Range;

use common::nvme_client::{Digests, Host, Said, blocks, command, in_capsule, transport};
use common::nvme_target::NvmeTarget;
use common::random::Random;
use common::{device, encrypted, plain};
use strongroom::crypto::xts::SectorSize;
use strongroom::export::nvme_tcp::wire::command::Command;
use strongroom::export::nvme_tcp::wire::opcode::io::{
    COMPARE, DATASET_MANAGEMENT, FLUSH, READ, VERIFY, WRITE, WRITE_ZEROES,
};
use strongroom::export::nvme_tcp::wire::status::Status;

/// Each queue has a part of the disk for itself, so that its model is exact.
const PART: u64 = 4 << 20;
const QUEUES: u64 = 4;
const COMMANDS: usize = 2000;
const IN_FLIGHT: usize = 16;
/// What a command may move.
const MOST_BYTES: u64 = 256 << 10;
/// What a capsule may carry.
const MOST_IN_CAPSULE: usize = 8192;
/// What a fused pair may move.
const MOST_FUSED: u64 = 4 << 10;
const FUA: u32 = 1 << 30;
const DEALLOCATE: u32 = 1 << 25;

/// What a command does to the model, and what has to come back.
enum Effect {
    /// The sectors hold the word afterwards.
    Write(u64),
    /// The sectors may hold anything afterwards.
    Forget,
    /// The sectors come.
    Read,
    /// All sectors hold this word, or the comparison fails.
    Compare(u64),
    /// The first half of a pair; the second has the next number.
    CompareAnd(u64),
    /// The second half: written if the first has succeeded.
    ThenWrite(u64),
    Nothing,
}

struct Pending {
    effect: Effect,
    range: Range<usize>,
    /// What is sent when it is asked for.
    data: Vec<u8>,
    received: Vec<u8>,
}

struct Run {
    context: String,
    random: Random,
    host: Host,
    first: u64,
    sector: u64,
    /// The word that each sector is filled with, if it is known.
    sectors: Vec<Option<u64>>,
    busy: Vec<bool>,
    pending: HashMap<u16, Pending>,
    /// Of the last pair: whether its first half has succeeded.
    was_equal: bool,
    /// How often each path was taken.
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    equal: usize,
    unequal: usize,
    swapped: usize,
    unswapped: usize,
    several_r2t: usize,
}

impl Run {
    fn new(seed: u64, part: u64, host: Host, sector: u64) -> Self {
        let count = (PART / sector) as usize;
        Self {
            context: format!("NVME_MODEL_SEED={seed}, queue {part}"),
            random: Random(seed ^ part.wrapping_mul(0x1234_5678_9abc_def1)),
            host,
            first: part * count as u64,
            sector,
            sectors: vec![None; count],
            busy: vec![false; count],
            pending: HashMap::new(),
            was_equal: false,
            seen: Seen::default(),
        }
    }

    fn drive(&mut self) {
        for _ in 0..COMMANDS {
            while self.pending.len() >= IN_FLIGHT || (!self.pending.is_empty() && self.random.one_in(4)) {
                self.listen();
            }
            self.start_one();
        }
        self.complete_all();
        // At the end all of it is read once more.
        let step = (MOST_BYTES / self.sector) as usize;
        for at in (0..self.sectors.len()).step_by(step) {
            self.read(at..at + step);
        }
        self.complete_all();
    }

    fn range(&mut self, most_bytes: u64) -> Range<usize> {
        let count = self.random.below(most_bytes / self.sector) + 1;
        let at = self.random.below(self.sectors.len() as u64 - count);
        at as usize..(at + count) as usize
    }

    fn start_one(&mut self) {
        let large = self.random.one_in(30);
        if large {
            // One thread cannot send and receive at once, so what exceeds the sockets' buffers goes alone.
            self.complete_all();
        }
        let range = self.range(if large { MOST_BYTES } else { 24 << 10 });
        let word = self.random.next() | 1;
        match self.random.below(20) {
            0 => self.start(command(FLUSH, 1), 0..0, Effect::Nothing, Vec::new()),
            1 => self.discard(),
            2 => self.write_zeroes(),
            3 => self.start(self.named(VERIFY, &range), range, Effect::Nothing, Vec::new()),
            4 | 5 => self.compare(range, word),
            6 => self.compare_and_write(word),
            7..=12 => self.write(range, word),
            _ => self.read(range),
        }
    }

    /// A command on sectors of this queue's part.
    fn named(&self, opcode: u8, range: &Range<usize>) -> Command {
        blocks(opcode, self.first + range.start as u64, range.len() as u32)
    }

    fn filled(&self, word: u64, range: &Range<usize>) -> Vec<u8> {
        word.to_le_bytes().repeat(range.len() * self.sector as usize / 8)
    }

    fn read(&mut self, range: Range<usize>) {
        let mut read = self.named(READ, &range);
        read.data = transport(range.len() * self.sector as usize);
        self.start(read, range, Effect::Read, Vec::new());
    }

    fn write(&mut self, range: Range<usize>, word: u64) {
        let mut write = self.named(WRITE, &range);
        if self.random.one_in(8) {
            write.cdw12 = (write.cdw12.get() | FUA).into();
        }
        let data = self.filled(word, &range);
        self.start(write, range, Effect::Write(word), data);
    }

    fn write_zeroes(&mut self) {
        let range = self.range(1 << 20);
        let mut zeroes = self.named(WRITE_ZEROES, &range);
        let deallocate = if self.random.one_in(2) { DEALLOCATE } else { 0 };
        let fua = if self.random.one_in(8) { FUA } else { 0 };
        zeroes.cdw12 = (zeroes.cdw12.get() | deallocate | fua).into();
        self.start(zeroes, range, Effect::Write(0), Vec::new());
    }

    fn discard(&mut self) {
        let range = self.range(256 << 10);
        let middle = range.start + self.random.below(range.len() as u64) as usize;
        let mut data = Vec::new();
        for part in [range.start..middle, middle..range.end, 0..0] {
            data.extend([0; 4]);
            data.extend((part.len() as u32).to_le_bytes());
            data.extend((self.first + part.start as u64).to_le_bytes());
        }
        let mut discard = command(DATASET_MANAGEMENT, 1);
        (discard.cdw10, discard.cdw11) = (2.into(), 4.into());
        self.start(discard, range, Effect::Forget, data);
    }

    /// A word that the sectors hold, if they all hold the same; otherwise another one.
    fn guess(&mut self, range: &Range<usize>, other: u64) -> u64 {
        let right = self.sectors[range.start].filter(|_| !self.random.one_in(4));
        right.unwrap_or(other)
    }

    fn compare(&mut self, range: Range<usize>, other: u64) {
        // Few sectors, so that they often hold the same.
        let few = range.start..range.end.min(range.start + 1 + self.random.below(4) as usize);
        let range = if self.random.one_in(3) { range } else { few };
        self.wait_for(&range);
        let word = self.guess(&range, other);
        let data = self.filled(word, &range);
        self.start(self.named(COMPARE, &range), range, Effect::Compare(word), data);
    }

    fn compare_and_write(&mut self, new: u64) {
        let range = self.range(MOST_FUSED);
        let count = if self.random.one_in(2) { 1 } else { range.len() };
        let range = range.start..range.start + count;
        // The halves are answered one after the other, so a pair goes alone.
        self.complete_all();
        let expected = self.guess(&range, new ^ 2);
        let halves = [(COMPARE, 1, Effect::CompareAnd(expected), expected), (WRITE, 2, Effect::ThenWrite(new), new)];
        for (opcode, fuse, effect, word) in halves {
            let mut half = self.named(opcode, &range);
            half.flags |= fuse;
            let data = self.filled(word, &range);
            self.send(half, range.clone(), effect, data);
        }
        self.busy[range].fill(true);
        self.complete_all();
    }

    fn wait_for(&mut self, range: &Range<usize>) {
        while self.busy[range.clone()].iter().any(|&busy| busy) {
            self.listen();
        }
    }

    fn start(&mut self, command: Command, range: Range<usize>, effect: Effect, data: Vec<u8>) {
        self.wait_for(&range);
        self.busy[range.clone()].fill(true);
        self.send(command, range, effect, data);
    }

    /// Sends the data with the command if it fits and chance has it.
    fn send(&mut self, mut command: Command, range: Range<usize>, effect: Effect, data: Vec<u8>) {
        let in_the_capsule = !data.is_empty() && data.len() <= MOST_IN_CAPSULE && !self.random.one_in(3);
        if !data.is_empty() {
            command.data = if in_the_capsule { in_capsule(data.len()) } else { transport(data.len()) };
        }
        let cid = self.host.send_as_is(command, if in_the_capsule { &data } else { &[] });
        let received = Vec::new();
        assert!(self.pending.insert(cid, Pending { effect, range, data, received }).is_none());
    }

    fn complete_all(&mut self) {
        while !self.pending.is_empty() {
            self.listen();
        }
    }

    /// Takes one PDU.
    fn listen(&mut self) {
        match self.host.listen() {
            Said::R2t { cid, tag, offset, len } => self.give(cid, tag, offset, len),
            Said::Data { cid, offset, bytes, success, .. } => {
                let pending = self.pending.get_mut(&cid).expect("asked");
                assert_eq!(offset, pending.received.len(), "{}", self.context);
                pending.received.extend(bytes);
                if success {
                    self.judge(cid, Status::SUCCESS);
                }
            }
            Said::Completion { cid, status, .. } => self.judge(cid, status),
            other => panic!("{}: {other:?}", self.context),
        }
    }

    /// Sends what is asked for, in pieces of any size.
    fn give(&mut self, cid: u16, tag: u16, offset: usize, len: usize) {
        let pending = &self.pending[&cid];
        self.seen.several_r2t += usize::from(offset > 0);
        let mut at = offset;
        while at < offset + len {
            let left = offset + len - at;
            let piece = if self.random.one_in(2) { left } else { self.random.below(left as u64) as usize + 1 };
            let bytes = self.host.data_pdu(cid, tag, at, &pending.data[at..at + piece], piece == left);
            self.host.send(&bytes);
            at += piece;
        }
    }

    fn judge(&mut self, cid: u16, status: Status) {
        let Pending { effect, range, received, .. } = self.pending.remove(&cid).expect("asked");
        let context = format!("{}, command {cid}, sectors {range:?}", self.context);
        self.busy[range.clone()].fill(false);
        let may_fail = matches!(effect, Effect::Compare(_) | Effect::CompareAnd(_) | Effect::ThenWrite(_));
        assert!(status.is_success() || may_fail, "{context}: {status}");
        match effect {
            Effect::Write(word) => self.sectors[range].fill(Some(word)),
            Effect::Forget => self.sectors[range].fill(None),
            Effect::Read => {
                assert_eq!(received.len(), range.len() * self.sector as usize, "{context}");
                for (index, bytes) in range.zip(received.chunks_exact(self.sector as usize)) {
                    let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                    let Some(expected) = self.sectors[index] else { continue };
                    assert_eq!(word, expected, "{context}: sector {index}");
                    assert!(bytes.chunks_exact(8).all(|w| w == &bytes[..8]), "{context}: sector {index} is torn");
                }
            }
            Effect::Compare(word) => {
                self.check_comparison(&range, word, status, &context);
                *(if status.is_success() { &mut self.seen.equal } else { &mut self.seen.unequal }) += 1;
            }
            Effect::CompareAnd(word) => {
                self.check_comparison(&range, word, status, &context);
                self.was_equal = status.is_success();
            }
            Effect::ThenWrite(word) => {
                let expected = if self.was_equal { Status::SUCCESS } else { Status::ABORTED_FAILED_FUSED };
                assert_eq!(status, expected, "{context}");
                if self.was_equal {
                    self.sectors[range].fill(Some(word));
                }
                *(if self.was_equal { &mut self.seen.swapped } else { &mut self.seen.unswapped }) += 1;
            }
            Effect::Nothing => {}
        }
    }

    fn check_comparison(&self, range: &Range<usize>, word: u64, status: Status, context: &str) {
        let sectors = &self.sectors[range.clone()];
        let expected = if sectors.iter().any(|sector| sector.is_some_and(|known| known != word)) {
            Status::COMPARE_FAILURE
        } else if sectors.iter().all(Option::is_some) {
            Status::SUCCESS
        } else {
            // Some may hold anything.
            return;
        };
        assert_eq!(status, expected, "{context}");
    }
}

/// How the target of a run is made.
struct Setup {
    device: &'static str,
    sector: SectorSize,
    is_encrypted: bool,
    digests: Digests,
    most_r2t: u32,
}

fn compare(setup: &Setup) {
    let seed = Random::seed("NVME_MODEL_SEED");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let device = device(&dir, &format!("size = '16 MiB'\n{}", setup.device));
    let make = if setup.is_encrypted { encrypted } else { plain };
    let target = NvmeTarget::start(dir, 2, &[make("d0", &device, setup.sector)], "");
    let (admin, controller) = target.admin("a", setup.digests);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..QUEUES)
            .map(|part| {
                let host = target.io("a", controller, part as u16 + 1, setup.digests, setup.most_r2t);
                scope.spawn(move || {
                    let mut run = Run::new(seed, part, host, setup.sector.bytes() as u64);
                    run.drive();
                    run.seen
                })
            })
            .collect();
        for run in runs {
            let seen = run.join().unwrap_or_else(|_| panic!("NVME_MODEL_SEED={seed}"));
            let Seen { equal, unequal, swapped, unswapped, several_r2t } = seen;
            let all = [equal, unequal, swapped, unswapped, several_r2t];
            assert!(all.iter().all(|&count| count > 0), "seed {seed}: {seen:?} leaves something out");
        }
    });
    drop(admin);
    target.expect_idle();
    target.stop();
}

const MEMORY: &str = "kind = 'memory'\nhugepages = 'never'";
const FILE: &str = "kind = 'file'\npath = '$DIR/disk'\ncreate = true";

#[test]
fn an_encrypted_disk_in_memory() {
    let (sector, digests) = (SectorSize::B512, Digests::NONE);
    compare(&Setup { device: MEMORY, sector, is_encrypted: true, digests, most_r2t: 4 });
}

#[test]
fn an_encrypted_disk_in_memory_with_digests() {
    let (sector, digests) = (SectorSize::B4096, Digests::BOTH);
    compare(&Setup { device: MEMORY, sector, is_encrypted: true, digests, most_r2t: 1 });
}

#[test]
fn an_encrypted_file() {
    let (sector, digests) = (SectorSize::B4096, Digests { header: true, data: false });
    compare(&Setup { device: FILE, sector, is_encrypted: true, digests, most_r2t: 16 });
}

#[test]
fn an_encrypted_file_with_small_sectors_and_digests() {
    let (sector, digests) = (SectorSize::B512, Digests { header: false, data: true });
    compare(&Setup { device: FILE, sector, is_encrypted: true, digests, most_r2t: 2 });
}

#[test]
fn a_plain_file() {
    let (sector, digests) = (SectorSize::B512, Digests::BOTH);
    compare(&Setup { device: FILE, sector, is_encrypted: false, digests, most_r2t: 4 });
}

#[test]
fn a_slow_disk() {
    let device = "
        kind = 'memory'
        hugepages = 'never'
        layers = [{ kind = 'delay', read_us = 100, write_us = 200, flush_us = 300 }]";
    let (sector, digests) = (SectorSize::B4096, Digests::NONE);
    compare(&Setup { device, sector, is_encrypted: true, digests, most_r2t: 4 });
}
