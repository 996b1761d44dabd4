//! The KMS of our own: master keys in one sealed file, for sites that have no KMS.
//!
//! ```text
//! what unlocks a slot      passphrase (Argon2id), a key file or credential, a TPM 2.0
//!   └ root key             256 random bits, sealed once in each slot, never used itself
//!       ├ body key         one for each epoch: seals the file's body
//!       ├ material key     one for each epoch: seals the material of each CMK version within the body
//!       └ witness key      authenticates the counter file beside the store
//! ```
//!
//! In memory lie the root key and the material key of the epoch, in locked memory; the material of a CMK stays sealed there too, and is opened
//! into a [`Secret`](crate::memory::Secret) for the moment of its use. Wrapping is AES-256-GCM under a CMK version, with the key's context, the
//! CMK and its version authenticated. Data of users is encrypted under a key that is derived from a CMK version for that one text (`data.rs`).
//!
//! # What the store keeps safe, and what it cannot
//! - A change is in the file when its call returns, and a crash at any point leaves the file of before or after it ([`commit`]).
//! - The file that a change replaces is overwritten before it is given back to the file system. **A file system that journals data or copies on
//!   write, a snapshot of it, and the spare blocks of a flash device may keep old blocks all the same**, and a backup keeps what it was made
//!   of: whoever has such a copy *and* what unlocks it has the keys that were in it, destroyed ones too. Where that matters destroy the
//!   passphrase, key file or TPM slot as well, and put the store on a device of its own.
//! - Taking a slot out does not help against one who copied the file before: the root key stays the same.
//! - An older file in the place of the newest one is noticed by the counter file beside it (`PATH.generation`). Whoever puts back **both** files
//!   is not noticed by them: compare [`EmbeddedStore::generation`] with a number kept elsewhere ([`EmbeddedStore::check_witness`]); the
//!   audit log does.
//! - Waiting periods end by the system's clock. A clock that is set forward by mistake ends them early.
//! - Argon2id's memory is wiped, but neither locked nor kept out of core dumps: it is far larger than what may be locked by default.
//! - Argon2id is no function of NIST SP 800-132. A site that has to stay with approved ones takes `root_key` or `tpm`.

mod backup;
mod body;
mod commit;
mod config;
mod data;
mod derive;
mod error;
mod folder;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod passphrase;
mod provider;
mod root;
mod sealed_by_tpm;
mod slot;
mod store;
#[cfg(test)]
mod testing;
#[cfg(feature = "tpm")]
mod tpm;
#[cfg(not(feature = "tpm"))]
#[path = "no_tpm.rs"]
mod tpm;
mod witness;

pub use backup::Overwrite;
pub use config::{EmbeddedConfig, Unlock};
pub use provider::{DEFAULT_WAITING_DAYS, WAITING_DAYS};
pub use slot::{SlotInfo, SlotKind};
pub use store::EmbeddedStore;
pub use witness::Generation;
