//! Reservation Register: register, unregister, replace (NVM Express Base 2.0, sections 7.3 and 8.19; in revision 2.2
//! sections 7.6, 8.1.22.3 and 8.1.22.4).
//!
//! Each success counts in the generation, also one that changes nothing.

use super::state::State;
use super::transition::{Event, Outcome};
use super::{CurrentKey, HostId, Refusal, RegisterAction, ReservationKey};

pub(super) fn apply(
    state: &mut State,
    outcome: &mut Outcome,
    host: HostId,
    action: RegisterAction,
) -> Result<(), Refusal> {
    match action {
        RegisterAction::Register { new } => register(state, host, new)?,
        RegisterAction::Unregister { current } => unregister(state, outcome, host, current)?,
        RegisterAction::Replace { current, new } => replace(state, host, current, new)?,
    }
    state.count();
    Ok(())
}

/// The same key again is fine: a host repeats the command when its answer was lost.
fn register(state: &mut State, host: HostId, new: ReservationKey) -> Result<(), Refusal> {
    demand_key(new)?;
    match state.key_of(&host) {
        None => state.add(host, new),
        Some(key) if key == new => Ok(()),
        Some(_) => Err(Refusal::ReservationConflict),
    }
}

/// A reservation of registrants only that ends here takes the others' access with it, so they are told.
fn unregister(state: &mut State, outcome: &mut Outcome, host: HostId, current: CurrentKey) -> Result<(), Refusal> {
    check(state, &host, current)?;
    let released = state.remove(&host);
    if released.is_some_and(|kind| kind.admits_registrants() && !kind.all_registrants_hold()) {
        outcome.tell(state.others(host), Event::ReservationReleased);
    }
    Ok(())
}

fn replace(state: &mut State, host: HostId, current: CurrentKey, new: ReservationKey) -> Result<(), Refusal> {
    demand_key(new)?;
    check(state, &host, current)?;
    match state.registrants.iter_mut().find(|one| one.host == host) {
        Some(registered) => registered.key = new,
        None => state.add(host, new)?,
    }
    Ok(())
}

/// Zero stands for "all registrants" when it is preempted, so nobody may be called by it.
fn demand_key(new: ReservationKey) -> Result<(), Refusal> {
    if new == ReservationKey::NONE { Err(Refusal::InvalidField) } else { Ok(()) }
}

/// With IEKEY neither the key nor its absence matters (revision 2.2, Figure 574, says so in words; hosts rely on it when they
/// register with Replace and IEKEY).
fn check(state: &State, host: &HostId, current: CurrentKey) -> Result<(), Refusal> {
    match current {
        CurrentKey::Ignored => Ok(()),
        CurrentKey::Given(key) => state.authorise(host, key),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, C, Node, host, key};
    use super::super::{Durability, MOST_REGISTRANTS, PowerLossChange, Register, ReservationType, Reservations};
    use super::*;

    #[test]
    fn a_host_registers_once_and_may_repeat_it() {
        let mut node = Node::volatile();
        node.register(A, 1).expect("registered");
        node.register(A, 1).expect("the same again");
        assert_eq!(node.register(A, 2), Err(Refusal::ReservationConflict));
        assert_eq!(node.generation(), 2, "the conflict did not count");
        assert_eq!(node.keys(), [(A, 1)]);
    }

    #[test]
    fn several_hosts_may_share_a_key() {
        let mut node = Node::volatile();
        node.register(A, 1).expect("registered");
        node.register(B, 1).expect("registered");
        assert_eq!(node.keys(), [(A, 1), (B, 1)]);
    }

    #[test]
    fn nobody_registers_under_zero() {
        let mut node = Node::volatile();
        assert_eq!(node.register(A, 0), Err(Refusal::InvalidField));
        node.register(A, 1).expect("registered");
        assert_eq!(node.replace(A, CurrentKey::Given(key(1)), 0), Err(Refusal::InvalidField));
        assert_eq!(node.replace(A, CurrentKey::Ignored, 0), Err(Refusal::InvalidField));
        assert_eq!(node.keys(), [(A, 1)]);
    }

    #[test]
    fn unregistering_asks_for_the_key_or_ignores_it() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        let before = node.generation();
        assert_eq!(node.unregister(A, CurrentKey::Given(key(9))), Err(Refusal::ReservationConflict));
        assert_eq!(node.unregister(C, CurrentKey::Given(key(1))), Err(Refusal::ReservationConflict));
        assert_eq!(node.generation(), before);
        node.unregister(A, CurrentKey::Given(key(1))).expect("unregistered");
        node.unregister(B, CurrentKey::Ignored).expect("unregistered");
        node.unregister(B, CurrentKey::Ignored).expect("nobody is no error");
        assert_eq!(node.keys(), []);
        assert_eq!(node.generation(), before + 3);
    }

    #[test]
    fn replacing_asks_for_the_key_or_ignores_it() {
        let mut node = Node::with(&[(A, 1)]);
        assert_eq!(node.replace(A, CurrentKey::Given(key(9)), 2), Err(Refusal::ReservationConflict));
        assert_eq!(node.replace(B, CurrentKey::Given(key(1)), 2), Err(Refusal::ReservationConflict));
        node.replace(A, CurrentKey::Given(key(1)), 2).expect("replaced");
        node.replace(A, CurrentKey::Ignored, 3).expect("replaced");
        node.replace(B, CurrentKey::Ignored, 4).expect("registered by the way");
        assert_eq!(node.keys(), [(A, 3), (B, 4)]);
    }

    #[test]
    fn a_holder_keeps_its_reservation_under_a_new_key() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        node.acquire(A, 1, ReservationType::WriteExclusive).expect("acquired");
        node.replace(A, CurrentKey::Given(key(1)), 7).expect("replaced");
        assert_eq!(node.holders(), [A]);
        node.preempt(B, 2, 7, ReservationType::WriteExclusive).expect("the new key is the holder's");
        assert_eq!(node.holders(), [B]);
    }

    #[test]
    fn a_holder_that_unregisters_releases() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1), (B, 2), (C, 3)]);
            node.acquire(A, 1, kind).expect("acquired");
            let outcome = node.unregister(A, CurrentKey::Given(key(1))).expect("unregistered");
            let told: &[(u8, Event)] = match kind {
                ReservationType::WriteExclusiveRegistrantsOnly | ReservationType::ExclusiveAccessRegistrantsOnly => {
                    &[(B, Event::ReservationReleased), (C, Event::ReservationReleased)]
                }
                _ => &[],
            };
            assert_eq!(Node::told(&outcome), told, "{kind:?}");
            let holders: &[u8] = if kind.all_registrants_hold() { &[B, C] } else { &[] };
            assert_eq!(node.holders(), holders, "{kind:?}");
        }
    }

    #[test]
    fn a_registrant_that_unregisters_leaves_the_reservation_alone() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1), (B, 2)]);
            node.acquire(A, 1, kind).expect("acquired");
            let outcome = node.unregister(B, CurrentKey::Given(key(2))).expect("unregistered");
            assert_eq!(outcome, Outcome::default());
            assert_eq!(node.holders(), [A], "{kind:?}");
        }
    }

    #[test]
    fn the_last_of_all_registrants_ends_their_reservation() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        node.acquire(A, 1, ReservationType::ExclusiveAccessAllRegistrants).expect("acquired");
        node.register(C, 3).expect("registered");
        assert_eq!(node.holders(), [A, B, C], "who registers holds it too");
        for one in [A, B, C] {
            assert!(node.kind().is_some());
            node.unregister(one, CurrentKey::Ignored).expect("unregistered");
        }
        assert_eq!(node.kind(), None);
    }

    #[test]
    fn room_for_registrants_ends() {
        let mut node = Node::volatile();
        for one in 0..MOST_REGISTRANTS as u64 {
            let id = HostId::extended((u128::from(one) + 1).to_le_bytes()).expect("a host");
            node.change(|r| r.register(id, &registering(1))).expect("registered");
        }
        let late = HostId::extended([0xFF; 16]).expect("a host");
        assert_eq!(node.change(|r| r.register(late, &registering(1))), Err(Refusal::TooManyRegistrants));
        node.change(|r| r.register(HostId::extended(1u128.to_le_bytes()).expect("a host"), &registering(1)))
            .expect("who is in may repeat it");
    }

    #[test]
    fn both_formats_of_identifiers_never_meet() {
        let mut node = Node::with(&[(A, 1)]);
        let short = HostId::short([1; 8]).expect("a host");
        assert_eq!(node.change(|r| r.register(short, &registering(1))), Err(Refusal::HostIdInconsistentFormat));
        node.unregister(A, CurrentKey::Ignored).expect("unregistered");
        node.change(|r| r.register(short, &registering(1))).expect("alone it may");
    }

    #[test]
    fn a_refused_command_does_not_touch_persistence() {
        let reservations = Reservations::durable();
        let request = Register {
            action: RegisterAction::Unregister { current: CurrentKey::Given(key(1)) },
            power_loss: PowerLossChange::Survive,
        };
        assert_eq!(reservations.register(host(A), &request).err(), Some(Refusal::ReservationConflict));
        assert!(!reservations.report().survives_power_loss());
    }

    #[test]
    fn persistence_is_a_side_effect() {
        let mut node = Node::durable();
        let surviving = Register { power_loss: PowerLossChange::Survive, ..registering(1) };
        let keeping = registering(1);
        let forgetting = Register { power_loss: PowerLossChange::Forget, ..registering(1) };
        let steps = [
            (keeping, false, Durability::Unconcerned),
            (surviving, true, Durability::Write),
            (keeping, true, Durability::Write),
            (forgetting, false, Durability::Remove),
            (forgetting, false, Durability::Unconcerned),
        ];
        for (request, survives, durability) in steps {
            let transition = node.reservations().register(host(A), &request).expect("fine");
            assert_eq!(transition.durability(), durability, "{request:?}");
            node.install(transition);
            assert_eq!(node.reservations().report().survives_power_loss(), survives);
        }
    }

    #[test]
    fn without_a_store_persistence_is_refused() {
        let reservations = Reservations::volatile();
        let surviving = Register { power_loss: PowerLossChange::Survive, ..registering(1) };
        assert_eq!(reservations.register(host(A), &surviving).err(), Some(Refusal::InvalidField));
        assert_eq!(reservations.change_persistence(PowerLossChange::Survive).err(), Some(Refusal::InvalidField));
        let forgetting = Register { power_loss: PowerLossChange::Forget, ..registering(1) };
        assert!(reservations.register(host(A), &forgetting).is_ok(), "it forgets anyway");
    }

    fn registering(new: u64) -> Register {
        Register { action: RegisterAction::Register { new: key(new) }, power_loss: PowerLossChange::Keep }
    }
}
