//! Keys, versions and aliases as the API shows them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ask::arn_prefix;
use super::rotation::{Rotation, last_rotation};
use crate::cloud::backend::{KeyState, KeyVersion, MasterKey};
use crate::cloud::ecs::disk::describe::moment;
use crate::cloud::rows::{KeyNote, Seconds};
use crate::cloud::service::Cloud;

/// The only kind of key: 256 bits, AES.
pub const KEY_SPEC: &str = "Aliyun_AES_256";
/// What keys are for.
pub const KEY_USAGE: &str = "ENCRYPT/DECRYPT";
/// Where their material comes from.
pub const ORIGIN: &str = "Aliyun_KMS";
/// How they are kept, as far as the cloud's words go.
pub const PROTECTION_LEVEL: &str = "SOFTWARE";
/// Who has made a service key.
const SERVICE: &str = "Ecs";

/// A state as the API writes it.
pub fn state_word(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "Enabled",
        KeyState::Disabled => "Disabled",
        KeyState::PendingDeletion => "PendingDeletion",
    }
}

/// `Enabled` or `Disabled`.
fn switch(on: bool) -> &'static str {
    if on { "Enabled" } else { "Disabled" }
}

/// Whether a key is `User`'s or a `Service`'s.
pub fn creator_type(key: &MasterKey) -> &'static str {
    if key.is_service_key { "Service" } else { "User" }
}

/// The ARN of a key.
pub fn key_arn(cloud: &Cloud, key: &MasterKey) -> String {
    format!("{}key/{}", arn_prefix(cloud, &key.account), key.id)
}

/// A moment that the KMS may not tell.
fn known(seconds: Seconds) -> String {
    moment((seconds > 0).then_some(seconds))
}

/// The structure `KeyMetadata`.
pub fn key_metadata(cloud: &Cloud, key: &MasterKey, note: &KeyNote) -> Value {
    let rotation = Rotation::of(key, note);
    let newest = key.versions.last().map(|version| version_id(&key.id, version.number));
    let mut view = json!({
        "KeyId": key.id,
        "Arn": key_arn(cloud, key),
        "Creator": if key.is_service_key { SERVICE } else { &key.account },
        "CreationDate": known(key.created_at),
        "Description": note.description,
        "KeySpec": KEY_SPEC,
        "KeyUsage": KEY_USAGE,
        "KeyState": state_word(key.state),
        "Origin": ORIGIN,
        "ProtectionLevel": PROTECTION_LEVEL,
        "PrimaryKeyVersion": newest.unwrap_or_default(),
        "DeleteDate": moment(key.deletion_at),
        "MaterialExpireTime": "",
        "LastRotationDate": moment(last_rotation(key, note)),
        "AutomaticRotation": rotation.word(),
        "DeletionProtection": switch(note.deletion_protection),
    });
    if let Some(interval) = rotation.interval() {
        view["RotationInterval"] = json!(format!("{interval}s"));
        view["NextRotationDate"] = json!(moment(last_rotation(key, note).map(|last| last.saturating_add(interval))));
    }
    view
}

/// A version's identifier: made of the key's and the number, so that it is the same for ever, and needs no row.
pub fn version_id(key: &str, number: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(b"version of a master key\0");
    hash.update(number.to_le_bytes());
    hash.update(key.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// The structure `KeyVersion`.
pub fn key_version(key: &MasterKey, version: &KeyVersion) -> Value {
    json!({
        "KeyId": key.id,
        "KeyVersionId": version_id(&key.id, version.number),
        "CreationDate": known(version.created_at),
    })
}
