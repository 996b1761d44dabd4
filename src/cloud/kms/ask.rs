//! What operations of the KMS ask first: whether the account has opened it, and which key is meant.
//!
//! A key is named by its identifier, its ARN or an alias, everywhere. Keys and aliases of other accounts are not there.

use serde_json::{Value, json};

use super::errors::KmsError;
use crate::cloud::backend::MasterKey;
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::rows::{Alias, KeyNote};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;

/// The alias of the service key of disks. It is there as soon as the key is.
pub const SERVICE_ALIAS: &str = "alias/acs/ecs";

/// Refuses accounts that have not opened the KMS, and rehearsals, which we could only carry out in earnest.
pub fn check(cloud: &Cloud, call: &Call<'_>) -> Result<(), KmsError> {
    if call.params.flag("DryRun")? == Some(true) {
        return Err(KmsError::unsupported("leave DryRun out"));
    }
    if has_opened(cloud, call.account()) {
        return Ok(());
    }
    let what = "Kms service is not Enabled for current user. Please get access permission first.";
    Err(KmsError::new("Forbidden.KmsServiceNotEnabled", 403, what))
}

/// Whether an account has opened the KMS.
pub fn has_opened(cloud: &Cloud, account: &str) -> bool {
    cloud.store().read(|world| world.accounts.get(account).is_some_and(|account| account.kms_opened))
}

/// A text that has to be there.
pub fn needed<'p>(params: &'p Params, name: &str) -> Result<&'p str, KmsError> {
    params.text(name).ok_or_else(|| KmsError::missing(name))
}

/// Changes rows; the answer has no fields.
pub fn change(
    cloud: &Cloud,
    call: &Call<'_>,
    change: impl FnOnce(&mut World) -> Result<(), KmsError>,
) -> Result<Value, KmsError> {
    Ok(cloud.change(call, |world| change(world).map(|()| json!({})).map_err(ApiError::from))?)
}

/// How ARNs of an account begin.
pub fn arn_prefix(cloud: &Cloud, account: &str) -> String {
    format!("acs:kms:{}:{account}:", cloud.region())
}

/// Where the row of an alias is.
pub fn alias_row(account: &str, name: &str) -> String {
    format!("{account}/{name}")
}

/// An alias, if the account has it.
pub fn own_alias<'w>(world: &'w World, account: &str, name: &str) -> Option<&'w Alias> {
    let alias = world.aliases.get(&alias_row(account, name))?;
    (alias.account == account && alias.name == name).then_some(alias)
}

/// What the user has said of a key.
pub fn note(cloud: &Cloud, key: &MasterKey) -> KeyNote {
    let note = cloud.store().read(|world| own_note(world, &key.account, &key.id).cloned());
    note.unwrap_or_default()
}

/// The note of a key, if there is one. Only keys of users have notes.
pub fn own_note<'w>(world: &'w World, account: &str, key: &str) -> Option<&'w KeyNote> {
    world.key_notes.get(key).filter(|note| note.account == account)
}

/// Changes the note of a user's key, or begins it: a crash may have left a key without.
pub fn change_note(world: &mut World, account: &str, key: &str, change: impl FnOnce(&mut KeyNote)) {
    let fresh = KeyNote { account: account.to_owned(), ..KeyNote::default() };
    let mut note = own_note(world, account, key).cloned().unwrap_or(fresh);
    change(&mut note);
    world.key_notes.put(key, note);
}

/// The key that a parameter names.
pub fn key(cloud: &Cloud, call: &Call<'_>, parameter: &str) -> Result<MasterKey, KmsError> {
    let id = resolve(cloud, call, needed(call.params, parameter)?)?;
    find(cloud.backend().keys(call.account())?, id.as_deref())
}

/// As [`key`], if it is the user's: the service key is only looked at.
pub fn user_key(cloud: &Cloud, call: &Call<'_>, parameter: &str) -> Result<MasterKey, KmsError> {
    users(key(cloud, call, parameter)?)
}

/// As [`user_key`], of the account's keys, which were asked for before.
pub fn user_key_of(
    keys: Vec<MasterKey>,
    cloud: &Cloud,
    call: &Call<'_>,
    parameter: &str,
) -> Result<MasterKey, KmsError> {
    let id = resolve(cloud, call, needed(call.params, parameter)?)?;
    users(find(keys, id.as_deref())?)
}

/// A key, unless it is the service key.
fn users(key: MasterKey) -> Result<MasterKey, KmsError> {
    if key.is_service_key { Err(KmsError::no_permission()) } else { Ok(key) }
}

/// The identifier of a user's key that a parameter names, for those who go on to use it: how it stands, the KMS tells then.
pub fn user_key_id(cloud: &Cloud, call: &Call<'_>, parameter: &str) -> Result<String, KmsError> {
    match resolve(cloud, call, needed(call.params, parameter)?)? {
        Some(id) => refuse_service_key(cloud, call, &id).map(|()| id),
        None => user_key(cloud, call, parameter).map(|key| key.id),
    }
}

/// Refuses if a key is not the user's. A key with a note is; for others the KMS is asked.
pub fn refuse_service_key(cloud: &Cloud, call: &Call<'_>, id: &str) -> Result<(), KmsError> {
    if cloud.store().read(|world| own_note(world, call.account(), id).is_some()) {
        return Ok(());
    }
    users(find(cloud.backend().keys(call.account())?, Some(id))?).map(drop)
}

/// The identifier that a name leads to; none if it is the alias of the service key.
fn resolve(cloud: &Cloud, call: &Call<'_>, name: &str) -> Result<Option<String>, KmsError> {
    let account = call.account();
    let name = match name.strip_prefix(&arn_prefix(cloud, account)) {
        Some(rest) if rest.starts_with("alias/") => rest,
        Some(rest) => rest.strip_prefix("key/").ok_or_else(KmsError::no_key)?,
        None if name.starts_with("acs:") => return Err(KmsError::no_key()),
        None => name,
    };
    if name == SERVICE_ALIAS {
        return Ok(None);
    }
    if !name.starts_with("alias/") {
        return Ok(Some(name.to_owned()));
    }
    let key = cloud.store().read(|world| own_alias(world, account, name).map(|alias| alias.key_id.clone()));
    key.map(Some).ok_or_else(KmsError::no_alias)
}

/// The key of this identifier; the service key, if there is none.
fn find(keys: Vec<MasterKey>, id: Option<&str>) -> Result<MasterKey, KmsError> {
    let mut keys = keys.into_iter();
    match id {
        Some(id) => keys.find(|key| key.id == id).ok_or_else(KmsError::no_key),
        None => keys.find(|key| key.is_service_key).ok_or_else(KmsError::no_alias),
    }
}
