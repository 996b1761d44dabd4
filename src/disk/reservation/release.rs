//! Reservation Release: release, clear (NVM Express Base 2.0, sections 7.4 and 8.19; in revision 2.2 sections 7.7, 8.1.22.6
//! and 8.1.22.8).

use super::state::State;
use super::transition::{Event, Outcome};
use super::{HostId, Refusal, Release, ReleaseAction, ReservationType};

pub(super) fn apply(state: &mut State, outcome: &mut Outcome, host: HostId, request: &Release) -> Result<(), Refusal> {
    state.authorise(&host, request.current)?;
    match request.action {
        ReleaseAction::Release { kind } => release(state, outcome, host, kind),
        ReleaseAction::Clear => {
            clear(state, outcome, host);
            Ok(())
        }
    }
}

/// Does not count in the generation (section 7.5, GEN). A registrant that holds nothing succeeds in releasing nothing. The
/// other registrants are told when the reservation gave access to them.
fn release(state: &mut State, outcome: &mut Outcome, host: HostId, kind: ReservationType) -> Result<(), Refusal> {
    if !state.is_held_by(&host) {
        return Ok(());
    }
    if state.held.is_some_and(|held| held.kind() != kind) {
        return Err(Refusal::InvalidField);
    }
    state.held = None;
    if kind.admits_registrants() {
        outcome.tell(state.others(host), Event::ReservationReleased);
    }
    Ok(())
}

/// Any registrant may, whoever holds the reservation, and also when nobody does.
fn clear(state: &mut State, outcome: &mut Outcome, host: HostId) {
    outcome.tell(state.others(host), Event::ReservationPreempted);
    state.held = None;
    state.registrants.clear();
    state.count();
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, C, Node};
    use super::*;

    #[test]
    fn a_holder_releases_its_type() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1), (B, 2), (C, 3)]);
            node.acquire(A, 1, kind).expect("acquired");
            let before = node.generation();
            for other in ReservationType::ALL.into_iter().filter(|other| *other != kind) {
                assert_eq!(node.release(A, 1, other), Err(Refusal::InvalidField), "{kind:?} {other:?}");
            }
            let outcome = node.release(A, 1, kind).expect("released");
            let told: &[(u8, Event)] = match kind {
                ReservationType::WriteExclusive | ReservationType::ExclusiveAccess => &[],
                _ => &[(B, Event::ReservationReleased), (C, Event::ReservationReleased)],
            };
            assert_eq!(Node::told(&outcome), told, "{kind:?}");
            assert_eq!((node.kind(), node.generation()), (None, before));
            assert_eq!(node.keys(), [(A, 1), (B, 2), (C, 3)], "all stay registered");
        }
    }

    #[test]
    fn whoever_holds_nothing_releases_nothing() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1), (B, 2)]);
            assert_eq!(node.release(A, 1, kind), Ok(Outcome::default()), "no reservation");
            node.acquire(A, 1, ReservationType::WriteExclusive).expect("acquired");
            assert_eq!(node.release(B, 2, kind), Ok(Outcome::default()), "another's");
            assert_eq!(node.holders(), [A]);
        }
    }

    #[test]
    fn any_of_all_registrants_releases_for_all() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        node.acquire(A, 1, ReservationType::WriteExclusiveAllRegistrants).expect("acquired");
        let outcome = node.release(B, 2, ReservationType::WriteExclusiveAllRegistrants).expect("released");
        assert_eq!(Node::told(&outcome), [(A, Event::ReservationReleased)]);
        assert_eq!(node.kind(), None);
    }

    #[test]
    fn only_registrants_with_their_key_release_and_clear() {
        let mut node = Node::with(&[(A, 1)]);
        node.acquire(A, 1, ReservationType::WriteExclusive).expect("acquired");
        assert_eq!(node.release(B, 1, ReservationType::WriteExclusive), Err(Refusal::ReservationConflict));
        assert_eq!(node.release(A, 2, ReservationType::WriteExclusive), Err(Refusal::ReservationConflict));
        assert_eq!(node.clear(B, 1), Err(Refusal::ReservationConflict));
        assert_eq!(node.clear(A, 2), Err(Refusal::ReservationConflict));
        assert_eq!(node.holders(), [A]);
    }

    #[test]
    fn any_registrant_clears_everything() {
        for kind in ReservationType::ALL {
            let mut node = Node::with(&[(A, 1), (B, 2), (C, 3)]);
            node.acquire(A, 1, kind).expect("acquired");
            let before = node.generation();
            let outcome = node.clear(B, 2).expect("cleared");
            assert_eq!(Node::told(&outcome), [(A, Event::ReservationPreempted), (C, Event::ReservationPreempted)]);
            assert_eq!((node.kind(), node.keys(), node.generation()), (None, vec![], before + 1));
        }
    }

    #[test]
    fn clearing_needs_no_reservation() {
        let mut node = Node::with(&[(A, 1), (B, 2)]);
        let outcome = node.clear(A, 1).expect("cleared");
        assert_eq!(Node::told(&outcome), [(B, Event::ReservationPreempted)]);
        assert_eq!(node.keys(), []);
    }
}
