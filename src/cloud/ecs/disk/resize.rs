//! ResizeDisk: a data disk becomes larger, and faster if its category says so. It never becomes smaller: what a file system has at its end would be lost.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::category::Category;
use crate::cloud::ecs::ask::{disk, disk_key, disk_status, instance_status, refuse_if_disk_busy, rests};
use crate::cloud::ecs::disk::create::GIB;
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{Disk, DiskKind, DiskState, Instance, InstanceState};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;

/// A disk becomes larger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResizeDisk {
    /// The disk.
    pub disk: String,
    /// Its new size in GiB.
    pub gib: u64,
}

impl Work for ResizeDisk {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone()]
    }

    fn act(&self, cloud: &Cloud, _by: &Caller) -> Result<Findings, BackendError> {
        let row = row(cloud, &self.disk)?;
        cloud.backend().resize(&self.disk, self.gib * GIB, row.category.speed(self.gib, row.shared))?;
        Ok(Findings::new())
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        if let Some(disk) = world.disks.get_mut(&self.disk) {
            disk.size_gib = self.gib;
        }
    }

    fn forget(&self, _world: &mut World) {}
}

fn row(cloud: &Cloud, disk: &str) -> Result<Disk, BackendError> {
    let row = cloud.store().read(|world| world.disks.get(disk).cloned());
    row.ok_or_else(|| BackendError::NotFound(format!("there is no disk {disk}")))
}

/// Gives a disk the size of its row again: the snapshot that it has its content from may be smaller.
pub fn restore_size(cloud: &Cloud, disk: &str) -> Result<(), BackendError> {
    let row = row(cloud, disk)?;
    cloud.backend().resize(disk, row.size_gib * GIB, row.category.speed(row.size_gib, row.shared))
}

/// When the new size is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Once the instance is started again.
    Offline,
    /// At once.
    Online,
}

/// The operation.
pub fn resize_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    call.params.needed("DiskId")?;
    let gib = call.params.number::<u64>("NewSize")?.ok_or_else(|| ApiError::missing("NewSize"))?;
    let when = match call.params.text("Type") {
        None | Some("offline") => When::Offline,
        Some("online") => When::Online,
        Some(_) => return Err(ApiError::new("InvalidParam.Type", 400, "The specified type is not supported.")),
    };
    let key = disk_key(cloud, call);
    cloud.perform(call, |world| {
        let disk = disk(world, call)?;
        if disk.kind == DiskKind::System {
            return Err(ApiError::new("OperationDenied", 403, "The type of the disk does not support the operation."));
        }
        refuse_if_disk_busy(world, disk)?;
        match when {
            When::Offline => check_offline(world, disk)?,
            When::Online => check_online(world, disk)?,
        }
        if gib <= disk.size_gib {
            let what = "Specified new disk size is less than the original disk size.";
            return Err(ApiError::new("InvalidDiskSize.TooSmall", 403, what));
        }
        if gib > *disk.category.sizes().end() {
            let what = "Specified new disk size is beyond the permitted range.";
            return Err(ApiError::new("InvalidDiskSize.TooLarge", 403, what));
        }
        key?;
        Ok(Plan { intent: Intent::ResizeDisk(ResizeDisk { disk: disk.id.clone(), gib }), answer: json!({}) })
    })
}

/// The instances that have a disk.
fn instances<'w>(world: &'w World, disk: &'w Disk) -> impl Iterator<Item = &'w Instance> {
    disk.attachments.iter().filter_map(|at| world.instances.get(&at.instance))
}

fn check_offline(world: &World, disk: &Disk) -> Result<(), ApiError> {
    if !matches!(disk.state, DiskState::Available | DiskState::InUse) {
        return Err(disk_status());
    }
    if instances(world, disk).all(rests) { Ok(()) } else { Err(instance_status()) }
}

fn check_online(world: &World, disk: &Disk) -> Result<(), ApiError> {
    if disk.shared {
        let what = "Multi attach disk does not support resize online.";
        return Err(ApiError::new("InvalidOperation.MultiAttachDiskNotSupportResizeOnline", 403, what));
    }
    if disk.category == Category::Cloud {
        let what = "The specified disk category does not support resize online.";
        return Err(ApiError::new("InvalidDiskCategory.NotSupported", 403, what));
    }
    if disk.state != DiskState::InUse {
        return Err(disk_status());
    }
    if instances(world, disk).any(|instance| instance.state != InstanceState::Running) {
        let what = "The status of instance to which the disk attachs must be running when resizing online.";
        return Err(ApiError::new("InvalidInstanceStatus.NotRunning", 403, what));
    }
    Ok(())
}
