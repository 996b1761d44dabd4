//! ModifySnapshotAttribute: another name or description of a snapshot.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::snapshot;
use crate::cloud::ecs::snapshot::create::name_of;
use crate::cloud::error::ApiError;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::text;

/// The operation.
pub fn modify_snapshot_attribute(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let name = name_of(call.params)?;
    let description = text::description(call.params, "Description", 404)?;
    cloud.change(call, |world| {
        let id = snapshot(world, call)?.id.clone();
        if name.is_empty() && description.is_empty() {
            return Err(ApiError::new("NoAttributeToModify", 400, "No attribute to be modified in this request."));
        }
        let row = world.snapshots.get_mut(&id).expect("it was just found");
        if !name.is_empty() {
            row.name = name;
        }
        if !description.is_empty() {
            row.description = description;
        }
        Ok(json!({}))
    })
}
