//! What is told of instances.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::*;
use crate::cloud::testing::{REGION, Site, ask_as, refusal};

fn ids(answer: &Value) -> Vec<&str> {
    let found = answer["Instances"]["Instance"].as_array().expect("a list");
    found.iter().map(|instance| instance["InstanceId"].as_str().expect("a text")).collect()
}

#[test]
fn an_instance_is_told_as_it_is_documented() {
    let site = Site::new();
    let cloud = site.open();
    let id = run_instance(&cloud, &[("InstanceName", "web"), ("Tag.1.Key", "k"), ("Tag.1.Value", "v")]);
    let answer = ask(&cloud, "DescribeInstances", &[("RegionId", REGION)]).expect("it is told");
    assert_eq!((&answer["TotalCount"], &answer["PageNumber"], &answer["PageSize"]), (&json!(1), &json!(1), &json!(10)));
    let instance = &answer["Instances"]["Instance"][0];
    let row = row(&cloud, &id);
    for (field, value) in [
        ("InstanceId", json!(id)),
        ("InstanceName", json!("web")),
        ("Status", json!("Running")),
        ("ZoneId", json!(ZONE)),
        ("RegionId", json!(REGION)),
        ("ImageId", json!("m-blank")),
        ("InstanceType", json!("ecs.g5.large")),
        ("InstanceTypeFamily", json!("ecs.g5")),
        ("CreationTime", json!("2018-06-07T06:08:54Z")),
        ("StartTime", json!("2018-06-07T06:08:54Z")),
        ("DeviceAvailable", json!(true)),
        ("HostNqn", json!(row.nqn)),
        ("HostId", json!(row.host_id)),
        ("Tags", json!({ "Tag": [{ "TagKey": "k", "TagValue": "v" }] })),
        ("PublicIpAddress", json!({ "IpAddress": [] })),
        ("InnerIpAddress", json!({ "IpAddress": [] })),
        ("SecurityGroupIds", json!({ "SecurityGroupId": [] })),
        ("OperationLocks", json!({ "LockReason": [] })),
        ("NetworkInterfaces", json!({ "NetworkInterface": [] })),
    ] {
        assert_eq!(instance[field], value, "{field}");
    }
    for (field, inner) in [("VpcAttributes", "PrivateIpAddress"), ("EipAddress", "IpAddress")] {
        assert!(instance[field].get(inner).is_some(), "{field}");
    }
}

#[test]
fn every_condition_has_to_hold() {
    let site = Site::new();
    let cloud = site.open();
    let one = new_instance(&cloud, &[("InstanceName", "web-1"), ("Tag.1.Key", "k"), ("Tag.1.Value", "v")]);
    site.clock.fetch_add(60, Ordering::Relaxed);
    let two = run_instance(&cloud, &[("InstanceName", "web-2"), ("ZoneId", "zone-b")]);
    let list = format!("[\"{two}\",\"i-nothing\"]");
    let table: &[(Pairs<'_>, &[&str])] = &[
        (&[], &[&one, &two]),
        (&[("InstanceIds", &list)], &[&two]),
        (&[("InstanceIds", "[]")], &[]),
        (&[("InstanceName", "web-1")], &[&one]),
        (&[("InstanceName", "web*")], &[&one, &two]),
        (&[("Status", "Running")], &[&two]),
        (&[("Status", "Starting")], &[]),
        (&[("ZoneId", "zone-b")], &[&two]),
        (&[("ImageId", "m-blank")], &[&one, &two]),
        (&[("ImageId", "m-other")], &[]),
        (&[("InstanceType", "ecs.g5.large"), ("Status", "Stopped")], &[&one]),
        (&[("Tag.1.Key", "k")], &[&one]),
        (&[("PageSize", "1"), ("PageNumber", "2")], &[&two]),
        (&[("MaxResults", "1")], &[&one]),
    ];
    for (params, wanted) in table {
        let answer = ask(&cloud, "DescribeInstances", params).expect("it is told");
        assert_eq!(ids(&answer), *wanted, "{params:?}");
    }
    assert!(ids(&ask_as(&cloud, "other", "DescribeInstances", &[]).expect("it is told")).is_empty());
    for (name, value, code, status) in [
        ("InstanceIds", "i-1", "InvalidParameter.InstanceIds", 400),
        ("Status", "Tired", "InvalidStatus.ValueNotSupported", 400),
        ("RegionId", "elsewhere", "InvalidRegionId.NotFound", 404),
        ("PageSize", "101", "InvalidParameter", 400),
        ("DryRun", "true", "DryRunOperation", 400),
    ] {
        assert_eq!(refusal(ask(&cloud, "DescribeInstances", &[(name, value)])), (code.to_owned(), status));
    }
}

#[test]
fn statuses_are_told() {
    let site = Site::new();
    let cloud = site.open();
    let one = new_instance(&cloud, &[]);
    site.clock.fetch_add(60, Ordering::Relaxed);
    let two = run_instance(&cloud, &[("ZoneId", "zone-b")]);
    let of = |params: &[(&str, &str)]| {
        let answer = ask(&cloud, "DescribeInstanceStatus", params).expect("it is told");
        answer["InstanceStatuses"]["InstanceStatus"].clone()
    };
    let (first, second) =
        (json!({ "InstanceId": one, "Status": "Stopped" }), json!({ "InstanceId": two, "Status": "Running" }));
    assert_eq!(of(&[]), json!([first, second]));
    assert_eq!(of(&[("ZoneId", "zone-b")]), json!([second]));
    assert_eq!(of(&[("InstanceId.1", &one)]), json!([first]));
    assert_eq!(of(&[("InstanceId.1", "i-nothing")]), json!([]));
    let nowhere = ask(&cloud, "DescribeInstanceStatus", &[("ZoneId", "nowhere")]);
    assert_eq!(refusal(nowhere), ("InvalidZoneId.NotFound".to_owned(), 404));
}
