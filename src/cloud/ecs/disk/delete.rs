//! DeleteDisk: a disk that no instance has goes, and its automatic snapshots if it says so. Its other snapshots stay.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{disk_status, own_disk};
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{DiskKind, DiskState, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;

/// A disk is deleted, and snapshots with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteDisk {
    /// The disk.
    pub disk: String,
    /// Its snapshots that go too.
    pub snapshots: Vec<String>,
}

impl Work for DeleteDisk {
    fn touches(&self) -> Vec<String> {
        std::iter::once(&self.disk).chain(&self.snapshots).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        // Before anything is gone.
        cloud.backend().check_deletable(&self.disk)?;
        delete_snapshots(cloud, &self.snapshots, by)?;
        cloud.backend().delete_disk(&self.disk, by)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        world.disks.remove(&self.disk);
        self.snapshots.iter().for_each(|id| drop(world.snapshots.remove(id)));
    }

    fn forget(&self, world: &mut World) {
        if let Some(disk) = world.disks.get_mut(&self.disk) {
            disk.state = disk.resting_state();
        }
        // Those that are gone are asked for again when the deletion is.
        for id in &self.snapshots {
            if let Some(snapshot) = world.snapshots.get_mut(id) {
                snapshot.state = SnapshotState::Accomplished;
            }
        }
    }
}

/// Has the target delete the snapshots of these rows.
pub fn delete_snapshots(cloud: &Cloud, ids: &[String], by: &Caller) -> Result<(), BackendError> {
    for id in ids {
        let row = cloud.store().read(|world| world.snapshots.get(id).cloned());
        let Some(row) = row else { continue };
        cloud.backend().delete_snapshot(cloud.pool_of(&row.zone)?, &row.pool_name(), by)?;
    }
    Ok(())
}

/// The automatic snapshots that go with a disk: all but those that somebody has made an image of, and those that a disk is just being
/// made of.
pub fn snapshots_that_go_along(world: &World, disk: &str) -> Vec<String> {
    let in_image = |snapshot: &Snapshot| {
        world.images.rows().any(|image| image.devices.iter().any(|device| device.snapshot == snapshot.id))
    };
    let mine = world.snapshots.rows().filter(|snapshot| snapshot.disk == disk && snapshot.is_automatic());
    let done = mine.filter(|snapshot| snapshot.state == SnapshotState::Accomplished);
    let is_needed = |snapshot: &Snapshot| {
        let mut from = world.disks.rows().filter(|disk| disk.source_snapshot.as_ref() == Some(&snapshot.id));
        from.any(|disk| matches!(disk.state, DiskState::Creating | DiskState::ReIniting))
    };
    let free = done.filter(|snapshot| !in_image(snapshot) && !is_needed(snapshot));
    free.map(|snapshot| snapshot.id.clone()).collect()
}

/// Marks a disk and the snapshots that go with it as being deleted.
pub fn mark(world: &mut World, disk: &str) -> DeleteDisk {
    let snapshots = match world.disks.get(disk) {
        Some(row) if row.delete_auto_snapshot => snapshots_that_go_along(world, disk),
        _ => Vec::new(),
    };
    if let Some(row) = world.disks.get_mut(disk) {
        row.state = DiskState::Deleting;
    }
    for id in &snapshots {
        if let Some(row) = world.snapshots.get_mut(id) {
            row.state = SnapshotState::Deleting;
        }
    }
    DeleteDisk { disk: disk.to_owned(), snapshots }
}

/// The operation. A disk that is not there is deleted already.
pub fn delete_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let id = call.params.needed("DiskId")?;
    if cloud.store().read(|world| own_disk(world, call.account(), id).is_none()) {
        return Ok(json!({}));
    }
    cloud.perform(call, |world| {
        let disk = own_disk(world, call.account(), id).ok_or_else(disk_status)?;
        if disk.kind == DiskKind::System {
            let what = "The specified disk is a system disk and cannot support the operation.";
            return Err(ApiError::new("DiskTypeViolation", 403, what));
        }
        refuse_if_busy(world, &[id], |intent| being_snapshotted(intent).unwrap_or_else(disk_status))?;
        match disk.state {
            DiskState::Available => {}
            DiskState::InUse => {
                return Err(ApiError::new("DiskStillAttached", 403, "The disk is still attached to the disk."));
            }
            _ => return Err(disk_status()),
        }
        let snapshots = mark(world, id);
        Ok(Plan { intent: Intent::DeleteDisk(snapshots), answer: json!({}) })
    })
}

/// The error for a disk of which a snapshot is being made.
pub fn being_snapshotted(intent: &Intent) -> Option<ApiError> {
    let what = "The operation is denied due to a snapshot of the specified disk is not completed yet.";
    intent.makes_snapshots().then(|| ApiError::new("DiskCreatingSnapshot", 403, what))
}
