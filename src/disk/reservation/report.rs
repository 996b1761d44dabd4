//! What Reservation Report tells (NVM Express Base 2.0, section 7.5), whatever the form of the answer.
//!
//! The export encodes it: registrants of 24 bytes when the asking host's identifier has 64 bits, of 64 bytes when it has 128,
//! and Host Identifier Inconsistent Format when the command's EDS bit asks for the other ([`HostId::format`]).

use super::state::State;
use super::{HostId, ReservationKey, ReservationType};

/// A view of the state.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    state: &'a State,
}

/// One registrant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// HOSTID.
    pub host: HostId,
    /// RKEY.
    pub key: ReservationKey,
    /// RCSTS bit 0: it holds the reservation, alone or as one of all registrants.
    pub holds: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// GEN.
    pub fn generation(&self) -> u32 {
        self.state.generation
    }

    /// The reservation that is held.
    pub fn kind(&self) -> Option<ReservationType> {
        self.state.held.map(|held| held.kind())
    }

    /// RTYPE: the reservation that is held, or 0.
    pub fn type_code(&self) -> u8 {
        self.kind().map_or(0, ReservationType::code)
    }

    /// PTPLS.
    pub fn survives_power_loss(&self) -> bool {
        self.state.survives_power_loss
    }

    /// All registrants, in the order in which they came.
    pub fn registrants(&self) -> impl ExactSizeIterator<Item = Registrant> + 'a {
        let state = self.state;
        state.registrants.iter().map(move |one| Registrant {
            host: one.host,
            key: one.key,
            holds: state.is_held_by(&one.host),
        })
    }
}
