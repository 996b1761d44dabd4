//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases and ListAliasesByKeyId: other names of keys.
//!
//! An alias is its account's. When its key is destroyed, it is not shown any more, and its name is free. The service key has the alias
//! [`SERVICE_ALIAS`] and no other; nobody can change that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::ask::{SERVICE_ALIAS, alias_row, arn_prefix, change, key, needed, own_alias, user_key, user_key_of};
use super::errors::KmsError;
use crate::cloud::backend::{KeyState, MasterKey};
use crate::cloud::page::Page;
use crate::cloud::rows::Alias;
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;

const PREFIX: &str = "alias/";
/// How aliases of services begin.
const OF_SERVICES: &str = "alias/acs";
/// Characters after the prefix.
const LONGEST: usize = 255;

/// The alias that `AliasName` names, if an alias may look like that.
fn name<'p>(call: &Call<'p>) -> Result<&'p str, KmsError> {
    let name = needed(call.params, "AliasName")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-');
    let is_alias = |rest: &str| (1..=LONGEST).contains(&rest.len()) && rest.bytes().all(fits);
    if name.strip_prefix(PREFIX).is_some_and(is_alias) { Ok(name) } else { Err(KmsError::invalid("AliasName")) }
}

/// The operation CreateAlias.
pub fn create_alias(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let name = name(call)?;
    if name.starts_with(OF_SERVICES) {
        return Err(KmsError::invalid("AliasName"));
    }
    needed(call.params, "KeyId")?;
    let keys = cloud.backend().keys(call.account())?;
    let living = keys.iter().map(|key| key.id.clone()).collect::<BTreeSet<_>>();
    let key = user_key_of(keys, cloud, call, "KeyId")?;
    if key.state == KeyState::PendingDeletion {
        return Err(KmsError::state_modified_failed());
    }
    change(cloud, call, |world| {
        if own_alias(world, call.account(), name).is_some_and(|alias| living.contains(&alias.key_id)) {
            return Err(KmsError::new("AliasAlreadyExists", 400, "AliasName Already Exists."));
        }
        if aliases(world, call.account(), &living).count() >= cloud.config().limits.aliases {
            return Err(KmsError::limit("the account has as many aliases as it may have"));
        }
        let alias = Alias { account: call.account().to_owned(), name: name.to_owned(), key_id: key.id };
        world.aliases.put(alias_row(call.account(), name), alias);
        Ok(())
    })
}

/// The operation UpdateAlias: the alias goes to another key.
pub fn update_alias(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let name = users_name(call)?;
    needed(call.params, "KeyId")?;
    if cloud.store().read(|world| own_alias(world, call.account(), name).is_none()) {
        return Err(KmsError::no_alias());
    }
    let key = user_key(cloud, call, "KeyId")?;
    if key.state == KeyState::PendingDeletion {
        return Err(KmsError::state(key.state));
    }
    change(cloud, call, |world| {
        own_alias(world, call.account(), name).ok_or_else(KmsError::no_alias)?;
        let alias = world.aliases.get_mut(&alias_row(call.account(), name));
        alias.ok_or_else(KmsError::no_alias)?.key_id = key.id;
        Ok(())
    })
}

/// The operation DeleteAlias. The key stays, however it stands.
pub fn delete_alias(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let name = users_name(call)?;
    change(cloud, call, |world| {
        own_alias(world, call.account(), name).ok_or_else(KmsError::no_alias)?;
        world.aliases.remove(&alias_row(call.account(), name));
        Ok(())
    })
}

/// As [`name`], for an alias that is there: those of services are not the user's.
fn users_name<'p>(call: &Call<'p>) -> Result<&'p str, KmsError> {
    let name = name(call)?;
    if name.starts_with(OF_SERVICES) { Err(KmsError::no_permission()) } else { Ok(name) }
}

/// The operation ListAliases, in the order of the names.
pub fn list_aliases(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let page = Page::of(call.params)?;
    let keys = cloud.backend().keys(call.account())?;
    Ok(answer(cloud, call, page, &keys))
}

/// The operation ListAliasesByKeyId.
pub fn list_aliases_by_key_id(cloud: &Cloud, call: &Call<'_>) -> Result<Value, KmsError> {
    let page = Page::of(call.params)?;
    let key = key(cloud, call, "KeyId")?;
    Ok(answer(cloud, call, page, &[key]))
}

/// The aliases of these keys.
fn answer(cloud: &Cloud, call: &Call<'_>, page: Page, keys: &[MasterKey]) -> Value {
    let ids = keys.iter().map(|key| key.id.clone()).collect();
    let own = |alias: &Alias| (alias.name.clone(), alias.key_id.clone());
    let mut all: Vec<(String, String)> =
        cloud.store().read(|world| aliases(world, call.account(), &ids).map(own).collect());
    let service_keys = keys.iter().filter(|key| key.is_service_key);
    all.extend(service_keys.map(|key| (SERVICE_ALIAS.to_owned(), key.id.clone())));
    all.sort();
    let prefix = arn_prefix(cloud, call.account());
    page.answer(
        "Aliases",
        "Alias",
        &all,
        |(name, key)| json!({ "AliasName": name, "AliasArn": format!("{prefix}{name}"), "KeyId": key }),
    )
}

/// The aliases that an account has given to these keys.
fn aliases<'w>(world: &'w World, account: &'w str, keys: &'w BTreeSet<String>) -> impl Iterator<Item = &'w Alias> {
    world.aliases.rows().filter(move |alias| alias.account == account && keys.contains(&alias.key_id))
}
