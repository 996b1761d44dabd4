//! Why the KMS refuses: the cloud's KMS has codes of its own for what ECS calls otherwise.
//!
//! Operations here end with [`KmsError`], so that no error of the target or of the store takes the words of ECS by a `?`.

use std::borrow::Cow;

use thiserror::Error;

use crate::cloud::backend::{BackendError, KeyState};
use crate::cloud::error::ApiError;
use crate::cloud::store::StoreError;

/// A refusal in the words of the KMS.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct KmsError(ApiError);

impl KmsError {
    /// A refusal.
    pub fn new(code: impl Into<Cow<'static, str>>, status: u16, message: impl Into<String>) -> Self {
        Self(ApiError::new(code, status, message))
    }

    /// A parameter that has to be there is not.
    pub fn missing(name: &str) -> Self {
        Self::new("MissingParameter", 400, format!("The parameter \"{name}\" is needed but not provided."))
    }

    /// A parameter has a value that cannot be.
    pub fn invalid(name: &str) -> Self {
        Self(ApiError::invalid(name))
    }

    /// There is no such key, or it is another account's.
    pub fn no_key() -> Self {
        Self::new("Forbidden.KeyNotFound", 404, "The specified Key is not found.")
    }

    /// There is no such alias, or it is another account's.
    pub fn no_alias() -> Self {
        Self::new("Forbidden.AliasNotFound", 404, "The specified Alias is not found.")
    }

    /// The key has no such version.
    pub fn no_version() -> Self {
        Self::new("Forbidden.KeyVersionNotFound", 404, "The specified Key version is not found.")
    }

    /// The user may not do that with the service key.
    pub fn no_permission() -> Self {
        Self::new("Forbidden.NoPermission", 403, "This operation is forbidden by permission system.")
    }

    /// The key does not stand so that it could be used.
    pub fn state(state: KeyState) -> Self {
        let (code, word) = match state {
            KeyState::Enabled => ("Rejected.Enabled", "Enabled"),
            KeyState::Disabled => ("Rejected.Disabled", "Disabled"),
            KeyState::PendingDeletion => ("Rejected.PendingDeletion", "PendingDeletion"),
        };
        Self::new(code, 409, format!("The request was rejected because the key state is {word}."))
    }

    /// The key does not stand so that its state could be changed like that.
    pub fn state_modified_failed() -> Self {
        Self::new("Rejected.StateModifiedFailed", 409, "Keystate modified failed.")
    }

    /// A limit is reached; `what` says which.
    pub fn limit(what: &str) -> Self {
        let rejected = "The request was rejected because user create resource limit was exceeded";
        Self::new("Rejected.LimitExceeded", 400, format!("{rejected}: {what}."))
    }

    /// What was sealed is damaged, or bound to another context: which of the two is not told.
    pub fn not_authentic(context: &str) -> Self {
        let what = format!("The specified parameter \"CiphertextBlob\" or \"{context}\" is not valid.");
        Self::new("InvalidParameter", 400, what)
    }

    /// The KMS behind us cannot do that.
    pub fn unsupported(what: &str) -> Self {
        Self::new("UnsupportedOperation", 400, format!("This action is not supported: {what}"))
    }

    /// Something of ours went wrong.
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new("InternalFailure", 500, what)
    }
}

impl From<KmsError> for ApiError {
    fn from(error: KmsError) -> Self {
        error.0
    }
}

/// From what all products share: parameters, pages, tokens. Their failures have other codes here.
impl From<ApiError> for KmsError {
    fn from(error: ApiError) -> Self {
        let code = match &*error.code {
            "InternalError" => Cow::Borrowed("InternalFailure"),
            "ServiceUnavailable" => Cow::Borrowed("ServiceUnavailableTemporary"),
            _ => error.code,
        };
        Self(ApiError { code, ..error })
    }
}

impl From<StoreError> for KmsError {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<BackendError> for KmsError {
    fn from(error: BackendError) -> Self {
        use BackendError as E;
        match error {
            E::Unavailable(what) => Self::new("ServiceUnavailableTemporary", 503, what),
            E::KeyState { state, .. } => Self::state(state),
            E::NoKey(_) => Self::no_key(),
            E::Unsupported(what) => Self::unsupported(&what),
            E::NotAuthentic(_) => Self::not_authentic("EncryptionContext"),
            E::NoSpace(what) => Self::limit(&what),
            E::Refused(_) => Self::no_permission(),
            E::InUse(what) | E::NotFound(what) | E::Failed(what) => Self::internal(what),
        }
    }
}
