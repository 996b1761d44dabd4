//! The link to one client: its socket, why it ends, and whether it makes progress.
//!
//! The first reason given is the reason. Cutting the link shuts the socket down, upon which the receive and the send under way complete,
//! and with them the tasks of the connection come to their end by themselves: none is ever dropped half-way.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;

use crate::reactor::{Event, Reactor, Socket};

/// Looks of the watchdog without progress after which a client is stalled.
pub(in crate::export) const LOOKS_UNTIL_STALLED: u32 = 4;

/// How long clients may take, in seconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::export) struct Patience {
    pub(in crate::export) handshake_s: u64,
    pub(in crate::export) stall_s: u64,
}

/// What the receiving side is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::export) enum Phase {
    /// It is not agreed yet what is served.
    Handshake,
    /// Between requests: the client may take all the time of the world.
    BetweenRequests,
    /// A request has begun and its rest is waited for.
    InRequest,
    /// Requests that arrived are being started.
    Serving,
}

/// Why a link ends; each protocol has reasons of its own beside these.
pub(in crate::export) trait LinkEnd {
    /// The client closed the connection.
    fn closed() -> Self;
    /// The server stops.
    fn server_stops() -> Self;
    /// The handshake was not finished after so many seconds.
    fn slow_handshake(seconds: u64) -> Self;
    /// The rest of a request did not come for so many seconds.
    fn stalled_request(seconds: u64) -> Self;
    /// Replies were not taken for so many seconds.
    fn stalled_replies(seconds: u64) -> Self;
    /// Replies could not be sent.
    fn send_failed(error: io::Error) -> Self;
}

pub(in crate::export) struct Link<E> {
    pub(in crate::export) reactor: Reactor,
    pub(in crate::export) socket: Socket,
    pub(in crate::export) peer: String,
    pub(in crate::export) phase: Cell<Phase>,
    /// Receives and sends that moved bytes.
    received: Cell<u64>,
    sent: Cell<u64>,
    /// Transfers that the client was asked for and has not finished, and pieces of such that came.
    owed: Cell<usize>,
    paid: Cell<u64>,
    pub(in crate::export) sending: Cell<bool>,
    cut: Cell<bool>,
    /// Set when the link is cut, and when its connection has ended without that.
    pub(in crate::export) over: Event,
    stopping: Cell<bool>,
    reason: RefCell<Option<E>>,
    watch: Cell<Watch>,
}

/// What the watchdog saw at its last look.
#[derive(Clone, Copy, Default)]
struct Watch {
    received: u64,
    sent: u64,
    paid: u64,
    looks_at_owed: u32,
    looks_in_handshake: u32,
    looks_in_request: u32,
    looks_at_send: u32,
}

impl<E: LinkEnd> Link<E> {
    pub(in crate::export) fn new(reactor: &Reactor, socket: Socket, peer: String) -> Self {
        Self {
            reactor: reactor.clone(),
            socket,
            peer,
            phase: Cell::new(Phase::Handshake),
            received: Cell::new(0),
            sent: Cell::new(0),
            owed: Cell::new(0),
            paid: Cell::new(0),
            sending: Cell::new(false),
            cut: Cell::new(false),
            over: Event::default(),
            stopping: Cell::new(false),
            reason: RefCell::new(None),
            watch: Cell::new(Watch::default()),
        }
    }

    pub(in crate::export) fn count_received(&self) {
        self.received.set(self.received.get() + 1);
    }

    /// The client is asked for data.
    pub(in crate::export) fn owe(&self) {
        self.owed.set(self.owed.get() + 1);
    }

    /// A piece of such data came.
    pub(in crate::export) fn pay(&self) {
        self.paid.set(self.paid.get() + 1);
    }

    /// All that was asked for at once has come.
    pub(in crate::export) fn settle(&self) {
        self.owed.set(self.owed.get() - 1);
    }

    pub(in crate::export) fn count_sent(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    /// Says why the connection ends, unless it is known already.
    pub(in crate::export) fn give_reason(&self, reason: E) {
        self.reason.borrow_mut().get_or_insert(reason);
    }

    /// Ends the connection now.
    pub(in crate::export) fn cut(&self, reason: E) {
        self.give_reason(reason);
        self.cut.set(true);
        self.over.set();
        self.socket.shut_down(Shutdown::Both);
    }

    /// Whether nothing can be sent any more.
    pub(in crate::export) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Takes no more requests; what has arrived is finished and answered.
    pub(in crate::export) fn stop(&self) {
        self.stopping.set(true);
        if self.phase.get() == Phase::Handshake {
            return self.cut(E::server_stops());
        }
        self.socket.shut_down(Shutdown::Read);
    }

    pub(in crate::export) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(in crate::export) fn take_reason(&self) -> E {
        self.reason.borrow_mut().take().unwrap_or_else(E::closed)
    }

    /// The watchdog's look, [`LOOKS_UNTIL_STALLED`] times in each stall time.
    pub(in crate::export) fn look(&self, patience: Patience) {
        let before = self.watch.get();
        let (received, sent, paid) = (self.received.get(), self.sent.get(), self.paid.get());
        let mut now = Watch { received, sent, paid, ..Watch::default() };
        let phase = self.phase.get();
        if phase == Phase::Handshake {
            now.looks_in_handshake = before.looks_in_handshake + 1;
        }
        if phase == Phase::InRequest && now.received == before.received {
            now.looks_in_request = before.looks_in_request + 1;
        }
        if self.owed.get() > 0 && now.paid == before.paid {
            now.looks_at_owed = before.looks_at_owed + 1;
        }
        if self.sending.get() && now.sent == before.sent {
            now.looks_at_send = before.looks_at_send + 1;
        }
        self.watch.set(now);
        if self.is_cut() {
            return;
        }
        let look_s = patience.stall_s as f64 / f64::from(LOOKS_UNTIL_STALLED);
        if f64::from(now.looks_in_handshake) * look_s > patience.handshake_s as f64 {
            self.cut(E::slow_handshake(patience.handshake_s));
        } else if now.looks_in_request.max(now.looks_at_owed) > LOOKS_UNTIL_STALLED {
            self.cut(E::stalled_request(patience.stall_s));
        } else if now.looks_at_send > LOOKS_UNTIL_STALLED {
            self.cut(E::stalled_replies(patience.stall_s));
        }
    }
}
