//! Wipes what closed disks have left in a reactor's buffers: their plain text.
//!
//! Nobody waits for it but who wants to: pages are wiped piece by piece, and between two pieces everything else that the reactor has to do has
//! its turn. Buffers that somebody holds are wiped as soon as they are given back ([`BufferPool::soil`](crate::memory::BufferPool::soil)). Those
//! that are held for long are wiped when they are taken, and hold what their own disk had from then on; the exception are the receive
//! buffers that all connections share, which are passed through once. A reactor that stops wipes nothing any more: its memory goes back to the
//! kernel, which gives nobody what was in it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::sync::WaitList;
use super::{Reactor, ReceiveBuffers, yield_now};

/// The wiping of one reactor.
#[derive(Default)]
pub(super) struct Wiping {
    /// How often it was asked for.
    asked: Cell<u64>,
    /// For which of these it is done.
    done: Cell<u64>,
    is_running: Cell<bool>,
    over: WaitList,
    receivers: RefCell<Vec<Weak<ReceiveBuffers>>>,
}

impl Wiping {
    /// Receive buffers are wiped too from now on, as long as they live.
    pub(super) fn include(&self, receivers: &Rc<ReceiveBuffers>) {
        let mut all = self.receivers.borrow_mut();
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(receivers));
    }

    fn receivers(&self) -> Vec<Rc<ReceiveBuffers>> {
        self.receivers.borrow().iter().filter_map(Weak::upgrade).collect()
    }
}

impl Reactor {
    /// Wipes all buffers that are free, and in time all others, in a task of its own: see [`Reactor::buffers_wiped`].
    pub fn wipe_free_buffers(&self) {
        let wiping = self.wiping();
        wiping.asked.set(wiping.asked.get() + 1);
        if self.is_stopping() {
            return;
        }
        self.buffers().soil();
        wiping.receivers().iter().for_each(|receivers| receivers.soil());
        if !wiping.is_running.replace(true) {
            let reactor = self.clone();
            self.spawn(async move { reactor.wipe().await });
        }
    }

    /// Waits until everything is wiped that was free when it was last asked for, or until the reactor stops.
    pub async fn buffers_wiped(&self) {
        let wiping = self.wiping();
        let asked = wiping.asked.get();
        wiping.over.until(|| (wiping.done.get() >= asked || self.is_stopping()).then_some(())).await;
    }

    async fn wipe(&self) {
        let wiping = self.wiping();
        while wiping.done.get() < wiping.asked.get() && !self.is_stopping() {
            let asked = wiping.asked.get();
            let mut from = 0;
            while !self.is_stopping() && self.buffers().wipe_some(&mut from) {
                yield_now().await;
            }
            for receivers in wiping.receivers() {
                receivers.wipe().await;
            }
            wiping.done.set(asked);
            wiping.over.wake_all();
        }
        wiping.is_running.set(false);
        wiping.over.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use crate::memory::LARGEST_BUFFER;
    use crate::reactor::testing::{end, small_reactor};
    use crate::reactor::{ReceiveBuffers, Socket};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// Whether a run of the byte lies anywhere in the arena of a reactor; one alone may be a part of an address in the kernel's ring.
    #[allow(unsafe_code)]
    fn arena_has(reactor: &crate::reactor::Reactor, byte: u8) -> bool {
        let arena = reactor.buffers().arena();
        // SAFETY: the arena is mapped, and only this thread writes to it while nothing is under way.
        let bytes = unsafe { std::slice::from_raw_parts(arena.base(), arena.len()) };
        bytes.chunks_exact(8).any(|run| run.iter().all(|other| *other == byte))
    }

    #[test]
    fn nothing_is_left_in_free_buffers_and_others_have_their_turn_meanwhile() {
        let thread = small_reactor(0);
        let turns = thread.remote().run(async |reactor| {
            let mut buffer = reactor.buffers().take(LARGEST_BUFFER).await;
            buffer.fill(0xA5);
            drop(buffer);
            assert!(arena_has(&reactor, 0xA5));
            reactor.wipe_free_buffers();
            let done = std::rc::Rc::new(std::cell::Cell::new(false));
            let (watched, other) = (done.clone(), reactor.clone());
            reactor.spawn(async move {
                other.buffers_wiped().await;
                watched.set(true);
            });
            let mut turns = 0;
            while !done.get() {
                crate::reactor::yield_now().await;
                turns += 1;
            }
            assert!(!arena_has(&reactor, 0xA5));
            turns
        });
        assert!(turns > 16, "4 MiB were wiped in {turns} turns");
        end([thread]);
    }

    #[test]
    fn nothing_is_left_in_receive_buffers_that_nobody_uses() {
        let thread = small_reactor(0);
        thread.remote().run(async |reactor| {
            let buffers = ReceiveBuffers::new(&reactor, 1 << 20);
            let (mut ours, theirs) = UnixStream::pair().expect("a pair");
            let socket = Socket::new(&reactor, theirs.into());
            let mut held = Vec::new();
            for _ in 0..6 {
                ours.write_all(&[0xA5; 1000]).expect("sent");
                held.push(buffers.receive(&socket).await.expect("received").expect("bytes"));
            }
            // Some lie in the kernel's ring now, some are spare, one is held.
            held.truncate(1);
            reactor.wipe_free_buffers();
            reactor.buffers_wiped().await;
            assert_eq!(held[0].bytes(), [0xA5; 1000]);
            held.clear();
            assert!(!arena_has(&reactor, 0xA5));
            ours.write_all(&[0x5A; 10]).expect("sent");
            assert_eq!(buffers.receive(&socket).await.expect("received").expect("bytes").bytes(), [0x5A; 10]);
        });
        end([thread]);
    }
}
