//! Conversion, which an operator starts: a disk becomes an encrypted one, or a plain one, by being copied to another disk of its account. In the end
//! the disk's hosts may be switched to the copy, and rows follow.
//!
//! The copy takes over what instances know the disk by: attachments with their devices and times, whether it goes with its instance, namespace identifier
//! and UUID; and the policy of automatic snapshots, which is for the content that is in use. The disk gets in exchange what the copy was known by,
//! which no host has seen, and is available. What users call and sort disks by stays with each: name, description, tags, and of course
//! category, key and snapshots.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cloud::backend::{BackendError, Caller};
use crate::cloud::error::ApiError;
use crate::cloud::intent::{Findings, Intent, Work};
use crate::cloud::rows::{Disk, DiskKind, DiskState};
use crate::cloud::service::{Cloud, refuse_if_busy};
use crate::cloud::store::World;
use crate::disk::derived_uuid;

/// Hosts are switched from a disk to its copy. The target does it, and says durably that it has: this is only there so that rows follow, and so that
/// nothing else happens to the two meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    /// The disk.
    pub source: String,
    /// Its copy.
    pub destination: String,
    /// The disk's UUID, which the copy gets.
    pub source_uuid: Uuid,
    /// The copy's UUID, which the disk gets.
    pub destination_uuid: Uuid,
}

impl Switch {
    fn is_done(&self, cloud: &Cloud) -> Result<bool, BackendError> {
        Ok(cloud.backend().switched_to(&self.source)?.as_ref() == Some(&self.destination))
    }
}

impl Work for Switch {
    fn touches(&self) -> Vec<String> {
        vec![self.source.clone(), self.destination.clone()]
    }

    fn act(&self, cloud: &Cloud, _by: &Caller) -> Result<Findings, BackendError> {
        match self.is_done(cloud)? {
            true => Ok(Findings::new()),
            false => Err(BackendError::Failed(format!("the hosts of disk {} were not switched", self.source))),
        }
    }

    fn finish(&self, world: &mut World, now: u64, _findings: &Findings) {
        let [old, new] = [&self.source, &self.destination].map(|id| world.disks.get(id).cloned());
        let (Some(old), Some(new)) = (old, new) else { return };
        if let Some(disk) = world.disks.get_mut(&self.destination) {
            disk.attachments = old.attachments.clone();
            disk.state = disk.resting_state();
            disk.delete_with_instance = old.delete_with_instance;
            (disk.policy, disk.enable_auto_snapshot) = (old.policy.clone(), old.enable_auto_snapshot);
            (disk.attached_at, disk.detached_at) = (old.attached_at, old.detached_at);
            (disk.nsid, disk.uuid) = (old.nsid, Some(self.source_uuid));
        }
        if let Some(disk) = world.disks.get_mut(&self.source) {
            disk.attachments.clear();
            disk.state = disk.resting_state();
            disk.delete_with_instance = false;
            disk.policy = None;
            disk.detached_at = if old.attachments.is_empty() { old.detached_at } else { Some(now) };
            (disk.nsid, disk.uuid) = (new.nsid, Some(self.destination_uuid));
        }
    }

    fn undo(&self, cloud: &Cloud, _by: &Caller) -> Result<(), BackendError> {
        match self.is_done(cloud)? {
            true => Err(BackendError::InUse(format!("the hosts of disk {} were switched", self.source))),
            false => Ok(()),
        }
    }

    fn forget(&self, _world: &mut World) {}
}

impl Cloud {
    /// Whether a disk is the cloud's.
    pub fn has_disk(&self, id: &str) -> bool {
        self.store().read(|world| world.disks.contains(id))
    }

    /// Refuses what a disk may not be converted to. Two disks that are not the cloud's are not its affair.
    pub fn check_conversion(&self, source: &str, destination: &str) -> Result<(), ApiError> {
        self.store().read(|world| check(world, source, destination).map(drop))
    }

    /// Has `act` switch the hosts of a disk to its copy, and lets rows follow if the target says that it has. While something is being done to one of
    /// the two it does not begin, with status 409.
    pub fn switch<T>(&self, source: &str, destination: &str, act: impl FnOnce() -> T) -> Result<T, ApiError> {
        let account = self.store().read(|world| world.disks.get(source).map(|disk| disk.account.clone()));
        let by = Caller::system(&account.unwrap_or_default());
        let plan = |world: &mut World| {
            let Some((old, new)) = check(world, source, destination)? else {
                return Err(ApiError::internal(format!("disk {source} is not the cloud's")));
            };
            let uuid = |disk: &Disk| disk.uuid.unwrap_or_else(|| derived_uuid(self.region(), &disk.account, &disk.id));
            Ok(Intent::Switch(Switch {
                source: source.to_owned(),
                destination: destination.to_owned(),
                source_uuid: uuid(old),
                destination_uuid: uuid(new),
            }))
        };
        self.perform_around(&by, plan, act)
    }
}

/// The rows of two disks, one of which may be converted to the other; none if neither is the cloud's.
fn check<'w>(world: &'w World, source: &str, destination: &str) -> Result<Option<(&'w Disk, &'w Disk)>, ApiError> {
    let (old, new) = match (world.disks.get(source), world.disks.get(destination)) {
        (None, None) => return Ok(None),
        (Some(old), Some(new)) => (old, new),
        (Some(old), None) => {
            let (zone, size) = (&old.zone, old.size_gib);
            return Err(refused(format!(
                "disk {source} is the cloud's, and {destination} is not: make the destination with CreateDisk, in zone {zone} and with {size} GiB"
            )));
        }
        (None, Some(_)) => {
            return Err(refused(format!("disk {destination} is the cloud's, and {source} is not: name another")));
        }
    };
    let differ = [
        (old.account != new.account, "account"),
        (old.zone != new.zone, "zone"),
        (old.size_gib != new.size_gib, "size"),
        (old.shared != new.shared, "MultiAttach"),
        (old.kind != new.kind, "kind (system or data)"),
    ];
    if let Some((_, what)) = differ.iter().find(|(differs, _)| *differs) {
        return Err(refused(format!("disk {destination} has not the same {what} as disk {source}")));
    }
    let busy = |_: &Intent| {
        let what = format!("something is being done to disk {source} or disk {destination}; try again");
        ApiError::new("OperationConflict", 409, what)
    };
    refuse_if_busy(world, &[source, destination], busy)?;
    let is_new = new.state == DiskState::Available && new.attachments.is_empty() && !new.was_ever_attached();
    if !is_new || new.source_snapshot.is_some() {
        let what = format!(
            "disk {destination} was attached or made from a snapshot: make the destination anew with CreateDisk, and leave it alone"
        );
        return Err(refused(what));
    }
    if !matches!(old.state, DiskState::Available | DiskState::InUse) || old.kind == DiskKind::System {
        return Err(refused(format!("disk {source} is a system disk, or is being made or deleted")));
    }
    Ok(Some((old, new)))
}

fn refused(what: String) -> ApiError {
    ApiError::new("OperationDenied", 403, what)
}
