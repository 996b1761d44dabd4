//! Rings of both kinds against the driver of the tests, honest and not.

use std::collections::HashMap;

use proptest::prelude::*;

use super::testing::*;
use super::*;

fn features(packed: bool) -> RingFeatures {
    RingFeatures { packed, indirect: true, event_index: false }
}

fn take(ring: &mut Ring) -> Option<(Chain, Vec<u8>)> {
    let mut chain = Chain::new();
    ring.next(&mut chain).expect("an honest driver").then(|| {
        let mut data = vec![0; chain.readable_len()];
        assert_eq!(chain.read_data(&mut data), data.len());
        (chain, data)
    })
}

/// A request with a header of 16 bytes, a few bytes of data in pieces, and a status.
fn request(driver: &Driver, number: u64) -> Vec<Piece> {
    let at = DATA + 0x100 * (number % 64);
    driver.put(at, &[number as u8; 0x60]);
    vec![
        (GUEST + at, 10, false),
        (GUEST + at + 10, 20, false),
        (GUEST + at + 0x80, 3, true),
        (GUEST + at + 0x90, 0, true),
        (GUEST + at + 0xa0, 5, true),
    ]
}

#[test]
fn requests_go_round_in_any_order() {
    for (packed, indirect) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut driver = Driver::new(32, features(packed));
        let mut ring = driver.ring(None);
        let mut at_work: Vec<(Chain, u64)> = Vec::new();
        let mut ids = HashMap::new();
        let (mut offered, mut answered) = (0u64, 0u64);
        let entries = if indirect { 1 } else { 5 };
        for step in 0..2000u64 {
            if at_work.len() < 6 {
                let pieces = request(&driver, offered);
                let table = indirect.then_some(DATA + 0x1_0000 + 0x100 * (offered % 64));
                // A driver uses descriptors again only after the answer: the tests' takes them in turn, so requests must not overtake by far.
                let id = driver.offer(&pieces, table);
                assert!(ring.has_next());
                let (mut chain, data) = take(&mut ring).expect("it was offered");
                assert_eq!(data, vec![offered as u8; 30]);
                let mut header = [0; 16];
                assert!(chain.read_header(&mut header));
                assert_eq!((header, chain.readable_len(), chain.writable_len()), ([offered as u8; 16], 14, 7));
                assert_eq!(chain.write_data(b"0123456789"), 7);
                chain.set_status(b'!');
                ids.insert(id, offered);
                at_work.push((chain, offered));
                offered += 1;
                assert!(take(&mut ring).is_none() && !ring.has_next());
            } else {
                // All of them, from the front or from the back.
                let mut order = std::mem::take(&mut at_work);
                if step % 3 == 0 {
                    order.reverse();
                }
                for (chain, number) in &order {
                    ring.complete(chain.head(), 100 + *number as u32);
                    let (id, len) = driver.answer(|_| entries).expect("an answer");
                    assert_eq!((ids.remove(&id), len), (Some(*number), 100 + *number as u32));
                    let at = DATA + 0x100 * (number % 64);
                    assert_eq!((driver.get::<3>(at + 0x80), driver.get::<5>(at + 0xa0)), (*b"012", *b"3456!"));
                    answered += 1;
                }
                assert!(driver.answer(|_| entries).is_none());
            }
        }
        assert!(answered > 1000);
    }
}

#[test]
fn what_is_noticed_is_taken_in_order_before_the_ring_is_looked_at_again() {
    for packed in [false, true] {
        let mut driver = Driver::new(128, features(packed));
        let mut ring = driver.ring(None);
        assert!(!ring.has_noticed() && ring.look() == Ok(false));
        for number in 0..100u8 {
            driver.put(DATA + 16 * u64::from(number), &[number; 16]);
            driver.offer(&[(GUEST + DATA + 16 * u64::from(number), 16, false)], None);
        }
        // A split ring's index says how many there are; in a packed ring each request is looked at.
        assert_eq!(ring.has_noticed(), packed);
        assert!(ring.look() == Ok(true) && ring.has_noticed());
        for number in 0..100u8 {
            let (chain, data) = take(&mut ring).expect("it was offered");
            assert_eq!(data, [number; 16]);
            ring.complete(chain.head(), 0);
            driver.answer(|_| 1).expect("an answer");
        }
        assert!(!ring.has_noticed() && ring.look() == Ok(false));
    }
}

#[test]
fn signals_and_kicks_are_sent_if_they_are_wanted() {
    for packed in [false, true] {
        let mut driver = Driver::new(8, features(packed));
        let mut ring = driver.ring(None);
        let go = |ring: &mut Ring, driver: &mut Driver| {
            driver.offer(&[(GUEST + DATA, 16, false)], None);
            let (chain, _) = take(ring).expect("it was offered");
            ring.complete(chain.head(), 0);
            driver.answer(|_| 1).expect("an answer");
        };
        assert!(ring.wants_signal(), "whoever was there before may have owed one");
        go(&mut ring, &mut driver);
        assert!(ring.wants_signal());
        // No signals, please: the first word of the available ring, the second of packed rings' event suppression.
        let place = if packed { DRIVER + 2 } else { DRIVER };
        driver.put(place, &1u16.to_le_bytes());
        go(&mut ring, &mut driver);
        assert!(!ring.wants_signal());
        ring.refuse_kicks();
        let place = if packed { DEVICE + 2 } else { DEVICE };
        assert_eq!(driver.get16(place), 1);
        assert!(!ring.want_kicks());
        assert_eq!(driver.get16(place), 0);
        driver.offer(&[(GUEST + DATA, 16, false)], None);
        assert!(ring.want_kicks(), "there is something already");
    }
}

#[test]
fn an_event_index_names_the_answer_that_is_told() {
    for packed in [false, true] {
        let mut driver = Driver::new(8, RingFeatures { event_index: true, ..features(packed) });
        let mut ring = driver.ring(None);
        ring.wants_signal();
        // The driver wants to be told after the third, seventh, … answer; the rounds of the ring make no difference.
        let mut wanted = 2u16;
        let wish = |driver: &Driver, wanted: u16| match packed {
            false => driver.put(DRIVER + 4 + 16, &wanted.to_le_bytes()),
            true => {
                let lap = wanted / 8;
                driver.put(DRIVER, &((wanted % 8) | if lap.is_multiple_of(2) { 1 << 15 } else { 0 }).to_le_bytes());
                driver.put(DRIVER + 2, &2u16.to_le_bytes());
            }
        };
        wish(&driver, wanted);
        for answer in 0..100u16 {
            driver.offer(&[(GUEST + DATA, 16, false)], None);
            let (chain, _) = take(&mut ring).expect("it was offered");
            ring.complete(chain.head(), 0);
            driver.answer(|_| 1).expect("an answer");
            assert_eq!(ring.wants_signal(), answer == wanted, "answer {answer}, packed: {packed}");
            if answer == wanted {
                wanted += 4;
                wish(&driver, wanted);
            }
        }
        assert!(!ring.want_kicks());
        match packed {
            false => assert_eq!(driver.get16(DEVICE + 4 + 64), 100),
            true => {
                assert_eq!(
                    (driver.get16(DEVICE), driver.get16(DEVICE + 2)),
                    ((100 % 8) | if 100 / 8 % 2 == 0 { 1 << 15 } else { 0 }, 2)
                )
            }
        }
    }
}

#[test]
fn requests_at_work_are_found_again_in_their_order() {
    for (packed, indirect) in [(false, false), (false, true), (true, false), (true, true)] {
        let entries = if indirect { 1 } else { 5 };
        let mut driver = Driver::new(64, features(packed));
        let shared = InflightShared::make(2, 64, packed).expect("memory");
        let mut ring = driver.ring(Some(shared.queue(1).expect("a queue")));
        let mut expected: Vec<u64> = Vec::new();
        let mut number = 0;
        for round in 0..40u64 {
            for _ in 0..3 {
                let pieces = request(&driver, number);
                driver.offer(&pieces, indirect.then_some(DATA + 0x1_0000 + 0x100 * (number % 64)));
                number += 1;
            }
            let mut taken: Vec<_> = std::iter::from_fn(|| take(&mut ring)).collect();
            expected.extend(number - 3..number);
            assert_eq!(taken.len(), expected.len().min(taken.len()));
            // Some are answered, the second first; then the process ends.
            let mut answered = Vec::new();
            if taken.len() > 2 {
                let (chain, data) = taken.remove(1);
                ring.complete(chain.head(), 1);
                answered.push(data[0]);
            }
            if round % 2 == 0 && taken.len() > 2 {
                let (chain, data) = taken.remove(0);
                ring.complete(chain.head(), 1);
                answered.push(data[0]);
            }
            expected.retain(|number| !answered.contains(&(*number as u8)));
            drop((taken, ring));
            let again = InflightShared::adopt(shared.file().expect("a file"), 0, shared.size(), 2, 64, packed);
            let queue = again.expect("memory").queue(1).expect("a queue");
            ring = Ring::new(driver.memory(), driver.layout(), driver.features, driver.base(), Some(queue))
                .expect("a ring");
            let found: Vec<_> = std::iter::from_fn(|| take(&mut ring)).collect();
            let numbers: Vec<u8> = found.iter().map(|(_, data)| data[0]).collect();
            assert_eq!(numbers, expected.iter().map(|number| *number as u8).collect::<Vec<_>>(), "round {round}");
            if expected.len() > 6 {
                for (chain, _) in found {
                    ring.complete(chain.head(), 1);
                }
                expected.clear();
            } else {
                // They are at work in this process too, and end with it.
                drop(ring);
                let queue = shared.queue(1).expect("a queue");
                ring = Ring::new(driver.memory(), driver.layout(), driver.features, driver.base(), Some(queue))
                    .expect("a ring");
            }
            while driver.answer(|_| entries).is_some() {}
        }
    }
}

#[test]
fn an_answer_that_was_put_is_not_given_again() {
    for packed in [false, true] {
        let mut driver = Driver::new(4, features(packed));
        let shared = InflightShared::make(1, 4, packed).expect("memory");
        let mut before = vec![0; shared.size() as usize];
        let mut ring = driver.ring(Some(shared.queue(0).expect("a queue")));
        for lap in 0..9 {
            driver.offer(&[(GUEST + DATA, 16, false)], None);
            let (chain, _) = take(&mut ring).expect("it was offered");
            let file = shared.file().expect("a file");
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut before, 0).expect("read");
            ring.complete(chain.head(), 0);
            driver.answer(|_| 1).expect("an answer");
            // As if the process had ended right after the answer: what names it was written, what says that it is over was not.
            let at_work = if packed { PACKED_AT_WORK } else { SPLIT_AT_WORK }
                + usize::from(chain.head().kept) * if packed { 32 } else { 16 };
            std::os::unix::fs::FileExt::write_all_at(&file, &before[at_work..at_work + 1], at_work as u64)
                .expect("written");
            let used = if packed { 16..24 } else { 14..16 };
            if packed {
                // The new position and the one before it.
                let new: [u8; 8] = std::array::from_fn(|i| {
                    let mut b = [0; 1];
                    std::os::unix::fs::FileExt::read_exact_at(&file, &mut b, 16 + i as u64).expect("read");
                    b[0]
                });
                let mix = [new[0], new[1], before[16], before[17], new[4], before[20], 0, 0];
                std::os::unix::fs::FileExt::write_all_at(&file, &mix, 16).expect("written");
            } else {
                std::os::unix::fs::FileExt::write_all_at(&file, &before[used.clone()], used.start as u64)
                    .expect("written");
            }
            drop(ring);
            ring = driver.ring(Some(shared.queue(0).expect("a queue")));
            assert!(take(&mut ring).is_none(), "lap {lap}, packed: {packed}");
        }
    }
}

const SPLIT_AT_WORK: usize = 16;
const PACKED_AT_WORK: usize = 32;

#[test]
fn what_cannot_be_ends_the_ring() {
    let piece = |address: u64, len: u32, writes: bool| (GUEST + address, len, writes);
    for packed in [false, true] {
        let refused = |wreck: &dyn Fn(&mut Driver)| {
            let mut driver = Driver::new(8, features(packed));
            wreck(&mut driver);
            let mut ring = driver.ring(None);
            assert!(ring.has_next());
            ring.next(&mut Chain::new()).expect_err("refused")
        };
        let outside = refused(&|driver| _ = driver.offer(&[piece(BYTES - 8, 16, false)], None));
        assert!(matches!(outside, RingError::Outside(_)));
        assert!(matches!(
            refused(&|driver| _ = driver.offer(&[(u64::MAX - 4, 16, true)], None)),
            RingError::Outside(_)
        ));
        assert!(matches!(refused(&|driver| _ = driver.offer(&[(GUEST, u32::MAX, true)], None)), RingError::Outside(_)));
        let order = refused(&|driver| _ = driver.offer(&[piece(DATA, 8, true), piece(DATA, 8, false)], None));
        assert_eq!(order, RingError::Order);
        for (bytes, entry_flags) in [(0, 0), (8, 0), (17, 0), (16, Descriptor::INDIRECT)] {
            let table = refused(&|driver| {
                driver.descriptor(DATA, piece(DATA, 8, false), entry_flags, entry_flags);
                _ = driver.offer_table(piece(DATA, bytes, false), 0);
            });
            assert_eq!(table, RingError::Indirect, "{bytes} bytes");
        }
        let chained = refused(&|driver| _ = driver.offer_table(piece(DATA, 16, false), Descriptor::NEXT));
        assert_eq!(chained, RingError::Indirect);
        if packed {
            assert_eq!(
                refused(&|driver| {
                    driver.offer(&[piece(DATA, 8, false); 8], None);
                    let last = driver.get16(14 + 7 * 16);
                    driver.put(14 + 7 * 16, &(last | Descriptor::NEXT).to_le_bytes());
                }),
                RingError::Endless
            );
            let number = refused(&|driver| {
                driver.offer(&[piece(DATA, 8, false)], None);
                driver.put(12, &8u16.to_le_bytes());
            });
            assert_eq!(number, RingError::Descriptor(8));
        } else {
            let circle = refused(&|driver| {
                driver.offer(&[piece(DATA, 8, false); 3], None);
                driver.descriptor(32, piece(DATA, 8, false), Descriptor::NEXT, 1);
            });
            assert_eq!(circle, RingError::Endless);
            let circle_in_table = refused(&|driver| {
                driver.descriptor(DATA, piece(DATA, 8, false), Descriptor::NEXT, 1);
                driver.descriptor(DATA + 16, piece(DATA, 8, false), Descriptor::NEXT, 0);
                _ = driver.offer_table(piece(DATA, 32, false), 0);
            });
            assert_eq!(circle_in_table, RingError::Endless);
            let head = refused(&|driver| {
                driver.offer(&[piece(DATA, 8, false)], None);
                driver.put(DRIVER + 4, &8u16.to_le_bytes());
            });
            assert_eq!(head, RingError::Descriptor(8));
            assert_eq!(refused(&|driver| driver.put(DRIVER + 2, &9u16.to_le_bytes())), RingError::Index(9));
        }
    }
}

#[test]
fn a_ring_lies_in_shared_memory_or_nowhere() {
    for packed in [false, true] {
        let driver = Driver::new(8, features(packed));
        let with = |change: &dyn Fn(&mut Layout)| {
            let mut layout = driver.layout();
            change(&mut layout);
            Ring::new(driver.memory(), layout, driver.features, driver.base(), None).err().expect("refused")
        };
        assert_eq!(with(&|layout| layout.size = 0), RingError::Size(0));
        assert_eq!(with(&|layout| layout.size = 40_000), RingError::Size(40_000));
        assert!(matches!(with(&|layout| layout.descriptors = FRONT_END + BYTES - 100), RingError::Area { .. }));
        assert!(matches!(with(&|layout| layout.driver = 0), RingError::Area { .. }));
        assert!(matches!(with(&|layout| layout.device = u64::MAX), RingError::Area { .. }));
        assert!(matches!(with(&|layout| layout.descriptors += 8), RingError::Misaligned { .. }));
    }
}

#[test]
fn kept_requests_that_do_not_fit_are_refused() {
    assert!(matches!(InflightShared::adopt(memfd(64), 0, 64, 1, 8, false), Err(InflightError::Size { .. })));
    assert!(InflightShared::adopt(memfd(64), 0, 4096, 1, 8, false).is_err(), "the file is shorter");
    let shared = InflightShared::make(1, 8, false).expect("memory");
    assert!(shared.queue(1).is_err());
    let driver = Driver::new(8, features(true));
    let other_kind = shared.queue(0).expect("a queue");
    let ring = Ring::new(driver.memory(), driver.layout(), driver.features, driver.base(), Some(other_kind));
    assert!(matches!(ring, Err(RingError::Kept(_))));
}

#[test]
fn a_file_that_is_cut_off_breaks_its_own_ring() {
    for packed in [false, true] {
        let (mut cut, mut whole) = (Driver::new(8, features(packed)), Driver::new(8, features(packed)));
        let (mut ring, mut other) = (cut.ring(None), whole.ring(None));
        for driver in [&mut cut, &mut whole] {
            driver.offer(&[(GUEST + DATA, 16, false), (GUEST + DATA + 16, 8, true)], None);
        }
        let (mut chain, _) = take(&mut ring).expect("it was offered");
        cut.file.set_len(0).expect("cut off");
        let mut header = [1; 16];
        assert!(chain.read_header(&mut header));
        assert_eq!(header, [0; 16]);
        chain.set_status(0);
        ring.complete(chain.head(), 1);
        ring.wants_signal();
        assert_eq!(ring.next(&mut chain), Err(RingError::MemoryGone));
        assert!(take(&mut other).is_some(), "a neighbour goes on");
    }
}

#[test]
fn data_may_cross_from_one_region_to_the_next() {
    let (one, other) = (memfd(0x2000), memfd(0x2000));
    let memory =
        GuestMemory::of(vec![region(&other, 0x3000, 0x9000, 0x1000, 0x1000), region(&one, 0x1000, 0x5000, 0, 0x2000)]);
    let memory = memory.expect("mapped");
    let mut lens = Vec::new();
    memory.segments(0x2ff0, 0x20, |segment| lens.push(segment.len())).expect("there");
    assert_eq!(lens, [0x10, 0x10]);
    assert!(memory.segments(0x3ff0, 0x20, |_| ()).is_err() && memory.segments(0xfff, 1, |_| ()).is_err());
    assert!(memory.whole(0x2ff0, 0x20).is_err() && memory.front_end(0x9ff0, 0x20).is_err());
    assert!(memory.with(region(&one, 0x1fff, 0x2_0000, 0, 0x1000)).is_err(), "it overlaps");
    assert!(memory.with(region(&one, 0x8000, 0x2_0000, 0x1000, 0x2000)).is_err(), "the file is shorter");
    let less = memory.without(0x3000, 0x1000).expect("it was there");
    assert!(less.segments(0x3000, 1, |_| ()).is_err() && less.without(0x3000, 0x1000).is_err());
    let more = less.with(region(&other, 0x3000, 0x9000, 0, 0x2000)).expect("room again");
    assert!(more.segments(0x2fff, 0x2001, |_| ()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in its memory, a ring gives requests or an error, and never ends the process.
    #[test]
    fn noise_ends_a_ring_and_nothing_else(packed: bool, size in 1u16..=64, seed: u64, kept: bool, edits in prop::collection::vec((0u64..0xa000, any::<u16>()), 0..40)) {
        let size = if packed { size } else { size.next_power_of_two() };
        let driver = Driver::new(size, RingFeatures { packed, indirect: true, event_index: seed & 1 == 0 });
        let mut state = seed | 1;
        let mut noise = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); state };
        for entry in 0..u64::from(size) {
            // Plausible: addresses near the memory, short lengths, all flags.
            let address = GUEST + noise() % (BYTES + 0x100);
            let flags = (noise() >> 40) as u16 & if seed & 2 == 0 { 0x8087 } else { 0xffff };
            let (third, fourth) = if packed { (noise() as u16 % (size + 1), flags) } else { (flags, (noise() >> 33) as u16 % (size + 1)) };
            driver.descriptor(16 * entry, (address, (noise() >> 50) as u32, false), third, fourth);
            driver.put(DRIVER + 4 + 2 * entry, &((noise() >> 33) as u16 % size).to_le_bytes());
        }
        driver.put(DRIVER + 2, &((noise() >> 33) as u16 % (size + 2)).to_le_bytes());
        let shared = kept.then(|| InflightShared::make(1, size, packed).expect("memory"));
        let inflight = shared.as_ref().map(|shared| shared.queue(0).expect("a queue"));
        let mut ring = driver.ring(inflight);
        let mut chains = Vec::new();
        let mut edits = edits.into_iter();
        for _ in 0..200 {
            let mut chain = Chain::new();
            match ring.next(&mut chain) {
                Ok(true) => {
                    let mut header = [0; 16];
                    chain.read_header(&mut header);
                    chain.set_status(1);
                    chains.push(chain);
                }
                Ok(false) => {
                    let Some((at, word)) = edits.next() else { break };
                    driver.put(at & !1, &word.to_le_bytes());
                    chains.drain(..).for_each(|chain| ring.complete(chain.head(), 7));
                    ring.wants_signal();
                    ring.want_kicks();
                    ring.refuse_kicks();
                }
                Err(_) => break,
            }
        }
        if let Some(shared) = shared {
            // And what was kept is noise too.
            let file = shared.file().expect("a file");
            for _ in 0..8 {
                let at = 8 + (noise() >> 33) % (shared.size() - 16);
                std::os::unix::fs::FileExt::write_all_at(&file, &noise().to_le_bytes()[..2], at).expect("written");
            }
            let ring = Ring::new(driver.memory(), driver.layout(), driver.features, driver.base(), Some(shared.queue(0).expect("a queue")));
            if let Ok(mut ring) = ring {
                let mut chain = Chain::new();
                while let Ok(true) = ring.next(&mut chain) {
                    ring.complete(chain.head(), 1);
                }
            }
        }
    }
}

#[test]
fn a_word_about_the_disk_is_kept_along() {
    for packed in [false, true] {
        let shared = InflightShared::make(2, 8, packed).expect("memory");
        assert_eq!(shared.note(), None);
        shared.set_note(7);
        let again = InflightShared::adopt(shared.file().expect("a file"), 0, shared.size(), 2, 8, packed);
        assert_eq!(again.expect("memory").note(), Some(7));
        let smaller = InflightShared::adopt(shared.file().expect("a file"), 0, shared.size() - 64, 2, 8, packed);
        let smaller = smaller.expect("memory of somebody else's");
        smaller.set_note(8);
        assert_eq!((smaller.note(), shared.note()), (None, Some(7)));
    }
}
