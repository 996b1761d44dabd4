//! Why a request was not carried out: a code for programs, a kind that can be read, and a message for people.
//!
//! A message may repeat what was asked for, but never a secret that somebody put in the place of its reference.

use serde_json::{Value, json};
use thiserror::Error;

use crate::control::config::ConfigError;
use crate::device::DeviceError;
use crate::disk::DiskError;
use crate::export::nvme_tcp::{InventoryError, NvmeTcpError};
use crate::export::vhost_user::VhostUserError;
use crate::kms::KmsError;
use crate::volume::PoolError;

/// How every secret of DH-HMAC-CHAP begins (NVM Express Base 2.0 section 8.13.5.8).
const SECRET_PREFIX: &str = "DHHC-1:";

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The line is no JSON.
    ParseError,
    /// The JSON is no request.
    InvalidRequest,
    /// There is no such method.
    MethodNotFound,
    /// The method does not take these parameters.
    InvalidParams,
    /// There is no such object.
    NotFound,
    /// There is such an object already.
    Exists,
    /// The object is used by somebody.
    InUse,
    /// The target cannot be like that.
    Refused,
    /// It was tried, and failed.
    Failed,
    /// What it needs could not be opened when the target started.
    Offline,
    /// There is no space for it.
    NoSpace,
    /// It was begun, and has not ended in time.
    TimedOut,
    /// What it needs does not answer now: the same request may succeed later.
    Unavailable,
    /// A master key that it needs may not be used.
    KeyState,
}

impl Kind {
    /// The name in `data.kind`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParseError => "parse_error",
            Self::InvalidRequest => "invalid_request",
            Self::MethodNotFound => "method_not_found",
            Self::InvalidParams => "invalid_params",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::InUse => "in_use",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Offline => "offline",
            Self::NoSpace => "no_space",
            Self::Unavailable => "unavailable",
            Self::KeyState => "key_state",
        }
    }

    /// The code: section 5.1 of the specification, and -32000 to -32099 for what is ours.
    pub const fn code(self) -> i32 {
        match self {
            Self::ParseError => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::NotFound => -32001,
            Self::Exists => -32002,
            Self::InUse => -32003,
            Self::Refused => -32004,
            Self::Failed => -32005,
            Self::TimedOut => -32006,
            Self::Offline => -32007,
            Self::NoSpace => -32008,
            Self::Unavailable => -32009,
            Self::KeyState => -32010,
        }
    }
}

/// Why a request was not carried out.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Refusal {
    kind: Kind,
    message: String,
}

impl Refusal {
    pub(in crate::control) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.contains(SECRET_PREFIX) {
            message =
                "the request holds a secret; write where it lies: \"file:PATH\", \"env:NAME\" or \"credential:NAME\""
                    .to_owned();
        }
        Self { kind, message }
    }

    /// What went wrong, for programs.
    pub(in crate::control) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"code": self.kind.code(), "message": self.message, "data": {"kind": self.kind.name()}})
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::Missing(_) => Kind::NotFound,
            ConfigError::Twice(_) => Kind::Exists,
            ConfigError::InUse(_) | ConfigError::Device(DeviceError::InUse { .. }) => Kind::InUse,
            ConfigError::Device(DeviceError::Config { .. } | DeviceError::Resize { .. })
            | ConfigError::Disk(
                DiskError::Config { .. } | DiskError::Device { source: DeviceError::Resize { .. }, .. },
            ) => Kind::Refused,
            ConfigError::Device(_) | ConfigError::Disk(_) | ConfigError::Read { .. } => Kind::Failed,
            ConfigError::Wrong(_)
            | ConfigError::Parse { .. }
            | ConfigError::Kernel(_)
            | ConfigError::Host(_)
            | ConfigError::Nbd(_) => Kind::Refused,
            ConfigError::NvmeTcp(error) => kind_of(error),
            ConfigError::VhostUser(error) => kind_of_vhost_user(error),
            ConfigError::Offline(_) => Kind::Offline,
            ConfigError::Pool(error) => kind_of_pool(error),
            ConfigError::Kms { source, .. } => kind_of_kms(source),
        };
        Self::new(kind, error.to_string())
    }
}

impl From<NvmeTcpError> for Refusal {
    fn from(error: NvmeTcpError) -> Self {
        Self::new(kind_of(&error), error.to_string())
    }
}

impl From<VhostUserError> for Refusal {
    fn from(error: VhostUserError) -> Self {
        Self::new(kind_of_vhost_user(&error), error.to_string())
    }
}

impl From<PoolError> for Refusal {
    fn from(error: PoolError) -> Self {
        Self::new(kind_of_pool(&error), error.to_string())
    }
}

impl From<KmsError> for Refusal {
    fn from(error: KmsError) -> Self {
        ConfigError::from(error).into()
    }
}

fn kind_of_kms(error: &KmsError) -> Kind {
    use KmsError as E;
    match error {
        E::Unavailable { .. } => Kind::Unavailable,
        E::NotFound { .. } => Kind::NotFound,
        E::Refused { .. } | E::State { .. } | E::Unsupported { .. } | E::LimitExceeded { .. } | E::Config(_) => {
            Kind::Refused
        }
        E::Store { .. } => Kind::Offline,
        E::Protocol { .. }
        | E::NotAuthentic { .. }
        | E::CipherText { .. }
        | E::Wrapped(_)
        | E::Audit(_)
        | E::Memory(_)
        | E::Random(_)
        | E::Aead(_) => Kind::Failed,
    }
}

fn kind_of_pool(error: &PoolError) -> Kind {
    use PoolError as E;
    match error {
        E::NotFound { .. } => Kind::NotFound,
        E::Exists { .. } => Kind::Exists,
        E::InUse { .. } | E::OwnedElsewhere { .. } => Kind::InUse,
        E::NoSpace { .. } => Kind::NoSpace,
        E::Invalid { .. } | E::Format { .. } => Kind::Refused,
        E::Offline { .. } => Kind::Offline,
        E::Io { .. } | E::Device { .. } => Kind::Failed,
    }
}

fn kind_of_vhost_user(error: &VhostUserError) -> Kind {
    use VhostUserError as E;
    match error {
        E::Config(_) => Kind::Refused,
        E::Taken(_) => Kind::InUse,
        E::CloseTimeout(_) => Kind::TimedOut,
        E::Folder { .. } | E::Listen(_) | E::Disk(_) => Kind::Failed,
    }
}

fn kind_of(error: &NvmeTcpError) -> Kind {
    use InventoryError as E;
    match error {
        NvmeTcpError::Config(_) => Kind::Refused,
        NvmeTcpError::Listen(_) | NvmeTcpError::Disk(_) | NvmeTcpError::Reservation(_) => Kind::Failed,
        NvmeTcpError::NoDisk(_) => Kind::NotFound,
        NvmeTcpError::DetachTimeout { .. } | NvmeTcpError::HoldTimeout(_) => Kind::TimedOut,
        NvmeTcpError::Inventory(error) => match error {
            E::Account(_) | E::Nqn(_) | E::Nsid { .. } | E::Full(_) => Kind::Refused,
            E::NoSubsystem(_) | E::NoHost { .. } | E::NoNamespace { .. } => Kind::NotFound,
            E::SubsystemExists(_) | E::HostExists { .. } | E::DiskExists { .. } => Kind::Exists,
            E::DiskElsewhere(_) | E::NotShared { .. } => Kind::InUse,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_repeated() {
        let refusal = Refusal::new(Kind::NotFound, "there is no host DHHC-1:00:c2VjcmV0:");
        assert!(!refusal.to_string().contains("c2VjcmV0") && refusal.to_string().contains("file:PATH"));
    }

    #[test]
    fn a_refusal_has_code_message_and_kind() {
        let json = Refusal::from(ConfigError::Missing("there is no disk x".to_owned())).to_json();
        assert_eq!(json, json!({"code": -32001, "message": "there is no disk x", "data": {"kind": "not_found"}}));
    }
}
