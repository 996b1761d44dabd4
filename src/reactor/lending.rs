//! Buffers that their owner keeps, and lends to one task at a time.
//!
//! For work that needs a buffer while it holds another one, or while others wait for it: it waits for those who have borrowed, who finish by
//! themselves, and never for the reactor's memory. They are lent in the order in which tasks came: who has just given one back does not get it again before them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use crate::memory::Buffer;

use super::{Reactor, WaitList};

/// Tasks that may wait without an allocation.
const ROOM: usize = 256;

/// The buffers.
pub struct Lending {
    free: RefCell<Vec<Buffer>>,
    /// How many there are, whoever has them now.
    count: Cell<usize>,
    line: RefCell<VecDeque<u64>>,
    next_ticket: Cell<u64>,
    waiting: WaitList,
}

impl Lending {
    /// Lends these. There may be none yet: see [`Lending::prepare`]. They are kept for long, so that what others left in them is wiped now: the
    /// wiping of free buffers would not reach it.
    pub fn new(mut buffers: Vec<Buffer>) -> Self {
        buffers.iter_mut().for_each(|buffer| buffer.fill(0));
        Self {
            count: Cell::new(buffers.len()),
            free: RefCell::new(buffers),
            line: RefCell::new(VecDeque::with_capacity(ROOM)),
            next_ticket: Cell::new(0),
            waiting: WaitList::with_room(ROOM),
        }
    }

    /// Makes sure that there is a buffer, of `len` bytes if it has to be taken now. The caller holds nothing that others need to give buffers back.
    pub async fn prepare(&self, reactor: &Reactor, len: usize) {
        if self.count.get() > 0 {
            return;
        }
        let mut buffer = reactor.buffers().take(len).await;
        // As above.
        buffer.fill(0);
        // Several may have waited.
        if self.count.get() == 0 {
            self.count.set(1);
            self.free.borrow_mut().push(buffer);
            self.waiting.wake_all();
        }
    }

    /// Borrows a buffer; waits until one is free. Who calls this has prepared it.
    pub async fn borrow(&self) -> Lent<'_> {
        let place = InLine::last(self);
        let free = || if place.is_first() { self.free.borrow_mut().pop() } else { None };
        let buffer = self.waiting.until(free).await;
        Lent { lending: self, buffer }
    }
}

/// A place in the line, until this is dropped.
struct InLine<'a> {
    lending: &'a Lending,
    ticket: u64,
}

impl<'a> InLine<'a> {
    fn last(lending: &'a Lending) -> Self {
        let ticket = lending.next_ticket.get();
        lending.next_ticket.set(ticket + 1);
        lending.line.borrow_mut().push_back(ticket);
        Self { lending, ticket }
    }

    fn is_first(&self) -> bool {
        self.lending.line.borrow().front() == Some(&self.ticket)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.lending.line.borrow_mut().retain(|ticket| *ticket != self.ticket);
        self.lending.waiting.wake_all();
    }
}

/// A borrowed buffer; the next in the line gets it when this is dropped.
pub struct Lent<'a> {
    lending: &'a Lending,
    buffer: Buffer,
}

impl Deref for Lent<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // Work that was dropped half-way has left its buffer with the kernel.
        if buffer.is_empty() {
            self.lending.count.set(self.lending.count.get() - 1);
        } else {
            self.lending.free.borrow_mut().push(buffer);
        }
        self.lending.waiting.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Arena, BufferPool, HugePages};
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn buffers_are_lent_in_the_order_of_the_line_and_places_are_given_up() {
        let pool = BufferPool::new(Arena::new(2 << 20, HugePages::Never).expect("memory"));
        let lending = Lending::new(vec![pool.try_take(4096).expect("free")]);
        let Poll::Ready(first) = poll(pin!(lending.borrow())) else { panic!("one is free") };
        let mut second = Box::pin(lending.borrow());
        let mut third = Box::pin(lending.borrow());
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        assert!(poll(third.as_mut()).is_pending(), "the second came before");
        assert!(poll(pin!(lending.borrow())).is_pending());
        drop(second);
        assert!(poll(third.as_mut()).is_ready());
        assert_eq!(lending.free.borrow().len(), 1);
    }
}
