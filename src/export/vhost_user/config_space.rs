//! What a guest is told of its disk: feature bits and the configuration space (virtio 1.2, sections 5.2.3 and 5.2.4).

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, KnownLayout};

use crate::disk::Disk;
use crate::memory::LARGEST_BUFFER;

use super::request::{DISCARD_SECTORS, RANGES, SECTOR_SHIFT, ZEROED_SECTORS};

/// Bits of the device (virtio 1.2, section 5.2.3).
pub(super) mod feature {
    pub(in crate::export::vhost_user) const SIZE_MAX: u64 = 1 << 1;
    pub(in crate::export::vhost_user) const SEG_MAX: u64 = 1 << 2;
    pub(in crate::export::vhost_user) const RO: u64 = 1 << 5;
    pub(in crate::export::vhost_user) const BLK_SIZE: u64 = 1 << 6;
    pub(in crate::export::vhost_user) const FLUSH: u64 = 1 << 9;
    pub(in crate::export::vhost_user) const TOPOLOGY: u64 = 1 << 10;
    pub(in crate::export::vhost_user) const CONFIG_WCE: u64 = 1 << 11;
    pub(in crate::export::vhost_user) const MQ: u64 = 1 << 12;
    pub(in crate::export::vhost_user) const DISCARD: u64 = 1 << 13;
    pub(in crate::export::vhost_user) const WRITE_ZEROES: u64 = 1 << 14;
    /// Bits of the transport (section 6).
    pub(in crate::export::vhost_user) const INDIRECT_DESC: u64 = 1 << 28;
    pub(in crate::export::vhost_user) const EVENT_IDX: u64 = 1 << 29;
    /// `VHOST_USER_F_PROTOCOL_FEATURES`: of vhost-user itself, never the guest's.
    pub(in crate::export::vhost_user) const PROTOCOL: u64 = 1 << 30;
    pub(in crate::export::vhost_user) const VERSION_1: u64 = 1 << 32;
    pub(in crate::export::vhost_user) const RING_PACKED: u64 = 1 << 34;
}

/// The most pieces of memory of one request, beside its header and status: with both, a request fits into a queue of 128 entries, which is what
/// QEMU makes; a driver without indirect descriptors has no larger ones.
pub(super) const SEGMENTS: u32 = 126;
/// Where it is best to begin and to end: blocks of 4 KiB are what pools know.
const PHYSICAL_SHIFT: u32 = 12;
/// What is best moved at once: a cluster of a pool.
const BEST_BYTES: u32 = 64 << 10;
/// Where a guest finds and sets whether its writes are kept in a cache.
const WRITEBACK_AT: usize = 32;
/// As much as front ends may ask for: what we do not know reads as zeros.
const SPACE: usize = 256;

/// `struct virtio_blk_config` up to what we offer.
#[derive(IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BlockConfig {
    capacity: U64,
    size_max: U32,
    seg_max: U32,
    cylinders: U16,
    heads: u8,
    sectors: u8,
    blk_size: U32,
    physical_block_exp: u8,
    alignment_offset: u8,
    min_io_size: U16,
    opt_io_size: U32,
    writeback: u8,
    unused0: u8,
    num_queues: U16,
    max_discard_sectors: U32,
    max_discard_seg: U32,
    discard_sector_alignment: U32,
    max_write_zeroes_sectors: U32,
    max_write_zeroes_seg: U32,
    write_zeroes_may_unmap: u8,
    unused1: [u8; 3],
}

const _: () = assert!(size_of::<BlockConfig>() == 60 && std::mem::offset_of!(BlockConfig, writeback) == WRITEBACK_AT);

/// The features of a disk.
pub(super) fn features(read_only: bool) -> u64 {
    use feature::*;
    let always = SIZE_MAX | SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | MQ;
    let writes = if read_only { RO } else { DISCARD | WRITE_ZEROES };
    always | writes | INDIRECT_DESC | EVENT_IDX | PROTOCOL | VERSION_1 | RING_PACKED
}

/// The bytes of the space that a front end asks for; `None` if they do not lie in it.
pub(super) fn read(disk: &Disk, queues: u16, writeback: bool, offset: u32, len: u32) -> Option<Vec<u8>> {
    let (offset, len) = (offset as usize, len as usize);
    let end = offset.checked_add(len).filter(|&end| end <= SPACE)?;
    let mut space = [0; SPACE];
    space[..size_of::<BlockConfig>()].copy_from_slice(config(disk, queues, writeback).as_bytes());
    Some(space[offset..end].to_vec())
}

/// What a guest sets: whether its writes are kept in a cache. `None` if it is something that cannot be set.
pub(super) fn write(offset: u32, bytes: &[u8]) -> Option<bool> {
    match (offset as usize, bytes) {
        (WRITEBACK_AT, [mode @ (0 | 1)]) => Some(*mode == 1),
        _ => None,
    }
}

fn config(disk: &Disk, queues: u16, writeback: bool) -> BlockConfig {
    let shift = disk.sector_size().shift();
    BlockConfig {
        capacity: (disk.size() >> SECTOR_SHIFT).into(),
        size_max: (LARGEST_BUFFER as u32).into(),
        seg_max: SEGMENTS.into(),
        cylinders: 0.into(),
        heads: 0,
        sectors: 0,
        blk_size: (disk.sector_size().bytes() as u32).into(),
        physical_block_exp: (PHYSICAL_SHIFT - shift) as u8,
        alignment_offset: 0,
        min_io_size: (1 << (PHYSICAL_SHIFT - shift)).into(),
        opt_io_size: (BEST_BYTES >> shift).into(),
        writeback: writeback.into(),
        unused0: 0,
        num_queues: queues.into(),
        max_discard_sectors: DISCARD_SECTORS.into(),
        max_discard_seg: (RANGES as u32).into(),
        discard_sector_alignment: (1 << (PHYSICAL_SHIFT - SECTOR_SHIFT)).into(),
        max_write_zeroes_sectors: ZEROED_SECTORS.into(),
        max_write_zeroes_seg: (RANGES as u32).into(),
        write_zeroes_may_unmap: 1,
        unused1: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::xts::SectorSize;

    use super::super::testing::plain_disk;

    fn number(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    #[test]
    fn sizes_are_told_in_the_units_of_the_specification() {
        for (sector, exponent) in [(SectorSize::B512, 3), (SectorSize::B4096, 0)] {
            let disk = plain_disk(1 << 20, sector);
            let space = read(&disk, 4, true, 0, 60).expect("in the space");
            assert_eq!(number(&space[..8]), (1 << 20) / 512, "always in units of 512 bytes");
            assert_eq!(number(&space[12..16]), 126);
            assert_eq!(number(&space[20..24]), sector.bytes() as u64);
            assert_eq!((space[24], number(&space[26..28])), (exponent, 4096 / sector.bytes() as u64));
            assert_eq!((space[32], number(&space[34..36])), (1, 4));
        }
    }

    #[test]
    fn what_lies_outside_is_neither_read_nor_written() {
        let disk = plain_disk(1 << 20, SectorSize::B512);
        assert_eq!(read(&disk, 1, false, 32, 1), Some(vec![0]));
        assert_eq!(read(&disk, 1, true, 60, 36), Some(vec![0; 36]));
        assert_eq!(read(&disk, 1, true, 250, 7), None);
        assert_eq!(read(&disk, 1, true, u32::MAX, 2), None);
        assert_eq!((write(32, &[0]), write(32, &[1])), (Some(false), Some(true)));
        assert_eq!((write(32, &[2]), write(0, &[0]), write(32, &[0, 0])), (None, None, None));
    }

    #[test]
    fn a_disk_that_cannot_be_written_offers_nothing_that_writes() {
        assert_eq!(features(true) & (feature::DISCARD | feature::WRITE_ZEROES), 0);
        assert_ne!(features(true) & feature::RO, 0);
        assert_eq!(features(false) & feature::RO, 0);
    }
}
