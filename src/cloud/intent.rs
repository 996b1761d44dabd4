//! What is being done: written down before it is begun, and taken out when it is finished or undone.
//!
//! Every operation that needs more than a change of rows goes the same way:
//!
//! 1. *plan*, one transaction: the rules are checked, rows get the state of being changed, and the intent is written down;
//! 2. *act*: the target does it. Each step may be repeated;
//! 3. *finish*, one transaction: rows as they are now, the intent gone. If acting failed: *undo* what was done, then *forget* in one transaction.
//!
//! After a crash, intents that are there go from 2 on again. An intent holds what it touches: nothing else may touch it meanwhile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::backend::{BackendError, Caller, Made};
use super::service::Cloud;
use super::store::World;

use crate::cloud::ecs::disk::attach::Attach;
use crate::cloud::ecs::disk::create::CreateDisk;
use crate::cloud::ecs::disk::delete::DeleteDisk;
use crate::cloud::ecs::disk::detach::Detach;
use crate::cloud::ecs::disk::reinit::ReInitDisk;
use crate::cloud::ecs::disk::reset::ResetDisk;
use crate::cloud::ecs::disk::resize::ResizeDisk;
use crate::cloud::ecs::disk::switch::Switch;
use crate::cloud::ecs::image::create::CreateImage;
use crate::cloud::ecs::image::export::ExportImage;
use crate::cloud::ecs::instance::create::CreateInstances;
use crate::cloud::ecs::instance::delete::DeleteInstance;
use crate::cloud::ecs::instance::power::{StartInstance, StopInstance};
use crate::cloud::ecs::snapshot::create::CreateSnapshot;
use crate::cloud::ecs::snapshot::delete::DeleteSnapshot;

/// An intent that is not finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Open {
    /// What.
    pub intent: Intent,
    /// Who wanted it.
    pub by: Caller,
    /// The client token that it was asked with, as the store keeps it.
    pub token: Option<String>,
    /// Acting failed: it is being undone.
    #[serde(default)]
    pub is_undone: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Intent {
    /// A disk is made.
    CreateDisk(CreateDisk),
    /// A disk is deleted.
    DeleteDisk(DeleteDisk),
    /// A disk goes to an instance.
    Attach(Attach),
    /// A disk is taken from an instance.
    Detach(Detach),
    /// Instances are made.
    CreateInstances(CreateInstances),
    /// An instance is started.
    StartInstance(StartInstance),
    /// An instance is stopped.
    StopInstance(StopInstance),
    /// An instance is deleted.
    DeleteInstance(DeleteInstance),
    /// A snapshot is made.
    CreateSnapshot(CreateSnapshot),
    /// A snapshot is deleted.
    DeleteSnapshot(DeleteSnapshot),
    /// An image is made of an instance.
    CreateImage(CreateImage),
    /// An image is written into files.
    ExportImage(ExportImage),
    /// A disk becomes larger.
    ResizeDisk(ResizeDisk),
    /// A disk gets the content of one of its snapshots.
    ResetDisk(ResetDisk),
    /// A disk gets its first content back.
    #[serde(rename = "reinit_disk")]
    ReInitDisk(ReInitDisk),
    /// Hosts are switched from a disk to its copy.
    Switch(Switch),
}

impl Intent {
    /// The work behind it.
    pub fn work(&self) -> &dyn Work {
        match self {
            Self::CreateDisk(work) => work,
            Self::DeleteDisk(work) => work,
            Self::Attach(work) => work,
            Self::Detach(work) => work,
            Self::CreateInstances(work) => work,
            Self::StartInstance(work) => work,
            Self::StopInstance(work) => work,
            Self::DeleteInstance(work) => work,
            Self::CreateSnapshot(work) => work,
            Self::DeleteSnapshot(work) => work,
            Self::CreateImage(work) => work,
            Self::ExportImage(work) => work,
            Self::ResizeDisk(work) => work,
            Self::ResetDisk(work) => work,
            Self::ReInitDisk(work) => work,
            Self::Switch(work) => work,
        }
    }

    /// Whether it makes snapshots of what it touches.
    pub fn makes_snapshots(&self) -> bool {
        matches!(self, Self::CreateSnapshot(_) | Self::CreateImage(_))
    }
}

/// What acting has brought to light: of each disk that was made, what the target has decided.
pub type Findings = BTreeMap<String, Made>;

/// How an intent is carried out.
pub trait Work {
    /// The identifiers that nothing else may touch meanwhile.
    fn touches(&self) -> Vec<String>;

    /// Has the target do it. Parts of it may have been done before.
    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError>;

    /// Makes the rows what they are after it.
    fn finish(&self, world: &mut World, now: u64, findings: &Findings);

    /// Has the target take back what acting has done before it failed. Parts of it may have been taken back before.
    fn undo(&self, _cloud: &Cloud, _by: &Caller) -> Result<(), BackendError> {
        Ok(())
    }

    /// Makes the rows what they were before it.
    fn forget(&self, world: &mut World);
}
