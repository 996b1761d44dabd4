//! The page of a queue in which blocks are put together that a write covers partly.
//!
//! A volume knows blocks of 4 KiB. A write of 512-byte sectors may cover a part of one that is absent; the disk then supplies all of it
//! ([`super::thin`]). The page for that is taken from the reactor's buffers before the first write that could need it has taken any buffer, and
//! stays with the queue: nobody waits for a buffer while holding another. Who needs the page waits for it before it waits at the gate.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

use crate::memory::{Buffer, PAGE};
use crate::reactor::{Reactor, WaitList};

/// Tasks that may wait without an allocation.
const ROOM: usize = 256;

/// One page, for one write at a time.
pub(super) struct Edge {
    page: RefCell<Option<Buffer>>,
    /// The page was taken, whoever has it now.
    is_there: Cell<bool>,
    waiting: WaitList,
}

impl Default for Edge {
    fn default() -> Self {
        Self { page: RefCell::default(), is_there: Cell::new(false), waiting: WaitList::with_room(ROOM) }
    }
}

impl Edge {
    /// Makes sure that there is a page. The caller holds no buffer.
    pub(super) async fn prepare(&self, reactor: &Reactor) {
        if self.is_there.get() {
            return;
        }
        let page = reactor.buffers().take(PAGE).await;
        // Several may have waited.
        if !self.is_there.replace(true) {
            *self.page.borrow_mut() = Some(page);
        }
    }

    /// Waits until the page is free. Who calls this has prepared it.
    pub(super) async fn take(&self) -> Lent<'_> {
        let page = self.waiting.until(|| self.page.borrow_mut().take()).await;
        Lent { edge: self, page }
    }
}

/// The page, until this is dropped.
pub(super) struct Lent<'a> {
    edge: &'a Edge,
    page: Buffer,
}

impl Deref for Lent<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.page
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.page
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let page = std::mem::take(&mut self.page);
        // A write that was dropped half-way has left its page with the kernel: the next write takes another.
        if page.is_empty() {
            self.edge.is_there.set(false);
        } else {
            *self.edge.page.borrow_mut() = Some(page);
        }
        self.edge.waiting.wake_all();
    }
}
