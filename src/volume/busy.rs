//! Waiting for a cluster that somebody copies. The word of the map says so itself; here is only who wants to know when it is over.

use std::future::Future;
use std::sync::Mutex;
use std::task::{Poll, Waker};

use super::units::VolumeId;

/// A cluster of a volume.
pub(super) type Spot = (VolumeId, u64);

/// Who waits for which cluster.
#[derive(Default)]
pub(super) struct Busy {
    waiting: Mutex<Vec<(Spot, Waker)>>,
}

impl Busy {
    /// Waits while `is_busy` says so. It is asked again whenever a copy of this cluster ends.
    pub(super) fn wait<'a>(&'a self, spot: Spot, is_busy: impl Fn() -> bool + 'a) -> impl Future<Output = ()> + 'a {
        std::future::poll_fn(move |cx| {
            // Under the lock: a copy that ends after the question wakes who has been put into the list by then.
            let mut waiting = self.lock();
            if !is_busy() {
                return Poll::Ready(());
            }
            if !waiting.iter().any(|(awaited, waker)| *awaited == spot && waker.will_wake(cx.waker())) {
                waiting.push((spot, cx.waker().clone()));
            }
            Poll::Pending
        })
    }

    /// The word of this cluster is not busy any more.
    pub(super) fn over(&self, spot: Spot) {
        self.lock().retain(|(awaited, waker)| {
            if *awaited == spot {
                waker.wake_by_ref();
            }
            *awaited != spot
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Spot, Waker)>> {
        self.waiting.lock().expect("no thread panics while it holds this lock")
    }
}
