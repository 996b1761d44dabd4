//! The disks that an instance begins with: its system disk, those of its image, and each `DataDisk.N` that was asked for, in this order.

use crate::cloud::category::Category;
use crate::cloud::ecs::ask::flag_or;
use crate::cloud::ecs::disk::create::{Wish, key_named};
use crate::cloud::ecs::instance::boot_image::{BootImage, Part};
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::params::Params;
use crate::cloud::rows::{Attachment, Disk, DiskKind, DiskState, Snapshot};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::text;

/// Data disks in one request.
const MOST_DATA_DISKS: usize = 16;
/// The sizes in GiB that a system disk may have.
const SYSTEM_SIZES: std::ops::RangeInclusive<u64> = 20..=500;
/// Its size, if neither its user nor its image wants a larger one.
const SYSTEM_SIZE: u64 = 40;

/// What was asked for.
pub struct DisksWanted {
    system: SystemDisk,
    data: Vec<DataDisk>,
}

struct SystemDisk {
    category: Category,
    size_gib: Option<u64>,
    name: String,
    description: String,
}

struct DataDisk {
    number: u32,
    params: Params,
    key: Option<String>,
    delete_with_instance: bool,
}

impl DisksWanted {
    /// Reads `SystemDisk.…` and `DataDisk.N.…`.
    pub fn read(cloud: &Cloud, call: &Call<'_>) -> Result<Self, ApiError> {
        let system = SystemDisk::read(call.params)?;
        let numbers = call.params.indices("DataDisk");
        let fits = |number: &u32| (1..=MOST_DATA_DISKS).contains(&(*number as usize));
        if !numbers.iter().all(fits) {
            let what = "The total number of specified disk in an instance exceeds. N of DataDisk.N is 1 to 16.";
            return Err(ApiError::new("InstanceDiskNumber.LimitExceed", 400, what));
        }
        let data = numbers.into_iter().map(|number| {
            let params = call.params.under("DataDisk", number);
            let key = key_named(cloud, call.account(), &params)?;
            let delete_with_instance = flag_or(&params, "DeleteWithInstance", true)?;
            Ok(DataDisk { number, params, key, delete_with_instance })
        });
        Ok(Self { system, data: data.collect::<Result<_, ApiError>>()? })
    }

    /// The rows of an instance's disks, if they may be.
    pub fn rows(
        &self,
        (cloud, world, call): (&Cloud, &World, &Call<'_>),
        zone: &str,
        image: &BootImage<'_>,
        instance: &str,
    ) -> Result<Vec<Disk>, ApiError> {
        if image.data.len() + self.data.len() > cloud.config().limits.disks_per_instance {
            let what = "The number of specified disk in an instance exceeds.";
            return Err(ApiError::new("InstanceDiskNumLimitExceed", 403, what));
        }
        for snapshot in image.snapshots() {
            check_pool(cloud, zone, snapshot, "The creation of Instance to the specified Zone is not allowed.")?;
        }
        let mut disks = vec![self.system.row(call, zone, image)?];
        disks.extend(image.data.iter().map(|part| of_image(call, zone, image, part)));
        for wanted in &self.data {
            disks.push(wanted.row((cloud, world, call), zone).map_err(|error| as_of_instances(wanted.number, error))?);
        }
        for (disk, letter) in disks.iter_mut().zip('a'..='z') {
            let device = format!("/dev/xvd{letter}");
            disk.attachments.push(Attachment { instance: instance.to_owned(), device, at: call.now });
            disk.attached_at = Some(call.now);
        }
        Ok(disks)
    }
}

impl SystemDisk {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let illegal = |what: &str| ApiError::new("InvalidParameter.EncryptedIllegal", 400, what.to_owned());
        let encrypted = params.flag("SystemDisk.Encrypted");
        let encrypted = encrypted.map_err(|_| illegal("The value of parameter Encrypted is illegal."))?;
        if encrypted == Some(true) {
            let what = "A system disk cannot be encrypted: put what has to be encrypted on a data disk.";
            return Err(ApiError::new("InvalidParameter.EncryptedNotSupported", 400, what));
        }
        if params.text("SystemDisk.KMSKeyId").is_some() {
            return Err(illegal("The specified parameter Encrypted must be true when kmsKeyId is not empty."));
        }
        let category = params.text("SystemDisk.Category").map_or(Some(Category::CloudEfficiency), Category::parse);
        let category = category.ok_or_else(|| {
            let what = "The specified parameter SystemDisk.Category is not valid.";
            ApiError::new("InvalidSystemDiskCategory.ValueNotSupported", 400, what)
        })?;
        let size = params.number::<u64>("SystemDisk.Size").map_err(|_| {
            ApiError::new("InvalidSystemDiskSize", 404, "The specified parameter SystemDisk.Size is invalid.")
        })?;
        if size.is_some_and(|size| size < *SYSTEM_SIZES.start()) {
            let what = "The specified parameter SystemDisk.Size is less than the min size.";
            return Err(ApiError::new("InvalidSystemDiskSize.LessThanMinSize", 404, what));
        }
        if size.is_some_and(|size| size > *SYSTEM_SIZES.end()) {
            let what = "The specified parameter SystemDisk.Size is more than the max size.";
            return Err(ApiError::new("InvalidSystemDiskSize.MoreThanMaxSize", 404, what));
        }
        let malformed = "The specified parameter SystemDisk.DiskName is not valid.";
        let description = text::description(params, "SystemDisk.Description", 400).map_err(|_| {
            let what = "The specified parameter SystemDisk.Description is not valid.";
            ApiError::new("InvalidDiskDescription.Malformed", 400, what)
        })?;
        Ok(Self {
            category,
            size_gib: size,
            name: text::name(params, "SystemDisk.DiskName", "InvalidDiskName.Malformed", malformed)?,
            description,
        })
    }

    fn row(&self, call: &Call<'_>, zone: &str, image: &BootImage<'_>) -> Result<Disk, ApiError> {
        let least = image.system.as_ref().map_or(0, |part| part.device.size_gib.max(part.snapshot.size_gib));
        let size_gib = self.size_gib.unwrap_or(SYSTEM_SIZE.max(least));
        if size_gib < least {
            let what = "The specified parameter SystemDisk.Size is less than the image size.";
            return Err(ApiError::new("InvalidSystemDiskSize.LessThanImageSize", 404, what));
        }
        Ok(Disk {
            name: self.name.clone(),
            description: self.description.clone(),
            kind: DiskKind::System,
            source_snapshot: image.system.as_ref().map(|part| part.snapshot.id.clone()),
            ..plain(call, zone, image, self.category, size_gib)
        })
    }
}

impl DataDisk {
    fn row(&self, (cloud, world, call): (&Cloud, &World, &Call<'_>), zone: &str) -> Result<Disk, ApiError> {
        let wish = Wish { category: "Category", zone, params: &self.params, key: self.key.clone(), shared: false };
        let disk = wish.disk(world, call)?;
        if let Some(source) = disk.source_snapshot.as_ref().and_then(|id| world.snapshots.get(id)) {
            check_pool(cloud, zone, source, "The specified snapshot is not allowed to create disk.")?;
        }
        Ok(Disk { delete_with_instance: self.delete_with_instance, ..disk })
    }
}

/// A data disk of an image: it is what the image's snapshot is, and has its key.
fn of_image(call: &Call<'_>, zone: &str, image: &BootImage<'_>, part: &Part<'_>) -> Disk {
    let Part { device, snapshot } = part;
    Disk {
        kind: DiskKind::Data,
        image: None,
        encrypted: snapshot.encrypted,
        key_id: snapshot.key_id.clone(),
        source_snapshot: Some(snapshot.id.clone()),
        ..plain(call, zone, image, snapshot.category, device.size_gib.max(snapshot.size_gib))
    }
}

/// An empty, plain disk that comes and goes with its instance.
fn plain(call: &Call<'_>, zone: &str, image: &BootImage<'_>, category: Category, size_gib: u64) -> Disk {
    Disk {
        id: Noun::Disk.new_id(),
        account: call.account().to_owned(),
        zone: zone.to_owned(),
        name: String::new(),
        description: String::new(),
        kind: DiskKind::System,
        category,
        size_gib,
        encrypted: false,
        key_id: None,
        shared: false,
        state: DiskState::Creating,
        attachments: Vec::new(),
        source_snapshot: None,
        image: Some(image.id.clone()),
        delete_with_instance: true,
        delete_auto_snapshot: true,
        enable_auto_snapshot: true,
        policy: None,
        created_at: call.now,
        attached_at: None,
        detached_at: None,
        tags: Vec::new(),
        nsid: None,
        uuid: None,
    }
}

/// A snapshot's content can be had in its own pool only.
fn check_pool(cloud: &Cloud, zone: &str, snapshot: &Snapshot, what: &str) -> Result<(), ApiError> {
    if cloud.pool_of(&snapshot.zone)? == cloud.pool_of(zone)? {
        return Ok(());
    }
    Err(ApiError::new("OperationDenied", 403, format!("{what} Snapshot {} is in zone {}.", snapshot.id, snapshot.zone)))
}

/// An error of CreateDisk, with the code that it has here: the two operations do not agree on all.
fn as_of_instances(number: u32, error: ApiError) -> ApiError {
    let (code, status) = match &*error.code {
        "InvalidDiskCategory.NotSupported" | "InvalidDiskCategory.ValueNotSupported" => {
            ("InvalidDataDiskCategory.ValueNotSupported", 400)
        }
        "InvalidSize.ValueNotSupported" | "InvalidDiskSize.NotSupported" | "InvalidSnapshot.TooLarge" => {
            ("InvalidDataDiskSize.ValueNotSupported", 400)
        }
        "InvalidDescription.Malformed" => ("InvalidDiskDescription.Malformed", 400),
        "InvalidSnapshotId.NotFound" => ("InvalidDataDiskSnapshotId.NotFound", 404),
        "InvalidSnapshot.NotReady" => ("InvalidSnapshotId.NotReady", 403),
        _ => return ApiError { message: format!("DataDisk.{number}: {}", error.message), ..error },
    };
    ApiError::new(code, status, format!("DataDisk.{number}: {}", error.message))
}
