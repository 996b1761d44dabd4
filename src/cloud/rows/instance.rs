//! An instance: a consumer of disks, known to the target as a host.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Seconds, Tag};
use crate::secrets::SecretRef;

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It is being made.
    Pending,
    /// It is getting its disks.
    Starting,
    /// Its host sees its disks.
    Running,
    /// Its disks are being taken from it.
    Stopping,
    /// Its host sees nothing, and the keys of disks that nobody else has are not in memory.
    Stopped,
    /// It is being deleted. Nobody sees it any more.
    Deleting,
}

impl InstanceState {
    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::Deleting => "Deleting",
        }
    }
}

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its identifier, and the name of its host.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// Where it is: its disks are there too.
    pub zone: String,
    /// What its user calls it.
    pub name: String,
    /// What its user says of it; may be empty.
    pub description: String,
    /// Its type, as its user has named it.
    pub instance_type: String,
    /// The image that it was made from.
    pub image: String,
    /// How it stands.
    pub state: InstanceState,
    /// The NVMe Qualified Name that its host connects with.
    pub nqn: String,
    /// The host identifier that it connects with.
    pub host_id: Uuid,
    /// Where the secret lies by which the host has to authenticate, if it has to.
    pub dhchap_secret: Option<SecretRef>,
    /// Whether it has ever been started.
    pub was_started: bool,
    /// When it was made.
    pub created_at: Seconds,
    /// When it was started last.
    pub started_at: Option<Seconds>,
    /// Its tags.
    pub tags: Vec<Tag>,
}
