//! Submission and completion queue entries (Base section 3.3.3), and how they name data (Base section 4.1.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::status::Status;

/// An SGL descriptor (Base section 4.1.2.1).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Sgl {
    /// An address; in capsules an offset into the data.
    pub address: le::U64,
    /// Bytes.
    pub len: le::U32,
    /// Reserved.
    pub reserved: [u8; 3],
    /// [`sgl`].
    pub identifier: u8,
}
const _: () = assert!(size_of::<Sgl>() == 16);

/// SGL identifiers that NVMe/TCP uses: type in the upper, sub type in the lower four bits (Base Figure "SGL Descriptor Type", TCP section 3.3.2.1).
pub mod sgl {
    /// Data Block with an offset: the data is in the capsule.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Transport Data Block: the data comes in data PDUs.
    pub const TRANSPORT: u8 = 0x5A;
}

/// A submission queue entry (Base section 3.3.3.1, Figure "Common Command Format").
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Command {
    /// What to do.
    pub opcode: u8,
    /// Fused operation in bits 1:0, PRP or SGL in bits 7:6.
    pub flags: u8,
    /// The command's identifier.
    pub cid: le::U16,
    /// The namespace.
    pub nsid: le::U32,
    /// Command dwords 2 and 3.
    pub cdw2: le::U32,
    /// Command dword 3.
    pub cdw3: le::U32,
    /// The metadata pointer; not used over TCP.
    pub metadata: le::U64,
    /// Where the data is.
    pub data: Sgl,
    /// Command dword 10.
    pub cdw10: le::U32,
    /// Command dword 11.
    pub cdw11: le::U32,
    /// Command dword 12.
    pub cdw12: le::U32,
    /// Command dword 13.
    pub cdw13: le::U32,
    /// Command dword 14.
    pub cdw14: le::U32,
    /// Command dword 15.
    pub cdw15: le::U32,
}
const _: () = assert!(size_of::<Command>() == 64);

/// Fused operation (Base section 3.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// A command of its own.
    Not,
    /// The first of two.
    First,
    /// The second of two.
    Second,
    /// The reserved value.
    Reserved,
}

impl Command {
    /// Bits 1:0 of the flags.
    pub fn fuse(&self) -> Fuse {
        match self.flags & 0b11 {
            0 => Fuse::Not,
            1 => Fuse::First,
            2 => Fuse::Second,
            _ => Fuse::Reserved,
        }
    }

    /// Bits 7:6 of the flags: whether the data is named by an SGL, as NVMe over Fabrics has it (Base section 4.1).
    pub fn has_sgl(&self) -> bool {
        self.flags >> 6 == 0b01
    }

    /// The 64-bit number that command dwords 10 and 11 make, such as the starting LBA.
    pub fn cdw10_64(&self) -> u64 {
        u64::from(self.cdw11.get()) << 32 | u64::from(self.cdw10.get())
    }
}

/// A completion queue entry (Base section 3.3.3.2).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Completion {
    /// What the command returns (dwords 0 and 1).
    pub result: le::U64,
    /// Where the controller has got to in the submission queue.
    pub sq_head: le::U16,
    /// The submission queue; reserved over fabrics.
    pub sq_id: le::U16,
    /// The command's identifier.
    pub cid: le::U16,
    /// The status, shifted by the phase bit.
    pub status: le::U16,
}
const _: () = assert!(size_of::<Completion>() == 16);

impl Completion {
    /// A completion; `result` is dword 0 and 1.
    pub fn new(cid: u16, sq_head: u16, status: Status, result: u64) -> Self {
        Self {
            result: result.into(),
            sq_head: sq_head.into(),
            sq_id: 0.into(),
            cid: cid.into(),
            status: status.to_wire().into(),
        }
    }
}
