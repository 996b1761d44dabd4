//! What goes over the wire: one struct for each figure of the NBD protocol document (`doc/proto.md` of the NBD project), and its numbers.
//!
//! All fields are big-endian and no struct has padding; sizes are checked at compile time. Section names in comments are that document's.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Declares a figure: a packed struct of big-endian fields and its size in bytes.
macro_rules! figure {
    ($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)+
        }
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

// "Newstyle negotiation".
figure! {
    /// The server's first words.
    Greeting, 18 { password: U64, magic: U64, flags: U16 }
}
figure! {
    /// The client's answer to them.
    ClientFlags, 4 { flags: U32 }
}
figure! {
    /// Before an option's data.
    OptionHeader, 16 { magic: U64, option: U32, length: U32 }
}
figure! {
    /// The answer to `NBD_OPT_EXPORT_NAME`; 124 zeroes follow unless the client wants none.
    ExportNameReply, 10 { size: U64, flags: U16 }
}
// "Fixed newstyle negotiation".
figure! {
    /// Before a reply's data.
    OptionReply, 20 { magic: U64, option: U32, kind: U32, length: U32 }
}
// "Option reply types", `NBD_REP_INFO`.
figure! {
    /// `NBD_INFO_EXPORT`.
    InfoExport, 12 { info: U16, size: U64, flags: U16 }
}
figure! {
    /// `NBD_INFO_BLOCK_SIZE`.
    InfoBlockSize, 14 { info: U16, minimum: U32, preferred: U32, maximum: U32 }
}
// "Request message".
figure! {
    /// A request; the payload of a write follows.
    Request, 28 { magic: U32, flags: U16, kind: U16, cookie: U64, offset: U64, length: U32 }
}
// "Simple reply message".
figure! {
    /// A reply; the data of a successful read follows.
    SimpleReply, 16 { magic: U32, error: U32, cookie: U64 }
}
// "Structured reply chunk message".
figure! {
    /// Before a chunk's payload.
    Chunk, 20 { magic: U32, flags: U16, kind: U16, cookie: U64, length: U32 }
}
// "Structured reply types".
figure! {
    /// `NBD_REPLY_TYPE_OFFSET_DATA`; the data follows.
    DataChunk, 28 { chunk: Chunk, offset: U64 }
}
figure! {
    /// `NBD_REPLY_TYPE_ERROR`; a message for people follows.
    ErrorChunk, 26 { chunk: Chunk, error: U32, message_length: U16 }
}
figure! {
    /// `NBD_REPLY_TYPE_BLOCK_STATUS`; descriptors follow.
    StatusChunk, 24 { chunk: Chunk, context: U32 }
}
figure! {
    /// One of its descriptors.
    StatusDescriptor, 8 { length: U32, status: U32 }
}

/// `NBDMAGIC`.
pub(super) const PASSWORD: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(super) const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// "Newstyle negotiation": zeroes after [`ExportNameReply`].
pub(super) const EXPORT_NAME_ZEROES: usize = 124;
/// "Conventions": the longest string.
pub(super) const LONGEST_STRING: usize = 4096;

/// "Handshake flags" and "Client flags", which have the same bits.
pub(super) mod handshake {
    pub(in super::super) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(in super::super) const NO_ZEROES: u16 = 1 << 1;
}

/// "Transmission flags".
pub(super) mod transmission {
    pub(in super::super) const HAS_FLAGS: u16 = 1 << 0;
    pub(in super::super) const READ_ONLY: u16 = 1 << 1;
    pub(in super::super) const SEND_FLUSH: u16 = 1 << 2;
    pub(in super::super) const SEND_FUA: u16 = 1 << 3;
    pub(in super::super) const SEND_TRIM: u16 = 1 << 5;
    pub(in super::super) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(in super::super) const SEND_DF: u16 = 1 << 7;
    pub(in super::super) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(in super::super) const SEND_CACHE: u16 = 1 << 10;
    pub(in super::super) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// "Option types".
pub(super) mod option {
    pub(in super::super) const EXPORT_NAME: u32 = 1;
    pub(in super::super) const ABORT: u32 = 2;
    pub(in super::super) const LIST: u32 = 3;
    pub(in super::super) const STARTTLS: u32 = 5;
    pub(in super::super) const INFO: u32 = 6;
    pub(in super::super) const GO: u32 = 7;
    pub(in super::super) const STRUCTURED_REPLY: u32 = 8;
    pub(in super::super) const LIST_META_CONTEXT: u32 = 9;
    pub(in super::super) const SET_META_CONTEXT: u32 = 10;
}

/// "Option reply types".
pub(super) mod reply {
    pub(in super::super) const ACK: u32 = 1;
    pub(in super::super) const SERVER: u32 = 2;
    pub(in super::super) const INFO: u32 = 3;
    pub(in super::super) const META_CONTEXT: u32 = 4;
    pub(in super::super) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(in super::super) const ERR_POLICY: u32 = (1 << 31) + 2;
    pub(in super::super) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(in super::super) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
}

/// Information types of `NBD_REP_INFO`.
pub(super) mod info {
    pub(in super::super) const EXPORT: u16 = 0;
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const DESCRIPTION: u16 = 2;
    pub(in super::super) const BLOCK_SIZE: u16 = 3;
}

/// "Request types".
pub(super) mod command {
    pub(in super::super) const READ: u16 = 0;
    pub(in super::super) const WRITE: u16 = 1;
    pub(in super::super) const DISC: u16 = 2;
    pub(in super::super) const FLUSH: u16 = 3;
    pub(in super::super) const TRIM: u16 = 4;
    pub(in super::super) const CACHE: u16 = 5;
    pub(in super::super) const WRITE_ZEROES: u16 = 6;
    pub(in super::super) const BLOCK_STATUS: u16 = 7;
}

/// "Command flags".
pub(super) mod flag {
    pub(in super::super) const FUA: u16 = 1 << 0;
    pub(in super::super) const NO_HOLE: u16 = 1 << 1;
    pub(in super::super) const DF: u16 = 1 << 2;
    pub(in super::super) const REQ_ONE: u16 = 1 << 3;
    pub(in super::super) const FAST_ZERO: u16 = 1 << 4;
}

/// "Structured reply flags" and "Structured reply types".
pub(super) mod chunk {
    pub(in super::super) const FLAG_DONE: u16 = 1 << 0;
    pub(in super::super) const OFFSET_DATA: u16 = 1;
    pub(in super::super) const BLOCK_STATUS: u16 = 5;
    pub(in super::super) const ERROR: u16 = (1 << 15) + 1;
}

/// "`base:allocation` metadata context".
pub(super) mod status {
    pub(in super::super) const HOLE: u32 = 1 << 0;
    pub(in super::super) const ZERO: u32 = 1 << 1;
}

/// "Error values".
pub(super) mod error {
    pub(in super::super) const EPERM: u32 = 1;
    pub(in super::super) const EIO: u32 = 5;
    pub(in super::super) const EINVAL: u32 = 22;
    pub(in super::super) const ENOSPC: u32 = 28;
    pub(in super::super) const EOVERFLOW: u32 = 75;
    pub(in super::super) const ENOTSUP: u32 = 95;
    pub(in super::super) const ESHUTDOWN: u32 = 108;
}
