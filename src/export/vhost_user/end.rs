//! Why the session of a front end ends.

use std::fmt;

use vhost::vhost_user::Error;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// The front end closed its connection.
    Closed,
    /// The disk is taken from it, or the target stops.
    Stopped,
    /// It sent what is no message, or what cannot be done.
    Broken(String),
}

impl SessionEnd {
    pub(super) fn is_orderly(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the front end closed it"),
            Self::Stopped => write!(f, "the disk is not served here any more"),
            Self::Broken(what) => write!(f, "{what}"),
        }
    }
}

impl From<Error> for SessionEnd {
    fn from(error: Error) -> Self {
        match error {
            Error::Disconnected => Self::Closed,
            // What our own part of the session has said is told as it was said.
            Error::ReqHandlerError(what) => Self::Broken(what.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}
