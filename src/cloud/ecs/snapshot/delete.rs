//! DeleteSnapshot: what a disk was is forgotten. Disks that were made from the snapshot have their content for themselves, and stay.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{flag_or, own_snapshot};
use crate::cloud::ecs::disk::delete::delete_snapshots;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{DiskState, Image, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;

/// A snapshot is deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteSnapshot {
    /// The snapshot.
    pub snapshot: String,
}

impl Work for DeleteSnapshot {
    fn touches(&self) -> Vec<String> {
        vec![self.snapshot.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        delete_snapshots(cloud, std::slice::from_ref(&self.snapshot), by)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        world.snapshots.remove(&self.snapshot);
    }

    fn forget(&self, world: &mut World) {
        if let Some(snapshot) = world.snapshots.get_mut(&self.snapshot) {
            snapshot.state = SnapshotState::Accomplished;
        }
    }
}

/// The operation. A snapshot that is not there is deleted already.
pub fn delete_snapshot(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let id = call.params.needed("SnapshotId")?;
    let force = flag_or(call.params, "Force", false)?;
    if cloud.store().read(|world| own_snapshot(world, call.account(), id).is_none()) {
        return Ok(json!({}));
    }
    cloud.perform(call, |world| {
        let snapshot = own_snapshot(world, call.account(), id).ok_or_else(conflict)?;
        check_free(world, snapshot)?;
        if !force && disks_from(world, id) {
            return Err(ApiError::new("SnapshotCreatedDisk", 403, "The snapshot has been used to create disk(s)."));
        }
        Ok(Plan { intent: plan(world, id), answer: json!({}) })
    })
}

/// Marks a snapshot as being deleted.
pub fn plan(world: &mut World, id: &str) -> Intent {
    if let Some(snapshot) = world.snapshots.get_mut(id) {
        snapshot.state = SnapshotState::Deleting;
    }
    Intent::DeleteSnapshot(DeleteSnapshot { snapshot: id.to_owned() })
}

/// Refuses a snapshot that somebody needs now: an image, a disk that is being made of it, or whatever else is under way.
pub fn check_free(world: &World, snapshot: &Snapshot) -> Result<(), ApiError> {
    if images_of(world, &snapshot.id).next().is_some() {
        let what = "The snapshot has been used to create user defined image(s).";
        return Err(ApiError::new("SnapshotCreatedImage", 403, what));
    }
    refuse_if_busy(world, &[&snapshot.id], |_| conflict())?;
    let mut disks = world.disks.rows().filter(|disk| disk.source_snapshot.as_ref() == Some(&snapshot.id));
    let needs_it = disks.any(|disk| matches!(disk.state, DiskState::Creating | DiskState::ReIniting));
    if needs_it || snapshot.state != SnapshotState::Accomplished {
        return Err(conflict());
    }
    Ok(())
}

fn conflict() -> ApiError {
    ApiError::new("Operation.Conflict", 403, "The operation may conflicts with others, please retry later.")
}

/// The images that a snapshot is in.
pub fn images_of<'w>(world: &'w World, snapshot: &'w str) -> impl Iterator<Item = &'w Image> {
    world.images.rows().filter(move |image| image.devices.iter().any(|device| device.snapshot == snapshot))
}

/// Whether there are disks that were made from a snapshot.
pub fn disks_from(world: &World, snapshot: &str) -> bool {
    let mut there = world.disks.rows().filter(|disk| disk.state != DiskState::Deleting);
    there.any(|disk| disk.source_snapshot.as_deref() == Some(snapshot))
}
