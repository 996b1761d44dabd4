//! Replies of one connection on their way out: slots put them into a batch, and the sender sends what has gathered with one call.
//!
//! At most one send is under way; replies that come meanwhile form the next batch. A reply in several parts on a stream without chunks takes the
//! stream for itself ([`Replies::begin_exclusive`]); others wait. Replies of a cut link are dropped unsent, and counted as if they were sent,
//! so that whoever waits for room goes on.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::memory::Buffer;
use crate::reactor::profile::{Stage, stage};
use crate::reactor::{SendBatch, WaitList};

use super::{Link, LinkEnd, Share};

/// Room for one header and what belongs to it.
const USUAL_HEADER: usize = 32;

struct Outgoing {
    batch: Box<SendBatch>,
    replies: usize,
    /// Bytes of the connection's share that come free.
    reserved: usize,
    /// Slots that wait for their parts to be sent.
    parts: Vec<u16>,
}

impl Outgoing {
    fn with_room(replies: usize) -> Self {
        let parts = Vec::with_capacity(replies);
        Self { batch: SendBatch::with_room(replies, USUAL_HEADER), replies: 0, reserved: 0, parts }
    }
}

pub(in crate::export) struct Replies<E> {
    link: Rc<Link<E>>,
    share: Rc<Share>,
    queued: RefCell<Outgoing>,
    /// The sender waits here.
    filled: WaitList,
    closing: Cell<bool>,
    exclusive: Cell<Option<u16>>,
    /// Slots wait here for the stream.
    turn: WaitList,
    /// Replies not sent yet.
    unsent: Cell<usize>,
    /// Bytes of buffers that this connection holds.
    reserved: Cell<usize>,
    /// Parts of each slot not sent yet.
    unsent_parts: Vec<Cell<u8>>,
    /// Whoever waits for sent replies or for a free slot waits here.
    pub(in crate::export) room: WaitList,
}

impl<E: LinkEnd> Replies<E> {
    pub(in crate::export) fn new(link: &Rc<Link<E>>, share: &Rc<Share>, slots: usize, most_unsent: usize) -> Self {
        Self {
            link: link.clone(),
            share: share.clone(),
            queued: RefCell::new(Outgoing::with_room(most_unsent)),
            filled: WaitList::with_room(2),
            closing: Cell::new(false),
            exclusive: Cell::new(None),
            turn: WaitList::with_room(slots),
            unsent: Cell::new(0),
            reserved: Cell::new(0),
            unsent_parts: vec![Cell::new(0); slots],
            room: WaitList::with_room(slots),
        }
    }

    pub(in crate::export) fn unsent(&self) -> usize {
        self.unsent.get()
    }

    pub(in crate::export) fn reserved(&self) -> usize {
        self.reserved.get()
    }

    pub(in crate::export) fn reserve(&self, bytes: usize) {
        let before = self.reserved.get();
        self.reserved.set(before + bytes);
        self.share.holds(before, before + bytes);
    }

    pub(in crate::export) fn release(&self, bytes: usize) {
        let before = self.reserved.get();
        self.reserved.set(before - bytes);
        self.share.holds(before, before - bytes);
        self.room.wake_all();
    }

    /// Waits until no other slot has the stream for itself.
    pub(in crate::export) async fn turn(&self, slot: u16) {
        let is_free = || self.exclusive.get().is_none_or(|owner| owner == slot).then_some(());
        self.turn.until(is_free).await;
    }

    /// Takes the stream for the replies of one slot; call it directly after [`Replies::turn`].
    pub(in crate::export) fn begin_exclusive(&self, slot: u16) {
        self.exclusive.set(Some(slot));
    }

    /// Gives the stream back, if the slot has it.
    pub(in crate::export) fn end_exclusive(&self, slot: u16) {
        if self.exclusive.get() != Some(slot) {
            return;
        }
        self.exclusive.set(None);
        self.turn.wake_all();
    }

    /// Queues a header and what follows it, if anything. `reserved` bytes of the share come free when it is sent.
    pub(in crate::export) fn push(&self, header: &[u8], more: &[u8], reserved: usize) {
        let _reply = stage(Stage::Reply);
        let mut queued = self.queued.borrow_mut();
        queued.batch.header(header);
        if !more.is_empty() {
            queued.batch.header(more);
        }
        self.count(&mut queued, reserved);
    }

    /// Queues a header, a window of a buffer, and what follows it.
    pub(in crate::export) fn push_data(
        &self,
        header: &[u8],
        buffer: Buffer,
        window: Range<usize>,
        trailer: &[u8],
        reserved: usize,
    ) {
        let _reply = stage(Stage::Reply);
        let mut queued = self.queued.borrow_mut();
        queued.batch.header(header);
        queued.batch.data(buffer, window);
        if !trailer.is_empty() {
            queued.batch.header(trailer);
        }
        self.count(&mut queued, reserved);
    }

    /// Queues a part of a slot's reply; the slot can wait for it with [`Replies::parts_sent`].
    pub(in crate::export) fn push_part(&self, slot: u16, header: &[u8], buffer: Buffer, len: usize, trailer: &[u8]) {
        let _reply = stage(Stage::Reply);
        let mut queued = self.queued.borrow_mut();
        if !header.is_empty() {
            queued.batch.header(header);
        }
        queued.batch.data(buffer, 0..len);
        if !trailer.is_empty() {
            queued.batch.header(trailer);
        }
        queued.parts.push(slot);
        let unsent = &self.unsent_parts[usize::from(slot)];
        unsent.set(unsent.get() + 1);
        self.count(&mut queued, 0);
    }

    /// Waits until at most `left` parts of the slot are unsent.
    pub(in crate::export) async fn parts_sent(&self, slot: u16, left: u8) {
        let unsent = &self.unsent_parts[usize::from(slot)];
        self.room.until(|| (unsent.get() <= left).then_some(())).await;
    }

    fn count(&self, queued: &mut Outgoing, reserved: usize) {
        queued.replies += 1;
        queued.reserved += reserved;
        self.unsent.set(self.unsent.get() + 1);
        if queued.replies == 1 {
            self.filled.wake_all();
        }
    }

    /// Lets the sender end once everything is sent.
    pub(in crate::export) fn close(&self) {
        self.closing.set(true);
        self.filled.wake_all();
    }

    /// Sends batch after batch until [`Replies::close`].
    pub(in crate::export) async fn send_all(&self, most_unsent: usize) {
        let mut sending = Outgoing::with_room(most_unsent);
        while self.next(&mut sending).await {
            sending = self.send(sending).await;
            self.unsent.set(self.unsent.get() - sending.replies);
            sending.replies = 0;
            for slot in sending.parts.drain(..) {
                let unsent = &self.unsent_parts[usize::from(slot)];
                unsent.set(unsent.get() - 1);
            }
            self.release(std::mem::take(&mut sending.reserved));
        }
    }

    /// Exchanges the empty batch for the queued one; false if there will be none.
    async fn next(&self, empty: &mut Outgoing) -> bool {
        let ready = || match self.queued.borrow().replies {
            0 if self.closing.get() => Some(false),
            0 => None,
            _ => Some(true),
        };
        let more = self.filled.until(ready).await;
        std::mem::swap(&mut *self.queued.borrow_mut(), empty);
        more
    }

    async fn send(&self, mut sending: Outgoing) -> Outgoing {
        self.link.sending.set(true);
        while !self.link.is_cut() {
            let (batch, more) = self.link.socket.send_some(sending.batch).await;
            sending.batch = batch;
            match more {
                Ok(true) => self.link.count_sent(),
                Ok(false) => break,
                Err(e) => self.link.cut(E::send_failed(e)),
            }
        }
        self.link.sending.set(false);
        sending.batch.clear();
        sending
    }
}
