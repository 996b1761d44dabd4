//! What a host sees of its subsystem on one reactor: namespaces, each with a queue on its disk.
//!
//! Commands of the host's I/O queues on this reactor look their namespace up here. It comes in when the host first names it, and is taken out by
//! a message when the host is not to see it any more, or was preempted: commands at work then are waited for, and those that still wait for
//! their data never get to work.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::disk::reservation::AccessCell;
use crate::disk::{Consumer, DiskQueue, Tap};

use super::desk::{Desk, holder};
use super::subsystem::{HostId, Namespace};
use super::wire::status::Status;

/// A namespace as a host reaches it on this reactor.
pub(super) struct Attached {
    pub(super) namespace: Arc<Namespace>,
    pub(super) disk: Rc<DiskQueue>,
    /// Where its commands keep within the disk's limits.
    pub(super) tap: Tap,
    /// Where its reservation is kept.
    pub(super) desk: Arc<Desk>,
    /// What the reservation lets the host do.
    access: Arc<AccessCell>,
    /// Commands that are at work on the disk.
    working: Cell<u32>,
    /// What commands end with that found this and are not at work yet.
    withdrawn: Cell<Option<Status>>,
}

/// A command at work on the disk.
pub(super) struct Working<'a>(&'a Attached);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.working.set(self.0.working.get() - 1);
    }
}

impl Attached {
    /// A namespace for a host; `consumer` is whom its commands count for.
    pub(super) fn new(
        namespace: Arc<Namespace>,
        disk: Rc<DiskQueue>,
        desk: Arc<Desk>,
        host: HostId,
        consumer: &Consumer,
    ) -> Rc<Self> {
        let access = desk.access_of(holder(host));
        let tap = disk.tap(consumer);
        let (working, withdrawn) = (Cell::new(0), Cell::new(None));
        Rc::new(Self { namespace, disk, tap, desk, access, working, withdrawn })
    }

    /// The host's right to read, for as long as the command works. A command that waits for its data asks again when it has come: a preemption or a
    /// detachment does not wait for hosts.
    pub(super) fn may_read(&self) -> Result<Working<'_>, Status> {
        if self.access.get().may_read() { self.work() } else { Err(Status::RESERVATION_CONFLICT.final_one()) }
    }

    /// The same for what changes the disk, flush among it.
    pub(super) fn may_write(&self) -> Result<Working<'_>, Status> {
        if self.access.get().may_write() { self.work() } else { Err(Status::RESERVATION_CONFLICT.final_one()) }
    }

    fn work(&self) -> Result<Working<'_>, Status> {
        if let Some(status) = self.withdrawn.get() {
            return Err(status);
        }
        self.working.set(self.working.get() + 1);
        Ok(Working(self))
    }

    /// No command starts to work any more; those that wait for the disk's limits find that out now.
    pub(super) fn withdraw(&self, status: Status) {
        self.withdrawn.set(Some(status));
        self.tap.close();
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.get().is_some()
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.working.get() == 0
    }
}

/// The namespaces of one host, by their identifiers.
#[derive(Default)]
pub(super) struct HostView {
    /// Sorted by identifier: hosts see few.
    table: RefCell<Vec<(u32, Rc<Attached>)>>,
}

impl HostView {
    pub(super) fn get(&self, nsid: u32) -> Option<Rc<Attached>> {
        let table = self.table.borrow();
        table.binary_search_by_key(&nsid, |(nsid, _)| *nsid).ok().map(|index| table[index].1.clone())
    }

    pub(super) fn insert(&self, attached: Rc<Attached>) {
        let nsid = attached.namespace.nsid();
        let mut table = self.table.borrow_mut();
        match table.binary_search_by_key(&nsid, |(nsid, _)| *nsid) {
            Ok(index) => table[index].1 = attached,
            Err(index) => table.insert(index, (nsid, attached)),
        }
    }

    /// Takes a namespace out; whoever wants to know when its last command is done holds on to it.
    pub(super) fn remove(&self, nsid: u32) -> Option<Rc<Attached>> {
        let mut table = self.table.borrow_mut();
        let index = table.binary_search_by_key(&nsid, |(nsid, _)| *nsid).ok()?;
        Some(table.remove(index).1)
    }
}
