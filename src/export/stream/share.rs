//! How the buffers of a reactor are shared out among its connections.

use std::cell::Cell;

/// What each connection may hold.
pub(in crate::export) struct Share {
    pool_bytes: usize,
    connections: Cell<usize>,
}

impl Share {
    pub(in crate::export) fn new(pool_bytes: usize) -> Self {
        Self { pool_bytes, connections: Cell::new(0) }
    }

    /// What each connection may hold; as much again is left for those that come.
    pub(in crate::export) fn bytes(&self) -> usize {
        self.pool_bytes / (self.connections.get() + 1)
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
