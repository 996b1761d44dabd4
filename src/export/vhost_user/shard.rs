//! A server's part on one reactor: a queue on the disk of each socket, and the guests' queues that are served here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::IoError;
use crate::disk::{DiskError, DiskQueue};
use crate::export::stream::let_go;
use crate::reactor::Reactor;

use super::exported::Exported;
use super::memory::GuestMemory;
use super::queue::{Queue, QueueSetup, Tally};

thread_local! {
    /// The shards of this reactor, by the number of their server.
    static SHARDS: RefCell<HashMap<u64, Rc<Shard>>> = RefCell::default();
}

pub(super) struct Shard {
    reactor: Reactor,
    /// By the numbers of the disks at sockets.
    disks: RefCell<HashMap<u64, Rc<DiskQueue>>>,
    /// By numbers of their own.
    queues: RefCell<HashMap<u64, Rc<Queue>>>,
}

impl Shard {
    /// Starts the server's part on this reactor.
    pub(super) fn open(reactor: &Reactor, server: u64) {
        let shard = Rc::new(Self { reactor: reactor.clone(), disks: RefCell::default(), queues: RefCell::default() });
        SHARDS.with_borrow_mut(|shards| shards.insert(server, shard));
    }

    fn find(server: u64) -> Option<Rc<Self>> {
        SHARDS.with_borrow(|shards| shards.get(&server).cloned())
    }

    /// Opens a disk on this reactor.
    pub(super) fn open_disk(server: u64, exported: &Exported) -> Result<(), DiskError> {
        let Some(shard) = Self::find(server) else { return Ok(()) };
        let queue = exported.of.disk.queue(&shard.reactor)?;
        shard.disks.borrow_mut().insert(exported.number, queue);
        Ok(())
    }

    /// Makes a disk durable.
    pub(super) async fn flush_disk(server: u64, exported: u64) -> Result<(), IoError> {
        let queue = Self::find(server).and_then(|shard| shard.disks.borrow().get(&exported).cloned());
        match queue {
            Some(queue) => queue.flush().await,
            None => Ok(()),
        }
    }

    /// Closes a disk again; ends when the key is gone and the plain text too.
    pub(super) async fn close_disk(reactor: Reactor, server: u64, exported: u64) {
        let queue = Self::find(server).and_then(|shard| shard.disks.borrow_mut().remove(&exported));
        let_go(reactor, queue).await;
    }

    /// Starts a queue.
    pub(super) fn start_queue(server: u64, number: u64, setup: QueueSetup) -> Result<(), String> {
        let gone = || "the disk is not served here any more".to_owned();
        let shard = Self::find(server).ok_or_else(gone)?;
        let disk = shard.disks.borrow().get(&setup.exported.number).cloned().ok_or_else(gone)?;
        let queue = Queue::start(&shard.reactor, disk, setup)?;
        shard.queues.borrow_mut().insert(number, queue);
        Ok(())
    }

    fn queue(server: u64, number: u64) -> Option<Rc<Queue>> {
        Self::find(server)?.queues.borrow().get(&number).cloned()
    }

    /// Ends a queue once its requests have ended; tells where its ring was left, and what it has done.
    pub(super) async fn end_queue(server: u64, number: u64) -> Option<(u32, Tally)> {
        let queue = Self::find(server)?.queues.borrow_mut().remove(&number)?;
        Some(queue.end().await)
    }

    /// Tells the guest by another eventfd from now on.
    pub(super) fn set_call(server: u64, number: u64, call: Option<OwnedFd>) -> Result<(), String> {
        Self::queue(server, number).map_or(Ok(()), |queue| queue.set_call(call))
    }

    /// Ends when nothing of the queue touches the memory before any more.
    pub(super) async fn change_memory(server: u64, number: u64, memory: Arc<GuestMemory>) {
        if let Some(queue) = Self::queue(server, number) {
            queue.change_memory(memory).await;
        }
    }

    /// Lets go of everything, and of queues that still run when their requests have ended.
    pub(super) fn close(server: u64) {
        let Some(shard) = SHARDS.with_borrow_mut(|shards| shards.remove(&server)) else { return };
        for (_, queue) in shard.queues.borrow_mut().drain() {
            shard.reactor.spawn(async move {
                queue.end().await;
            });
        }
    }
}
