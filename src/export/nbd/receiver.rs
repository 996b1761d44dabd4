//! The receive buffer of one connection.
//!
//! Bytes arrive at the tail and are consumed at the head. Payloads of writes are not copied: slots take them from here, so the bytes before
//! the head may be in use by others until [`Lent`] says that all were given back; only then are bytes moved or overwritten. A receive
//! at the tail may go on meanwhile, since it touches other bytes.
//!
//! A buffer is kept for long, and is wiped when it is taken: what another disk left in it would outlive the wiping of free buffers.

use std::cell::Cell;
use std::rc::Rc;

use zerocopy::FromBytes;

use crate::export::stream::Phase;
use crate::memory::{Buffer, Segment};
use crate::reactor::{WaitList, yield_now};

use super::Link;
use super::end::EndReason;
use super::session::PIECE;

/// The usual buffer: small, so that it stays in the cache.
const USUAL: usize = 128 << 10;
/// The buffer for large payloads: two pieces, so that one arrives while the other is taken.
pub(super) const LARGE: usize = 2 * PIECE;
/// A receive gets at least this much room, or the rest is moved to the front first.
const LEAST_ROOM: usize = 16 << 10;
/// A rest of at most this size is moved to the front whenever it can be.
const CHEAP_MOVE: usize = 8 << 10;
/// Turns that slots get to take their payloads and to answer before the next receive: what is answered goes out, and what comes in is
/// taken, with one system call. One more, and a command that comes alone costs another system call.
const SETTLING_TURNS: usize = 3;
/// So many requests that fit into the usual buffer in a row give the large one back.
const SMALL_IN_A_ROW: u32 = 256;

/// Payloads that slots have not taken yet.
#[derive(Default)]
pub(super) struct Lent {
    count: Cell<usize>,
    returned: WaitList,
}

/// A payload that a slot may read until it drops this.
pub(super) struct Loan<'a>(&'a Lent);

impl Lent {
    /// Counts a payload that goes to a slot.
    pub(super) fn lend(&self) {
        self.count.set(self.count.get() + 1);
    }

    /// The slot's hold on it.
    pub(super) fn loan(&self) -> Loan<'_> {
        Loan(self)
    }

    fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// Waits until only one is left.
    pub(super) async fn all_but_one_returned(&self) {
        self.returned.until(|| (self.count.get() <= 1).then_some(())).await;
    }

    /// Waits until all are returned.
    pub(super) async fn all_returned(&self) {
        self.returned.until(|| self.is_empty().then_some(())).await;
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() <= 1 {
            self.0.returned.wake_all();
        }
    }
}

pub(super) struct Receiver {
    link: Rc<Link>,
    lent: Rc<Lent>,
    buffer: Buffer,
    head: usize,
    tail: usize,
    small_in_a_row: u32,
}

impl Receiver {
    pub(super) async fn new(link: &Rc<Link>) -> Self {
        let mut buffer = link.reactor.buffers().take(USUAL).await;
        buffer.fill(0);
        Self { link: link.clone(), lent: Rc::default(), buffer, head: 0, tail: 0, small_in_a_row: 0 }
    }

    pub(super) fn lent(&self) -> &Rc<Lent> {
        &self.lent
    }

    /// Bytes in the buffer that the connection holds.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    fn len(&self) -> usize {
        self.tail - self.head
    }

    /// Waits for the next message of the client and takes its header.
    pub(super) async fn header<T: FromBytes>(&mut self) -> Result<T, EndReason> {
        if self.len() < size_of::<T>() {
            self.fill(size_of::<T>()).await?;
        }
        let bytes = self.take(size_of::<T>());
        Ok(T::read_from_bytes(bytes).expect("as many bytes as the header has"))
    }

    /// Waits for the rest of a message and takes it.
    pub(super) async fn rest(&mut self, len: usize) -> Result<&[u8], EndReason> {
        self.wait_for(len).await?;
        Ok(self.take(len))
    }

    /// Waits for a payload that fits into the buffer and lends it to a slot.
    pub(super) async fn lend(&mut self, len: usize) -> Result<Segment, EndReason> {
        self.wait_for(len).await?;
        let segment = self.buffer.segment(self.head..self.head + len);
        self.head += len;
        self.lent.lend();
        Ok(segment)
    }

    /// Drops `len` bytes of a payload, as they come.
    pub(super) async fn skip(&mut self, mut len: usize) -> Result<(), EndReason> {
        while len > 0 {
            let now = len.min(self.buffer.len() / 2);
            self.rest(now).await?;
            len -= now;
        }
        Ok(())
    }

    /// The size of the pieces in which a payload of `len` bytes is lent; the buffer is exchanged for it if that is possible without waiting.
    pub(super) async fn prepare(&mut self, len: usize) -> usize {
        if len <= USUAL / 2 {
            self.small_in_a_row += 1;
            if self.small_in_a_row >= SMALL_IN_A_ROW && self.buffer.len() > USUAL && self.len() <= CHEAP_MOVE {
                self.exchange(USUAL).await;
            }
        } else {
            self.small_in_a_row = 0;
            if self.buffer.len() < LARGE {
                self.exchange(LARGE).await;
            }
        }
        if len > self.buffer.len() / 2 {
            // From the front on, so that the pieces fill the buffer without a rest.
            self.lent.all_returned().await;
            self.move_to_front();
        }
        len.min(self.buffer.len() / 2)
    }

    async fn exchange(&mut self, size: usize) {
        self.lent.all_returned().await;
        let Some(mut new) = self.link.reactor.buffers().try_take(size) else { return };
        let (filled, rest) = new.split_at_mut(self.len());
        filled.copy_from_slice(&self.buffer[self.head..self.tail]);
        rest.fill(0);
        (self.head, self.tail) = (0, self.len());
        self.buffer = new;
    }

    fn take(&mut self, len: usize) -> &[u8] {
        self.head += len;
        &self.buffer[self.head - len..self.head]
    }

    async fn wait_for(&mut self, len: usize) -> Result<(), EndReason> {
        if self.len() >= len { Ok(()) } else { self.fill(len).await }
    }

    /// Receives until there are `len` bytes, in one piece.
    async fn fill(&mut self, len: usize) -> Result<(), EndReason> {
        let begun = self.link.phase.get();
        for _ in 0..SETTLING_TURNS {
            yield_now().await;
        }
        while self.len() < len {
            self.make_room(len).await;
            if self.link.is_stopping() {
                return Err(EndReason::ServerStops);
            }
            self.link.phase.set(match begun {
                Phase::BetweenRequests if self.len() > 0 => Phase::InRequest,
                Phase::Serving => Phase::InRequest,
                unchanged => unchanged,
            });
            let room = self.tail..self.buffer.len();
            let received = self.link.socket.receive(&mut self.buffer, room).await;
            if begun != Phase::Handshake {
                self.link.phase.set(Phase::Serving);
            }
            match received.map_err(EndReason::Receive)? {
                0 if self.link.is_stopping() => return Err(EndReason::ServerStops),
                0 if begun == Phase::BetweenRequests && self.len() == 0 => return Err(EndReason::Closed),
                0 => return Err(EndReason::ClosedMidway),
                bytes => self.tail += bytes,
            }
            self.link.count_received();
        }
        Ok(())
    }

    async fn make_room(&mut self, len: usize) {
        let capacity = self.buffer.len();
        let cramped = self.head > 0 && (capacity - self.head < len || capacity - self.tail < LEAST_ROOM);
        if cramped {
            self.lent.all_returned().await;
            self.move_to_front();
        } else if self.len() <= CHEAP_MOVE && self.lent.is_empty() {
            self.move_to_front();
        }
    }

    /// No payload is lent when this is called.
    fn move_to_front(&mut self) {
        debug_assert!(self.lent.is_empty());
        if self.head > 0 {
            self.buffer.copy_within(self.head..self.tail, 0);
            (self.head, self.tail) = (0, self.len());
        }
    }
}
