//! DeleteImage: an image goes; the snapshots that it was made of stay.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::{check_region, flag_or};
use crate::cloud::ecs::image::blank::BLANK;
use crate::cloud::error::ApiError;
use crate::cloud::rows::InstanceState;
use crate::cloud::service::{Call, Cloud, refuse_if_busy};

/// The operation. An image that is not there is deleted already.
pub fn delete_image(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let id = call.params.needed("ImageId")?;
    let force = flag_or(call.params, "Force", false)?;
    if id == BLANK {
        let what = format!("User not authorized to operate on the specified resource: image {BLANK} is the system's.");
        return Err(ApiError::new("Forbidden", 403, what));
    }
    cloud.change(call, |world| {
        let Some(image) = world.images.get(id).filter(|image| image.account == call.account()) else {
            return Ok(json!({}));
        };
        if !image.is_available {
            return Err(ApiError::new("ImageIsCreating", 403, "The specified image is being created."));
        }
        refuse_if_busy(world, &[id], |_| {
            let what = "The operation may conflicts with others, please retry later.";
            ApiError::new("Operation.Conflict", 403, what)
        })?;
        let mut instances = world.instances.rows().filter(|instance| instance.state != InstanceState::Deleting);
        if !force && instances.any(|instance| instance.image == id) {
            let what = "The specified image has been used to create instances.";
            return Err(ApiError::new("ImageUsingByInstance", 403, what));
        }
        if !image.shared_with.is_empty() {
            let what = "The specified image has been shared to others. Take it back by RemoveAccount.n first.";
            return Err(ApiError::new("ImageUseShared", 403, what));
        }
        world.images.remove(id);
        Ok(json!({}))
    })
}
