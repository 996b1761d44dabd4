//! Reservations: hosts that share a disk agree on who may write to it.
//!
//! [`Reservations`] is the state of one namespace as NVM Express Base 2.0 has it, sections 7.2 to 7.5 (the commands) and 8.19
//! (what they mean; section 8.1.22 of revision 2.2, whose subsections are named where a rule stands only there). It knows hosts,
//! not controllers or connections, does no I/O and takes no lock. What always holds in it is written in `state`.
//!
//! A command is worked out against the state and gives a [`Refusal`], after which nothing has changed, or a [`Transition`].
//! The thread that answers reservation commands, one at a time for each disk and never a reactor, then
//!
//! 1. has [`ReservationStore::commit`] do what the transition needs, on a thread that may block. If that fails it drops the
//!    transition and answers Internal Error;
//! 2. installs the transition, and gives what [`Reservations::access`] now says of each connected host to its queues, which look it
//!    up before a command of the classes in [`CommandClass`] (a byte for an atomic: [`Access::bits`]);
//! 3. aborts or awaits the commands of the hosts in [`Outcome::aborts`] which were let in under the old state, sends the
//!    [`Outcome::notices`], and answers.
//!
//! Without the state that survives a loss of power (PTPL) everything is forgotten when the process ends: a restart is a loss of
//! power to the hosts' reservations.

mod access;
mod acquire;
mod host;
mod image;
mod kind;
#[cfg(test)]
mod model;
mod refusal;
mod register;
mod release;
mod report;
mod request;
mod state;
mod store;
#[cfg(test)]
mod testing;
mod transition;

pub use access::{Access, AccessCell, CommandClass};
pub use host::{HostId, HostIdFormat};
pub use image::ImageError;
pub use kind::ReservationType;
pub use refusal::Refusal;
pub use report::{Registrant, Report};
pub use request::{
    Acquire, AcquireAction, CurrentKey, PowerLossChange, Register, RegisterAction, Release, ReleaseAction,
    ReservationKey,
};
pub use store::{ReservationStore, StoreError};
pub use transition::{Durability, Event, Notice, Outcome, Transition};

use state::State;

/// Hosts that may be registered at once. Host identifiers are the hosts' own word, so one host that makes them up must not
/// fill the memory.
pub const MOST_REGISTRANTS: usize = 256;

/// The reservations of one namespace.
#[derive(Debug)]
pub struct Reservations {
    state: State,
    /// Whether there is a place where the state survives a loss of power.
    storable: bool,
    /// How many transitions have been installed.
    installed: u64,
}

impl Reservations {
    /// Of a namespace that has no place to store them: nothing survives a loss of power, and asking for that is refused.
    pub fn volatile() -> Self {
        Self::restored(State::default(), false)
    }

    /// Of a namespace that can store them; empty, as long as the store holds none.
    pub fn durable() -> Self {
        Self::restored(State::default(), true)
    }

    fn restored(state: State, storable: bool) -> Self {
        Self { state, storable, installed: 0 }
    }

    /// Reservation Capabilities (RESCAP) for Identify Namespace (NVM Command Set 1.0, section 4.1.5.1): bit 0 for persistence
    /// through power loss, bits 6:1 for the six types, bit 7 for IEKEY as revision 1.3 has it.
    pub fn capabilities(&self) -> u8 {
        0b1111_1110 | u8::from(self.storable)
    }

    /// What a host may do now. Whoever is not registered has no need to be known here.
    pub fn access(&self, host: &HostId) -> Access {
        let Some(held) = &self.state.held else { return Access::FULL };
        let kind = held.kind();
        let admitted = kind.admits_registrants() && self.state.key_of(host).is_some();
        match kind.excludes_reads() {
            _ if admitted || self.state.is_held_by(host) => Access::FULL,
            true => Access::NONE,
            false => Access::READ,
        }
    }

    /// What Reservation Report tells (section 7.5).
    pub fn report(&self) -> Report<'_> {
        Report::new(&self.state)
    }

    /// Works out Reservation Register (section 7.3).
    pub fn register(&self, host: HostId, request: &Register) -> Result<Transition, Refusal> {
        self.work_out(|state, outcome| {
            self.change_power_loss(state, request.power_loss)?;
            register::apply(state, outcome, host, request.action)
        })
    }

    /// Works out Reservation Acquire (section 7.2).
    pub fn acquire(&self, host: HostId, request: &Acquire) -> Result<Transition, Refusal> {
        self.work_out(|state, outcome| acquire::apply(state, outcome, host, request))
    }

    /// Works out Reservation Release (section 7.4).
    pub fn release(&self, host: HostId, request: &Release) -> Result<Transition, Refusal> {
        self.work_out(|state, outcome| release::apply(state, outcome, host, request))
    }

    /// Works out Set Features with the Reservation Persistence feature (83h), which any host may send.
    pub fn change_persistence(&self, change: PowerLossChange) -> Result<Transition, Refusal> {
        self.work_out(|state, _| self.change_power_loss(state, change))
    }

    /// Makes the change.
    ///
    /// # Panics
    /// When another transition was installed since this one was worked out: it would be undone.
    pub fn install(&mut self, transition: Transition) -> Outcome {
        assert_eq!(transition.base, self.installed, "a transition of a state that is no more");
        self.state = transition.next;
        self.installed += 1;
        transition.outcome
    }

    fn work_out(
        &self,
        change: impl FnOnce(&mut State, &mut Outcome) -> Result<(), Refusal>,
    ) -> Result<Transition, Refusal> {
        let mut next = self.state.clone();
        let mut outcome = Outcome::default();
        change(&mut next, &mut outcome)?;
        debug_assert_eq!(next.check(), Ok(()));
        let durability = match (self.state.survives_power_loss, next.survives_power_loss) {
            (_, true) if next != self.state => Durability::Write,
            (true, false) => Durability::Remove,
            _ => Durability::Unconcerned,
        };
        Ok(Transition { base: self.installed, next, outcome, durability })
    }

    fn change_power_loss(&self, state: &mut State, change: PowerLossChange) -> Result<(), Refusal> {
        match change {
            PowerLossChange::Keep => {}
            PowerLossChange::Forget => state.survives_power_loss = false,
            PowerLossChange::Survive if self.storable => state.survives_power_loss = true,
            PowerLossChange::Survive => return Err(Refusal::InvalidField),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{A, B, C, Node, host};
    use super::*;
    use ReservationType::*;

    /// Who asks, as the figures have it.
    #[derive(Clone, Copy, Debug)]
    enum Who {
        Holder,
        Registrant,
        Stranger,
    }

    /// Base Figure "Command Behavior in the Presence of a Reservation" (types), which for holders is all "yes".
    #[test]
    fn access_is_that_of_the_table_cell_by_cell() {
        use Who::*;
        let table = [
            (WriteExclusive, Holder, true, true),
            (WriteExclusive, Registrant, true, false),
            (WriteExclusive, Stranger, true, false),
            (ExclusiveAccess, Holder, true, true),
            (ExclusiveAccess, Registrant, false, false),
            (ExclusiveAccess, Stranger, false, false),
            (WriteExclusiveRegistrantsOnly, Holder, true, true),
            (WriteExclusiveRegistrantsOnly, Registrant, true, true),
            (WriteExclusiveRegistrantsOnly, Stranger, true, false),
            (ExclusiveAccessRegistrantsOnly, Holder, true, true),
            (ExclusiveAccessRegistrantsOnly, Registrant, true, true),
            (ExclusiveAccessRegistrantsOnly, Stranger, false, false),
            (WriteExclusiveAllRegistrants, Holder, true, true),
            (WriteExclusiveAllRegistrants, Registrant, true, true),
            (WriteExclusiveAllRegistrants, Stranger, true, false),
            (ExclusiveAccessAllRegistrants, Holder, true, true),
            (ExclusiveAccessAllRegistrants, Registrant, true, true),
            (ExclusiveAccessAllRegistrants, Stranger, false, false),
        ];
        for (kind, who, read, write) in table {
            let node = held(kind);
            let access = node.reservations().access(&host(name(who)));
            assert_eq!(access.allows(CommandClass::Read), read, "{kind:?} {who:?} read");
            assert_eq!(access.allows(CommandClass::Write), write, "{kind:?} {who:?} write");
            assert!(access.allows(CommandClass::Other), "{kind:?} {who:?} other");
        }
    }

    /// The rows of the reservation commands: conflicts are those and only those.
    #[test]
    fn reservation_commands_conflict_as_the_table_says_cell_by_cell() {
        use Who::*;
        for kind in ReservationType::ALL {
            for (who, acquire, preempt, release) in [
                (Holder, true, true, true),
                (Registrant, kind.all_registrants_hold(), true, true),
                (Stranger, false, false, false),
            ] {
                let name = name(who);
                let own = u64::from(name);
                // Nobody else's registration is meant, so that preempting can only fail by the table.
                let preempted = own;
                let conflict = Err(Refusal::ReservationConflict);
                let expected = |allowed: bool| if allowed { Ok(()) } else { conflict };
                assert_eq!(held(kind).acquire(name, own, kind).map(drop), expected(acquire), "{kind:?} {who:?}");
                assert_eq!(held(kind).preempt(name, own, preempted, kind).map(drop), expected(preempt));
                assert_eq!(held(kind).preempt_and_abort(name, own, preempted, kind).map(drop), expected(preempt));
                assert_eq!(held(kind).release(name, own, kind).map(drop), expected(release), "{kind:?} {who:?}");
                assert_eq!(held(kind).clear(name, own).map(drop), expected(release), "{kind:?} {who:?}");
                assert_eq!(held(kind).register(name, own).map(drop), Ok(()), "{kind:?} {who:?}");
            }
        }
    }

    #[test]
    fn without_a_reservation_everybody_may_do_everything() {
        let node = Node::with(&[(A, 1)]);
        for who in [A, B] {
            assert_eq!(node.reservations().access(&host(who)), Access::FULL);
        }
    }

    #[test]
    fn the_report_shows_the_state() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        let report = node.reservations().report();
        assert_eq!((report.generation(), report.kind(), report.type_code()), (2, None, 0));
        node.acquire(B, 2, ExclusiveAccess).expect("acquired");
        let report = node.reservations().report();
        assert_eq!((report.kind(), report.type_code()), (Some(ExclusiveAccess), 2));
        let registrants: Vec<_> = report.registrants().collect();
        assert_eq!(report.registrants().len(), 2);
        let of = |name, holds| Registrant { host: host(name), key: ReservationKey(u64::from(name)), holds };
        assert_eq!(registrants, [of(A, false), of(B, true)]);
    }

    #[test]
    fn capabilities_name_what_is_there() {
        assert_eq!(Reservations::durable().capabilities(), 0xFF);
        assert_eq!(Reservations::volatile().capabilities(), 0xFE);
    }

    #[test]
    fn the_generation_wraps() {
        let mut state = State { generation: u32::MAX, ..State::default() };
        state.count();
        assert_eq!(state.generation, 0);
    }

    #[test]
    fn the_feature_changes_persistence_without_counting() {
        let mut node = Node::durable();
        node.change(|r| r.change_persistence(PowerLossChange::Survive)).expect("set");
        assert!(node.reservations().report().survives_power_loss());
        node.change(|r| r.change_persistence(PowerLossChange::Forget)).expect("cleared");
        assert!(!node.reservations().report().survives_power_loss());
        assert_eq!(node.generation(), 0);
    }

    #[test]
    #[should_panic(expected = "a state that is no more")]
    fn a_stale_transition_is_never_installed() {
        let mut node = Node::with(&[(A, 1)]);
        let request = Acquire { current: ReservationKey(1), kind: WriteExclusive, action: AcquireAction::Acquire };
        let stale = node.reservations().acquire(host(A), &request).expect("worked out");
        node.register(C, 3).expect("registered");
        node.install(stale);
    }

    fn name(who: Who) -> u8 {
        match who {
            Who::Holder => A,
            Who::Registrant => B,
            Who::Stranger => C,
        }
    }

    /// A holds, B is registered, C is not; each with its number as its key.
    fn held(kind: ReservationType) -> Node {
        let mut node = Node::with(&[(A, u64::from(A)), (B, u64::from(B))]);
        node.acquire(A, u64::from(A), kind).expect("acquired");
        node
    }
}
