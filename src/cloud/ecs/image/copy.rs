//! CopyImage: to another region, of which there is none here. What is encrypted could not go there anyway.

use serde_json::Value;

use crate::cloud::ecs::ask::check_region;
use crate::cloud::ecs::image::owner::{Owner, is_encrypted, visible_image};
use crate::cloud::error::ApiError;
use crate::cloud::service::{Call, Cloud};

/// The operation.
pub fn copy_image(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let id = call.params.needed("ImageId")?;
    let destination = call.params.needed("DestinationRegionId")?;
    let found = cloud.store().read(|world| {
        visible_image(world, call.account(), id).map(|(image, owner)| (is_encrypted(world, &image), image, owner))
    });
    let Some((is_encrypted, image, owner)) = found else {
        return Err(ApiError::new("InvalidImageId.NotFound", 400, "The specified ImageId does not exist."));
    };
    if owner != Owner::Own {
        let what = "User not authorized to operate on the specified resource.";
        return Err(ApiError::new("Forbidden", 403, what));
    }
    if !image.is_available {
        return Err(ApiError::new("IncorrectImageStatus", 400, "The image not available."));
    }
    if is_encrypted {
        let what = "The image contains encrypted snapshots, which do not support copying.";
        return Err(ApiError::new("OperationDeined.EncryptedSnapshot", 403, what));
    }
    if destination == cloud.region() {
        let what = "The destination region is not equal the target region. It has to be another one than the image's.";
        return Err(ApiError::new("IncorrectDestinationRegion", 403, what));
    }
    let what =
        format!("The specified RegionId does not exist. No other region than {} is served here.", cloud.region());
    Err(ApiError::new("InvalidRegionId.NotFound", 404, what))
}
