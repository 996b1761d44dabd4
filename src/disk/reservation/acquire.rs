//! Reservation Acquire: acquire, preempt, preempt and abort (NVM Express Base 2.0, sections 7.2 and 8.19; in revision 2.2
//! sections 7.5, 8.1.22.5 and 8.1.22.7).
//!
//! Preempting does one of two things. It takes the reservation over when its key is that of the only holder, or is zero and
//! all registrants hold the reservation: everybody else with that key (or everybody else) is unregistered and the host gets a
//! reservation of the type that it asks for. Otherwise it only unregisters whoever has the key, the host itself included.

use super::state::{Held, State};
use super::transition::{Event, Outcome};
use super::{Acquire, AcquireAction, HostId, Refusal, ReservationKey, ReservationType};

pub(super) fn apply(state: &mut State, outcome: &mut Outcome, host: HostId, request: &Acquire) -> Result<(), Refusal> {
    state.authorise(&host, request.current)?;
    match request.action {
        AcquireAction::Acquire => acquire(state, host, request.kind),
        AcquireAction::Preempt { victims } => preempt(state, outcome, host, victims, request.kind).map(drop),
        AcquireAction::PreemptAndAbort { victims } => {
            outcome.aborts = preempt(state, outcome, host, victims, request.kind)?;
            Ok(())
        }
    }
}

/// Does not count in the generation (section 7.5, GEN). A holder may repeat it, with the same type.
fn acquire(state: &mut State, host: HostId, kind: ReservationType) -> Result<(), Refusal> {
    match &state.held {
        None => {
            state.held = Some(Held::by(kind, host));
            Ok(())
        }
        Some(held) if held.kind() == kind && state.is_held_by(&host) => Ok(()),
        Some(_) => Err(Refusal::ReservationConflict),
    }
}

/// Gives the other hosts that are registered no more.
fn preempt(
    state: &mut State,
    outcome: &mut Outcome,
    host: HostId,
    key: ReservationKey,
    kind: ReservationType,
) -> Result<Vec<HostId>, Refusal> {
    let before = state.held.map(|held| held.kind());
    let victims = if takes_over(state, key) {
        let victims = state.others(host).filter(|one| key == ReservationKey::NONE || state.key_of(one) == Some(key));
        let victims: Vec<_> = victims.collect();
        // First, so that the reservation does not end with its holder's registration.
        state.held = Some(Held::by(kind, host));
        victims
    } else if key == ReservationKey::NONE {
        return Err(Refusal::InvalidField);
    } else {
        let victims: Vec<_> = state.registrants.iter().filter(|one| one.key == key).map(|one| one.host).collect();
        if victims.is_empty() {
            return Err(Refusal::ReservationConflict);
        }
        victims
    };
    for victim in &victims {
        state.remove(victim);
    }
    state.count();

    let victims: Vec<_> = victims.into_iter().filter(|victim| *victim != host).collect();
    outcome.tell(victims.iter().copied(), Event::RegistrationPreempted);
    let after = state.held.map(|held| held.kind());
    if before.is_some() && before != after {
        outcome.tell(state.others(host), Event::ReservationReleased);
    }
    Ok(victims)
}

fn takes_over(state: &State, key: ReservationKey) -> bool {
    match &state.held {
        None => false,
        Some(held) => match held.holder() {
            Some(holder) => state.key_of(&holder) == Some(key),
            None => key == ReservationKey::NONE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, C, D, Node};
    use super::*;
    use ReservationType::*;

    #[test]
    fn only_registrants_with_their_key_acquire() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1)]);
            assert_eq!(node.acquire(B, 1, kind), Err(Refusal::ReservationConflict), "not registered");
            assert_eq!(node.acquire(A, 2, kind), Err(Refusal::ReservationConflict), "another key");
            assert_eq!(node.kind(), None);
            let before = node.generation();
            node.acquire(A, 1, kind).expect("acquired");
            assert_eq!((node.kind(), node.generation()), (Some(kind), before));
        }
    }

    #[test]
    fn a_held_namespace_is_acquired_only_again_by_its_holder() {
        for held in ReservationType::ALL {
            for wanted in ReservationType::ALL {
                let mut node = Node::with(&[(A, 1), (B, 2)]);
                node.acquire(A, 1, held).expect("acquired");
                let again = if wanted == held { Ok(Outcome::default()) } else { Err(Refusal::ReservationConflict) };
                assert_eq!(node.acquire(A, 1, wanted), again, "{held:?} {wanted:?}");
                let other = if held.all_registrants_hold() { again } else { Err(Refusal::ReservationConflict) };
                assert_eq!(node.acquire(B, 2, wanted), other, "{held:?} {wanted:?}");
                assert_eq!(node.kind(), Some(held));
            }
        }
    }

    #[test]
    fn only_registrants_with_their_key_preempt() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        node.acquire(A, 1, WriteExclusive).expect("acquired");
        assert_eq!(node.preempt(C, 1, 1, WriteExclusive), Err(Refusal::ReservationConflict));
        assert_eq!(node.preempt(B, 9, 1, WriteExclusive), Err(Refusal::ReservationConflict));
        assert_eq!(node.holders(), [A]);
    }

    #[test]
    fn without_a_reservation_the_key_is_unregistered_and_nothing_is_reserved() {
        let mut node = Node::with(&[(A, 1), (B, 2), (C, 2), (D, 4)]);
        let before = node.generation();
        let outcome = node.preempt(A, 1, 2, ExclusiveAccess).expect("preempted");
        assert_eq!(Node::told(&outcome), [(B, Event::RegistrationPreempted), (C, Event::RegistrationPreempted)]);
        assert_eq!(outcome.aborts, []);
        assert_eq!(node.keys(), [(A, 1), (D, 4)]);
        assert_eq!((node.kind(), node.generation()), (None, before + 1));

        assert_eq!(node.preempt(A, 1, 9, ExclusiveAccess), Err(Refusal::ReservationConflict), "nobody has that key");
        assert_eq!(node.preempt(A, 1, 0, ExclusiveAccess), Err(Refusal::InvalidField), "zero is nobody's");
        assert_eq!(node.generation(), before + 1);

        let outcome = node.preempt(A, 1, 1, ExclusiveAccess).expect("its own registration");
        assert_eq!(outcome, Outcome::default(), "who asked is not told");
        assert_eq!(node.keys(), [(D, 4)]);
    }

    #[test]
    fn the_holders_key_takes_the_reservation_over() {
        for old in ReservationType::ALL.into_iter().filter(|kind| !kind.all_registrants_hold()) {
            for new in ReservationType::ALL {
                let mut node = Node::with(&[(A, 1), (B, 2), (C, 3), (D, 1)]);
                node.acquire(A, 1, old).expect("acquired");
                let before = node.generation();
                let outcome = node.preempt(B, 2, 1, new).expect("preempted");
                let mut told = vec![(A, Event::RegistrationPreempted), (D, Event::RegistrationPreempted)];
                if old != new {
                    told.push((C, Event::ReservationReleased));
                }
                assert_eq!(Node::told(&outcome), told, "{old:?} {new:?}");
                assert_eq!(node.keys(), [(B, 2), (C, 3)]);
                assert_eq!((node.kind(), node.generation()), (Some(new), before + 1));
                let holders: &[u8] = if new.all_registrants_hold() { &[B, C] } else { &[B] };
                assert_eq!(node.holders(), holders);
            }
        }
    }

    #[test]
    fn who_shares_the_holders_key_takes_over_and_stays() {
        let mut node = Node::with(&[(A, 1), (B, 1)]);
        node.acquire(A, 1, WriteExclusive).expect("acquired");
        let outcome = node.preempt(B, 1, 1, WriteExclusive).expect("preempted");
        assert_eq!(Node::told(&outcome), [(A, Event::RegistrationPreempted)]);
        assert_eq!((node.keys(), node.holders()), (vec![(B, 1)], vec![B]));
    }

    #[test]
    fn a_holder_preempts_itself_to_change_the_type() {
        let mut node = Node::with(&[(A, 1), (B, 2), (C, 1)]);
        node.acquire(A, 1, WriteExclusive).expect("acquired");
        let outcome = node.preempt(A, 1, 1, ExclusiveAccessRegistrantsOnly).expect("preempted");
        assert_eq!(Node::told(&outcome), [(C, Event::RegistrationPreempted), (B, Event::ReservationReleased)]);
        assert_eq!((node.keys(), node.holders()), (vec![(A, 1), (B, 2)], vec![A]));
        assert_eq!(node.kind(), Some(ExclusiveAccessRegistrantsOnly));
    }

    #[test]
    fn another_key_only_unregisters() {
        for kind in ReservationType::ALL.into_iter().filter(|kind| !kind.all_registrants_hold()) {
            let mut node = Node::with(&[(A, 1), (B, 2), (C, 3), (D, 3)]);
            node.acquire(A, 1, kind).expect("acquired");
            let outcome = node.preempt(B, 2, 3, ExclusiveAccess).expect("preempted");
            assert_eq!(Node::told(&outcome), [(C, Event::RegistrationPreempted), (D, Event::RegistrationPreempted)]);
            let outcome = node.preempt(A, 1, 2, ExclusiveAccess).expect("a holder does so as well");
            assert_eq!(Node::told(&outcome), [(B, Event::RegistrationPreempted)]);
            assert_eq!((node.kind(), node.holders()), (Some(kind), vec![A]), "the type stays");
            assert_eq!(node.preempt(A, 1, 9, kind), Err(Refusal::ReservationConflict));
            assert_eq!(node.preempt(A, 1, 0, kind), Err(Refusal::InvalidField));
        }
    }

    #[test]
    fn zero_takes_over_what_all_registrants_hold() {
        for old in [WriteExclusiveAllRegistrants, ExclusiveAccessAllRegistrants] {
            for new in ReservationType::ALL {
                let mut node = Node::with(&[(A, 1), (B, 2), (C, 2)]);
                node.acquire(A, 1, old).expect("acquired");
                let outcome = node.preempt(B, 2, 0, new).expect("preempted");
                assert_eq!(
                    Node::told(&outcome),
                    [(A, Event::RegistrationPreempted), (C, Event::RegistrationPreempted)]
                );
                assert_eq!((node.keys(), node.kind(), node.holders()), (vec![(B, 2)], Some(new), vec![B]));
            }
        }
    }

    #[test]
    fn a_key_only_unregisters_where_all_registrants_hold() {
        let mut node = Node::with(&[(A, 1), (B, 2), (C, 2)]);
        node.acquire(A, 1, WriteExclusiveAllRegistrants).expect("acquired");
        let outcome = node.preempt(A, 1, 2, ExclusiveAccess).expect("preempted");
        assert_eq!(Node::told(&outcome), [(B, Event::RegistrationPreempted), (C, Event::RegistrationPreempted)]);
        assert_eq!((node.kind(), node.holders()), (Some(WriteExclusiveAllRegistrants), vec![A]));
        assert_eq!(node.preempt(A, 1, 9, ExclusiveAccess), Err(Refusal::ReservationConflict));

        let outcome = node.preempt(A, 1, 1, ExclusiveAccess).expect("the last unregisters itself");
        assert_eq!((outcome, node.kind(), node.keys()), (Outcome::default(), None, vec![]));
    }

    #[test]
    fn aborting_names_those_who_were_unregistered_but_never_who_asked() {
        let mut node = Node::with(&[(A, 1), (B, 2), (C, 1), (D, 4)]);
        node.acquire(A, 1, WriteExclusive).expect("acquired");
        let outcome = node.preempt_and_abort(B, 2, 1, ExclusiveAccess).expect("preempted");
        assert_eq!(Node::names(&outcome.aborts), [A, C]);
        assert_eq!(
            Node::told(&outcome),
            [(A, Event::RegistrationPreempted), (C, Event::RegistrationPreempted), (D, Event::ReservationReleased)]
        );
        let outcome = node.preempt_and_abort(D, 4, 4, ExclusiveAccess).expect("itself");
        assert_eq!((outcome, node.holders()), (Outcome::default(), vec![B]));
    }
}
