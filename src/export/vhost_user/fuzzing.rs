//! What fuzzers drive: bytes become a guest's memory with a ring in it, and what the guest does meanwhile. Whatever they are, nothing may come of
//! them but requests and errors. Only with the feature `fuzzing`, which no product build has; the same function runs the corpus as an ordinary test.
//!
//! The first bytes are the [`Setup`]. Then come steps of five bytes, an operation and two words, until the bytes end or the ring does.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use crate::memory::memfd;

use super::memory::{GuestMemory, RegionInfo};
use super::ring::{Chain, Head, InflightShared, Layout, Ring, RingFeatures};

/// Bytes of the guest's memory: it ends soon behind the ring, so that wrong addresses are outside.
pub const BYTES: u64 = 0x4000;
/// Where the guest and where the front end see it.
pub const GUEST: u64 = 0x1000;
/// The front end's address of its first byte.
pub const FRONT_END: u64 = 0x7000_0000;
/// Where the parts of the ring lie in it.
pub const DESCRIPTORS: u64 = 0;
/// The driver's part.
pub const DRIVER: u64 = 0x1000;
/// The device's part.
pub const DEVICE: u64 = 0x1800;
/// Requests that are kept at work; the oldest is answered for a new one, as slots would.
const MOST_AT_WORK: usize = 16;
/// Bytes of a step.
const STEP: usize = 5;

/// Operations of steps.
pub mod step {
    /// Writes the second word at twice the first, in the guest's memory.
    pub const WRITE: u8 = 0;
    /// Takes a request.
    pub const TAKE: u8 = 1;
    /// Answers the one at the first word, of those at work.
    pub const ANSWER: u8 = 2;
    /// Asks about signals and kicks.
    pub const ASK: u8 = 3;
    /// Writes the second word at twice the first, in what is kept of requests at work.
    pub const WRITE_KEPT: u8 = 4;
    /// Begins again as another process would, with what was kept.
    pub const RESTART: u8 = 5;
    /// How many there are.
    pub const ALL: u8 = 6;
}

/// What the first four bytes say: flags, entries, position.
struct Setup {
    features: RingFeatures,
    keeps: bool,
    size: u16,
    base: u32,
}

impl Setup {
    const BYTES: usize = 4;

    fn of(bytes: &[u8]) -> Self {
        let has = |bit: u8| bytes[0] & 1 << bit != 0;
        let position = u16::from_le_bytes([bytes[2], bytes[3]]);
        let packed = has(0);
        Self {
            features: RingFeatures { packed, indirect: has(1), event_index: has(2) },
            keeps: has(3),
            size: bytes[1].into(),
            base: u32::from(position) * if packed { 0x1_0001 } else { 1 },
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were taken.
    pub taken: usize,
    /// Whether the ring came to its end before the bytes did.
    pub has_ended: bool,
}

/// Lets a device serve the ring that the bytes describe.
pub fn vhost_ring(bytes: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let Some((setup, steps)) = bytes.split_at_checked(Setup::BYTES) else { return outcome };
    let mut device = Device::new(Setup::of(setup)).expect("memory of our own");
    outcome.has_ended = device.restart().is_none();
    for step in steps.chunks_exact(STEP) {
        if outcome.has_ended {
            break;
        }
        let words = (u16::from_le_bytes([step[1], step[2]]), u16::from_le_bytes([step[3], step[4]]));
        match device.step(step[0], words) {
            Some(taken) => outcome.taken += taken,
            None => outcome.has_ended = true,
        }
    }
    outcome
}

struct Device {
    setup: Setup,
    guest: File,
    kept: Option<InflightShared>,
    ring: Option<Ring>,
    chain: Chain,
    at_work: Vec<Head>,
}

impl Device {
    fn new(setup: Setup) -> io::Result<Self> {
        let guest = memfd(c"fuzzed-guest", BYTES, 0)?;
        // Of another size than the ring's at times: a front end may say so.
        let entries = setup.size.max(8);
        let kept = setup.keeps.then(|| InflightShared::make(1, entries, setup.features.packed));
        let kept = kept.transpose().map_err(io::Error::other)?;
        Ok(Self { setup, guest, kept, ring: None, chain: Chain::new(), at_work: Vec::new() })
    }

    /// Makes the ring, with nothing at work; none if it is refused.
    fn restart(&mut self) -> Option<()> {
        self.at_work.clear();
        let file = OwnedFd::from(self.guest.try_clone().expect("a descriptor"));
        // Two regions, so that requests cross from one into the other.
        let half = BYTES / 2;
        let region = |number: u64, file| RegionInfo {
            guest: GUEST + number * half,
            len: half,
            front_end: FRONT_END + number * half,
            file,
            offset: number * half,
        };
        let other = OwnedFd::from(self.guest.try_clone().expect("a descriptor"));
        let memory = GuestMemory::of(vec![region(0, file), region(1, other)]).expect("mapped");
        let at = |offset| FRONT_END + offset;
        let (size, base) = (self.setup.size, self.setup.base);
        let layout = Layout { size, descriptors: at(DESCRIPTORS), driver: at(DRIVER), device: at(DEVICE) };
        let kept = self.kept.as_ref().map(|kept| kept.queue(0).expect("the first queue"));
        self.ring = Ring::new(memory, layout, self.setup.features, base, kept).ok();
        self.ring.as_ref().map(|_| ())
    }

    /// Does a step; how many requests it took. None if the ring has come to its end.
    fn step(&mut self, operation: u8, (first, second): (u16, u16)) -> Option<usize> {
        match operation % step::ALL {
            step::WRITE => self.write(&self.guest, BYTES, first, second),
            step::WRITE_KEPT => {
                if let Some(kept) = &self.kept {
                    self.write(&kept.file().expect("a descriptor"), kept.size(), first, second);
                }
            }
            step::TAKE => return self.take(),
            step::ANSWER if !self.at_work.is_empty() => {
                let head = self.at_work.remove(usize::from(first) % self.at_work.len());
                self.ring.as_mut()?.complete(head, second.into());
            }
            step::ASK => {
                let ring = self.ring.as_mut()?;
                ring.wants_signal();
                ring.refuse_kicks();
                assert_eq!(ring.want_kicks(), ring.has_next());
                ring.base();
            }
            step::RESTART => self.restart()?,
            _ => {}
        }
        Some(0)
    }

    fn write(&self, file: &File, bytes: u64, place: u16, word: u16) {
        file.write_all_at(&word.to_le_bytes(), u64::from(place) * 2 % (bytes - 1)).expect("written");
    }

    fn take(&mut self) -> Option<usize> {
        let ring = self.ring.as_mut()?;
        if self.at_work.len() == MOST_AT_WORK {
            ring.complete(self.at_work.remove(0), 1);
        }
        let had_next = ring.has_next();
        let is_taken = ring.next(&mut self.chain).ok()?;
        assert_eq!(had_next, is_taken, "a request is there or it is not");
        if !is_taken {
            return Some(0);
        }
        self.at_work.push(self.chain.head());
        self.serve();
        Some(1)
    }

    /// Touches all that a request may touch.
    fn serve(&mut self) {
        let chain = &mut self.chain;
        let (mut header, mut data) = ([0; 16], [0; 512]);
        let has_header = chain.read_header(&mut header);
        let room = chain.writable_len();
        let pieces: usize = chain.writable().iter().map(|segment| segment.len()).sum();
        assert_eq!(pieces, room, "the pieces are the whole");
        let wanted: usize = chain.readable().iter().map(|segment| segment.len()).sum();
        assert_eq!(wanted, chain.readable_len(), "the pieces are the whole");
        if has_header {
            let read = chain.read_data(&mut data);
            assert_eq!(read, wanted.min(data.len()));
            // Into the guest's own ring as well, if it says so.
            assert_eq!(chain.write_data(&data), room.min(data.len()));
        }
        chain.set_status(u8::from(!has_header));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Words land in the ring and in what is kept, more often than elsewhere; small ones are likely, as indices and flags are.
        #[test]
        fn whatever_is_written_nothing_breaks(
            flags in 0u8..16, size in prop::sample::select(vec![1u8, 2, 8, 16, 64, 255]), position in prop::sample::select(vec![0u16, 1, 0x8000, 0x8001]),
            steps in prop::collection::vec((0u8..step::ALL, prop_oneof![0u16..0x100, 0x800u16..0x820, 0xc00u16..0xc20], prop_oneof![0u16..32, any::<u16>()]), 0..200),
        ) {
            let mut bytes = vec![flags, size];
            bytes.extend(position.to_le_bytes());
            for (operation, first, second) in steps {
                bytes.push(operation);
                bytes.extend(first.to_le_bytes());
                bytes.extend(second.to_le_bytes());
            }
            vhost_ring(&bytes);
        }
    }

    /// A guest that does as it should: two requests of a header and a status, one after the other, with a new beginning between them.
    fn seed(packed: bool, indirect: bool, event_index: bool, keeps: bool) -> Vec<u8> {
        let flags = u8::from(packed) | u8::from(indirect) << 1 | u8::from(event_index) << 2 | u8::from(keeps) << 3;
        let mut bytes = vec![flags, 16, 0, if packed { 0x80 } else { 0 }];
        let mut say = |operation: u8, first: u64, second: u16| {
            bytes.push(operation);
            bytes.extend((first as u16).to_le_bytes());
            bytes.extend(second.to_le_bytes());
        };
        // Address (its low half says it all), length, and what stands in the last two words: flags and next, or number and flags.
        let descriptor = |say: &mut dyn FnMut(u8, u64, u16), at: u64, address: u64, len: u16, rest: (u16, u16)| {
            for (offset, word) in [(0, address as u16), (8, len), (12, rest.0), (14, rest.1)] {
                say(step::WRITE, (at + offset) / 2, word);
            }
        };
        const TABLE: u64 = 0x2400;
        const DATA: u64 = GUEST + 0x2800;
        for request in 0..2u16 {
            let entries = if indirect { 1 } else { 2 };
            let first = request * entries;
            let place = |number: u16| DESCRIPTORS + 16 * u64::from(number);
            let turn = if packed { 1 << 7 } else { 0 };
            let rest = |flags: u16, other: u16| if packed { (first, flags | turn) } else { (flags, other) };
            if indirect {
                // Entries of a packed ring's table are not linked, and are nobody's turn.
                let inner = |flags: u16| if packed { (0, flags & 2) } else { (flags, 1) };
                descriptor(&mut say, TABLE, DATA, 16, inner(1));
                descriptor(&mut say, TABLE + 16, DATA + 0x40, 1, inner(2));
                descriptor(&mut say, place(first), GUEST + TABLE, 32, rest(4, 0));
            } else {
                descriptor(&mut say, place(first + 1), DATA + 0x40, 1, rest(2, 0));
                descriptor(&mut say, place(first), DATA, 16, rest(1, first + 1));
            }
            if !packed {
                say(step::WRITE, (DRIVER + 4) / 2 + u64::from(request), first);
                say(step::WRITE, (DRIVER + 2) / 2, request + 1);
            }
            say(step::ASK, 0, 0);
            say(step::TAKE, 0, 0);
            if keeps && request == 0 {
                say(step::RESTART, 0, 0);
                say(step::TAKE, 0, 0);
            }
            say(step::ANSWER, 0, 1);
            say(step::ASK, 0, 0);
        }
        bytes
    }

    fn seeds() -> impl Iterator<Item = (String, Vec<u8>, usize)> {
        (0..16u8).map(|number| {
            let has = |bit: u8| number & 1 << bit != 0;
            let name = |bit, name| if has(bit) { name } else { "" };
            let kind = if has(0) { "packed" } else { "split" };
            let rest = [name(1, "-indirect"), name(2, "-event-index"), name(3, "-kept")].concat();
            // A kept request is taken once more.
            (format!("{kind}{rest}"), seed(has(0), has(1), has(2), has(3)), if has(3) { 3 } else { 2 })
        })
    }

    fn corpus() -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/vhost_ring")
    }

    #[test]
    fn the_seeds_are_requests_that_go_well() {
        for (name, bytes, taken) in seeds() {
            assert_eq!(vhost_ring(&bytes), Outcome { taken, has_ended: false }, "{name}");
            let committed = std::fs::read(corpus().join(&name));
            assert!(committed.is_ok_and(|it| it == bytes), "{name}: write the seeds anew");
        }
    }

    /// A seed up to the `nth` step of a kind, and then others.
    fn changed(seed: &[u8], kind: u8, nth: usize, others: &[(u8, u64, u16)]) -> Vec<u8> {
        let steps = seed[Setup::BYTES..].chunks_exact(STEP).enumerate().filter(|(_, step)| step[0] == kind);
        let at = Setup::BYTES + STEP * (steps.map(|(number, _)| number).nth(nth).expect("a step") + 1);
        let mut bytes = seed[..at].to_vec();
        for (operation, first, second) in others {
            bytes.push(*operation);
            bytes.extend((*first as u16).to_le_bytes());
            bytes.extend(second.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn an_index_that_goes_back_ends_the_ring() {
        let back = [(step::WRITE, (DRIVER + 2) / 2, 1), (step::TAKE, 0, 0)];
        let bytes = changed(&seed(false, false, false, false), step::TAKE, 1, &back);
        assert_eq!(vhost_ring(&bytes), Outcome { taken: 2, has_ended: true });
    }

    #[test]
    fn a_kept_request_that_grows_ends_the_ring() {
        // The last entry is the first that is taken: its `num`, when that was counted already. Its `next` is the first entry.
        // That one's flags say that it is written, as what follows the status has to be.
        let grown = [
            (step::WRITE_KEPT, (32 + 18) / 2, 2),
            (step::WRITE_KEPT, (32 + 15 * 32 + 6) / 2, 2),
            (step::TAKE, 0, 0),
            (step::ANSWER, 0, 1),
        ];
        let bytes = changed(&seed(true, true, false, true), step::RESTART, 0, &grown);
        assert_eq!(vhost_ring(&bytes), Outcome { taken: 1, has_ended: true });
    }

    #[test]
    fn the_corpus_is_harmless() {
        for entry in std::fs::read_dir(corpus()).expect("a corpus") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
            for at in 0..bytes.len() {
                vhost_ring(&bytes[..at]);
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << (at % 8);
                vhost_ring(&wrong);
            }
        }
    }

    #[test]
    #[ignore = "writes into tests/fuzz/corpus"]
    fn write_the_seeds() {
        std::fs::create_dir_all(corpus()).expect("a directory");
        for (name, bytes, _) in seeds() {
            std::fs::write(corpus().join(name), bytes).expect("written");
        }
    }
}
