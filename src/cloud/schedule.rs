//! What happens by itself, every few seconds: automatic snapshots in the hours of their policies, the end of snapshots that were to be kept for a time,
//! and further tries of what could be neither done nor undone.
//!
//! A policy has its hour once, also if the process dies meanwhile: the hour is noted when every disk had its turn, and until then a disk that has a snapshot
//! of this policy and hour gets no other. What the KMS or a pool keeps from being done is tried again as long as the hour lasts.

use std::sync::{Mutex, PoisonError};

use serde_json::json;
use tracing::warn;

use super::backend::Caller;
use super::error::ApiError;
use super::kms::rotate_due;
use super::params::Params;
use super::rows::{Disk, DiskState, Policy, Seconds, Snapshot, SnapshotState};
use super::service::{Call, Cloud, Plan};
use super::store::World;
use crate::cloud::ecs::snapshot::create::{AUTOMATIC, DAY, check_quota, check_state, check_used, row_of, snapshots_of};
use crate::cloud::ecs::snapshot::delete::check_free;
use crate::cloud::ecs::snapshot::{create, delete};
use crate::time::Time;

const HOUR: Seconds = 3600;
/// Hours and weekdays of policies are those of UTC+8.
const ZONE_SECONDS: Seconds = 8 * HOUR;
/// How long something that failed is left alone.
const PAUSE_SECONDS: Seconds = 30;

/// How often keys are looked over that get new versions by themselves: the KMS is asked for them.
const KEYS_SECONDS: Seconds = 600;

/// When something was done last that is not done all the time.
#[derive(Default)]
pub struct Pace {
    failed: Mutex<Option<Seconds>>,
    keys: Mutex<Option<Seconds>>,
}

/// Whether so many seconds have gone by. A clock that was set back is no reason to wait.
fn is_past(last: &Mutex<Option<Seconds>>, seconds: Seconds, now: Seconds) -> bool {
    let last = *last.lock().unwrap_or_else(PoisonError::into_inner);
    last.is_none_or(|last| now < last || now - last >= seconds)
}

fn note(last: &Mutex<Option<Seconds>>, at: Option<Seconds>) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = at;
}

impl Cloud {
    /// Does what is due now. To be called every few seconds, by one thread.
    pub fn tick(&self) {
        let now = self.now();
        if !is_past(&self.pace().failed, PAUSE_SECONDS, now) {
            return;
        }
        let errors = self.do_due(now);
        errors.iter().for_each(|error| warn!("cloud: what happens by itself failed, and is tried again: {error}"));
        note(&self.pace().failed, (!errors.is_empty()).then_some(now));
    }

    /// Does it, and tells what has to be tried again.
    fn do_due(&self, now: Seconds) -> Vec<ApiError> {
        let mut errors = Vec::new();
        if !self.recover() {
            errors.push(ApiError::unavailable("an operation that was not finished still cannot be"));
        }
        if is_past(&self.pace().keys, KEYS_SECONDS, now) {
            rotate_due(self);
            note(&self.pace().keys, Some(now));
        }
        let due: Vec<Policy> =
            self.store().read(|world| world.policies.rows().filter(|policy| is_due(policy, now)).cloned().collect());
        due.iter().for_each(|policy| errors.extend(self.snapshot_by(policy, now)));
        let expired: Vec<Snapshot> = self.store().read(|world| {
            let ended = |row: &&Snapshot| row.expires_at.is_some_and(|end| end <= now);
            world.snapshots.rows().filter(ended).filter(|row| check_free(world, row).is_ok()).cloned().collect()
        });
        expired.iter().for_each(|snapshot| errors.extend(self.delete_by_itself(snapshot, now).err()));
        errors
    }

    /// Makes the snapshots of a policy's hour.
    fn snapshot_by(&self, policy: &Policy, now: Seconds) -> Vec<ApiError> {
        let disks: Vec<Disk> = self
            .store()
            .read(|world| world.disks.rows().filter(|disk| wants(world, policy, disk, now)).cloned().collect());
        let mut errors = Vec::new();
        for disk in disks {
            match self.snapshot_disk(policy, &disk, now) {
                Ok(()) => {}
                Err(error) if may_pass(&error) => errors.push(error),
                Err(error) => warn!("cloud: disk {}: no automatic snapshot in this hour: {error}", disk.id),
            }
        }
        if errors.is_empty() {
            let noted = self.store().change(|world| -> Result<(), ApiError> {
                if let Some(row) = world.policies.get_mut(&policy.id) {
                    row.last_hour = Some(now / HOUR);
                }
                Ok(())
            });
            errors.extend(noted.err());
        }
        errors
    }

    /// Makes an automatic snapshot of a disk, then deletes the oldest ones that are too many. In this order, so that a failure costs nothing.
    fn snapshot_disk(&self, policy: &Policy, disk: &Disk, now: Seconds) -> Result<(), ApiError> {
        self.by_itself(&disk.account, "CreateSnapshot", now, |world| {
            let row = world.disks.get(&disk.id).filter(|disk| wants(world, policy, disk, now));
            let Some(row) = row else { return Ok(None) };
            check_state(world, row)?;
            if let Err(full) = check_quota(self, world, &row.id)
                && oldest_automatic(world, &row.id, now).is_none()
            {
                return Err(full);
            }
            let snapshot = automatic(policy, row, now);
            Ok(Some(Plan { intent: create::plan(world, snapshot), answer: json!({}) }))
        })?;
        let most = self.config().limits.snapshots_per_disk;
        while let Some(oldest) = self.store().read(|world| {
            let too_many = snapshots_of(world, &disk.id).count() > most;
            too_many.then(|| oldest_automatic(world, &disk.id, now)).flatten()
        }) {
            self.delete_by_itself(&oldest, now)?;
        }
        Ok(())
    }

    fn delete_by_itself(&self, snapshot: &Snapshot, now: Seconds) -> Result<(), ApiError> {
        self.by_itself(&snapshot.account, "DeleteSnapshot", now, |world| {
            let row = world.snapshots.get(&snapshot.id);
            if row.is_none_or(|row| check_free(world, row).is_err()) {
                return Ok(None);
            }
            Ok(Some(Plan { intent: delete::plan(world, &snapshot.id), answer: json!({}) }))
        })
    }

    /// Performs something that an account has not asked for, if it is still to be done.
    fn by_itself(
        &self,
        account: &str,
        action: &str,
        now: Seconds,
        plan: impl FnOnce(&mut World) -> Result<Option<Plan>, ApiError>,
    ) -> Result<(), ApiError> {
        let caller = Caller { account: account.to_owned(), access_key: "system".to_owned() };
        let mut is_over = false;
        let done = self.perform(&Call { caller: &caller, action, params: &Params::new(), now }, |world| {
            plan(world)?.ok_or_else(|| {
                is_over = true;
                ApiError::internal("there is nothing to do any more")
            })
        });
        if is_over { Ok(()) } else { done.map(drop) }
    }
}

/// Whether a policy has its hour, and has not had it yet.
fn is_due(policy: &Policy, now: Seconds) -> bool {
    let local = now + ZONE_SECONDS;
    // 1970 began on a Thursday, the fourth day.
    let (hour, weekday) = (local / HOUR % 24, (local / DAY + 3) % 7 + 1);
    let has = |numbers: &[u8], number: Seconds| numbers.iter().any(|have| Seconds::from(*have) == number);
    has(&policy.hours, hour) && has(&policy.weekdays, weekday) && policy.last_hour != Some(now / HOUR)
}

/// Whether a disk is to get a snapshot in this hour.
fn wants(world: &World, policy: &Policy, disk: &Disk, now: Seconds) -> bool {
    let of_this_hour = |row: &Snapshot| row.policy.as_ref() == Some(&policy.id) && row.created_at / HOUR == now / HOUR;
    disk.policy.as_ref() == Some(&policy.id)
        // What is only on its way has its turn when it is there.
        && disk.resting_state() == DiskState::InUse
        && disk.state != DiskState::Deleting
        && disk.enable_auto_snapshot
        && check_used(world, disk).is_ok()
        && !snapshots_of(world, &disk.id).any(of_this_hour)
}

fn automatic(policy: &Policy, disk: &Disk, now: Seconds) -> Snapshot {
    let local = Time::from_seconds(now + ZONE_SECONDS).to_second();
    Snapshot {
        name: format!("{AUTOMATIC}_{}{}{}_{}", &local[..4], &local[5..7], &local[8..10], &local[11..13]),
        policy: Some(policy.id.clone()),
        retention_days: policy.retention_days,
        expires_at: policy.retention_days.map(|days| now + Seconds::from(days) * DAY),
        ..row_of(disk, now)
    }
}

/// The automatic snapshot of a disk that goes first: none that is needed, and none of now.
fn oldest_automatic(world: &World, disk: &str, now: Seconds) -> Option<Snapshot> {
    let automatic = snapshots_of(world, disk).filter(|row| row.is_automatic() && row.created_at < now);
    let done = automatic.filter(|row| row.state == SnapshotState::Accomplished && check_free(world, row).is_ok());
    done.min_by_key(|row| row.created_at).cloned()
}

/// Whether an error may be gone a little later.
fn may_pass(error: &ApiError) -> bool {
    error.status >= 500 || error.code.starts_with("IncorrectDiskStatus") || error.code == "IncorrectInstanceStatus"
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
