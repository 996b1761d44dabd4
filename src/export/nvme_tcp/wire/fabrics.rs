//! Fabrics commands and their data (Base section 6).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use super::command::Sgl;

/// Connect (Base section 6.3, Figure "Connect Command").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Connect {
    /// [`super::opcode::FABRICS`].
    pub opcode: u8,
    /// Bits 7:6: SGL.
    pub flags: u8,
    /// The command's identifier.
    pub cid: le::U16,
    /// [`super::opcode::fabrics::CONNECT`].
    pub fabrics_type: u8,
    /// Reserved.
    pub reserved5: [u8; 19],
    /// Where the data is.
    pub data: Sgl,
    /// The format of this command; 0.
    pub record_format: le::U16,
    /// Queue 0 is the Admin queue.
    pub queue_id: le::U16,
    /// Entries of the queue, less one.
    pub queue_size: le::U16,
    /// [`connect`].
    pub attributes: u8,
    /// Reserved.
    pub reserved47: u8,
    /// Keep Alive Timeout in milliseconds.
    pub keep_alive_ms: le::U32,
    /// Reserved.
    pub reserved52: [u8; 12],
}
const _: () = assert!(size_of::<Connect>() == 64);

/// Connect Attributes (CATTR).
pub mod connect {
    /// The host does without SQ flow control.
    pub const NO_SQ_FLOW_CONTROL: u8 = 1 << 2;
    /// The controller identifier that asks for a new controller (dynamic controller model, Base section 6.3).
    pub const NEW_CONTROLLER: u16 = 0xFFFF;
}

/// The data of a Connect command (Base section 6.3, Figure "Connect Command - Data").
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ConnectData {
    /// The host identifier.
    pub host_id: [u8; 16],
    /// The controller; [`connect::NEW_CONTROLLER`] asks for a new one.
    pub controller_id: le::U16,
    /// Reserved.
    pub reserved18: [u8; 238],
    /// The subsystem's name, padded with zeros.
    pub subsystem_nqn: [u8; 256],
    /// The host's name, padded with zeros.
    pub host_nqn: [u8; 256],
    /// Reserved.
    pub reserved768: [u8; 256],
}
const _: () = assert!(size_of::<ConnectData>() == 1024);

/// Property Get and Property Set (Base sections 6.5 and 6.6).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Property {
    /// [`super::opcode::FABRICS`].
    pub opcode: u8,
    /// Flags.
    pub flags: u8,
    /// The command's identifier.
    pub cid: le::U16,
    /// Get or set.
    pub fabrics_type: u8,
    /// Reserved.
    pub reserved5: [u8; 35],
    /// Bits 2:0: 0 = four bytes, 1 = eight bytes.
    pub attributes: u8,
    /// Reserved.
    pub reserved41: [u8; 3],
    /// The property.
    pub offset: le::U32,
    /// The value to set.
    pub value: le::U64,
    /// Reserved.
    pub reserved56: [u8; 8],
}
const _: () = assert!(size_of::<Property>() == 64);
