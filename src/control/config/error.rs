//! Why a configuration cannot be used. The same errors answer changes at run time: they are held to the same checks.

use std::path::PathBuf;

use thiserror::Error;

use crate::crypto::xts::Kernel;
use crate::device::DeviceError;
use crate::disk::DiskError;
use crate::export::nbd::NbdError;
use crate::export::nvme_tcp::{NvmeTcpError, PolicyError};
use crate::export::vhost_user::VhostUserError;
use crate::kms::KmsError;
use crate::volume::PoolError;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message names key and line.
    #[error("{path}, line {line}: {}", source.to_string().trim_end())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong, without the text there: it may be a secret in the wrong place.
        source: Box<toml::de::Error>,
    },
    /// It contradicts itself or the machine.
    #[error("{0}")]
    Wrong(String),
    /// A name leads nowhere.
    #[error("{0}")]
    Missing(String),
    /// Something is there already.
    #[error("{0}")]
    Twice(String),
    /// Something is taken by somebody else.
    #[error("{0}")]
    InUse(String),
    /// The CPU cannot run the kernel.
    #[error("this CPU cannot run the cipher kernel {0}; choose \"auto\"")]
    Kernel(Kernel),
    /// A device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A disk cannot be opened.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A pool cannot do what is needed.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A pool or disk that is configured could not be opened when the target started.
    #[error("{0}")]
    Offline(String),
    /// The KMS does not give a disk's key, or cannot be used.
    #[error("{before}{source}", before = disk.as_ref().map(|disk| format!("disk {disk}: ")).unwrap_or_default())]
    Kms {
        /// The disk that is about, if it is about one.
        disk: Option<String>,
        /// What it said.
        source: KmsError,
    },
    /// The NBD export names what is not there.
    #[error(transparent)]
    Nbd(#[from] NbdError),
    /// A host's secret cannot be used.
    #[error(transparent)]
    Host(#[from] PolicyError),
    /// The NVMe/TCP export cannot be served.
    #[error(transparent)]
    NvmeTcp(#[from] NvmeTcpError),
    /// The vhost-user export cannot be served.
    #[error(transparent)]
    VhostUser(#[from] VhostUserError),
}

impl From<KmsError> for ConfigError {
    fn from(source: KmsError) -> Self {
        Self::Kms { disk: None, source }
    }
}

impl ConfigError {
    /// What a KMS said about the key of a disk.
    pub(in crate::control) fn of_key(disk: &str) -> impl FnOnce(KmsError) -> Self {
        move |source| Self::Kms { disk: Some(disk.to_owned()), source }
    }

    /// The same error, with the object that it is about before it.
    pub(super) fn of(self, object: String) -> Self {
        let before = |text: String| format!("{object}: {text}");
        match self {
            Self::Wrong(text) => Self::Wrong(before(text)),
            Self::Missing(text) => Self::Missing(before(text)),
            Self::Twice(text) => Self::Twice(before(text)),
            Self::InUse(text) => Self::InUse(before(text)),
            Self::Offline(text) => Self::Offline(before(text)),
            other => other,
        }
    }
}
