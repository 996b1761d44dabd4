//! CreateKeyVersion, DescribeKeyVersion, ListKeyVersions and UpdateRotationPolicy: new versions of keys, by hand and by themselves.
//!
//! A new version seals what comes; the older ones go on opening what they have sealed. Keys of disks are not sealed anew.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tracing::{info, warn};

use super::ask::{change, change_note, key, needed, note, own_note, user_key};
use super::errors::KmsError;
use super::view::{key_version, version_id};
use crate::cloud::backend::{Caller, KeyChange, KeyState, KeyVersion, MasterKey};
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{KeyNote, Seconds};
use crate::cloud::service::{Call, Cloud};

const DAY: Seconds = 86_400;
/// The shortest and the longest time between versions that a key gets by itself.
const INTERVALS: std::ops::RangeInclusive<Seconds> = 7 * DAY..=730 * DAY;
/// How long after the last version its user can make the next one.
const BETWEEN_VERSIONS: Seconds = 7 * DAY;
/// Versions of a key, as far as its user makes them.
const MOST_VERSIONS: usize = 50;

/// Whether a key gets new versions by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It does not.
    Disabled,
    /// So many seconds after the last one.
    Enabled(Seconds),
    /// It would, if it were enabled.
    Suspended(Seconds),
}

impl Rotation {
    /// That of a key.
    pub fn of(key: &MasterKey, note: &KeyNote) -> Self {
        match (note.rotation_seconds, key.state) {
            (None, _) => Self::Disabled,
            (Some(interval), KeyState::Enabled) => Self::Enabled(interval),
            (Some(interval), KeyState::Disabled | KeyState::PendingDeletion) => Self::Suspended(interval),
        }
    }

    /// As the API writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disabled => "Disabled",
            Self::Enabled(_) => "Enabled",
            Self::Suspended(_) => "Suspended",
        }
    }

    /// The seconds between versions, if its user has set them.
    pub fn interval(self) -> Option<Seconds> {
        match self {
            Self::Disabled => None,
            Self::Enabled(interval) | Self::Suspended(interval) => Some(interval),
        }
    }
}

/// When a key got its newest version; none if the KMS does not tell, and it was not by itself.
pub fn last_rotation(key: &MasterKey, note: &KeyNote) -> Option<Seconds> {
    let told = key.versions.last().map(|version| version.created_at).filter(|at| *at > 0);
    told.max(note.rotated_at)
}

/// The interval that `EnableAutomaticRotation` and `RotationInterval` ask for; the latter counts only with the former.
pub fn wanted_interval(params: &Params) -> Result<Option<Seconds>, KmsError> {
    if params.flag("EnableAutomaticRotation")? != Some(true) {
        return Ok(None);
    }
    let interval = seconds(needed(params, "RotationInterval")?).filter(|interval| INTERVALS.contains(interval));
    interval.map(Some).ok_or_else(|| KmsError::invalid("RotationInterval"))
}

/// The seconds of a text such as `365d`, `168h`, `10080m` or `604800s`.
fn seconds(text: &str) -> Option<Seconds> {
    let units = [('d', DAY), ('h', 3600), ('m', 60), ('s', 1)];
    let (number, unit) = units.iter().find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)))?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse::<Seconds>().ok())??.checked_mul(unit)
}

/// The operation UpdateRotationPolicy.
pub fn update_rotation_policy(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    needed(call.params, "EnableAutomaticRotation")?;
    let interval = wanted_interval(call.params)?;
    let key = user_key(cloud, call, "KeyId")?;
    refuse_unless_enabled(&key)?;
    change(cloud, call, |world| {
        change_note(world, call.account(), &key.id, |note| note.rotation_seconds = interval);
        Ok(())
    })
}

/// The operation CreateKeyVersion. The KMS does it; there is nothing to write down.
pub fn create_key_version(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let key = user_key(cloud, call, "KeyId")?;
    refuse_unless_enabled(&key)?;
    let last = last_rotation(&key, &note(cloud, &key));
    if last.is_some_and(|last| call.now < last.saturating_add(BETWEEN_VERSIONS)) {
        return Err(KmsError::limit("a key gets a new version 7 days after the last one at the earliest"));
    }
    if key.versions.len() >= MOST_VERSIONS {
        return Err(KmsError::limit("the key has as many versions as it may have"));
    }
    let key = cloud.backend().change_key(call.account(), &key.id, KeyChange::Rotate, call.caller)?;
    let newest = key.versions.last().ok_or_else(|| KmsError::internal("the KMS has told of no version"))?;
    Ok(json!({ "KeyVersion": key_version(&key, newest) }))
}

fn refuse_unless_enabled(key: &MasterKey) -> Result<(), KmsError> {
    if key.state == KeyState::Enabled { Ok(()) } else { Err(KmsError::state(key.state)) }
}

/// The operation DescribeKeyVersion.
pub fn describe_key_version(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let id = needed(call.params, "KeyVersionId")?;
    let key = key(cloud, call, "KeyId")?;
    let version = key.versions.iter().find(|version| version_id(&key.id, version.number) == id);
    Ok(json!({ "KeyVersion": key_version(&key, version.ok_or_else(KmsError::no_version)?) }))
}

/// The operation ListKeyVersions: the newest first.
pub fn list_key_versions(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let page = Page::of(call.params)?;
    let key = key(cloud, call, "KeyId")?;
    let versions: Vec<&KeyVersion> = key.versions.iter().rev().collect();
    Ok(page.answer("KeyVersions", "KeyVersion", &versions, |version| key_version(&key, version)))
}

/// Gives new versions to the keys whose time has come. For the scheduler; what cannot be done now is told, and done the next time.
///
/// The KMS makes the version, then its time is noted. After a crash between, a KMS that tells when versions were made keeps the key from getting
/// another; with one that does not, the key gets one version more than it should, which harms nobody. A key of which no time is known is due.
pub fn rotate_due(cloud: &Cloud) {
    for (account, noted) in keys_with_policy(cloud) {
        let keys = match cloud.backend().keys(&account) {
            Ok(keys) => keys,
            Err(e) => {
                warn!("cloud: keys of account {account} get no new versions now: {e}");
                continue;
            }
        };
        for key in keys.iter().filter(|key| noted.contains(&key.id) && is_due(key, &note(cloud, key), cloud.now())) {
            match rotate(cloud, key) {
                Ok(()) => info!("cloud: key {} has got a new version by itself", key.id),
                Err(e) => warn!("cloud: key {} gets no new version now: {}", key.id, e),
            }
        }
    }
}

/// The keys with a policy, by account.
fn keys_with_policy(cloud: &Cloud) -> BTreeMap<String, BTreeSet<String>> {
    cloud.store().read(|world| {
        let mut noted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, note) in world.key_notes.iter().filter(|(_, note)| note.rotation_seconds.is_some()) {
            noted.entry(note.account.clone()).or_default().insert(id.to_owned());
        }
        noted
    })
}

fn is_due(key: &MasterKey, note: &KeyNote, now: Seconds) -> bool {
    let Rotation::Enabled(interval) = Rotation::of(key, note) else { return false };
    !key.is_service_key && last_rotation(key, note).is_none_or(|last| last.saturating_add(interval) <= now)
}

fn rotate(cloud: &Cloud, key: &MasterKey) -> Result<(), KmsError> {
    let by = Caller { account: key.account.clone(), access_key: "system".to_owned() };
    cloud.backend().change_key(&key.account, &key.id, KeyChange::Rotate, &by)?;
    cloud.store().change(|world| {
        if own_note(world, &key.account, &key.id).is_some() {
            change_note(world, &key.account, &key.id, |note| note.rotated_at = Some(cloud.now()));
        }
        Ok(())
    })
}
