//! The protocol data units of NVMe/TCP (TCP section 3.6.2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::command::{Command, Completion};

/// PDU types (TCP section 3.6.1, Figure "PDU Types").
pub mod kind {
    /// Initialize Connection Request.
    pub const IC_REQ: u8 = 0x00;
    /// Initialize Connection Response.
    pub const IC_RESP: u8 = 0x01;
    /// Host to Controller Terminate Connection Request.
    pub const H2C_TERM_REQ: u8 = 0x02;
    /// Controller to Host Terminate Connection Request.
    pub const C2H_TERM_REQ: u8 = 0x03;
    /// Command Capsule.
    pub const CAPSULE_CMD: u8 = 0x04;
    /// Response Capsule.
    pub const CAPSULE_RESP: u8 = 0x05;
    /// Host to Controller Data Transfer.
    pub const H2C_DATA: u8 = 0x06;
    /// Controller to Host Data Transfer.
    pub const C2H_DATA: u8 = 0x07;
    /// Ready to Transfer.
    pub const R2T: u8 = 0x09;
}

/// Flags of the common header (TCP section 3.6.2, each PDU's figure).
pub mod flags {
    /// A header digest follows the header.
    pub const HEADER_DIGEST: u8 = 1 << 0;
    /// A data digest follows the data.
    pub const DATA_DIGEST: u8 = 1 << 1;
    /// The last data PDU of a transfer.
    pub const LAST: u8 = 1 << 2;
    /// The command is complete without a response capsule.
    pub const SUCCESS: u8 = 1 << 3;
}

/// Fatal Error Status of a termination PDU (TCP section 3.6.2.4, Figure "C2HTermReq").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FatalError {
    /// A field of the PDU header is wrong; the information names its byte.
    InvalidHeaderField = 0x01,
    /// The PDU came at the wrong time.
    SequenceError = 0x02,
    /// The header digest does not fit; the information is the digest received.
    HeaderDigestError = 0x03,
    /// Data outside of what the R2T asked for, or out of order.
    DataOutOfRange = 0x04,
    /// More data, or more R2Ts, than the limits allow.
    LimitExceeded = 0x05,
    /// A parameter that is not supported; the information names its byte.
    UnsupportedParameter = 0x06,
}

/// The header that all PDUs begin with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CommonHeader {
    /// [`kind`].
    pub kind: u8,
    /// [`flags`].
    pub flags: u8,
    /// Bytes of the header, without its digest.
    pub header_len: u8,
    /// Where the data begins, from the start of the PDU.
    pub data_offset: u8,
    /// Bytes of the whole PDU, with its digests.
    pub len: le::U32,
}
const _: () = assert!(size_of::<CommonHeader>() == 8);

/// Initialize Connection Request (TCP section 3.6.2.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcReq {
    /// The common header.
    pub common: CommonHeader,
    /// PDU format version; 0.
    pub version: le::U16,
    /// The alignment of data that the host wants: (value + 1) dwords.
    pub host_data_alignment: u8,
    /// [`digest`].
    pub digests: u8,
    /// Outstanding R2Ts that the host takes, less one.
    pub most_r2t: le::U32,
    /// Reserved.
    pub reserved: [u8; 112],
}
const _: () = assert!(size_of::<IcReq>() == 128);

/// Digest bits of ICReq and ICResp.
pub mod digest {
    /// Header digests.
    pub const HEADER: u8 = 1 << 0;
    /// Data digests.
    pub const DATA: u8 = 1 << 1;
}

/// Initialize Connection Response (TCP section 3.6.2.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IcResp {
    /// The common header.
    pub common: CommonHeader,
    /// PDU format version; 0.
    pub version: le::U16,
    /// The alignment of data that the controller wants: (value + 1) dwords.
    pub controller_data_alignment: u8,
    /// [`digest`].
    pub digests: u8,
    /// The most data that one H2CData PDU may carry.
    pub most_h2c_data: le::U32,
    /// Reserved.
    pub reserved: [u8; 112],
}
const _: () = assert!(size_of::<IcResp>() == 128);

/// Terminate Connection Request, of either side (TCP sections 3.6.2.4 and 3.6.2.5). A copy of the offending header may follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TermReq {
    /// The common header.
    pub common: CommonHeader,
    /// [`FatalError`].
    pub status: le::U16,
    /// What the status says it is.
    pub information: le::U32,
    /// Reserved.
    pub reserved: [u8; 10],
}
const _: () = assert!(size_of::<TermReq>() == 24);

/// The most of an offending PDU that follows a termination request.
pub const TERM_DATA_MAX: usize = 128;

/// Command Capsule (TCP section 3.6.2.6). In-capsule data may follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CapsuleCmd {
    /// The common header.
    pub common: CommonHeader,
    /// The submission queue entry.
    pub command: Command,
}
const _: () = assert!(size_of::<CapsuleCmd>() == 72);

/// Response Capsule (TCP section 3.6.2.7).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct CapsuleResp {
    /// The common header.
    pub common: CommonHeader,
    /// The completion queue entry.
    pub completion: Completion,
}
const _: () = assert!(size_of::<CapsuleResp>() == 24);

/// Host to Controller, and Controller to Host Data Transfer (TCP sections 3.6.2.8 and 3.6.2.9).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Data {
    /// The common header.
    pub common: CommonHeader,
    /// The command's identifier.
    pub cid: le::U16,
    /// The transfer tag of the R2T; reserved from controller to host.
    pub tag: le::U16,
    /// Where in the command's data this lies.
    pub offset: le::U32,
    /// Bytes of data in this PDU.
    pub len: le::U32,
    /// Reserved.
    pub reserved: [u8; 4],
}
const _: () = assert!(size_of::<Data>() == 24);

/// Ready to Transfer (TCP section 3.6.2.10).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct R2t {
    /// The common header.
    pub common: CommonHeader,
    /// The command's identifier.
    pub cid: le::U16,
    /// The tag that the data has to carry.
    pub tag: le::U16,
    /// Where in the command's data the request begins.
    pub offset: le::U32,
    /// Bytes that are asked for.
    pub len: le::U32,
    /// Reserved.
    pub reserved: [u8; 4],
}
const _: () = assert!(size_of::<R2t>() == 24);
