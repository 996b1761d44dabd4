//! What the cloud needs of the target below it: volumes, hosts and keys, in the words of this layer.
//!
//! Calls block, and come from control threads. **Each may be repeated**: one that finds its work done, by itself in an earlier life, succeeds.
//! That is what lets an operation be finished after a crash.

use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::category::Speed;
use super::error::ApiError;
use crate::secrets::SecretRef;

/// Who has asked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Caller {
    /// The account.
    pub account: String,
    /// The access key that has signed the request; `system` for what happens by itself, `operator` for the operator's commands.
    pub access_key: String,
}

/// A disk to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// The pool that its volume lies in.
    pub pool: String,
    /// Its size.
    pub bytes: u64,
    /// The snapshot that it begins with, by its name in the pool. Its key is the snapshot's then.
    pub source: Option<String>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The master key that wraps its key; the account's service key, if none is named.
    pub key_id: Option<String>,
    /// Whether several hosts may have it.
    pub shared: bool,
    /// How fast it may be.
    pub speed: Speed,
}

/// What the target has decided of a disk that it has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The master key that wraps its key, if it is encrypted.
    pub key_id: Option<String>,
    /// The namespace identifier that hosts know it by, for life.
    pub nsid: u32,
}

/// A host that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHost {
    /// Its name: an instance's identifier.
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// The name that it connects with.
    pub nqn: String,
    /// The identifier that it connects with.
    pub host_id: Uuid,
    /// Where its DH-HMAC-CHAP secret lies, if it has to authenticate.
    pub dhchap_secret: Option<SecretRef>,
}

/// What may be done with a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Everything.
    Enabled,
    /// Nothing, until it is enabled.
    Disabled,
    /// Nothing; it will be destroyed.
    PendingDeletion,
}

/// A version of a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// From 1 on.
    pub number: u32,
    /// When it was made, in seconds since 1970; 0 if the KMS does not tell.
    pub created_at: u64,
}

/// A master key, without its material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// Whether the system made it: its user can neither disable nor delete it.
    pub is_service_key: bool,
    /// What may be done with it.
    pub state: KeyState,
    /// Its versions, the oldest first; never empty.
    pub versions: Vec<KeyVersion>,
    /// When it was made, in seconds since 1970; 0 if the KMS does not tell.
    pub created_at: u64,
    /// When it will be destroyed.
    pub deletion_at: Option<u64>,
}

/// A change of a key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// It may be used.
    Enable,
    /// It may not.
    Disable,
    /// It will be destroyed after so many days.
    ScheduleDeletion(u32),
    /// It will not, and may be used.
    CancelDeletion,
    /// It gets a new version.
    Rotate,
}

/// What a master key has sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What to keep: it names its key.
    pub blob: Vec<u8>,
    /// The key.
    pub key_id: String,
    /// Its version.
    pub version: u32,
}

/// What a master key has opened.
#[derive(Debug)]
pub struct Opened {
    /// What was sealed.
    pub plain: Zeroizing<Vec<u8>>,
    /// The key.
    pub key_id: String,
    /// Its version.
    pub version: u32,
}

/// What sealed data is bound to: it opens with the same pairs only.
pub type EncryptionContext = std::collections::BTreeMap<String, String>;

/// Why the target does not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// The KMS or a pool does not answer now: the same call may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// A master key may not be used.
    #[error("key {id} is {state:?}")]
    KeyState {
        /// The key.
        id: String,
        /// How it stands.
        state: KeyState,
    },
    /// There is no such master key in the account.
    #[error("there is no key {0}")]
    NoKey(String),
    /// The KMS does not let us: a credential or a policy.
    #[error("{0}")]
    Refused(String),
    /// The KMS cannot do that.
    #[error("{0}")]
    Unsupported(String),
    /// What was sealed is damaged, or bound to something else.
    #[error("{0}")]
    NotAuthentic(String),
    /// There is no more room, or a limit is reached.
    #[error("{0}")]
    NoSpace(String),
    /// Something else is being done with it.
    #[error("{0}")]
    InUse(String),
    /// A volume, snapshot or host that is needed is not there.
    #[error("{0}")]
    NotFound(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<BackendError> for ApiError {
    fn from(error: BackendError) -> Self {
        use BackendError as E;
        let message = error.to_string();
        match error {
            E::Unavailable(_) => Self::unavailable(message),
            E::KeyState { .. } => {
                Self::new("InvalidParameter.KMSKeyId.CMKNotEnabled", 403, "The CMK needs to be enabled.")
            }
            E::NoKey(_) => {
                Self::new("InvalidParameter.KMSKeyId.NotFound", 404, "The specified KMSKeyId does not exist.")
            }
            E::Refused(_) => {
                let what = format!("ECS service have no right to access your KMS: {message}");
                Self::new("InvalidParameter.KMSKeyId.KMSUnauthorized", 403, what)
            }
            E::NoSpace(_) => Self::new("OperationDenied", 400, format!("The zone has no room for this: {message}")),
            E::Unsupported(_) => Self::new("UnsupportedParameter", 400, message),
            E::InUse(_) => Self::new("OperationConflict", 409, message),
            E::NotAuthentic(_) | E::NotFound(_) | E::Failed(_) => Self::internal(message),
        }
    }
}

/// The target.
pub trait Backend: Send + Sync {
    /// Makes an account.
    fn add_account(&self, account: &str) -> Result<(), BackendError>;

    /// Lets a host connect.
    fn add_host(&self, host: &NewHost) -> Result<(), BackendError>;

    /// Lets it connect no more. Its disks are detached before.
    fn remove_host(&self, host: &str) -> Result<(), BackendError>;

    /// Makes a disk.
    fn create_disk(&self, new: &NewDisk, by: &Caller) -> Result<Made, BackendError>;

    /// Deletes a disk that nobody has. Its snapshots stay.
    fn delete_disk(&self, disk: &str, by: &Caller) -> Result<(), BackendError>;

    /// Lets a host see a disk.
    fn attach(&self, disk: &str, host: &str, by: &Caller) -> Result<(), BackendError>;

    /// Takes a disk from a host, once its commands are finished.
    fn detach(&self, disk: &str, host: &str, by: &Caller) -> Result<(), BackendError>;

    /// Refuses a disk that no host may get now: a copy that is not finished, or a disk that hosts were switched from.
    fn check_attachable(&self, disk: &str) -> Result<(), BackendError>;

    /// Refuses a disk that must stay now: a conversion reads or fills it. One that is not there may be deleted.
    fn check_deletable(&self, disk: &str) -> Result<(), BackendError>;

    /// The copy that hosts of a disk were switched to, if they were: that is durable.
    fn switched_to(&self, disk: &str) -> Result<Option<String>, BackendError>;

    /// Makes a disk larger.
    fn resize(&self, disk: &str, bytes: u64, speed: Speed) -> Result<(), BackendError>;

    /// Takes a snapshot, `disk@snapshot` in the pool.
    fn snapshot(&self, disk: &str, snapshot: &str, by: &Caller) -> Result<(), BackendError>;

    /// Deletes a snapshot of a pool by its name there.
    fn delete_snapshot(&self, pool: &str, name: &str, by: &Caller) -> Result<(), BackendError>;

    /// Bytes of the pool that a snapshot refers to; none if that cannot be told now.
    fn snapshot_bytes(&self, pool: &str, name: &str) -> Option<u64>;

    /// Gives a disk that nobody sees the content of one of its snapshots.
    fn rollback(&self, disk: &str, snapshot: &str, by: &Caller) -> Result<(), BackendError>;

    /// Gives a disk that nobody sees the content that it was made with.
    fn reinitialise(&self, disk: &str, by: &Caller) -> Result<(), BackendError>;

    /// Writes the plain content of an unencrypted snapshot into a file, which is there as a whole or not at all.
    fn export_snapshot(&self, pool: &str, name: &str, to: &std::path::Path) -> Result<(), BackendError>;

    /// The account's service key; makes it if there is none.
    fn service_key(&self, account: &str, by: &Caller) -> Result<MasterKey, BackendError>;

    /// All master keys of an account.
    fn keys(&self, account: &str) -> Result<Vec<MasterKey>, BackendError>;

    /// Makes a master key.
    fn create_key(&self, account: &str, by: &Caller) -> Result<MasterKey, BackendError>;

    /// Changes a master key of the account.
    fn change_key(&self, account: &str, id: &str, change: KeyChange, by: &Caller) -> Result<MasterKey, BackendError>;

    /// Seals data by a key of the account.
    fn seal(
        &self,
        account: &str,
        id: &str,
        plain: &[u8],
        context: &EncryptionContext,
        by: &Caller,
    ) -> Result<Sealed, BackendError>;

    /// Seals so many random bytes, and tells them.
    fn new_data_key(
        &self,
        account: &str,
        id: &str,
        bytes: usize,
        context: &EncryptionContext,
        by: &Caller,
    ) -> Result<(Sealed, Zeroizing<Vec<u8>>), BackendError>;

    /// Opens what a key of the account has sealed.
    fn open(
        &self,
        account: &str,
        blob: &[u8],
        context: &EncryptionContext,
        by: &Caller,
    ) -> Result<Opened, BackendError>;
}
