//! What users say of master keys. The keys themselves are in the KMS.

use serde::{Deserialize, Serialize};

/// What is known of a master key beside what the KMS knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNote {
    /// Whose it is.
    pub account: String,
    /// What its user says of it; may be empty.
    pub description: String,
    /// How often it gets a new version by itself, in seconds; never, if there is none.
    #[serde(default)]
    pub rotation_seconds: Option<u64>,
    /// When it got its last version by itself.
    #[serde(default)]
    pub rotated_at: Option<u64>,
    /// Whether it cannot be deleted.
    #[serde(default)]
    pub deletion_protection: bool,
}

/// Another name of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// Whose it is.
    pub account: String,
    /// The name: `alias/…`.
    pub name: String,
    /// The key.
    pub key_id: String,
}
