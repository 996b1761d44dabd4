//! What becomes of an Admin command: an answer, or something that the transport has to do before there is one.

use std::sync::Arc;

use super::super::subsystem::Namespace;
use super::super::wire::command::Command;
use super::super::wire::status::Status;
use super::{EventRequest, View};

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// Dwords 0 and 1 of the completion.
    pub result: u64,
    /// Data for the host, no longer than the command has room for.
    pub data: Option<Vec<u8>>,
}

impl Answer {
    /// Success, with this in dword 0.
    pub fn result(dword: u32) -> Self {
        Self { status: Status::SUCCESS, result: dword.into(), data: None }
    }

    /// Success with data, if the host's buffer takes all of it (Base section 4.1.2: a transfer that does not fit its SGL is refused).
    pub(super) fn with_data(command: &Command, data: Vec<u8>) -> Self {
        if (command.data.len.get() as usize) < data.len() {
            return Status::SGL_LENGTH_INVALID.final_one().into();
        }
        Self { status: Status::SUCCESS, result: 0, data: Some(data) }
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, result: 0, data: None }
    }
}

/// What becomes of an Admin command.
#[must_use]
pub enum Admin {
    /// This is the answer.
    Done(Answer),
    /// It is answered when something happens.
    Event(EventRequest),
    /// The command with this identifier on this queue is to be aborted (Base section 5.1).
    Abort {
        /// The queue.
        queue_id: u16,
        /// The command.
        cid: u16,
    },
    /// Disks have to be flushed first; [`Controller::flushed`](super::Controller::flushed) then gives the answer.
    Flush(Flush),
    /// Dword 0 is 1 if the reservations of this namespace persist through power loss (Base section 5.27.1.27).
    GetPersistence(Arc<Namespace>),
    /// Whether the reservations of these namespaces persist through power loss is to be changed.
    SetPersistence {
        /// The namespaces.
        namespaces: Vec<Arc<Namespace>>,
        /// Whether they persist.
        persists: bool,
    },
}

impl From<Answer> for Admin {
    fn from(answer: Answer) -> Self {
        Self::Done(answer)
    }
}

impl From<Status> for Admin {
    fn from(status: Status) -> Self {
        Self::Done(status.into())
    }
}

/// Disks that have to be flushed before a command can be answered.
pub struct Flush {
    /// The namespaces of the disks.
    pub namespaces: View,
    pub(super) then: Then,
}

/// What the flush is for.
#[derive(Clone, Copy)]
pub(super) enum Then {
    ShutDown,
    WriteThrough,
}
