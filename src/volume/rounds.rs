//! Rounds of work that somebody does for everybody: commits, checkpoints, cycles.
//!
//! Rounds are numbered from 1. Whoever wants something to be covered asks for a round that has not begun ([`Rounds::ask`]): all who ask while one is
//! under way share the next. The worker, on the pool's home reactor, waits for such a wish ([`Rounds::wanted`]), begins a round and ends it.
//!
//! `begun` is raised before the worker looks at anything, so what was done before a load of `begun` that gave n is covered by round n + 1.

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};

use crate::device::IoError;

/// Numbered rounds.
#[derive(Default)]
pub(super) struct Rounds {
    begun: AtomicU64,
    /// The last round that did what it had to.
    good: AtomicU64,
    wanted: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: u64,
    is_closed: bool,
    worker: Option<Waker>,
    waiting: Vec<(u64, Waker)>,
}

impl Rounds {
    /// The number of the first round that covers what was done until now.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.begun.load(Ordering::SeqCst) + 1
    }

    /// The last round that did what it had to.
    pub(super) fn good(&self) -> u64 {
        self.good.load(Ordering::SeqCst)
    }

    /// Whether a round is under way, or the last one failed.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.good.load(Ordering::SeqCst) != self.begun.load(Ordering::SeqCst)
    }

    /// Wants a round that covers everything until now; gives its number.
    pub(super) fn request(&self) -> u64 {
        let number = self.next();
        self.wanted.fetch_max(number, Ordering::SeqCst);
        if let Some(worker) = self.lock().worker.take() {
            worker.wake();
        }
        number
    }

    /// Wants a round that covers everything until now, and waits for it.
    pub(super) async fn ask(&self) -> Result<(), IoError> {
        self.wait(self.request()).await
    }

    /// Waits until round `number` or a later one has done what it had to; fails if it did not, or if there will be none.
    pub(super) fn wait(&self, number: u64) -> impl Future<Output = Result<(), IoError>> + '_ {
        std::future::poll_fn(move |cx| {
            let mut state = self.lock();
            if self.good() >= number {
                return Poll::Ready(Ok(()));
            }
            if state.ended >= number || state.is_closed {
                return Poll::Ready(Err(IoError::Media));
            }
            state.waiting.push((number, cx.waker().clone()));
            Poll::Pending
        })
    }

    /// The worker waits until somebody wants a round; false once there will be none.
    pub(super) fn wanted(&self) -> impl Future<Output = bool> + '_ {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_closed {
                return Poll::Ready(false);
            }
            if self.wanted.load(Ordering::SeqCst) >= self.next() {
                return Poll::Ready(true);
            }
            state.worker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// A round begins.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A round ends.
    pub(super) fn end(&self, number: u64, outcome: Result<(), IoError>) {
        let mut state = self.lock();
        if outcome.is_ok() {
            self.good.fetch_max(number, Ordering::SeqCst);
        }
        state.ended = state.ended.max(number);
        state.waiting.retain(|(awaited, waker)| {
            let is_over = *awaited <= number;
            if is_over {
                waker.wake_by_ref();
            }
            !is_over
        });
    }

    /// There will be no more rounds.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.worker.take().into_iter().for_each(Waker::wake);
        state.waiting.drain(..).for_each(|(_, waker)| waker.wake());
    }

    /// Whether there will be no more rounds.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_asks_during_a_round_gets_the_next_one() {
        let rounds = Rounds::default();
        assert!(poll(pin!(rounds.wanted())).is_pending());
        let mut first = pin!(rounds.ask());
        assert!(poll(first.as_mut()).is_pending());
        assert_eq!(poll(pin!(rounds.wanted())), Poll::Ready(true));
        let one = rounds.begin();
        let mut second = pin!(rounds.ask());
        let mut third = pin!(rounds.ask());
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        rounds.end(one, Ok(()));
        assert_eq!(poll(first), Poll::Ready(Ok(())));
        assert!(poll(second.as_mut()).is_pending());
        let two = rounds.begin();
        rounds.end(two, Err(IoError::Media));
        assert_eq!(poll(second), Poll::Ready(Err(IoError::Media)));
        assert!(rounds.is_open());
        assert_eq!(poll(third), Poll::Ready(Err(IoError::Media)));
        assert!(poll(pin!(rounds.wanted())).is_pending());
        rounds.close();
        assert_eq!(poll(pin!(rounds.wanted())), Poll::Ready(false));
        assert_eq!(poll(pin!(rounds.ask())), Poll::Ready(Err(IoError::Media)));
    }
}
