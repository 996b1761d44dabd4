//! The link to one client: its socket, why it ends, and whether it makes progress.
//!
//! The first reason given is the reason. Cutting the link shuts the socket down, upon which the receive and the send under way complete,
//! and with them the tasks of the connection come to their end by themselves: none is ever dropped half-way.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;

use crate::reactor::{Reactor, Socket};

use super::end::EndReason;

/// Looks of the watchdog without progress after which a client is stalled.
pub(super) const LOOKS_UNTIL_STALLED: u32 = 4;

/// How long clients may take, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) handshake_s: u64,
    pub(super) stall_s: u64,
}

/// What the receiving side is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The export is not chosen yet.
    Handshake,
    /// Between requests: the client may take all the time of the world.
    BetweenRequests,
    /// A request has begun and its rest is waited for.
    InRequest,
    /// Requests that arrived are being started.
    Serving,
}

pub(super) struct Link {
    pub(super) reactor: Reactor,
    pub(super) socket: Socket,
    pub(super) peer: String,
    pub(super) phase: Cell<Phase>,
    /// Receives and sends that moved bytes.
    received: Cell<u64>,
    sent: Cell<u64>,
    pub(super) sending: Cell<bool>,
    cut: Cell<bool>,
    stopping: Cell<bool>,
    reason: RefCell<Option<EndReason>>,
    watch: Cell<Watch>,
}

/// What the watchdog saw at its last look.
#[derive(Clone, Copy, Default)]
struct Watch {
    received: u64,
    sent: u64,
    looks_in_handshake: u32,
    looks_in_request: u32,
    looks_at_send: u32,
}

impl Link {
    pub(super) fn new(reactor: &Reactor, socket: Socket, peer: String) -> Self {
        Self {
            reactor: reactor.clone(),
            socket,
            peer,
            phase: Cell::new(Phase::Handshake),
            received: Cell::new(0),
            sent: Cell::new(0),
            sending: Cell::new(false),
            cut: Cell::new(false),
            stopping: Cell::new(false),
            reason: RefCell::new(None),
            watch: Cell::new(Watch::default()),
        }
    }

    pub(super) fn count_received(&self) {
        self.received.set(self.received.get() + 1);
    }

    pub(super) fn count_sent(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    /// Says why the connection ends, unless it is known already.
    pub(super) fn give_reason(&self, reason: EndReason) {
        self.reason.borrow_mut().get_or_insert(reason);
    }

    /// Ends the connection now.
    pub(super) fn cut(&self, reason: EndReason) {
        self.give_reason(reason);
        self.cut.set(true);
        self.socket.shut_down(Shutdown::Both);
    }

    /// Whether nothing can be sent any more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Takes no more requests; what has arrived is finished and answered.
    pub(super) fn stop(&self) {
        self.stopping.set(true);
        if self.phase.get() == Phase::Handshake {
            return self.cut(EndReason::ServerStops);
        }
        self.socket.shut_down(Shutdown::Read);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn take_reason(&self) -> EndReason {
        self.reason.borrow_mut().take().unwrap_or(EndReason::Closed)
    }

    /// The watchdog's look, [`LOOKS_UNTIL_STALLED`] times in each stall time.
    pub(super) fn look(&self, patience: Patience) {
        let before = self.watch.get();
        let mut now = Watch { received: self.received.get(), sent: self.sent.get(), ..Watch::default() };
        let phase = self.phase.get();
        if phase == Phase::Handshake {
            now.looks_in_handshake = before.looks_in_handshake + 1;
        }
        if phase == Phase::InRequest && now.received == before.received {
            now.looks_in_request = before.looks_in_request + 1;
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
            self.cut(EndReason::SlowHandshake(patience.handshake_s));
        } else if now.looks_in_request > LOOKS_UNTIL_STALLED {
            self.cut(EndReason::StalledRequest(patience.stall_s));
        } else if now.looks_at_send > LOOKS_UNTIL_STALLED {
            self.cut(EndReason::StalledReplies(patience.stall_s));
        }
    }
}
