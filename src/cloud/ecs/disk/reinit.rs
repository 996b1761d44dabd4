//! ReInitDisk: a disk gets the content back that it was made with: nothing, or that of its snapshot or image.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{disk, disk_status, flag_or, instance_status, refuse_if_disk_busy};
use crate::cloud::ecs::disk::resize::restore_size;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Attachment, Disk, DiskState, InstanceState, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;

/// A disk gets its first content back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReInitDisk {
    /// The disk.
    pub disk: String,
    /// The instance that has it: it stays stopped meanwhile.
    pub instance: String,
}

impl Work for ReInitDisk {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone(), self.instance.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        cloud.backend().reinitialise(&self.disk, by)?;
        restore_size(cloud, &self.disk)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        self.rest(world);
    }

    fn forget(&self, world: &mut World) {
        self.rest(world);
    }
}

impl ReInitDisk {
    fn rest(&self, world: &mut World) {
        if let Some(disk) = world.disks.get_mut(&self.disk) {
            disk.state = disk.resting_state();
        }
    }
}

/// The operation.
pub fn reinit_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    call.params.needed("DiskId")?;
    check_params(call.params)?;
    cloud.perform(call, |world| {
        let disk = disk(world, call)?;
        let at = check(world, disk)?;
        let work = ReInitDisk { disk: disk.id.clone(), instance: at.instance.clone() };
        world.disks.get_mut(&work.disk).expect("it was just found").state = DiskState::ReIniting;
        Ok(Plan { intent: Intent::ReInitDisk(work), answer: json!({}) })
    })
}

fn check_params(params: &Params) -> Result<(), ApiError> {
    if !matches!(params.text("SecurityEnhancementStrategy"), None | Some("Active" | "Deactive")) {
        return Err(ApiError::invalid("SecurityEnhancementStrategy"));
    }
    if flag_or(params, "AutoStartInstance", false)? {
        let what = "AutoStartInstance is not supported: call StartInstance afterwards.";
        return Err(ApiError::new("UnsupportedParameter", 400, what));
    }
    Ok(())
}

/// The attachment of a disk that may get its first content back.
fn check<'w>(world: &'w World, disk: &'w Disk) -> Result<&'w Attachment, ApiError> {
    if disk.shared {
        let what = "Multi attach disk does not support this operation.";
        return Err(ApiError::new("InvalidOperation.MultiAttachDisk", 403, what));
    }
    refuse_if_disk_busy(world, disk)?;
    if disk.state != DiskState::InUse {
        return Err(disk_status());
    }
    let at = disk.attachments.first().ok_or_else(disk_status)?;
    let instance = world.instances.get(&at.instance);
    if !instance.is_some_and(|instance| instance.state == InstanceState::Stopped && instance.was_started) {
        return Err(instance_status());
    }
    let is_there = |id: &String| world.snapshots.get(id).is_some_and(|row| row.state != SnapshotState::Deleting);
    if !disk.source_snapshot.as_ref().is_none_or(is_there) {
        let what = "The snapshot which is used to create the specified disk has been deleted.";
        return Err(ApiError::new("InvalidSourceSnapshot", 403, what));
    }
    Ok(at)
}
