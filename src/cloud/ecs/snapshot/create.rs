//! CreateSnapshot: a disk's content of now is kept. The snapshot is encrypted if the disk is, with the disk's key.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::ecs::ask::disk;
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::params::Params;
use crate::cloud::rows::{Disk, DiskState, InstanceState, Seconds, Snapshot, SnapshotState};
use crate::cloud::service::{Call, Cloud, Plan, refuse_if_busy};
use crate::cloud::store::World;
use crate::cloud::text;

/// Seconds in a day.
pub const DAY: Seconds = 24 * 3600;
/// The longest that a snapshot can be kept, unless it is for ever.
pub const MOST_DAYS: u32 = 65_536;
/// How names of automatic snapshots begin, and no others.
pub const AUTOMATIC: &str = "auto";

/// A snapshot is made; its row is there and says of what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateSnapshot {
    /// The disk.
    pub disk: String,
    /// The snapshot.
    pub snapshot: String,
}

impl Work for CreateSnapshot {
    fn touches(&self) -> Vec<String> {
        vec![self.disk.clone(), self.snapshot.clone()]
    }

    fn act(&self, cloud: &Cloud, by: &Caller) -> Result<Findings, BackendError> {
        take(cloud, std::slice::from_ref(&self.snapshot), by)
    }

    fn finish(&self, world: &mut World, _now: u64, _findings: &Findings) {
        taken(world, std::slice::from_ref(&self.snapshot));
    }

    fn undo(&self, cloud: &Cloud, by: &Caller) -> Result<(), BackendError> {
        crate::cloud::ecs::disk::delete::delete_snapshots(cloud, std::slice::from_ref(&self.snapshot), by)
    }

    fn forget(&self, world: &mut World) {
        world.snapshots.remove(&self.snapshot);
    }
}

/// Has the target take the snapshots of these rows.
pub fn take(cloud: &Cloud, ids: &[String], by: &Caller) -> Result<Findings, BackendError> {
    for id in ids {
        let row = cloud.store().read(|world| world.snapshots.get(id).cloned());
        let row = row.ok_or_else(|| BackendError::NotFound(format!("there is no snapshot {id}")))?;
        cloud.backend().snapshot(&row.disk, &row.id, by)?;
    }
    Ok(Findings::new())
}

/// The snapshots of these rows are taken.
pub fn taken(world: &mut World, ids: &[String]) {
    for id in ids {
        if let Some(row) = world.snapshots.get_mut(id) {
            row.state = SnapshotState::Accomplished;
        }
    }
}

/// The operation.
pub fn create_snapshot(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let name = name_of(call.params)?;
    let description = text::description(call.params, "Description", 404)?;
    let tags = text::tags(call.params)?;
    let retention_days = call.params.number::<u32>("RetentionDays")?;
    if retention_days.is_some_and(|days| !(1..=MOST_DAYS).contains(&days)) {
        return Err(ApiError::invalid("RetentionDays"));
    }
    cloud.perform(call, |world| {
        let disk = disk(world, call)?;
        check_state(world, disk)?;
        check_used(world, disk)?;
        check_quota(cloud, world, &disk.id)?;
        let row = Snapshot {
            name,
            description,
            tags,
            retention_days,
            expires_at: retention_days.map(|days| call.now + Seconds::from(days) * DAY),
            ..row_of(disk, call.now)
        };
        let id = row.id.clone();
        Ok(Plan { intent: plan(world, row), answer: json!({ "SnapshotId": id }) })
    })
}

/// Adds the row of a snapshot that is to be taken.
pub fn plan(world: &mut World, row: Snapshot) -> Intent {
    let work = CreateSnapshot { disk: row.disk.clone(), snapshot: row.id.clone() };
    world.snapshots.put(row.id.clone(), row);
    Intent::CreateSnapshot(work)
}

/// The name that a user gives a snapshot; empty if there is none.
pub fn name_of(params: &Params) -> Result<String, ApiError> {
    let what = "The specified SnapshotName is wrongly formed.";
    let name = text::name(params, "SnapshotName", "InvalidSnapshotName.Malformed", what)?;
    if name.starts_with(AUTOMATIC) {
        return Err(ApiError::new("InvalidSnapshotName.Malformed", 400, what));
    }
    Ok(name)
}

/// A snapshot of a disk, kept for ever, and nameless.
pub fn row_of(disk: &Disk, now: Seconds) -> Snapshot {
    Snapshot {
        id: Noun::Snapshot.new_id(),
        account: disk.account.clone(),
        zone: disk.zone.clone(),
        disk: disk.id.clone(),
        disk_kind: disk.kind,
        category: disk.category,
        size_gib: disk.size_gib,
        name: String::new(),
        description: String::new(),
        encrypted: disk.encrypted,
        key_id: disk.key_id.clone(),
        policy: None,
        expires_at: None,
        retention_days: None,
        state: SnapshotState::Progressing,
        created_at: now,
        tags: Vec::new(),
    }
}

/// Refuses a disk that something else is being done to, or to whose instance.
pub fn check_state(world: &World, disk: &Disk) -> Result<(), ApiError> {
    let status =
        || ApiError::new("IncorrectDiskStatus", 403, "The current disk status does not support this operation.");
    refuse_if_busy(world, &[&disk.id], |intent| if intent.makes_snapshots() { under_way() } else { status() })?;
    if !matches!(disk.state, DiskState::Available | DiskState::InUse) {
        return Err(status());
    }
    let mut instances = disk.attachments.iter().filter_map(|at| world.instances.get(&at.instance));
    if instances.any(|instance| !matches!(instance.state, InstanceState::Running | InstanceState::Stopped)) {
        let what = "The current status of the resource does not support this operation.";
        return Err(ApiError::new("IncorrectInstanceStatus", 400, what));
    }
    Ok(())
}

fn under_way() -> ApiError {
    ApiError::new("IncorrectDiskStatus.CreatingSnapshot", 403, "A previous snapshot creation is in process.")
}

/// Refuses a disk that nobody can have written to.
pub fn check_used(world: &World, disk: &Disk) -> Result<(), ApiError> {
    if !disk.was_ever_attached() {
        let what = "The specified disk has never been attached to any instance.";
        return Err(ApiError::new("IncorrectDiskStatus.NeverAttached", 403, what));
    }
    let was_started = |instance: &str| world.instances.get(instance).is_none_or(|instance| instance.was_started);
    // Of an instance that it had before nothing is known any more.
    if disk.detached_at.is_some() || disk.attachments.iter().any(|at| was_started(&at.instance)) {
        return Ok(());
    }
    let what = "The specified disk has never been used after creating.";
    Err(ApiError::new("IncorrectDiskStatus.NeverUsed", 403, what))
}

/// Refuses a disk that has as many snapshots as it may.
pub fn check_quota(cloud: &Cloud, world: &World, disk: &str) -> Result<(), ApiError> {
    if snapshots_of(world, disk).count() < cloud.config().limits.snapshots_per_disk {
        return Ok(());
    }
    Err(ApiError::new("QuotaExceed.Snapshot", 403, "The maximum number of snapshots is exceeded."))
}

/// The snapshots that a disk has.
pub fn snapshots_of<'w>(world: &'w World, disk: &'w str) -> impl Iterator<Item = &'w Snapshot> {
    world.snapshots.rows().filter(move |snapshot| snapshot.disk == disk && snapshot.state != SnapshotState::Deleting)
}
