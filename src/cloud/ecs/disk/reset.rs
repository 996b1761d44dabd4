//! ResetDisk: a disk gets the content of one of its snapshots. What was written since is lost; the snapshots stay, and the key, which they share with it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{disk, disk_status, instance_status, refuse_if_disk_busy, snapshot};
use crate::cloud::ecs::disk::resize::restore_size;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{Disk, DiskState, InstanceState, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;

/// A disk gets the content of one of its snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResetDisk {
    /// The disk.
    pub disk: String,
    /// The snapshot, which has to stay meanwhile.
    pub snapshot: String,
    /// The instances that have the disk: they stay stopped meanwhile.
    pub instances: Vec<String>,
}

impl Work for ResetDisk {
    fn touches(&self) -> Vec<String> {
        [&self.disk, &self.snapshot].into_iter().chain(&self.instances).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        cloud.backend().rollback(&self.disk, &self.snapshot, by)?;
        restore_size(cloud, &self.disk)?;
        Ok(Findings::new())
    }

    fn finish(&self, _world: &mut World, _now: u64, _findings: &Findings) {}

    fn forget(&self, _world: &mut World) {}
}

/// The operation.
pub fn reset_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    call.params.needed("DiskId")?;
    call.params.needed("SnapshotId")?;
    cloud.perform(call, |world| {
        let (disk, snapshot) = (disk(world, call)?, snapshot(world, call)?);
        check(world, disk, snapshot)?;
        let instances = disk.attachments.iter().map(|at| at.instance.clone()).collect();
        let work = ResetDisk { disk: disk.id.clone(), snapshot: snapshot.id.clone(), instances };
        Ok(Plan { intent: Intent::ResetDisk(work), answer: json!({}) })
    })
}

fn check(world: &World, disk: &Disk, snapshot: &Snapshot) -> Result<(), ApiError> {
    // A snapshot of another disk has another key, or none: it would be noise under this one.
    if snapshot.disk != disk.id || snapshot.encrypted != disk.encrypted {
        let what = "The specified snapshot is not created from the specified disk.";
        return Err(ApiError::new("InvalidParameter.Mismatch", 403, what));
    }
    if snapshot.state != SnapshotState::Accomplished {
        let what = "The specified snapshot has not completed yet.";
        return Err(ApiError::new("InvalidSnapshotId.NotReady", 403, what));
    }
    // For a snapshot under way this operation has no code of its own.
    refuse_if_disk_busy(world, disk)
        .map_err(|error| if error.code == "DiskCreatingSnapshot" { disk_status() } else { error })?;
    if !matches!(disk.state, DiskState::Available | DiskState::InUse) {
        return Err(disk_status());
    }
    let state = |instance: &str| world.instances.get(instance).map(|instance| instance.state);
    if disk.attachments.iter().any(|at| state(&at.instance) != Some(InstanceState::Stopped)) {
        return Err(instance_status());
    }
    Ok(())
}
