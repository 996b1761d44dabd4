//! Accounts and their access keys, as the operator has made them.

use serde::{Deserialize, Serialize};

use super::Seconds;
use crate::secrets::SecretRef;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Seconds,
    /// Whether it has opened the KMS, without which it has no encrypted disks.
    pub kms_opened: bool,
}

/// A key by which requests of an account are signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its identifier, which requests name.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// Where its secret lies. The secret itself is never stored.
    pub secret: SecretRef,
    /// Whether requests that it has signed are taken.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Seconds,
}
