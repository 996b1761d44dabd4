//! Vault and OpenBao: the Transit engine, over HTTPS (openbao.org/api-docs/secret/transit; Vault has the same).
//!
//! Each owner has a key of type `aes256-gcm96` there, named by [`ServiceKeys`](super::ServiceKeys) and made on first use, and may have more. It is *derived*: Vault
//! encrypts each disk's key with a key that it derives from the master key and the [`KeyContext`](super::KeyContext), so that a wrapped key opens for
//! its disk only, and can still be wrapped anew without being shown to us. (With `associated_data` it could not: `transit/rewrap` does not take
//! any.) A key that is not derived, or that could be exported or deleted, is refused. Whether keys are disabled is decided in Vault.
//!
//! What a role needs, with the mount `transit` and the prefix `strongroom`:
//!
//! ```text
//! path "transit/keys/strongroom.*"    { capabilities = ["create", "read", "update"]
//!                                       denied_parameters = { exportable = [], allow_plaintext_backup = [], deletion_allowed = [] } }
//! path "transit/keys"                 { capabilities = ["list"] }
//! path "transit/encrypt/strongroom.*" { capabilities = ["update"] }
//! path "transit/decrypt/strongroom.*" { capabilities = ["update"] }
//! path "transit/rewrap/strongroom.*"  { capabilities = ["update"] }
//! ```
//!
//! The plain key goes to Vault when a disk is made, and comes back when it is attached. On its way it lies in locked memory, in buffers that are
//! overwritten as soon as they were used, and encrypted; `tests/vault_keys_leave_nothing_in_memory.rs` looks for what is left.

mod answer;
mod config;
mod data;
mod http;
mod session;
mod text;
mod transit;
mod transport;

pub use config::{VaultAuth, VaultConfig};
