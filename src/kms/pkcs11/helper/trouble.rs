//! What a library's error means: by its code where the specification leaves no doubt, else "may go better later".
//!
//! Return codes: PKCS#11 v3.0, section 5.1.

use cryptoki::error::{Error, RvError};

use crate::kms::pkcs11::frame::WireError;
use crate::kms::pkcs11::message::Failure;

/// Why a request is not done.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) failure: Failure,
    pub(super) what: String,
}

impl Trouble {
    pub(super) fn new(failure: Failure, what: impl Into<String>) -> Self {
        Self { failure, what: what.into() }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self { failure: failure_of(&error), what: words(&error) }
    }
}

impl From<WireError> for Trouble {
    fn from(error: WireError) -> Self {
        Self::new(Failure::Unavailable, error.to_string())
    }
}

fn failure_of(error: &Error) -> Failure {
    let Error::Pkcs11(code, _) = error else {
        return match error {
            Error::LibraryLoading(_) | Error::MissingSymbol(_) => Failure::Config,
            Error::NullFunctionPointer | Error::NotSupported => Failure::Unsupported,
            _ => Failure::Unavailable,
        };
    };
    match code {
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => Failure::WrongPin,
        RvError::PinLocked
        | RvError::PinExpired
        | RvError::UserPinNotInitialized
        | RvError::UserNotLoggedIn
        | RvError::TokenWriteProtected
        | RvError::SessionReadOnly
        | RvError::AttributeReadOnly
        | RvError::AttributeValueInvalid
        | RvError::TemplateInconsistent
        | RvError::KeyFunctionNotPermitted
        | RvError::ActionProhibited => Failure::Refused,
        RvError::MechanismInvalid | RvError::MechanismParamInvalid | RvError::FunctionNotSupported => {
            Failure::Unsupported
        }
        _ => Failure::Unavailable,
    }
}

fn words(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("C_{function:?} answered {code:?}"),
        other => other.to_string(),
    }
}
