//! I/O commands (NVM section 3, Base section 7): from a submission queue entry to calls on the disk, and from the disk's errors to status.

use std::rc::Rc;
use std::sync::Arc;

use zerocopy::FromBytes;

use crate::device::{ByteRange, IoError, Zeroes};
use crate::disk::{Cost, Incoming, Zeroing};
use crate::reactor::profile::{Stage, during};

use super::attached::Attached;
use super::connection::{Arrived, Queue, add};
use super::receiver::Body;
use super::slot::{Answer, Served};
use super::subsystem::Namespace;
use super::transfer::{Target, Transfer};
use super::wire::command::Command;
use super::wire::dataset::{self, DsmRange};
use super::wire::opcode::io as op;
use super::wire::status::Status;
use super::{LARGEST_FUSED, LARGEST_TRANSFER, PIECE, SMALL_PIECE};

/// The namespace identifier that means all of them (Base section 3.2.1.2).
const ALL_NAMESPACES: u32 = u32::MAX;
/// Force Unit Access: bit 30 of dword 12 (NVM section 3.2.6).
const FUA: u32 = 1 << 30;
/// Deallocate: bit 25 of dword 12 of Write Zeroes (NVM section 3.2.8).
const DEALLOCATE: u32 = 1 << 25;
/// Protection information fields of dword 12, which need metadata: PRINFO and storage tag check (NVM section 3.2.6).
const PROTECTION: u32 = 0b1_1110 << 25;

impl Served<'_> {
    /// Carries out a command of an I/O queue.
    pub(super) async fn io(&self, queue: &Queue, arrived: &mut Arrived) -> Result<Answer, Status> {
        queue.controller.may_do_io()?;
        let command = &arrived.command;
        if command.opcode == op::FLUSH && command.nsid.get() == ALL_NAMESPACES {
            return self.flush_all(queue).await;
        }
        let attached = self.namespace(queue, command).await?;
        match command.opcode {
            op::READ => self.read(&attached, command).await,
            op::WRITE => self.write(queue, &attached, arrived).await,
            op::FLUSH => self.flush(&attached).await,
            op::WRITE_ZEROES => self.write_zeroes(queue, &attached, command).await,
            op::DATASET_MANAGEMENT => self.dataset_management(&attached, arrived.take()).await,
            op::COMPARE => self.compare(&attached, arrived.take()).await,
            op::VERIFY => self.verify(&attached, command).await,
            op::RESERVATION_REGISTER | op::RESERVATION_REPORT | op::RESERVATION_ACQUIRE | op::RESERVATION_RELEASE => {
                self.reservation(queue, &attached, arrived.take()).await
            }
            _ => Err(Status::INVALID_OPCODE.final_one()),
        }
    }

    /// The namespace that a command names, if its host sees it.
    async fn namespace(&self, queue: &Queue, command: &Command) -> Result<Rc<Attached>, Status> {
        let attached = self.connection.shard.namespace(queue, command.nsid.get()).await;
        attached.ok_or(Status::INVALID_NAMESPACE.final_one())
    }

    async fn read(&self, attached: &Attached, command: &Command) -> Result<Answer, Status> {
        let range = transfer_range(attached, command)?;
        self.within_limits(attached, Cost::of(range.len())).await?;
        let working = attached.may_read()?;
        let len = range.len() as usize;
        self.check_destination(command, len)?;
        add(&self.connection.tally.bytes_read, range.len());
        if len > self.connection.shard.piece() {
            drop(working);
            return self.read_pieces(attached, command, range).await;
        }
        let mut buffer = during(Stage::Buffers, self.connection.link.reactor.buffers().take(len)).await;
        during(Stage::Disk, attached.disk.read(range, &mut buffer, 0)).await.map_err(read_status)?;
        Ok(Answer::Data { buffer, len })
    }

    /// A read larger than what may be held at once: one piece after the other.
    async fn read_pieces(&self, attached: &Attached, command: &Command, range: ByteRange) -> Result<Answer, Status> {
        let connection = self.connection;
        let mut at = 0;
        for piece in range.pieces(connection.shard.piece() as u64) {
            connection.replies.parts_sent(self.index, 0).await;
            let len = piece.len() as usize;
            let mut buffer = connection.link.reactor.buffers().take(len).await;
            let working = attached.may_read()?;
            attached.disk.read(piece, &mut buffer, 0).await.map_err(read_status)?;
            drop(working);
            connection.send_part(self.index, command.cid.get(), at, buffer, len, at + len == range.len() as usize);
            at += len;
        }
        Ok(Answer::SUCCESS)
    }

    async fn write(&self, queue: &Queue, attached: &Rc<Attached>, arrived: &mut Arrived) -> Result<Answer, Status> {
        let range = transfer_range(attached, &arrived.command)?;
        names_all_of(&arrived.command, range)?;
        let in_capsule = self.source(arrived, range.len() as usize)?;
        self.within_limits_with(attached, Cost::of(range.len()), &mut arrived.data).await?;
        let working = attached.may_write()?;
        if in_capsule {
            let from = [arrived.data.segment()];
            let staged = during(Stage::Disk, attached.disk.stage(range, &from)).await.map_err(write_status)?;
            drop(arrived.take_data());
            during(Stage::Disk, attached.disk.commit(staged)).await.map_err(write_status)?;
        } else {
            drop(working);
            if let Err(answer) = self.write_asked_for(attached, &arrived.command, range).await {
                return Ok(answer);
            }
        }
        add(&self.connection.tally.bytes_written, range.len());
        self.force(queue, attached, &arrived.command).await
    }

    /// A write whose data is asked for, piece by piece, with as many requests outstanding as the host takes.
    async fn write_asked_for(
        &self,
        attached: &Rc<Attached>,
        command: &Command,
        range: ByteRange,
    ) -> Result<(), Answer> {
        let connection = self.connection;
        let ahead = connection.most_r2t.min(connection.shard.pieces_ahead());
        let mut to_ask = range.pieces(connection.shard.piece() as u64);
        let mut asked = [0; MOST_AHEAD];
        let (mut first, mut count, mut at) = (0, 0, 0);
        let mut outcome = Ok(());
        loop {
            while count < ahead && outcome.is_ok() {
                let Some(piece) = to_ask.next() else { break };
                let incoming = match attached.disk.begin_write(piece).await {
                    Ok(incoming) => incoming,
                    Err(e) => {
                        outcome = Err(write_status(e).into());
                        break;
                    }
                };
                let len = piece.len() as usize;
                let target = Target::Disk(incoming, attached.clone());
                let transfer = Transfer::new(command.cid.get(), at, len, target, self.slot);
                asked[(first + count) % MOST_AHEAD] = connection.ask_for(transfer);
                count += 1;
                at += len;
            }
            if count == 0 {
                return outcome;
            }
            // What was asked for comes, and is waited for, even if the command has failed meanwhile.
            let arrived = connection.data_of(asked[first], self.slot).await;
            (first, count) = ((first + 1) % MOST_AHEAD, count - 1);
            let done = match arrived {
                Ok(Target::Disk(incoming, _)) if outcome.is_ok() => self.commit(attached, incoming).await,
                Ok(_) => Ok(()),
                Err(lost) => Err(lost.into()),
            };
            outcome = outcome.and(done);
        }
    }

    async fn commit(&self, attached: &Attached, incoming: Incoming) -> Result<(), Answer> {
        let _working = attached.may_write()?;
        attached.disk.commit(incoming).await.map_err(|e| write_status(e).into())
    }

    /// Makes durable what a write has done, if it or the controller asks for that.
    async fn force(&self, queue: &Queue, attached: &Attached, command: &Command) -> Result<Answer, Status> {
        if command.cdw12.get() & FUA != 0 || queue.controller.write_through() {
            attached.disk.flush().await.map_err(write_status)?;
        }
        Ok(Answer::SUCCESS)
    }

    async fn flush(&self, attached: &Attached) -> Result<Answer, Status> {
        let _working = attached.may_write()?;
        attached.disk.flush().await.map_err(write_status)?;
        Ok(Answer::SUCCESS)
    }

    async fn flush_all(&self, queue: &Queue) -> Result<Answer, Status> {
        for namespace in queue.controller.namespaces().iter() {
            if let Some(attached) = self.connection.shard.namespace(queue, namespace.nsid()).await {
                self.flush(&attached).await?;
            }
        }
        Ok(Answer::SUCCESS)
    }

    /// Makes durable what was written to these namespaces, whatever reservations say: the host turns its cache off or shuts down.
    pub(super) async fn flush_namespaces(&self, queue: &Queue, namespaces: &[Arc<Namespace>]) -> Result<(), Status> {
        for namespace in namespaces {
            if let Some(attached) = self.connection.shard.namespace(queue, namespace.nsid()).await {
                attached.disk.flush().await.map_err(write_status)?;
            }
        }
        Ok(())
    }

    async fn write_zeroes(&self, queue: &Queue, attached: &Attached, command: &Command) -> Result<Answer, Status> {
        let range = command_range(attached, command)?;
        self.within_limits(attached, Cost::of(range.len())).await?;
        let _working = attached.may_write()?;
        let space = if command.cdw12.get() & DEALLOCATE != 0 { Zeroes::MayFree } else { Zeroes::KeepAllocated };
        attached.disk.write_zeroes(range, space, Zeroing::AnyWay).await.map_err(write_status)?;
        self.force(queue, attached, command).await
    }

    async fn dataset_management(&self, attached: &Attached, arrived: Arrived) -> Result<Answer, Status> {
        let command = arrived.command;
        let count = (command.cdw10.get() & 0xFF) as usize + 1;
        drop(attached.may_write()?);
        let data = match self.payload(arrived, count * size_of::<DsmRange>()).await {
            Ok(data) => data,
            Err(answer) => return Ok(answer),
        };
        let _working = attached.may_write()?;
        // The other attributes are hints, and the ranges' own ones too.
        if command.cdw11.get() & dataset::DEALLOCATE == 0 {
            return Ok(Answer::SUCCESS);
        }
        let ranges = <[DsmRange]>::ref_from_bytes(data.bytes()).map_err(|_| Status::INTERNAL_ERROR)?;
        for range in ranges {
            blocks(attached, range.start.get(), range.blocks.get().into())?;
        }
        for range in ranges.iter().filter(|range| range.blocks.get() > 0) {
            let range = blocks(attached, range.start.get(), range.blocks.get().into())?;
            attached.disk.discard(range).await.map_err(write_status)?;
        }
        Ok(Answer::SUCCESS)
    }

    async fn compare(&self, attached: &Attached, mut arrived: Arrived) -> Result<Answer, Status> {
        let range = transfer_range(attached, &arrived.command)?;
        names_all_of(&arrived.command, range)?;
        self.within_limits_with(attached, Cost::of(range.len()), &mut arrived.data).await?;
        drop(attached.may_read()?);
        if self.source(&arrived, range.len() as usize)? {
            self.compare_piece(attached, range, &arrived.data).await?;
            return Ok(Answer::SUCCESS);
        }
        let mut at = 0;
        for piece in range.pieces(COMPARED_AT_ONCE as u64) {
            let len = piece.len() as usize;
            let data = match self.fetch(&arrived.command, at, len).await {
                Ok(data) => data,
                Err(answer) => return Ok(answer),
            };
            self.compare_piece(attached, piece, &data).await?;
            at += len;
        }
        Ok(Answer::SUCCESS)
    }

    async fn compare_piece(&self, attached: &Attached, range: ByteRange, data: &Body) -> Result<(), Status> {
        let _working = attached.may_read()?;
        let is_equal = attached.disk.compare(range, &[data.segment()]).await.map_err(read_status)?;
        if is_equal { Ok(()) } else { Err(Status::COMPARE_FAILURE.final_one()) }
    }

    async fn verify(&self, attached: &Attached, command: &Command) -> Result<Answer, Status> {
        let range = command_range(attached, command)?;
        self.within_limits(attached, Cost::of(range.len())).await?;
        let _working = attached.may_read()?;
        attached.disk.verify(range).await.map_err(read_status)?;
        Ok(Answer::SUCCESS)
    }

    /// A fused compare and write (Base section 3.4.2, NVM section 2.1.6): the status of each.
    pub(super) async fn compare_and_write(&self, queue: &Queue, compare: Arrived, write: Arrived) -> (Status, Status) {
        match self.fused_pair(queue, compare, write).await {
            Ok(()) => (Status::SUCCESS, Status::SUCCESS),
            Err(Which::Compare(status)) => (status, Status::ABORTED_FAILED_FUSED),
            Err(Which::Write(status)) => (Status::ABORTED_FAILED_FUSED, status),
        }
    }

    async fn fused_pair(&self, queue: &Queue, compare: Arrived, write: Arrived) -> Result<(), Which> {
        let (first, second) = (compare.command, write.command);
        queue.controller.may_do_io().map_err(Which::Compare)?;
        if first.opcode != op::COMPARE || second.opcode != op::WRITE {
            return Err(Which::Compare(Status::INVALID_FIELD.final_one()));
        }
        let attached = self.namespace(queue, &first).await.map_err(Which::Compare)?;
        let range = transfer_range(&attached, &first).map_err(Which::Compare)?;
        drop(attached.may_read().map_err(Which::Compare)?);
        if first.nsid != second.nsid || transfer_range(&attached, &second).map_err(Which::Write)? != range {
            // NVM section 2.1.6: the ranges have to be the same.
            return Err(Which::Write(Status::INVALID_FIELD.final_one()));
        }
        drop(attached.may_write().map_err(Which::Write)?);
        let len = range.len() as usize;
        if len > LARGEST_FUSED {
            return Err(Which::Compare(Status::ATOMIC_WRITE_UNIT_EXCEEDED.final_one()));
        }
        names_all_of(&first, range).map_err(Which::Compare)?;
        names_all_of(&second, range).map_err(Which::Write)?;
        // Their data is out of the shared buffer already.
        self.within_limits(&attached, Cost::of_pair(range.len())).await.map_err(Which::Compare)?;
        let expected = self.payload(compare, len).await.map_err(|answer| Which::Compare(status_of(answer)))?;
        let new = self.payload(write, len).await.map_err(|answer| Which::Write(status_of(answer)))?;
        let _reading = attached.may_read().map_err(Which::Compare)?;
        let _writing = attached.may_write().map_err(Which::Write)?;
        let done = attached.disk.compare_and_write(range, &[expected.segment()], &[new.segment()]).await;
        let was_equal = done.map_err(|e| Which::Write(write_status(e)))?;
        if !was_equal {
            return Err(Which::Compare(Status::COMPARE_FAILURE.final_one()));
        }
        self.force(queue, &attached, &second).await.map(|_| ()).map_err(Which::Write)
    }
}

/// The most R2Ts that one command has outstanding.
pub(super) const MOST_AHEAD: usize = 4;
const _: () = assert!(MOST_AHEAD * PIECE >= LARGEST_TRANSFER);

/// What a Compare asks for at once: its data, and as much that is stored, make a small piece.
const COMPARED_AT_ONCE: usize = SMALL_PIECE / 2;
// A fused pair holds its data twice, and what is stored.
const _: () = assert!(3 * LARGEST_FUSED <= SMALL_PIECE);

/// Which of a fused pair failed.
enum Which {
    Compare(Status),
    Write(Status),
}

fn status_of(answer: Answer) -> Status {
    match answer {
        Answer::Complete { status, .. } => status,
        _ => Status::ABORTED_SQ_DELETION,
    }
}

/// The blocks of a command that transfers data: at most as many as MDTS says.
fn transfer_range(attached: &Attached, command: &Command) -> Result<ByteRange, Status> {
    let range = command_range(attached, command)?;
    if range.len() > LARGEST_TRANSFER as u64 {
        return Err(Status::INVALID_FIELD.final_one());
    }
    Ok(range)
}

/// Refuses a buffer that is not as long as the blocks.
fn names_all_of(command: &Command, range: ByteRange) -> Result<(), Status> {
    if u64::from(command.data.len.get()) == range.len() { Ok(()) } else { Err(Status::SGL_LENGTH_INVALID.final_one()) }
}

/// The blocks that a command names: starting LBA in dwords 10 and 11, blocks less one in dword 12.
fn command_range(attached: &Attached, command: &Command) -> Result<ByteRange, Status> {
    if command.cdw12.get() & PROTECTION & !DEALLOCATE != 0 {
        // There is no protection information to check or to make.
        return Err(Status::INVALID_FIELD.final_one());
    }
    blocks(attached, command.cdw10_64(), u64::from(command.cdw12.get() & 0xFFFF) + 1)
}

fn blocks(attached: &Attached, start: u64, count: u64) -> Result<ByteRange, Status> {
    let disk = attached.disk.disk();
    let shift = disk.sector_size().shift();
    let out = Status::LBA_OUT_OF_RANGE.final_one();
    let all = disk.size() >> shift;
    if start > all || count > all - start {
        return Err(out);
    }
    ByteRange::new(start << shift, count << shift).ok_or(out)
}

/// The one table from the disk's errors to status, for what reads.
fn read_status(error: IoError) -> Status {
    match error {
        IoError::Media => Status::UNRECOVERED_READ_ERROR,
        other => common_status(other),
    }
}

/// The same for what writes.
fn write_status(error: IoError) -> Status {
    match error {
        IoError::Media => Status::WRITE_FAULT,
        other => common_status(other),
    }
}

fn common_status(error: IoError) -> Status {
    match error {
        IoError::OutOfRange => Status::LBA_OUT_OF_RANGE.final_one(),
        IoError::Misaligned => Status::INVALID_FIELD.final_one(),
        IoError::ReadOnly => Status::NAMESPACE_WRITE_PROTECTED.final_one(),
        IoError::NoSpace => Status::CAPACITY_EXCEEDED.final_one(),
        IoError::Unsupported => Status::INVALID_OPCODE.final_one(),
        IoError::Media => Status::INTERNAL_ERROR,
    }
}
