//! An image: snapshots from which the disks of an instance are made.

use serde::{Deserialize, Serialize};

use super::{DiskKind, Seconds, Tag};

/// A disk of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDevice {
    /// What the instance will call it.
    pub device: String,
    /// What it is for.
    pub kind: DiskKind,
    /// Its content.
    pub snapshot: String,
    /// Its size in GiB.
    pub size_gib: u64,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// What its user calls it.
    pub name: String,
    /// What its user says of it; may be empty.
    pub description: String,
    /// Its version, as its user has it; may be empty.
    pub version: String,
    /// `i386` or `x86_64`.
    pub architecture: String,
    /// The operating system, as its user has it.
    pub platform: String,
    /// Its disks; the first is the system's.
    pub devices: Vec<ImageDevice>,
    /// The accounts that may use it too.
    pub shared_with: Vec<String>,
    /// Whether its snapshots are made.
    pub is_available: bool,
    /// When it was made.
    pub created_at: Seconds,
    /// Its tags.
    pub tags: Vec<Tag>,
}
