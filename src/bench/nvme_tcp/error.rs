//! Why a run over NVMe/TCP did not happen, or did not come to its end.

use std::io;

use thiserror::Error;

use crate::export::nvme_tcp::wire::pdu::{FatalError, TermReq};
use crate::export::nvme_tcp::wire::status::Status;

/// Why a run over NVMe/TCP ended early. A command that fails with a status does not end it: it is counted.
#[derive(Debug, Error)]
pub enum NvmeTcpError {
    /// The target cannot be reached.
    #[error("{endpoint}: cannot connect: {source}")]
    Connect {
        /// Host and port.
        endpoint: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A connection broke.
    #[error("queue {queue}: {what}: {source}")]
    Socket {
        /// The queue; 0 is the admin queue.
        queue: u16,
        /// What was being done.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The target closed a connection.
    #[error("queue {queue}: the target closed the connection ({when})")]
    Closed {
        /// The queue.
        queue: u16,
        /// What was under way.
        when: &'static str,
    },
    /// The target ended a connection and said why.
    #[error("queue {queue}: the target ended the connection: {why}, information {information:#x}")]
    Terminated {
        /// The queue.
        queue: u16,
        /// Its reason.
        why: String,
        /// What belongs to the reason.
        information: u32,
    },
    /// The target sent what it may not send.
    #[error("queue {queue}: the target breaks the protocol: {what}")]
    Protocol {
        /// The queue.
        queue: u16,
        /// What it sent.
        what: String,
    },
    /// The target was silent for too long.
    #[error("queue {queue}: no answer for {seconds} s with {waiting} commands in flight")]
    Silent {
        /// The queue.
        queue: u16,
        /// How long.
        seconds: u64,
        /// How many commands wait.
        waiting: usize,
    },
    /// The target refused a command that the run cannot do without.
    #[error("queue {queue}: {command} failed: {status}")]
    Refused {
        /// The queue.
        queue: u16,
        /// The command.
        command: &'static str,
        /// Its status.
        status: Status,
    },
    /// What is asked for cannot be done with this target.
    #[error("{0}")]
    Config(String),
}

impl NvmeTcpError {
    pub(super) fn protocol(queue: u16, what: impl Into<String>) -> Self {
        Self::Protocol { queue, what: what.into() }
    }

    /// A socket's error; the end of the stream and a reset are the target's doing.
    pub(super) fn socket(queue: u16, what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Closed { queue, when: what }
            }
            _ => Self::Socket { queue, what, source },
        }
    }

    pub(super) fn terminated(queue: u16, request: &TermReq) -> Self {
        let status = request.status.get();
        let why = match status {
            s if s == FatalError::InvalidHeaderField as u16 => "invalid PDU header field".to_owned(),
            s if s == FatalError::SequenceError as u16 => "PDU sequence error".to_owned(),
            s if s == FatalError::HeaderDigestError as u16 => "header digest error".to_owned(),
            s if s == FatalError::DataOutOfRange as u16 => "data transfer out of range".to_owned(),
            s if s == LIMIT_EXCEEDED => "data transfer limit exceeded".to_owned(),
            s if s == FatalError::UnsupportedParameter as u16 => "unsupported parameter".to_owned(),
            s => format!("reserved fatal error {s:#x}"),
        };
        Self::Terminated { queue, why, information: request.information.get() }
    }
}

/// Data Transfer Limit Exceeded, or R2T Limit Exceeded (TCP section 3.6.2.5, Figure "C2HTermReq").
const LIMIT_EXCEEDED: u16 = 0x05;
