//! EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion and SetDeletionProtection: whether a key may be used, and whether it will be there.
//!
//! A key that wraps keys of disks may be disabled or destroyed as any other: disks, snapshots and images that depend on it are lost with it, which
//! is how a user shreds them. Deletion protection is there for who fears that.

use serde_json::{Value, json};

use super::ask::{arn_prefix, change, change_note, needed, note, user_key};
use super::errors::KmsError;
use crate::cloud::backend::{BackendError, KeyChange, KeyState, MasterKey};
use crate::cloud::service::{Call, Cloud};

/// Days that a key may wait for its destruction.
const WAITING_DAYS: std::ops::RangeInclusive<u32> = 7..=366;

/// The operation EnableKey.
pub fn enable_key(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let key = key_in(cloud, call, &[KeyState::Enabled, KeyState::Disabled])?;
    change_state(cloud, call, &key, KeyChange::Enable)
}

/// The operation DisableKey.
pub fn disable_key(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let key = key_in(cloud, call, &[KeyState::Enabled, KeyState::Disabled])?;
    change_state(cloud, call, &key, KeyChange::Disable)
}

/// The operation ScheduleKeyDeletion. How long the key waits has to be said, as of old: nobody loses a key by a default.
pub fn schedule_key_deletion(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    const DAYS: &str = "PendingWindowInDays";
    needed(call.params, DAYS)?;
    let days = call.params.number(DAYS)?.filter(|days| WAITING_DAYS.contains(days));
    let days = days.ok_or_else(|| KmsError::invalid(DAYS))?;
    let key = key_in(cloud, call, &[KeyState::Enabled, KeyState::Disabled])?;
    if note(cloud, &key).deletion_protection {
        let what = "Keystate modified failed: deletion protection is enabled for the key.";
        return Err(KmsError::new("Rejected.StateModifiedFailed", 409, what));
    }
    change_state(cloud, call, &key, KeyChange::ScheduleDeletion(days))
}

/// The operation CancelKeyDeletion. The key may be used again then.
pub fn cancel_key_deletion(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let key = key_in(cloud, call, &[KeyState::PendingDeletion])?;
    change_state(cloud, call, &key, KeyChange::CancelDeletion)
}

/// The user's key that `KeyId` names, if it stands as one of these.
fn key_in(cloud: &Cloud, call: &Call<'_>, states: &[KeyState]) -> Result<MasterKey, KmsError> {
    let key = user_key(cloud, call, "KeyId")?;
    if states.contains(&key.state) { Ok(key) } else { Err(KmsError::state_modified_failed()) }
}

fn change_state(cloud: &Cloud, call: &Call<'_>, key: &MasterKey, change: KeyChange) -> Result<Value, KmsError> {
    match cloud.backend().change_key(call.account(), &key.id, change, call.caller) {
        Ok(_) => Ok(json!({})),
        // Somebody was faster.
        Err(BackendError::KeyState { .. }) => Err(KmsError::state_modified_failed()),
        Err(error) => Err(error.into()),
    }
}

/// The operation SetDeletionProtection. The key is named by its ARN only.
pub fn set_deletion_protection(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    const ARN: &str = "ProtectedResourceArn";
    const ENABLE: &str = "EnableDeletionProtection";
    let arn = needed(call.params, ARN)?;
    let enable = call.params.flag(ENABLE)?.ok_or_else(|| KmsError::missing(ENABLE))?;
    if !arn.starts_with("acs:kms:") || !arn.contains(":key/") {
        return Err(KmsError::invalid(ARN));
    }
    if !arn.starts_with(&arn_prefix(cloud, call.account())) {
        return Err(KmsError::no_key());
    }
    let key = user_key(cloud, call, ARN)?;
    if key.state == KeyState::PendingDeletion {
        return Err(KmsError::state(key.state));
    }
    change(cloud, call, |world| {
        change_note(world, call.account(), &key.id, |note| note.deletion_protection = enable);
        Ok(())
    })
}
