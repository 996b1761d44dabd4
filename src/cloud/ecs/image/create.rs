//! CreateImage: an image of an instance, whose disks' snapshots are made with it, or of snapshots that are there.
//!
//! Data disks of an image may be encrypted, its system disk may not.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::{check_region, own_instance, own_snapshot};
use crate::cloud::ecs::disk::attach::disks_of;
use crate::cloud::ecs::disk::delete::delete_snapshots;
use crate::cloud::ecs::image::parts::{from_mapping, from_snapshot};
use crate::cloud::ecs::snapshot::create::{check_quota, check_state, row_of, take, taken};
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskKind, Image, ImageDevice, InstanceState, Snapshot};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;
use crate::cloud::text;

/// The longest version and platform.
const LONGEST: usize = 40;

/// An image is made of an instance. Its row is there, and those of its snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateImage {
    /// The image.
    pub image: String,
    /// The instance.
    pub instance: String,
    /// The instance's disks.
    pub disks: Vec<String>,
    /// Their snapshots.
    pub snapshots: Vec<String>,
}

impl Work for CreateImage {
    fn touches(&self) -> Vec<String> {
        [&self.image, &self.instance].into_iter().chain(&self.disks).chain(&self.snapshots).cloned().collect()
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        take(cloud, &self.snapshots, by)
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        taken(world, &self.snapshots);
        if let Some(image) = world.images.get_mut(&self.image) {
            image.is_available = true;
        }
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        delete_snapshots(cloud, &self.snapshots, by)
    }

    fn forget(&self, world: &mut World) {
        world.images.remove(&self.image);
        self.snapshots.iter().for_each(|id| drop(world.snapshots.remove(id)));
    }
}

/// The operation.
pub fn create_image(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let blank = read(call)?;
    let made = match call.params.text("InstanceId") {
        Some(instance) => cloud.perform(call, |world| of_instance(cloud, world, blank, instance)),
        None => cloud.change(call, |world| of_snapshots(world, call, blank)),
    };
    // This operation has a code of its own for it.
    made.map_err(|error| match &*error.code {
        "IdempotentParameterMismatch" => {
            let what = "The specified same token is trying to make requests with different parameters.";
            ApiError::new("InvalidParamter.Conflict", 403, what)
        }
        _ => error,
    })
}

/// The image that is asked for, without its disks.
fn read(call: &Call<'_>) -> Result<Image, ApiError> {
    let params = call.params;
    let malformed = "The specified Image name is wrongly formed.";
    let name = text::name(params, "ImageName", "InvalidImageName.Malformed", malformed)?;
    if name.starts_with("aliyun") || name.starts_with("acs:") {
        return Err(ApiError::new("InvalidImageName.Malformed", 400, malformed));
    }
    let architecture = params.text("Architecture").unwrap_or("x86_64");
    if !["i386", "x86_64"].contains(&architecture) {
        let what = "The specified Architecture is wrongly formed.";
        return Err(ApiError::new("InvalidArchitecture.Malformed", 400, what));
    }
    let id = Noun::Image.new_id();
    Ok(Image {
        name: if name.is_empty() { id.clone() } else { name },
        id,
        account: call.account().to_owned(),
        description: text::description(params, "Description", 400)?,
        version: short(params, "ImageVersion", "InvalidImageVersion.Malformed")?.unwrap_or_default(),
        architecture: architecture.to_owned(),
        platform: short(params, "Platform", "InvalidPlatform.Malformed")?.unwrap_or("Others Linux".to_owned()),
        devices: Vec::new(),
        shared_with: Vec::new(),
        is_available: false,
        created_at: call.now,
        tags: text::tags(params)?,
    })
}

fn short(params: &Params, name: &str, code: &'static str) -> Result<Option<String>, ApiError> {
    match params.text(name) {
        Some(text) if text.chars().count() > LONGEST || text.chars().any(char::is_control) => {
            Err(ApiError::new(code, 400, format!("The specified {name} is wrongly formed.")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn refuse_known_name(world: &World, image: &Image) -> Result<(), ApiError> {
    let mut mine = world.images.rows().filter(|other| other.account == image.account);
    if mine.any(|other| other.name == image.name) {
        let what = "The specified Image name has already been used.";
        return Err(ApiError::new("InvalidImageName.Duplicated", 400, what));
    }
    Ok(())
}

/// The error for a system disk that is encrypted.
pub fn encrypted_system() -> ApiError {
    let what = "Not support creating system image from an encrypted snapshot/disk.";
    ApiError::new("OperationDenied", 400, what)
}

fn of_instance(cloud: &Cloud, world: &mut World, mut image: Image, instance: &str) -> Result<Plan, ApiError> {
    let disks = disks_for_image(cloud, world, &image.account, instance)?;
    refuse_known_name(world, &image)?;
    let snapshots: Vec<Snapshot> = disks.iter().map(|disk| row_of(disk, image.created_at)).collect();
    image.devices = disks.iter().zip(&snapshots).map(|(disk, snapshot)| device(disk, instance, snapshot)).collect();
    let work = CreateImage {
        image: image.id.clone(),
        instance: instance.to_owned(),
        disks: disks.into_iter().map(|disk| disk.id).collect(),
        snapshots: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
    };
    let answer = json!({ "ImageId": image.id });
    world.images.put(image.id.clone(), image);
    for snapshot in snapshots {
        world.snapshots.put(snapshot.id.clone(), snapshot);
    }
    Ok(Plan { intent: Intent::CreateImage(work), answer })
}

/// The disks of an instance, the system's first, if an image can be made of them.
fn disks_for_image(cloud: &Cloud, world: &World, account: &str, instance: &str) -> Result<Vec<Disk>, ApiError> {
    let status = || {
        let what = "The current status of the instance does not support this operation.";
        ApiError::new("IncorrectInstanceStatus", 400, what)
    };
    let row = own_instance(world, account, instance);
    let row = row
        .ok_or_else(|| ApiError::new("InvalidInstanceId.NotFound", 400, "The specified InstanceId does not exist."))?;
    if !matches!(row.state, InstanceState::Running | InstanceState::Stopped) {
        return Err(status());
    }
    let mut disks: Vec<Disk> = disks_of(world, instance).cloned().collect();
    disks.sort_by_key(|disk| (disk.kind != DiskKind::System, device_name(disk, instance)));
    match disks.first() {
        Some(system) if system.kind == DiskKind::System && system.encrypted => return Err(encrypted_system()),
        Some(system) if system.kind == DiskKind::System => {}
        _ => {
            let what = "The specified InstanceId is not allowed to create image. It has no system disk.";
            return Err(ApiError::new("InvalidInstanceId.ValueNotSupported", 400, what));
        }
    }
    for disk in &disks {
        check_state(world, disk)?;
        check_quota(cloud, world, &disk.id)?;
    }
    refuse_if_busy(world, &[instance], |_| status())?;
    Ok(disks)
}

fn device_name(disk: &Disk, instance: &str) -> String {
    let attachment = disk.attachments.iter().find(|attachment| attachment.instance == instance);
    attachment.map(|attachment| attachment.device.clone()).unwrap_or_default()
}

fn device(disk: &Disk, instance: &str, snapshot: &Snapshot) -> ImageDevice {
    ImageDevice {
        device: device_name(disk, instance),
        kind: disk.kind,
        snapshot: snapshot.id.clone(),
        size_gib: snapshot.size_gib,
    }
}

fn of_snapshots(world: &mut World, call: &Call<'_>, mut image: Image) -> Result<Value, ApiError> {
    let known = |id: &str| own_snapshot(world, call.account(), id);
    image.devices = if !call.params.indices("DiskDeviceMapping").is_empty() {
        from_mapping(world, call.params, known)?
    } else if let Some(id) = call.params.text("SnapshotId") {
        vec![from_snapshot(world, id, known)?]
    } else {
        let what = "The input parameter SnapshotId or InstanceId or DiskDeviceMapping that is mandatory for processing \
                    this request is not supplied.";
        return Err(ApiError::new("MissingParameter", 400, what));
    };
    refuse_known_name(world, &image)?;
    image.is_available = true;
    let answer = json!({ "ImageId": image.id });
    world.images.put(image.id.clone(), image);
    Ok(answer)
}
