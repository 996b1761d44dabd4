//! Waiting between tasks of one reactor.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::task::{Poll, Waker};

/// Tasks that wait for a condition that somebody else makes true.
#[derive(Debug, Default)]
pub struct WaitList {
    wakers: RefCell<Vec<Waker>>,
}

impl WaitList {
    /// A list with room for `tasks` without allocating.
    pub fn with_room(tasks: usize) -> Self {
        Self { wakers: RefCell::new(Vec::with_capacity(tasks)) }
    }

    /// Waits until `check` gives a value; it is asked again whenever the list is woken.
    pub fn until<'a, T>(&'a self, mut check: impl FnMut() -> Option<T> + 'a) -> impl Future<Output = T> + 'a {
        std::future::poll_fn(move |cx| match check() {
            Some(value) => Poll::Ready(value),
            None => {
                self.keep(cx.waker());
                Poll::Pending
            }
        })
    }

    /// Keeps a task once, however often it looks before the list is woken: a watchdog may look for as long as the process lives.
    fn keep(&self, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|kept| kept.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Wakes all; each asks its check again.
    pub fn wake_all(&self) {
        for waker in self.wakers.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// Hands values to one task, one at a time: how a queue gives a command to one of its slots.
pub struct Handoff<T> {
    value: Cell<Option<T>>,
    waiting: Cell<Option<Waker>>,
}

impl<T> Default for Handoff<T> {
    fn default() -> Self {
        Self { value: Cell::new(None), waiting: Cell::new(None) }
    }
}

impl<T> Handoff<T> {
    /// Gives a value to the task.
    ///
    /// # Panics
    /// If the value before was not taken: only a slot that asked for work is given some.
    pub fn give(&self, value: T) {
        assert!(self.value.replace(Some(value)).is_none(), "the slot has a command already");
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits for the next value.
    pub fn take(&self) -> impl Future<Output = T> + '_ {
        std::future::poll_fn(|cx| match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.waiting.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
    }
}

/// Something that happens once, and that any number of tasks wait for.
#[derive(Debug, Default)]
pub struct Event {
    happened: Cell<bool>,
    waiting: WaitList,
}

impl Event {
    /// It happens now.
    pub fn set(&self) {
        self.happened.set(true);
        self.waiting.wake_all();
    }

    /// Waits until it has happened.
    pub async fn wait(&self) {
        self.waiting.until(|| self.happened.get().then_some(())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn a_list_keeps_a_task_once_however_often_it_looks() {
        let event = Event::default();
        for _ in 0..100 {
            assert!(pin!(event.wait()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(event.waiting.wakers.borrow().len(), 1);
        event.set();
        assert!(pin!(event.wait()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
