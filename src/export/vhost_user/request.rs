//! Requests of a guest (virtio 1.2, section 5.2.6): what they look like in memory, and what they are refused for.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::device::{ByteRange, IoError};

/// Places on a disk are counted in units of 512 bytes, whatever its sectors are.
pub(super) const SECTOR_SHIFT: u32 = 9;
/// The most ranges of one discard or write zeroes.
pub(super) const RANGES: usize = 16;
/// The most that one range of a discard names, in units of 512 bytes: 1 GiB.
pub(super) const DISCARD_SECTORS: u32 = 1 << 21;
/// The same for write zeroes: 16 MiB, which may have to be written as data.
pub(super) const ZEROED_SECTORS: u32 = 1 << 15;
/// Bytes of a disk's identity.
pub(super) const ID_BYTES: usize = 20;
/// The flag of a range that says that its space may be given back.
const UNMAP: u32 = 1 << 0;

/// Kinds of requests.
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// The last byte of every request: how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    /// It could not be done.
    Error = 1,
    /// There is no such request.
    Unsupported = 2,
}

impl From<IoError> for Status {
    fn from(error: IoError) -> Self {
        match error {
            IoError::Unsupported => Self::Unsupported,
            _ => Self::Error,
        }
    }
}

/// How each request begins.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    kind: U32,
    reserved: U32,
    sector: U64,
}

pub(super) const HEADER_BYTES: usize = size_of::<Header>();

/// What a guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// From this byte on.
    Read(u64),
    /// From this byte on.
    Write(u64),
    Flush,
    GetId,
    Discard,
    WriteZeroes,
}

impl Request {
    pub(super) fn decode(header: [u8; HEADER_BYTES]) -> Result<Self, Status> {
        let header: Header = zerocopy::transmute!(header);
        let start = || header.sector.get().checked_mul(1 << SECTOR_SHIFT).ok_or(Status::Error);
        match header.kind.get() {
            kind::IN => Ok(Self::Read(start()?)),
            kind::OUT => Ok(Self::Write(start()?)),
            kind::FLUSH => Ok(Self::Flush),
            kind::GET_ID => Ok(Self::GetId),
            kind::DISCARD => Ok(Self::Discard),
            kind::WRITE_ZEROES => Ok(Self::WriteZeroes),
            _ => Err(Status::Unsupported),
        }
    }

    /// Whether it changes the disk.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write(_) | Self::Discard | Self::WriteZeroes)
    }
}

/// `struct virtio_blk_discard_write_zeroes`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct RangeOfSectors {
    sector: U64,
    count: U32,
    flags: U32,
}

pub(super) const RANGE_BYTES: usize = size_of::<RangeOfSectors>();

impl RangeOfSectors {
    /// What a discard names.
    pub(super) fn to_discard(&self) -> Result<ByteRange, Status> {
        // Section 5.2.6.2: a discard with UNMAP, as with flags that there are not, is not supported.
        if self.flags.get() != 0 { Err(Status::Unsupported) } else { self.range(DISCARD_SECTORS) }
    }

    /// What a write zeroes names, and whether its space may be given back.
    pub(super) fn to_zero(&self) -> Result<(ByteRange, bool), Status> {
        if self.flags.get() & !UNMAP != 0 {
            return Err(Status::Unsupported);
        }
        Ok((self.range(ZEROED_SECTORS)?, self.flags.get() & UNMAP != 0))
    }

    fn range(&self, most: u32) -> Result<ByteRange, Status> {
        let count = self.count.get();
        let start = self.sector.get().checked_mul(1 << SECTOR_SHIFT).filter(|_| count <= most);
        start.and_then(|start| ByteRange::new(start, u64::from(count) << SECTOR_SHIFT)).ok_or(Status::Error)
    }
}

/// What a guest is told when it asks who the disk is: the name without the `d-` of the cloud's disks, cut to fit.
pub(super) fn identity(disk: &str) -> [u8; ID_BYTES] {
    let name = disk.strip_prefix("d-").unwrap_or(disk).as_bytes();
    let mut id = [0; ID_BYTES];
    let len = name.len().min(ID_BYTES);
    id[..len].copy_from_slice(&name[..len]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, sector: u64) -> [u8; HEADER_BYTES] {
        zerocopy::transmute!(Header { kind: kind.into(), reserved: 0.into(), sector: sector.into() })
    }

    #[test]
    fn headers_say_what_is_asked_for() {
        let decode = |kind, sector| Request::decode(header(kind, sector));
        assert_eq!(decode(0, 3), Ok(Request::Read(1536)));
        assert_eq!(decode(1, 1 << 40), Ok(Request::Write(1 << 49)));
        assert_eq!(decode(4, 9), Ok(Request::Flush));
        assert_eq!(decode(0, u64::MAX), Err(Status::Error), "a place that no disk has");
        for unknown in [2, 3, 5, 9, 10, 12, 14, 1 << 31] {
            assert_eq!(decode(unknown, 0), Err(Status::Unsupported));
        }
    }

    #[test]
    fn ranges_have_their_limits_and_flags() {
        let range = |sector: u64, count: u32, flags: u32| RangeOfSectors {
            sector: sector.into(),
            count: count.into(),
            flags: flags.into(),
        };
        assert_eq!(range(8, 8, 0).to_discard(), Ok(ByteRange::new(4096, 4096).expect("a range")));
        assert_eq!(range(8, 8, 1).to_discard(), Err(Status::Unsupported));
        assert_eq!(range(8, 8, 1).to_zero().map(|(_, unmap)| unmap), Ok(true));
        assert_eq!(range(8, 8, 0).to_zero().map(|(_, unmap)| unmap), Ok(false));
        assert_eq!(range(8, 8, 2).to_zero(), Err(Status::Unsupported));
        assert_eq!(range(0, ZEROED_SECTORS + 1, 0).to_zero(), Err(Status::Error));
        assert_eq!(range(0, DISCARD_SECTORS + 1, 0).to_discard(), Err(Status::Error));
        assert_eq!(range(u64::MAX >> 9, 8, 0).to_discard(), Err(Status::Error));
    }

    #[test]
    fn a_disk_of_the_cloud_is_known_by_its_serial_number() {
        assert_eq!(&identity("d-abc")[..4], b"abc\0");
        assert_eq!(&identity("0123456789012345678901234"), b"01234567890123456789");
    }
}
