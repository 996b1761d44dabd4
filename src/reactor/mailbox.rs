//! A reactor's mailbox: how other threads hand it work.
//!
//! Messages go through a lock-free queue. The reactor looks into it once a turn; before it sleeps it says so in `sleeping`, and a
//! sender that finds it asleep writes the eventfd on which the reactor's ring waits. The two full fences make sure that either the
//! sender sees `sleeping` or the reactor sees the message (store, fence, load on both sides).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::SegQueue;

use super::Reactor;
use super::task::TaskId;

/// Work that is carried out on the reactor's thread.
pub(super) type Job = Box<dyn FnOnce(&Reactor) + Send>;

pub(super) enum Message {
    /// Run this.
    Run(Job),
    /// Queue this task.
    Wake(TaskId),
}

pub(super) struct Mailbox {
    queue: SegQueue<Message>,
    sleeping: AtomicBool,
    eventfd: OwnedFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd gave us this descriptor, which nobody else has.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { queue: SegQueue::new(), sleeping: AtomicBool::new(false), eventfd })
    }

    pub(super) fn run(&self, job: Job) {
        self.post(Message::Run(job));
    }

    pub(super) fn wake(&self, task: TaskId) {
        self.post(Message::Wake(task));
    }

    fn post(&self, message: Message) {
        self.queue.push(message);
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: the buffer is eight bytes long. A full counter (EAGAIN) wakes the reactor as well.
            unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    #[inline]
    pub(super) fn take(&self) -> Option<Message> {
        if self.queue.is_empty() { None } else { self.queue.pop() }
    }

    /// Says that the reactor is about to sleep; false if there is a message after all.
    pub(super) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::Relaxed);
        false
    }

    /// Says that the reactor is awake.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// The descriptor that becomes readable when a message comes for a sleeping reactor.
    pub(super) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Makes the descriptor unreadable again.
    pub(super) fn clear_eventfd(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is eight bytes long; the descriptor does not block.
        unsafe { libc::read(self.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}
