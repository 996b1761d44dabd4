//! The file format of reservations that survive a loss of power, version 1.
//!
//! | bytes | what |
//! | --- | --- |
//! | 32 | header ([`Header`]): magic, version, length of the whole file, generation, type, form of host identifiers, counts |
//! | n | the disk's name in UTF-8, so that a file that was copied to another disk's place is not believed |
//! | 32 each | registrants ([`Entry`]), in the order of registration |
//! | 32 | SHA-256 of everything before |
//!
//! All numbers are little-endian, all reserved bytes zero. That a file is there means that the state survives a loss of power, so
//! this has no field. A reader checks in this order: magic, version, length, digest, content; a change of the format takes another
//! version, and magic, version and digest stay where they are.

use sha2::{Digest, Sha256};
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::state::{Held, Registered, State};
use super::{HostId, HostIdFormat, MOST_REGISTRANTS, ReservationKey, ReservationType};

const MAGIC: [u8; 8] = *b"SRMRESV\n";
const VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;
/// In [`Header::holder`]: no registrant in particular.
const NOBODY: u16 = u16::MAX;
const _: () = assert!(MOST_REGISTRANTS < NOBODY as usize);

/// The largest file that can be a valid one.
pub(super) const MOST_BYTES: usize =
    size_of::<Header>() + u16::MAX as usize + MOST_REGISTRANTS * size_of::<Entry>() + DIGEST_BYTES;

/// The start of the file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    /// [`MAGIC`].
    magic: [u8; 8],
    /// [`VERSION`].
    version: le::U32,
    /// Bytes of the whole file.
    length: le::U32,
    /// The generation counter.
    generation: le::U32,
    /// The reservation's type, or 0 when none is held.
    kind: u8,
    /// Bits in a host identifier: 64 or 128.
    host_bits: u8,
    /// Which registrant holds the reservation, or [`NOBODY`].
    holder: le::U16,
    /// How many registrants follow.
    registrants: le::U16,
    /// Bytes of the disk's name.
    name_bytes: le::U16,
    reserved: [u8; 4],
}
const _: () = assert!(size_of::<Header>() == 32);

/// A registrant.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    /// The host identifier; with 64 bits the second half is zero.
    host: [u8; 16],
    /// Its key.
    key: le::U64,
    reserved: [u8; 8],
}
const _: () = assert!(size_of::<Entry>() == 32);

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Something else's file.
    #[error("it is not a file of reservations")]
    Foreign,
    /// Of a later version of this program.
    #[error("it has format version {found}, and this program knows version {VERSION}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// Not all of it is there, or too much.
    #[error("it is cut off or overlong: {found} bytes of {expected}")]
    Length {
        /// What the file says.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// The checksum does not fit.
    #[error("it is damaged: its checksum does not fit its content")]
    Checksum,
    /// Another disk's.
    #[error("it belongs to disk {name}")]
    OtherDisk {
        /// That disk's name.
        name: String,
    },
    /// The checksum fits, but what it covers cannot be.
    #[error("it contradicts itself: {0}")]
    Content(&'static str),
}

/// A disk's name is too long for the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameTooLong;

/// The file's content for a state of this disk.
pub(super) fn encode(disk: &str, state: &State) -> Result<Vec<u8>, NameTooLong> {
    let name_bytes = u16::try_from(disk.len()).map_err(|_| NameTooLong)?;
    let entries = state.registrants.len() * size_of::<Entry>();
    let length = size_of::<Header>() + disk.len() + entries + DIGEST_BYTES;
    let holder = state.held.and_then(|held| held.holder());
    let holder = holder.and_then(|holder| state.registrants.iter().position(|one| one.host == holder));
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        length: (length as u32).into(),
        generation: state.generation.into(),
        kind: state.held.map_or(0, |held| held.kind().code()),
        host_bits: match state.format() {
            Some(HostIdFormat::Bits64) => 64,
            Some(HostIdFormat::Bits128) | None => 128,
        },
        holder: holder.map_or(NOBODY, |at| at as u16).into(),
        registrants: (state.registrants.len() as u16).into(),
        name_bytes: name_bytes.into(),
        reserved: [0; 4],
    };
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(disk.as_bytes());
    for one in &state.registrants {
        let entry = Entry { host: one.host.padded(), key: one.key.0.into(), reserved: [0; 8] };
        bytes.extend_from_slice(entry.as_bytes());
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

/// The state in a file of this disk.
pub(super) fn decode(disk: &str, bytes: &[u8]) -> Result<State, ImageError> {
    // Shorter than magic and version: cut off if it begins like one of ours.
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(ImageError::Foreign);
    }
    let found = bytes.len() as u64;
    let least = size_of::<Header>() + DIGEST_BYTES;
    let cut_off = ImageError::Length { expected: least as u64, found };
    let (header, _) = Header::read_from_prefix(bytes).map_err(|_| cut_off.clone())?;
    if header.version.get() != VERSION {
        return Err(ImageError::Version { found: header.version.get() });
    }
    let expected = u64::from(header.length.get());
    if expected != found || bytes.len() < least {
        return Err(ImageError::Length { expected, found });
    }
    let (covered, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if Sha256::digest(covered)[..] != *digest {
        return Err(ImageError::Checksum);
    }
    let (name, entries) = covered[size_of::<Header>()..]
        .split_at_checked(header.name_bytes.get().into())
        .ok_or(ImageError::Content("a name that is longer than the file"))?;
    if name != disk.as_bytes() {
        return Err(ImageError::OtherDisk { name: String::from_utf8_lossy(name).into_owned() });
    }
    content(&header, entries)
}

fn content(header: &Header, entries: &[u8]) -> Result<State, ImageError> {
    let entries = <[Entry]>::ref_from_bytes(entries).map_err(|_| ImageError::Content("a registrant in part"))?;
    if entries.len() != usize::from(header.registrants.get()) {
        return Err(ImageError::Content("another count of registrants than it says"));
    }
    let registrants = entries.iter().map(|entry| registered(header, entry)).collect::<Result<Vec<_>, _>>()?;
    let holder = match header.holder.get() {
        NOBODY => None,
        at => Some(registrants.get(usize::from(at)).ok_or(ImageError::Content("a holder who is not there"))?.host),
    };
    let held = match header.kind {
        0 if holder.is_none() => None,
        0 => return Err(ImageError::Content("a holder of nothing")),
        code => {
            let kind = ReservationType::try_from(code);
            let kind = kind.map_err(|_| ImageError::Content("a reservation type that does not exist"))?;
            Some(Held::restored(kind, holder).ok_or(ImageError::Content("a holder that does not fit the type"))?)
        }
    };
    let state = State { generation: header.generation.get(), registrants, held, survives_power_loss: true };
    state.check().map_err(ImageError::Content)?;
    Ok(state)
}

fn registered(header: &Header, entry: &Entry) -> Result<Registered, ImageError> {
    let (first, second) = entry.host.split_at(8);
    let host = match header.host_bits {
        128 => HostId::extended(entry.host),
        64 if second == [0; 8] => HostId::short(first.try_into().expect("half of sixteen")),
        64 => return Err(ImageError::Content("a host identifier that is too long")),
        _ => return Err(ImageError::Content("a form of host identifiers that does not exist")),
    };
    let host = host.ok_or(ImageError::Content("a host without identifier"))?;
    Ok(Registered { host, key: ReservationKey(entry.key.get()) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, host, key};
    use super::*;

    fn states() -> Vec<State> {
        let registrants: Vec<_> = [(A, 1), (B, 0x0123_4567_89AB_CDEF)]
            .map(|(name, value)| Registered { host: host(name), key: key(value) })
            .into();
        let short = Registered { host: HostId::short([9; 8]).expect("a host"), key: key(3) };
        let state = State { generation: 7, registrants, held: None, survives_power_loss: true };
        let mut states: Vec<_> =
            ReservationType::ALL.map(|kind| State { held: Some(Held::by(kind, host(B))), ..state.clone() }).into();
        states.push(State { survives_power_loss: true, ..State::default() });
        states.push(State { registrants: vec![short], ..state.clone() });
        states.push(state);
        states
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let length = bytes.len() as u32 + DIGEST_BYTES as u32;
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        for state in states() {
            for disk in ["", "data", "Daten-Ä"] {
                let bytes = encode(disk, &state).expect("encoded");
                assert!(bytes.len() <= MOST_BYTES);
                assert_eq!(decode(disk, &bytes), Ok(state.clone()));
            }
        }
    }

    /// A file of version 1, byte by byte: later versions have to go on reading it.
    #[test]
    fn version_1_is_what_it_always_was() {
        let bytes = encode("d1", &states()[0]).expect("encoded");
        let mut expected = b"SRMRESV\n\x01\0\0\0\x82\0\0\0\x07\0\0\0\x01\x80\x01\0\x02\0\x02\0\0\0\0\0d1".to_vec();
        expected.extend_from_slice(&[[1u8; 16].as_slice(), &[1, 0, 0, 0, 0, 0, 0, 0], &[0; 8]].concat());
        expected.extend_from_slice(
            &[[2u8; 16].as_slice(), &[0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01], &[0; 8]].concat(),
        );
        assert_eq!(bytes[..expected.len()], expected);
        assert_eq!(bytes.len(), expected.len() + DIGEST_BYTES);
    }

    #[test]
    fn every_truncation_is_refused() {
        for state in states() {
            let bytes = encode("data", &state).expect("encoded");
            for len in 0..bytes.len() {
                let error = decode("data", &bytes[..len]).expect_err("refused");
                assert!(matches!(error, ImageError::Length { .. }), "{len}: {error}");
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert!(matches!(decode("data", &longer), Err(ImageError::Length { .. })));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for state in states() {
            let bytes = encode("data", &state).expect("encoded");
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let error = decode("data", &flipped).expect_err("refused");
                let expected = match bit / 8 {
                    0..8 => matches!(error, ImageError::Foreign),
                    8..12 => matches!(error, ImageError::Version { .. }),
                    12..16 => matches!(error, ImageError::Length { .. }),
                    _ => error == ImageError::Checksum,
                };
                assert!(expected, "bit {bit}: {error}");
            }
        }
    }

    #[test]
    fn another_disks_file_is_named() {
        let bytes = encode("data", &states()[0]).expect("encoded");
        assert_eq!(decode("date", &bytes), Err(ImageError::OtherDisk { name: "data".to_owned() }));
    }

    #[test]
    fn a_fitting_checksum_does_not_make_nonsense_true() {
        // A file of two registrants of which the second holds a Write Exclusive reservation; the name has no bytes.
        let whole = encode("", &states()[0]).expect("encoded");
        let whole = &whole[..whole.len() - DIGEST_BYTES];
        let first = size_of::<Header>();
        let edits: [(&str, usize, &[u8]); 10] = [
            ("type", 20, &[7]),
            ("no type but a holder", 20, &[0]),
            ("all registrants and a holder", 20, &[5]),
            ("form of identifiers", 21, &[65]),
            ("identifiers of 64 bits", 21, &[64]),
            ("holder", 22, &[2, 0]),
            ("no holder", 22, &[0xFF, 0xFF]),
            ("count", 24, &[1, 0]),
            ("name", 26, &[0xFF, 0xFF]),
            ("key", first + 16, &[0; 8]),
        ];
        for (what, at, edit) in edits {
            let mut bytes = whole.to_vec();
            bytes[at..at + edit.len()].copy_from_slice(edit);
            let error = decode("", &sealed(bytes)).expect_err(what);
            assert!(matches!(error, ImageError::Content(_)), "{what}: {error}");
        }
        let mut twice = whole.to_vec();
        twice.copy_within(first..first + 16, first + 32);
        assert_eq!(decode("", &sealed(twice)), Err(ImageError::Content("a host that is registered twice")));
        let mut nameless = whole.to_vec();
        nameless[first..first + 16].fill(0);
        assert_eq!(decode("", &sealed(nameless)), Err(ImageError::Content("a host without identifier")));
        assert!(decode("", &sealed(whole.to_vec())).is_ok());
    }
}
