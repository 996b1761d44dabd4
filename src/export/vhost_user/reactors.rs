//! The reactors of a server, as sessions use them: the queues of a disk go round, each session from another one on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::reactor::Remote;

/// Numbers for servers, so that several can share a reactor.
static NEXT_SERVER: AtomicU64 = AtomicU64::new(0);

/// The reactors of a server.
pub(super) struct Reactors {
    server: u64,
    all: Vec<Remote>,
    next: AtomicUsize,
    next_number: AtomicU64,
}

impl Reactors {
    /// # Panics
    /// If there are none.
    pub(super) fn new(all: &[Remote]) -> Self {
        assert!(!all.is_empty(), "a server has reactors");
        let server = NEXT_SERVER.fetch_add(1, Ordering::Relaxed);
        Self { server, all: all.to_vec(), next: AtomicUsize::default(), next_number: AtomicU64::default() }
    }

    /// The server's number.
    pub(super) fn server(&self) -> u64 {
        self.server
    }

    pub(super) fn all(&self) -> &[Remote] {
        &self.all
    }

    /// The reactor of this number, going round.
    pub(super) fn remote(&self, number: usize) -> &Remote {
        &self.all[number % self.all.len()]
    }

    /// Where the next session begins.
    pub(super) fn next(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.all.len()
    }

    /// A number for a queue.
    pub(super) fn new_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}
