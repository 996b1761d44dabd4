//! Key slots: one sealed key for each lineage (a volume, its snapshots, the clones made from them), written in place.
//!
//! Everything else in a pool is written to a fresh place, and what it replaces stays on the device until somebody needs the space. A key that has to be
//! gone when its last volume is gone cannot lie there. A slot is two copies of one sector each, in two pages; both hold the same key, or nothing.
//! What the bytes of a key mean is not known here.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::FormatError;
use super::page::first_set;
use crate::volume::units::CLUSTER;

/// The most bytes of a sealed key.
pub const LONGEST_KEY: usize = 448;
/// The most clusters of key slots: as many as a superblock can name.
pub const MOST_KEY_CLUSTERS: usize = 128;
/// Slots in a cluster.
pub const SLOTS_PER_CLUSTER: usize = CLUSTER as usize / 2 / COPY;
/// Bytes of a copy: a sector, which a device writes whole or not at all.
pub const COPY: usize = 512;
const MOST_SLOTS: u32 = (MOST_KEY_CLUSTERS * SLOTS_PER_CLUSTER) as u32;
const _: () = assert!(SLOTS_PER_CLUSTER == 64);

const MAGIC: [u8; 4] = *b"SRky";
const CHECKSUM_AT: usize = 4;
const OBJECT: &str = "key slot";

/// A copy as it is stored.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StoredCopy {
    magic: [u8; 4],
    /// CRC32C of the copy with this field zero.
    checksum: le::U32,
    pool: [u8; 16],
    slot: le::U32,
    len: le::U16,
    /// Zero.
    reserved: le::U16,
    generation: le::U64,
    /// Zero.
    more: [u8; 24],
    /// Zeros follow the key.
    key: [u8; LONGEST_KEY],
}
const _: () = assert!(size_of::<StoredCopy>() == COPY);
const _: () = assert!(std::mem::offset_of!(StoredCopy, checksum) == CHECKSUM_AT);

/// A slot for a key. They are numbered from 1 on, 64 to a cluster, in the order in which the superblock names the clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeySlot(u32);

impl KeySlot {
    /// The slot of this number, if a pool can have it.
    pub fn numbered(number: u32) -> Option<Self> {
        (1..=MOST_SLOTS).contains(&number).then_some(Self(number))
    }

    /// All slots of so many clusters.
    pub fn all(clusters: usize) -> impl Iterator<Item = Self> {
        (1..=(clusters * SLOTS_PER_CLUSTER) as u32).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Which of the clusters of slots it is in.
    pub fn cluster_index(self) -> usize {
        (self.0 - 1) as usize / SLOTS_PER_CLUSTER
    }

    /// The slots that have a copy in the part of a cluster, which is made of whole copies.
    pub fn within(cluster_index: usize, bytes: Range<usize>) -> impl Iterator<Item = Self> {
        let first = cluster_index * SLOTS_PER_CLUSTER;
        (bytes.start / COPY..bytes.end / COPY).map(move |copy| Self((first + copy % SLOTS_PER_CLUSTER) as u32 + 1))
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which of a slot's copies: they lie in the two halves of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyCopy {
    /// In the first half.
    A,
    /// In the second one.
    B,
}

impl KeyCopy {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// Where in its cluster the slot's copy is.
    pub fn bytes(self, slot: KeySlot) -> Range<usize> {
        let start = (slot.0 - 1) as usize % SLOTS_PER_CLUSTER * COPY + self as usize * (CLUSTER as usize / 2);
        start..start + COPY
    }
}

/// A sealed key, as it stands in its slot.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Of two copies that differ the one with the higher generation counts. Rises by 1 with each key that replaces another.
    pub generation: u64,
    /// Up to [`LONGEST_KEY`] bytes.
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl SealedKey {
    /// Writes a copy.
    ///
    /// # Panics
    /// If the place is no copy, or the key is empty or too long.
    pub fn encode(&self, place: &mut [u8], pool: Uuid, slot: KeySlot) {
        assert!(!self.bytes.is_empty(), "an empty key is none");
        let mut stored = StoredCopy::new_zeroed();
        stored.magic = MAGIC;
        stored.pool = pool.into_bytes();
        stored.slot = slot.0.into();
        stored.len = (self.bytes.len() as u16).into();
        stored.generation = self.generation.into();
        stored.key[..self.bytes.len()].copy_from_slice(&self.bytes);
        stored.checksum = crc32c::crc32c(stored.as_bytes()).into();
        place.copy_from_slice(stored.as_bytes());
    }

    /// Reads a copy of this pool's slot; none if it is empty.
    pub fn decode(place: &[u8], pool: Uuid, slot: KeySlot) -> Result<Option<Self>, FormatError> {
        let Ok(stored) = StoredCopy::ref_from_bytes(place) else {
            return Err(FormatError::wrong(OBJECT, 0, format!("{} bytes were read, not {COPY}", place.len())));
        };
        if first_set(place).is_none() {
            return Ok(None);
        }
        if stored.magic != MAGIC || stored.checksum.get() != checksum(place) {
            return Err(FormatError::Checksum { object: OBJECT });
        }
        if stored.pool != pool.into_bytes() {
            return Err(FormatError::wrong(OBJECT, 8, "it is another pool's"));
        }
        if stored.slot.get() != slot.0 {
            return Err(FormatError::wrong(OBJECT, 24, format!("it is slot {}", stored.slot)));
        }
        if stored.reserved.get() != 0 || stored.more != [0; 24] {
            return Err(FormatError::wrong(OBJECT, 30, "reserved bytes are not zero"));
        }
        let Some((key, rest)) = stored.key.split_at_checked(usize::from(stored.len.get())) else {
            return Err(FormatError::wrong(OBJECT, 28, format!("a key of {} bytes; {LONGEST_KEY} fit", stored.len)));
        };
        if key.is_empty() || first_set(rest).is_some() {
            return Err(FormatError::wrong(OBJECT, 28, "the key has another length"));
        }
        Ok(Some(Self { generation: stored.generation.get(), bytes: key.into() }))
    }
}

/// The checksum of a copy, computed as if the field for it were zero.
fn checksum(place: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&place[..CHECKSUM_AT]), &[0; 4]);
    crc32c::crc32c_append(sum, &place[CHECKSUM_AT + 4..])
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;
    use std::mem::offset_of;

    /// The places that errors name.
    const _: () = assert!(
        offset_of!(StoredCopy, pool) == 8
            && offset_of!(StoredCopy, slot) == 24
            && offset_of!(StoredCopy, len) == 28
            && offset_of!(StoredCopy, reserved) == 30
            && offset_of!(StoredCopy, generation) == 32
            && offset_of!(StoredCopy, key) == 64
    );

    const POOL: Uuid = Uuid::from_u128(9);

    fn slot(number: u32) -> KeySlot {
        KeySlot::numbered(number).expect("a slot")
    }

    fn key(len: usize) -> SealedKey {
        SealedKey { generation: 3, bytes: (0..len).map(|byte| byte as u8 | 1).collect() }
    }

    fn stored(key: &SealedKey) -> [u8; COPY] {
        let mut place = [0xee; COPY];
        key.encode(&mut place, POOL, slot(70));
        place
    }

    #[test]
    fn shortest_and_longest_keys_come_back_and_an_empty_slot_has_none() {
        for len in [1, 60, LONGEST_KEY] {
            assert_eq!(SealedKey::decode(&stored(&key(len)), POOL, slot(70)), Ok(Some(key(len))));
        }
        assert_eq!(SealedKey::decode(&[0; COPY], POOL, slot(70)), Ok(None));
    }

    #[test]
    fn each_corrupted_byte_is_noticed() {
        let mut place = stored(&key(60));
        for at in 0..COPY {
            place[at] ^= 0x40;
            let expected = Err(FormatError::Checksum { object: OBJECT });
            assert_eq!(SealedKey::decode(&place, POOL, slot(70)), expected, "byte {at}");
            place[at] ^= 0x40;
        }
    }

    #[test]
    fn copies_of_another_slot_or_pool_are_refused() {
        let place = stored(&key(60));
        assert!(matches!(SealedKey::decode(&place, POOL, slot(71)), Err(FormatError::Wrong { at: 24, .. })));
        let other = Uuid::from_u128(10);
        assert!(matches!(SealedKey::decode(&place, other, slot(70)), Err(FormatError::Wrong { at: 8, .. })));
        assert!(SealedKey::decode(&place[1..], POOL, slot(70)).is_err());
    }

    /// Whatever the bytes: what is read in spite of changes is what is written again.
    #[test]
    fn mutated_copies_are_refused_or_mean_what_they_say() {
        let mut random = Random(11);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut place = stored(&key(60));
            for _ in 0..1 + random.below(3) {
                place[random.below(COPY)] = random.next() as u8;
            }
            let sum = checksum(&place);
            place[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
            match SealedKey::decode(&place, POOL, slot(70)) {
                Ok(key) => {
                    read += 1;
                    assert_eq!(stored(&key.expect("the magic number is not zero")), place);
                }
                Err(_) => refused += 1,
            }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
    }

    #[test]
    fn slots_lie_side_by_side_and_their_copies_in_two_pages() {
        assert_eq!((KeyCopy::A.bytes(slot(1)), KeyCopy::B.bytes(slot(1))), (0..512, 32768..33280));
        assert_eq!((KeyCopy::A.bytes(slot(64)).end, KeyCopy::B.bytes(slot(64)).end), (32768, 65536));
        assert_eq!((slot(64).cluster_index(), slot(65).cluster_index()), (0, 1));
        assert_eq!(KeyCopy::A.bytes(slot(65)), 0..512);
        let page = KeySlot::within(1, 32768 + 4096..32768 + 8192);
        assert_eq!(page.map(KeySlot::number).collect::<Vec<_>>(), (73..81).collect::<Vec<_>>());
        assert_eq!((KeySlot::all(2).count(), KeySlot::all(2).last()), (128, Some(slot(128))));
        assert_eq!((KeySlot::numbered(0), KeySlot::numbered(8193)), (None, None));
        assert_eq!(KeySlot::numbered(8192).map(KeySlot::cluster_index), Some(MOST_KEY_CLUSTERS - 1));
    }
}
