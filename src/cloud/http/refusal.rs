//! What the front itself refuses requests with: codes, statuses and messages of the cloud's documentation.

use crate::cloud::ApiError;

use super::Product;

/// A mandatory parameter is not there.
pub(super) fn missing(product: Product, name: &str) -> ApiError {
    let message = match product {
        Product::Ecs => {
            format!("The input parameter \"{name}\" that is mandatory for processing this request is not supplied.")
        }
        Product::Kms => format!("The parameter \"{name}\" is needed but not provided."),
    };
    ApiError::new("MissingParameter", 400, message)
}

/// A parameter has a value that it cannot have.
pub(super) fn invalid(name: &str) -> ApiError {
    ApiError::new("InvalidParameter", 400, format!("The specified parameter \"{name}\" is not valid."))
}

/// The request as a whole cannot be understood; `what` says where.
pub(super) fn unreadable(what: impl Into<String>) -> ApiError {
    ApiError::new("InvalidParameter", 400, what)
}

/// The way of signing is not ours. The code is spelled so.
pub(super) fn unknown_signing(name: &str) -> ApiError {
    ApiError::new("InvalidParamater", 400, format!("The specified parameter \"{name}\" is not valid."))
}

/// What makes a signature is not all there.
pub(super) fn incomplete(what: impl Into<String>) -> ApiError {
    ApiError::new("IncompleteSignature", 400, what)
}

/// The request was not signed just now.
pub(super) fn timestamp(what: &str) -> ApiError {
    ApiError::new("IllegalTimestamp", 400, what)
}

/// The signature is another one. The official SDK takes what follows the only colon for the text that was signed, and compares it with its own.
pub(super) fn mismatch(string_to_sign: &str) -> ApiError {
    let message = format!("The signature does not match; server string to sign is:{string_to_sign}");
    ApiError::new("SignatureDoesNotMatch", 400, message)
}

/// A request was sent twice, by its sender or by somebody who has seen it.
pub(super) fn nonce_used() -> ApiError {
    ApiError::new("SignatureNonceUsed", 400, "The request signature nonce has been used.")
}

/// Nobody has this key.
pub(super) fn no_such_key(product: Product) -> ApiError {
    let status = match product {
        Product::Ecs => 400,
        Product::Kms => 404,
    };
    ApiError::new("InvalidAccessKeyId.NotFound", status, "The AccessKey ID provided does not exist in our records.")
}

/// The key is switched off.
pub(super) fn disabled(product: Product) -> ApiError {
    match product {
        Product::Ecs => ApiError::new("Forbidden.AccessKeyDisabled", 403, "The AccessKey is disabled."),
        Product::Kms => ApiError::new("Forbidden.AccessKey", 403, "This AccessKey is not enabled."),
    }
}

/// Neither GET nor POST.
pub(super) fn method() -> ApiError {
    ApiError::new("UnsupportedHTTPMethod", 403, "This http method is not supported.")
}

/// There is no such operation.
pub(super) fn no_such_action() -> ApiError {
    ApiError::new("InvalidAction.NotFound", 404, "The specified API is not found; check the action and the version.")
}

/// The account asks too much.
pub(super) fn throttled() -> ApiError {
    ApiError::new("Throttling", 400, "Request was denied due to user flow control.")
}

/// What is needed to judge requests cannot be had; the operator's log says more.
pub(super) fn unavailable() -> ApiError {
    ApiError::new("ServiceUnavailable", 503, "The request cannot be checked now; try again later.")
}

/// We have a bug.
pub(super) fn internal(product: Product) -> ApiError {
    let code = match product {
        Product::Ecs => "InternalError",
        Product::Kms => "InternalFailure",
    };
    ApiError::new(code, 500, "The request processing has failed due to some unknown error.")
}
