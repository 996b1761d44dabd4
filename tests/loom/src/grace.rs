//! A census for one reactor, as `src/reactor/census.rs` works between threads: who drains asks, and the reactor answers between two commands. A
//! command that had begun when it was asked is therefore over when the answer comes.

use crate::atomic::{AtomicBool, Ordering};

/// What a reactor and those who drain it share.
pub struct Grace {
    asked: AtomicBool,
    answered: AtomicBool,
}

impl Default for Grace {
    fn default() -> Self {
        Self { asked: AtomicBool::new(false), answered: AtomicBool::new(false) }
    }
}

impl Grace {
    /// Waits until all that the reactor had begun has ended. Once in a model.
    pub fn drain(&self) {
        // Release: as the mailbox.
        self.asked.store(true, Ordering::Release);
        // Acquire: as the lock under which the answer is given.
        while !self.answered.load(Ordering::Acquire) {
            loom::thread::yield_now();
        }
    }

    /// The reactor has nothing in flight.
    pub fn turn(&self) {
        if self.asked.load(Ordering::Acquire) {
            self.answered.store(true, Ordering::Release);
        }
    }

    /// The reactor has nothing in flight any more: it leaves the census.
    pub fn leave(&self) {
        self.answered.store(true, Ordering::Release);
    }
}
