//! The executor: the slot tasks of one reactor and the queue of those that can go on.
//!
//! A task is one boxed future that is made when a queue is made and lives as long as the queue. Waking a task pushes its
//! number to a queue of the reactor: no allocation, no atomic operation. A waker is the reactor's and the task's number packed
//! into one word; woken on another thread, it posts the number to the reactor's mailbox instead. A waker that outlives its task
//! wakes whatever task has the number then, which costs one spurious poll and is otherwise harmless.
//!
//! Invariants: a task is in the ready queue at most once (`queued`); the ready queue has room for every task; an unfinished task
//! is never dropped while its reactor runs.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, RwLock, Weak};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use super::mailbox::Mailbox;

/// A task's number on its reactor.
pub(super) type TaskId = u32;

type BoxedTask = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// The executor of the reactor that runs on this thread.
    static CURRENT: Cell<*const Executor> = const { Cell::new(std::ptr::null()) };
}

/// The mailboxes of all reactors of the process, for wakers used on other threads.
static MAILBOXES: RwLock<Vec<Weak<Mailbox>>> = RwLock::new(Vec::new());

/// Gives a reactor its number in the process and makes it reachable for wakers.
pub(super) fn enrol(mailbox: &Arc<Mailbox>) -> u32 {
    let mut all = MAILBOXES.write().expect("no thread panics while it holds this lock");
    all.push(Arc::downgrade(mailbox));
    (all.len() - 1) as u32
}

/// The tasks of one reactor.
pub(super) struct Executor {
    reactor: u32,
    tasks: RefCell<Vec<Option<BoxedTask>>>,
    queued: RefCell<Vec<Cell<bool>>>,
    unused: RefCell<Vec<TaskId>>,
    ready: RefCell<VecDeque<TaskId>>,
    alive: Cell<usize>,
}

impl Executor {
    pub(super) fn new(reactor: u32) -> Self {
        Self {
            reactor,
            tasks: RefCell::default(),
            queued: RefCell::default(),
            unused: RefCell::default(),
            ready: RefCell::default(),
            alive: Cell::new(0),
        }
    }

    /// Runs `body` with this executor as the thread's own, so that wakers used in it take the short way.
    pub(super) fn enter<T>(&self, body: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(self);
        let result = body();
        CURRENT.set(before);
        result
    }

    /// Adds a task and queues it.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let boxed: BoxedTask = Box::pin(future);
        let id = self.unused.borrow_mut().pop();
        let id = match id {
            Some(id) => {
                self.tasks.borrow_mut()[id as usize] = Some(boxed);
                id
            }
            None => {
                let mut tasks = self.tasks.borrow_mut();
                tasks.push(Some(boxed));
                self.queued.borrow_mut().push(Cell::new(false));
                let mut ready = self.ready.borrow_mut();
                let missing = tasks.len().saturating_sub(ready.len());
                ready.reserve(missing);
                self.unused.borrow_mut().reserve(tasks.len());
                (tasks.len() - 1) as TaskId
            }
        };
        self.alive.set(self.alive.get() + 1);
        self.wake(id);
    }

    /// Queues a task, unless it is queued already or gone.
    #[inline]
    pub(super) fn wake(&self, id: TaskId) {
        if let Some(queued) = self.queued.borrow().get(id as usize)
            && !queued.replace(true)
        {
            self.ready.borrow_mut().push_back(id);
        }
    }

    /// Tasks that are not finished.
    pub(super) fn alive(&self) -> usize {
        self.alive.get()
    }

    /// Polls each task that is ready now once; those that get ready meanwhile wait for the next call, so that completions are
    /// reaped in between. Returns how many were polled.
    pub(super) fn run_ready(&self) -> usize {
        let count = self.ready.borrow().len();
        for _ in 0..count {
            let Some(id) = self.ready.borrow_mut().pop_front() else { break };
            self.queued.borrow()[id as usize].set(false);
            // Taken out of the table while it runs, so that it can spawn others.
            let Some(mut task) = self.tasks.borrow_mut()[id as usize].take() else { continue };
            let waker = packed_waker(self.reactor, id);
            match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => self.tasks.borrow_mut()[id as usize] = Some(task),
                Poll::Ready(()) => {
                    drop(task);
                    self.alive.set(self.alive.get() - 1);
                    self.unused.borrow_mut().push(id);
                }
            }
        }
        count
    }
}

fn packed_waker(reactor: u32, task: TaskId) -> Waker {
    let packed = (u64::from(reactor) << 32 | u64::from(task)) as usize;
    // SAFETY: the functions of VTABLE take the data as a number and never follow it as a pointer, so every waker is valid for
    // ever and on every thread.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::without_provenance(packed), &VTABLE)) }
}

const _: () = assert!(usize::BITS == 64, "a waker packs two 32-bit numbers into a pointer");

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake_packed, wake_packed, |_| {});

fn wake_packed(data: *const ()) {
    let packed = data.addr() as u64;
    let (reactor, task) = ((packed >> 32) as u32, packed as TaskId);
    let current = CURRENT.get();
    // SAFETY: CURRENT is set only by `enter`, which keeps the executor borrowed, and therefore alive, until it is reset.
    if let Some(executor) = unsafe { current.as_ref() }
        && executor.reactor == reactor
    {
        return executor.wake(task);
    }
    let all = MAILBOXES.read().expect("no thread panics while it holds this lock");
    if let Some(mailbox) = all.get(reactor as usize).and_then(Weak::upgrade) {
        mailbox.wake(task);
    }
}

/// Lets every other ready task, and the ring, have a turn before the caller goes on.
#[inline]
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn tasks_take_turns() {
        let executor = Executor::new(enrol(&Arc::new(Mailbox::new().expect("eventfd"))));
        let order = Rc::new(RefCell::new(Vec::new()));
        executor.enter(|| {
            for name in 0..3 {
                let order = order.clone();
                executor.spawn(async move {
                    for turn in 0..2 {
                        order.borrow_mut().push((turn, name));
                        yield_now().await;
                    }
                });
            }
            while executor.alive() > 0 {
                assert!(executor.run_ready() > 0);
            }
        });
        assert_eq!(*order.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    }

    #[test]
    fn a_wake_from_another_thread_comes_through_the_mailbox() {
        let mailbox = Arc::new(Mailbox::new().expect("eventfd"));
        let executor = Executor::new(enrol(&mailbox));
        let waker = packed_waker(executor.reactor, 5);
        std::thread::spawn(move || waker.wake()).join().expect("no panic");
        assert!(matches!(mailbox.take(), Some(super::super::mailbox::Message::Wake(5))));
    }

    #[test]
    fn numbers_of_finished_tasks_are_used_again() {
        let executor = Executor::new(enrol(&Arc::new(Mailbox::new().expect("eventfd"))));
        executor.enter(|| {
            for _ in 0..10 {
                executor.spawn(async {});
                executor.run_ready();
            }
        });
        assert_eq!(executor.tasks.borrow().len(), 1);
    }
}
