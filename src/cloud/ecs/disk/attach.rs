//! AttachDisk: an instance gets a disk. While the instance runs, its host sees the disk as a namespace, and its key is in memory.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{disk, disk_key, flag_or, instance, refuse_empty, refuse_if_instance_busy, rests};
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Attachment, Disk, DiskKind, DiskState, Instance, InstanceState};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;

/// A disk goes to an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// The disk.
    pub disk: String,
    /// The instance.
    pub instance: String,
    /// What the instance calls it.
    pub device: String,
    /// Whether it will go with the instance.
    pub delete_with_instance: bool,
}

impl Work for Attach {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone(), self.instance.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        match is_running(cloud, &self.instance) {
            true => cloud.backend().attach(&self.disk, &self.instance, by)?,
            false => cloud.backend().check_attachable(&self.disk)?,
        }
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, now: u64, _findings: &Findings) {
        let Some(disk) = world.disks.get_mut(&self.disk) else { return };
        disk.attachments.push(Attachment { instance: self.instance.clone(), device: self.device.clone(), at: now });
        disk.state = DiskState::InUse;
        disk.attached_at = Some(now);
        disk.delete_with_instance = self.delete_with_instance;
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        cloud.backend().detach(&self.disk, &self.instance, by)
    }

    fn forget(&self, world: &mut World) {
        if let Some(disk) = world.disks.get_mut(&self.disk) {
            disk.state = disk.resting_state();
        }
    }
}

/// Whether an instance's host sees its disks.
pub fn is_running(cloud: &Cloud, instance: &str) -> bool {
    let state = cloud.store().read(|world| world.instances.get(instance).map(|instance| instance.state));
    state == Some(InstanceState::Running)
}

/// The operation.
pub fn attach_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    refuse_empty(call.params, &["InstanceId", "DiskId"])?;
    let delete_with_instance = flag_or(call.params, "DeleteWithInstance", false)?;
    let asked = asked_device(call.params)?;
    // A running instance gets the key while this acts; one that is stopped gets it later, and is told now that it would not.
    let is_running = is_running(cloud, call.params.text("InstanceId").unwrap_or_default());
    let key = if is_running { Ok(()) } else { disk_key(cloud, call) };
    cloud.perform(call, |world| {
        let (disk, instance) = (disk(world, call)?, instance(world, call)?);
        check_attachable(cloud, world, disk, instance)?;
        if disk.shared && delete_with_instance {
            return Err(shared_goes_with_nobody());
        }
        let device = match asked {
            Some(asked) if devices_of(world, &instance.id).contains(&asked) => {
                return Err(ApiError::new("InvalidDevice.InUse", 403, "The specified device has been occupied."));
            }
            Some(asked) => asked.to_owned(),
            None => free_device(world, &instance.id).ok_or_else(too_many_disks)?,
        };
        key?;
        let work = Attach { disk: disk.id.clone(), instance: instance.id.clone(), device, delete_with_instance };
        world.disks.get_mut(&work.disk).expect("it was just found").state = DiskState::Attaching;
        Ok(Plan { intent: Intent::Attach(work), answer: json!({}) })
    })
}

fn check_attachable(cloud: &Cloud, world: &World, disk: &Disk, instance: &Instance) -> Result<(), ApiError> {
    let disk_status = || ApiError::new("IncorrectDiskStatus", 403, "The operation is not supported in this status.");
    let instance_status = || {
        let what = "The current status of the resource does not support this operation.";
        ApiError::new("IncorrectInstanceStatus", 400, what)
    };
    if disk.kind == DiskKind::System {
        return Err(ApiError::new("DiskNotPortable", 403, "The specified disk is not a portable disk."));
    }
    refuse_if_busy(world, &[&disk.id], |_| disk_status())?;
    if disk.is_attached_to(&instance.id) || disk.state == DiskState::InUse && !disk.shared {
        return Err(ApiError::new("InvalidDisk.InUse", 404, "The specified disk has been occupied."));
    }
    if !matches!(disk.state, DiskState::Available | DiskState::InUse) {
        return Err(disk_status());
    }
    if !rests(instance) {
        return Err(instance_status());
    }
    refuse_if_instance_busy(world, instance, instance_status)?;
    if disk.zone != instance.zone {
        let what = "The specified instance and disk are not in the same zone.";
        return Err(ApiError::new("ResourcesNotInSameZone", 403, what));
    }
    if disk.attachments.len() >= cloud.config().limits.shared_attachments {
        let what = "The attaching times of the specified disk exceeded.";
        return Err(ApiError::new("DiskAttachedNumberExceeded", 403, what));
    }
    let data_disks = disks_of(world, &instance.id).filter(|disk| disk.kind == DiskKind::Data);
    if data_disks.count() + coming(world, &instance.id).count() >= cloud.config().limits.disks_per_instance {
        return Err(too_many_disks());
    }
    Ok(())
}

/// The error for a shared disk that is to go with one of its instances.
pub fn shared_goes_with_nobody() -> ApiError {
    let what = "Multi attach disk cannot be set to DeleteWithInstance attribute.";
    ApiError::new("DeleteWithInstance.Conflict", 403, what)
}

/// `Device`, if it is there: `/dev/xvdb` to `/dev/xvdz`, or `/dev/vdb` to `/dev/vdz`.
fn asked_device(params: &Params) -> Result<Option<&str>, ApiError> {
    let Some(asked) = params.text("Device") else { return Ok(None) };
    let letter = asked.strip_prefix("/dev/xvd").or_else(|| asked.strip_prefix("/dev/vd"));
    match letter.map(str::as_bytes) {
        Some([b'b'..=b'z']) => Ok(Some(asked)),
        _ => Err(ApiError::new("InvalidDevice.Malformed", 400, "The specified device is not valid.")),
    }
}

fn too_many_disks() -> ApiError {
    let what = "The amount of the disk on instance in question reach its limits.";
    ApiError::new("InstanceDiskLimitExceeded", 403, what)
}

/// The disks that an instance has.
pub fn disks_of<'w>(world: &'w World, instance: &'w str) -> impl Iterator<Item = &'w Disk> {
    world.disks.rows().filter(move |disk| disk.is_attached_to(instance))
}

/// Disks that are on their way to an instance.
fn coming<'w>(world: &'w World, instance: &'w str) -> impl Iterator<Item = &'w Attach> {
    world.intents.rows().filter_map(move |open| match &open.intent {
        Intent::Attach(attach) if attach.instance == instance => Some(attach),
        _ => None,
    })
}

/// What an instance calls its disks, and those that are on their way to it.
fn devices_of<'w>(world: &'w World, instance: &'w str) -> Vec<&'w str> {
    let attachments = world.disks.rows().flat_map(|disk| &disk.attachments);
    let there = attachments.filter(|at| at.instance == instance).map(|at| at.device.as_str());
    there.chain(coming(world, instance).map(|attach| attach.device.as_str())).collect()
}

/// A name that no disk of the instance has: `/dev/xvdb` to `/dev/xvdz`.
pub fn free_device(world: &World, instance: &str) -> Option<String> {
    let taken = devices_of(world, instance);
    ('b'..='z').map(|letter| format!("/dev/xvd{letter}")).find(|device| !taken.contains(&device.as_str()))
}
