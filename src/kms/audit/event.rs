//! What is recorded: who did what with which key, and what came of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::access_key::AccessKeyId;

/// Who asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Actor {
    /// The target by itself: at its start, or when a KMS has come back.
    System,
    /// A process on the control socket, as the kernel tells (SO_PEERCRED, unix(7)): as it was when it connected.
    User {
        /// Its effective user.
        uid: u32,
        /// Its number.
        pid: i32,
    },
    /// Who has signed a request to the API.
    AccessKey(AccessKeyId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User { uid, pid } => write!(f, "uid {uid}, pid {pid}"),
            Self::AccessKey(id) => write!(f, "access key {id}"),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Operation {
    /// An account's service key was made.
    CreateServiceKey,
    /// A disk was made, with a key of its own.
    CreateDisk,
    /// A disk's key was fetched, for its disk to be used.
    Attach,
    /// A disk's key was wiped from memory.
    Detach,
    /// A snapshot was taken: it shares the disk's key.
    Snapshot,
    /// A disk went back to a snapshot.
    Rollback,
    /// A disk was emptied.
    Reinitialise,
    /// A disk was made from a snapshot: it shares its key.
    CloneDisk,
    /// A disk was deleted.
    DeleteDisk,
    /// The last holder of a disk key was deleted, and the wrapped key with it.
    DestroyKey,
    /// A disk key was wrapped anew, by a newer version.
    Rewrap,
    /// A CMK got a new version.
    Rotate,
    /// A CMK was enabled.
    Enable,
    /// A CMK was disabled.
    Disable,
    /// A CMK will be destroyed when its waiting period is over.
    ScheduleDeletion,
    /// A CMK will not be destroyed.
    CancelDeletion,
    /// The key store was copied.
    Backup,
    /// The key store was brought back from a copy.
    Restore,
    /// The key store was opened by its root key.
    Unlock,
    /// This log itself: a crash had left an unfinished record at its end, which was set aside.
    RecoverLog,
    /// A user had a CMK made.
    CreateKey,
    /// A user had data encrypted by a CMK.
    Encrypt,
    /// A user had data decrypted.
    Decrypt,
    /// A user had a key made for its own use, encrypted by a CMK.
    GenerateDataKey,
}

impl Operation {
    /// All, in their order, as records and commands write them.
    pub const ALL: [(Self, &'static str); 24] = [
        (Self::CreateServiceKey, "create_service_key"),
        (Self::CreateDisk, "create_disk"),
        (Self::Attach, "attach"),
        (Self::Detach, "detach"),
        (Self::Snapshot, "snapshot"),
        (Self::Rollback, "rollback"),
        (Self::Reinitialise, "reinitialise"),
        (Self::CloneDisk, "clone_disk"),
        (Self::DeleteDisk, "delete_disk"),
        (Self::DestroyKey, "destroy_key"),
        (Self::Rewrap, "rewrap"),
        (Self::Rotate, "rotate"),
        (Self::Enable, "enable"),
        (Self::Disable, "disable"),
        (Self::ScheduleDeletion, "schedule_deletion"),
        (Self::CancelDeletion, "cancel_deletion"),
        (Self::Backup, "backup"),
        (Self::Restore, "restore"),
        (Self::Unlock, "unlock"),
        (Self::RecoverLog, "recover_log"),
        (Self::CreateKey, "create_key"),
        (Self::Encrypt, "encrypt"),
        (Self::Decrypt, "decrypt"),
        (Self::GenerateDataKey, "generate_data_key"),
    ];

    /// As records and commands write it.
    pub fn word(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, word)| *word == text).map(|(operation, _)| operation);
        found.ok_or_else(|| {
            let words = Self::ALL.map(|(_, word)| word).join(", ");
            format!("there is no operation {text:?}; there are {words}")
        })
    }
}

impl From<Operation> for &'static str {
    fn from(operation: Operation) -> Self {
        operation.word()
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, or tried in vain; for this reason.
    Failed(String),
}

impl<E: fmt::Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|why| Self::Failed(why.to_string()), |()| Self::Done)
    }
}

/// Something that was done with a key, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Who asked for it.
    pub actor: Actor,
    /// What it was.
    pub operation: Operation,
    /// Whose key or disk it is.
    pub account: Option<String>,
    /// The disk.
    pub disk: Option<String>,
    /// The lineage whose key it is.
    pub lineage: Option<Uuid>,
    /// The CMK.
    pub key: Option<String>,
    /// The CMK's version.
    pub key_version: Option<u32>,
    /// What came of it.
    pub outcome: Outcome,
    /// The number under which the KMS keeps the call.
    pub request_id: Option<String>,
}

impl Event {
    /// An event without anything that it concerns.
    pub fn new(actor: Actor, operation: Operation, outcome: Outcome) -> Self {
        Self {
            actor,
            operation,
            account: None,
            disk: None,
            lineage: None,
            key: None,
            key_version: None,
            outcome,
            request_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_stand_where_their_words_are() {
        for (at, (operation, word)) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, at);
            assert_eq!(word.parse(), Ok(operation));
            assert_eq!(operation.to_string(), word);
        }
        assert!("Attach".parse::<Operation>().expect_err("no word").contains("attach, detach"));
    }
}
