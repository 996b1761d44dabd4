//! Whatever several queues of a guest do at once, each reads what it wrote: thousands of random requests against a plain model in memory, cut anywhere
//! into descriptors, over split and packed rings, on disks in memory and in a file, while memory comes and goes and the configuration is
//! read and written.
//!
//! A run is reproduced by its seed: `VHOST_MODEL_SEED=… cargo test --test vhost_user_matches_a_model`.

#[path = "common/random.rs"]
mod random;
mod vhost;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use random::Random;
use strongroom::bench::vhost_user::{FrontEnd, RingKind, SharedMemory};
use vhost::guest::{
    BASE, DISCARD, FLUSH, GET_ID, Guest, IN, MIB, NO_STATUS, OK, OUT, Queue, WRITE_ZEROES, features, memory,
};
use vhost::ring::{LONGEST_TABLE, Piece, Ring, RingSetup};
use vhost::{Disk, Target};

/// Each queue has a part of the disk for itself, so that its model is exact.
const PART: u64 = 4 << 20;
const QUEUES: usize = 4;
const REQUESTS: usize = 1500;
const IN_FLIGHT: usize = 12;
/// What a request may move.
const MOST_BYTES: u64 = 96 << 10;
/// What a request may make zeros or discard.
const MOST_FREED: u64 = 1 << 20;
/// Room for one request in each memory: its data may be cut into pieces with gaps.
const AREA: usize = 128 << 10;
/// MiB of a memory.
const MEMORY_MIB: usize = AREA * IN_FLIGHT * QUEUES / MIB;
/// Memories that are there all the time; others come and go.
const LASTING: usize = 2;

/// The memories that may be used now. A request holds on to those that it uses.
type Memories = Arc<Mutex<Vec<Arc<SharedMemory>>>>;

/// What a request does to the model, and what has to come back.
enum Effect {
    /// The sectors hold the word afterwards.
    Write(u64),
    /// The sectors may hold anything afterwards.
    Forget,
    /// The sectors come.
    Read,
    Identity,
    Nothing,
}

/// A piece of a request and where it is.
struct Placed {
    memory: Arc<SharedMemory>,
    offset: usize,
    len: usize,
}

struct Pending {
    effect: Effect,
    range: Range<usize>,
    area: usize,
    /// What the device writes, in order; the last byte is the status.
    written: Vec<Placed>,
    /// What the device reads, in order, and the bytes.
    read: Vec<Placed>,
    sent: Vec<u8>,
}

struct Run<'a> {
    context: String,
    random: Random,
    queue: Queue,
    memories: &'a Memories,
    first: u64,
    sector: u64,
    /// The word that each sector is filled with, if it is known.
    sectors: Vec<Option<u64>>,
    busy: Vec<bool>,
    pending: HashMap<u16, Pending>,
    areas: Vec<usize>,
    name: String,
}

impl Run<'_> {
    fn drive(&mut self) {
        for _ in 0..REQUESTS {
            while self.pending.len() >= IN_FLIGHT || (!self.pending.is_empty() && self.random.one_in(4)) {
                self.finish_one();
            }
            self.start_one();
        }
        self.finish_all();
        // At the end all of it is read once more.
        let step = (MOST_BYTES / self.sector / 2) as usize;
        for at in (0..self.sectors.len()).step_by(step) {
            let range = at..(at + step).min(self.sectors.len());
            self.start(IN, range, Effect::Read, Vec::new());
            self.finish_all();
        }
    }

    fn range(&mut self, most_bytes: u64) -> Range<usize> {
        let count = self.random.below(most_bytes / self.sector) + 1;
        let at = self.random.below(self.sectors.len() as u64 - count);
        at as usize..(at + count) as usize
    }

    fn start_one(&mut self) {
        let most = if self.random.one_in(8) { MOST_BYTES } else { 16 << 10 };
        let range = self.range(most);
        let word = self.random.next() | 1;
        match self.random.below(16) {
            0 => self.start(FLUSH, 0..0, Effect::Nothing, Vec::new()),
            1 => self.start(GET_ID, 0..0, Effect::Identity, Vec::new()),
            2 => {
                let range = self.range(MOST_FREED);
                let ranges = self.ranges(&range, 0);
                self.start(DISCARD, range, Effect::Forget, ranges);
            }
            3 => {
                let range = self.range(MOST_FREED);
                let unmap = self.random.below(2) as u32;
                let ranges = self.ranges(&range, unmap);
                self.start(WRITE_ZEROES, range, Effect::Write(0), ranges);
            }
            4..=9 => {
                let data = word.to_le_bytes().repeat(range.len() * self.sector as usize / 8);
                self.start(OUT, range, Effect::Write(word), data);
            }
            _ => self.start(IN, range, Effect::Read, Vec::new()),
        }
    }

    /// A range of sectors as one to three ranges of a discard or write zeroes.
    fn ranges(&mut self, range: &Range<usize>, flags: u32) -> Vec<u8> {
        let mut cuts = vec![range.start, range.end];
        (0..self.random.below(3)).for_each(|_| cuts.push(range.start + self.random.below(range.len() as u64) as usize));
        cuts.sort_unstable();
        cuts.dedup();
        let mut bytes = Vec::new();
        for part in cuts.windows(2) {
            bytes.extend((self.place_of(part[0])).to_le_bytes());
            bytes.extend((((part[1] - part[0]) as u64 * self.sector / 512) as u32).to_le_bytes());
            bytes.extend(flags.to_le_bytes());
        }
        bytes
    }

    /// Where a sector of this queue's part is, in units of 512 bytes.
    fn place_of(&self, sector: usize) -> u64 {
        (self.first + sector as u64) * self.sector / 512
    }

    fn start(&mut self, kind: u32, range: Range<usize>, effect: Effect, data: Vec<u8>) {
        while self.busy[range.clone()].iter().any(|&busy| busy) {
            self.finish_one();
        }
        let mut readable = kind.to_le_bytes().to_vec();
        readable.extend([0; 4]);
        let place = if matches!(kind, IN | OUT) { self.place_of(range.start) } else { 0 };
        readable.extend(place.to_le_bytes());
        readable.extend(&data);
        let answer = match kind {
            IN => range.len() * self.sector as usize,
            GET_ID => 20,
            _ => 0,
        };
        let area = self.areas.pop().expect("a free area");
        let most = LONGEST_TABLE as u64 - 2;
        let read = self.place(area, 0, readable.len(), most / 2);
        let mut at = 0;
        for placed in &read {
            placed.memory.write(placed.offset, &readable[at..at + placed.len]);
            at += placed.len;
        }
        let from = if data.is_empty() { 4096 } else { AREA - 4096 };
        let written = self.place(area, from, answer + 1, most / 2);
        for placed in &written {
            placed.memory.write(placed.offset, &vec![NO_STATUS; placed.len]);
        }
        let piece = |placed: &Placed, is_written| Piece {
            guest: placed.memory.guest(placed.offset),
            len: placed.len as u32,
            is_written,
        };
        let chain: Vec<Piece> =
            read.iter().map(|p| piece(p, false)).chain(written.iter().map(|p| piece(p, true))).collect();
        while self.queue.ring.room() < 1 {
            self.finish_one();
        }
        let indirect = chain.len() > self.queue.ring.room() || self.random.one_in(2);
        let id = self.queue.ring.give(&chain, indirect);
        // Several may be given before the device sees them.
        if !self.random.one_in(3) {
            self.queue.publish();
        }
        self.busy[range.clone()].fill(true);
        let pending = Pending { effect, range, area, written, read, sent: readable };
        assert!(self.pending.insert(id, pending).is_none(), "{}", self.context);
    }

    /// Cuts `len` bytes into pieces of any length, with gaps between them, in any of the memories that there are.
    fn place(&mut self, area: usize, from: usize, len: usize, most_pieces: u64) -> Vec<Placed> {
        let memories = self.memories.lock().expect("no panic").clone();
        let count = match self.random.below(3) {
            0 => 1,
            1 => 1 + self.random.below(3),
            _ => 1 + self.random.below(most_pieces.min(len as u64)),
        };
        let mut cuts = vec![0, len];
        for _ in 1..count {
            // Often near an end: single bytes of the header and of the status.
            let near = self.random.below(len.min(20) as u64) as usize;
            cuts.push(match self.random.below(3) {
                0 => near,
                1 => len - near,
                _ => self.random.below(len as u64) as usize,
            });
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut at = area * AREA + from;
        let mut placed = Vec::new();
        for part in cuts.windows(2) {
            at += self.random.below(64) as usize;
            let memory = memories[self.random.below(memories.len() as u64) as usize].clone();
            placed.push(Placed { memory, offset: at, len: part[1] - part[0] });
            at += part[1] - part[0];
        }
        assert!(at <= (area + 1) * AREA);
        placed
    }

    fn finish_all(&mut self) {
        while !self.pending.is_empty() {
            self.finish_one();
        }
    }

    fn finish_one(&mut self) {
        self.queue.publish();
        let asleep = self.random.one_in(2);
        let (id, len) = self.queue.wait(asleep);
        self.judge(id, len);
    }

    fn judge(&mut self, id: u16, len: u32) {
        let Pending { effect, range, area, written, read, sent } = self.pending.remove(&id).expect("given");
        let context = format!("{}, sectors {range:?}", self.context);
        self.busy[range.clone()].fill(false);
        self.areas.push(area);
        assert!(together(&read) == sent, "{context}: what the device only reads has changed");
        let mut bytes = together(&written);
        let status = bytes.pop().expect("a status");
        assert_eq!(status, OK, "{context}");
        assert_eq!(len as usize, bytes.len() + 1, "{context}");
        match effect {
            Effect::Write(word) => self.sectors[range].fill(Some(word)),
            Effect::Forget => self.sectors[range].fill(None),
            Effect::Read => {
                for (index, bytes) in range.zip(bytes.chunks_exact(self.sector as usize)) {
                    let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
                    let Some(expected) = self.sectors[index] else { continue };
                    assert_eq!(word, expected, "{context}: sector {index}");
                    assert!(bytes.chunks_exact(8).all(|w| w == &bytes[..8]), "{context}: sector {index} is torn");
                }
            }
            Effect::Identity => {
                let mut expected = self.name.clone().into_bytes();
                expected.resize(20, 0);
                assert_eq!(bytes, expected, "{context}");
            }
            Effect::Nothing => {}
        }
    }
}

/// The bytes of all pieces.
fn together(pieces: &[Placed]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for placed in pieces {
        let start = bytes.len();
        bytes.resize(start + placed.len, 0);
        placed.memory.read(placed.offset, &mut bytes[start..]);
    }
    bytes
}

/// Lets memory come and go, and reads and writes the configuration, until the queues have ended.
fn change_things(end: &mut FrontEnd, memories: &Memories, seed: u64, over: &AtomicBool) -> usize {
    let mut random = Random(seed ^ 0x5eed);
    let mut changes = 0;
    while !over.load(Ordering::Relaxed) {
        let guest = BASE + ((LASTING + 8 + random.below(16) as usize) * MEMORY_MIB * MIB) as u64;
        let more = memory(MEMORY_MIB, guest);
        end.add_memory(&more).expect("added");
        memories.lock().expect("no panic").push(more.clone());
        std::thread::sleep(std::time::Duration::from_millis(random.below(10)));
        let config = end.config().expect("a configuration");
        assert_eq!(u64::from(config.capacity) * 512, PART * QUEUES as u64);
        set_cache(end, random.one_in(2));
        memories.lock().expect("no panic").retain(|memory| !Arc::ptr_eq(memory, &more));
        // Requests that use it end first.
        while Arc::strong_count(&more) > 1 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        end.remove_memory(&more).expect("removed");
        changes += 1;
    }
    changes
}

fn set_cache(end: &mut FrontEnd, writeback: bool) {
    use ::vhost::vhost_user::VhostUserFrontend;
    use ::vhost::vhost_user::message::VhostUserConfigFlags;
    end.protocol().set_config(32, VhostUserConfigFlags::WRITABLE, &[writeback.into()]).expect("set");
    assert_eq!(end.config().expect("a configuration").writeback, u8::from(writeback));
}

/// How a run is made.
struct Setup {
    kind: RingKind,
    event_index: bool,
    /// Entries of each queue's ring.
    sizes: [u16; QUEUES],
    device: &'static str,
    sector: u32,
    is_encrypted: bool,
}

fn compare(setup: &Setup) {
    let seed = Random::seed("VHOST_MODEL_SEED");
    let Setup { kind, event_index, sizes, device, sector, is_encrypted } = *setup;
    let disk = Disk { device, sector, is_encrypted, ..Disk::named("d-0123") };
    let target = Target::start(2, &[disk], "");
    let mut end = FrontEnd::connect(&target.socket(disk.name), features(kind, event_index)).expect("a back end");
    let rings = memory(2, BASE - (2 * MIB) as u64);
    let lasting: Vec<_> = (0..LASTING).map(|n| memory(MEMORY_MIB, BASE + (n * MEMORY_MIB * MIB) as u64)).collect();
    let mut all = vec![&*rings];
    all.extend(lasting.iter().map(|memory| &**memory));
    end.set_memory(&all).expect("taken");
    let memories: Memories = Arc::new(Mutex::new(lasting.clone()));
    let mut offset = 0;
    let runs: Vec<Run> = (0..QUEUES)
        .map(|part| {
            let setup = RingSetup { kind, size: sizes[part], event_index };
            let queue = Queue::start(&mut end, part, rings.clone(), offset, setup);
            offset = (offset + Ring::bytes(setup.size)).next_multiple_of(4096);
            let count = (PART / u64::from(sector)) as usize;
            Run {
                context: format!("VHOST_MODEL_SEED={seed}, {kind} queue {part}"),
                random: Random(seed ^ (part as u64).wrapping_mul(0x1234_5678_9abc_def1)),
                queue,
                memories: &memories,
                first: (part * count) as u64,
                sector: sector.into(),
                sectors: vec![None; count],
                busy: vec![false; count],
                pending: HashMap::new(),
                areas: (0..IN_FLIGHT).map(|n| part * IN_FLIGHT + n).collect(),
                name: "0123".to_owned(),
            }
        })
        .collect();
    let over = AtomicBool::new(false);
    let changes = std::thread::scope(|scope| {
        let changer = scope.spawn(|| change_things(&mut end, &memories, seed, &over));
        let runs: Vec<_> = runs
            .into_iter()
            .map(|mut run| {
                scope.spawn(move || {
                    run.drive();
                    run.queue
                })
            })
            .collect();
        let ended: Vec<_> = runs.into_iter().map(|run| run.join()).collect();
        over.store(true, Ordering::Relaxed);
        let changes = changer.join().expect("memory came and went");
        ended.into_iter().for_each(|queue| drop(queue.unwrap_or_else(|_| panic!("VHOST_MODEL_SEED={seed}"))));
        changes
    });
    assert!(changes > 0);
    for queue in 0..QUEUES {
        end.stop_queue(queue).expect("stopped");
    }
    drop(end);
    target.stop();
}

const MEMORY: &str = "kind = 'memory'\nhugepages = 'never'";
const FILE: &str = "kind = 'file'\npath = 'blocks'\ncreate = true";
const SPLIT: Setup = Setup {
    kind: RingKind::Split,
    event_index: false,
    sizes: [64, 16, 128, 4],
    device: MEMORY,
    sector: 4096,
    is_encrypted: true,
};

#[test]
fn split_rings_on_an_encrypted_disk_in_memory() {
    compare(&SPLIT);
}

#[test]
fn split_rings_with_event_index_and_small_sectors() {
    compare(&Setup { event_index: true, sector: 512, ..SPLIT });
}

#[test]
fn packed_rings_of_any_size() {
    compare(&Setup { kind: RingKind::Packed, sizes: [64, 13, 100, 4], sector: 512, ..SPLIT });
}

#[test]
fn packed_rings_with_event_index_on_a_file() {
    let sizes = [64, 17, 128, 5];
    compare(&Setup { kind: RingKind::Packed, event_index: true, sizes, device: FILE, ..SPLIT });
}

#[test]
fn split_rings_on_a_plain_disk_in_a_file() {
    compare(&Setup { device: FILE, is_encrypted: false, event_index: true, ..SPLIT });
}

#[test]
fn a_piece_may_cross_into_neighbouring_memory() {
    let target = Target::start(1, &[Disk::named("d")], "");
    for kind in [RingKind::Split, RingKind::Packed] {
        let mut guest = Guest::connect(&target.socket("d"), kind);
        let next = memory(2, guest.memory.guest(guest.memory.len()));
        guest.end.add_memory(&next).expect("added");
        let bytes: Vec<u8> = (0..8192u32).map(|n| (n / 16) as u8 ^ n as u8).collect();
        let mut chain = guest.chain(OUT, 8, 8192);
        let border = guest.memory.len() - 3333;
        chain[1].guest = guest.memory.guest(border);
        guest.memory.write(border, &bytes[..3333]);
        next.write(0, &bytes[3333..]);
        assert_eq!(guest.run(&chain).0, OK);
        assert!(guest.read(8, 8192) == bytes);
    }
    target.stop();
}
