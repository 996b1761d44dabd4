//! Why a connection ends. The reason is what the log line says; it never touches another connection.

use std::io;

use thiserror::Error;

use crate::export::stream::LinkEnd;

use super::controller::EndCause;
use super::wire::pdu::FatalError;

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum EndReason {
    #[error("the host closed the connection")]
    Closed,
    #[error("the server stops")]
    ServerStops,
    #[error("the host closed the connection in the middle of a PDU")]
    ClosedMidway,
    #[error("the host terminated the connection: fatal error {status:#04x}, information {information:#x}")]
    Terminated { status: u16, information: u32 },
    #[error("the host broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    Controller(EndCause),
    #[error("another machine with half of this host's identity is connected")]
    MixedUp,
    #[error("receiving failed: {0}")]
    Receive(io::Error),
    #[error("sending failed: {0}")]
    Send(io::Error),
    #[error("the host did not connect to a queue, or prove itself, within {0} s")]
    SlowHandshake(u64),
    #[error("the rest of a PDU did not come for {0} s")]
    StalledRequest(u64),
    #[error("the host took no answers for {0} s")]
    StalledReplies(u64),
}

impl EndReason {
    /// Whether this is how connections are meant to end.
    pub(super) fn is_orderly(&self) -> bool {
        match self {
            Self::Controller(cause) => *cause != EndCause::KeepAliveExpired,
            other => matches!(other, Self::Closed | Self::ServerStops),
        }
    }
}

impl LinkEnd for EndReason {
    fn closed() -> Self {
        Self::Closed
    }

    fn server_stops() -> Self {
        Self::ServerStops
    }

    fn slow_handshake(seconds: u64) -> Self {
        Self::SlowHandshake(seconds)
    }

    fn stalled_request(seconds: u64) -> Self {
        Self::StalledRequest(seconds)
    }

    fn stalled_replies(seconds: u64) -> Self {
        Self::StalledReplies(seconds)
    }

    fn send_failed(error: io::Error) -> Self {
        Self::Send(error)
    }
}

/// What a host must not do: what a termination request says, and where in the PDU it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} ({status:?}, information {information:#x})")]
pub(super) struct Violation {
    pub(super) status: FatalError,
    /// Fatal Error Information: the offset of the wrong field, or the digest that was received.
    pub(super) information: u32,
    pub(super) what: &'static str,
}

impl Violation {
    /// The header field at byte `at` is wrong.
    pub(super) fn field(at: usize, what: &'static str) -> Self {
        Self { status: FatalError::InvalidHeaderField, information: at as u32, what }
    }

    /// The parameter at byte `at` is not supported.
    pub(super) fn parameter(at: usize, what: &'static str) -> Self {
        Self { status: FatalError::UnsupportedParameter, information: at as u32, what }
    }

    pub(super) fn sequence(what: &'static str) -> Self {
        Self { status: FatalError::SequenceError, information: 0, what }
    }

    pub(super) fn header_digest(received: u32) -> Self {
        Self { status: FatalError::HeaderDigestError, information: received, what: "the header digest is wrong" }
    }

    pub(super) fn out_of_range(what: &'static str) -> Self {
        Self { status: FatalError::DataOutOfRange, information: 0, what }
    }
}
