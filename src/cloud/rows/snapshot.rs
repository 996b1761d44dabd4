//! A snapshot as its user sees it.

use serde::{Deserialize, Serialize};

use super::{DiskKind, Seconds, Tag};
use crate::cloud::category::Category;

/// How a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// It is being made.
    Progressing,
    /// It can be used.
    Accomplished,
    /// It is being deleted. Nobody sees it any more.
    Deleting,
}

impl SnapshotState {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Accomplished => "accomplished",
            Self::Deleting => "deleting",
        }
    }
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// The zone of its disk, whose pool it lies in.
    pub zone: String,
    /// The disk that it was made of, which may be gone.
    pub disk: String,
    /// What the disk was for.
    pub disk_kind: DiskKind,
    /// The disk's category.
    pub category: Category,
    /// The disk's size at that time, in GiB.
    pub size_gib: u64,
    /// What its user calls it; may be empty.
    pub name: String,
    /// What its user says of it; may be empty.
    pub description: String,
    /// Whether it is encrypted: as its disk.
    pub encrypted: bool,
    /// The master key that wraps its disk's key.
    pub key_id: Option<String>,
    /// The policy that had it made; none if its user did.
    pub policy: Option<String>,
    /// When it is deleted by itself.
    pub expires_at: Option<Seconds>,
    /// The days that its user or policy wanted it to be kept.
    pub retention_days: Option<u32>,
    /// How it stands.
    pub state: SnapshotState,
    /// When it was made.
    pub created_at: Seconds,
    /// Its tags.
    pub tags: Vec<Tag>,
}

impl Snapshot {
    /// Its name in the pool.
    pub fn pool_name(&self) -> String {
        format!("{}@{}", self.disk, self.id)
    }

    /// Whether a policy had it made.
    pub fn is_automatic(&self) -> bool {
        self.policy.is_some()
    }
}
