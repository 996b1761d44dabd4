//! CreateDisk: a new disk, empty or with the content of a snapshot.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller, Made, NewDisk};
use crate::cloud::category::Category;
use crate::cloud::ecs::ask::{check_region, flag_or, instance, usable_key, zone};
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskKind, DiskState, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan};
use crate::cloud::store::World;
use crate::cloud::text;

/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;
/// Categories of the documentation that are not here.
const CATEGORIES_ELSEWHERE: [&str; 8] = [
    "ephemeral",
    "ephemeral_ssd",
    "cloud_essd",
    "cloud_auto",
    "cloud_essd_entry",
    "cloud_regional_disk_auto",
    "elastic_ephemeral_disk_standard",
    "elastic_ephemeral_disk_premium",
];

/// A disk is made; its row is there and says how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateDisk {
    /// The disk.
    pub disk: String,
}

impl Work for CreateDisk {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        make(cloud, &self.disk, by)
    }

    fn finish(&self, world: &mut World, _now: u64, findings: &Findings) {
        made(world, &self.disk, findings);
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        cloud.backend().delete_disk(&self.disk, by)
    }

    fn forget(&self, world: &mut World) {
        world.disks.remove(&self.disk);
    }
}

/// Has the target make the disk of a row.
pub fn make(cloud: &Cloud, disk: &str, by: &Caller) -> Result<Findings, BackendError> {
    let (row, source) = cloud.store().read(|world| {
        let row = world.disks.get(disk).cloned();
        let source = row.as_ref().and_then(|row| row.source_snapshot.as_ref());
        (row.clone(), source.and_then(|id| world.snapshots.get(id)).map(Snapshot::pool_name))
    });
    let row = row.ok_or_else(|| BackendError::NotFound(format!("there is no disk {disk}")))?;
    let made = cloud.backend().create_disk(
        &NewDisk {
            id: row.id.clone(),
            account: row.account.clone(),
            pool: cloud.pool_of(&row.zone)?.to_owned(),
            bytes: row.size_gib * GIB,
            source,
            encrypted: row.encrypted,
            key_id: row.key_id.clone(),
            shared: row.shared,
            speed: row.category.speed(row.size_gib, row.shared),
        },
        by,
    )?;
    Ok([(row.id, made)].into())
}

/// The disk of a row is made.
pub fn made(world: &mut World, disk: &str, findings: &Findings) {
    if let Some(row) = world.disks.get_mut(disk) {
        row.state = row.resting_state();
        if let Some(Made { key_id, nsid }) = findings.get(disk) {
            row.key_id = key_id.clone().or(row.key_id.take());
            row.nsid = Some(*nsid);
        }
    }
}

/// The operation.
pub fn create_disk(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    refuse_subscription(cloud, call)?;
    let zone = zone(cloud, call.params.needed("ZoneId")?)?;
    let shared = match call.params.text("MultiAttach") {
        None | Some("Disabled") => false,
        Some("Enabled") => true,
        Some(_) => {
            return Err(ApiError::new(
                "InvalidParameter.MultiAttach",
                403,
                "The specified param MultiAttach is not valid.",
            ));
        }
    };
    if !matches!(call.params.text("PerformanceLevel"), None | Some("PL0" | "PL1" | "PL2" | "PL3")) {
        let what = "The specified parameter PerformanceLevel is not valid.";
        return Err(ApiError::new("InvalidPerformanceLevel.Malformed", 400, what));
    }
    let key = key_named(cloud, call.account(), call.params)?;
    let wish = Wish { category: "DiskCategory", zone, params: call.params, key, shared };
    cloud.perform(call, |world| {
        let disk = wish.disk(world, call)?;
        if shared {
            refuse_too_many_shared(cloud, world, call.account())?;
        }
        check_pool(cloud, world, &disk)?;
        let work = CreateDisk { disk: disk.id.clone() };
        world.disks.put(&work.disk, disk);
        let answer = json!({ "DiskId": work.disk });
        Ok(Plan { intent: Intent::CreateDisk(work), answer })
    })
}

/// A snapshot's content can be had in its own pool only.
fn check_pool(cloud: &Cloud, world: &World, disk: &Disk) -> Result<(), ApiError> {
    let Some(source) = disk.source_snapshot.as_ref().and_then(|id| world.snapshots.get(id)) else { return Ok(()) };
    if cloud.pool_of(&source.zone)? == cloud.pool_of(&disk.zone)? {
        return Ok(());
    }
    let what = format!("The specified snapshot is not allowed to create disk: it is in zone {}.", source.zone);
    Err(ApiError::new("OperationDenied", 403, what))
}

/// `InstanceId` asks for a disk by subscription, of which there are none here.
fn refuse_subscription(cloud: &Cloud, call: &Call<'_>) -> Result<(), ApiError> {
    if call.params.text("InstanceId").is_none() {
        return Ok(());
    }
    if call.params.text("ZoneId").is_some() {
        let what = "The parameters ZoneId and InstanceId exclude each other.";
        return Err(ApiError::new("InvalidParameter.Conflict", 400, what));
    }
    if call.params.text("MultiAttach") == Some("Enabled") {
        let what = "The parameter MultiAttach and InstanceId are conflict.";
        return Err(ApiError::new("InvalidParameter.MultiAttachAndInstanceIdConflict", 403, what));
    }
    cloud.store().read(|world| instance(world, call).map(drop))?;
    let what =
        "The specified pay method is not valid: disks are paid as they are used. Name a zone instead of an instance.";
    Err(ApiError::new("InvalidPayMethod", 403, what))
}

fn refuse_too_many_shared(cloud: &Cloud, world: &World, account: &str) -> Result<(), ApiError> {
    let most = cloud.config().limits.shared_disks;
    if world.disks.rows().filter(|disk| disk.shared && disk.account == account).count() < most {
        return Ok(());
    }
    Err(ApiError::new("QuotaExceed.PortableCloudDisk", 403, "The quota of portable cloud disk exceeds."))
}

/// What is asked of a new data disk: by CreateDisk, or by a `DataDisk.N` of an instance.
pub struct Wish<'a> {
    /// The name of the parameter with the category.
    pub category: &'static str,
    /// The zone.
    pub zone: &'a str,
    /// The parameters, without the prefix `DataDisk.N.`.
    pub params: &'a Params,
    /// The master key that was named.
    pub key: Option<String>,
    /// Whether several instances may have it.
    pub shared: bool,
}

impl Wish<'_> {
    /// The row of the disk that is wanted, if it may be: this is where the rules of encryption stand.
    pub fn disk(&self, world: &World, call: &Call<'_>) -> Result<Disk, ApiError> {
        let params = self.params;
        let malformed = "The specified disk name is wrongly formed.";
        let name = text::name(params, "DiskName", "InvalidDiskName.Malformed", malformed)?;
        let description = text::description(params, "Description", 400)?;
        let tags = text::tags(params)?;
        let delete_auto_snapshot = flag_or(params, "DeleteAutoSnapshot", true)?;
        let enable_auto_snapshot = flag_or(params, "EnableAutoSnapshot", true)?;
        let asked = encrypted(params)?;
        let category = self.category_of()?;
        let source = params.text("SnapshotId").map(|id| source(world, call.account(), id)).transpose()?;
        let size_gib = self.size_of(category, source)?;
        let (encrypted, key_id) = self.encryption(world, call.account(), asked, source)?;
        Ok(Disk {
            id: Noun::Disk.new_id(),
            account: call.account().to_owned(),
            zone: self.zone.to_owned(),
            name,
            description,
            kind: DiskKind::Data,
            category,
            size_gib,
            encrypted,
            key_id,
            shared: self.shared,
            state: DiskState::Creating,
            attachments: Vec::new(),
            source_snapshot: source.map(|snapshot| snapshot.id.clone()),
            image: None,
            delete_with_instance: false,
            delete_auto_snapshot,
            enable_auto_snapshot,
            policy: None,
            created_at: call.now,
            attached_at: None,
            detached_at: None,
            tags,
            nsid: None,
            uuid: None,
        })
    }

    fn category_of(&self) -> Result<Category, ApiError> {
        let word = self.params.text(self.category).unwrap_or(Category::Cloud.word());
        let category = match Category::parse(word) {
            Some(category) => category,
            None if !CATEGORIES_ELSEWHERE.contains(&word) => {
                let what = "The specified parameter DiskCategory is not valid.";
                return Err(ApiError::new("InvalidDiskCategory.ValueNotSupported", 400, what));
            }
            None if word == "ephemeral_ssd" && self.params.flag("Encrypted") == Ok(Some(true)) => {
                let what = "Corresponding data disk category does not support encryption.";
                return Err(ApiError::new("InvalidParameter.EncryptedNotSupported", 400, what));
            }
            None => {
                let what = format!(
                    "The specified disk category is not support. There are cloud, cloud_efficiency and cloud_ssd, not {word}."
                );
                return Err(ApiError::new("InvalidDiskCategory.NotSupported", 400, what));
            }
        };
        if self.shared && !category.may_be_shared() {
            let what = "The specified disk category does not support multi attach enabled.";
            return Err(ApiError::new("InvalidParameter.DiskCategoryAndMultiAttachNotMatch", 403, what));
        }
        Ok(category)
    }

    /// The size: what is asked for, and at least that of the snapshot.
    fn size_of(&self, category: Category, source: Option<&Snapshot>) -> Result<u64, ApiError> {
        let not_valid =
            || ApiError::new("InvalidSize.ValueNotSupported", 400, "The specified parameter Size is not valid.");
        let asked = self.params.number::<u64>("Size").map_err(|_| not_valid())?;
        let sizes = category.sizes();
        if source.is_some_and(|source| source.size_gib > *sizes.end()) {
            let what = format!("The capacity of snapshot exceeds {}GB.", sizes.end());
            return Err(ApiError::new("InvalidSnapshot.TooLarge", 403, what));
        }
        let size = match (asked, source) {
            (None, None) => {
                let what = "The input parameter either SnapshotId or Size should be specified.";
                return Err(ApiError::new("MissingParameter", 400, what));
            }
            (Some(asked), Some(source)) if asked < source.size_gib => {
                let what = "Specified disk size is less than the size of snapshot.";
                return Err(ApiError::new("InvalidDiskSize.TooSmall", 403, what));
            }
            (Some(asked), _) => asked,
            (None, Some(source)) if source.size_gib < *sizes.start() => {
                let what = format!("disk size is not supported: the category has at least {} GiB.", sizes.start());
                return Err(ApiError::new("InvalidDiskSize.NotSupported", 403, what));
            }
            (None, Some(source)) => source.size_gib,
        };
        if !sizes.contains(&size) {
            return Err(not_valid());
        }
        Ok(size)
    }

    /// Whether the disk is encrypted, and by which master key: once and for ever.
    fn encryption(
        &self,
        world: &World,
        account: &str,
        asked: Option<bool>,
        source: Option<&Snapshot>,
    ) -> Result<(bool, Option<String>), ApiError> {
        let encrypted = match source {
            // A disk from a snapshot is what the snapshot is. Saying otherwise is refused; saying nothing inherits.
            Some(source) if asked.is_some_and(|asked| asked != source.encrypted) => {
                let what = "Encryption value of disk conflicts with that of snapshot .";
                return Err(ApiError::new("EncryptedOption.Conflict", 400, what));
            }
            Some(source) => source.encrypted,
            None => asked.unwrap_or(false),
        };
        if !encrypted {
            return Ok((false, None));
        }
        refuse_without_kms(world, account)?;
        match (source, self.key.as_deref()) {
            // The lineage's key stays with the master key that wraps it.
            (Some(source), Some(named)) if source.key_id.as_deref() != Some(named) => Err(ApiError::new(
                "InvalidParameter.Conflict",
                400,
                "A disk from an encrypted snapshot has the snapshot's key: leave KMSKeyId out, or name that one.",
            )),
            (Some(source), _) => Ok((true, source.key_id.clone())),
            (None, Some(named)) => Ok((true, Some(named.to_owned()))),
            (None, None) => Ok((true, None)),
        }
    }
}

/// The master key that `KMSKeyId` names, by its identifier or its ARN. It has to be the account's, and enabled.
pub fn key_named(cloud: &Cloud, account: &str, params: &Params) -> Result<Option<String>, ApiError> {
    let Some(named) = params.text("KMSKeyId") else { return Ok(None) };
    encrypted(params)?;
    cloud.store().read(|world| refuse_without_kms(world, account))?;
    usable_key(cloud, account, named).map(Some)
}

fn encrypted_illegal(what: &str) -> ApiError {
    ApiError::new("InvalidParameter.EncryptedIllegal", 400, what.to_owned())
}

/// `Encrypted`, if it may be said so: a key is named for an encrypted disk only.
fn encrypted(params: &Params) -> Result<Option<bool>, ApiError> {
    let illegal = |_| encrypted_illegal("The value of parameter encrypted is illegal.");
    let asked = params.flag("Encrypted").map_err(illegal)?;
    if params.text("KMSKeyId").is_some() && asked != Some(true) {
        return Err(encrypted_illegal("The specified parameter Encrypted must be true when kmsKeyId is not empty."));
    }
    Ok(asked)
}

fn refuse_without_kms(world: &World, account: &str) -> Result<(), ApiError> {
    if world.accounts.get(account).is_some_and(|account| account.kms_opened) {
        return Ok(());
    }
    let what = "The encrypted disk need enable KMS.";
    Err(ApiError::new("InvalidParameter.Encrypted.KmsNotEnabled", 400, what))
}

/// The snapshot that a data disk may be made from.
fn source<'w>(world: &'w World, account: &str, id: &str) -> Result<&'w Snapshot, ApiError> {
    let snapshot = world.snapshots.get(id).filter(|snapshot| snapshot.account == account);
    let Some(snapshot) = snapshot.filter(|snapshot| snapshot.state != SnapshotState::Deleting) else {
        return Err(ApiError::new("InvalidSnapshotId.NotFound", 404, "The specified SnapshotId does not exist."));
    };
    if snapshot.disk_kind == DiskKind::System {
        let what = "The specified snapshot is system disk snapshot.";
        return Err(ApiError::new("InvalidSnapshotId.NotDataDiskSnapshot", 403, what));
    }
    if snapshot.state != SnapshotState::Accomplished {
        let what = "The specified snapshot creation is not completed yet.";
        return Err(ApiError::new("InvalidSnapshot.NotReady", 403, what));
    }
    Ok(snapshot)
}
