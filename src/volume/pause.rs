//! A pause of a volume's writes, in which its root is forked or replaced.
//!
//! Every write counts among the volume's writes in flight and then looks whether there is a pause; who makes a pause says so first and then
//! waits until what was in flight has ended. A write that did not see the pause was counted before, on its own reactor, and is waited for; see
//! [`crate::reactor::Census`] for the argument.

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

/// Whether a volume's writes have to wait.
#[derive(Default)]
pub(super) struct Pause {
    is_on: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

/// A pause, until this is dropped.
pub(super) struct Paused<'a>(&'a Pause);

impl Pause {
    /// Whether writes have to wait.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Begins a pause: writes that come from now on wait. One at a time.
    pub(super) fn begin(&self) -> Paused<'_> {
        self.is_on.store(true, Ordering::Release);
        Paused(self)
    }

    /// Waits until there is no pause.
    pub(super) fn over(&self) -> impl Future<Output = ()> + '_ {
        std::future::poll_fn(|cx| {
            let mut waiting = self.waiting.lock().expect("no thread panics while it holds this lock");
            if !self.is_on() {
                return Poll::Ready(());
            }
            waiting.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // Release: who goes on sees the root that was put in place.
        self.0.is_on.store(false, Ordering::Release);
        let waiting = std::mem::take(&mut *self.0.waiting.lock().expect("no thread panics while it holds this lock"));
        waiting.into_iter().for_each(Waker::wake);
    }
}
