//! Commands of the Admin queue, and fabrics commands of every queue: what the controller answers is brought to the host.

use std::rc::Rc;
use std::time::Instant;

use zerocopy::{FromBytes, IntoBytes};

use super::connection::{Arrived, Queue};
use super::controller::{Admin, Answer as ControllerAnswer};
use super::end::EndReason;
use super::receiver::Body;
use super::room::direction;
use super::slot::{Answer, Served};
use super::wire::command::Command;
use super::wire::fabrics::{Connect, ConnectData};
use super::wire::opcode;
use super::wire::status::Status;

/// The most data that an Admin command may bring: that of the largest one, Authentication Send, with some room.
const MOST_ADMIN_DATA: usize = 64 << 10;

impl Served<'_> {
    /// Connect: the connection becomes a queue (Base section 6.3).
    pub(super) async fn connect(&self, arrived: Arrived) -> Answer {
        let connection = self.connection;
        let connect = Connect::read_from_bytes(arrived.command.as_bytes()).expect("a command has as many bytes");
        let body = match self.payload(arrived, size_of::<ConnectData>()).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let data = ConnectData::ref_from_bytes(body.bytes()).expect("as many bytes as were asked for");
        let shard = &connection.shard;
        let handle = shard.end_queue(connection.number, &connection.link.peer);
        let now = Instant::now();
        match shard.subsystems.connect(&connect, data, connection.reached, handle, now) {
            Err(refusal) => Answer::Complete { status: refusal.status, result: refusal.result },
            Ok(connected) => {
                let result = connected.result();
                if connected.queue_id == 0 {
                    shard.watch_controller(connection.number, &connected.controller);
                }
                connection.become_queue(Queue::new(shard, connected));
                Answer::Complete { status: Status::SUCCESS, result }
            }
        }
    }

    /// Carries out a command of the Admin queue, or a fabrics command.
    pub(super) async fn admin(&self, queue: &Rc<Queue>, arrived: Arrived) -> Answer {
        let command = arrived.command;
        if command.opcode == opcode::FABRICS {
            match command.nsid.get() as u8 {
                opcode::fabrics::DISCONNECT => return self.disconnect(queue),
                opcode::fabrics::AUTHENTICATION_SEND => return self.authentication_send(queue, arrived).await,
                opcode::fabrics::AUTHENTICATION_RECEIVE => return self.authentication_receive(queue, &command).await,
                _ if queue.id != 0 => return Status::INVALID_OPCODE.final_one().into(),
                _ => {}
            }
        }
        let len = if brings_data(&command) { command.data.len.get() as usize } else { 0 };
        if len > MOST_ADMIN_DATA {
            return Status::SGL_LENGTH_INVALID.final_one().into();
        }
        let data = match if len == 0 { Ok(Body::Empty) } else { self.payload(arrived, len).await } {
            Ok(data) => data,
            Err(answer) => return answer,
        };
        match queue.controller.admin(&command, data.bytes()) {
            Admin::Done(answer) => self.bring(&command, answer).await,
            Admin::Event(request) => match request.await {
                Ok(event) => Answer::Complete { status: Status::SUCCESS, result: event.into() },
                Err(status) => status.into(),
            },
            // Nothing that is under way can be stopped at will: dword 0 says that the command was not aborted (Base section 5.1).
            Admin::Abort { .. } => Answer::Complete { status: Status::SUCCESS, result: 1 },
            Admin::Flush(flush) => {
                let outcome = self.flush_namespaces(queue, &flush.namespaces).await;
                self.bring(&command, queue.controller.flushed(&flush, outcome)).await
            }
            Admin::GetPersistence(namespace) => self.get_persistence(queue, &namespace).await,
            Admin::SetPersistence { namespaces, persists } => self.set_persistence(queue, &namespaces, persists).await,
        }
    }

    /// Disconnect (Base section 6.4): the I/O queue ends; the answer still goes out.
    fn disconnect(&self, queue: &Queue) -> Answer {
        if queue.id == 0 {
            return Status::INVALID_FIELD.final_one().into();
        }
        self.connection.link.give_reason(EndReason::Closed);
        self.connection.link.stop();
        Answer::SUCCESS
    }

    /// Brings what the controller answers to the host.
    pub(super) async fn bring(&self, command: &Command, answer: ControllerAnswer) -> Answer {
        let Some(data) = answer.data.filter(|data| !data.is_empty()) else {
            return Answer::Complete { status: answer.status, result: answer.result };
        };
        if let Err(status) = self.check_destination(command, data.len()) {
            return status.into();
        }
        let mut buffer = self.connection.link.reactor.buffers().take(data.len()).await;
        buffer[..data.len()].copy_from_slice(&data);
        Answer::Data { buffer, len: data.len() }
    }
}

fn brings_data(command: &Command) -> bool {
    direction(command) & 0b11 == opcode::HOST_TO_CONTROLLER && command.data.len.get() > 0
}
