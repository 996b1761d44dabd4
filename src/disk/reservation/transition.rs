//! A change that has been worked out and not yet made.
//!
//! A reservation command goes in three steps, so that the slow one can be done by a thread that may block and a failure
//! leaves everything as it was: work out ([`super::Reservations::register`] and its like), store
//! ([`super::ReservationStore::commit`]), install ([`super::Reservations::install`]).

use super::HostId;
use super::state::State;

/// A state to come and what has to happen with it.
#[derive(Clone, Debug)]
#[must_use = "nothing changes before it is installed"]
pub struct Transition {
    /// Which installed state it was worked out from.
    pub(super) base: u64,
    pub(super) next: State,
    pub(super) outcome: Outcome,
    pub(super) durability: Durability,
}

/// What the store has to do before the command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing.
    Unconcerned,
    /// The state has to be durable.
    Write,
    /// The state that is stored has to be gone.
    Remove,
}

/// What others have to be told or lose, once the change is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Notices, at most one for each host.
    pub notices: Vec<Notice>,
    /// Whose commands to this namespace end with Command Aborted due to Preempt and Abort, before the command is answered.
    /// The host that asked for it is never among them.
    pub aborts: Vec<HostId>,
}

/// A notice for every controller of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whom it concerns.
    pub host: HostId,
    /// What happened.
    pub event: Event,
}

/// A reservation notification (section 8.19). The numbers are Reservation Notification Log Page Type (log page 80h), and
/// the bit that masks each in the Reservation Notification Mask feature (82h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Another host has unregistered this one.
    RegistrationPreempted = 1,
    /// The reservation under which this host had access is over, or has another type now.
    ReservationReleased = 2,
    /// Another host has cleared the reservation and all registrations.
    ReservationPreempted = 3,
}

impl Event {
    /// The log page type.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The bit of the Reservation Notification Mask that keeps it quiet.
    pub fn mask_bit(self) -> u32 {
        1 << self.code()
    }
}

impl Outcome {
    pub(super) fn tell(&mut self, hosts: impl IntoIterator<Item = HostId>, event: Event) {
        self.notices.extend(hosts.into_iter().map(|host| Notice { host, event }));
    }
}

impl Transition {
    /// What the store has to do before the change is installed.
    pub fn durability(&self) -> Durability {
        self.durability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_numbers_of_the_log_page_and_of_the_mask() {
        let events = [Event::RegistrationPreempted, Event::ReservationReleased, Event::ReservationPreempted];
        assert_eq!(events.map(Event::code), [1, 2, 3]);
        assert_eq!(events.map(Event::mask_bit), [0b0010, 0b0100, 0b1000]);
    }
}
