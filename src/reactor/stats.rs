//! What a reactor counts about itself: written by the reactor alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one reactor, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ReactorStats {
    sleeps: AtomicU64,
}

impl ReactorStats {
    // One writer: a load and a store do, and cost no locked instruction.
    pub(super) fn count_sleep(&self) {
        self.sleeps.store(self.sleeps.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// How often the reactor went to sleep.
    pub fn sleeps(&self) -> u64 {
        self.sleeps.load(Ordering::Relaxed)
    }
}
