//! Client tokens: a request that is sent again is not carried out again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Seconds;

/// What was answered to a request with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the request's parameters, as hex digits.
    pub digest: String,
    /// The answer.
    pub answer: Value,
    /// The intent that carries the request out, as long as it is not finished.
    pub intent: Option<String>,
    /// When it came.
    pub at: Seconds,
}
