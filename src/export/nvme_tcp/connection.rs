//! One connection, which is one queue: a reader that cuts the stream into commands and hands them to slots, the slots, and a sender.
//!
//! What bounds a host: it has at most as many commands under way as its queue has entries, at most twice as many answers unsent, and holds at
//! most its share of the reactor's buffers (`room.rs`; but one command always goes through). Above any of these the reader takes no more from the
//! socket; nothing fails, and no other connection notices. Slots are made when the host first uses so many at once, and stay.
//!
//! Sources: TCP sections 3.3 (capsules and data), 3.5 (errors), 3.6 (PDUs); Base section 3.3.3 (queue entries).

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::export::stream::{Phase, Replies};
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Event, Handoff, WaitList};

use super::Link;
use super::attached::HostView;
use super::auth::Authenticator;
use super::controller::Controller;
use super::digest::{Crc, DIGEST_BYTES, Digests};
use super::end::{EndReason, Violation};
use super::frame::{Layout, check_header_digest, read_termination};
use super::receiver::{Body, Receiver};
use super::room::held_by;
use super::shard::Shard;
use super::slot;
use super::subsystem::Connected;
use super::transfer::Transfers;
use super::wire::command::{Command, Fuse};
use super::wire::pdu::{CapsuleCmd, CommonHeader, kind};
use super::wire::status::Status;

/// Unsent answers, as a multiple of the slots, above which no more commands are taken.
const UNSENT_PER_SLOT: usize = 2;
/// Room for answers at the start; it grows with what the host has under way.
const ROOM_AT_START: usize = 8;
/// Commands of a connection that is no queue yet: it has to connect first.
const SLOTS_BEFORE_CONNECT: u16 = 1;

/// What the connection is once its Connect command was accepted.
pub(super) struct Queue {
    pub(super) id: u16,
    pub(super) entries: u16,
    pub(super) controller: Arc<Controller>,
    /// SQ flow control is on: completions carry the head, and the SUCCESS flag must not replace them.
    pub(super) sq_flow_control: bool,
    /// What the host sees.
    pub(super) view: Rc<HostView>,
    /// For a host that has to authenticate.
    pub(super) authenticator: Option<RefCell<Authenticator>>,
}

impl Queue {
    pub(super) fn new(shard: &Shard, connected: Connected) -> Self {
        let view = shard.view(&connected.controller);
        let policy = connected.authentication().cloned();
        let Connected { controller, queue_id, entries, sq_flow_control, .. } = connected;
        let nqn: Arc<str> = controller.subsystem().map_or("", |subsystem| subsystem.nqn().as_str()).into();
        let authenticator = policy.map(|policy| RefCell::new(Authenticator::new(policy, nqn)));
        Self { id: queue_id, entries, controller, sq_flow_control, view, authenticator }
    }

    /// Whether the host is who it says, as far as it has to prove that.
    pub(super) fn is_authentic(&self) -> bool {
        self.authenticator.as_ref().is_none_or(|authenticator| authenticator.borrow().is_authenticated())
    }
}

/// What a slot is given. Small: it is copied on its way.
pub(super) enum Work {
    Run(Arrived),
    /// A fused compare and write; the write waits in the slot.
    Fused(Arrived),
    /// The connection ends.
    End,
}

/// A command and the data that came with it.
pub(super) struct Arrived {
    pub(super) command: Command,
    pub(super) data: Body,
    /// The data digest fits, if there is one.
    pub(super) intact: bool,
}

#[derive(Default)]
pub(super) struct Slot {
    /// With the bytes of the share that the work holds.
    pub(super) work: Handoff<(Work, usize)>,
    /// The second of a fused pair.
    pub(super) second: Cell<Option<Arrived>>,
    /// The command identifiers that the slot works on.
    cids: Cell<(u16, Option<u16>)>,
    /// Woken when data of the slot's transfers has come.
    pub(super) arrived: WaitList,
}

/// What a connection has done; for the log.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) commands: Cell<u64>,
    pub(super) errors: Cell<u64>,
    pub(super) bytes_read: Cell<u64>,
    pub(super) bytes_written: Cell<u64>,
}

pub(super) fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

pub(super) struct Connection {
    pub(super) link: Rc<Link>,
    pub(super) shard: Rc<Shard>,
    pub(super) number: u64,
    /// The address at which the host reached us.
    pub(super) reached: SocketAddr,
    pub(super) digests: Digests,
    /// R2Ts that one command may have outstanding.
    pub(super) most_r2t: usize,
    pub(super) replies: Replies<EndReason>,
    pub(super) transfers: Transfers,
    pub(super) tally: Tally,
    queue: RefCell<Option<Rc<Queue>>>,
    slots: RefCell<Vec<Rc<Slot>>>,
    free: RefCell<Vec<u16>>,
    depth: Cell<u16>,
    sq_head: Cell<u16>,
    cids: RefCell<CidSet>,
    fused_first: RefCell<Option<Arrived>>,
    sender_done: Event,
    /// Bytes that wait for data that the host was asked for.
    pub(super) owed: Cell<usize>,
    /// Slots wait here to ask for data.
    pub(super) may_owe: WaitList,
}

/// The command identifiers under way: one bit each.
struct CidSet(Box<[u64]>);

impl Default for CidSet {
    fn default() -> Self {
        Self(vec![0; usize::from(u16::MAX) / 64 + 1].into())
    }
}

impl CidSet {
    /// Adds an identifier; false if it is there already.
    fn insert(&mut self, cid: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(cid / 64)], 1 << (cid % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn remove(&mut self, cid: u16) {
        self.0[usize::from(cid / 64)] &= !(1 << (cid % 64));
    }
}

impl Connection {
    pub(super) fn new(
        shard: &Rc<Shard>,
        link: &Rc<Link>,
        (number, reached): (u64, SocketAddr),
        digests: Digests,
        most_r2t: usize,
    ) -> Rc<Self> {
        let most = usize::from(shard.queue_depth());
        let connection = Rc::new(Self {
            link: link.clone(),
            shard: shard.clone(),
            number,
            reached,
            digests,
            most_r2t,
            replies: Replies::new(link, shard.share(), most, ROOM_AT_START),
            transfers: Transfers::default(),
            tally: Tally::default(),
            queue: RefCell::new(None),
            slots: RefCell::default(),
            free: RefCell::default(),
            depth: Cell::new(SLOTS_BEFORE_CONNECT),
            sq_head: Cell::new(0),
            cids: RefCell::default(),
            fused_first: RefCell::new(None),
            sender_done: Event::default(),
            owed: Cell::new(0),
            may_owe: WaitList::with_room(most),
        });
        let sender = connection.clone();
        link.reactor.spawn(during(Stage::Send, async move {
            sender.replies.send_all(ROOM_AT_START).await;
            sender.sender_done.set();
        }));
        let watcher = connection.clone();
        link.reactor.spawn(async move {
            watcher.link.over.wait().await;
            watcher.expect_no_more();
        });
        connection
    }

    /// What the connection is; nothing before Connect.
    pub(super) fn queue(&self) -> Option<Rc<Queue>> {
        self.queue.borrow().clone()
    }

    /// Whether completions have to say where the controller has got to.
    pub(super) fn has_sq_flow_control(&self) -> bool {
        self.queue.borrow().as_ref().is_none_or(|queue| queue.sq_flow_control)
    }

    /// The connection is a queue from now on.
    pub(super) fn become_queue(&self, queue: Queue) {
        self.depth.set(queue.entries);
        // The Connect command itself was the first entry.
        self.sq_head.set(1 % queue.entries);
        let is_authentic = queue.is_authentic();
        *self.queue.borrow_mut() = Some(Rc::new(queue));
        if is_authentic {
            self.authenticated();
        }
    }

    /// The host may use the queue: the time in which it had to come so far counts no more.
    pub(super) fn authenticated(&self) {
        if self.link.phase.get() == Phase::Handshake {
            self.link.phase.set(Phase::Serving);
        }
    }

    /// Where the controller has got to in the submission queue.
    pub(super) fn sq_head(&self) -> u16 {
        self.sq_head.get()
    }

    pub(super) fn slot(&self, index: u16) -> Rc<Slot> {
        self.slots.borrow()[usize::from(index)].clone()
    }

    /// The slot's commands are answered: their identifiers may be used again. Called before the answer is queued, not after it is sent.
    pub(super) fn forget_cids(&self, slot: &Slot) {
        let (cid, second) = slot.cids.get();
        let mut cids = self.cids.borrow_mut();
        cids.remove(cid);
        if let Some(second) = second {
            cids.remove(second);
        }
    }

    /// Puts a slot back.
    pub(super) fn set_free(&self, index: u16) {
        self.free.borrow_mut().push(index);
        self.replies.room.wake_all();
    }

    /// Serves commands until the connection ends, and then until all of them are answered.
    pub(super) async fn run(self: &Rc<Self>, receiver: &mut Receiver) {
        match self.read(receiver).await {
            EndReason::Violation(violation) => {
                self.terminate(violation);
                self.link.give_reason(violation.into());
            }
            // Answers still go out to a host that has closed only its side.
            reason if reason.is_orderly() => self.link.give_reason(reason),
            reason => self.link.cut(reason),
        }
        self.expect_no_more();
        if let Some(queue) = self.queue() {
            // Event requests are parked until then.
            queue.controller.queue_ended(queue.id);
        }
        self.replies.room.until(|| (self.free.borrow().len() == self.slots.borrow().len()).then_some(())).await;
        self.slots.borrow().iter().for_each(|slot| slot.work.give((Work::End, 0)));
        self.replies.close();
        self.sender_done.wait().await;
        self.link.socket.shut_down(std::net::Shutdown::Both);
        self.link.over.set();
    }

    /// No more data comes: nobody waits for it, or for leave to ask for it, or for the end of commands that do.
    fn expect_no_more(&self) {
        self.transfers.abandon();
        self.slots.borrow().iter().for_each(|slot| slot.arrived.wake_all());
        self.may_owe.wake_all();
        self.replies.room.wake_all();
    }

    async fn read(self: &Rc<Self>, receiver: &mut Receiver) -> EndReason {
        // Nobody waits for answers on a cut link: what else was received is not carried out.
        while !self.link.is_cut() {
            if let Err(reason) = self.read_pdu(receiver).await {
                return reason;
            }
        }
        EndReason::Closed
    }

    async fn read_pdu(self: &Rc<Self>, receiver: &mut Receiver) -> Result<(), EndReason> {
        let head: [u8; size_of::<CommonHeader>()] = receiver.begin().await?;
        let common = CommonHeader::read_from_bytes(&head).expect("as many bytes as the header has");
        match common.kind {
            kind::CAPSULE_CMD => self.read_capsule(common, receiver).await,
            kind::H2C_DATA => self.read_data(common, receiver).await,
            kind::H2C_TERM_REQ => Err(read_termination(common, receiver).await?),
            kind::IC_REQ => Err(Violation::sequence("a second ICReq").into()),
            _ => Err(Violation::field(0, "a PDU type that hosts do not send").into()),
        }
    }

    async fn read_capsule(self: &Rc<Self>, common: CommonHeader, receiver: &mut Receiver) -> Result<(), EndReason> {
        let most = self.shard.in_capsule_bytes();
        let layout = Layout::of(&common, size_of::<CapsuleCmd>(), self.digests, most)?;
        let body = receiver.body(layout.len - size_of::<CommonHeader>()).await?;
        let bytes = body.bytes();
        let (command, rest) = Command::read_from_prefix(bytes).expect("the layout has room for it");
        if self.digests.header {
            check_header_digest(Crc::of(common.as_bytes()).and(command.as_bytes()), rest)?;
        }
        let data = layout.data.start - size_of::<CommonHeader>()..layout.data.end - size_of::<CommonHeader>();
        let intact = data.is_empty()
            || !self.digests.data
            || Crc::of(&bytes[data.clone()]).to_wire() == bytes[data.end..data.end + DIGEST_BYTES];
        self.accept(Arrived { command, data: body.part(data), intact }, receiver).await;
        Ok(())
    }

    /// Takes a command in the order of the submission queue.
    async fn accept(self: &Rc<Self>, arrived: Arrived, receiver: &mut Receiver) {
        self.advance_head();
        add(&self.tally.commands, 1);
        let cid = arrived.command.cid.get();
        if !self.cids.borrow_mut().insert(cid) {
            return self.refuse(cid, Status::COMMAND_ID_CONFLICT).await;
        }
        let is_io = self.queue.borrow().as_ref().is_some_and(|queue| queue.id != 0);
        let fuse = if is_io { arrived.command.fuse() } else { Fuse::Not };
        let first = self.fused_first.borrow_mut().take();
        match (first, fuse) {
            (None, Fuse::Not | Fuse::Reserved) => self.give_one(arrived).await,
            (None, Fuse::First) => *self.fused_first.borrow_mut() = Some(arrived.apart(receiver).await),
            (None, Fuse::Second) => self.refuse_unfused(cid).await,
            // The second may wait for the first's data.
            (Some(first), Fuse::Second) => self.give_pair(first, arrived.apart(receiver).await).await,
            (Some(first), _) => {
                // The second has to follow the first at once (Base section 3.4.2).
                self.refuse_unfused(first.command.cid.get()).await;
                if fuse == Fuse::First {
                    *self.fused_first.borrow_mut() = Some(arrived.apart(receiver).await);
                } else {
                    self.give_one(arrived).await;
                }
            }
        }
    }

    fn advance_head(&self) {
        let entries = self.queue.borrow().as_ref().map_or(1, |queue| queue.entries);
        self.sq_head.set((self.sq_head.get() + 1) % entries);
    }

    async fn give_one(self: &Rc<Self>, arrived: Arrived) {
        let cids = (arrived.command.cid.get(), None);
        let bytes = held_by(&arrived);
        if let Some(index) = self.admitted(bytes).await {
            self.give(index, Work::Run(arrived), cids, bytes);
        }
    }

    async fn give_pair(self: &Rc<Self>, first: Arrived, second: Arrived) {
        let cids = (first.command.cid.get(), Some(second.command.cid.get()));
        let bytes = held_by(&first) + held_by(&second);
        if let Some(index) = self.admitted(bytes).await {
            self.slots.borrow()[usize::from(index)].second.set(Some(second));
            self.give(index, Work::Fused(first), cids, bytes);
        }
    }

    /// Waits until the host may have another command under way, and gives the slot for it; none if the link is cut.
    async fn admitted(self: &Rc<Self>, bytes: usize) -> Option<u16> {
        let admitted = || if self.link.is_cut() { Some(None) } else { self.admit(bytes).map(Some) };
        match self.admit(bytes) {
            Some(index) => Some(index),
            None => self.replies.room.until(admitted).await,
        }
    }

    fn give(&self, index: u16, work: Work, cids: (u16, Option<u16>), bytes: usize) {
        self.replies.reserve(bytes);
        let slots = self.slots.borrow();
        let slot = &slots[usize::from(index)];
        slot.cids.set(cids);
        slot.work.give((work, bytes));
    }

    fn admit(self: &Rc<Self>, bytes: usize) -> Option<u16> {
        let held = self.replies.reserved();
        if held > 0 && !self.shard.share().has_room(held, held + bytes) {
            return None;
        }
        if self.replies.unsent() >= usize::from(self.depth.get()) * UNSENT_PER_SLOT {
            return None;
        }
        let free = self.free.borrow_mut().pop();
        free.or_else(|| self.new_slot())
    }

    fn new_slot(self: &Rc<Self>) -> Option<u16> {
        let mut slots = self.slots.borrow_mut();
        let index = slots.len() as u16;
        if index >= self.depth.get() {
            return None;
        }
        slots.push(Rc::default());
        self.free.borrow_mut().reserve(slots.len());
        self.link.reactor.spawn(during(Stage::Command, slot::serve(self.clone(), index)));
        Some(index)
    }

    async fn refuse_unfused(&self, cid: u16) {
        self.cids.borrow_mut().remove(cid);
        self.refuse(cid, Status::ABORTED_MISSING_FUSED).await;
    }

    /// Answers a command that no slot was given.
    async fn refuse(&self, cid: u16, status: Status) {
        let most = usize::from(self.depth.get()) * UNSENT_PER_SLOT;
        self.replies.room.until(|| (self.replies.unsent() < most).then_some(())).await;
        self.complete(cid, status, 0, 0);
    }
}

impl Arrived {
    /// All of it; the command is left, and has no data any more.
    pub(super) fn take(&mut self) -> Self {
        Self { data: self.take_data(), ..*self }
    }

    /// Its data, which is let go as soon as it is not needed any more.
    pub(super) fn take_data(&mut self) -> Body {
        std::mem::replace(&mut self.data, Body::Empty)
    }

    /// The same with its data out of the shared receive buffer, which a host that waits must not hold.
    async fn apart(self, receiver: &Receiver) -> Self {
        let data = receiver.apart(self.data).await;
        Self { data, ..self }
    }
}
