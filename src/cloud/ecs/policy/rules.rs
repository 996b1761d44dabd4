//! CreateAutoSnapshotPolicy, ModifyAutoSnapshotPolicyEx, DeleteAutoSnapshotPolicy, DescribeAutoSnapshotPolicyEx: when snapshots are made by themselves.
//!
//! The SDKs send the names of these parameters with a small first letter, the documentation has a large one: both are taken.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cloud::ecs::disk::describe::moment;
use crate::cloud::ecs::snapshot::create::MOST_DAYS;
use crate::cloud::error::ApiError;
use crate::cloud::id::Noun;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{DiskState, Policy};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::store::World;
use crate::cloud::text;

/// The parameters with large first letters.
pub fn with_large_letters(params: &Params) -> Params {
    let large = |name: &str| {
        let mut letters = name.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    };
    params.iter().map(|(name, value)| (large(name), value)).collect()
}

/// A parameter has a value that cannot be.
pub fn not_valid(name: &str) -> ApiError {
    ApiError::new("ParameterInvalid", 404, format!("The specified {name} parameter is invalid."))
}

/// Refuses another region than ours.
pub fn check_region(cloud: &Cloud, params: &Params) -> Result<(), ApiError> {
    crate::cloud::ecs::ask::check_region(cloud, params).map_err(|_| not_valid("RegionId"))
}

/// The operation.
pub fn create_auto_snapshot_policy(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    check_region(cloud, &params)?;
    for name in ["TimePoints", "RepeatWeekdays", "RetentionDays"] {
        params.needed(name)?;
    }
    let wish = Wish::read(&params)?;
    cloud.change(call, |world| {
        let count = world.policies.rows().filter(|policy| policy.account == call.account()).count();
        if count >= cloud.config().limits.policies {
            let what = "The maximum number of automatic snapshot policy has been reached.";
            return Err(ApiError::new("AutoSnapshotPolicy.QuotaExceed", 403, what));
        }
        let mut policy = Policy {
            id: Noun::Policy.new_id(),
            account: call.account().to_owned(),
            name: String::new(),
            hours: Vec::new(),
            weekdays: Vec::new(),
            retention_days: None,
            last_hour: None,
            created_at: call.now,
        };
        wish.apply(&mut policy);
        let answer = json!({ "AutoSnapshotPolicyId": policy.id });
        world.policies.put(policy.id.clone(), policy);
        Ok(answer)
    })
}

/// The operation. Snapshots that are there are kept as long as they were to be.
pub fn modify_auto_snapshot_policy_ex(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    check_region(cloud, &params)?;
    let id = params.needed("AutoSnapshotPolicyId")?;
    let wish = Wish::read(&params)?;
    cloud.change(call, |world| {
        own_policy(world, call.account(), id).ok_or_else(|| not_valid("AutoSnapshotPolicyId"))?;
        wish.apply(world.policies.get_mut(id).expect("it was just found"));
        Ok(json!({}))
    })
}

/// The operation. Disks that have the policy have none then; their snapshots stay.
pub fn delete_auto_snapshot_policy(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    check_region(cloud, &params)?;
    let id = params.needed("AutoSnapshotPolicyId")?;
    cloud.change(call, |world| {
        own_policy(world, call.account(), id).ok_or_else(|| not_valid("AutoSnapshotPolicyId"))?;
        let has_it = |disk: &crate::cloud::rows::Disk| disk.policy.as_deref() == Some(id);
        let disks: Vec<String> = world.disks.rows().filter(|disk| has_it(disk)).map(|disk| disk.id.clone()).collect();
        for disk in disks {
            world.disks.get_mut(&disk).expect("it was just found").policy = None;
        }
        world.policies.remove(id);
        Ok(json!({}))
    })
}

/// The operation.
pub fn describe_auto_snapshot_policy_ex(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    let params = with_large_letters(call.params);
    crate::cloud::ecs::ask::check_region(cloud, &params)
        .map_err(|error| ApiError::new("InvalidRegionId.NotFound", 400, error.message))?;
    let page = Page::of(&params)?;
    let wanted = params.text("AutoSnapshotPolicyId");
    let mut policies: Vec<(Policy, usize)> = cloud.store().read(|world| {
        let mine = world.policies.rows().filter(|policy| policy.account == call.account());
        let mine = mine.filter(|policy| wanted.is_none_or(|wanted| policy.id == wanted));
        mine.map(|policy| (policy.clone(), disks_with(world, &policy.id))).collect()
    });
    policies.sort_by(|(one, _), (other, _)| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
    let view = |(policy, disks): &(Policy, usize)| view(policy, *disks, cloud.region());
    Ok(page.answer("AutoSnapshotPolicies", "AutoSnapshotPolicy", &policies, view))
}

/// A policy, if the account has it.
pub fn own_policy<'w>(world: &'w World, account: &str, id: &str) -> Option<&'w Policy> {
    world.policies.get(id).filter(|policy| policy.account == account)
}

fn disks_with(world: &World, policy: &str) -> usize {
    let there = world.disks.rows().filter(|disk| disk.state != DiskState::Deleting);
    there.filter(|disk| disk.policy.as_deref() == Some(policy)).count()
}

/// What is asked of a policy; what is absent stays as it is.
struct Wish {
    name: Option<String>,
    hours: Option<Vec<u8>>,
    weekdays: Option<Vec<u8>>,
    /// Days; none within means for ever.
    retention: Option<Option<u32>>,
}

impl Wish {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let name = params.text("AutoSnapshotPolicyName").map(str::to_owned);
        if name.as_ref().is_some_and(|name| !text::is_name(name)) {
            return Err(not_valid("AutoSnapshotPolicyName"));
        }
        let retention = match params.text("RetentionDays") {
            None => None,
            Some("-1") => Some(None),
            Some(days) => {
                let days = days.parse().ok().filter(|days| (1..=MOST_DAYS).contains(days));
                Some(Some(days.ok_or_else(|| not_valid("RetentionDays"))?))
            }
        };
        let hours = numbers(params, "TimePoints", 0..=23).map_err(|()| not_valid("TimePoints"))?;
        let weekdays = numbers(params, "RepeatWeekdays", 1..=7).map_err(|()| not_valid("RepeatWeekDays"))?;
        Ok(Self { name, hours, weekdays, retention })
    }

    fn apply(self, policy: &mut Policy) {
        policy.name = self.name.unwrap_or_else(|| std::mem::take(&mut policy.name));
        policy.hours = self.hours.unwrap_or_else(|| std::mem::take(&mut policy.hours));
        policy.weekdays = self.weekdays.unwrap_or_else(|| std::mem::take(&mut policy.weekdays));
        policy.retention_days = self.retention.unwrap_or(policy.retention_days);
    }
}

/// A JSON array with at least one number, each of them in a range; in ascending order, each once.
fn numbers(params: &Params, name: &str, range: std::ops::RangeInclusive<u8>) -> Result<Option<Vec<u8>>, ()> {
    let Some(texts) = params.array(name).map_err(|_| ())? else { return Ok(None) };
    let number = |text: &String| text.parse().ok().filter(|number| range.contains(number)).ok_or(());
    let numbers = texts.iter().map(number).collect::<Result<BTreeSet<u8>, ()>>()?;
    if numbers.is_empty() { Err(()) } else { Ok(Some(numbers.into_iter().collect())) }
}

fn view(policy: &Policy, disks: usize, region: &str) -> Value {
    let texts = |numbers: &[u8]| {
        let texts: Vec<String> = numbers.iter().map(u8::to_string).collect();
        json!(texts).to_string()
    };
    json!({
        "AutoSnapshotPolicyId": policy.id,
        "RegionId": region,
        "AutoSnapshotPolicyName": policy.name,
        "TimePoints": texts(&policy.hours),
        "RepeatWeekdays": texts(&policy.weekdays),
        "RetentionDays": policy.retention_days.map_or(-1, i64::from),
        "DiskNums": disks,
        "VolumeNums": 0,
        "CreationTime": moment(Some(policy.created_at)),
        "Status": "Normal",
        "EnableCrossRegionCopy": false,
        "TargetCopyRegions": "",
        "Tags": { "Tag": [] },
    })
}
