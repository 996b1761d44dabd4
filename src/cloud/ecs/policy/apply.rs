//! ApplyAutoSnapshotPolicy and CancelAutoSnapshotPolicy: which disks snapshots are made of by themselves. A disk has one policy at most.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::own_disk;
use crate::cloud::ecs::policy::rules::{check_region, own_policy, with_large_letters};
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;

/// The operation.
pub fn apply_auto_snapshot_policy(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    check_region(cloud, &params)?;
    let policy = params.needed("AutoSnapshotPolicyId")?;
    let disks = disk_ids(&params)?;
    cloud.change(call, |world| {
        if own_policy(world, call.account(), policy).is_none() {
            let what = "The specified automatic snapshot policy does not exist.";
            return Err(ApiError::new("ParameterInvalid", 404, what));
        }
        set(world, call.account(), &disks, Some(policy))
    })
}

/// The operation.
pub fn cancel_auto_snapshot_policy(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    check_region(cloud, &params)?;
    let disks = disk_ids(&params)?;
    cloud.change(call, |world| set(world, call.account(), &disks, None))
}

fn disk_ids(params: &Params) -> Result<Vec<String>, ApiError> {
    params.needed("DiskIds")?;
    let ids = params.array("DiskIds").ok().flatten().filter(|ids| !ids.is_empty());
    ids.ok_or_else(|| ApiError::new("ParameterInvalid", 404, "The specified DiskIds are invalid."))
}

/// Gives all of these disks a policy, or none, if they are the account's.
fn set(world: &mut World, account: &str, disks: &[String], policy: Option<&str>) -> Result<Value, ApiError> {
    for id in disks {
        if own_disk(world, account, id).is_none() {
            let what = "The specified disk does not exist in the region.";
            return Err(ApiError::new("InvalidDiskId.NotFound", 404, what));
        }
        world.disks.get_mut(id).expect("it was just found").policy = policy.map(str::to_owned);
    }
    Ok(json!({}))
}
