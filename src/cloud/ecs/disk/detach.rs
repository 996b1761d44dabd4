//! DetachDisk: an instance loses a disk. If no other has it, its key is wiped from memory before this answers.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{
    disk, disk_status, flag_or, instance, instance_status, refuse_empty, refuse_if_instance_busy, rests,
};
use crate::cloud::ecs::disk::attach::shared_goes_with_nobody;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{DiskKind, DiskState};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;

/// A disk is taken from an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detach {
    /// The disk.
    pub disk: String,
    /// The instance.
    pub instance: String,
}

impl Work for Detach {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone(), self.instance.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        cloud.backend().detach(&self.disk, &self.instance, by)?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, now: u64, _findings: &Findings) {
        let Some(disk) = world.disks.get_mut(&self.disk) else { return };
        disk.attachments.retain(|attachment| attachment.instance != self.instance);
        disk.state = disk.resting_state();
        disk.detached_at = Some(now);
        disk.delete_with_instance = false;
    }

    fn forget(&self, world: &mut World) {
        if let Some(disk) = world.disks.get_mut(&self.disk) {
            disk.state = disk.resting_state();
        }
    }
}

/// The operation.
pub fn detach_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    refuse_empty(call.params, &["InstanceId", "DiskId"])?;
    let delete_with_instance = flag_or(call.params, "DeleteWithInstance", false)?;
    cloud.perform(call, |world| {
        let (disk, instance) = (disk(world, call)?, instance(world, call)?);
        if disk.kind == DiskKind::System {
            let what = "The specified disk is a system disk and cannot support the operation.";
            return Err(ApiError::new("DiskTypeViolation", 403, what));
        }
        let busy = || if rests(instance) { disk_status() } else { instance_status() };
        refuse_if_busy(world, &[&disk.id], |_| busy())?;
        if !disk.is_attached_to(&instance.id) {
            let what = "The specified disk has not been attached on the specified instance.";
            return Err(ApiError::new("DependencyViolation", 403, what));
        }
        if disk.state != DiskState::InUse {
            return Err(disk_status());
        }
        if !rests(instance) {
            return Err(instance_status());
        }
        refuse_if_instance_busy(world, instance, instance_status)?;
        if disk.shared && delete_with_instance {
            return Err(shared_goes_with_nobody());
        }
        let work = Detach { disk: disk.id.clone(), instance: instance.id.clone() };
        world.disks.get_mut(&work.disk).expect("it was just found").state = DiskState::Detaching;
        Ok(Plan { intent: Intent::Detach(work), answer: json!({}) })
    })
}
