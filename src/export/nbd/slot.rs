//! A slot: one long-lived task that carries out one request after the other and queues the reply.

use std::rc::Rc;

use zerocopy::IntoBytes;

use crate::device::{ByteRange, Extent, IoError};
use crate::memory::Segment;
use crate::reactor::profile::{Stage, during};

use super::end::EndReason;
use super::handshake::ALLOCATION_ID;
use super::refusal::Refusal;
use super::request::{Action, Command};
use super::session::{PIECE, PIECES_AHEAD, Session, Work, add};
use super::wire::{self, chunk, status};

/// The task of slot `index`.
pub(super) async fn serve(session: Rc<Session>, index: u16) {
    loop {
        let (work, reserved) = session.slot(index).work.take().await;
        let slot = Served { session: &session, index, reserved };
        match work {
            Work::End => return,
            Work::Refuse(cookie, refusal) => slot.refuse(cookie, refusal).await,
            Work::Write(command, segment) => slot.write(command, segment).await,
            Work::WritePieces(command) => slot.write_pieces(command).await,
            Work::Run(command) => slot.run(command).await,
        }
        session.set_free(index);
    }
}

/// A slot with a request.
struct Served<'a> {
    session: &'a Session,
    index: u16,
    /// Bytes of the connection's share that the request holds.
    reserved: usize,
}

impl Served<'_> {
    async fn run(&self, command: Command) {
        let range = command.range;
        let disk = &self.session.disk;
        if matches!(command.action, Action::Read | Action::WriteZeroes(..))
            && let Err(refusal) = self.session.within_limits(range).await
        {
            return self.refuse(command.cookie, refusal).await;
        }
        let done = match command.action {
            Action::Read if range.len() > PIECE as u64 => return self.read_pieces(command).await,
            Action::Read => return self.read(command).await,
            Action::BlockStatus(most) => return self.block_status(command, most).await,
            Action::Write => unreachable!("the reader gives writes with their payload"),
            // There is no cache to fill: every read goes to the device.
            Action::Cache => Ok(()),
            Action::Flush => disk.flush().await,
            Action::Trim => disk.discard(range).await,
            Action::WriteZeroes(space, how) => disk.write_zeroes(range, space, how).await,
        };
        let done = done.map_err(Refusal::from);
        let writes = matches!(command.action, Action::Trim | Action::WriteZeroes(..));
        self.finish(command, if writes { self.force(command, done).await } else { done }).await;
    }

    async fn write(&self, command: Command, payload: Segment) {
        let done = match self.session.within_limits(command.range).await {
            Ok(()) => self.store(command.range, payload).await,
            Err(refusal) => {
                drop(self.session.lent.loan());
                Err(refusal)
            }
        };
        self.finish_write(command, done).await;
    }

    /// A write in pieces, which the reader gives one after the other.
    async fn write_pieces(&self, command: Command) {
        let mut done = self.session.within_limits(command.range).await;
        let mut left = command.range;
        while !left.is_empty() {
            let Some(payload) = self.session.slot(self.index).pieces.take().await else {
                // The connection is cut: nobody waits for an answer.
                return self.session.replies.release(self.reserved);
            };
            let (now, later) = left.split_at(payload.len() as u64);
            left = later;
            match done {
                Ok(()) => done = self.store(now, payload).await,
                Err(_) => drop(self.session.lent.loan()),
            }
        }
        self.finish_write(command, done).await;
    }

    /// Writes a payload; the receiver has it back as soon as the disk has taken it over.
    async fn store(&self, range: ByteRange, payload: Segment) -> Result<(), Refusal> {
        let loan = self.session.lent.loan();
        let disk = &self.session.disk;
        let staged = during(Stage::Disk, disk.stage(range, &[payload])).await?;
        drop(loan);
        Ok(during(Stage::Disk, disk.commit(staged)).await?)
    }

    async fn finish_write(&self, command: Command, done: Result<(), Refusal>) {
        if done.is_ok() {
            add(&self.session.tally.bytes_written, command.range.len());
        }
        self.finish(command, self.force(command, done).await).await;
    }

    /// Makes durable what a command with FUA has done.
    async fn force(&self, command: Command, done: Result<(), Refusal>) -> Result<(), Refusal> {
        if done.is_ok() && command.fua { Ok(self.session.disk.flush().await?) } else { done }
    }

    async fn finish(&self, command: Command, done: Result<(), Refusal>) {
        match done {
            Ok(()) => self.accept(command.cookie).await,
            Err(refusal) => self.refuse(command.cookie, refusal).await,
        }
    }

    /// Success without data: a simple reply, which is allowed beside structured ones ("Simple reply message").
    async fn accept(&self, cookie: u64) {
        let replies = &self.session.replies;
        replies.turn(self.index).await;
        replies.push(simple(cookie, 0).as_bytes(), &[], self.reserved);
    }

    async fn refuse(&self, cookie: u64, refusal: Refusal) {
        let replies = &self.session.replies;
        add(&self.session.tally.errors, 1);
        replies.turn(self.index).await;
        if !self.session.negotiated.structured {
            return replies.push(simple(cookie, refusal.error).as_bytes(), &[], self.reserved);
        }
        let length = size_of::<wire::ErrorChunk>() - size_of::<wire::Chunk>() + refusal.why.len();
        let error = wire::ErrorChunk {
            chunk: head(cookie, chunk::FLAG_DONE, chunk::ERROR, length),
            error: refusal.error.into(),
            message_length: (refusal.why.len() as u16).into(),
        };
        replies.push(error.as_bytes(), refusal.why.as_bytes(), self.reserved);
    }

    async fn read(&self, command: Command) {
        let (session, range) = (self.session, command.range);
        let len = range.len() as usize;
        let mut buffer = during(Stage::Buffers, session.link.reactor.buffers().take(len)).await;
        if let Err(e) = during(Stage::Disk, session.disk.read(range, &mut buffer, 0)).await {
            drop(buffer);
            return self.refuse(command.cookie, e.into()).await;
        }
        add(&session.tally.bytes_read, range.len());
        session.replies.turn(self.index).await;
        if session.negotiated.structured {
            let header = data_chunk(command.cookie, chunk::FLAG_DONE, range);
            session.replies.push_data(header.as_bytes(), buffer, 0..len, &[], self.reserved);
        } else {
            session.replies.push_data(simple(command.cookie, 0).as_bytes(), buffer, 0..len, &[], self.reserved);
        }
    }

    /// A read in pieces. Without structured replies they follow each other behind one header, and nothing may come in between.
    async fn read_pieces(&self, command: Command) {
        let replies = &self.session.replies;
        let structured = self.session.negotiated.structured;
        let mut left = command.range;
        let mut result = Ok(());
        while !left.is_empty() && result.is_ok() {
            replies.parts_sent(self.index, PIECES_AHEAD as u8 - 1).await;
            let (piece, later) = left.split_at(PIECE as u64);
            let begins = left == command.range;
            left = later;
            result = self.read_piece(command.cookie, piece, begins, later.is_empty()).await;
        }
        replies.parts_sent(self.index, 0).await;
        match result {
            Ok(()) => {
                add(&self.session.tally.bytes_read, command.range.len());
                replies.release(self.reserved);
            }
            Err((_, true)) if !structured => {
                self.session.link.cut(EndReason::ReadFailedMidway);
                replies.release(self.reserved);
            }
            Err((e, _)) => self.refuse(command.cookie, e.into()).await,
        }
        if !structured {
            replies.end_exclusive(self.index);
        }
    }

    /// Reads and queues one piece; an error says whether the reply had begun.
    async fn read_piece(&self, cookie: u64, piece: ByteRange, begins: bool, ends: bool) -> Result<(), (IoError, bool)> {
        let (session, len) = (self.session, piece.len() as usize);
        let mut buffer = session.link.reactor.buffers().take(len).await;
        session.disk.read(piece, &mut buffer, 0).await.map_err(|e| (e, !begins))?;
        session.replies.turn(self.index).await;
        if session.negotiated.structured {
            let flags = if ends { chunk::FLAG_DONE } else { 0 };
            let header = data_chunk(cookie, flags, piece);
            session.replies.push_part(self.index, header.as_bytes(), buffer, len, &[]);
        } else if begins {
            session.replies.begin_exclusive(self.index);
            session.replies.push_part(self.index, simple(cookie, 0).as_bytes(), buffer, len, &[]);
        } else {
            session.replies.push_part(self.index, &[], buffer, len, &[]);
        }
        Ok(())
    }

    /// `base:allocation`.
    async fn block_status(&self, command: Command, most: usize) {
        let extents = match self.session.disk.extents(command.range).await {
            Ok(extents) => extents,
            Err(e) => return self.refuse(command.cookie, e.into()).await,
        };
        let descriptors = descriptors(&extents, command.range.len(), most);
        let payload = descriptors.as_bytes();
        let length = size_of::<wire::StatusChunk>() - size_of::<wire::Chunk>() + payload.len();
        let header = wire::StatusChunk {
            chunk: head(command.cookie, chunk::FLAG_DONE, chunk::BLOCK_STATUS, length),
            context: ALLOCATION_ID.into(),
        };
        self.session.replies.turn(self.index).await;
        self.session.replies.push(header.as_bytes(), payload, self.reserved);
    }
}

/// The extents of `len` bytes in at most `most` descriptors; neighbours of the same kind are one.
fn descriptors(extents: &[Extent], len: u64, most: usize) -> Vec<wire::StatusDescriptor> {
    let mut descriptors: Vec<wire::StatusDescriptor> = Vec::new();
    let mut left = len;
    for extent in extents {
        let len = extent.len.min(left) as u32;
        left -= u64::from(len);
        let status = if extent.is_hole { status::HOLE | status::ZERO } else { 0 };
        if let Some(last) = descriptors.last_mut().filter(|last| last.status.get() == status) {
            last.length += len;
        } else if descriptors.len() == most {
            break;
        } else if len > 0 {
            descriptors.push(wire::StatusDescriptor { length: len.into(), status: status.into() });
        }
    }
    descriptors
}

fn simple(cookie: u64, error: u32) -> wire::SimpleReply {
    wire::SimpleReply { magic: wire::SIMPLE_REPLY_MAGIC.into(), error: error.into(), cookie: cookie.into() }
}

fn head(cookie: u64, flags: u16, kind: u16, length: usize) -> wire::Chunk {
    wire::Chunk {
        magic: wire::CHUNK_MAGIC.into(),
        flags: flags.into(),
        kind: kind.into(),
        cookie: cookie.into(),
        length: (length as u32).into(),
    }
}

fn data_chunk(cookie: u64, flags: u16, range: ByteRange) -> wire::DataChunk {
    let length = size_of::<wire::DataChunk>() - size_of::<wire::Chunk>() + range.len() as usize;
    wire::DataChunk { chunk: head(cookie, flags, chunk::OFFSET_DATA, length), offset: range.start().into() }
}
