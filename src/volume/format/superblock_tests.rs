//! Tests of the superblock.

use super::*;
use std::mem::offset_of;

/// The places that errors name.
const _: () = assert!(
    offset_of!(StoredSuperblock, pool) == 40
        && offset_of!(StoredSuperblock, generation) == 56
        && offset_of!(StoredSuperblock, clusters) == 68
        && offset_of!(StoredSuperblock, journal_first) == 72
        && offset_of!(StoredSuperblock, journal_blocks) == 76
        && offset_of!(StoredSuperblock, start_block) == 80
        && offset_of!(StoredSuperblock, next_volume) == 84
        && offset_of!(StoredSuperblock, catalog) == 96
        && offset_of!(StoredSuperblock, state) == 120
        && offset_of!(StoredSuperblock, owner) == 128
);

fn superblock(generation: u64) -> Superblock {
    let owner = Owner { machine: [1; 16], boot: [2; 16], pid: 4711, opened_at: 5, host: "node-1".to_owned() };
    Superblock {
        features: Features::default(),
        pool: Uuid::from_u128(0x1234),
        generation,
        epoch: 3,
        clusters: 4096,
        journal: JournalArea::usual(4096),
        start: JournalStart { block: 17, sequence: 900 },
        catalog: PagePointer::to(PageNumber(5000), b"catalog"),
        key_clusters: Vec::new(),
        next_volume: VolumeId(12),
        is_clean: false,
        created_at: 1_790_000_000,
        owner: Some(owner),
    }
}

fn stored(superblock: &Superblock) -> [u8; PAGE] {
    let mut bytes = [0xff; PAGE];
    superblock.encode(&mut bytes);
    bytes
}

/// Writes over a superblock and makes its checksum right again.
fn changed(superblock: &Superblock, at: usize, bytes: &[u8]) -> [u8; PAGE] {
    let mut page = stored(superblock);
    page[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut page, CHECKSUM_AT);
    page
}

#[test]
fn superblocks_come_back() {
    let fresh = Superblock { owner: None, is_clean: true, catalog: PagePointer::NONE, ..superblock(0) };
    for superblock in [superblock(8), superblock(u64::MAX), fresh] {
        assert_eq!(Superblock::decode(&stored(&superblock)), Ok(superblock));
    }
}

/// One with clusters of key slots.
fn with_keys(clusters: impl IntoIterator<Item = u32>) -> Superblock {
    let features = Features { incompatible: Features::KEYS, ..Features::default() };
    Superblock { features, key_clusters: clusters.into_iter().map(ClusterId).collect(), ..superblock(8) }
}

#[test]
fn clusters_of_keys_come_back_and_are_checked() {
    for superblock in [with_keys([]), with_keys([4095]), with_keys(100..228)] {
        assert_eq!(Superblock::decode(&stored(&superblock)), Ok(superblock));
    }
    let wrong: [(usize, &[u8], usize); 5] = [
        (512, &[17, 0], 512),    // in the journal
        (512, &[0, 0x10], 512),  // behind the device
        (516, &[100, 0], 516),   // the first one again
        (512, &[0, 0], 516),     // none, and then one
        (1020, &[200, 0], 1020), // one behind the last
    ];
    for (at, bytes, named) in wrong {
        match Superblock::decode(&changed(&with_keys([100, 101]), at, bytes)) {
            Err(FormatError::Wrong { at: place, .. }) => assert_eq!(place, named, "bytes {bytes:?} at {at}"),
            other => panic!("bytes {bytes:?} at {at}: {other:?}"),
        }
    }
    // Without the feature nobody looks there.
    assert_eq!(Superblock::decode(&changed(&superblock(8), 512, &[17])), Ok(superblock(8)));
}

/// A cut while the list changes leaves the one or the other superblock.
#[test]
fn a_torn_change_of_the_clusters_leaves_the_other_superblock() {
    let old = stored(&Superblock { generation: 6, ..with_keys([]) });
    let (new, other) = (stored(&with_keys([100])), stored(&Superblock { generation: 7, ..with_keys([]) }));
    for torn in [[&old[..512], &new[512..]].concat(), [&new[..512], &old[512..]].concat()] {
        assert_eq!(Superblock::newest(&torn, &other).map(|superblock| superblock.generation), Ok(7));
    }
}

#[test]
fn each_corrupted_byte_is_noticed() {
    let mut bytes = stored(&superblock(8));
    for at in 0..PAGE {
        for flip in [0x01, 0x80, 0xff] {
            bytes[at] ^= flip;
            let expected = if at < 8 { FormatError::NotAPool } else { FormatError::Checksum { object: "superblock" } };
            assert_eq!(Superblock::decode(&bytes), Err(expected), "byte {at}");
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn each_wrong_field_is_refused_at_its_byte() {
    let wrong: [(usize, &[u8], usize); 13] = [
        (68, &[18, 0], 68),       // the journal's 16 clusters behind 2 fill it
        (72, &[1], 72),           // journal over superblock B
        (76, &[0, 0], 76),        // no journal
        (76, &[17, 0], 76),       // half a cluster
        (76, &[0xf0, 0xff], 68),  // longer than the device
        (80, &[0, 1], 80),        // start behind 256 blocks
        (84, &[0], 84),           // next volume
        (96, &[40, 0], 96),       // catalog in the journal
        (96, &[0, 0, 1], 96),     // catalog behind the device
        (108, &[1], 108),         // reserved in the pointer
        (120, &[2], 120),         // state
        (124, &[1], 120),         // reserved
        (128 + 32, &[0, 0], 160), // the owner's process
    ];
    for (at, bytes, named) in wrong {
        match Superblock::decode(&changed(&superblock(8), at, bytes)) {
            Err(FormatError::Wrong { at: place, .. }) => assert_eq!(place, named, "bytes {bytes:?} at {at}"),
            other => panic!("bytes {bytes:?} at {at}: {other:?}"),
        }
    }
    assert!(Superblock::decode(&[0; 512]).is_err());
    assert_eq!(Superblock::decode(&[0; PAGE]), Err(FormatError::NotAPool));
}

#[test]
fn later_versions_and_unknown_features_are_refused_by_name() {
    let later = changed(&superblock(8), 8, &[2]);
    assert_eq!(Superblock::decode(&later), Err(FormatError::Version(2)));
    let incompatible = Superblock::decode(&changed(&superblock(8), 16, &[0b1010])).unwrap_err();
    assert!(incompatible.to_string().contains("incompatible: bits 1, 3"), "{incompatible}");

    let read_only = Superblock::decode(&changed(&superblock(8), 24, &[0b10])).unwrap();
    let refusal = read_only.features.check_writable().unwrap_err();
    assert!(refusal.to_string().contains("bit 1"), "{refusal}");

    let compatible = Superblock::decode(&changed(&superblock(8), 32, &[0xff])).unwrap();
    assert_eq!((compatible.features, compatible.features.check_writable()), (Features::default(), Ok(())));
    assert_eq!(Superblock::decode(&changed(&superblock(8), 4000, &[1])), Ok(superblock(8)));
}

#[test]
fn newest_valid_superblock_counts() {
    let (a, b) = (stored(&superblock(8)), stored(&superblock(9)));
    assert_eq!(Superblock::newest(&a, &b), Ok(superblock(9)));
    assert_eq!(Superblock::newest(&stored(&superblock(10)), &b), Ok(superblock(10)));
    let torn = [&b[..100], &[0; PAGE - 100]].concat();
    assert_eq!(Superblock::newest(&a, &torn), Ok(superblock(8)));
    assert_eq!(Superblock::newest(&torn, &b), Ok(superblock(9)));
    assert_eq!(Superblock::newest(&[0; PAGE], &b), Ok(superblock(9)));
}

#[test]
fn without_a_valid_superblock_the_more_telling_error_comes() {
    let mut torn = stored(&superblock(9));
    torn[200] ^= 1;
    let damaged = Err(FormatError::Checksum { object: "superblock" });
    assert_eq!(Superblock::newest(&[0; PAGE], &torn), damaged);
    assert_eq!(Superblock::newest(&torn, &[0; PAGE]), damaged);
    assert_eq!(Superblock::newest(&[0; PAGE], &[0; PAGE]), Err(FormatError::NotAPool));
}

#[test]
fn superblock_of_a_later_version_refuses_the_pool_even_beside_a_valid_one() {
    let (a, b) = (stored(&superblock(8)), changed(&superblock(9), 8, &[2]));
    assert_eq!(Superblock::newest(&a, &b), Err(FormatError::Version(2)));
    let b = changed(&superblock(9), 16, &[2]);
    assert!(matches!(Superblock::newest(&a, &b), Err(FormatError::Features(_))));
}

#[test]
fn superblocks_in_the_wrong_place_or_of_two_pools_are_refused() {
    let (a, b) = (stored(&superblock(8)), stored(&superblock(9)));
    assert!(matches!(Superblock::newest(&b, &a), Err(FormatError::Wrong { at: 56, .. })));
    assert_eq!(Superblock::newest(&a, &a), Ok(superblock(8)), "a copy of A in the place of B is not valid");
    let other = Superblock { pool: Uuid::from_u128(0x77), ..superblock(9) };
    let error = Superblock::newest(&a, &stored(&other)).unwrap_err();
    assert!(error.to_string().contains("different pools"), "{error}");
}

#[test]
fn superblock_knows_where_data_may_be() {
    let superblock = superblock(8);
    assert_eq!((superblock.page(), superblock.journal.end()), (Superblock::A, ClusterId(18)));
    let is_data = [0, 1, 2, 17, 18, 4095, 4096].map(|cluster| superblock.is_data(ClusterId(cluster)));
    assert_eq!(is_data, [false, false, false, false, true, true, false]);
    assert!(superblock.is_metadata(PageNumber(18 * 16)) && !superblock.is_metadata(PageNumber(18 * 16 - 1)));
    assert!(!superblock.is_metadata(PageNumber(u64::MAX)));
}
