//! Pollers: what a reactor looks at once a turn because nobody tells it, such as a ring in memory that another process fills.
//!
//! A reactor that is about to sleep asks each poller to be told from then on, and sleeps only if none has work after all. Who is told, is told
//! by a descriptor on which a task of the reactor waits ([`super::EventFd`]).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Something that a reactor looks at once a turn.
pub trait Poller {
    /// Looks, wakes the tasks that have something to do, and says how much there was; 0 if nothing has happened.
    fn poll(&self) -> usize;

    /// The reactor is about to sleep: who brings work has to say so from now on. False if there is work after all.
    fn fall_asleep(&self) -> bool;

    /// The reactor is awake: nobody needs to say anything.
    fn awake(&self);
}

/// The pollers of a reactor.
#[derive(Default)]
pub(super) struct Pollers {
    all: RefCell<Vec<Rc<dyn Poller>>>,
    /// Those that came or went since the last turn.
    coming: RefCell<Vec<Rc<dyn Poller>>>,
    going: RefCell<Vec<Weak<dyn Poller>>>,
    changed: Cell<bool>,
}

/// A poller's place: it is looked at until this is dropped.
pub struct Polled {
    pollers: Rc<Pollers>,
    poller: Weak<dyn Poller>,
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.pollers.going.borrow_mut().push(self.poller.clone());
        self.pollers.changed.set(true);
    }
}

impl Pollers {
    pub(super) fn add(self: &Rc<Self>, poller: Rc<dyn Poller>) -> Polled {
        let polled = Polled { pollers: self.clone(), poller: Rc::downgrade(&poller) };
        self.coming.borrow_mut().push(poller);
        self.changed.set(true);
        polled
    }

    /// Looks at all of them; how much there was to do.
    #[inline]
    pub(super) fn poll(&self) -> usize {
        if self.changed.get() {
            self.change();
        }
        self.all.borrow().iter().map(|poller| poller.poll()).sum()
    }

    /// Not within a poller's call, where the list is in use.
    #[cold]
    fn change(&self) {
        let mut all = self.all.borrow_mut();
        all.append(&mut self.coming.borrow_mut());
        let going = std::mem::take(&mut *self.going.borrow_mut());
        let (stay, gone): (Vec<_>, Vec<_>) = all
            .drain(..)
            .partition(|poller| !going.iter().any(|leaving| std::ptr::addr_eq(leaving.as_ptr(), Rc::as_ptr(poller))));
        *all = stay;
        self.changed.set(false);
        drop(all);
        // Whatever they hold may have pollers of its own.
        drop(gone);
    }

    /// Whether the reactor may sleep as far as they are concerned; if not, they are as awake as before.
    pub(super) fn fall_asleep(&self) -> bool {
        let all = self.all.borrow();
        let may_sleep = !self.changed.get() && all.iter().all(|poller| poller.fall_asleep());
        if !may_sleep {
            all.iter().for_each(|poller| poller.awake());
        }
        may_sleep
    }

    pub(super) fn awake(&self) {
        self.all.borrow().iter().for_each(|poller| poller.awake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter {
        work: Cell<usize>,
        looks: Cell<usize>,
        asleep: Cell<bool>,
    }

    impl Poller for Counter {
        fn poll(&self) -> usize {
            self.looks.set(self.looks.get() + 1);
            self.work.take()
        }

        fn fall_asleep(&self) -> bool {
            self.asleep.set(true);
            self.work.get() == 0
        }

        fn awake(&self) {
            self.asleep.set(false);
        }
    }

    #[test]
    fn pollers_are_looked_at_until_they_are_taken_out() {
        let pollers = Rc::<Pollers>::default();
        let (one, other) = (Rc::<Counter>::default(), Rc::<Counter>::default());
        let place = pollers.add(one.clone());
        let other_place = pollers.add(other.clone());
        one.work.set(2);
        other.work.set(1);
        assert_eq!((pollers.poll(), pollers.poll()), (3, 0));
        drop(place);
        one.work.set(5);
        assert_eq!((pollers.poll(), one.looks.get(), other.looks.get()), (0, 2, 3));
        drop(other_place);
        pollers.poll();
        assert_eq!((Rc::strong_count(&one), Rc::strong_count(&other)), (1, 1));
    }

    #[test]
    fn one_that_has_work_keeps_all_awake() {
        let pollers = Rc::<Pollers>::default();
        let (one, other) = (Rc::<Counter>::default(), Rc::<Counter>::default());
        let _places = (pollers.add(one.clone()), pollers.add(other.clone()));
        assert!(!pollers.fall_asleep(), "a new one was not looked at yet");
        pollers.poll();
        assert!(pollers.fall_asleep() && one.asleep.get() && other.asleep.get());
        pollers.awake();
        other.work.set(1);
        assert!(!pollers.fall_asleep() && !one.asleep.get() && !other.asleep.get());
    }
}
