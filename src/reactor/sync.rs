//! Waiting between tasks of one reactor.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Reactor;

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

    /// Waits until it has happened, at most so long; whether it has.
    pub async fn happens_within(&self, reactor: &Reactor, time: Duration) -> bool {
        let mut happened = pin!(self.wait());
        let mut slept = pin!(reactor.sleep(time));
        std::future::poll_fn(|cx| match (happened.as_mut().poll(cx), slept.as_mut().poll(cx)) {
            (Poll::Ready(()), _) => Poll::Ready(true),
            (_, Poll::Ready(())) => Poll::Ready(false),
            _ => Poll::Pending,
        })
        .await
    }
}

/// Counts what is in flight, so that somebody can wait for what began before a moment while new work goes on.
///
/// Two epochs are counted: [`InFlight::drain`] lets what begins from then on count in the other one and waits until nothing is left in the
/// old one. Drains that come while one is under way share the next.
#[derive(Debug)]
pub struct InFlight {
    counts: [Cell<u32>; 2],
    /// The epoch in which new work counts.
    current: Cell<u8>,
    /// How often the epoch was changed.
    flips: Cell<u64>,
    /// How many of the changes have nothing left in their old epoch.
    settled: Cell<u64>,
    /// The change that somebody waits for.
    wanted: Cell<u64>,
    waiting: WaitList,
}

/// Drains at once, of one thing that counts, that no list outgrows in ordinary use: commands drain on the data path, where nothing is allocated.
pub(super) const DRAINS: usize = 64;

impl Default for InFlight {
    fn default() -> Self {
        Self {
            counts: Default::default(),
            current: Cell::default(),
            flips: Cell::default(),
            settled: Cell::default(),
            wanted: Cell::default(),
            waiting: WaitList::with_room(DRAINS),
        }
    }
}

/// Something in flight, until it is dropped.
#[derive(Debug)]
#[must_use = "what is in flight is counted until this is dropped"]
pub struct Flight {
    among: Rc<InFlight>,
    epoch: u8,
}

impl InFlight {
    /// Something begins.
    #[inline]
    pub fn begin(self: &Rc<Self>) -> Flight {
        let epoch = self.current.get();
        let count = &self.counts[usize::from(epoch)];
        count.set(count.get() + 1);
        Flight { among: self.clone(), epoch }
    }

    /// How much is in flight.
    pub fn count(&self) -> u32 {
        self.counts.iter().map(Cell::get).sum()
    }

    /// Waits until everything that began before this call has ended.
    pub fn drain(&self) -> impl Future<Output = ()> + '_ {
        let target = self.flips.get() + 1;
        self.wanted.set(target);
        if self.settled.get() == self.flips.get() {
            self.flip();
        }
        self.waiting.until(move || (self.settled.get() >= target).then_some(()))
    }

    fn flip(&self) {
        let old = self.current.get();
        self.current.set(1 - old);
        self.flips.set(self.flips.get() + 1);
        if self.counts[usize::from(old)].get() == 0 {
            self.settle();
        }
    }

    fn settle(&self) {
        self.settled.set(self.flips.get());
        self.waiting.wake_all();
        if self.wanted.get() > self.flips.get() {
            self.flip();
        }
    }

    #[inline]
    fn end(&self, epoch: u8) {
        let count = &self.counts[usize::from(epoch)];
        count.set(count.get() - 1);
        if epoch != self.current.get() && count.get() == 0 {
            self.settle();
        }
    }
}

impl Drop for Flight {
    #[inline]
    fn drop(&mut self) {
        self.among.end(self.epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_done(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_drain_waits_for_what_began_before_it_and_for_nothing_else() {
        let in_flight = Rc::new(InFlight::default());
        assert!(is_done(pin!(in_flight.drain())));
        let (old, older) = (in_flight.begin(), in_flight.begin());
        let mut first = pin!(in_flight.drain());
        let new = in_flight.begin();
        drop(older);
        assert!(!is_done(first.as_mut()));
        // Comes while the first is under way, and waits for what began in between.
        let mut second = pin!(in_flight.drain());
        let third = pin!(in_flight.drain());
        let newest = in_flight.begin();
        drop(old);
        assert!(is_done(first));
        assert!(!is_done(second.as_mut()));
        drop(newest);
        drop(new);
        assert!(is_done(second));
        assert!(is_done(third));
        assert_eq!(in_flight.count(), 0);
        assert!(is_done(pin!(in_flight.drain())));
    }

    #[test]
    fn a_forgotten_drain_holds_up_no_other() {
        let in_flight = Rc::new(InFlight::default());
        let old = in_flight.begin();
        drop(in_flight.drain());
        drop(in_flight.drain());
        drop(old);
        let last = in_flight.begin();
        let mut drain = pin!(in_flight.drain());
        assert!(!is_done(drain.as_mut()));
        drop(last);
        assert!(is_done(drain));
    }
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
