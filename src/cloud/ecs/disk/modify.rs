//! ModifyDiskAttribute: what users say of their disks. Whether a disk is encrypted, and by which key, is not among it.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::own_disk;
use crate::cloud::ecs::disk::attach::shared_goes_with_nobody;
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskKind};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::text;

/// Disks in one request.
const MOST_DISKS: usize = 100;

/// What becomes of a disk; what is not there stays.
struct Attributes {
    name: Option<String>,
    description: Option<String>,
    delete_with_instance: Option<bool>,
    delete_auto_snapshot: Option<bool>,
    enable_auto_snapshot: Option<bool>,
}

impl Attributes {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let malformed = "The specified disk name is wrongly formed.";
        let name = text::name(params, "DiskName", "InvalidDiskName.Malformed", malformed)?;
        let attributes = Self {
            name: params.text("DiskName").map(|_| name),
            // This operation alone has 404 for it.
            description: params
                .text("Description")
                .map(|_| text::description(params, "Description", 404))
                .transpose()?,
            delete_with_instance: params.flag("DeleteWithInstance")?,
            delete_auto_snapshot: params.flag("DeleteAutoSnapshot")?,
            enable_auto_snapshot: params.flag("EnableAutoSnapshot")?,
        };
        let Self { name, description, delete_with_instance, delete_auto_snapshot, enable_auto_snapshot } = &attributes;
        let flags = [delete_with_instance, delete_auto_snapshot, enable_auto_snapshot];
        if name.is_none() && description.is_none() && flags.iter().all(|flag| flag.is_none()) {
            let what = "No attribute to be modified in this request.";
            return Err(ApiError::new("NoAttributeToModify", 400, what));
        }
        Ok(attributes)
    }

    fn check(&self, disk: &Disk) -> Result<(), ApiError> {
        match self.delete_with_instance {
            Some(true) if disk.shared => Err(shared_goes_with_nobody()),
            // A system disk always goes with its instance.
            Some(false) if disk.kind == DiskKind::System => {
                Err(ApiError::new("DiskNotPortable", 403, "The specified disk is not a portable disk."))
            }
            _ => Ok(()),
        }
    }

    fn set(&self, disk: &mut Disk) {
        if let Some(name) = &self.name {
            disk.name.clone_from(name);
        }
        if let Some(description) = &self.description {
            disk.description.clone_from(description);
        }
        disk.delete_with_instance = self.delete_with_instance.unwrap_or(disk.delete_with_instance);
        disk.delete_auto_snapshot = self.delete_auto_snapshot.unwrap_or(disk.delete_auto_snapshot);
        disk.enable_auto_snapshot = self.enable_auto_snapshot.unwrap_or(disk.enable_auto_snapshot);
    }
}

/// The operation: on all disks that are named, or on none.
pub fn modify_disk_attribute(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let ids = ids(call.params)?;
    let attributes = Attributes::read(call.params)?;
    cloud.change(call, |world| {
        for id in &ids {
            let disk = own_disk(world, call.account(), id);
            let not_found = || ApiError::new("InvalidDiskId.NotFound", 404, "The specified disk does not exist.");
            attributes.check(disk.ok_or_else(not_found)?)?;
        }
        for id in &ids {
            attributes.set(world.disks.get_mut(id).expect("it was just found"));
        }
        Ok(json!({}))
    })
}

/// `DiskId`, or `DiskIds.N`.
fn ids(params: &Params) -> Result<Vec<&str>, ApiError> {
    let many = params.list("DiskIds");
    match params.text("DiskId") {
        Some(_) if !many.is_empty() => {
            let what = "The parameters DiskId and DiskIds.N exclude each other.";
            Err(ApiError::new("InvalidParameter.Conflict", 400, what))
        }
        Some(id) => Ok(vec![id]),
        None if many.is_empty() => Err(ApiError::missing("DiskId")),
        None if many.len() > MOST_DISKS => Err(ApiError::invalid("DiskIds")),
        None => Ok(many),
    }
}
