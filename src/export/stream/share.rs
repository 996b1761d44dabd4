//! How the buffers of a reactor are shared out among its connections.
//!
//! A connection has two accounts: what it holds until its answers are sent, and what waits for data that the peer was asked for. An account may
//! always hold its floor: there are never more connections than floors fit into half of the memory. What some hold beyond that comes out of
//! the other half, all of them together; so nobody waits for a buffer that a peer keeps by not doing its part.

use std::cell::Cell;

/// What each connection may hold.
pub(in crate::export) struct Share {
    pool_bytes: usize,
    /// Of one account.
    floor: usize,
    connections: Cell<usize>,
    /// What accounts hold beyond their floors.
    beyond: Cell<usize>,
}

impl Share {
    /// Each connection may always hold `least` bytes, one half on each account.
    pub(in crate::export) fn new(pool_bytes: usize, least: usize) -> Self {
        Self { pool_bytes, floor: least / 2, connections: Cell::new(0), beyond: Cell::new(0) }
    }

    /// How many connections are carried; at least one.
    pub(in crate::export) fn most_connections(&self) -> usize {
        (self.pool_bytes / 2 / (2 * self.floor)).max(1)
    }

    /// What each connection may hold; as much again is left for those that come.
    pub(in crate::export) fn bytes(&self) -> usize {
        self.pool_bytes / (self.connections.get() + 1)
    }

    /// Whether an account that holds `before` may hold `after`. One that holds nothing may always hold its floor.
    pub(in crate::export) fn has_room(&self, before: usize, after: usize) -> bool {
        let more = self.beyond_floor(after) - self.beyond_floor(before);
        after <= self.bytes() / 2 && (more == 0 || self.beyond.get() + more <= self.pool_bytes / 2)
    }

    /// An account that held `before` holds `after` now.
    pub(in crate::export) fn holds(&self, before: usize, after: usize) {
        self.beyond.set(self.beyond.get() + self.beyond_floor(after) - self.beyond_floor(before));
    }

    fn beyond_floor(&self, held: usize) -> usize {
        held.saturating_sub(self.floor)
    }

    /// One connection more.
    pub(in crate::export) fn join(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// One connection less.
    pub(in crate::export) fn leave(&self) {
        self.connections.set(self.connections.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hoarders_leave_half_of_the_memory_to_the_others() {
        let share = Share::new(2000, 100);
        assert_eq!(share.most_connections(), 10);
        let mut accounts = [0; 20];
        for account in &mut accounts {
            if share.connections.get() < 10 {
                share.join();
            }
            while share.has_room(*account, *account + 10) {
                share.holds(*account, *account + 10);
                *account += 10;
            }
        }
        assert!(accounts[0] > accounts[1] && accounts[1] > accounts[19], "{accounts:?}");
        assert!(accounts.iter().all(|&held| held >= 50), "a floor is missing: {accounts:?}");
        assert!(accounts.iter().sum::<usize>() <= 2000, "more than there is: {accounts:?}");
        share.holds(accounts[0], 0);
        assert!(share.has_room(accounts[19], accounts[19] + 10));
    }
}
