//! What many operations ask first: the region, the zone, and whether a thing is there for the account that asks.
//!
//! What belongs to another account is not there: no answer tells whether it exists.

use crate::cloud::backend::{BackendError, KeyState};
use crate::cloud::ecs::disk::delete::being_snapshotted;
use crate::cloud::error::ApiError;
use crate::cloud::intent::Intent;
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskState, Instance, InstanceState, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, refuse_if_busy};
use crate::cloud::store::World;

/// Refuses another region than ours, if one is named.
pub fn check_region(cloud: &Cloud, params: &Params) -> Result<(), ApiError> {
    match params.text("RegionId") {
        Some(region) if region != cloud.region() => {
            Err(ApiError::new("InvalidRegionId.NotFound", 404, "The specified RegionId does not exist."))
        }
        _ => Ok(()),
    }
}

/// The zone of this name.
pub fn zone<'c>(cloud: &'c Cloud, name: &str) -> Result<&'c str, ApiError> {
    let zone = cloud.zone(name).map(|zone| zone.name.as_str());
    zone.ok_or_else(|| ApiError::new("InvalidZoneId.NotFound", 404, "The specified zone does not exist."))
}

/// A flag, or what counts without it.
pub fn flag_or(params: &Params, name: &str, otherwise: bool) -> Result<bool, ApiError> {
    Ok(params.flag(name)?.unwrap_or(otherwise))
}

/// The caller's disk that `DiskId` names.
pub fn disk<'w>(world: &'w World, call: &Call<'_>) -> Result<&'w Disk, ApiError> {
    let found = own_disk(world, call.account(), call.params.needed("DiskId")?);
    found.ok_or_else(|| ApiError::new("InvalidDiskId.NotFound", 404, "The specified disk does not exist."))
}

/// A disk, if the account has it.
pub fn own_disk<'w>(world: &'w World, account: &str, id: &str) -> Option<&'w Disk> {
    world.disks.get(id).filter(|disk| disk.account == account && disk.state != DiskState::Deleting)
}

/// The caller's instance that `InstanceId` names.
pub fn instance<'w>(world: &'w World, call: &Call<'_>) -> Result<&'w Instance, ApiError> {
    let found = own_instance(world, call.account(), call.params.needed("InstanceId")?);
    found.ok_or_else(|| ApiError::new("InvalidInstanceId.NotFound", 404, "The specified InstanceId does not exist."))
}

/// An instance, if the account has it.
pub fn own_instance<'w>(world: &'w World, account: &str, id: &str) -> Option<&'w Instance> {
    world.instances.get(id).filter(|instance| instance.account == account && instance.state != InstanceState::Deleting)
}

/// The caller's snapshot that `SnapshotId` names.
pub fn snapshot<'w>(world: &'w World, call: &Call<'_>) -> Result<&'w Snapshot, ApiError> {
    let found = own_snapshot(world, call.account(), call.params.needed("SnapshotId")?);
    found.ok_or_else(|| ApiError::new("InvalidSnapshotId.NotFound", 404, "The specified SnapshotId does not exist."))
}

/// A snapshot, if the account has it.
pub fn own_snapshot<'w>(world: &'w World, account: &str, id: &str) -> Option<&'w Snapshot> {
    world.snapshots.get(id).filter(|snapshot| snapshot.account == account && snapshot.state != SnapshotState::Deleting)
}

/// Refuses parameters that are there and empty, where the documentation has a code of its own for them.
pub fn refuse_empty(params: &Params, names: &[&str]) -> Result<(), ApiError> {
    if names.iter().any(|name| params.get(name) == Some("")) {
        let what = "The input parameter is mandatory for processing this request is empty.";
        return Err(ApiError::new("InvalidParameter", 400, what));
    }
    Ok(())
}

/// The error for a disk in a state in which this cannot be done to it.
pub fn disk_status() -> ApiError {
    ApiError::new("IncorrectDiskStatus", 403, "The current disk status does not support this operation.")
}

/// The error for an instance in a state in which this cannot be done to it; AttachDisk has another status.
pub fn instance_status() -> ApiError {
    let what = "The current status of the resource does not support this operation.";
    ApiError::new("IncorrectInstanceStatus", 403, what)
}

/// Refuses if something is being done to a disk: a snapshot, what its state or that of an instance shows, or anything else.
pub fn refuse_if_disk_busy(world: &World, disk: &Disk) -> Result<(), ApiError> {
    let instances = || disk.attachments.iter().filter_map(|at| world.instances.get(&at.instance));
    let conflict = || match () {
        () if disk.state != disk.resting_state() => disk_status(),
        () if instances().any(|instance| !rests(instance)) => instance_status(),
        () => ApiError::new("Operation.Conflict", 403, "The operation may conflicts with others."),
    };
    refuse_if_busy(world, &[&disk.id], |intent| being_snapshotted(intent).unwrap_or_else(conflict))
}

/// Whether an instance is neither on its way up nor on its way down.
pub fn rests(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Running | InstanceState::Stopped)
}

/// Refuses if something is being done to an instance beside which its disks cannot come and go. That others of its disks come and go is nothing of the
/// kind: a client that attaches several at once need not wait for one after the other.
pub fn refuse_if_instance_busy(
    world: &World,
    instance: &Instance,
    busy: impl FnOnce() -> ApiError,
) -> Result<(), ApiError> {
    let of_disks = |intent: &Intent| {
        matches!(intent, Intent::Attach(_) | Intent::Detach(_) | Intent::ResetDisk(_) | Intent::ReInitDisk(_))
    };
    let others = world.intents.rows().map(|open| &open.intent).filter(|intent| !of_disks(intent));
    let touched = others.flat_map(|intent| intent.work().touches()).any(|id| id == instance.id);
    if touched { Err(busy()) } else { Ok(()) }
}

/// The account's master key of this identifier or ARN, if it is enabled.
pub fn usable_key(cloud: &Cloud, account: &str, named: &str) -> Result<String, ApiError> {
    let id = named.strip_prefix(&format!("acs:kms:{}:{account}:key/", cloud.region())).unwrap_or(named);
    let keys = cloud.backend().keys(account)?;
    match keys.iter().find(|key| key.id == id) {
        Some(key) if key.state == KeyState::Enabled => Ok(key.id.clone()),
        Some(key) => Err(BackendError::KeyState { id: key.id.clone(), state: key.state }.into()),
        None => Err(BackendError::NoKey(named.to_owned()).into()),
    }
}

/// Whether the master key of the caller's disk may be used. It is asked before the store is locked, and what it says counts once every other rule has
/// let the disk pass.
pub fn disk_key(cloud: &Cloud, call: &Call<'_>) -> Result<(), ApiError> {
    let disk = call.params.text("DiskId").unwrap_or_default();
    let key = cloud.store().read(|world| own_disk(world, call.account(), disk).and_then(|disk| disk.key_id.clone()));
    key.map_or(Ok(()), |key| usable_key(cloud, call.account(), &key).map(drop))
}
