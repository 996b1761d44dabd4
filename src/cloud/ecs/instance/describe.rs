//! DescribeInstances and DescribeInstanceStatus: which instances the caller has.
//!
//! An instance is a consumer of disks. Of what a cloud's machine has besides (processors, networks, prices) the documented fields are there, and empty,
//! because clients expect them. `HostNqn` and `HostId` are ours: by them the instance's host connects.

use serde_json::{Value, json};

use crate::cloud::ecs::ask::{check_region, zone};
use crate::cloud::ecs::disk::attach::disks_of;
use crate::cloud::ecs::disk::describe::{moment, tags_view};
use crate::cloud::ecs::instance::power::dry_run;
use crate::cloud::error::ApiError;
use crate::cloud::page::Page;
use crate::cloud::params::Params;
use crate::cloud::rows::{DiskKind, Instance, InstanceState, Tag};
use crate::cloud::service::{Call, Cloud};
use crate::cloud::text;

/// Identifiers in one request.
const MOST_IDS: usize = 100;
/// When instances expire that are paid as they are used: never.
const NEVER: &str = "2999-09-08T16:00Z";

/// The operation DescribeInstances.
pub fn describe_instances(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    let page = Page::of(call.params)?;
    let wanted = Wanted::read(call.params)?;
    dry_run(call)?;
    let most = cloud.config().limits.disks_per_instance;
    let found = find(cloud, call, &wanted, |world, instance| {
        let data_disks = disks_of(world, &instance.id).filter(|disk| disk.kind == DiskKind::Data);
        (instance.clone(), data_disks.count() < most)
    });
    let region = cloud.region();
    Ok(page.answer("Instances", "Instance", &found, |(instance, has_room)| view(instance, *has_room, region)))
}

/// The operation DescribeInstanceStatus.
pub fn describe_instance_status(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    call.params.text("ZoneId").map(|name| zone(cloud, name)).transpose()?;
    let page = Page::of(call.params)?;
    let ids: Vec<String> = call.params.list("InstanceId").into_iter().map(str::to_owned).collect();
    let wanted = Wanted {
        ids: Some(ids).filter(|ids| !ids.is_empty()),
        zone: call.params.text("ZoneId").map(str::to_owned),
        ..Wanted::default()
    };
    let found = find(cloud, call, &wanted, |_, instance| (instance.id.clone(), instance.state));
    Ok(page.answer(
        "InstanceStatuses",
        "InstanceStatus",
        &found,
        |(id, state)| json!({ "InstanceId": id, "Status": state.word() }),
    ))
}

/// The caller's instances that are wanted, the oldest first.
fn find<T>(
    cloud: &Cloud,
    call: &Call<'_>,
    wanted: &Wanted,
    look: impl Fn(&crate::cloud::store::World, &Instance) -> T,
) -> Vec<T> {
    cloud.store().read(|world| {
        let mine = world.instances.rows().filter(|instance| instance.account == call.account());
        let there = mine.filter(|instance| instance.state != InstanceState::Deleting);
        let mut found: Vec<&Instance> = there.filter(|instance| wanted.has(instance)).collect();
        found.sort_by_key(|instance| (instance.created_at, &instance.id));
        found.into_iter().map(|instance| look(world, instance)).collect()
    })
}

/// What was asked for: every condition has to hold.
#[derive(Default)]
struct Wanted {
    ids: Option<Vec<String>>,
    name: Option<String>,
    status: Option<String>,
    zone: Option<String>,
    image: Option<String>,
    instance_type: Option<String>,
    tags: Vec<Tag>,
}

impl Wanted {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let text = |name: &str| params.text(name).map(str::to_owned);
        let ids = params.array("InstanceIds").ok().filter(|ids| ids.as_ref().is_none_or(|ids| ids.len() <= MOST_IDS));
        let ids = ids.ok_or_else(|| {
            let what = "The specified InstanceIds are invalid. They are a JSON array of 1 to 100 identifiers.";
            ApiError::new("InvalidParameter.InstanceIds", 400, what)
        })?;
        let status = text("Status").filter(|status| !status.eq_ignore_ascii_case("all"));
        let known = ["Pending", "Running", "Starting", "Stopping", "Stopped"];
        if status.as_ref().is_some_and(|status| !known.contains(&status.as_str())) {
            let what = "The specified instance status is not supported.";
            return Err(ApiError::new("InvalidStatus.ValueNotSupported", 400, what));
        }
        Ok(Self {
            ids,
            name: text("InstanceName"),
            status,
            zone: text("ZoneId"),
            image: text("ImageId"),
            instance_type: text("InstanceType"),
            tags: text::tags(params)?,
        })
    }

    fn has(&self, instance: &Instance) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
        self.ids.as_ref().is_none_or(|ids| ids.contains(&instance.id))
            && self.name.as_ref().is_none_or(|pattern| fits(pattern, &instance.name))
            && is(&self.status, instance.state.word())
            && is(&self.zone, &instance.zone)
            && is(&self.image, &instance.image)
            && is(&self.instance_type, &instance.instance_type)
            && text::has_tags(&instance.tags, &self.tags)
    }
}

/// Whether a text is what a pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*');
    let tail = parts.next_back().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(tail)
}

fn view(instance: &Instance, has_room: bool, region: &str) -> Value {
    let addresses = || json!({ "IpAddress": [] });
    let fields = [
        ("InstanceId", json!(instance.id)),
        ("InstanceName", json!(instance.name)),
        ("Description", json!(instance.description)),
        ("RegionId", json!(region)),
        ("ZoneId", json!(instance.zone)),
        ("ClusterId", json!("")),
        ("ImageId", json!(instance.image)),
        ("InstanceType", json!(instance.instance_type)),
        ("InstanceTypeFamily", json!(family(&instance.instance_type))),
        ("HostName", json!(instance.id)),
        ("SerialNumber", json!(instance.host_id)),
        ("HostNqn", json!(instance.nqn)),
        ("HostId", json!(instance.host_id)),
        ("Status", json!(instance.state.word())),
        ("StoppedMode", json!("Not-applicable")),
        ("CreationTime", json!(moment(Some(instance.created_at)))),
        ("StartTime", json!(moment(instance.started_at))),
        ("ExpiredTime", json!(NEVER)),
        ("AutoReleaseTime", json!("")),
        ("InstanceChargeType", json!("PostPaid")),
        ("SaleCycle", json!("")),
        ("SpotStrategy", json!("NoSpot")),
        ("SpotPriceLimit", json!(0.0)),
        ("SpotDuration", json!(0)),
        ("Cpu", json!(0)),
        ("Memory", json!(0)),
        ("GPUAmount", json!(0)),
        ("GPUSpec", json!("")),
        ("LocalStorageAmount", json!(0)),
        ("LocalStorageCapacity", json!(0)),
        ("OSName", json!("")),
        ("OSNameEn", json!("")),
        ("OSType", json!("linux")),
        ("IoOptimized", json!(true)),
        ("DeviceAvailable", json!(has_room)),
        ("DeletionProtection", json!(false)),
        ("Recyclable", json!(false)),
        ("InstanceNetworkType", json!("vpc")),
        ("InternetChargeType", json!("")),
        ("InternetMaxBandwidthIn", json!(0)),
        ("InternetMaxBandwidthOut", json!(0)),
        ("VlanId", json!("")),
        ("KeyPairName", json!("")),
        ("HpcClusterId", json!("")),
        ("DeploymentSetId", json!("")),
        ("ResourceGroupId", json!("")),
        ("CreditSpecification", json!("")),
        ("PublicIpAddress", addresses()),
        ("InnerIpAddress", addresses()),
        ("RdmaIpAddress", addresses()),
        ("VpcAttributes", json!({ "VpcId": "", "VSwitchId": "", "NatIpAddress": "", "PrivateIpAddress": addresses() })),
        ("EipAddress", json!({ "AllocationId": "", "IpAddress": "", "InternetChargeType": "" })),
        ("SecurityGroupIds", json!({ "SecurityGroupId": [] })),
        ("NetworkInterfaces", json!({ "NetworkInterface": [] })),
        ("OperationLocks", json!({ "LockReason": [] })),
        (
            "DedicatedHostAttribute",
            json!({ "DedicatedHostId": "", "DedicatedHostName": "", "DedicatedHostClusterId": "" }),
        ),
        ("DedicatedInstanceAttribute", json!({ "Tenancy": "", "Affinity": "" })),
        ("CpuOptions", json!({ "CoreCount": 0, "ThreadsPerCore": 0, "Numa": "" })),
        ("MetadataOptions", json!({ "HttpEndpoint": "", "HttpTokens": "" })),
        ("EcsCapacityReservationAttr", json!({ "CapacityReservationId": "", "CapacityReservationPreference": "" })),
        ("Tags", tags_view(&instance.tags)),
    ];
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The family of a type: `ecs.g5` of `ecs.g5.large`.
fn family(instance_type: &str) -> &str {
    match instance_type.rsplit_once('.') {
        Some((family, _)) if family.contains('.') => family,
        _ => instance_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in
            [("web", "web"), ("web*", "web-1"), ("*1", "web-1"), ("*", ""), ("w*b*1", "web-1"), ("a*a", "aa")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("web", "web-1"), ("web*", "we"), ("*2", "web-1"), ("a*a", "a"), ("w*x*1", "web-1")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_family_is_a_type_without_its_size() {
        assert_eq!(["ecs.g5.large", "ecs.test", ""].map(family), ["ecs.g5", "ecs.test", ""]);
    }
}
