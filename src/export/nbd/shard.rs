//! A server's part on one reactor: a queue on each export's disk, the connections served here, and their watchdog.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::device::IoError;
use crate::disk::{DiskError, DiskQueue};
use crate::export::stream::{Arrival, Flushed, LOOKS_UNTIL_STALLED, Patience, Share, let_go};
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Event, Reactor, Socket};

use super::Link;
use super::config::NbdConfig;
use super::end::EndReason;
use super::exports::{Export, Exports};
use super::handshake::Handshake;
use super::receiver::{LARGE, Receiver};
use super::session::Session;

thread_local! {
    /// The shards of this reactor, by the number of their server.
    static SHARDS: RefCell<HashMap<u64, Rc<Shard>>> = RefCell::default();
}

pub(super) struct Shard {
    reactor: Reactor,
    exports: Arc<Exports>,
    /// By the numbers of their exports.
    queues: RefCell<HashMap<u64, Rc<DiskQueue>>>,
    links: RefCell<Vec<Rc<Link>>>,
    share: Rc<Share>,
    patience: Patience,
    slots: u16,
    stopped: Event,
}

impl Shard {
    /// Starts the server's part on this reactor. Returns how many connections its memory carries: each has a receive buffer for as long as it lives,
    /// and half of the pool is kept free of these, so that large buffers can always be had.
    pub(super) fn open(reactor: &Reactor, server: u64, config: &NbdConfig, exports: &Arc<Exports>) -> usize {
        let pool_bytes = reactor.buffers().arena().len();
        let shard = Rc::new(Self {
            reactor: reactor.clone(),
            exports: exports.clone(),
            queues: RefCell::default(),
            links: RefCell::default(),
            share: Rc::new(Share::new(pool_bytes, 2 * LARGE)),
            patience: Patience { handshake_s: config.handshake_timeout_s, stall_s: config.stall_timeout_s },
            slots: config.iodepth as u16,
            stopped: Event::default(),
        });
        reactor.spawn(shard.clone().watch());
        SHARDS.with_borrow_mut(|shards| shards.insert(server, shard));
        (pool_bytes / 2 / LARGE).max(1)
    }

    fn find(server: u64) -> Option<Rc<Self>> {
        SHARDS.with_borrow(|shards| shards.get(&server).cloned())
    }

    /// Opens an export's disk on this reactor.
    pub(super) fn open_export(server: u64, export: &Export) -> Result<(), DiskError> {
        let Some(shard) = Self::find(server) else { return Ok(()) };
        let queue = export.disk.queue(&shard.reactor)?;
        shard.queues.borrow_mut().insert(export.number, queue);
        Ok(())
    }

    /// Makes an export's disk durable.
    pub(super) async fn flush_export(server: u64, export: u64) -> Result<(), IoError> {
        let queue = Self::find(server).and_then(|shard| shard.queues.borrow().get(&export).cloned());
        match queue {
            Some(queue) => queue.flush().await,
            None => Ok(()),
        }
    }

    /// Closes it again; ends when the key is gone and the plain text too.
    pub(super) async fn close_export(reactor: Reactor, server: u64, export: u64) {
        let queue = Self::find(server).and_then(|shard| shard.queues.borrow_mut().remove(&export));
        let_go(reactor, queue).await;
    }

    /// Starts to serve a connection; one that comes when the server has gone is closed.
    pub(super) fn arrive(server: u64, arrival: Arrival) {
        let Some(shard) = Self::find(server) else { return };
        let reactor = shard.reactor.clone();
        reactor.spawn(during(Stage::Receive, shard.serve(arrival)));
    }

    /// Takes no more requests on this reactor.
    pub(super) fn stop(server: u64) {
        if let Some(shard) = Self::find(server) {
            shard.links.borrow().iter().for_each(|link| link.stop());
        }
    }

    /// Makes all disks durable, and tells `done` which of them could not.
    pub(super) fn flush(server: u64, done: Flushed) {
        let Some(shard) = Self::find(server) else { return done(Vec::new()) };
        let queues: Vec<_> = shard.queues.borrow().values().cloned().collect();
        shard.reactor.spawn(async move {
            let mut failed = Vec::new();
            for queue in queues {
                if let Err(e) = queue.flush().await {
                    failed.push(format!("disk {}: {e}", queue.disk().name()));
                }
            }
            done(failed);
        });
    }

    /// Lets go of the disks once the last connection has ended.
    pub(super) fn close(server: u64) {
        if let Some(shard) = SHARDS.with_borrow_mut(|shards| shards.remove(&server)) {
            shard.stopped.set();
        }
    }

    async fn serve(self: Rc<Self>, arrival: Arrival) {
        let socket = Socket::new(&self.reactor, arrival.socket);
        let link = Rc::new(Link::new(&self.reactor, socket, arrival.peer));
        self.links.borrow_mut().push(link.clone());
        self.share.join();
        let mut receiver = Receiver::new(&link).await;
        match Handshake::new(&link, &mut receiver, &self.exports).run().await {
            Err(reason) => {
                link.give_reason(reason);
                log_end(&link, None);
            }
            Ok(chosen) => {
                // An export that has a client is not closed.
                let disk = self.queues.borrow()[&chosen.export.number].clone();
                info!(peer = link.peer, export = chosen.export.name, "nbd connection opened");
                let lent = receiver.lent().clone();
                let session = Session::new(&link, &chosen, disk, &lent, &self.share, self.slots);
                session.run(&mut receiver).await;
                log_end(&link, Some(&session));
            }
        }
        drop(receiver);
        self.share.leave();
        self.links.borrow_mut().retain(|other| !Rc::ptr_eq(other, &link));
        drop(link);
        drop(arrival.admission);
    }

    /// Looks after stalled clients until the server is closed. One timer serves all connections.
    async fn watch(self: Rc<Self>) {
        let interval = Duration::from_secs(self.patience.stall_s) / LOOKS_UNTIL_STALLED;
        while !self.stopped.happens_within(&self.reactor, interval).await {
            self.links.borrow().iter().for_each(|link| link.look(self.patience));
        }
    }
}

fn log_end(link: &Link, session: Option<&Session>) {
    let reason = link.take_reason();
    let is_probe = session.is_none() && matches!(reason, EndReason::Closed | EndReason::ClosedMidway);
    let peer = &link.peer;
    let export = session.map_or("", |s| &s.export.name);
    let [requests, errors, bytes_read, bytes_written] = session.map_or([0; 4], |s| {
        [&s.tally.requests, &s.tally.errors, &s.tally.bytes_read, &s.tally.bytes_written].map(|counter| counter.get())
    });
    if reason.is_orderly() || is_probe {
        info!(peer, export, requests, errors, bytes_read, bytes_written, "nbd connection ended: {reason}");
    } else {
        warn!(peer, export, requests, errors, bytes_read, bytes_written, "nbd connection ended: {reason}");
    }
}
