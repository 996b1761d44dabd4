//! A slot: one long-lived task that carries out one command after the other and queues the answer.
//!
//! This file decides which commands a queue takes at all; `io.rs` carries out those of I/O queues, `admin.rs` all others.

use std::rc::Rc;

use crate::memory::Buffer;
use crate::reactor::profile::{Stage, stage};

use super::connection::{Arrived, Connection, Queue, Slot, Work};
use super::controller::Failure;
use super::receiver::Body;
use super::room::owed_by;
use super::transfer::{Lost, Target, Transfer};
use super::wire::command::{Command, Fuse, sgl};
use super::wire::log_page::NO_PARAMETER;
use super::wire::opcode;
use super::wire::status::Status;

/// The task of slot `index`.
pub(super) async fn serve(connection: Rc<Connection>, index: u16) {
    let slot = connection.slot(index);
    loop {
        let (work, reserved) = slot.work.take().await;
        let served = Served { connection: &connection, slot: &slot, index, reserved };
        match work {
            Work::End => return,
            Work::Run(mut arrived) => served.run(&mut arrived).await,
            Work::Fused(first) => {
                let second = slot.second.take().expect("it came with the first");
                served.fused(first, second).await;
            }
        }
        connection.set_free(index);
    }
}

/// What is left to do when a command was carried out.
pub(super) enum Answer {
    /// A response capsule.
    Complete { status: Status, result: u64 },
    /// Data, and success.
    Data { buffer: Buffer, len: usize },
    /// Nothing: the connection is ending.
    None,
}

impl Answer {
    pub(super) const SUCCESS: Self = Self::Complete { status: Status::SUCCESS, result: 0 };
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self::Complete { status, result: 0 }
    }
}

impl From<Result<Answer, Status>> for Answer {
    fn from(result: Result<Answer, Status>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

/// A slot with a command.
pub(super) struct Served<'a> {
    pub(super) connection: &'a Rc<Connection>,
    pub(super) slot: &'a Rc<Slot>,
    pub(super) index: u16,
    /// Bytes of the connection's share that the command holds.
    pub(super) reserved: usize,
}

impl Served<'_> {
    /// What arrived stays where it is: each hand-over of its own would copy it.
    async fn run(&self, arrived: &mut Arrived) {
        let _owed = self.connection.owe(owed_by(&arrived.command)).await;
        let answer = match self.check(arrived) {
            Err(status) => status.into(),
            Ok(None) => self.connect(arrived.take()).await,
            Ok(Some(queue)) if queue.id == 0 || arrived.command.opcode == opcode::FABRICS => {
                self.admin(&queue, arrived.take()).await
            }
            Ok(Some(queue)) => self.io(&queue, arrived).await.into(),
        };
        self.answer(&arrived.command, answer);
    }

    async fn fused(&self, compare: Arrived, write: Arrived) {
        let (first, second) = (compare.command, write.command);
        let _owed = self.connection.owe(owed_by(&first) + owed_by(&second)).await;
        let checked = self.check(&compare).and_then(|queue| self.check(&write).map(|_| queue));
        let (compared, written) = match checked {
            Ok(Some(queue)) => self.compare_and_write(&queue, compare, write).await,
            Ok(None) => (Status::SEQUENCE_ERROR, Status::SEQUENCE_ERROR),
            Err(status) => (status, Status::ABORTED_FAILED_FUSED),
        };
        self.connection.forget_cids(self.slot);
        self.connection.complete(first.cid.get(), compared, 0, 0);
        self.connection.complete(second.cid.get(), written, 0, self.reserved);
        self.count_failure(&first, compared);
        self.count_failure(&second, written);
    }

    /// What every command has to be; the queue, unless the connection has still to become one.
    fn check(&self, arrived: &Arrived) -> Result<Option<Rc<Queue>>, Status> {
        let command = &arrived.command;
        if !arrived.intact {
            // TCP section 3.3.1.1: a wrong data digest is no fatal error.
            return Err(Status::TRANSIENT_TRANSPORT_ERROR);
        }
        let is_connect = command.opcode == opcode::FABRICS && command.nsid.get() as u8 == opcode::fabrics::CONNECT;
        let queue = self.connection.queue();
        if is_connect != queue.is_none() {
            return Err(Status::SEQUENCE_ERROR.final_one());
        }
        if let Some(queue) = &queue {
            queue.controller.touch(self.connection.shard.coarse_now());
        }
        if queue.as_ref().is_some_and(|queue| !queue.is_authentic()) && !authenticates(command) {
            return Err(Status::AUTHENTICATION_REQUIRED.final_one());
        }
        // Base section 4.1: over fabrics data is named by SGLs, in fabrics commands too.
        if !command.has_sgl() {
            return Err(Status::INVALID_FIELD.final_one());
        }
        if command.fuse() == Fuse::Reserved {
            return Err(Status::INVALID_FIELD.final_one());
        }
        Ok(queue)
    }

    fn answer(&self, command: &Command, answer: Answer) {
        let _reply = stage(Stage::Reply);
        let cid = command.cid.get();
        self.connection.forget_cids(self.slot);
        match answer {
            Answer::Complete { status, result } => {
                self.connection.complete(cid, status, result, self.reserved);
                self.count_failure(command, status);
            }
            Answer::Data { buffer, len } => self.connection.complete_with_data(cid, buffer, len, self.reserved),
            Answer::None => self.connection.replies.release(self.reserved),
        }
    }

    fn count_failure(&self, command: &Command, status: Status) {
        if !status.is_success()
            && let Some(queue) = self.connection.queue()
        {
            queue.controller.count_error(&Failure {
                queue_id: queue.id,
                cid: command.cid.get(),
                opcode: command.opcode,
                status,
                lba: if queue.id == 0 { 0 } else { command.cdw10_64() },
                nsid: command.nsid.get(),
                parameter: NO_PARAMETER,
            });
        }
    }

    /// Where a command says that its data are, at least `len` bytes: in the capsule (true) or to be asked for.
    pub(super) fn source(&self, arrived: &Arrived, len: usize) -> Result<bool, Status> {
        let named = &arrived.command.data;
        let room = named.len.get() as usize;
        if room < len {
            return Err(Status::SGL_LENGTH_INVALID.final_one());
        }
        match named.identifier {
            // In a capsule the address is an offset; ICDOFF is 0, and so is the only offset that is any use.
            sgl::IN_CAPSULE if named.address.get() != 0 => Err(Status::SGL_OFFSET_INVALID.final_one()),
            sgl::IN_CAPSULE if arrived.data.len() != room => Err(Status::SGL_LENGTH_INVALID.final_one()),
            sgl::IN_CAPSULE => Ok(true),
            // Data in a capsule that says that it is elsewhere.
            sgl::TRANSPORT if arrived.data.len() > 0 => Err(Status::INVALID_FIELD.final_one()),
            sgl::TRANSPORT => Ok(false),
            _ => Err(Status::SGL_TYPE_INVALID.final_one()),
        }
    }

    /// Refuses a place for `len` bytes that go to the host.
    pub(super) fn check_destination(&self, command: &Command, len: usize) -> Result<(), Status> {
        if command.data.identifier != sgl::TRANSPORT {
            return Err(Status::SGL_TYPE_INVALID.final_one());
        }
        if (command.data.len.get() as usize) < len {
            return Err(Status::SGL_LENGTH_INVALID.final_one());
        }
        Ok(())
    }

    /// The first `len` bytes of a command's data, in one piece. What a host has more in its buffer, as Linux has behind the ranges of Dataset
    /// Management, is not asked for.
    pub(super) async fn payload(&self, arrived: Arrived, len: usize) -> Result<Body, Answer> {
        if self.source(&arrived, len)? {
            return Ok(arrived.data.part(0..len));
        }
        self.fetch(&arrived.command, 0, len).await
    }

    /// Asks for `len` bytes of a command's data, from its byte `start` on.
    pub(super) async fn fetch(&self, command: &Command, start: usize, len: usize) -> Result<Body, Answer> {
        let buffer = self.connection.link.reactor.buffers().take(len).await;
        let transfer = Transfer::new(command.cid.get(), start, len, Target::Memory(buffer), self.slot);
        let tag = self.connection.ask_for(transfer);
        match self.connection.data_of(tag, self.slot).await? {
            Target::Memory(buffer) => Ok(Body::Own(buffer, 0..len)),
            Target::Disk(..) => unreachable!("the data was asked for into memory"),
        }
    }
}

fn authenticates(command: &Command) -> bool {
    use opcode::fabrics::{AUTHENTICATION_RECEIVE, AUTHENTICATION_SEND};
    command.opcode == opcode::FABRICS
        && matches!(command.nsid.get() as u8, AUTHENTICATION_SEND | AUTHENTICATION_RECEIVE)
}

impl From<Lost> for Answer {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Damaged => Status::TRANSIENT_TRANSPORT_ERROR.into(),
            Lost::Ended => Self::None,
        }
    }
}
