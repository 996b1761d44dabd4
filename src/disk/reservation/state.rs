//! The state of one namespace's reservations, and the steps that every command is made of.
//!
//! What always holds, and what a file has to hold before it is believed ([`State::check`]): each host is registered at most
//! once, under a key that is not zero; all host identifiers have one format; there are at most [`MOST_REGISTRANTS`]; who
//! holds the reservation is a registrant; a reservation of all registrants has a registrant.

use super::{HostId, HostIdFormat, MOST_REGISTRANTS, Refusal, ReservationKey, ReservationType};

/// A host that has registered, and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) host: HostId,
    pub(super) key: ReservationKey,
}

/// The reservation, if one is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    kind: ReservationType,
    /// Nobody in particular when all registrants hold it.
    holder: Option<HostId>,
}

impl Held {
    pub(super) fn by(kind: ReservationType, host: HostId) -> Self {
        Self { kind, holder: (!kind.all_registrants_hold()).then_some(host) }
    }

    /// For a file: the holder has to be given for exactly those kinds that have one.
    pub(super) fn restored(kind: ReservationType, holder: Option<HostId>) -> Option<Self> {
        (kind.all_registrants_hold() == holder.is_none()).then_some(Self { kind, holder })
    }

    pub(super) fn kind(&self) -> ReservationType {
        self.kind
    }

    pub(super) fn holder(&self) -> Option<HostId> {
        self.holder
    }
}

/// Registrations, reservation, generation and whether they survive a loss of power.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) generation: u32,
    /// In the order of registration.
    pub(super) registrants: Vec<Registered>,
    pub(super) held: Option<Held>,
    pub(super) survives_power_loss: bool,
}

impl State {
    /// The generation counter wraps (section 7.5, GEN).
    pub(super) fn count(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    pub(super) fn key_of(&self, host: &HostId) -> Option<ReservationKey> {
        self.registrants.iter().find(|one| one.host == *host).map(|one| one.key)
    }

    /// Whether a registrant holds the reservation.
    pub(super) fn is_held_by(&self, host: &HostId) -> bool {
        match &self.held {
            None => false,
            Some(Held { holder: Some(holder), .. }) => holder == host,
            Some(Held { holder: None, .. }) => self.key_of(host).is_some(),
        }
    }

    /// What Acquire and Release ask for first: a registrant, under its key.
    pub(super) fn authorise(&self, host: &HostId, key: ReservationKey) -> Result<(), Refusal> {
        if self.key_of(host) == Some(key) { Ok(()) } else { Err(Refusal::ReservationConflict) }
    }

    /// The other registrants.
    pub(super) fn others(&self, host: HostId) -> impl Iterator<Item = HostId> {
        self.registrants.iter().map(|one| one.host).filter(move |other| *other != host)
    }

    /// Adds a registrant that is not one yet.
    pub(super) fn add(&mut self, host: HostId, key: ReservationKey) -> Result<(), Refusal> {
        if self.registrants.len() >= MOST_REGISTRANTS {
            return Err(Refusal::TooManyRegistrants);
        }
        if self.format().is_some_and(|format| format != host.format()) {
            return Err(Refusal::HostIdInconsistentFormat);
        }
        self.registrants.push(Registered { host, key });
        Ok(())
    }

    /// Takes a registrant away, and the reservation when it goes with it: its only holder, or the last of all registrants.
    /// The type of that reservation is returned.
    pub(super) fn remove(&mut self, host: &HostId) -> Option<ReservationType> {
        self.registrants.retain(|one| one.host != *host);
        let held = self.held?;
        let over = match held.holder {
            Some(holder) => holder == *host,
            None => self.registrants.is_empty(),
        };
        if over { self.held.take().map(|held| held.kind) } else { None }
    }

    /// The format of the host identifiers, once there is one.
    pub(super) fn format(&self) -> Option<HostIdFormat> {
        self.registrants.first().map(|one| one.host.format())
    }

    /// What always holds; otherwise what does not.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.registrants.len() > MOST_REGISTRANTS {
            return Err("more registrants than there may be");
        }
        for (at, one) in self.registrants.iter().enumerate() {
            if one.key == ReservationKey::NONE {
                return Err("a registrant without a key");
            }
            if self.format() != Some(one.host.format()) {
                return Err("host identifiers of two formats");
            }
            if self.registrants[..at].iter().any(|earlier| earlier.host == one.host) {
                return Err("a host that is registered twice");
            }
        }
        match &self.held {
            Some(Held { holder: Some(holder), .. }) if self.key_of(holder).is_none() => {
                Err("a reservation of a host that is not registered")
            }
            Some(Held { holder: None, .. }) if self.registrants.is_empty() => Err("a reservation of nobody"),
            _ => Ok(()),
        }
    }
}
