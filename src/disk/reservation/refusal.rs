//! Why a reservation command fails.

use thiserror::Error;

/// The status that a refused command ends with (NVM Express Base 2.0, Figure "Status Code – Generic Command Status Values").
/// Nothing has changed then, the generation counter included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Invalid Field in Command.
    #[error("invalid field in command")]
    InvalidField,
    /// Reservation Conflict: the host is not registered, its key is another, or another host holds the reservation.
    #[error("reservation conflict")]
    ReservationConflict,
    /// Host Identifier Inconsistent Format: hosts with 64-bit and with 128-bit identifiers met at one namespace.
    #[error("host identifier has another format than those of the registrants")]
    HostIdInconsistentFormat,
    /// There is no room for one more registrant ([`super::MOST_REGISTRANTS`]): Internal Error, for want of a better word
    /// in the specification.
    #[error("too many registrants")]
    TooManyRegistrants,
}
