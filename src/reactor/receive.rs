//! Receive buffers that the connections of a reactor share: the kernel picks one when data has come, so a connection that waits holds none.
//!
//! The kernel takes buffers from a ring in the order in which they were put there (`io_uring_register_buf_ring(3)`, Linux 5.19). Only a few are
//! in it at a time, so that the same ones, whose lines are still in the cache, go round; when the kernel finds none there are more the next
//! time. On a kernel without such rings each receive brings its own buffer, which costs memory and nothing else.
//!
//! When a disk is closed, its plain text is wiped from all of them: from those that are spare at once, from those that are held when they come back,
//! and from those in the ring by passing them through once, as the kernel may write to these at any time.
//!
//! Invariants: a buffer is in the ring, or spare, or held, never two of these; a held one comes back when its last [`Received`] is dropped.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::memory::{Buffer, PAGE, Segment};

use super::sync::WaitList;
use super::{Reactor, Socket, yield_now};

/// Bytes of one buffer: many capsules with one receive, and few enough that some buffers fit into the second-level cache.
pub const RECEIVE_BYTES: usize = 64 << 10;
/// Entries of the ring: as many as fit into a page.
const ENTRIES: u16 = (PAGE / size_of::<BufRingEntry>()) as u16;
/// Buffers in the ring at the start.
const FEW: u16 = 4;

/// The receive buffers of one reactor.
pub struct ReceiveBuffers {
    reactor: Reactor,
    group: u16,
    /// The ring's entries, which the kernel reads; none on a kernel without such rings.
    entries: Option<Buffer>,
    tail: Cell<u16>,
    in_ring: Cell<u16>,
    /// So many are kept in the ring while there are spare ones.
    kept_in_ring: Cell<u16>,
    buffers: RefCell<Vec<Buffer>>,
    holds: RefCell<Vec<Cell<u32>>>,
    spare: RefCell<Vec<u16>>,
    /// Buffers that have to be wiped, and how many these are.
    soiled: RefCell<Vec<Cell<bool>>>,
    soiled_count: Cell<usize>,
    most: u16,
    returned: WaitList,
}

impl ReceiveBuffers {
    /// Receive buffers that take at most `most_bytes` of the reactor's memory.
    pub fn new(reactor: &Reactor, most_bytes: usize) -> Rc<Self> {
        let most = (most_bytes / RECEIVE_BYTES).clamp(2, usize::from(ENTRIES)) as u16;
        let group = reactor.ring().next_buffer_group();
        let entries = reactor.buffers().try_take(PAGE).and_then(|mut page| {
            page.fill(0);
            // SAFETY: the page stays where it is until the group is unregistered, which `drop` does before it frees the page.
            unsafe { reactor.ring().register_buffer_group(page.as_ptr(), ENTRIES, group) }.ok().map(|()| page)
        });
        let room = usize::from(most);
        let receivers = Rc::new(Self {
            reactor: reactor.clone(),
            group,
            entries,
            tail: Cell::new(0),
            in_ring: Cell::new(0),
            kept_in_ring: Cell::new(FEW.min(most)),
            buffers: RefCell::new(Vec::with_capacity(room)),
            holds: RefCell::new(Vec::with_capacity(room)),
            spare: RefCell::new(Vec::with_capacity(room)),
            soiled: RefCell::new(Vec::with_capacity(room)),
            soiled_count: Cell::new(0),
            most,
            returned: WaitList::with_room(room),
        });
        reactor.wiping().include(&receivers);
        receivers
    }

    /// Receives what has come, or waits for it; `None` when the peer has closed its side.
    pub async fn receive(self: &Rc<Self>, socket: &Socket) -> io::Result<Option<Received>> {
        if self.entries.is_none() {
            return self.receive_into_own(socket).await;
        }
        loop {
            self.fill_ring();
            let (result, selected) = socket.receive_selected(self.group, RECEIVE_BYTES).await;
            if let Some(id) = selected {
                self.in_ring.set(self.in_ring.get() - 1);
                self.holds.borrow()[usize::from(id)].set(1);
            }
            let received = selected.map(|id| Received { home: self.clone(), id, len: 0 });
            match (result, received) {
                (Ok(0), _) => return Ok(None),
                (Ok(len), Some(mut received)) => {
                    received.len = len;
                    return Ok(Some(received));
                }
                (Ok(_), None) => return Err(io::Error::other("the kernel received without a buffer")),
                (Err(e), _) if e.raw_os_error() == Some(libc::ENOBUFS) => self.more().await,
                (Err(e), _) => return Err(e),
            }
        }
    }

    async fn receive_into_own(self: &Rc<Self>, socket: &Socket) -> io::Result<Option<Received>> {
        let id = self.returned.until(|| self.take_spare()).await;
        let mut buffer = std::mem::take(&mut self.buffers.borrow_mut()[usize::from(id)]);
        let result = socket.receive(&mut buffer, 0..RECEIVE_BYTES).await;
        self.buffers.borrow_mut()[usize::from(id)] = buffer;
        self.holds.borrow()[usize::from(id)].set(1);
        let mut received = Received { home: self.clone(), id, len: 0 };
        received.len = result?;
        Ok((received.len > 0).then_some(received))
    }

    /// After the kernel found none: keeps more in the ring from now on, or waits until one comes back.
    async fn more(&self) {
        let kept = self.kept_in_ring.get();
        self.kept_in_ring.set((kept * 2).min(self.most));
        self.returned.until(|| (self.in_ring.get() > 0 || self.fill_ring()).then_some(())).await;
    }

    /// Puts spare buffers into the ring, and new ones while there may be more; true if there is one in it.
    fn fill_ring(&self) -> bool {
        while self.in_ring.get() < self.kept_in_ring.get() {
            let Some(id) = self.take_spare() else { break };
            self.put_into_ring(id);
        }
        self.in_ring.get() > 0
    }

    fn take_spare(&self) -> Option<u16> {
        if let Some(id) = self.spare.borrow_mut().pop() {
            return Some(id);
        }
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() >= usize::from(self.most) {
            return None;
        }
        let mut buffer = self.reactor.buffers().try_take(RECEIVE_BYTES)?;
        // It is kept for ever: the wiping of free buffers would not reach what is in it.
        buffer.fill(0);
        buffers.push(buffer);
        self.soiled.borrow_mut().push(Cell::new(false));
        self.holds.borrow_mut().push(Cell::new(0));
        Some((buffers.len() - 1) as u16)
    }

    fn put_into_ring(&self, id: u16) {
        let Some(entries) = &self.entries else { unreachable!("buffers go into the ring only if there is one") };
        let tail = self.tail.get();
        let place = entries.as_ptr().cast::<BufRingEntry>().cast_mut();
        // SAFETY: the page has room for ENTRIES entries and is aligned for them; the kernel reads an entry only after the tail has
        // moved past it. The entry's tail field is not among those that are set.
        unsafe {
            let entry = &mut *place.add(usize::from(tail % ENTRIES));
            entry.set_addr(self.buffers.borrow()[usize::from(id)].as_ptr().expose_provenance() as u64);
            entry.set_len(RECEIVE_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail lies in the page, aligned for 16 bits; the kernel reads it with acquire semantics.
        unsafe {
            let shared = AtomicU16::from_ptr(BufRingEntry::tail(place).cast_mut());
            shared.store(self.tail.get(), Ordering::Release);
        }
        self.in_ring.set(self.in_ring.get() + 1);
    }

    fn give_back(&self, id: u16) {
        if self.soiled_count.get() > 0 {
            self.wipe_if_soiled(id);
        }
        if self.entries.is_some() && self.in_ring.get() < self.kept_in_ring.get() {
            self.put_into_ring(id);
        } else {
            self.spare.borrow_mut().push(id);
        }
        self.returned.wake_all();
    }

    /// All of them may hold what has to be wiped.
    pub(super) fn soil(&self) {
        let soiled = self.soiled.borrow();
        soiled.iter().for_each(|soiled| soiled.set(true));
        self.soiled_count.set(soiled.len());
    }

    #[cold]
    fn wipe_if_soiled(&self, id: u16) {
        if self.soiled.borrow()[usize::from(id)].replace(false) {
            self.soiled_count.set(self.soiled_count.get() - 1);
            self.buffers.borrow_mut()[usize::from(id)].fill(0);
        }
    }

    /// Wipes those that are spare or in the ring, one by one. Held ones are wiped when they come back; on a kernel without rings also those that
    /// receives which wait have brought.
    pub(super) async fn wipe(self: &Rc<Self>) {
        while let Some(id) = self.soiled_spare() {
            self.wipe_if_soiled(id);
            yield_now().await;
        }
        if self.in_ring.get() == 0 {
            return;
        }
        let passed = match UnixStream::pair() {
            Ok((ours, theirs)) => self.pass_ring_through(ours, &Socket::new(&self.reactor, theirs.into())).await,
            Err(e) => Err(e),
        };
        if let Err(e) = passed {
            tracing::warn!("receive buffers are wiped only when they are used next: {e}");
        }
    }

    fn soiled_spare(&self) -> Option<u16> {
        let soiled = self.soiled.borrow();
        self.spare.borrow().iter().copied().find(|&id| soiled[usize::from(id)].get())
    }

    /// Receives a byte for each buffer in the ring: the kernel takes them in their order, and each is wiped when it comes back.
    async fn pass_ring_through(self: &Rc<Self>, mut from: UnixStream, to: &Socket) -> io::Result<()> {
        for _ in 0..self.in_ring.get() {
            if self.soiled_count.get() == 0 || self.in_ring.get() == 0 {
                break;
            }
            from.write_all(&[0])?;
            drop(self.receive(to).await?);
        }
        Ok(())
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        if let Some(entries) = self.entries.take()
            && self.reactor.ring().unregister_buffer_group(self.group).is_err()
        {
            // The kernel may still use the page and the buffers named there.
            std::mem::forget(entries);
            self.buffers.take().into_iter().for_each(std::mem::forget);
        }
    }
}

/// What one receive brought; held by whoever still needs its bytes.
pub struct Received {
    home: Rc<ReceiveBuffers>,
    id: u16,
    len: usize,
}

impl Received {
    /// How many bytes came.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Some of the bytes. They stay as they are while this or a clone lives.
    ///
    /// # Panics
    /// If the range does not lie within what came.
    pub fn segment(&self, range: Range<usize>) -> Segment {
        assert!(range.end <= self.len, "beyond what was received");
        self.home.buffers.borrow()[usize::from(self.id)].segment(range)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let segment = self.segment(0..self.len);
        // SAFETY: the buffer is held, so nobody writes to it and it is not freed while this lives.
        unsafe { std::slice::from_raw_parts(segment.as_ptr(), segment.len()) }
    }
}

impl Clone for Received {
    fn clone(&self) -> Self {
        let holds = self.home.holds.borrow();
        let count = &holds[usize::from(self.id)];
        count.set(count.get() + 1);
        Self { home: self.home.clone(), id: self.id, len: self.len }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let holds = self.home.holds.borrow();
        let count = &holds[usize::from(self.id)];
        count.set(count.get() - 1);
        if count.get() == 0 {
            drop(holds);
            self.home.give_back(self.id);
        }
    }
}
