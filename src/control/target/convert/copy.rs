//! Copying and comparing, on a reactor: a few requests at a time, through the queues of both disks, so that plain text is nowhere but in buffers of the
//! reactor. A queue wipes them when it is closed.
//!
//! Pieces are taken in the order of the disk, a window of them at a time. When a window is done, it is flushed, and then told as durable: what
//! lies before is never copied again.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use thiserror::Error;

use crate::device::{ByteRange, IoError, Zeroes};
use crate::disk::{Disk, DiskError, DiskQueue, Zeroing};
use crate::memory::Buffer;
use crate::reactor::{InFlight, Reactor};
use crate::volume::Difference;

/// Requests in flight: enough to keep a device busy, and few enough to leave room for hosts.
const DEPTH: usize = 4;
/// Bytes of a request that carries data.
const PIECE: u64 = 256 << 10;
/// Bytes of one that makes zeros; it moves none.
const ZEROS: u64 = 16 << 20;
/// Pieces between two flushes.
const WINDOW: usize = 64;
/// What is looked at when zeros are looked for: the unit of presence of a volume.
const BLOCK: usize = 4096;

/// Why it ended.
#[derive(Debug, Error)]
pub(super) enum Fault {
    /// A disk cannot be opened on the reactor.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// A disk failed.
    #[error("disk {disk}: byte {at}: {source}")]
    Io { disk: String, at: u64, source: IoError },
    /// The two are not the same.
    #[error(
        "disk {destination} differs from {source_name} at byte {at}: it cannot be used; give the conversion up and look at the devices below"
    )]
    Differs { source_name: String, destination: String, at: u64 },
    /// Somebody has ended it.
    #[error("it was ended")]
    Cancelled,
    /// It takes longer than hosts may be kept waiting.
    #[error("hosts write more than can be copied while they wait")]
    TooSlow,
}

/// What is known of the work while it goes on, on any thread.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes of data that are done, and all.
    pub(super) done: AtomicU64,
    pub(super) total: AtomicU64,
    /// What lies before this byte is durable.
    pub(super) durable: AtomicU64,
    pub(super) cancelled: AtomicBool,
}

/// What is to be done.
pub(super) struct Work {
    pub(super) source: Arc<Disk>,
    pub(super) destination: Arc<Disk>,
    /// In the order of the disk.
    pub(super) ranges: Vec<Difference>,
    pub(super) task: Task,
    pub(super) until: Option<Instant>,
    pub(super) progress: Arc<Progress>,
}

/// What is done with each range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The destination gets what the source has.
    Copy,
    /// The destination has what the source has, or it is an error.
    Compare,
}

/// Does the work.
pub(super) async fn run(reactor: Reactor, work: Work) -> Result<(), Fault> {
    let (from, to) = (work.source.queue(&reactor)?, work.destination.queue(&reactor)?);
    let worker = Rc::new(Worker { reactor, from, to, work, window: RefCell::default(), fault: RefCell::default() });
    let mut pieces = worker.work.ranges.iter().flat_map(|difference| pieces_of(*difference));
    loop {
        let window: VecDeque<Difference> = pieces.by_ref().take(WINDOW).collect();
        let Some(last) = window.back() else { return Ok(()) };
        let end = last.range.end();
        worker.do_window(window).await?;
        if worker.work.task == Task::Copy {
            let flushed = worker.to.flush().await;
            flushed.map_err(|source| failed(&worker.to, end, source))?;
            worker.work.progress.durable.store(end, Ordering::Release);
        }
    }
}

fn pieces_of(Difference { range, is_zero }: Difference) -> impl Iterator<Item = Difference> {
    range.pieces(if is_zero { ZEROS } else { PIECE }).map(move |range| Difference { range, is_zero })
}

fn failed(queue: &DiskQueue, at: u64, source: IoError) -> Fault {
    Fault::Io { disk: queue.disk().name().to_owned(), at, source }
}

struct Worker {
    reactor: Reactor,
    from: Rc<DiskQueue>,
    to: Rc<DiskQueue>,
    work: Work,
    /// What nobody has taken yet.
    window: RefCell<VecDeque<Difference>>,
    /// The first that occurred.
    fault: RefCell<Option<Fault>>,
}

impl Worker {
    /// Does all pieces of a window, several at once.
    async fn do_window(self: &Rc<Self>, window: VecDeque<Difference>) -> Result<(), Fault> {
        *self.window.borrow_mut() = window;
        let at_work = Rc::<InFlight>::default();
        for _ in 0..DEPTH {
            let (worker, flight) = (self.clone(), at_work.begin());
            self.reactor.spawn(async move {
                worker.do_pieces().await;
                drop(flight);
            });
        }
        at_work.drain().await;
        self.fault.take().map_or(Ok(()), Err)
    }

    async fn do_pieces(&self) {
        while self.fault.borrow().is_none() {
            let Some(piece) = self.window.borrow_mut().pop_front() else { return };
            let done = match self.refuse_to_go_on() {
                Ok(()) => self.do_piece(piece).await,
                refused => refused,
            };
            match done {
                Ok(()) if piece.is_zero => {}
                Ok(()) => {
                    self.work.progress.done.fetch_add(piece.range.len(), Ordering::Relaxed);
                }
                Err(fault) => {
                    self.fault.borrow_mut().get_or_insert(fault);
                }
            }
        }
    }

    fn refuse_to_go_on(&self) -> Result<(), Fault> {
        if self.work.progress.cancelled.load(Ordering::Relaxed) {
            return Err(Fault::Cancelled);
        }
        match self.work.until {
            Some(until) if Instant::now() > until => Err(Fault::TooSlow),
            _ => Ok(()),
        }
    }

    async fn do_piece(&self, Difference { range, is_zero }: Difference) -> Result<(), Fault> {
        match self.work.task {
            Task::Copy if is_zero => self.make_zeros(range).await,
            Task::Copy => self.copy(range).await,
            // A range of zeros may be large, and is looked at in pieces that a buffer holds.
            Task::Compare => {
                for piece in range.pieces(PIECE) {
                    self.compare(piece).await?;
                }
                Ok(())
            }
        }
    }

    async fn make_zeros(&self, range: ByteRange) -> Result<(), Fault> {
        let done = self.to.write_zeroes(range, Zeroes::MayFree, Zeroing::AnyWay).await;
        done.map_err(|source| failed(&self.to, range.start(), source))
    }

    async fn copy(&self, range: ByteRange) -> Result<(), Fault> {
        let buffer = self.read(&self.from, range).await?;
        let mut at = 0;
        while at < range.len() as usize {
            let (is_zero, len) = alike(&buffer[at..range.len() as usize]);
            let part = ByteRange::new(range.start() + at as u64, len as u64).expect("a part of the range");
            if is_zero {
                self.make_zeros(part).await?;
            } else {
                let written = self.to.write(part, &[buffer.segment(at..at + len)]).await;
                written.map_err(|source| failed(&self.to, part.start(), source))?;
            }
            at += len;
        }
        Ok(())
    }

    async fn read(&self, queue: &DiskQueue, range: ByteRange) -> Result<Buffer, Fault> {
        let mut buffer = self.reactor.buffers().take(range.len() as usize).await;
        let read = queue.read(range, &mut buffer, 0).await;
        read.map_err(|source| failed(queue, range.start(), source))?;
        Ok(buffer)
    }

    async fn compare(&self, range: ByteRange) -> Result<(), Fault> {
        let (expected, found) = (self.read(&self.from, range).await?, self.read(&self.to, range).await?);
        let len = range.len() as usize;
        let Some(at) = (0..len).find(|&at| expected[at] != found[at]) else { return Ok(()) };
        Err(Fault::Differs {
            source_name: self.from.disk().ground().name(),
            destination: self.to.disk().name().to_owned(),
            at: range.start() + at as u64,
        })
    }
}

/// Whether the beginning is zeros, and how many bytes that is so for: whole blocks, but for the end.
fn alike(bytes: &[u8]) -> (bool, usize) {
    let mut blocks = bytes.chunks(BLOCK).map(|block| (block.iter().all(|byte| *byte == 0), block.len()));
    let (is_zero, mut len) = blocks.next().unwrap_or((false, 0));
    for (_, more) in blocks.take_while(|(other, _)| *other == is_zero) {
        len += more;
    }
    (is_zero, len)
}

/// The ranges in which the first or the second list has something, in order.
pub(super) fn union(first: &[Difference], second: &[Difference]) -> Vec<Difference> {
    let mut all: Vec<ByteRange> = first.iter().chain(second).map(|difference| difference.range).collect();
    all.sort_by_key(|range| range.start());
    let mut merged: Vec<Difference> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if range.start() <= last.range.end() => {
                let end = last.range.end().max(range.end());
                last.range = ByteRange::new(last.range.start(), end - last.range.start()).expect("it has this end");
            }
            _ => merged.push(Difference { range, is_zero: false }),
        }
    }
    merged
}

/// What lies from a byte on, and before another.
pub(super) fn between(all: Vec<Difference>, start: u64, end: u64) -> Vec<Difference> {
    let cut = |difference: Difference| {
        let (from, to) = (difference.range.start().max(start), difference.range.end().min(end));
        let range = ByteRange::new(from, to.checked_sub(from).filter(|len| *len > 0)?)?;
        Some(Difference { range, ..difference })
    };
    all.into_iter().filter_map(cut).collect()
}

/// Bytes of data in the ranges.
pub(super) fn data_in(ranges: &[Difference]) -> u64 {
    ranges.iter().filter(|difference| !difference.is_zero).map(|difference| difference.range.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(start: u64, len: u64) -> Difference {
        Difference { range: ByteRange::new(start, len).expect("fits"), is_zero: false }
    }

    #[test]
    fn zeros_are_found_block_by_block() {
        let mut bytes = vec![0; 4 * BLOCK + 512];
        assert_eq!(alike(&bytes), (true, bytes.len()));
        bytes[2 * BLOCK + 7] = 1;
        assert_eq!(alike(&bytes), (true, 2 * BLOCK));
        assert_eq!(alike(&bytes[2 * BLOCK..]), (false, BLOCK));
        assert_eq!(alike(&bytes[3 * BLOCK..]), (true, BLOCK + 512));
    }

    #[test]
    fn lists_are_united_and_cut() {
        let both = union(&[some(0, 10), some(50, 10)], &[some(5, 10), some(15, 1), some(40, 10)]);
        assert_eq!(both, [some(0, 16), some(40, 20)]);
        assert_eq!(between(both.clone(), 10, 45), [some(10, 6), some(40, 5)]);
        assert_eq!(between(both, 16, 40), []);
        let zeros = Difference { is_zero: true, ..some(20, 10) };
        assert_eq!(data_in(&[some(0, 16), zeros]), 16);
    }
}
