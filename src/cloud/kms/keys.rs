//! CreateKey, DescribeKey, ListKeys, UpdateKeyDescription: keys, and what users say of them.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{change, change_note, key, note, user_key};
use super::errors::KmsError;
use super::rotation::wanted_interval;
use super::view::{KEY_SPEC, KEY_USAGE, ORIGIN, PROTECTION_LEVEL, creator_type, key_arn, key_metadata, state_word};
use crate::cloud::backend::{KeyState, MasterKey};
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::KeyNote;
use crate::cloud::service::{Call, Cloud};

/// Characters of a description.
const LONGEST_DESCRIPTION: usize = 8192;

/// The operation CreateKey. The KMS makes the key, then its note is written: after a crash between, the key is there with an empty description.
pub fn create_key(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    check_kind(call.params)?;
    let account = call.account();
    let note = KeyNote {
        account: account.to_owned(),
        description: description(call.params.get("Description").unwrap_or_default())?,
        rotation_seconds: wanted_interval(call.params)?,
        ..KeyNote::default()
    };
    // Keys that wait for their destruction count, as they do in the cloud: they can come back. The service key does not.
    let keys = cloud.backend().keys(account)?;
    if keys.iter().filter(|key| !key.is_service_key).count() >= cloud.config().limits.keys {
        return Err(KmsError::limit("the account has as many keys as it may have"));
    }
    let key = cloud.backend().create_key(account, call.caller)?;
    cloud.store().change(|world| -> Result<(), KmsError> {
        world.key_notes.put(&key.id, note.clone());
        Ok(())
    })?;
    Ok(json!({ "KeyMetadata": key_metadata(cloud, &key, &note) }))
}

/// Refuses keys of other kinds than ours.
fn check_kind(params: &Params) -> Result<(), KmsError> {
    match params.text("Origin") {
        None | Some(ORIGIN) => {}
        Some("EXTERNAL") => {
            let what = "This key origin is not valid for this api.";
            return Err(KmsError::new("Unsupported.Origin", 400, what));
        }
        Some(_) => return Err(KmsError::invalid("Origin")),
    }
    match params.text("ProtectionLevel") {
        None | Some(PROTECTION_LEVEL) => {}
        Some("HSM") => {
            let what = "This protection level is not valid for this region";
            return Err(KmsError::new("Unsupported.ProtectionLevel", 400, what));
        }
        Some(_) => return Err(KmsError::invalid("ProtectionLevel")),
    }
    for (name, only) in [("KeySpec", KEY_SPEC), ("KeyUsage", KEY_USAGE)] {
        if params.text(name).is_some_and(|value| value != only) {
            return Err(KmsError::invalid(name));
        }
    }
    Ok(())
}

fn description(text: &str) -> Result<String, KmsError> {
    if text.chars().count() > LONGEST_DESCRIPTION {
        return Err(KmsError::invalid("Description"));
    }
    Ok(text.to_owned())
}

/// The operation DescribeKey.
pub fn describe_key(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let key = key(cloud, call, "KeyId")?;
    Ok(json!({ "KeyMetadata": key_metadata(cloud, &key, &note(cloud, &key)) }))
}

/// The operation UpdateKeyDescription. An empty description takes the old one away.
pub fn update_key_description(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let text = call.params.get("Description").ok_or_else(|| KmsError::missing("Description"))?;
    let text = description(text)?;
    let key = user_key(cloud, call, "KeyId")?;
    if key.state == KeyState::PendingDeletion {
        return Err(KmsError::state(key.state));
    }
    change(cloud, call, |world| {
        change_note(world, call.account(), &key.id, |note| note.description = text);
        Ok(())
    })
}

/// The operation ListKeys: the oldest first.
pub fn list_keys(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let page = Page::of(call.params)?;
    let filters = Filter::read(call.params)?;
    let mut keys = cloud.backend().keys(call.account())?;
    keys.retain(|key| filters.iter().all(|filter| filter.lets_through(key)));
    keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let view = |key: &MasterKey| json!({ "KeyId": key.id, "KeyArn": key_arn(cloud, key) });
    Ok(page.answer("Keys", "Key", &keys, view))
}

/// What keys have to be like: one of the values.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

impl Filter {
    fn read(params: &Params) -> Result<Vec<Self>, KmsError> {
        let Some(text) = params.text("Filters") else { return Ok(Vec::new()) };
        let filters: Vec<Self> = serde_json::from_str(text).map_err(|_| KmsError::invalid("Filters"))?;
        let names = ["KeyState", "KeySpec", "KeyUsage", "ProtectionLevel", "CreatorType"];
        if filters.iter().any(|filter| !names.contains(&filter.key.as_str()) || filter.values.is_empty()) {
            return Err(KmsError::invalid("Filters"));
        }
        Ok(filters)
    }

    fn lets_through(&self, key: &MasterKey) -> bool {
        let is = match self.key.as_str() {
            "KeyState" => state_word(key.state),
            "CreatorType" => creator_type(key),
            "KeySpec" => KEY_SPEC,
            "KeyUsage" => KEY_USAGE,
            _ => PROTECTION_LEVEL,
        };
        self.values.iter().any(|value| value == is)
    }
}
