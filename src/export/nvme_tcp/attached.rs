//! What a host sees of its subsystem on one reactor: namespaces, each with a queue on its disk.
//!
//! Commands of the host's I/O queues on this reactor look their namespace up here. It comes in when the host first names it, and is taken out by
//! a message when the host is not to see it any more: commands that found it before hold on to it until they have ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::disk::DiskQueue;

use super::desk::{AccessCell, Desk};
use super::subsystem::Namespace;

/// A namespace as a host reaches it on this reactor.
pub(super) struct Attached {
    pub(super) namespace: Arc<Namespace>,
    pub(super) disk: Rc<DiskQueue>,
    /// What the namespace's reservation lets the host do.
    pub(super) access: Arc<AccessCell>,
    /// Where its reservation is kept.
    pub(super) desk: Arc<Desk>,
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
