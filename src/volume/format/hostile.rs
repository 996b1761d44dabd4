//! Tests: whatever the bytes, decoding ends with a value or an error. Where a checksum would keep wrong bytes out, it is made right.

use uuid::Uuid;

use super::page::seal;
use super::testing::{self, Random};
use super::*;
use crate::volume::units::{PAGE, PageNumber, VolumeId};

const TRIES: usize = 20_000;

/// Reads the page as each of the things that it may be, down to the last record.
fn decode_all(bytes: &[u8]) {
    let _ = Superblock::decode(bytes);
    let _ = Superblock::newest(bytes, bytes);
    let _ = VolumeRecord::decode(bytes);
    if let Some(stamp) = BlockStamp::of(bytes) {
        let records =
            read_block(bytes, stamp.pool, stamp.epoch, stamp.sequence).expect("it is the block it says it is");
        let _ = records.count();
    }
    if let Ok(pointers) = node::decode(bytes) {
        assert_eq!(pointers.count(), node::POINTERS_PER_PAGE);
    }
    if let Ok(words) = leaf::decode(bytes) {
        assert_eq!(words.count(), 512);
    }
    if let Ok(records) = catalog::decode(bytes) {
        assert_eq!(records.count(), catalog::RECORDS_PER_PAGE);
    }
}

fn mutate(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..1 + random.below(8) {
        // The interesting fields are in front.
        let reach = if random.below(2) == 0 { bytes.len() } else { 256.min(bytes.len()) };
        let at = random.below(reach);
        bytes[at] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at].wrapping_add(1),
            _ => random.next() as u8,
        };
    }
}

fn superblock() -> Superblock {
    Superblock {
        features: Features::default(),
        pool: Uuid::from_u128(5),
        generation: 4,
        epoch: 1,
        clusters: 1 << 16,
        journal: JournalArea::usual(1 << 16),
        start: JournalStart { block: 0, sequence: 1 },
        catalog: PagePointer::to(PageNumber(1 << 19), b""),
        key_clusters: Vec::new(),
        next_volume: VolumeId(3),
        is_clean: false,
        created_at: 1,
        owner: Some(Owner { machine: [3; 16], boot: [4; 16], pid: 1, opened_at: 2, host: "h".to_owned() }),
    }
}

#[test]
fn random_bytes_of_any_length_are_decoded_or_refused() {
    let mut random = Random(7);
    for _ in 0..TRIES / 10 {
        let len = if random.below(2) == 0 { PAGE } else { random.below(2 * PAGE) };
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        decode_all(&bytes);
    }
    for len in [0, 1, 511, 512, 1024, PAGE - 1, PAGE, PAGE + 1] {
        decode_all(&vec![0; len]);
        decode_all(&vec![0xff; len]);
    }
}

/// What is decoded in spite of changes is what is written again: nothing is read as something else.
#[test]
fn mutated_superblocks_are_refused_or_mean_what_they_say() {
    let mut random = Random(8);
    let mut good = [0; PAGE];
    superblock().encode(&mut good);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..TRIES {
        let mut bytes = good;
        mutate(&mut bytes[8..240], &mut random);
        seal(&mut bytes, 12);
        decode_all(&bytes);
        let Ok(superblock) = Superblock::decode(&bytes) else {
            refused += 1;
            continue;
        };
        read += 1;
        // A compatible feature that is not known is dropped.
        bytes[32..40].fill(0);
        seal(&mut bytes, 12);
        let mut again = [0; PAGE];
        superblock.encode(&mut again);
        assert!(again == bytes);
    }
    assert!(read > TRIES / 100 && refused > TRIES / 100, "{read} read, {refused} refused");
}

#[test]
fn mutated_record_pages_are_refused_or_mean_what_they_say() {
    let mut random = Random(9);
    let mut good = [0; PAGE];
    let with_key = VolumeRecord { key: KeySlot::numbered(77), ..testing::volume(11, "c") };
    catalog::encode(&mut good, &[testing::volume(3, "a"), testing::snapshot(9, "b"), with_key]);
    for _ in 0..TRIES {
        let mut bytes = good;
        mutate(&mut bytes, &mut random);
        decode_all(&bytes);
        for (place, record) in bytes.chunks(RECORD).zip(catalog::decode(&bytes).unwrap()) {
            if let Ok(Some(record)) = record {
                let mut again = [0; RECORD];
                record.encode(&mut again);
                assert!(again == place);
            }
        }
    }
}
