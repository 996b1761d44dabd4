//! Tests of journal blocks.

use std::mem::offset_of;

use proptest::prelude::*;

use super::super::VolumeRecord;
use super::super::testing::{self, Random};
use super::*;

const _: () = assert!(offset_of!(BlockHeader, len) == 28);

const STAMP: BlockStamp = BlockStamp { pool: Uuid::from_u128(0xabc), epoch: 4, sequence: 70, generation: 9 };

fn word(volume: u32, index: u64) -> Record {
    Record::Word { volume: VolumeId(volume), index, word: (index + 1) << 32 | 0xff }
}

/// One of each.
fn records() -> Vec<Record> {
    let volume = VolumeId(7);
    vec![
        word(7, 0),
        Record::Word { volume, index: 5, word: 0 },
        word(8, (1 << 29) - 1),
        Record::Create(Box::new(testing::volume(7, "data"))),
        word(8, 1),
        Record::Fork { source: volume, record: Box::new(testing::snapshot(8, "before")) },
        Record::Rollback { volume, snapshot: VolumeId(8) },
        Record::Resize { volume, size: 1 << 40 },
        Record::SetAttributes { volume, attributes: vec![0, 9, 0] },
        Record::SetAttributes { volume, attributes: Vec::new() },
        Record::Delete { volume },
        Record::Delete { volume: VolumeId(8) },
        word(7, 2),
    ]
}

fn block(records: &[Record]) -> [u8; PAGE] {
    let mut bytes = [0xff; PAGE];
    let mut writer = BlockWriter::new(&mut bytes, STAMP);
    for record in records {
        assert!(writer.push(record), "{record:?}");
    }
    writer.finish();
    bytes
}

#[test]
fn records_of_one_change_stand_in_one_block_or_in_none() {
    let volume = VolumeId(7);
    let resize = |size| Record::Resize { volume, size };
    let attributes = |len| Record::SetAttributes { volume, attributes: vec![1; len] };
    let mut before = vec![Record::Create(Box::new(testing::volume(7, "data"))); 3];
    // What is left then has room for one of the two.
    let rest = PAGE - HEADER - 3 * (FRAME + RECORD) - (FRAME + 512) - FRAME;
    before.extend([attributes(512), attributes(rest - (FRAME + 8))]);
    let mut bytes = [0xff; PAGE];
    let mut writer = BlockWriter::new(&mut bytes, STAMP);
    assert!(before.iter().all(|record| writer.push(record)));
    assert!(!writer.push_together(&[resize(512), resize(1 << 20)]));
    writer.finish();
    assert_eq!(bytes, block(&before));
    let mut writer = BlockWriter::new(&mut bytes, STAMP);
    assert!(writer.push_together(&[resize(512), resize(1 << 20)]));
    writer.finish();
    assert_eq!(bytes, block(&[resize(512), resize(1 << 20)]));
}

fn read(bytes: &[u8]) -> Option<Records<'_>> {
    read_block(bytes, STAMP.pool, STAMP.epoch, STAMP.sequence)
}

/// How many of the records fit.
fn fill(records: impl Iterator<Item = Record>) -> usize {
    let mut bytes = [0; PAGE];
    let mut writer = BlockWriter::new(&mut bytes, STAMP);
    let mut taken = Vec::new();
    for record in records {
        if !writer.push(&record) {
            assert!(!writer.push(&record), "what did not fit fits");
            break;
        }
        taken.push(record);
    }
    writer.finish();
    let back: Vec<_> = read(&bytes).unwrap().map(Result::unwrap).collect();
    assert!(back == taken);
    taken.len()
}

#[test]
fn records_of_all_kinds_come_back_in_order() {
    let bytes = block(&records());
    let back: Vec<_> = read(&bytes).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(back, records());
    assert_eq!((read(&bytes).unwrap().stamp(), BlockStamp::of(&bytes)), (STAMP, Some(STAMP)));
    let empty = block(&[]);
    assert_eq!(read(&empty).unwrap().count(), 0);
}

#[test]
fn blocks_hold_as_much_as_they_promise() {
    assert_eq!(fill((0..1000).map(|n| word(3, n))), 336);
    assert_eq!(fill((0..1000).map(|n| word(1 + (n % 2) as u32, n))), WORDS_PER_BLOCK);
    assert_eq!(WORDS_PER_BLOCK, 202);
    assert_eq!(fill((1..9).map(|n| Record::Create(Box::new(testing::volume(n, "v"))))), 3);
    let attributes = vec![1; super::super::MOST_ATTRIBUTES];
    assert_eq!(fill((1..9).map(|n| Record::SetAttributes { volume: VolumeId(n), attributes: attributes.clone() })), 7);
    assert_eq!(fill((1..9999).map(|n| Record::Delete { volume: VolumeId(n) })), 506);
}

/// A record that does not fit leaves the block as it was: shorter ones still go in.
#[test]
fn shorter_records_fit_behind_one_that_did_not() {
    let mut bytes = [0; PAGE];
    let mut writer = BlockWriter::new(&mut bytes, STAMP);
    let volume = |n| Record::Create(Box::new(testing::volume(n, "v")));
    assert!(writer.is_empty());
    assert!((1..4).all(|n| writer.push(&volume(n))) && writer.push(&word(5, 0)));
    assert!(!writer.push(&volume(4)) && !writer.is_empty());
    assert!(writer.push(&word(5, 1)));
    writer.finish();
    let words: Vec<_> = read(&bytes).unwrap().map(Result::unwrap).skip(3).collect();
    assert_eq!(words, [word(5, 0), word(5, 1)]);
}

#[test]
fn each_corrupted_byte_is_noticed() {
    let mut bytes = block(&records());
    for at in 0..PAGE {
        for flip in [0x01, 0x80, 0xff] {
            bytes[at] ^= flip;
            assert!(read(&bytes).is_none() && BlockStamp::of(&bytes).is_none(), "byte {at}");
            bytes[at] ^= flip;
        }
    }
    assert!(read(&bytes).is_some());
}

#[test]
fn torn_blocks_are_noticed() {
    let (old, new) = (block(&records()), block(&[word(1, 1)]));
    for mask in 1..255_u32 {
        let torn: Vec<u8> = (0..PAGE).map(|at| if mask >> (at / 512) & 1 == 1 { old[at] } else { new[at] }).collect();
        let is_whole = torn == old || torn == new;
        assert_eq!(read(&torn).is_some(), is_whole, "{mask:#b}");
    }
}

#[test]
fn other_blocks_are_not_taken_for_the_one_looked_for() {
    let bytes = block(&records());
    assert!(read_block(&bytes, Uuid::from_u128(0xabd), STAMP.epoch, STAMP.sequence).is_none());
    assert!(read_block(&bytes, STAMP.pool, STAMP.epoch + 1, STAMP.sequence).is_none());
    assert!(read_block(&bytes, STAMP.pool, STAMP.epoch, STAMP.sequence + 1).is_none());
    assert!(read(&[0; PAGE]).is_none() && read(&bytes[..512]).is_none() && read(&[]).is_none());
}

/// Writes over a block and makes its checksum right again.
fn changed(bytes: &[u8; PAGE], at: usize, with: &[u8]) -> [u8; PAGE] {
    let mut bytes = *bytes;
    bytes[at..at + with.len()].copy_from_slice(with);
    seal(&mut bytes, CHECKSUM_AT);
    bytes
}

#[test]
fn wrong_records_end_the_block_at_their_bytes() {
    let good = block(&[word(7, 0), word(7, 1), word(8, 2)]);
    let wrong: [(usize, &[u8], usize, usize); 11] = [
        (28, &[0xff, 0xff], 0, 28),              // records behind the block
        (28, &[51, 0], 2, 48 + 34),              // the second frame is cut in its body
        (28, &[53, 0], 3, 48 + 52),              // a byte follows
        (28, &[35, 0], 2, 48 + 32),              // the second frame is cut in its header
        (48, &[99], 0, 48),                      // kind
        (49, &[1], 0, 49),                       // reserved
        (50, &[25, 0], 0, 50),                   // half a word
        (50, &[0, 0], 0, 50),                    // no word
        (50, &[0, 1], 0, 50),                    // more words than there are
        (52, &[0], 0, 52),                       // nobody
        (56 + 12, &[0, 0, 0, 0xff], 1, 56 + 12), // the second word's index
    ];
    for (at, with, good_before, named) in wrong {
        let bytes = changed(&good, at, with);
        let mut records = read(&bytes).unwrap();
        for n in 0..good_before {
            assert!(records.next().unwrap().is_ok(), "bytes {with:?} at {at}: record {n}");
        }
        match records.next() {
            Some(Err(FormatError::Wrong { at: place, .. })) => assert_eq!(place, named, "bytes {with:?} at {at}"),
            other => panic!("bytes {with:?} at {at}: {other:?}"),
        }
        assert!(records.next().is_none());
    }
}

/// Whatever a block holds, reading it ends, with records or an error.
#[test]
fn mutated_blocks_with_right_checksums_do_no_harm() {
    let good = block(&records());
    let mut random = Random(1);
    for _ in 0..20_000 {
        let mut bytes = good;
        for _ in 0..1 + random.below(6) {
            let reach = if random.below(2) == 0 { 200 } else { PAGE };
            bytes[random.below(reach)] = random.next() as u8;
        }
        bytes[..4].copy_from_slice(&MAGIC);
        seal(&mut bytes, CHECKSUM_AT);
        let stamp = BlockStamp::of(&bytes).unwrap();
        let records = read_block(&bytes, stamp.pool, stamp.epoch, stamp.sequence).unwrap();
        assert!(records.count() <= 340);
    }
}

/// Any record that may be written; mostly words, of a few volumes, as in a pool.
fn any_record() -> impl Strategy<Value = Record> {
    let volume = || (100..104_u32).prop_map(VolumeId);
    let value =
        prop_oneof![Just(0), (1..=u32::MAX, 1..=0xffff_u64).prop_map(|(c, blocks)| u64::from(c) << 32 | blocks)];
    let attributes = proptest::collection::vec(any::<u8>(), 0..=super::super::MOST_ATTRIBUTES);
    let new = (200..=u32::MAX, "[A-Za-z0-9._-]{1,64}", any::<u64>());
    let new = new.prop_map(|(id, name, created_at)| VolumeRecord { created_at, ..testing::snapshot(id, &name) });
    prop_oneof![
        40 => (volume(), 0..1_u64 << 29, value).prop_map(|(volume, index, word)| Record::Word { volume, index, word }),
        1 => new.clone().prop_map(|record| Record::Create(Box::new(record))),
        1 => (volume(), new).prop_map(|(source, record)| Record::Fork { source, record: Box::new(record) }),
        1 => volume().prop_map(|volume| Record::Rollback { volume, snapshot: VolumeId(150) }),
        1 => (volume(), 1..=1_u64 << 36).prop_map(|(volume, sectors)| Record::Resize { volume, size: sectors * 512 }),
        1 => volume().prop_map(|volume| Record::Delete { volume }),
        1 => (volume(), attributes).prop_map(|(volume, attributes)| Record::SetAttributes { volume, attributes }),
    ]
}

proptest! {
    /// A journal is written block after block: whatever is pushed comes back, and each record fits into an empty block.
    #[test]
    fn any_records_come_back_in_order(records in proptest::collection::vec(any_record(), 0..600)) {
        let mut back = Vec::new();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let mut bytes = [0; PAGE];
            let mut writer = BlockWriter::new(&mut bytes, STAMP);
            let fits = rest.iter().take_while(|record| writer.push(record)).count();
            prop_assert!(fits > 0);
            writer.finish();
            back.extend(read(&bytes).expect("it is intact").map(Result::unwrap));
            rest = &rest[fits..];
        }
        prop_assert!(back == records);
    }
}
