//! Whatever several NBD clients do at once, each reads what it wrote: thousands of random requests against a plain model in memory, also over a
//! slow device and over one that fails. A write that failed leaves each sector old or new.
//!
//! A run is reproduced by its seed: `NBD_MODEL_SEED=… cargo test --test nbd_matches_a_model`.

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use common::nbd_client::{
    Asked, BLOCK_STATUS, CACHE, Client, DF, DISC, FLUSH, FUA, READ, Reply, TRIM, WRITE, WRITE_ZEROES,
};
use common::random::Random;
use common::{Target, device, encrypted, plain, wait_for};
use strongroom::crypto::xts::SectorSize;

/// Each connection has a part of the disk for itself, so that its model is exact.
const PART: u64 = 4 << 20;
const CONNECTIONS: u64 = 4;
const REQUESTS: usize = 2500;
const IN_FLIGHT: usize = 12;

/// What a sector may hold: one word all over, out of several; or anything, after a trim.
#[derive(Clone, Debug)]
enum Sector {
    OneOf(Vec<u64>),
    Anything,
}

/// A request under way and the word that it leaves in its sectors.
struct Pending {
    asked: Asked,
    fill: Option<u64>,
}

struct Run {
    seed: u64,
    random: Random,
    client: Client,
    first: u64,
    sector: u64,
    sectors: Vec<Sector>,
    busy: Vec<bool>,
    pending: HashMap<u64, Pending>,
    faults: bool,
    failed: usize,
}

impl Run {
    fn new(seed: u64, part: u64, client: Client, sector: u64, faults: bool) -> Self {
        let count = (PART / sector) as usize;
        Self {
            seed,
            random: Random(seed ^ part.wrapping_mul(0x1234_5678_9abc_def1)),
            client,
            first: part * PART,
            sector,
            sectors: vec![Sector::Anything; count],
            busy: vec![false; count],
            pending: HashMap::new(),
            faults,
            failed: 0,
        }
    }

    fn drive(&mut self) {
        for _ in 0..REQUESTS {
            while self.pending.len() >= IN_FLIGHT || (!self.pending.is_empty() && self.random.one_in(4)) {
                self.complete_one();
            }
            self.start_one();
        }
        self.complete_all();
        // At the end all of it is read once more.
        for at in (0..PART).step_by(1 << 20) {
            self.start(READ, 0, at / self.sector, (1 << 20) / self.sector, None);
            self.complete_all();
        }
        let bye = self.client.request(DISC, 0, 0, 0, &[]);
        assert_eq!(bye.kind, DISC);
    }

    fn start_one(&mut self) {
        let large = self.random.one_in(60);
        if large {
            // One thread cannot send and receive at once, so what exceeds the sockets' buffers goes alone.
            self.complete_all();
        }
        let bytes = if large { self.random.below(1 << 20) } else { self.random.below(32 << 10) };
        let count = bytes / self.sector + 1;
        let at = self.random.below(self.sectors.len() as u64 - count);
        let fua = if self.random.one_in(8) { FUA } else { 0 };
        let word = self.random.next() | 1;
        match self.random.below(20) {
            0 => self.start(FLUSH, 0, 0, 0, None),
            1 => self.start(TRIM, fua, at, count, None),
            2 | 3 => self.start(WRITE_ZEROES, fua, at, count, Some(0)),
            4 => self.start(BLOCK_STATUS, 0, at, count, None),
            5 => self.start(CACHE, 0, at, count, None),
            6..=12 => self.start(WRITE, fua, at, count, Some(word)),
            13 if count * self.sector <= 64 << 10 => self.start(READ, DF, at, count, None),
            _ => self.start(READ, 0, at, count, None),
        }
    }

    fn start(&mut self, kind: u16, flags: u16, at: u64, count: u64, fill: Option<u64>) {
        let range = at as usize..(at + count) as usize;
        while self.busy[range.clone()].iter().any(|&busy| busy) {
            self.complete_one();
        }
        self.busy[range].fill(true);
        let length = (count * self.sector) as u32;
        let payload = if kind == WRITE { filled(fill.expect("a word"), length) } else { Vec::new() };
        let offset = if kind == FLUSH { 0 } else { self.first + at * self.sector };
        let structured_only = kind == BLOCK_STATUS || flags & DF != 0;
        if structured_only && !self.client.is_structured() {
            return self.busy[at as usize..(at + count) as usize].fill(false);
        }
        let asked = self.client.request(kind, flags, offset, length, &payload);
        self.pending.insert(asked.cookie, Pending { asked, fill });
    }

    fn complete_all(&mut self) {
        while !self.pending.is_empty() {
            self.complete_one();
        }
    }

    /// Takes messages until some reply is whole. Chunks of several replies may come mixed, so each has its own data.
    fn complete_one(&mut self) {
        let mut partial: HashMap<u64, Reply> = HashMap::new();
        loop {
            let mut message = Reply::default();
            let pending = &self.pending;
            let done = self.client.part(&mut message, |cookie| pending[&cookie].asked);
            let cookie = message.cookie;
            let reply = match partial.remove(&cookie) {
                None => message,
                Some(before) => merge(before, message),
            };
            if done {
                let pending = self.pending.remove(&cookie).expect("asked");
                self.judge(pending, reply);
                if partial.is_empty() {
                    return;
                }
            } else {
                partial.insert(cookie, reply);
            }
        }
    }

    fn judge(&mut self, pending: Pending, reply: Reply) {
        let Pending { asked, fill } = pending;
        let context = format!("seed {} {asked:?}", self.seed);
        if asked.kind == FLUSH {
            return;
        }
        let at = ((asked.offset - self.first) / self.sector) as usize;
        let range = at..at + (u64::from(asked.length) / self.sector) as usize;
        self.busy[range.clone()].fill(false);
        if reply.error != 0 {
            assert!(self.faults, "{context}: error {}", reply.error);
            self.failed += 1;
        }
        match asked.kind {
            WRITE | WRITE_ZEROES => {
                let word = fill.expect("a word");
                self.sectors[range].iter_mut().for_each(|sector| sector.write(word, reply.error != 0));
            }
            TRIM => self.sectors[range].fill(Sector::Anything),
            READ if reply.error == 0 => {
                assert_eq!(reply.data.len(), asked.length as usize, "{context}");
                for (index, bytes) in range.zip(reply.data.chunks_exact(self.sector as usize)) {
                    self.sectors[index].check(bytes, &format!("{context}, sector {index}"));
                }
            }
            BLOCK_STATUS if reply.error == 0 => {
                let total: u64 = reply.extents.iter().map(|(len, _)| u64::from(*len)).sum();
                assert!(total > 0 && total <= asked.length.into(), "{context}: {:?}", reply.extents);
            }
            _ => {}
        }
    }
}

fn merge(mut before: Reply, message: Reply) -> Reply {
    if before.data.is_empty() {
        before.data = message.data;
    } else {
        // Each chunk comes in a vector as long as the request, with zeroes where it has nothing.
        before.data.iter_mut().zip(&message.data).for_each(|(to, from)| *to |= from);
    }
    before.error = message.error;
    before
}

impl Sector {
    fn write(&mut self, word: u64, failed: bool) {
        match self {
            Sector::OneOf(words) if failed => words.push(word),
            Sector::Anything if failed => {}
            _ => *self = Sector::OneOf(vec![word]),
        }
    }

    fn check(&mut self, bytes: &[u8], context: &str) {
        let Sector::OneOf(words) = self else { return };
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        assert!(bytes.chunks_exact(8).all(|w| w == &bytes[..8]), "{context}: a sector is torn");
        assert!(words.contains(&word), "{context}: {word:#x} instead of one of {words:x?}");
        *words = vec![word];
    }
}

fn filled(word: u64, length: u32) -> Vec<u8> {
    word.to_le_bytes().repeat(length as usize / 8)
}

/// How the target of a run is made.
struct Setup {
    device: &'static str,
    sector: SectorSize,
    is_encrypted: bool,
    structured: bool,
    faults: bool,
}

fn compare(setup: &Setup) {
    let seed = Random::seed("NBD_MODEL_SEED");
    let dir = tempfile::tempdir().expect("a directory");
    let device = device(&dir, &format!("size = '16 MiB'\n{}", setup.device));
    let make = if setup.is_encrypted { encrypted } else { plain };
    let target = Target::start(dir, 2, &[make("d0", &device, setup.sector)], "");
    let connect = |part: u64, socket: PathBuf, tcp: String| {
        let client = if part.is_multiple_of(2) { Client::silent(&socket) } else { Client::silent_tcp(&tcp) };
        client.greet().go("d0", setup.structured)
    };
    let failed: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..CONNECTIONS)
            .map(|part| {
                let client = connect(part, target.socket(), target.tcp());
                scope.spawn(move || {
                    let mut run = Run::new(seed, part, client, setup.sector.bytes() as u64, setup.faults);
                    run.drive();
                    run.failed
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap_or_else(|_| panic!("NBD_MODEL_SEED={seed}"))).sum()
    });
    assert_eq!(failed > 0, setup.faults, "seed {seed}: {failed} requests failed");
    wait_for("the goodbyes to be taken", || target.server().connections() == 0);
    target.expect_idle();
    if setup.faults {
        target.stop_on_failing_device();
    } else {
        target.stop();
    }
}

const MEMORY: &str = "kind = 'memory'\nhugepages = 'never'";

#[test]
fn an_encrypted_disk_in_memory() {
    compare(&Setup { device: MEMORY, sector: SectorSize::B512, is_encrypted: true, structured: true, faults: false });
}

#[test]
fn a_client_without_structured_replies() {
    compare(&Setup { device: MEMORY, sector: SectorSize::B4096, is_encrypted: true, structured: false, faults: false });
}

#[test]
fn a_plain_file() {
    let device = "kind = 'file'\npath = '$DIR/disk'\ncreate = true";
    compare(&Setup { device, sector: SectorSize::B4096, is_encrypted: false, structured: true, faults: false });
}

#[test]
fn a_slow_device_that_fails() {
    let device = "
        kind = 'memory'
        hugepages = 'never'
        layers = [
            { kind = 'fault', rules = [
                { effect = 'torn', on = 'write', one_in = 40, seed = 1 },
                { effect = 'error', on = 'read', one_in = 50, seed = 2 },
                { effect = 'short', on = 'read', one_in = 10, seed = 3 },
                { effect = 'error', on = 'flush', one_in = 20, seed = 4 },
            ] },
            { kind = 'delay', read_us = 100, write_us = 200, flush_us = 300 },
        ]";
    compare(&Setup { device, sector: SectorSize::B512, is_encrypted: true, structured: true, faults: true });
}
