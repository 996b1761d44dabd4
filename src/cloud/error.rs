//! Why the cloud refuses a request: its code, which clients match on, its HTTP status, and a message for people.

use std::borrow::Cow;

use thiserror::Error;

/// Why a request was refused. Codes and statuses are those of the cloud's documentation, odd ones included: clients know them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code.
    pub code: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong and, where it helps, what to do.
    pub message: String,
}

impl ApiError {
    /// An error.
    pub fn new(code: impl Into<Cow<'static, str>>, status: u16, message: impl Into<String>) -> Self {
        Self { code: code.into(), status, message: message.into() }
    }

    /// A parameter that has to be there is not.
    pub fn missing(name: &str) -> Self {
        let what =
            format!("The input parameter \"{name}\" that is mandatory for processing this request is not supplied.");
        Self::new("MissingParameter", 400, what)
    }

    /// A parameter has a value that cannot be.
    pub fn invalid(name: &str) -> Self {
        Self::new("InvalidParameter", 400, format!("The specified parameter \"{name}\" is not valid."))
    }

    /// Something of ours went wrong.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new("InternalError", 500, what)
    }

    /// Something that is needed does not answer: the same request may succeed later.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new("ServiceUnavailable", 503, what)
    }
}
