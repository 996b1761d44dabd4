//! The store's file, byte by byte.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..64 | [`Figure`], with a checksum of its own: all versions of the format begin with it |
//! | then | the slots, one after the other, then their SHA-256 |
//! | then | the body as [`seal`](crate::kms::seal) made it, then its SHA-256 |
//!
//! The checksums tell which part is damaged, before anything secret is needed; against somebody who changes them too, the first two parts are
//! authenticated with the body. What is read here may be anything: nothing is trusted.

use aws_lc_rs::digest::{SHA256, digest};
use crc32c::crc32c;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::{Part, StoreError};
use super::slot::Slot;
use super::witness::Generation;

const MAGIC: [u8; 8] = *b"SRstore\0";
pub(super) const VERSION: u16 = 1;
/// Far more than the keys of a region's accounts take.
pub(super) const MOST_BYTES: u64 = 256 << 20;
pub(super) const MOST_SLOTS: usize = 16;
const DIGEST: usize = 32;

/// The beginning.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Figure {
    magic: [u8; 8],
    version: U16,
    slots: U16,
    /// Bytes of all slots, without their digest.
    slots_len: U32,
    store: [u8; 16],
    generation: U64,
    epoch: U64,
    /// Bytes of the body, without its digest.
    body_len: U64,
    reserved: U32,
    /// CRC-32C of all before.
    checksum: U32,
}

const _: () = assert!(size_of::<Figure>() == 64);

/// What stands in plain before the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is: Generation,
    pub(super) epoch: u64,
    pub(super) slots: Vec<Slot>,
}

/// A file, taken apart.
pub(super) struct Sealed<'a> {
    pub(super) header: Header,
    /// What is authenticated with the body.
    pub(super) authenticated: &'a [u8],
    pub(super) body: &'a [u8],
}

/// The part that is authenticated with the body, for a body of so many sealed bytes.
pub(super) fn encode_header(header: &Header, body_len: usize) -> Vec<u8> {
    let slots: Vec<u8> = header.slots.iter().flat_map(Slot::encode).collect();
    let mut figure = Figure {
        magic: MAGIC,
        version: VERSION.into(),
        slots: (header.slots.len() as u16).into(),
        slots_len: (slots.len() as u32).into(),
        store: header.is.store.into_bytes(),
        generation: header.is.number.into(),
        epoch: header.epoch.into(),
        body_len: (body_len as u64).into(),
        reserved: 0.into(),
        checksum: 0.into(),
    };
    figure.checksum = checksum(figure.as_bytes()).into();
    [figure.as_bytes(), &slots, &sha256(&slots)].concat()
}

/// The whole file.
pub(super) fn encode(mut header: Vec<u8>, body: &[u8]) -> Vec<u8> {
    header.extend(body);
    header.extend(sha256(body));
    header
}

/// Takes a file apart. Nothing of it has been authenticated then.
pub(super) fn decode(bytes: &[u8]) -> Result<Sealed<'_>, StoreError> {
    let figure = figure(bytes)?;
    let (slots_len, body_len) = (u64::from(figure.slots_len.get()), figure.body_len.get());
    let mut parts = [slots_len, DIGEST as u64, body_len, DIGEST as u64].into_iter();
    let needs = parts.try_fold(size_of::<Figure>() as u64, u64::checked_add).filter(|needs| *needs <= MOST_BYTES);
    let needs = needs.ok_or(StoreError::damaged(Part::Header, "its lengths are absurd"))?;
    let has = bytes.len() as u64;
    if has < needs {
        return Err(StoreError::Truncated { has, needs });
    }
    if has > needs {
        return Err(StoreError::damaged(Part::Body, "something follows it"));
    }
    let (authenticated, rest) = bytes.split_at(size_of::<Figure>() + slots_len as usize + DIGEST);
    let slots = checked(&authenticated[size_of::<Figure>()..], Part::Slots)?;
    let body = checked(rest, Part::Body)?;
    let is = Generation { store: Uuid::from_bytes(figure.store), number: figure.generation.get() };
    let slots = decode_slots(slots, figure.slots.get().into())?;
    Ok(Sealed { header: Header { is, epoch: figure.epoch.get(), slots }, authenticated, body })
}

/// Reads no more than the public beginning.
pub(super) fn generation(bytes: &[u8]) -> Result<Generation, StoreError> {
    let figure = figure(bytes)?;
    Ok(Generation { store: Uuid::from_bytes(figure.store), number: figure.generation.get() })
}

fn figure(bytes: &[u8]) -> Result<Figure, StoreError> {
    let begins = bytes.len().min(MAGIC.len());
    if bytes[..begins] != MAGIC[..begins] {
        return Err(StoreError::NotAStore);
    }
    let cut = StoreError::Truncated { has: bytes.len() as u64, needs: size_of::<Figure>() as u64 };
    let (figure, _) = Figure::read_from_prefix(bytes).map_err(|_| cut)?;
    if figure.checksum.get() != checksum(figure.as_bytes()) {
        return Err(StoreError::damaged(Part::Header, "its checksum is wrong"));
    }
    if figure.version.get() != VERSION {
        return Err(StoreError::Version(figure.version.get()));
    }
    if figure.reserved.get() != 0 {
        return Err(StoreError::damaged(Part::Header, "reserved bytes are not zero"));
    }
    Ok(figure)
}

fn decode_slots(mut bytes: &[u8], count: usize) -> Result<Vec<Slot>, StoreError> {
    let damaged = |what| StoreError::damaged(Part::Slots, what);
    if count == 0 || count > MOST_SLOTS {
        return Err(damaged("there is no such number of slots"));
    }
    let mut slots = Vec::<Slot>::new();
    for _ in 0..count {
        let (slot, rest) = Slot::decode(bytes)?;
        if slots.iter().any(|other| other.number == slot.number) {
            return Err(damaged("two slots have the same number"));
        }
        slots.push(slot);
        bytes = rest;
    }
    match bytes {
        [] => Ok(slots),
        _ => Err(damaged("something follows them")),
    }
}

/// A part without the digest at its end.
fn checked(bytes: &[u8], part: Part) -> Result<&[u8], StoreError> {
    let (content, expected) = bytes.split_at(bytes.len() - DIGEST);
    match sha256(content) == expected {
        true => Ok(content),
        false => Err(StoreError::damaged(part, "its checksum is wrong")),
    }
}

fn checksum(figure: &[u8]) -> u32 {
    crc32c(&figure[..size_of::<Figure>() - 4])
}

fn sha256(bytes: &[u8]) -> [u8; DIGEST] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Makes the checksums right, so that a fuzzer gets past them.
#[cfg(feature = "fuzzing")]
pub(super) fn correct_checksums(bytes: &mut [u8]) {
    let Ok((figure, rest)) = Figure::mut_from_prefix(bytes) else { return };
    figure.checksum = checksum(figure.as_bytes()).into();
    let (slots_len, body_len) = (figure.slots_len.get() as usize, figure.body_len.get() as usize);
    let mut rest = rest;
    for len in [slots_len, body_len] {
        let Some((part, later)) = len.checked_add(DIGEST).and_then(|len| rest.split_at_mut_checked(len)) else {
            return;
        };
        let (content, digest) = part.split_at_mut(len);
        digest.copy_from_slice(&sha256(content));
        rest = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::embedded::slot::Parameters;

    fn header() -> Header {
        let slot = |number| Slot { number, parameters: Parameters::RootKey, sealed: [number; 60] };
        let is = Generation { store: Uuid::from_u128(7), number: 9 };
        Header { is, epoch: 2, slots: vec![slot(0), slot(3)] }
    }

    fn file() -> Vec<u8> {
        encode(encode_header(&header(), 100), &[5; 100])
    }

    #[test]
    fn it_comes_back() {
        let bytes = file();
        let sealed = decode(&bytes).expect("decoded");
        assert_eq!((sealed.header, sealed.body), (header(), &[5; 100][..]));
        assert_eq!(sealed.authenticated, encode_header(&header(), 100));
        assert_eq!(generation(&bytes).expect("decoded"), header().is);
    }

    #[test]
    fn each_changed_byte_is_named_by_its_part() {
        let bytes = file();
        let slots_end = encode_header(&header(), 100).len();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            let error = decode(&bytes).err().expect("refused");
            let expected = match at {
                0..8 => matches!(error, StoreError::NotAStore),
                8..64 => matches!(error, StoreError::Damaged { part: Part::Header, .. }),
                _ if at < slots_end => matches!(error, StoreError::Damaged { part: Part::Slots, .. }),
                _ => matches!(error, StoreError::Damaged { part: Part::Body, .. }),
            };
            assert!(expected, "byte {at}: {error}");
        }
    }

    #[test]
    fn each_shorter_and_longer_file_is_refused() {
        let bytes = file();
        for len in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..len]), Err(StoreError::Truncated { .. })), "{len}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert!(matches!(decode(&longer), Err(StoreError::Damaged { part: Part::Body, .. })));
    }

    #[test]
    fn a_newer_version_is_no_damage() {
        let mut bytes = file();
        bytes[8] = 2;
        let sum = checksum(&bytes[..64]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(decode(&bytes), Err(StoreError::Version(2))));
    }
}
