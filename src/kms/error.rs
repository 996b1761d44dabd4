//! What can go wrong with a KMS, told apart by what there is to do about it.

use thiserror::Error;

use crate::memory::SecretError;

use super::aead::AeadError;
use super::provider::CmkState;
use super::wrapped::WrappedError;

/// Why a KMS did not do what it was asked for. Messages name the KMS, and never hold anything secret.
#[derive(Debug, Error)]
pub enum KmsError {
    /// It cannot be reached, does not answer in time, is sealed, or is too busy. The same call may succeed later.
    #[error("{kms} is not available: {what}; try again when it is back")]
    Unavailable {
        /// The KMS.
        kms: String,
        /// What happened.
        what: String,
    },
    /// It does not let us: a credential or a policy.
    #[error("{kms} refuses: {what}")]
    Refused {
        /// The KMS.
        kms: String,
        /// What it said, and what to do.
        what: String,
    },
    /// It answers what it must not.
    #[error("{kms} answers nonsense: {what}")]
    Protocol {
        /// The KMS.
        kms: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no such key.
    #[error("{kms} has no key {key}")]
    NotFound {
        /// The KMS.
        kms: String,
        /// The key, or its alias.
        key: String,
    },
    /// The key is in a state in which this cannot be done.
    #[error("key {key} is {state}: {what}")]
    State {
        /// The key.
        key: String,
        /// Its state.
        state: CmkState,
        /// What cannot be done, and what would have to be done first.
        what: &'static str,
    },
    /// A wrapped key does not open: it was changed, or belongs to another disk, account, region or key.
    #[error("{kms}: the wrapped key does not open: it is damaged, or belongs to another disk or account ({what})")]
    NotAuthentic {
        /// The KMS.
        kms: String,
        /// Which one.
        what: String,
    },
    /// What a user wants decrypted does not open: it was changed, or belongs to another context, account, region or key.
    #[error("{kms}: the cipher text does not open: it is damaged, or its context is another one ({what})")]
    CipherText {
        /// The KMS.
        kms: String,
        /// What is known of it.
        what: String,
    },
    /// An account has as many keys as it may have.
    #[error(
        "account {account} has {most} keys of its own, which is as many as there may be; have some destroyed first"
    )]
    LimitExceeded {
        /// The account.
        account: String,
        /// How many.
        most: usize,
    },
    /// A wrapped key cannot be read.
    #[error(transparent)]
    Wrapped(#[from] WrappedError),
    /// The KMS cannot do such a thing.
    #[error("{kms} cannot {what}")]
    Unsupported {
        /// The KMS.
        kms: String,
        /// What it cannot, and what to do instead.
        what: String,
    },
    /// A configuration that cannot work.
    #[error("kms: {0}")]
    Config(String),
    /// The embedded store: what is wrong with its file, in its own words.
    #[error("{kms}: {what}")]
    Store {
        /// The store.
        kms: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The audit log cannot be written: what is not in it, is not done.
    #[error("{0}; nothing was done with the key")]
    Audit(String),
    /// There is no locked memory for a key.
    #[error(transparent)]
    Memory(SecretError),
    /// The kernel gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The cryptographic library refuses.
    #[error(transparent)]
    Aead(#[from] AeadError),
}

impl KmsError {
    /// Whether the same call may succeed later, without anybody having changed anything here.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
