//! Keys: from the master key to the two halves that a cipher takes.
//!
//! ```text
//! root key                     seals the embedded key store; an outside KMS has its own
//!   └ CMK                      one service key for each account of a region, and those that its user makes, in a KMS; versions; never leaves it
//!       └ disk key             256 random bits for each new disk, wrapped by the CMK and bound to its context
//!           └ XTS key pair     derived (HKDF-SHA-256, RFC 5869), in locked memory while the disk is attached
//! ```
//!
//! A [`KeyProvider`] is a KMS: the embedded store, or a client of one outside. [`Kms`] is what control threads use: it retries, keeps account of
//! health, counts and writes the audit log. **Nothing here is ever called on a reactor**: a KMS may take seconds to answer.
//!
//! A plain disk key exists as [`DiskKey`] in a [`Secret`] only. It reaches no file, log, error or answer; the way of each is told by the
//! audit log.

mod aead;
pub mod audit;
mod context;
mod data;
mod derive;
pub mod embedded;
mod error;
pub mod kmip;
pub mod pkcs11;
mod provider;
mod service;
mod tls;
mod usage;
mod users;
pub mod vault;
mod wrapped;

use crate::crypto::scrub::scrub;
use crate::memory::{Secret, SecretError};

pub use aead::{AeadError, Sealed, open, seal};
pub use context::{DataContext, KeyContext, Owner, Purpose};
pub use data::{DataBlob, DataKey, MOST_CIPHERTEXT, MOST_PLAINTEXT, OpenedData, Plaintext};
pub use derive::derive_xts_key;
pub use error::KmsError;
pub use provider::{
    Answer, Change, Cmk, CmkId, CmkState, CmkVersion, Creator, KeyProvider, SERVICE_KEY_ALIAS, ServiceKeys,
};
pub use service::{Call, Kms, KmsStatus, NewKey, generation_event};
pub use usage::{FREE_CALLS, Usage};
pub use users::{MOST_DATA_KEY, MOST_USER_KEYS};
pub use wrapped::{MOST_BLOB, ProviderKind, WrappedError, WrappedKey};

/// Bytes of a disk key and of the symmetric keys above it.
pub const KEY_BYTES: usize = 32;

/// The unique key of a disk and of everything that is made from it: 256 bits. Kept in a [`Secret`], which wipes it.
pub struct DiskKey(pub [u8; KEY_BYTES]);

impl Default for DiskKey {
    fn default() -> Self {
        Self([0; KEY_BYTES])
    }
}

impl DiskKey {
    /// A new one, from the kernel's random numbers.
    pub fn random() -> Result<Secret<Self>, KmsError> {
        let key = Secret::filled(|key: &mut Self| getrandom::fill(&mut key.0).map_err(KmsError::Random));
        scrub();
        key
    }
}

impl From<SecretError> for KmsError {
    fn from(error: SecretError) -> Self {
        Self::Memory(error)
    }
}
