//! A job while it runs: a reactor on the job's thread, which takes a turn whenever fio asks for events, and `iodepth` slots, each a task that
//! serves one command after the other.
//!
//! fio queues a command, which waits until the next turn, and so does whatever is queued with it: together they go to the disk, and to the kernel,
//! in one batch. A job that pauses between commands (`rate`, `thinktime`) would leave them waiting; its commands begin when fio commits them.
//!
//! A command belongs to the engine from `queue` to `event`: fio leaves it and its buffer alone meanwhile.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use strongroom::device::{ByteRange, IoError};
use strongroom::disk::{Cost, DiskError, DiskQueue, Tap};
use strongroom::memory::{LARGEST_BUFFER, Segment};
use strongroom::reactor::{Handoff, LocalReactor, Polled, Poller, ReactorError};
use strongroom_sys::fio::{DDIR_DATASYNC, DDIR_READ, DDIR_SYNC, DDIR_SYNC_FILE_RANGE, DDIR_TRIM, DDIR_WRITE, io_u};
use thiserror::Error;

use crate::disks::OpenDisk;

/// Why a job does not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Reactor(#[from] ReactorError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A command of fio, from `queue` to `event`.
type Command = NonNull<io_u>;

enum Work {
    Run(Command),
    End,
}

/// A disk as the job has it.
struct Opened {
    queue: Rc<DiskQueue>,
    tap: Tap,
}

/// Where fio leaves commands and takes them back.
struct Desk {
    waiting: RefCell<VecDeque<Command>>,
    /// Numbers of slots without a command.
    free: RefCell<Vec<u32>>,
    slots: Box<[Handoff<Work>]>,
    done: RefCell<VecDeque<Command>>,
    ending: Cell<bool>,
}

/// A job that runs.
pub(crate) struct Engine {
    desk: Rc<Desk>,
    /// How many of the done commands fio was told of last.
    shown: usize,
    starts_at_once: bool,
    // Lets the slots end, before the desk is taken away.
    local: LocalReactor,
    _polled: Polled,
}

impl Engine {
    /// Sets up the calling thread. `disks` is not empty; commands name them by number.
    pub(crate) fn start(disks: &[Arc<OpenDisk>], iodepth: usize, starts_at_once: bool) -> Result<Self, StartError> {
        let local = LocalReactor::start(disks[0].reactor_config())?;
        let opened = disks.iter().map(|open| {
            let queue = open.disk.queue(local.reactor())?;
            Ok(Opened { tap: queue.tap(&open.consumer), queue })
        });
        let opened: Rc<[Opened]> = opened.collect::<Result<_, DiskError>>()?;
        let desk = Rc::new(Desk {
            waiting: RefCell::new(VecDeque::with_capacity(iodepth)),
            free: RefCell::new((0..iodepth as u32).rev().collect()),
            slots: (0..iodepth).map(|_| Handoff::default()).collect(),
            done: RefCell::new(VecDeque::with_capacity(iodepth)),
            ending: Cell::new(false),
        });
        for number in 0..iodepth as u32 {
            local.reactor().spawn(serve(desk.clone(), opened.clone(), number));
        }
        let polled = local.reactor().add_poller(desk.clone());
        Ok(Self { desk, shown: 0, starts_at_once, local, _polled: polled })
    }

    /// Takes a command; false if as many as there are slots are under way or not fetched.
    #[inline]
    pub(crate) fn queue(&self, command: Command) -> bool {
        let mut waiting = self.desk.waiting.borrow_mut();
        if waiting.len() == self.desk.slots.len() {
            return false;
        }
        waiting.push_back(command);
        true
    }

    /// fio has queued what it wants to have begun now.
    #[inline]
    pub(crate) fn commit(&self) {
        if self.starts_at_once {
            self.local.look();
        }
    }

    /// Works until so many commands are done, and looks at least once; how many of them fio may fetch now.
    #[inline]
    pub(crate) fn events(&mut self, least: usize, most: usize) -> usize {
        self.desk.done.borrow_mut().drain(..self.shown);
        if least == 0 {
            self.local.look();
        }
        while self.desk.done.borrow().len() < least {
            self.local.turn();
        }
        self.shown = self.desk.done.borrow().len().min(most);
        self.shown
    }

    /// The command of this number among those that [`Engine::events`] has promised.
    #[inline]
    pub(crate) fn event(&self, number: usize) -> Option<Command> {
        self.desk.done.borrow().get(number).copied()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.desk.ending.set(true);
        // Pools of other jobs go on, and must not wait for this thread.
        self.local.reactor().spawn(strongroom::volume::retire());
    }
}

impl Poller for Desk {
    /// Gives commands to free slots.
    #[inline]
    fn poll(&self) -> usize {
        let (mut waiting, mut free) = (self.waiting.borrow_mut(), self.free.borrow_mut());
        let mut given = 0;
        while !waiting.is_empty()
            && let Some(slot) = free.pop()
            && let Some(command) = waiting.pop_front()
        {
            self.slots[slot as usize].give(Work::Run(command));
            given += 1;
        }
        while self.ending.get()
            && let Some(slot) = free.pop()
        {
            self.slots[slot as usize].give(Work::End);
            given += 1;
        }
        given
    }

    /// Whoever brings work is the thread itself.
    fn fall_asleep(&self) -> bool {
        true
    }

    fn awake(&self) {}
}

/// The task of a slot.
async fn serve(desk: Rc<Desk>, disks: Rc<[Opened]>, number: u32) {
    while let Work::Run(command) = desk.slots[number as usize].take().await {
        let outcome = run(&disks, command).await;
        let command_ptr = command.as_ptr();
        // SAFETY: the command is the engine's until fio has fetched it.
        unsafe {
            (*command_ptr).error = outcome.map_or_else(errno, |()| 0) as _;
            (*command_ptr).resid = if outcome.is_ok() { 0 } else { (*command_ptr).xfer_buflen as _ };
        }
        desk.done.borrow_mut().push_back(command);
        desk.free.borrow_mut().push(number);
    }
}

#[inline]
async fn run(disks: &[Opened], command: Command) -> Result<(), IoError> {
    // SAFETY: the command is the engine's until fio has fetched it, and so are its file, which is open, and its buffer of `xfer_buflen` bytes.
    let (direction, number, start, len, buffer) = unsafe {
        let command = &*command.as_ptr();
        (command.ddir, (*command.file).fileno, command.offset, command.xfer_buflen, command.xfer_buf)
    };
    let Opened { queue, tap } = &disks[number as usize];
    if [DDIR_SYNC, DDIR_DATASYNC, DDIR_SYNC_FILE_RANGE].contains(&direction) {
        return queue.flush().await;
    }
    let range = ByteRange::new(start, len).ok_or(IoError::OutOfRange)?;
    if direction == DDIR_TRIM {
        return queue.discard(range).await;
    }
    let buffer = NonNull::new(buffer.cast::<u8>()).ok_or(IoError::Unsupported)?;
    // SAFETY: see above; reads write to it, and it is fio's to be written by them.
    let memory = unsafe { Segment::new(buffer, len as usize) };
    if ![DDIR_READ, DDIR_WRITE].contains(&direction) {
        return Err(IoError::Unsupported);
    }
    for piece in range.pieces(LARGEST_BUFFER as u64) {
        tap.pass(Cost::of(piece.len())).await;
        let mut part = [memory.part((piece.start() - start) as usize, piece.len() as usize)];
        match direction {
            DDIR_READ => queue.read_to(piece, &mut part).await?,
            _ => queue.write(piece, &part).await?,
        }
    }
    Ok(())
}

/// The error of a command as fio reports it.
fn errno(error: IoError) -> i32 {
    match error {
        IoError::OutOfRange | IoError::Misaligned => libc::EINVAL,
        IoError::ReadOnly => libc::EROFS,
        IoError::NoSpace => libc::ENOSPC,
        IoError::Unsupported => libc::EOPNOTSUPP,
        IoError::Media => libc::EIO,
    }
}
