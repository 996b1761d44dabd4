//! Why a connection ends. The reason is what the log line says; it never touches another connection.

use std::io;

use thiserror::Error;

use crate::export::stream::LinkEnd;

use super::request::MAX_PAYLOAD;

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum EndReason {
    #[error("the client disconnected")]
    Disconnected,
    #[error("the client closed the connection")]
    Closed,
    #[error("the client gave up in the handshake")]
    Aborted,
    #[error("the server stops")]
    ServerStops,
    #[error("the client closed the connection in the middle of a message")]
    ClosedMidway,
    #[error("the client asked for an export that does not exist: {0:?}")]
    UnknownExport(String),
    #[error("the disk of export {0:?} was just being changed")]
    Held(String),
    #[error("the client broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("receiving failed: {0}")]
    Receive(io::Error),
    #[error("sending failed: {0}")]
    Send(io::Error),
    #[error("the handshake was not finished after {0} s")]
    SlowHandshake(u64),
    #[error("the rest of a request did not come for {0} s")]
    StalledRequest(u64),
    #[error("the client took no replies for {0} s")]
    StalledReplies(u64),
    #[error("a read failed after its reply had begun")]
    ReadFailedMidway,
}

impl EndReason {
    /// Whether this is how connections are meant to end.
    pub(super) fn is_orderly(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Closed | Self::Aborted | Self::ServerStops)
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

/// What a client must not do.
#[derive(Debug, Error)]
pub(super) enum Violation {
    #[error("unknown client flags {0:#x}")]
    ClientFlags(u32),
    #[error("an option began with {0:#018x}")]
    OptionMagic(u64),
    #[error("option {option} came with {length} bytes, more than any option needs")]
    OptionLength { option: u32, length: u32 },
    #[error("option {0} needs fixed newstyle, which the client did not ask for")]
    NotFixed(u32),
    #[error("more than {0} options")]
    TooManyOptions(u32),
    #[error("a request began with {0:#010x}")]
    RequestMagic(u32),
    #[error("a write of {0} bytes, more than the {MAX_PAYLOAD} that were announced")]
    WriteLength(u32),
}
