//! A disk as one reactor serves it: commands in plain text above, cipher text below.
//!
//! **Read**: the device reads into the caller's buffer and the sectors are decrypted where they are, or from there into memory of somebody else, such
//! as a guest ([`DiskQueue::read_to`]). **Write**: the sectors are encrypted from where they arrived into a buffer of the reactor, which the device
//! then writes; the source is never changed, and is not needed any more once the write is [`Staged`].
//!
//! A device that is memory has no buffer in between: encryption is the only copy. Such a command first asks the processor for its lines and lets the
//! other ready commands do the same, so their memory is fetched together. What is different on a volume is in [`super::thin`].
//!
//! Whatever changes the device passes the disk's gate ([`super::gate`]) first: compare and write may have a range to itself.

use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::device::{ByteRange, Device, Extent, Fill, IoError, Zeroes, read_whole, write_whole};
use crate::memory::{Buffer, LARGEST_BUFFER, Segment};
use crate::reactor::profile::{Stage, during};
use crate::reactor::{Flight, InFlight, Lending, Reactor, Ticks, yield_now};

use super::Disk;
use super::bytes::{MOST_ZEROS, clear, copy, copy_between, total, zeros};
use super::cipher::Cipher;
use super::footing::Footing;
use super::gate::Seat;
use super::line::{Line, fetch};
use super::qos::{Consumer, Tap};
use super::stats::{CommandKind, DiskStats, Meter};

/// How zeros may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zeroing {
    /// Only if that is faster than writing them; otherwise [`IoError::Unsupported`].
    OnlyFast,
    /// In any way.
    AnyWay,
}

/// A write whose data was taken over: its source is not needed any more.
#[must_use = "a staged write is lost unless it is committed"]
pub struct Staged {
    unwritten: Option<Unwritten>,
    bytes: u64,
    command: Command,
}

/// The most pieces of memory that one read may go to.
pub const MOST_PIECES: usize = 256;

/// A command of a queue: in flight until this is dropped.
pub(super) struct Command {
    pub(super) started: Ticks,
    _flight: Flight,
}

/// What the device has to write yet: nothing of a write whose data is in the device's own memory.
pub(super) struct Unwritten {
    pub(super) range: ByteRange,
    pub(super) buffer: Buffer,
    /// Where the range's first byte lies in the buffer.
    pub(super) at: usize,
}

impl Staged {
    pub(super) fn new(unwritten: Option<Unwritten>, bytes: u64, command: Command) -> Self {
        Self { unwritten, bytes, command }
    }
}

/// A disk on one reactor.
pub struct DiskQueue {
    reactor: Reactor,
    disk: Arc<Disk>,
    footing: Footing,
    cipher: Option<Cipher>,
    /// What reads give, if there is no data to be moved: a plain disk on a null device.
    void: Option<Fill>,
    seat: Seat,
    line: Line,
    /// The page in which blocks are put together that a write covers partly: see [`super::thin`].
    edge: Lending,
    commands: Rc<InFlight>,
    meter: Meter,
}

impl Drop for DiskQueue {
    /// What its clients have read and written lies in free buffers: plain text of an encrypted disk.
    fn drop(&mut self) {
        if self.cipher.is_some() {
            self.reactor.wipe_free_buffers();
        }
    }
}

impl DiskQueue {
    pub(super) fn new(reactor: &Reactor, disk: Arc<Disk>, footing: Footing, cipher: Option<Cipher>) -> Self {
        let seat = disk.gate.seat(reactor);
        let meter = disk.counters.meter(*reactor.clock());
        let void = if cipher.is_none() { footing.fill() } else { None };
        Self {
            reactor: reactor.clone(),
            disk,
            footing,
            cipher,
            void,
            seat,
            line: Line::default(),
            edge: Lending::new(Vec::new()),
            commands: Rc::default(),
            meter,
        }
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What a consumer's commands have to pass on this reactor before they come here. It may outlive the queue.
    pub fn tap(&self, consumer: &Consumer) -> Tap {
        Tap::new(&self.disk.throttle, &self.reactor, consumer)
    }

    pub(super) fn footing(&self) -> &Footing {
        &self.footing
    }

    pub(super) fn edge(&self) -> &Lending {
        &self.edge
    }

    pub(super) fn seat(&self) -> &Seat {
        &self.seat
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// A command begins.
    pub(super) fn begin(&self) -> Command {
        #[cfg(feature = "slowdown")]
        super::slowdown::pay(self.reactor.clock());
        Command { started: self.meter.begin(self.commands.count() == 0), _flight: self.commands.begin() }
    }

    /// A command has ended; passes its outcome on.
    pub(super) fn end<T>(
        &self,
        command: Command,
        kind: CommandKind,
        bytes: u64,
        outcome: Result<T, IoError>,
    ) -> Result<T, IoError> {
        self.meter.end(kind, command.started, bytes, &outcome);
        outcome
    }

    /// What this queue has done so far; [`Disk::stats`] sums up all queues.
    pub fn stats(&self) -> DiskStats {
        self.meter.stats()
    }

    /// Waits until every command that began before this call is done: what comes later does not hold it up. A [`Staged`] or
    /// [`Incoming`](super::Incoming) write is a command until it is committed or dropped.
    pub fn drain(&self) -> impl Future<Output = ()> + '_ {
        self.commands.drain()
    }

    /// The reactor that serves this queue.
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// Refuses a range that is not in the disk's sectors.
    pub fn check(&self, range: ByteRange) -> Result<(), IoError> {
        if !range.is_aligned(self.disk.sector_size().bytes() as u64) {
            return Err(IoError::Misaligned);
        }
        if range.end() > self.disk.size() {
            return Err(IoError::OutOfRange);
        }
        Ok(())
    }

    /// Reads the range into the buffer, from its byte `at` on.
    pub async fn read(&self, range: ByteRange, buffer: &mut Buffer, at: usize) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.read_plain(range, buffer, at).await;
        self.end(command, CommandKind::Read, range.len(), done)
    }

    pub(super) async fn read_plain(&self, range: ByteRange, buffer: &mut Buffer, at: usize) -> Result<(), IoError> {
        let window = self.check_window(range, buffer, at)?;
        let version = self.footing.version();
        if let Some(memory) = self.footing.readable(range) {
            let after = self.line.turn(memory).await;
            if let Some(memory) = self.footing.still_readable(range, memory, version) {
                self.reveal(range, memory, &[buffer.segment(window)], after);
                return Ok(());
            }
        }
        let text = buffer.segment(window.clone());
        self.read_through(range, buffer, window, &mut [text]).await
    }

    /// Reads the range into `to`, somebody else's memory in up to [`MOST_PIECES`] pieces that are cut anywhere. What was stored is never seen there,
    /// only plain text. The list is used up.
    ///
    /// Waits while no buffer is free, if the device is no memory. The range is at most [`LARGEST_BUFFER`] bytes long.
    pub async fn read_to(&self, range: ByteRange, to: &mut [Segment]) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.read_away(range, to).await;
        self.end(command, CommandKind::Read, range.len(), done)
    }

    async fn read_away(&self, range: ByteRange, to: &mut [Segment]) -> Result<(), IoError> {
        self.check(range)?;
        let wanted = total(to);
        if wanted as u64 != range.len() || wanted > LARGEST_BUFFER || to.len() > MOST_PIECES {
            return Err(IoError::Misaligned);
        }
        if let Some(fill) = self.void {
            yield_now().await;
            if fill == Fill::Zeros {
                clear(to);
            }
            return Ok(());
        }
        let version = self.footing.version();
        if let Some(memory) = self.footing.readable(range) {
            let after = self.line.turn(memory).await;
            if let Some(memory) = self.footing.still_readable(range, memory, version) {
                self.reveal(range, memory, to, after);
                return Ok(());
            }
        }
        let mut buffer = during(Stage::Buffers, self.reactor.buffers().take(wanted)).await;
        self.read_through(range, &mut buffer, 0..wanted, to).await
    }

    /// Reads the range into the buffer's window, and its plain text from there to `to`, which may be the same memory.
    async fn read_through(
        &self,
        range: ByteRange,
        buffer: &mut Buffer,
        window: Range<usize>,
        to: &mut [Segment],
    ) -> Result<(), IoError> {
        match &self.footing {
            Footing::Volume(volume) => self.read_runs(volume, range, buffer, window.start, to).await,
            Footing::Device(device) => {
                let read = read_whole(device, range.start(), buffer, window.clone());
                during(Stage::Device, read).await?;
                self.reveal(range, buffer.segment(window), to, std::ptr::null());
                Ok(())
            }
        }
    }

    /// Takes over the data of a write: `from` holds it, in any number of pieces, and may be used again afterwards.
    ///
    /// Waits while no buffer is free. The range is at most [`LARGEST_BUFFER`] bytes long.
    pub async fn stage(&self, range: ByteRange, from: &[Segment]) -> Result<Staged, IoError> {
        let command = self.begin();
        match self.take_over(range, from).await {
            Ok(unwritten) => Ok(Staged::new(unwritten, range.len(), command)),
            Err(e) => self.end(command, CommandKind::Write, 0, Err(e)),
        }
    }

    async fn take_over(&self, range: ByteRange, from: &[Segment]) -> Result<Option<Unwritten>, IoError> {
        self.check(range)?;
        let given = total(from);
        if given as u64 != range.len() || given > LARGEST_BUFFER {
            return Err(IoError::Misaligned);
        }
        if self.void.is_some() {
            yield_now().await;
            return Ok(None);
        }
        if let Some(memory) = self.footing.writable_start(range) {
            let after = self.line.turn(memory).await;
            self.seat.pass(range).await;
            if self.write_in_place(range, from, memory, after) {
                return Ok(None);
            }
        }
        self.prepare(range).await;
        let buffer = during(Stage::Buffers, self.reactor.buffers().take(given)).await;
        self.transform(range, from, buffer.segment(0..given));
        Ok(Some(Unwritten { range, buffer, at: 0 }))
    }

    /// Writes what was staged, or an [`Incoming`](super::Incoming) write whose data is all there; [`IoError::Misaligned`] if bytes of it
    /// are missing.
    pub async fn commit<W>(&self, write: W) -> Result<(), IoError>
    where
        W: TryInto<Staged>,
        IoError: From<W::Error>,
    {
        let Staged { unwritten, bytes, command } = write.try_into()?;
        let done = self.write_down(unwritten).await;
        self.end(command, CommandKind::Write, bytes, done)
    }

    async fn write_down(&self, unwritten: Option<Unwritten>) -> Result<(), IoError> {
        let Some(mut write) = unwritten else { return Ok(()) };
        match &self.footing {
            Footing::Volume(volume) => self.write_to_volume(volume, write).await,
            Footing::Device(device) => {
                let Unwritten { range, buffer, at } = &mut write;
                let _write = self.seat.enter(*range).await;
                let written = write_whole(device, range.start(), buffer, *at..*at + range.len() as usize);
                during(Stage::Device, written).await
            }
        }
    }

    /// Writes `from`, in any number of pieces, to the range.
    pub async fn write(&self, range: ByteRange, from: &[Segment]) -> Result<(), IoError> {
        let command = self.begin();
        let done = match self.take_over(range, from).await {
            Ok(None) => Ok(()),
            Ok(unwritten) => self.write_down(unwritten).await,
            Err(e) => Err(e),
        };
        self.end(command, CommandKind::Write, range.len(), done)
    }

    /// Makes everything that was answered before durable.
    pub async fn flush(&self) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.footing.flush().await;
        self.end(command, CommandKind::Flush, 0, done)
    }

    /// Says that the range is not needed. A device that cannot give space back keeps it, which is no error.
    pub async fn discard(&self, range: ByteRange) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.give_back(range).await;
        self.end(command, CommandKind::Discard, range.len(), done)
    }

    async fn give_back(&self, range: ByteRange) -> Result<(), IoError> {
        self.check(range)?;
        if !self.footing.info().can_discard {
            return Ok(());
        }
        let _write = self.seat.enter(range).await;
        match self.footing.discard(range).await {
            Err(IoError::Unsupported) => Ok(()),
            other => other,
        }
    }

    /// Whether zeros can be written faster than by writing them, if their space may be given back. Not on a device under an encrypted disk, where
    /// zeros are cipher text; always on a volume, whose absent blocks are zeros of plain text.
    pub fn can_zero_fast(&self) -> bool {
        match &self.footing {
            Footing::Device(device) => self.cipher.is_none() && device.info().can_write_zeroes,
            Footing::Volume(_) => true,
        }
    }

    /// Makes the range read as zeros.
    pub async fn write_zeroes(&self, range: ByteRange, space: Zeroes, how: Zeroing) -> Result<(), IoError> {
        let command = self.begin();
        let done = self.zero(range, space, how).await;
        self.end(command, CommandKind::WriteZeroes, range.len(), done)
    }

    async fn zero(&self, range: ByteRange, space: Zeroes, how: Zeroing) -> Result<(), IoError> {
        self.check(range)?;
        match &self.footing {
            Footing::Volume(volume) if space == Zeroes::MayFree => return self.free_as_zeros(volume, range).await,
            Footing::Device(device) if self.can_zero_fast() => {
                let _write = self.seat.enter(range).await;
                match device.write_zeroes(range, space).await {
                    Err(IoError::Unsupported) => {}
                    other => return other,
                }
            }
            _ => {}
        }
        match how {
            Zeroing::OnlyFast => Err(IoError::Unsupported),
            Zeroing::AnyWay => self.write_zeros(range).await,
        }
    }

    /// Writes zeros as data.
    pub(super) async fn write_zeros(&self, range: ByteRange) -> Result<(), IoError> {
        for piece in range.pieces(MOST_ZEROS as u64) {
            let unwritten = self.take_over(piece, &[zeros(piece.len() as usize)]).await?;
            self.write_down(unwritten).await?;
        }
        Ok(())
    }

    /// Which parts of the range hold data; at least one extent. On a device under an encrypted disk all of it does: a hole in the cipher text is
    /// not a zero in the plain text. The absent blocks of a volume are.
    pub async fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, IoError> {
        let _command = self.begin();
        self.check(range)?;
        match (&self.footing, &self.cipher) {
            (Footing::Device(_), Some(_)) => Ok(vec![Extent { len: range.len(), is_hole: false }]),
            (footing, _) => footing.extents(range).await,
        }
    }

    fn check_window(&self, range: ByteRange, buffer: &Buffer, at: usize) -> Result<Range<usize>, IoError> {
        self.check(range)?;
        let end = at.checked_add(range.len() as usize).ok_or(IoError::Misaligned)?;
        if end > buffer.len() {
            return Err(IoError::Misaligned);
        }
        Ok(at..end)
    }

    /// The one pass over a read's data: from where it is stored to the same place or to where it is wanted. What lies at `after` is worked on next.
    #[inline]
    pub(super) fn reveal(&self, range: ByteRange, from: Segment, to: &[Segment], after: *const u8) {
        match &self.cipher {
            Some(cipher) => cipher.decrypt(range, from, to, after),
            None => {
                fetch(after);
                copy_between(&[from], to);
            }
        }
    }

    /// The one pass over a write's data.
    pub(super) fn transform(&self, range: ByteRange, from: &[Segment], to: Segment) {
        self.transform_before(range, from, to, std::ptr::null());
    }

    /// The same; what lies at `after` is worked on next.
    pub(super) fn transform_before(&self, range: ByteRange, from: &[Segment], to: Segment, after: *const u8) {
        match &self.cipher {
            Some(cipher) => cipher.encrypt(range, from, &[to], after),
            None => {
                fetch(after);
                copy(from, to);
            }
        }
    }

    /// The same, to several places.
    pub(super) fn transform_between(&self, range: ByteRange, from: &[Segment], to: &[Segment], after: *const u8) {
        match &self.cipher {
            Some(cipher) => cipher.encrypt(range, from, to, after),
            None => {
                fetch(after);
                copy_between(from, to);
            }
        }
    }
}
