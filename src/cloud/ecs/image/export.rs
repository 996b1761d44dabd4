//! ExportImage: the plain content of an image's disks goes into files of a bucket, which is a folder of the operator's. Nothing encrypted leaves so.
//!
//! Names of buckets and prefixes have letters, digits and (buckets) hyphens only, so that no name leads out of the folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::check_region;
use crate::cloud::ecs::image::blank::BLANK;
use crate::cloud::ecs::image::owner::is_encrypted;
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Image, ImageDevice};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;

/// Data disks of an image that can be exported, and their largest size in GiB.
const MOST_DATA_DISKS: usize = 4;
const LARGEST_GIB: u64 = 500;

/// An image is written into files, one for each disk. Each is there as a whole or not at all; one that is there stays if another fails.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportImage {
    /// The image.
    pub image: String,
    /// Its disks.
    pub devices: Vec<ImageDevice>,
    /// The bucket.
    pub bucket: String,
    /// How the files' names begin; may be empty.
    pub prefix: String,
}

impl Work for ExportImage {
    fn touches(&self) -> Vec<String> {
        // No snapshot of an image is deleted.
        vec![self.image.clone()]
    }

    fn act(&self, cloud: &Cloud, _by: &Caller) -> Result<Findings, BackendError> {
        let folder = folder(cloud, &self.bucket);
        let folder = folder.ok_or_else(|| BackendError::NotFound(format!("there is no bucket {}", self.bucket)))?;
        for (index, device) in self.devices.iter().enumerate() {
            let row = cloud.store().read(|world| world.snapshots.get(&device.snapshot).cloned());
            let row = row.ok_or_else(|| BackendError::NotFound(format!("there is no snapshot {}", device.snapshot)))?;
            let number = if index == 0 { String::new() } else { format!("_{index}") };
            let file = folder.join(format!("{}{}{number}.raw", self.prefix, self.image));
            cloud.backend().export_snapshot(cloud.pool_of(&row.zone)?, &row.pool_name(), &file)?;
        }
        Ok(Findings::new())
    }

    fn finish(&self, _world: &mut World, _now: u64, _findings: &Findings) {}

    fn forget(&self, _world: &mut World) {}
}

/// The operation. It answers when the files are there.
pub fn export_image(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)
        .map_err(|_| ApiError::new("RegionId.NotFound", 400, "The specified RegionId does not exist."))?;
    let id = call.params.needed("ImageId")?;
    let bucket = named(call.params, ["OssBucket", "OSSBucket"]).ok_or_else(|| ApiError::missing("OssBucket"))?;
    let prefix = prefix(call.params)?;
    check_format(call.params)?;
    cloud.perform(call, |world| {
        let image = image(world, call.account(), id)?;
        if folder(cloud, bucket).is_none() {
            return Err(ApiError::new("OssBucket.NotFound", 400, "The specified OssBucket does not exist."));
        }
        refuse_if_busy(world, &[id], |_| {
            ApiError::new("OperationDenied.ImageExporting", 403, "The specified image is being exported.")
        })?;
        let work = ExportImage {
            image: id.to_owned(),
            devices: image.devices.clone(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let task = Noun::Image.new_id().replacen(Noun::Image.prefix(), "tsk-", 1);
        let answer = json!({ "TaskId": task, "RegionId": cloud.region() });
        Ok(Plan { intent: Intent::ExportImage(work), answer })
    })
}

/// The caller's image, if it can be exported.
fn image<'w>(world: &'w World, account: &str, id: &str) -> Result<&'w Image, ApiError> {
    if id == BLANK {
        let what = format!("The specified image {BLANK} is the system's and does not support export.");
        return Err(ApiError::new("ImageNotSupported", 403, what));
    }
    let image = world.images.get(id).filter(|image| image.account == account);
    let image = image.ok_or_else(|| ApiError::new("ImageId.NotFound", 403, "The image does not exist."))?;
    if !image.is_available {
        return Err(ApiError::new("IncorrectImageStatus", 400, "The image is not available."));
    }
    if is_encrypted(world, image) {
        let what = "The specified Image contains encrypted snapshots, do not support export.";
        return Err(ApiError::new("ImageNotSupported", 400, what));
    }
    let data = image.devices.get(1..).unwrap_or_default();
    if data.len() > MOST_DATA_DISKS || data.iter().any(|device| device.size_gib > LARGEST_GIB) {
        let what = "The diskSize or diskAmount of the image exceeds the limitation.";
        return Err(ApiError::new("InvalidImage.DiskAmountOrSize", 400, what));
    }
    Ok(image)
}

/// The folder of a bucket, if there is one: 3 to 63 small letters, digits and hyphens, no hyphen at its ends.
fn folder(cloud: &Cloud, bucket: &str) -> Option<PathBuf> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (3..=63).contains(&bucket.len())
        && bucket.chars().all(|c| is_plain(c) || c == '-')
        && bucket.starts_with(is_plain)
        && bucket.ends_with(is_plain);
    let folder = cloud.config().export_dir.as_ref().filter(|_| fits)?.join(bucket);
    folder.is_dir().then_some(folder)
}

/// A parameter that the documentation writes in one way, and the SDKs in another.
fn named<'p>(params: &'p Params, names: [&str; 2]) -> Option<&'p str> {
    names.into_iter().find_map(|name| params.text(name))
}

/// How the files' names begin: up to 30 letters and digits.
fn prefix(params: &Params) -> Result<&str, ApiError> {
    let prefix = named(params, ["OssPrefix", "OSSPrefix"]).unwrap_or_default();
    if prefix.len() <= 30 && prefix.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(prefix);
    }
    Err(ApiError::new("OssPrefix.Malformed", 400, "The specified OssPrefix format is incorrect."))
}

fn check_format(params: &Params) -> Result<(), ApiError> {
    match params.text("ImageFormat") {
        Some(format) if !format.eq_ignore_ascii_case("raw") => {
            let what = "The specified Image Format is wrongly formed. Images are exported as RAW only.";
            Err(ApiError::new("InvalidImageFormat.Malformed", 400, what))
        }
        _ => Ok(()),
    }
}
