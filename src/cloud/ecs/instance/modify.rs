//! ModifyInstanceAttribute: what a user calls an instance, and says of it.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::instance;
use crate::cloud::error::ApiError;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::text;

/// The operation.
pub fn modify_instance_attribute(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let malformed = "The specified parameter \"InstanceName\" is not valid.";
    let name = text::name(call.params, "InstanceName", "InvalidInstanceName.Malformed", malformed)?;
    let description = text::description(call.params, "Description", 400)?;
    cloud.change(call, |world| {
        let id = instance(world, call)?.id.clone();
        let row = world.instances.get_mut(&id).expect("it was just found");
        // What is not given stays.
        for (field, text) in [(&mut row.name, name), (&mut row.description, description)] {
            if !text.is_empty() {
                *field = text;
            }
        }
        Ok(json!({}))
    })
}
