//! Commands on a device's own memory, in the order in which they get to work: while one is worked on, the memory of the next is fetched.
//!
//! Fetching a page from memory takes longer than taking it through the cipher. A command therefore says where it will work and lets the other
//! ready commands do the same; the first one's page is fetched at once, and each of the others' beside the work on the one before it.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::memory::{Segment, prefetch_ahead};
use crate::reactor::yield_now;

/// More of a command than this is not asked for ahead: the kernels look ahead themselves.
const PREFETCHED: usize = 4096;
/// Room that the line does not outgrow in ordinary use.
const ROOM: usize = 256;

/// Has the next command's memory fetched, for work that does not do that by itself.
pub(super) fn fetch(after: *const u8) {
    if !after.is_null() {
        prefetch_ahead(after, PREFETCHED);
    }
}

/// The commands that wait for their turn.
pub(super) struct Line(RefCell<VecDeque<*const u8>>);

impl Default for Line {
    fn default() -> Self {
        Self(RefCell::new(VecDeque::with_capacity(ROOM)))
    }
}

impl Line {
    /// Waits for the command's turn; gives the place of the next command, or null. Turns come in the order of the calls, as the executor polls
    /// tasks in the order in which they were woken; were it otherwise, a hint would be wrong and nothing else.
    pub(super) async fn turn(&self, memory: Segment) -> *const u8 {
        let is_first = {
            let mut line = self.0.borrow_mut();
            line.push_back(memory.as_ptr());
            line.len() == 1
        };
        if is_first {
            prefetch_ahead(memory.as_ptr(), memory.len().min(PREFETCHED));
        }
        yield_now().await;
        let mut line = self.0.borrow_mut();
        line.pop_front();
        line.front().copied().unwrap_or(std::ptr::null())
    }
}
