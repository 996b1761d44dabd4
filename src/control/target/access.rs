//! The cloud, for operators: operations without a signature, and the access keys of accounts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::http::Product;
use crate::cloud::rows::AccessKey;
use crate::cloud::store::World;
use crate::cloud::{ApiError, Call, Caller, Cloud, Params};
use crate::control::rpc::{Kind, Refusal};
use crate::kms::audit::Actor;
use crate::secrets::SecretRef;

use super::{AccountReport, Changed, NewAccount, Removed, Target};

/// An operation of the cloud's API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudCall {
    /// For which account; if it is left out, for the one whose things are named, or the only one.
    #[serde(default)]
    pub account: Option<String>,
    /// `ecs` or `kms`.
    #[serde(default)]
    pub product: Option<String>,
    /// Its name, such as `CreateDisk`.
    pub action: String,
    /// Its parameters, as the API has them.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
}

/// An access key to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAccessKey {
    /// Whose it is.
    pub account: String,
    /// Its identifier; one of ours, if it is left out.
    #[serde(default)]
    pub id: Option<String>,
    /// Where its secret lies.
    pub secret: SecretRef,
}

/// Whose access keys; all, if it is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKeysOf {
    /// The account.
    #[serde(default)]
    pub account: Option<String>,
}

/// An access key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKeyName {
    /// Its identifier.
    pub id: String,
}

/// An access key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessKeyReport {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// Where its secret lies.
    pub secret: String,
    /// Whether requests that it has signed are taken.
    pub enabled: bool,
    /// When it was made: seconds since 1970.
    pub created_at: u64,
}

impl From<AccessKey> for AccessKeyReport {
    fn from(key: AccessKey) -> Self {
        let secret = key.secret.to_string();
        Self { id: key.id, account: key.account, secret, enabled: key.enabled, created_at: key.created_at }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let kind = match error.status {
            404 => Kind::NotFound,
            409 => Kind::Exists,
            503 => Kind::Unavailable,
            500.. => Kind::Failed,
            _ => Kind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

impl Target {
    /// Carries an operation out for an account; answers what the API answers.
    pub(in crate::control) fn cloud_call(&self, of: &CloudCall, actor: Actor) -> Result<Value, Refusal> {
        let cloud = self.cloud()?;
        let product = match of.product.as_deref() {
            None | Some("ecs") => Product::Ecs,
            Some("kms") => Product::Kms,
            Some(other) => {
                return Err(Refusal::new(Kind::Refused, format!("there is no product {other}; there are ecs and kms")));
            }
        };
        let Some(operation) = Cloud::operation(product, &of.action) else {
            return Err(Refusal::new(Kind::NotFound, format!("there is no operation {} in this product", of.action)));
        };
        let (uid, pid) = match actor {
            Actor::User { uid, pid } => (uid, pid),
            Actor::System | Actor::AccessKey(_) => (0, 0),
        };
        let mut params: Params = of.params.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        // The only zone need not be named by who has no choice.
        if let [zone] = cloud.config().zones.as_slice() {
            params.insert("ZoneId", zone.name.clone());
        }
        let account = cloud.store().read(|world| account(world, of.account.as_deref(), &params))?;
        let caller = Caller::operator(&account, uid, pid);
        let call = Call { caller: &caller, action: &of.action, params: &params, now: cloud.now() };
        Ok(operation(&cloud, &call)?)
    }

    /// Makes an account; with a cloud it is kept there across restarts.
    pub(in crate::control) fn new_account(&self, new: &NewAccount) -> Result<Changed<AccountReport>, Refusal> {
        let Ok(cloud) = self.cloud() else { return self.add_account(new) };
        cloud.add_account(&new.name)?;
        let made = self.accounts().into_iter().find(|account| account.name == new.name);
        let note = "kept across restarts, in the state of the cloud".to_owned();
        Ok(Changed { now: made.expect("it was just made"), note })
    }

    /// Refuses what operators would do to a disk, snapshot or instance behind the cloud's back.
    pub(in crate::control) fn refuse_if_of_cloud(&self, name: &str) -> Result<(), Refusal> {
        let Ok(cloud) = self.cloud() else { return Ok(()) };
        let disk = name.split('@').next().unwrap_or(name);
        let is_its = cloud.store().read(|world| {
            let of_snapshot = || world.snapshots.rows().any(|snapshot| snapshot.disk == disk);
            world.disks.contains(disk) || world.instances.contains(name) || of_snapshot()
        });
        if !is_its {
            return Ok(());
        }
        let what = format!(
            "{name} belongs to the cloud API, which has to know of the change: use its operation (`strongroom cloud`)"
        );
        Err(Refusal::new(Kind::Refused, what))
    }

    pub(in crate::control) fn add_access_key(&self, new: NewAccessKey) -> Result<AccessKeyReport, Refusal> {
        Ok(self.cloud()?.add_access_key(&new.account, new.id.as_deref(), new.secret)?.into())
    }

    pub(in crate::control) fn access_keys(&self, of: &AccessKeysOf) -> Result<Vec<AccessKeyReport>, Refusal> {
        Ok(self.cloud()?.access_keys(of.account.as_deref()).into_iter().map(Into::into).collect())
    }

    pub(in crate::control) fn enable_access_key(
        &self,
        AccessKeyName { id }: &AccessKeyName,
        enabled: bool,
    ) -> Result<AccessKeyReport, Refusal> {
        Ok(self.cloud()?.enable_access_key(id, enabled)?.into())
    }

    pub(in crate::control) fn remove_access_key(
        &self,
        AccessKeyName { id }: &AccessKeyName,
    ) -> Result<Removed, Refusal> {
        self.cloud()?.remove_access_key(id)?;
        Ok(Removed { removed: id.clone() })
    }
}

/// The account that is meant.
fn account(world: &World, named: Option<&str>, params: &Params) -> Result<String, Refusal> {
    if let Some(name) = named {
        if world.accounts.contains(name) {
            return Ok(name.to_owned());
        }
        let what = format!("there is no account {name}; `strongroom account add` makes one");
        return Err(Refusal::new(Kind::NotFound, what));
    }
    let of_disk = || world.disks.get(params.text("DiskId")?).map(|disk| &disk.account);
    let of_instance = || world.instances.get(params.text("InstanceId")?).map(|instance| &instance.account);
    let of_snapshot = || world.snapshots.get(params.text("SnapshotId")?).map(|snapshot| &snapshot.account);
    if let Some(owner) = of_disk().or_else(of_instance).or_else(of_snapshot) {
        return Ok(owner.clone());
    }
    let mut all = world.accounts.iter().map(|(name, _)| name);
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only.to_owned()),
        (None, _) => Err(Refusal::new(Kind::NotFound, "there is no account; `strongroom account add` makes one")),
        (Some(_), Some(_)) => {
            Err(Refusal::new(Kind::Refused, "there are several accounts; say which one (`--account`)"))
        }
    }
}

/// A parameter as it would stand in a request: texts as they are, lists and objects as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
