//! Which reactor takes a connection, and how many there are.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Why a connection is not taken.
#[derive(Debug, Error)]
pub(crate) enum Refused {
    #[error("there are {0} connections already; raise max_connections")]
    TooMany(usize),
    #[error("no reactor's memory carries another connection; raise memory_mib")]
    NoMemory,
}

struct Reactor {
    connections: usize,
    most: usize,
}

struct State {
    reactors: Vec<Reactor>,
    /// Where the search for the reactor with the fewest connections begins, so that equals take turns.
    next: usize,
}

/// The connections of a server.
pub(crate) struct Connections {
    state: Mutex<State>,
    ended: Condvar,
    most: usize,
}

/// A connection's place; given up when dropped.
pub(crate) struct Admission {
    connections: Arc<Connections>,
    reactor: usize,
}

impl Connections {
    /// At most `most` in all, and on each reactor as many as it carries.
    pub(crate) fn new(most: usize, per_reactor: &[usize]) -> Arc<Self> {
        let reactors = per_reactor.iter().map(|&most| Reactor { connections: 0, most }).collect();
        Arc::new(Self { state: Mutex::new(State { reactors, next: 0 }), ended: Condvar::new(), most })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it counts")
    }

    pub(crate) fn count(&self) -> usize {
        self.state().count()
    }

    /// Gives a place on the reactor that has the fewest connections.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, Refused> {
        let mut state = self.state();
        let count = state.count();
        if count >= self.most {
            return Err(Refused::TooMany(count));
        }
        let all = state.reactors.len();
        let reactor = (0..all)
            .map(|n| (state.next + n) % all)
            .filter(|&n| state.reactors[n].connections < state.reactors[n].most)
            .min_by_key(|&n| state.reactors[n].connections)
            .ok_or(Refused::NoMemory)?;
        state.reactors[reactor].connections += 1;
        state.next = (reactor + 1) % all;
        Ok(Admission { connections: self.clone(), reactor })
    }

    /// Waits until all have ended; false if they have not by then.
    pub(crate) fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while state.count() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self.ended.wait_timeout(state, left).expect("no thread panics while it counts").0;
        }
        true
    }
}

impl State {
    fn count(&self) -> usize {
        self.reactors.iter().map(|reactor| reactor.connections).sum()
    }
}

impl Admission {
    /// The reactor, by its place in the list of reactors.
    pub(crate) fn reactor(&self) -> usize {
        self.reactor
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.connections.state().reactors[self.reactor].connections -= 1;
        self.connections.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_and_bounded() {
        let connections = Connections::new(4, &[2, 3]);
        let mut held: Vec<_> = (0..4).map(|_| connections.admit().expect("a place")).collect();
        assert_eq!(held.iter().map(Admission::reactor).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert!(matches!(connections.admit(), Err(Refused::TooMany(4))));
        assert!(!connections.wait_until_none(Instant::now()));
        held.remove(0);
        assert_eq!(connections.admit().map(|a| a.reactor()).ok(), Some(0));
        held.clear();
        assert!(connections.wait_until_none(Instant::now()));
    }

    #[test]
    fn a_full_reactor_is_passed_over() {
        let connections = Connections::new(10, &[1, 2]);
        let held: Vec<_> = (0..3).map(|_| connections.admit().expect("a place")).collect();
        assert_eq!(held.iter().map(Admission::reactor).collect::<Vec<_>>(), [0, 1, 1]);
        assert!(matches!(connections.admit(), Err(Refused::NoMemory)));
    }
}
