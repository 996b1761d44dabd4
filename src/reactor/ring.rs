//! The reactor's io_uring: operations as futures, submission in batches, and the memory that the kernel may still touch.
//!
//! An operation's buffer moves into the ring's table when the operation is submitted and comes back with its completion. A future that
//! is dropped early leaves the buffer there, asks the kernel to cancel, and the buffer is freed when the completion has come: memory
//! is never reused under the kernel. A full submission queue makes the operation wait; nothing is lost.
//!
//! Invariants: `user_data` of every entry is the index of its row in `ops`, or [`NO_OPERATION`]; a row is reused only after its completion.
//! Facts: io_uring_setup(2), io_uring_enter(2).
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use crate::memory::{Arena, Buffer};

use super::profile::{Stage, stage};
use super::socket::SendBatch;

/// `user_data` of entries that nobody waits for.
const NO_OPERATION: u64 = u64::MAX;
/// `user_data` of the poll on the mailbox's eventfd.
const EVENTFD: u64 = u64::MAX - 1;
/// Slots in the table of registered files.
const FIXED_FILES: u32 = 4096;
/// Operations on storage go to the kernel when they move so many bytes together, or at the end of the turn. Waiting for the end alone would keep
/// the device idle while the cipher works on the rest of a batch: see the rows of 128 KiB in
/// `perf encrypted`.
const SUBMITTED_TOGETHER: u32 = 16 << 10;
/// The kernel takes at most 1 GiB as one registered buffer (io_uring_register(2), IORING_REGISTER_BUFFERS).
const LARGEST_REGISTERED: usize = 1 << 30;

/// What an operation owns while the kernel carries it out.
pub(super) enum Keep {
    Nothing,
    Buffer(Buffer),
    Send(Box<SendBatch>),
    /// The provided buffer that the kernel picked.
    Selected(u16),
}

/// A row of the operation table.
enum Row {
    Unused,
    /// Waits for the completion, and for the task to come back.
    InFlight {
        waker: Waker,
        keep: Keep,
        storage: bool,
    },
    Done {
        result: i32,
        keep: Keep,
    },
    /// The future is gone; the completion frees what is kept.
    Abandoned {
        _keep: Keep,
        storage: bool,
    },
}

/// Which kernel features the ring uses; for the start-up report.
#[derive(Clone, Debug, Default)]
pub struct RingFeatures {
    /// `IORING_SETUP_SINGLE_ISSUER`.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN`.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN`.
    pub coop_taskrun: bool,
    /// Buffers are registered, or why not.
    pub fixed_buffers: Option<String>,
    /// Files are registered.
    pub fixed_files: bool,
    /// `IORING_RECVSEND_POLL_FIRST`.
    pub poll_first: bool,
}

impl RingFeatures {
    /// A few words for people.
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        if self.single_issuer {
            words.push("SINGLE_ISSUER".to_owned());
        }
        if self.defer_taskrun {
            words.push("DEFER_TASKRUN".to_owned());
        }
        if self.coop_taskrun {
            words.push("COOP_TASKRUN".to_owned());
        }
        words.push(match &self.fixed_buffers {
            None => "registered buffers".to_owned(),
            Some(why) => format!("no registered buffers ({why})"),
        });
        words.push(if self.fixed_files { "registered files" } else { "no registered files" }.to_owned());
        words.join(", ")
    }
}

/// The io_uring of one reactor.
pub struct Ring {
    uring: RefCell<IoUring>,
    ops: RefCell<Vec<Row>>,
    unused: RefCell<Vec<u32>>,
    /// Tasks that found the submission queue full.
    waiting: RefCell<VecDeque<Waker>>,
    in_flight: Cell<usize>,
    storage_in_flight: Cell<usize>,
    /// Bytes that queued operations on storage will move.
    queued_bytes: Cell<u32>,
    eventfd: RawFd,
    eventfd_armed: Cell<bool>,
    eventfd_fired: Cell<bool>,
    free_files: RefCell<Vec<u32>>,
    buffer_groups: Cell<u16>,
    turns: Cell<u64>,
    features: RingFeatures,
}

impl Ring {
    /// Makes the ring on the calling thread, which is the only one that may use it, and registers the arena.
    pub(super) fn new(entries: u32, arena: &Arena, eventfd: RawFd) -> io::Result<Self> {
        let (uring, mut features) = build(entries)?;
        features.fixed_buffers = register_arena(&uring, arena);
        features.fixed_files = uring.submitter().register_files_sparse(FIXED_FILES).is_ok();
        // It came with Linux 5.19, before the other.
        features.poll_first = features.single_issuer;
        let free_files = if features.fixed_files { (0..FIXED_FILES).rev().collect() } else { Vec::new() };
        let rows = entries as usize * 4;
        Ok(Self {
            uring: RefCell::new(uring),
            ops: RefCell::new(Vec::with_capacity(rows)),
            unused: RefCell::new(Vec::with_capacity(rows)),
            waiting: RefCell::new(VecDeque::with_capacity(rows)),
            in_flight: Cell::new(0),
            storage_in_flight: Cell::new(0),
            queued_bytes: Cell::new(0),
            eventfd,
            eventfd_armed: Cell::new(false),
            eventfd_fired: Cell::new(false),
            free_files: RefCell::new(free_files),
            buffer_groups: Cell::new(0),
            turns: Cell::new(0),
            features,
        })
    }

    /// What the kernel gave.
    pub fn features(&self) -> &RingFeatures {
        &self.features
    }

    /// Whether buffers of the arena may be named as registered ones.
    pub(super) fn has_fixed_buffers(&self) -> bool {
        self.features.fixed_buffers.is_none()
    }

    /// Operations on storage that the kernel still works on: while there are some, the reactor polls.
    pub(super) fn storage_in_flight(&self) -> usize {
        self.storage_in_flight.get()
    }

    /// Lets the kernel's workers for blocking operations run on `cpus` only: not on the reactors' cores.
    pub(super) fn keep_workers_on(&self, cpus: &libc::cpu_set_t) {
        // An older kernel refuses; its workers then share the reactor's core.
        let _ = self.uring.borrow().submitter().register_iowq_aff(cpus);
    }

    /// Puts a descriptor into the table of registered files.
    pub(super) fn register_file(&self, fd: RawFd) -> Option<u32> {
        let slot = self.free_files.borrow_mut().pop()?;
        if self.uring.borrow().submitter().register_files_update(slot, &[fd]).is_ok() {
            return Some(slot);
        }
        self.free_files.borrow_mut().push(slot);
        None
    }

    /// Takes a descriptor out of the table of registered files.
    pub(super) fn unregister_file(&self, slot: u32) {
        // A slot that cannot be emptied is not used again.
        if self.uring.borrow().submitter().register_files_update(slot, &[-1]).is_ok() {
            self.free_files.borrow_mut().push(slot);
        }
    }

    /// Starts an operation on a socket or another thing whose answer may be far away.
    ///
    /// # Safety
    /// All memory that the entry names is kept alive by `keep`, or is static.
    pub(super) unsafe fn operation(&self, entry: squeue::Entry, keep: Keep) -> Operation<'_> {
        Operation { ring: self, entry: Some(entry), keep, row: None, storage: false, bytes: 0 }
    }

    /// Starts an operation on storage that moves `bytes`: the reactor polls until it is done.
    ///
    /// # Safety
    /// As for [`Ring::operation`].
    pub(super) unsafe fn storage_operation(&self, entry: squeue::Entry, keep: Keep, bytes: u32) -> Operation<'_> {
        Operation { ring: self, entry: Some(entry), keep, row: None, storage: true, bytes }
    }

    /// A number for a group of provided buffers that is not in use.
    pub(super) fn next_buffer_group(&self) -> u16 {
        self.buffer_groups.replace(self.buffer_groups.get().wrapping_add(1))
    }

    /// Makes a ring of provided buffers known to the kernel.
    ///
    /// # Safety
    /// The page at `at` has room for `entries` entries and stays mapped and unmoved until the group is unregistered.
    pub(super) unsafe fn register_buffer_group(&self, at: *const u8, entries: u16, group: u16) -> io::Result<()> {
        let address = at.expose_provenance() as u64;
        // SAFETY: the caller keeps the page.
        unsafe { self.uring.borrow().submitter().register_buf_ring_with_flags(address, entries, group, 0) }
    }

    /// Takes a ring of provided buffers back.
    pub(super) fn unregister_buffer_group(&self, group: u16) -> io::Result<()> {
        self.uring.borrow().submitter().unregister_buf_ring(group)
    }

    /// How many turns there were.
    pub(super) fn turns(&self) -> u64 {
        self.turns.get()
    }

    /// Submits what was queued and takes in what was completed; returns how many completions there were.
    pub(super) fn turn(&self) -> io::Result<usize> {
        self.turns.set(self.turns.get() + 1);
        if self.in_flight.get() == 0 && !self.eventfd_armed.get() {
            return Ok(0);
        }
        let mut uring = self.uring.borrow_mut();
        let submission = uring.submission();
        let must_enter = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if must_enter {
            self.queued_bytes.set(0);
            submit(&uring, None)?;
        }
        let done = self.reap(&mut uring);
        drop(uring);
        self.admit_waiting();
        Ok(done)
    }

    /// Lets the kernel finish what it has for this ring, whatever the ring's flags say; what is completed is taken in by the next turn.
    pub(super) fn enter(&self) -> io::Result<()> {
        let _kernel = stage(Stage::Kernel);
        let uring = self.uring.borrow();
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: nothing is submitted, so no memory is named.
        let entered = unsafe { uring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) };
        entered.map(drop).or_else(passing)
    }

    /// Waits in the kernel until something completes, a message comes, or `timeout` has passed.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let mut uring = self.uring.borrow_mut();
        if !self.eventfd_armed.replace(true) {
            let poll = opcode::PollAdd::new(types::Fd(self.eventfd), libc::POLLIN as u32).build().user_data(EVENTFD);
            // SAFETY: a poll names no memory.
            if unsafe { uring.submission().push(&poll) }.is_err() {
                self.eventfd_armed.set(false);
                return submit(&uring, None).map(|()| 0);
            }
        }
        submit(&uring, Some(timeout))?;
        Ok(self.reap(&mut uring))
    }

    /// Whether the mailbox's eventfd became readable since the last call.
    pub(super) fn take_eventfd_fired(&self) -> bool {
        self.eventfd_fired.replace(false)
    }

    fn reap(&self, uring: &mut IoUring) -> usize {
        let mut done = 0;
        for completion in uring.completion() {
            match completion.user_data() {
                NO_OPERATION => {}
                EVENTFD => {
                    self.eventfd_armed.set(false);
                    self.eventfd_fired.set(true);
                }
                row => {
                    let selected = cqueue::buffer_select(completion.flags());
                    self.complete(row as usize, completion.result(), selected);
                    done += 1;
                }
            }
        }
        done
    }

    fn complete(&self, index: usize, result: i32, selected: Option<u16>) {
        let _ring = stage(Stage::Ring);
        let mut ops = self.ops.borrow_mut();
        let row = std::mem::replace(&mut ops[index], Row::Unused);
        self.in_flight.set(self.in_flight.get() - 1);
        let was_storage = match row {
            Row::InFlight { waker, keep, storage } => {
                let keep = selected.map_or(keep, Keep::Selected);
                ops[index] = Row::Done { result, keep };
                drop(ops);
                waker.wake();
                storage
            }
            Row::Abandoned { _keep, storage } => {
                self.unused.borrow_mut().push(index as u32);
                storage
            }
            Row::Unused | Row::Done { .. } => unreachable!("a completion for an operation that was not in flight"),
        };
        if was_storage {
            self.storage_in_flight.set(self.storage_in_flight.get() - 1);
        }
    }

    fn admit_waiting(&self) {
        if self.waiting.borrow().is_empty() {
            return;
        }
        for waker in self.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Queues an entry; gives it back if the kernel takes no more now.
    fn push(&self, entry: squeue::Entry) -> Result<(), squeue::Entry> {
        let mut uring = self.uring.borrow_mut();
        if uring.submission().is_full() {
            // Whatever goes wrong here goes wrong again, and is reported, in `turn`.
            let _ = submit(&uring, None);
        }
        // SAFETY: whoever made the operation promised that its memory is kept in the row until the completion.
        unsafe { uring.submission().push(&entry) }.map_err(|_| entry)
    }

    /// Counts what an operation will move; hands the queue to the kernel when that is enough to keep the device busy.
    fn count_queued(&self, bytes: u32) {
        let queued = self.queued_bytes.get().saturating_add(bytes);
        self.queued_bytes.set(queued);
        if queued >= SUBMITTED_TOGETHER {
            self.queued_bytes.set(0);
            // Whatever goes wrong here goes wrong again, and is reported, in `turn`.
            let _ = submit(&self.uring.borrow(), None);
        }
    }

    fn new_row(&self, row: Row) -> u32 {
        let mut ops = self.ops.borrow_mut();
        if let Some(index) = self.unused.borrow_mut().pop() {
            ops[index as usize] = row;
            return index;
        }
        ops.push(row);
        self.unused.borrow_mut().reserve(ops.len());
        (ops.len() - 1) as u32
    }
}

impl Drop for Ring {
    /// A ring that dies with operations in flight leaks their memory: the kernel may write to it a little longer.
    fn drop(&mut self) {
        for row in self.ops.borrow_mut().drain(..) {
            if !matches!(row, Row::Unused | Row::Done { .. }) {
                std::mem::forget(row);
            }
        }
    }
}

/// The kernel's result, which is a number of bytes where there are any, and what was kept.
pub(super) type Outcome = (io::Result<usize>, Keep);

/// An operation: queued at the first poll, then ready with its outcome.
pub(super) struct Operation<'r> {
    ring: &'r Ring,
    entry: Option<squeue::Entry>,
    keep: Keep,
    row: Option<u32>,
    storage: bool,
    bytes: u32,
}

impl Future for Operation<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let _ring = stage(Stage::Ring);
        let ring = self.ring;
        if let Some(entry) = self.entry.take() {
            return self.submit(entry, cx);
        }
        let index = self.row.expect("an operation is polled again after it was ready");
        let mut ops = ring.ops.borrow_mut();
        match &mut ops[index as usize] {
            Row::InFlight { waker, .. } => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            row => {
                let Row::Done { result, keep } = std::mem::replace(row, Row::Unused) else {
                    unreachable!("the row of a living operation is in flight or done");
                };
                ring.unused.borrow_mut().push(index);
                self.row = None;
                let done = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
                Poll::Ready((done, keep))
            }
        }
    }
}

impl Operation<'_> {
    fn submit(mut self: Pin<&mut Self>, entry: squeue::Entry, cx: &mut Context<'_>) -> Poll<Outcome> {
        let ring = self.ring;
        let keep = std::mem::replace(&mut self.keep, Keep::Nothing);
        let index = ring.new_row(Row::InFlight { waker: cx.waker().clone(), keep, storage: self.storage });
        match ring.push(entry.user_data(u64::from(index))) {
            Ok(()) => {
                self.row = Some(index);
                ring.in_flight.set(ring.in_flight.get() + 1);
                ring.storage_in_flight.set(ring.storage_in_flight.get() + usize::from(self.storage));
                ring.count_queued(self.bytes);
            }
            Err(entry) => {
                let row = std::mem::replace(&mut ring.ops.borrow_mut()[index as usize], Row::Unused);
                ring.unused.borrow_mut().push(index);
                if let Row::InFlight { keep, .. } = row {
                    self.keep = keep;
                }
                self.entry = Some(entry);
                ring.waiting.borrow_mut().push_back(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        let Some(index) = self.row else { return };
        let mut ops = self.ring.ops.borrow_mut();
        match std::mem::replace(&mut ops[index as usize], Row::Unused) {
            Row::InFlight { keep, storage, .. } => {
                ops[index as usize] = Row::Abandoned { _keep: keep, storage };
                drop(ops);
                let cancel = opcode::AsyncCancel::new(u64::from(index)).build().user_data(NO_OPERATION);
                // If the queue is full the operation is not cancelled, and its memory comes free when it completes by itself.
                let _ = self.ring.push(cancel);
            }
            _ => self.ring.unused.borrow_mut().push(index),
        }
    }
}

/// Builds a ring with the best set-up flags that the kernel takes: DEFER_TASKRUN came with Linux 6.1, SINGLE_ISSUER with 6.0,
/// COOP_TASKRUN with 5.19.
fn build(entries: u32) -> io::Result<(IoUring, RingFeatures)> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp().setup_cqsize(entries * 4);
    let deferred = builder
        .clone()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries)
        .map(|ring| (ring, RingFeatures { single_issuer: true, defer_taskrun: true, ..RingFeatures::default() }));
    deferred
        .or_else(|_| {
            let ring = builder.clone().setup_coop_taskrun().setup_taskrun_flag().build(entries)?;
            Ok((ring, RingFeatures { coop_taskrun: true, ..RingFeatures::default() }))
        })
        .or_else(|_: io::Error| Ok((builder.build(entries)?, RingFeatures::default())))
}

/// Registers the arena as buffer 0, 1, … of up to 1 GiB each; returns why it could not.
fn register_arena(uring: &IoUring, arena: &Arena) -> Option<String> {
    let pieces: Vec<libc::iovec> = (0..arena.len())
        .step_by(LARGEST_REGISTERED)
        .map(|offset| libc::iovec {
            iov_base: arena.base().wrapping_add(offset).cast(),
            iov_len: (arena.len() - offset).min(LARGEST_REGISTERED),
        })
        .collect();
    // SAFETY: the arena stays mapped for as long as the ring: the reactor owns both, and drops the ring first.
    match unsafe { uring.submitter().register_buffers(&pieces) } {
        Ok(()) => None,
        Err(e) => Some(e.to_string()),
    }
}

/// Which registered piece of the arena an address lies in.
pub(super) fn registered_index(arena: &Arena, at: *const u8) -> u16 {
    ((at as usize - arena.base() as usize) / LARGEST_REGISTERED) as u16
}

/// Hands the queued entries to the kernel; with `wait`, until a completion comes or the time is over.
fn submit(uring: &IoUring, wait: Option<Option<Duration>>) -> io::Result<()> {
    let _kernel = stage(if wait.is_some() { Stage::Sleep } else { Stage::Kernel });
    let submitter = uring.submitter();
    let result = match wait {
        None => submitter.submit(),
        Some(None) => submitter.submit_and_wait(1),
        Some(Some(timeout)) => {
            let time = types::Timespec::from(timeout);
            submitter.submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
        }
    };
    result.map(drop).or_else(passing)
}

/// Interrupted, out of time, or the completion queue is full (io_uring_enter(2)): the completions are taken in next.
fn passing(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
        _ => Err(error),
    }
}

/// A descriptor that is registered with the ring where possible.
pub(super) struct RingFile {
    fd: OwnedFd,
    slot: Option<u32>,
}

impl RingFile {
    pub(super) fn new(ring: &Ring, fd: OwnedFd) -> Self {
        use std::os::fd::AsRawFd;
        let slot = ring.register_file(fd.as_raw_fd());
        Self { fd, slot }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(super) fn slot(&self) -> Option<u32> {
        self.slot
    }

    pub(super) fn release(&mut self, ring: &Ring) {
        if let Some(slot) = self.slot.take() {
            ring.unregister_file(slot);
        }
    }
}

/// Builds an entry on a registered file, or on the plain descriptor when there was no slot.
macro_rules! on_file {
    ($file:expr, |$target:ident| $entry:expr) => {{
        use std::os::fd::AsRawFd;
        match $file.slot() {
            Some(slot) => {
                let $target = io_uring::types::Fixed(slot);
                $entry
            }
            None => {
                let $target = io_uring::types::Fd($file.fd().as_raw_fd());
                $entry
            }
        }
    }};
}
pub(super) use on_file;
