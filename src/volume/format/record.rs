//! Volume records: what a pool knows of a volume or snapshot, beside its map.

use std::mem::offset_of;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::page::first_set;
use super::pointer::StoredPointer;
use super::{FormatError, KeySlot, PagePointer};
use crate::volume::units::{LARGEST_VOLUME, ROOTS_PER_VOLUME, VolumeId};

/// Bytes in a record.
pub const RECORD: usize = 1024;
/// The most bytes in the name of a volume, or of a snapshot among those of its volume.
pub const LONGEST_NAME: usize = 64;
/// Splits the name of a snapshot from that of its volume.
pub const SNAPSHOT_SIGN: char = '@';
/// Room for the name of a snapshot with that of its volume.
const NAME_ROOM: usize = 136;
const _: () = assert!(2 * LONGEST_NAME < NAME_ROOM);
/// The most bytes of attributes.
pub const MOST_ATTRIBUTES: usize = 512;
/// A size is a multiple of this: the smallest sector.
pub const SIZE_UNIT: u64 = 512;

const OBJECT: &str = "volume record";

/// A record as it is stored.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StoredRecord {
    /// Nobody's number marks a free place.
    id: le::U32,
    /// [`VolumeKind`].
    kind: u8,
    name_len: u8,
    attributes_len: le::U16,
    flags: le::U32,
    parent: le::U32,
    size: le::U64,
    created_at: le::U64,
    /// Zeros follow the name.
    name: [u8; NAME_ROOM],
    roots: [StoredPointer; ROOTS_PER_VOLUME],
    /// Zeros follow the attributes.
    attributes: [u8; MOST_ATTRIBUTES],
    /// The slot of its key; 0 = none.
    key: le::U32,
    /// Zero.
    reserved: [u8; 84],
}
const _: () = assert!(size_of::<StoredRecord>() == RECORD);

/// What the record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VolumeKind {
    /// A volume; a clone too.
    Volume = 1,
    /// A snapshot.
    Snapshot = 2,
}

/// A volume or snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Who it is.
    pub id: VolumeId,
    /// What it is.
    pub kind: VolumeKind,
    /// [`VolumeRecord::DAMAGED`] or 0.
    pub flags: u32,
    /// A snapshot's volume; the snapshot that a clone came from; nobody for any other volume. It may be gone.
    pub parent: VolumeId,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub created_at: u64,
    /// The volume's name, or the snapshot's own, without its volume's.
    pub name: String,
    /// The root pages of the map, each for 2 TiB.
    pub roots: [PagePointer; ROOTS_PER_VOLUME],
    /// Whatever the layers above keep with it: at most [`MOST_ATTRIBUTES`] bytes.
    pub attributes: Vec<u8>,
    /// Where its key is, which it has in common with its snapshots and what was cloned from them.
    pub key: Option<KeySlot>,
}

/// Whether it may be the name of a volume, or of a snapshot among those of its volume: 1 to 64 of letters, digits, `-`, `_` and `.`.
pub fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// Whether a record of the kind may have the name: that of a volume, or `volume@snapshot`.
fn is_full_name(kind: VolumeKind, name: &str) -> bool {
    match (kind, name.split_once(SNAPSHOT_SIGN)) {
        (VolumeKind::Volume, None) => is_name(name),
        (VolumeKind::Snapshot, Some((volume, snapshot))) => is_name(volume) && is_name(snapshot),
        _ => false,
    }
}

/// Whether a volume may have the size.
pub fn is_size(size: u64) -> bool {
    (1..=LARGEST_VOLUME).contains(&size) && size.is_multiple_of(SIZE_UNIT)
}

impl VolumeRecord {
    /// Flag: a page of its map is broken; it is offline until the pool is repaired.
    pub const DAMAGED: u32 = 1;

    /// Whether it is offline because its map is broken.
    pub fn is_damaged(&self) -> bool {
        self.flags & Self::DAMAGED != 0
    }

    /// Writes the record into [`RECORD`] bytes.
    ///
    /// # Panics
    /// If the place has another length, or name or attributes do not fit.
    pub fn encode(&self, place: &mut [u8]) {
        debug_assert_eq!(self.check(), Ok(()));
        let mut stored = StoredRecord::new_zeroed();
        stored.id = self.id.0.into();
        stored.kind = self.kind as u8;
        stored.name_len = self.name.len() as u8;
        stored.attributes_len = (self.attributes.len() as u16).into();
        stored.flags = self.flags.into();
        stored.parent = self.parent.0.into();
        stored.size = self.size.into();
        stored.created_at = self.created_at.into();
        stored.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        stored.roots = self.roots.map(|root| root.store());
        stored.attributes[..self.attributes.len()].copy_from_slice(&self.attributes);
        stored.key = self.key.map_or(0, KeySlot::number).into();
        place.copy_from_slice(stored.as_bytes());
    }

    /// Reads the record; none if the place is free. Errors count from the start of the place.
    pub fn decode(place: &[u8]) -> Result<Option<Self>, FormatError> {
        let Ok(stored) = StoredRecord::ref_from_bytes(place) else {
            return Err(FormatError::wrong(OBJECT, 0, format!("{} bytes were read, not {RECORD}", place.len())));
        };
        if stored.id.get() == VolumeId::NOBODY.0 {
            return match first_set(place) {
                None => Ok(None),
                Some(at) => Err(FormatError::wrong(OBJECT, at, "a free place is not empty")),
            };
        }
        let record = Self {
            id: VolumeId(stored.id.get()),
            kind: stored.kind()?,
            flags: stored.flags.get(),
            parent: VolumeId(stored.parent.get()),
            size: stored.size.get(),
            created_at: stored.created_at.get(),
            name: stored.name()?,
            roots: stored.roots()?,
            attributes: stored.attributes()?,
            key: stored.key()?,
        };
        if let Some(at) = first_set(&stored.reserved) {
            return Err(FormatError::wrong(OBJECT, RECORD - stored.reserved.len() + at, "reserved bytes are not zero"));
        }
        record.check()?;
        Ok(Some(record))
    }

    /// Whether it is a record that may be stored. Names and places of the error are those of the stored record.
    pub fn check(&self) -> Result<(), FormatError> {
        if self.id.is_nobody() {
            return Err(FormatError::wrong(OBJECT, 0, "it has nobody's number"));
        }
        if self.flags & !Self::DAMAGED != 0 {
            return Err(FormatError::wrong(OBJECT, 8, format!("unknown flags {:#x}", self.flags)));
        }
        if self.kind == VolumeKind::Snapshot && self.parent.is_nobody() {
            return Err(FormatError::wrong(OBJECT, 12, "a snapshot is of no volume"));
        }
        // Numbers rise, so a parent has the lower one. That also rules out circles.
        if self.parent >= self.id {
            let what = format!("volume {} has the younger volume {} for its parent", self.id.0, self.parent.0);
            return Err(FormatError::wrong(OBJECT, 12, what));
        }
        if !is_size(self.size) {
            return Err(FormatError::wrong(OBJECT, 16, format!("no volume has {} bytes", self.size)));
        }
        if !is_full_name(self.kind, &self.name) {
            return Err(FormatError::wrong(OBJECT, 32, format!("{:?} is no name", self.name)));
        }
        if self.attributes.len() > MOST_ATTRIBUTES {
            let what = format!("{} bytes of attributes; {MOST_ATTRIBUTES} fit", self.attributes.len());
            return Err(FormatError::wrong(OBJECT, 6, what));
        }
        Ok(())
    }
}

impl StoredRecord {
    fn kind(&self) -> Result<VolumeKind, FormatError> {
        match self.kind {
            1 => Ok(VolumeKind::Volume),
            2 => Ok(VolumeKind::Snapshot),
            kind => Err(FormatError::wrong(OBJECT, 4, format!("there is no kind {kind}"))),
        }
    }

    fn name(&self) -> Result<String, FormatError> {
        let name = filled(&self.name, usize::from(self.name_len), 5, 32, "name")?;
        let not_text = |_| FormatError::wrong(OBJECT, 32, "the name is no text");
        String::from_utf8(name.to_vec()).map_err(not_text)
    }

    fn roots(&self) -> Result<[PagePointer; ROOTS_PER_VOLUME], FormatError> {
        let mut roots = [PagePointer::NONE; ROOTS_PER_VOLUME];
        for (index, stored) in self.roots.iter().enumerate() {
            let at = offset_of!(StoredRecord, roots) + index * size_of::<StoredPointer>();
            roots[index] = PagePointer::load(stored, OBJECT).map_err(|error| error.further(at))?;
        }
        Ok(roots)
    }

    fn attributes(&self) -> Result<Vec<u8>, FormatError> {
        let len = usize::from(self.attributes_len.get());
        Ok(filled(&self.attributes, len, 6, offset_of!(StoredRecord, attributes), "attributes")?.to_vec())
    }

    fn key(&self) -> Result<Option<KeySlot>, FormatError> {
        match (self.key.get(), KeySlot::numbered(self.key.get())) {
            (0, _) => Ok(None),
            (_, Some(slot)) => Ok(Some(slot)),
            (number, None) => {
                let what = format!("no pool has a key slot {number}");
                Err(FormatError::wrong(OBJECT, offset_of!(StoredRecord, key), what))
            }
        }
    }
}

/// The first `len` bytes of the area, if it has so many and the rest is zero. The length is stored at `len_at`, the area at `at`.
fn filled<'a>(area: &'a [u8], len: usize, len_at: usize, at: usize, noun: &str) -> Result<&'a [u8], FormatError> {
    let Some((bytes, rest)) = area.split_at_checked(len) else {
        let what = format!("the {noun} would have {len} bytes; {} fit", area.len());
        return Err(FormatError::wrong(OBJECT, len_at, what));
    };
    match first_set(rest) {
        None => Ok(bytes),
        Some(more) => Err(FormatError::wrong(OBJECT, at + len + more, format!("something follows the {noun}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    /// The places that errors name.
    const _: () = assert!(
        offset_of!(StoredRecord, kind) == 4
            && offset_of!(StoredRecord, name_len) == 5
            && offset_of!(StoredRecord, attributes_len) == 6
            && offset_of!(StoredRecord, flags) == 8
            && offset_of!(StoredRecord, parent) == 12
            && offset_of!(StoredRecord, size) == 16
            && offset_of!(StoredRecord, created_at) == 24
            && offset_of!(StoredRecord, name) == 32
            && offset_of!(StoredRecord, roots) == 168
            && offset_of!(StoredRecord, attributes) == 424
            && offset_of!(StoredRecord, key) == 936
    );

    fn stored(record: &VolumeRecord) -> [u8; RECORD] {
        let mut place = [0xff; RECORD];
        record.encode(&mut place);
        place
    }

    #[test]
    fn largest_and_smallest_records_come_back() {
        let mut largest = testing::snapshot(u32::MAX, "x");
        largest.name = format!("{0}{SNAPSHOT_SIGN}{0}", "n".repeat(LONGEST_NAME));
        largest.size = LARGEST_VOLUME;
        largest.attributes = vec![0xff; MOST_ATTRIBUTES];
        largest.flags = VolumeRecord::DAMAGED;
        largest.key = KeySlot::numbered(8192);
        let mut smallest = testing::volume(1, "a");
        smallest.size = SIZE_UNIT;
        smallest.attributes.clear();
        for record in [largest, smallest] {
            assert_eq!(VolumeRecord::decode(&stored(&record)), Ok(Some(record)));
        }
        assert_eq!(VolumeRecord::decode(&[0; RECORD]), Ok(None));
    }

    #[test]
    fn each_wrong_field_is_refused_at_its_byte() {
        let good = stored(&testing::volume(7, "data"));
        let wrong: [(usize, &[u8], usize); 21] = [
            (0, &[0], 4),                   // a free place that is not empty
            (4, &[3], 4),                   // kind
            (4, &[0], 4),                   // kind
            (4, &[2], 12),                  // a snapshot of nobody
            (5, &[0], 32),                  // name length: bytes follow
            (5, &[137], 5),                 // name length
            (6, &[1, 2], 6),                // attributes length
            (6, &[2, 0], 426),              // attributes length: bytes follow
            (8, &[2], 8),                   // flags
            (12, &[7], 12),                 // its own parent
            (12, &[8], 12),                 // a younger parent
            (16, &[1], 16),                 // size in no sectors
            (16, &[0; 8], 16),              // no size
            (16, &[0, 2, 0, 0, 0, 32], 16), // more than the largest size
            (32, b"/", 32),                 // name
            (32, &[0xff], 32),              // name
            (40, b"x", 40),                 // behind the name
            (168 + 28, &[1], 196),          // a root pointer
            (936, &[1, 0x20], 936),         // key slot 8193
            (940, &[1], 940),               // reserved
            (1023, &[1], 1023),             // reserved
        ];
        for (at, bytes, named) in wrong {
            let mut place = good;
            place[at..at + bytes.len()].copy_from_slice(bytes);
            match VolumeRecord::decode(&place) {
                Err(FormatError::Wrong { at: place, .. }) => assert_eq!(place, named, "bytes {bytes:?} at {at}"),
                other => panic!("bytes {bytes:?} at {at}: {other:?}"),
            }
        }
        assert!(VolumeRecord::decode(&good[1..]).is_err());
    }

    #[test]
    fn names_are_plain() {
        assert!(is_full_name(VolumeKind::Snapshot, "a@b") && !is_full_name(VolumeKind::Volume, "a@b"));
        assert!(!is_full_name(VolumeKind::Snapshot, "a") && !is_full_name(VolumeKind::Snapshot, "a@b@c"));
        assert!(is_name("Web-1_data.old") && is_name(&"n".repeat(64)));
        for name in ["", "a@b", "a b", "a/b", "ä", &"n".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
