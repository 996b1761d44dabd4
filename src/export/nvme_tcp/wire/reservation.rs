//! Data of the reservation commands (Base sections 7.2 to 7.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// The data of Reservation Register (Base section 7.3).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Register {
    /// Current Reservation Key.
    pub current_key: le::U64,
    /// New Reservation Key.
    pub new_key: le::U64,
}
const _: () = assert!(size_of::<Register>() == 16);

/// The data of Reservation Acquire (Base section 7.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Acquire {
    /// Current Reservation Key.
    pub current_key: le::U64,
    /// Preempt Reservation Key.
    pub preempt_key: le::U64,
}
const _: () = assert!(size_of::<Acquire>() == 16);

/// The data of Reservation Release (Base section 7.4).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Release {
    /// Current Reservation Key.
    pub current_key: le::U64,
}
const _: () = assert!(size_of::<Release>() == 8);

/// The Reservation Status data structure, as Reservation Report returns it with the Extended Data Structure bit (Base section 7.5);
/// [`Registrant`]s follow. Without the bit only the first 24 bytes come before the registrants, which have 64-bit host identifiers
/// and so do not exist over fabrics.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReportHeader {
    /// Generation.
    pub generation: le::U32,
    /// Reservation Type; 0 = none is held.
    pub kind: u8,
    /// Number of Registrants.
    pub registrants: le::U16,
    /// Reserved.
    pub reserved7: [u8; 2],
    /// Persist Through Power Loss State.
    pub persists: u8,
    /// Reserved.
    pub reserved10: [u8; 14],
    /// Reserved.
    pub reserved24: [u8; 40],
}
const _: () = assert!(size_of::<ReportHeader>() == 64);

/// The Registrant Extended data structure (Base section 7.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Registrant {
    /// The controller; FFFFh if the host has none at the moment.
    pub controller_id: le::U16,
    /// Bit 0: the host holds the reservation.
    pub status: u8,
    /// Reserved.
    pub reserved3: [u8; 5],
    /// Reservation Key.
    pub key: le::U64,
    /// Host Identifier.
    pub host_id: [u8; 16],
    /// Reserved.
    pub reserved32: [u8; 32],
}
const _: () = assert!(size_of::<Registrant>() == 64);

/// [`Registrant::controller_id`]: the host has no controller at the moment (Base section 7.5, dynamic controller model).
pub const NO_CONTROLLER: u16 = 0xFFFF;
/// [`Registrant::status`]: the host holds the reservation.
pub const HOLDS_RESERVATION: u8 = 1 << 0;

/// Dword 10 of Reservation Register (Base section 7.3).
pub mod register {
    /// Reservation Register Action, bits 2:0: register a key.
    pub const REGISTER: u32 = 0;
    /// RREGA: unregister.
    pub const UNREGISTER: u32 = 1;
    /// RREGA: replace the key.
    pub const REPLACE: u32 = 2;
    /// The current key is not looked at (IEKEY).
    pub const IGNORE_EXISTING_KEY: u32 = 1 << 3;

    /// Change Persist Through Power Loss State, bits 31:30.
    pub const fn persistence(dword: u32) -> u32 {
        dword >> 30
    }

    /// CPTPL: no change.
    pub const KEEP_PERSISTENCE: u32 = 0b00;
    /// CPTPL: gone after a power loss.
    pub const NOT_PERSISTENT: u32 = 0b10;
    /// CPTPL: there after a power loss.
    pub const PERSISTENT: u32 = 0b11;
}

/// Dword 10 of Reservation Acquire (Base section 7.2).
pub mod acquire {
    /// Reservation Acquire Action, bits 2:0: acquire.
    pub const ACQUIRE: u32 = 0;
    /// RACQA: preempt.
    pub const PREEMPT: u32 = 1;
    /// RACQA: preempt and abort.
    pub const PREEMPT_AND_ABORT: u32 = 2;
}

/// Dword 10 of Reservation Release (Base section 7.4).
pub mod release {
    /// Reservation Release Action, bits 2:0: release.
    pub const RELEASE: u32 = 0;
    /// RRELA: clear.
    pub const CLEAR: u32 = 1;
}

/// Bits 2:0 of dword 10 of Register, Acquire and Release: the action.
pub const fn action(dword: u32) -> u32 {
    dword & 0b111
}

/// Bits 15:8 of dword 10 of Acquire and Release: the Reservation Type.
pub const fn kind(dword: u32) -> u8 {
    (dword >> 8) as u8
}

/// Bit 0 of dword 11 of Reservation Report: Extended Data Structure.
pub const EXTENDED: u32 = 1 << 0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn fields_lie_where_the_figures_say() {
        assert_eq!(offset_of!(ReportHeader, registrants), 5);
        assert_eq!(offset_of!(ReportHeader, persists), 9);
        assert_eq!(offset_of!(Registrant, key), 8);
        assert_eq!(offset_of!(Registrant, host_id), 16);
    }
}
