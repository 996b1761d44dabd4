//! The gate of a disk: lets one command have a range to itself, against all writes on all reactors.
//!
//! A write pays one load and two plain counts for it. Before it touches the device it looks at `closed`, the number of ranges that somebody
//! has to himself; at zero it goes on, and counts among its queue's writes in flight until the device is done. Who wants a range to himself
//!
//! 1. puts it into the table, which closes the gate: writes that come from then on wait if they overlap;
//! 2. waits until the writes that every queue of the disk had in flight are done: a [`Census`] says how a write that saw the gate open is waited
//!    for, and why one that looks later sees it closed.
//!
//! The number goes down after the holder's last write (release), so who sees the gate open again also sees what was written.
//!
//! Nobody can wait in a circle: who waits at the gate has every buffer that the command will need, who is behind it waits for nothing but
//! devices, and nobody is behind it while a client has yet to send something. A queue that goes away answers when its writes are done, and a
//! holder that is dropped leaves the table. A write that is dropped half-way counts no longer, although the kernel may still carry it out.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::device::ByteRange;
use crate::reactor::{Census, Flight, Member, Reactor};

/// Room that no table outgrows in ordinary use.
const ROOM: usize = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The gate of one disk. On cache lines of its own: every write reads `closed`.
#[repr(align(128))]
pub(super) struct Gate {
    closed: AtomicUsize,
    table: Mutex<Table>,
    writes: Arc<Census>,
}

struct Table {
    held: Vec<Held>,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

/// A range that somebody has to himself, or gets as soon as the old writes are done.
struct Held {
    id: u64,
    range: ByteRange,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Writes wait for holders only.
    Write,
    /// Who wants a range to himself also waits for those who came before.
    Hold,
}

struct Waiting {
    id: u64,
    range: ByteRange,
    purpose: Purpose,
    waker: Waker,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        let table = Table { held: Vec::with_capacity(ROOM), waiting: Vec::with_capacity(ROOM) };
        Arc::new(Self { closed: AtomicUsize::new(0), table: Mutex::new(table), writes: Census::new() })
    }

    /// Makes a queue known, on its reactor.
    pub(super) fn seat(self: &Arc<Self>, reactor: &Reactor) -> Seat {
        Seat { gate: self.clone(), writes: self.writes.join(reactor) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic under this lock")
    }

    /// Follows a change of the holders.
    fn set_closed(&self, table: &Table) {
        self.closed.store(table.held.len(), Ordering::Release);
    }

    fn turn(&self, range: ByteRange, purpose: Purpose) -> Turn<'_> {
        Turn { gate: self, id: None, range, purpose }
    }
}

impl Table {
    /// Whether a command that stands in the line before `place` has to wait.
    fn stops(&self, range: ByteRange, purpose: Purpose, place: usize) -> bool {
        self.held.iter().any(|held| held.range.overlaps(range))
            || purpose == Purpose::Hold && self.waiting[..place].iter().any(|before| before.range.overlaps(range))
    }

    /// Wakes those who may go on now.
    fn wake(&self) {
        for (place, waiting) in self.waiting.iter().enumerate() {
            if !self.stops(waiting.range, waiting.purpose, place) {
                waiting.waker.wake_by_ref();
            }
        }
    }
}

/// A queue's place at the gate of its disk.
pub(super) struct Seat {
    gate: Arc<Gate>,
    writes: Member,
}

impl Seat {
    /// Whether a write may go on at once. What is written before the next await needs nothing else.
    #[inline]
    pub(super) fn is_open(&self, range: ByteRange) -> bool {
        self.gate.closed.load(Ordering::Acquire) == 0 || !self.gate.table().stops(range, Purpose::Write, 0)
    }

    /// Waits until the range may be written. That holds until the next await.
    #[inline]
    pub(super) async fn pass(&self, range: ByteRange) {
        if self.gate.closed.load(Ordering::Acquire) != 0 {
            self.gate.turn(range, Purpose::Write).await;
        }
    }

    /// Waits until the range may be written; it may until the flight is dropped.
    #[inline]
    pub(super) async fn enter(&self, range: ByteRange) -> Flight {
        self.pass(range).await;
        self.writes.begin()
    }

    /// Waits until nobody else writes to the range, which stays so until the holder is dropped.
    pub(super) async fn hold(&self, range: ByteRange) -> Holder {
        let id = self.gate.turn(range, Purpose::Hold).await;
        let holder = Holder { gate: self.gate.clone(), id };
        self.gate.writes.drain().await;
        holder
    }
}

/// Somebody who has a range to himself until this is dropped.
pub(super) struct Holder {
    gate: Arc<Gate>,
    id: u64,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut table = self.gate.table();
        table.held.retain(|held| held.id != self.id);
        self.gate.set_closed(&table);
        table.wake();
    }
}

/// Waits for a turn at the gate; who wants to hold the range is in the table from then on, under the number that this gives.
struct Turn<'a> {
    gate: &'a Gate,
    /// The number in the line, once in it.
    id: Option<u64>,
    range: ByteRange,
    purpose: Purpose,
}

impl Future for Turn<'_> {
    type Output = u64;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let (gate, range, purpose) = (self.gate, self.range, self.purpose);
        let mut table = gate.table();
        let id = *self.id.get_or_insert_with(|| NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let place = table.waiting.iter().position(|waiting| waiting.id == id);
        if table.stops(range, purpose, place.unwrap_or(table.waiting.len())) {
            match place {
                Some(place) => table.waiting[place].waker.clone_from(cx.waker()),
                None => table.waiting.push(Waiting { id, range, purpose, waker: cx.waker().clone() }),
            }
            return Poll::Pending;
        }
        if purpose == Purpose::Hold {
            table.held.push(Held { id, range });
            gate.set_closed(&table);
        }
        if let Some(place) = place {
            table.waiting.remove(place);
            table.wake();
        }
        self.id = None;
        Poll::Ready(id)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut table = self.gate.table();
        table.waiting.retain(|waiting| waiting.id != id);
        table.wake();
    }
}

#[cfg(test)]
mod tests;
