//! The transmission phase of one connection: a reader that hands requests to slots, the slots, and a sender.
//!
//! What bounds a client: it has at most `slots` requests under way, at most twice as many replies unsent, and holds at most its share of the
//! reactor's buffers (but one request always goes through). Above any of these the reader takes no more from the socket; nothing
//! fails, and no other connection notices.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::ByteRange;
use crate::disk::{Consumer, Cost, DiskQueue, Tap};
use crate::export::stream::{Phase, Replies, Share};
use crate::memory::{PAGE, Segment};
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Event, Handoff};

use super::Link;
use super::end::EndReason;
use super::exports::Export;
use super::handshake::Chosen;
use super::receiver::{Lent, Receiver};
use super::refusal::Refusal;
use super::request::{Action, Command, Decoded, Negotiated, decode};
use super::slot;
use super::wire::{self, command};

/// The most that one buffer carries: larger reads and writes go in pieces.
pub(super) const PIECE: usize = 256 << 10;
/// Pieces of one read that may be on their way at once.
pub(super) const PIECES_AHEAD: usize = 2;
/// Unsent replies, as a multiple of the slots, above which no more requests are taken.
const UNSENT_PER_SLOT: usize = 2;

/// What a slot is given.
pub(super) enum Work {
    Run(Command),
    /// A write whose payload is lent by the receiver.
    Write(Command, Segment),
    /// A write whose payload comes in pieces.
    WritePieces(Command),
    Refuse(u64, Refusal),
    /// The connection ends.
    End,
}

pub(super) struct Slot {
    pub(super) work: Handoff<(Work, usize)>,
    /// Pieces of a large write; `None` if the rest will not come.
    pub(super) pieces: Handoff<Option<Segment>>,
}

/// What a connection has done; for the log.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) requests: Cell<u64>,
    pub(super) errors: Cell<u64>,
    pub(super) bytes_read: Cell<u64>,
    pub(super) bytes_written: Cell<u64>,
}

pub(super) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

pub(super) struct Session {
    pub(super) link: Rc<Link>,
    pub(super) export: Arc<Export>,
    pub(super) disk: Rc<DiskQueue>,
    /// Where requests keep within the disk's limits: each connection is a consumer of its own.
    tap: Tap,
    /// Requests that still wait there are not carried out.
    ending: Cell<bool>,
    pub(super) negotiated: Negotiated,
    pub(super) lent: Rc<Lent>,
    pub(super) replies: Replies<EndReason>,
    pub(super) tally: Tally,
    share: Rc<Share>,
    slots: Vec<Slot>,
    free: RefCell<Vec<u16>>,
    sender_done: Event,
}

impl Session {
    pub(super) fn new(
        link: &Rc<Link>,
        chosen: &Chosen,
        disk: Rc<DiskQueue>,
        lent: &Rc<Lent>,
        share: &Rc<Share>,
        slots: u16,
    ) -> Rc<Self> {
        let session = Rc::new(Self {
            link: link.clone(),
            export: chosen.export.clone(),
            tap: disk.tap(&Consumer::new_one()),
            ending: Cell::new(false),
            disk,
            negotiated: chosen.negotiated,
            lent: lent.clone(),
            replies: Replies::new(link, share, slots.into(), most_unsent(slots.into())),
            tally: Tally::default(),
            share: share.clone(),
            slots: (0..slots).map(|_| Slot { work: Handoff::default(), pieces: Handoff::default() }).collect(),
            free: RefCell::new((0..slots).rev().collect()),
            sender_done: Event::default(),
        });
        for index in 0..slots {
            link.reactor.spawn(during(Stage::Command, slot::serve(session.clone(), index)));
        }
        let sender = session.clone();
        link.reactor.spawn(during(Stage::Send, async move {
            sender.replies.send_all(most_unsent(sender.slots.len())).await;
            sender.sender_done.set();
        }));
        session
    }

    pub(super) fn slot(&self, index: u16) -> &Slot {
        &self.slots[usize::from(index)]
    }

    /// Puts a slot back.
    pub(super) fn set_free(&self, index: u16) {
        self.free.borrow_mut().push(index);
        self.replies.room.wake_all();
    }

    /// Serves requests until the connection ends, and then until all of them are answered.
    pub(super) async fn run(&self, receiver: &mut Receiver) {
        let reason = self.read(receiver).await;
        // After a request to disconnect all before it are carried out, as ever within the limits ("NBD_CMD_DISC").
        if !matches!(reason, EndReason::Disconnected | EndReason::ServerStops) {
            self.end_waiting();
        }
        match reason {
            // Replies still go out to a client that has closed only its side, or said goodbye.
            reason if reason.is_orderly() => self.link.give_reason(reason),
            reason => self.link.cut(reason),
        }
        let all_free = || (self.free.borrow().len() == self.slots.len()).then_some(());
        self.replies.room.until(all_free).await;
        self.slots.iter().for_each(|slot| slot.work.give((Work::End, 0)));
        self.replies.close();
        self.sender_done.wait().await;
    }

    /// Waits until the disk's limits let a request go; one that still waits when the connection ends is refused. What has arrived when the server
    /// stops is carried out at once.
    #[inline]
    pub(super) async fn within_limits(&self, range: ByteRange) -> Result<(), Refusal> {
        let cost = Cost::of(range.len());
        if self.tap.passes(cost) { Ok(()) } else { self.wait_for_limits(cost).await }
    }

    async fn wait_for_limits(&self, cost: Cost) -> Result<(), Refusal> {
        let mut passed = pin!(self.tap.wait(cost));
        std::future::poll_fn(|cx| {
            // The first of the line looks soon.
            if self.link.is_cut() {
                self.end_waiting();
            } else if self.link.is_stopping() {
                self.tap.close();
            }
            passed.as_mut().poll(cx)
        })
        .await;
        if self.ending.get() { Err(Refusal::ENDING) } else { Ok(()) }
    }

    fn end_waiting(&self) {
        self.ending.set(true);
        self.tap.close();
    }

    async fn read(&self, receiver: &mut Receiver) -> EndReason {
        // Nobody waits for answers on a cut link: what else was received is not carried out.
        while !self.link.is_cut() {
            if let Err(reason) = self.read_one(receiver).await {
                return reason;
            }
        }
        EndReason::Closed
    }

    async fn read_one(&self, receiver: &mut Receiver) -> Result<(), EndReason> {
        self.link.phase.set(Phase::BetweenRequests);
        let request: wire::Request = receiver.header().await?;
        self.link.phase.set(Phase::Serving);
        add(&self.tally.requests, 1);
        let payload = if request.kind.get() == command::WRITE { request.length.get() as usize } else { 0 };
        match decode(&request, &self.export, self.negotiated, PIECE as u64)? {
            Decoded::Disconnect => Err(EndReason::Disconnected),
            Decoded::Refuse(cookie, refusal) => {
                receiver.skip(payload).await?;
                self.give(Work::Refuse(cookie, refusal), 0, receiver).await;
                Ok(())
            }
            Decoded::Run(command) if command.action == Action::Write => self.write(command, payload, receiver).await,
            Decoded::Run(command) => {
                self.give(Work::Run(command), self.needs(command), receiver).await;
                Ok(())
            }
        }
    }

    async fn write(&self, command: Command, payload: usize, receiver: &mut Receiver) -> Result<(), EndReason> {
        let piece = receiver.prepare(payload).await;
        if piece == payload {
            let segment = receiver.lend(payload).await?;
            self.give(Work::Write(command, segment), buffer_bytes(piece), receiver).await;
            return Ok(());
        }
        let slot = self.give(Work::WritePieces(command), buffer_bytes(piece), receiver).await;
        let mut left = payload;
        while left > 0 {
            let now = piece.min(left);
            let lent = receiver.lend(now).await;
            if lent.is_err() {
                self.lent.all_returned().await;
                self.slot(slot).pieces.give(None);
            }
            let segment = lent?;
            self.lent.all_but_one_returned().await;
            self.slot(slot).pieces.give(Some(segment));
            left -= now;
        }
        Ok(())
    }

    /// Bytes of buffers that a command holds at most.
    fn needs(&self, command: Command) -> usize {
        let len = command.range.len() as usize;
        match command.action {
            Action::Read => buffer_bytes(len.min(PIECES_AHEAD * PIECE)),
            Action::WriteZeroes(..) => buffer_bytes(len.min(PIECE)),
            _ => 0,
        }
    }

    /// Gives work to a slot as soon as the client may have another request under way.
    async fn give(&self, work: Work, bytes: usize, receiver: &Receiver) -> u16 {
        let slot = match self.admit(bytes, receiver.capacity()) {
            Some(slot) => slot,
            None => self.replies.room.until(|| self.admit(bytes, receiver.capacity())).await,
        };
        self.replies.reserve(bytes);
        self.slot(slot).work.give((work, bytes));
        slot
    }

    fn admit(&self, bytes: usize, receive_buffer: usize) -> Option<u16> {
        let held = self.replies.reserved();
        let within_share = held == 0 || held + bytes + receive_buffer <= self.share.bytes();
        if !within_share || self.replies.unsent() >= most_unsent(self.slots.len()) {
            return None;
        }
        self.free.borrow_mut().pop()
    }
}

fn most_unsent(slots: usize) -> usize {
    slots * UNSENT_PER_SLOT
}

/// What the pool takes for a buffer of `len` bytes.
fn buffer_bytes(len: usize) -> usize {
    len.next_power_of_two().max(PAGE)
}
