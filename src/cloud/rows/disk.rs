//! A cloud disk: what its user sees of a volume.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Seconds, Tag};
use crate::cloud::category::Category;

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// The disk that its instance boots from. It comes and goes with the instance, and is never encrypted.
    System,
    /// Any other.
    Data,
}

impl DiskKind {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Data => "data",
        }
    }
}

/// How a disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// It is being made.
    Creating,
    /// No instance has it.
    Available,
    /// It is on its way to an instance.
    Attaching,
    /// At least one instance has it.
    InUse,
    /// It is being taken from an instance.
    Detaching,
    /// It is getting its first content back.
    ReIniting,
    /// It is being deleted. Nobody sees it any more.
    Deleting,
}

impl DiskState {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Available => "Available",
            Self::Attaching => "Attaching",
            Self::InUse => "In_use",
            Self::Detaching => "Detaching",
            Self::ReIniting => "ReIniting",
            Self::Deleting => "Deleting",
        }
    }
}

/// That an instance has a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The instance.
    pub instance: String,
    /// What the instance calls it, such as `/dev/xvdb`.
    pub device: String,
    /// Since when.
    pub at: Seconds,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its identifier, and the name of its volume.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// Where it is: its pool is that of the zone.
    pub zone: String,
    /// What its user calls it; may be empty.
    pub name: String,
    /// What its user says of it; may be empty.
    pub description: String,
    /// What it is for.
    pub kind: DiskKind,
    /// How fast and how large it may be.
    pub category: Category,
    /// Its size in GiB.
    pub size_gib: u64,
    /// Whether it is encrypted: decided when it is made, for ever.
    pub encrypted: bool,
    /// The master key that wraps its key; known once it is made.
    pub key_id: Option<String>,
    /// Whether several instances may have it at once.
    pub shared: bool,
    /// How it stands.
    pub state: DiskState,
    /// Who has it; more than one only if it is shared.
    pub attachments: Vec<Attachment>,
    /// The snapshot that it was made from.
    pub source_snapshot: Option<String>,
    /// The image that it was made from, for the system disk of an instance.
    pub image: Option<String>,
    /// Whether it goes with its instance.
    pub delete_with_instance: bool,
    /// Whether its automatic snapshots go with it.
    pub delete_auto_snapshot: bool,
    /// Whether automatic snapshots may be made of it.
    pub enable_auto_snapshot: bool,
    /// The policy by which they are made.
    pub policy: Option<String>,
    /// When it was made.
    pub created_at: Seconds,
    /// When an instance got it last.
    pub attached_at: Option<Seconds>,
    /// When an instance lost it last.
    pub detached_at: Option<Seconds>,
    /// Its tags.
    pub tags: Vec<Tag>,
    /// The namespace identifier that hosts know it by; known once it is made, and kept for life.
    #[serde(default)]
    pub nsid: Option<u32>,
    /// The identity that hosts know it by, if it is not the one that follows from its names: after hosts were switched.
    #[serde(default)]
    pub uuid: Option<Uuid>,
}

impl Disk {
    /// Whether an instance has it.
    pub fn is_attached_to(&self, instance: &str) -> bool {
        self.attachments.iter().any(|attachment| attachment.instance == instance)
    }

    /// How it stands while nothing happens to it.
    pub fn resting_state(&self) -> DiskState {
        if self.attachments.is_empty() { DiskState::Available } else { DiskState::InUse }
    }

    /// Whether an instance has ever had it.
    pub fn was_ever_attached(&self) -> bool {
        self.attached_at.is_some()
    }
}
