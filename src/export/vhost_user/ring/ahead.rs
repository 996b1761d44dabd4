//! Looking ahead: memory of the requests that come next is fetched while the one before is worked on.
//!
//! A driver has just written it on another core, so each first touch waits for a line to come from there: for the descriptor, then for the table that
//! it names, then for the request's header. One step is taken per request, for three requests at once. All of it is hints: what is read
//! here is read again when the request's turn comes, and is checked then.

use crate::memory::{LINE, Segment, prefetch_line};

use super::super::memory::GuestMemory;
use super::Descriptor;
use super::chain::Table;

/// The most of a table that is fetched: header, a few pieces of data, status.
const TABLE_BYTES: usize = 2 * LINE;

/// Has the memory fetched that a descriptor names: an indirect table, or a request's header.
#[inline]
pub(super) fn fetch_named(memory: &GuestMemory, descriptor: Descriptor) {
    if let Ok(named) = memory.whole(descriptor.address, descriptor.len) {
        fetch(named);
    }
}

/// Has a request's header and status fetched: what its table names first and last, if the descriptor names a table.
#[inline]
pub(super) fn fetch_request(memory: &GuestMemory, descriptor: Descriptor) {
    if !descriptor.has(Descriptor::INDIRECT) {
        return;
    }
    if let Ok(table) = Table::new(memory, descriptor) {
        for entry in [0, table.entries() - 1] {
            let (address, _) = table.entry(entry);
            if let Ok(byte) = memory.whole(address, 1) {
                prefetch_line(byte.as_ptr());
            }
        }
    }
}

#[inline]
fn fetch(memory: Segment) {
    let len = memory.len().min(TABLE_BYTES);
    if len > 0 {
        prefetch_line(memory.as_ptr());
        // It may begin anywhere in a line.
        prefetch_line(memory.as_ptr().wrapping_add(len - 1));
    }
}
