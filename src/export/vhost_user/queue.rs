//! A queue of a guest's disk on its reactor: slot tasks take requests from the ring, and a poller wakes them and tells the guest what is done.
//!
//! The ring lies in the guest's memory, so nobody says when a request comes while the reactor is awake: the poller looks once a turn and wakes one
//! slot, which wakes the next if more was noticed. Nobody else looks: the driver's core would have to give away the line that it writes. Before the
//! reactor sleeps, the guest is asked to kick. What is done is told to the guest once a turn, if it wants to be told.
//!
//! What always holds: memory that the front end takes back is not touched once that was answered (requests at work are waited for first);
//! a ring that says what cannot be ends this queue alone.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};

use tracing::warn;

use crate::disk::{Cost, DiskQueue, Tap};
use crate::reactor::profile::{Stage, during, stage};
use crate::reactor::{EventFd, Flight, Member, Polled, Poller, Reactor, WaitList};

use super::exported::Exported;
use super::memory::GuestMemory;
use super::ring::{Chain, Head, InflightQueue, Layout, Ring, RingError, RingFeatures};
use super::signal::Signal;
use super::slot;

/// What a queue is made of.
pub(super) struct QueueSetup {
    /// Its number on the disk, for the log.
    pub(super) index: usize,
    pub(super) exported: Arc<Exported>,
    /// Whether writes are durable before they are answered.
    pub(super) write_through: Arc<AtomicBool>,
    pub(super) memory: Arc<GuestMemory>,
    pub(super) layout: Layout,
    pub(super) features: RingFeatures,
    /// Where the ring was left.
    pub(super) base: u32,
    pub(super) inflight: Option<InflightQueue>,
    /// By which the guest wakes the reactor; without it the reactor does not sleep.
    pub(super) kick: Option<OwnedFd>,
    /// By which the guest is told what is done; without it, it looks itself.
    pub(super) call: Option<OwnedFd>,
    /// By which the front end is told that the queue is broken.
    pub(super) error: Option<OwnedFd>,
}

/// What a queue has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) errors: u64,
}

/// A queue.
pub(super) struct Queue {
    pub(super) exported: Arc<Exported>,
    pub(super) write_through: Arc<AtomicBool>,
    pub(super) disk: Rc<DiskQueue>,
    index: usize,
    tap: Tap,
    /// Where requests count while they work on the disk, if reservations may bind them.
    working: Option<Member>,
    ring: RefCell<Ring>,
    call: RefCell<Option<Signal>>,
    error: Option<Signal>,
    kick: Option<EventFd>,
    /// Slots that wait for a request; the last one to come is the first to go, as its memory is near.
    idle: RefCell<Vec<Waker>>,
    /// Slots with a request.
    busy: Cell<u32>,
    /// Requests that wait for the disk's limits: while there are any, the ring keeps the others.
    held_back: Cell<u32>,
    /// No requests are taken: memory changes.
    paused: Cell<bool>,
    ended: Cell<bool>,
    broken: Cell<bool>,
    /// Something is done that the guest was not told of.
    untold: Cell<bool>,
    at_rest: WaitList,
    tally: Cell<Tally>,
    polled: RefCell<Option<Polled>>,
}

impl Queue {
    /// Starts a queue; says what is wrong with it if it cannot be.
    pub(super) fn start(reactor: &Reactor, disk: Rc<DiskQueue>, setup: QueueSetup) -> Result<Rc<Self>, String> {
        let QueueSetup { index, exported, write_through, memory, layout, features, base, inflight, .. } = setup;
        let wrong = |what: &str, e: &dyn std::fmt::Display| format!("queue {index}: {what}: {e}");
        let signal = |what, fd: Option<OwnedFd>| fd.map(Signal::new).transpose().map_err(|e| wrong(what, &e));
        let ring = Ring::new(memory, layout, features, base, inflight).map_err(|e| wrong("its ring", &e))?;
        let kick = setup.kick.map(|fd| EventFd::new(reactor, fd)).transpose().map_err(|e| wrong("its kick", &e))?;
        let iodepth = exported.iodepth;
        let queue = Rc::new(Self {
            tap: disk.tap(&exported.of.consumer),
            working: exported.of.access.as_ref().map(|access| access.join(reactor)),
            exported,
            write_through,
            disk,
            index,
            ring: RefCell::new(ring),
            call: RefCell::new(signal("its call", setup.call)?),
            error: signal("its error", setup.error)?,
            kick,
            idle: RefCell::new(Vec::with_capacity(usize::from(iodepth))),
            busy: Cell::new(0),
            held_back: Cell::new(0),
            paused: Cell::new(false),
            ended: Cell::new(false),
            broken: Cell::new(false),
            untold: Cell::new(false),
            at_rest: WaitList::default(),
            tally: Cell::default(),
            polled: RefCell::default(),
        });
        queue.ring.borrow_mut().refuse_kicks();
        for _ in 0..iodepth {
            reactor.spawn(during(Stage::Command, slot::serve(queue.clone())));
        }
        reactor.spawn(queue.clone().listen());
        *queue.polled.borrow_mut() = Some(reactor.add_poller(queue.clone()));
        Ok(queue)
    }

    /// Waits for kicks. That there was one is enough: the reactor is awake, and looks.
    async fn listen(self: Rc<Self>) {
        if let Some(kick) = &self.kick {
            while kick.fired().await {}
        }
    }

    /// The next request, into `chain`; false when there will be none any more.
    pub(super) fn take<'a>(&'a self, chain: &'a mut Chain) -> impl Future<Output = bool> + 'a {
        std::future::poll_fn(move |cx| {
            if self.ended.get() {
                return Poll::Ready(false);
            }
            if self.may_take() && self.take_now(chain) {
                self.wake_next();
                return Poll::Ready(true);
            }
            self.idle.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    }

    fn may_take(&self) -> bool {
        !self.paused.get() && !self.broken.get() && self.held_back.get() == 0
    }

    /// Whether there is a slot for one more request.
    #[inline]
    fn has_room(&self) -> bool {
        self.may_take() && !self.idle.borrow().is_empty()
    }

    fn take_now(&self, chain: &mut Chain) -> bool {
        let _receive = stage(Stage::Receive);
        let mut ring = self.ring.borrow_mut();
        if !ring.has_noticed() {
            return false;
        }
        let next = ring.next(chain);
        drop(ring);
        match next {
            Ok(true) => {
                self.busy.set(self.busy.get() + 1);
                true
            }
            Ok(false) => false,
            Err(e) => {
                self.give_up(&e);
                false
            }
        }
    }

    /// Notices what is new in the ring, if there is a slot for it.
    #[inline]
    fn look(&self) {
        if !self.has_room() {
            return;
        }
        let looked = self.ring.borrow_mut().look();
        if let Err(e) = looked {
            self.give_up(&e);
        }
    }

    /// Wakes a slot that waits, if there is something for it; whether that is so.
    #[inline]
    fn wake_next(&self) -> bool {
        if !self.has_room() || !self.ring.borrow().has_noticed() {
            return false;
        }
        let waiting = self.idle.borrow_mut().pop();
        waiting.into_iter().for_each(Waker::wake);
        true
    }

    /// Answers a request.
    pub(super) fn complete(&self, head: Head, written: u32, is_ok: bool) {
        let _reply = stage(Stage::Reply);
        self.ring.borrow_mut().complete(head, written);
        self.untold.set(true);
        let Tally { requests, errors } = self.tally.get();
        self.tally.set(Tally { requests: requests + 1, errors: errors + u64::from(!is_ok) });
        self.leave();
    }

    /// Lets a request go without an answer: nobody is there who would want one, and whoever serves this queue next finds it begun.
    pub(super) fn abandon(&self) {
        self.leave();
    }

    fn leave(&self) {
        self.busy.set(self.busy.get() - 1);
        if self.busy.get() == 0 && (self.paused.get() || self.ended.get()) {
            self.at_rest.wake_all();
        }
    }

    /// A request begins to work on the disk: whoever takes its right away waits for it, if need be, until this is dropped.
    #[inline]
    pub(super) fn begin_work(&self) -> Option<Flight> {
        self.working.as_ref().map(Member::begin)
    }

    /// Waits until a request keeps within the disk's limits.
    #[inline]
    pub(super) async fn within_limits(&self, cost: Cost) {
        if !self.tap.passes(cost) {
            self.held_back.set(self.held_back.get() + 1);
            self.tap.wait(cost).await;
            self.held_back.set(self.held_back.get() - 1);
            self.wake_next();
        }
    }

    /// The ring is not as it has to be: this queue ends, and no other.
    #[cold]
    fn give_up(&self, why: &RingError) {
        if self.broken.replace(true) {
            return;
        }
        warn!("vhost_user {}: queue {} is given up: {why}", self.exported.socket(), self.index);
        self.error.iter().for_each(Signal::send);
    }

    /// Tells the guest what is done, if it wants to be told.
    #[inline]
    fn tell(&self) -> usize {
        if !self.untold.replace(false) || self.broken.get() || !self.ring.borrow_mut().wants_signal() {
            return 0;
        }
        self.call.borrow().iter().for_each(Signal::send);
        1
    }

    /// Tells the guest by another eventfd from now on. It may have missed what the one before said.
    pub(super) fn set_call(&self, call: Option<OwnedFd>) -> Result<(), String> {
        let call = call.map(Signal::new).transpose().map_err(|e| format!("queue {}: its call: {e}", self.index))?;
        call.iter().for_each(Signal::send);
        *self.call.borrow_mut() = call;
        Ok(())
    }

    /// The guest's memory is another one from now on. Ends when nothing touches the one before any more.
    pub(super) async fn change_memory(&self, memory: Arc<GuestMemory>) {
        self.paused.set(true);
        self.at_rest.until(|| (self.busy.get() == 0).then_some(())).await;
        let changed = self.ring.borrow_mut().set_memory(memory);
        if let Err(e) = changed {
            self.give_up(&e);
        }
        self.paused.set(false);
        self.wake_next();
    }

    /// Takes no more requests; ends when those at work have ended, and tells where the ring was left.
    pub(super) async fn end(&self) -> (u32, Tally) {
        self.ended.set(true);
        if self.exported.is_withdrawn() {
            self.tap.close();
        }
        self.kick.iter().for_each(EventFd::close);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.into_iter().for_each(Waker::wake);
        self.at_rest.until(|| (self.busy.get() == 0).then_some(())).await;
        self.tell();
        *self.polled.borrow_mut() = None;
        (self.ring.borrow().base(), self.tally.get())
    }
}

impl Poller for Queue {
    #[inline]
    fn poll(&self) -> usize {
        self.look();
        self.tell() + usize::from(self.wake_next())
    }

    fn fall_asleep(&self) -> bool {
        // The poller looks again when a slot has become free.
        if self.ended.get() || !self.has_room() {
            return true;
        }
        self.kick.is_some() && !self.ring.borrow_mut().want_kicks()
    }

    fn awake(&self) {
        // An ended queue's ring is the front end's again.
        if !self.broken.get() && !self.ended.get() {
            self.ring.borrow_mut().refuse_kicks();
        }
    }
}
