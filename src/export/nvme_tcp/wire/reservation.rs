//! The data of Reservation Report (Base section 7.5).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

use crate::disk::reservation::{Registrant, Report};

/// The controller identifier of a registrant whose controllers come and go (dynamic controller model).
const DYNAMIC: u16 = 0xFFFF;

/// Reservation Status Extended Data Structure, without the registrants (Base section 7.5, Figure "Reservation Status Extended Data Structure").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ReportHeader {
    /// Generation.
    pub generation: le::U32,
    /// Reservation type; 0 = none.
    pub kind: u8,
    /// Registrants that follow.
    pub registrants: le::U16,
    /// Reserved.
    pub reserved7: [u8; 2],
    /// Persist Through Power Loss State.
    pub survives_power_loss: u8,
    /// Reserved.
    pub reserved10: [u8; 54],
}
const _: () = assert!(size_of::<ReportHeader>() == 64);

impl ReportHeader {
    /// The header of a report.
    pub fn new(report: &Report<'_>) -> Self {
        Self {
            generation: report.generation().into(),
            kind: report.type_code(),
            registrants: (report.registrants().len() as u16).into(),
            reserved7: [0; 2],
            survives_power_loss: report.survives_power_loss().into(),
            reserved10: [0; 54],
        }
    }
}

/// Registered Controller Extended Data Structure (Base section 7.5).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Registered {
    /// The controller.
    pub controller: le::U16,
    /// Bit 0: holds the reservation.
    pub status: u8,
    /// Reserved.
    pub reserved3: [u8; 5],
    /// The reservation key.
    pub key: le::U64,
    /// The host identifier.
    pub host_id: [u8; 16],
    /// Reserved.
    pub reserved32: [u8; 32],
}
const _: () = assert!(size_of::<Registered>() == 64);

impl Registered {
    /// One registrant.
    pub fn new(registrant: &Registrant) -> Self {
        let mut host_id = [0; 16];
        let id = registrant.host.as_bytes();
        host_id[..id.len()].copy_from_slice(id);
        Self {
            controller: DYNAMIC.into(),
            status: registrant.holds.into(),
            reserved3: [0; 5],
            key: registrant.key.0.into(),
            host_id,
            reserved32: [0; 32],
        }
    }
}
