//! What the cloud knows of each thing, as it lies in the store. Rows are JSON: a newer program adds fields with defaults, and takes none away.

mod account;
mod disk;
mod image;
mod instance;
mod key;
mod policy;
mod snapshot;
mod token;

use serde::{Deserialize, Serialize};

pub use account::{AccessKey, Account};
pub use disk::{Attachment, Disk, DiskKind, DiskState};
pub use image::{Image, ImageDevice};
pub use instance::{Instance, InstanceState};
pub use key::{Alias, KeyNote};
pub use policy::Policy;
pub use snapshot::{Snapshot, SnapshotState};
pub use token::Token;

/// Seconds since 1970.
pub type Seconds = u64;

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value, which may be empty.
    pub value: String,
}
