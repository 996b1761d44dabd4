//! A lock for tasks of one reactor, held over awaits.

use std::cell::Cell;

use crate::reactor::WaitList;

/// One task at a time has it.
#[derive(Default)]
pub(super) struct Lock {
    is_held: Cell<bool>,
    waiting: WaitList,
}

/// The lock, held until this is dropped.
pub(super) struct Held<'a>(&'a Lock);

impl Lock {
    /// Waits until nobody else has it.
    pub(super) async fn lock(&self) -> Held<'_> {
        self.waiting.until(|| (!self.is_held.replace(true)).then_some(())).await;
        Held(self)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.is_held.set(false);
        self.0.waiting.wake_all();
    }
}
