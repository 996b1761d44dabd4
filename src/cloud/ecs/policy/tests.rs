//! The rules of policies of automatic snapshots.

use serde_json::{Value, json};

use crate::cloud::crash_tests::{cut_everywhere, new_disk};
use crate::cloud::error::ApiError;
use crate::cloud::service::Cloud;
use crate::cloud::testing::{REGION, Site, ask, ask_as, refusal};

/// A policy of `acme` for these hours of every day: its identifier.
pub fn new_policy(cloud: &Cloud, hours: &str, days: &str) -> String {
    let params = [
        ("regionId", REGION),
        ("timePoints", hours),
        ("repeatWeekdays", r#"["1","2","3","4","5","6","7"]"#),
        ("retentionDays", days),
    ];
    let answer = ask(cloud, "CreateAutoSnapshotPolicy", &params).expect("it is made");
    answer["AutoSnapshotPolicyId"].as_str().expect("a text").to_owned()
}

/// Gives disks a policy.
pub fn apply(cloud: &Cloud, policy: &str, disks: &[&str]) -> Result<Value, ApiError> {
    let params = [("autoSnapshotPolicyId", policy), ("diskIds", &json!(disks).to_string())];
    ask(cloud, "ApplyAutoSnapshotPolicy", &params)
}

fn list(cloud: &Cloud) -> Vec<Value> {
    let answer = ask(cloud, "DescribeAutoSnapshotPolicyEx", &[("RegionId", REGION)]).expect("a list");
    answer["AutoSnapshotPolicies"]["AutoSnapshotPolicy"].as_array().expect("a list").clone()
}

#[test]
fn parameters_of_a_policy_are_checked_with_small_and_large_letters() {
    let cloud = Site::new().open();
    let good = [("timePoints", "[\"0\",23]"), ("repeatWeekdays", "[\"7\",\"1\",\"1\"]"), ("retentionDays", "-1")];
    ask(&cloud, "CreateAutoSnapshotPolicy", &good).expect("it is made");
    for (name, value) in [
        ("timePoints", "[\"24\"]"),
        ("timePoints", "[]"),
        ("timePoints", "0"),
        ("repeatWeekdays", "[\"0\"]"),
        ("repeatWeekdays", "[\"8\"]"),
        ("retentionDays", "0"),
        ("retentionDays", "-2"),
        ("retentionDays", "65537"),
        ("regionId", "elsewhere"),
        ("autoSnapshotPolicyName", "1"),
    ] {
        for large in [false, true] {
            let written = |name: &str| if large { name[..1].to_uppercase() + &name[1..] } else { name.to_owned() };
            let mut params = vec![(written(name), value)];
            params.extend(good.iter().filter(|(good, _)| *good != name).map(|(good, value)| (written(good), *value)));
            let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let made = ask(&cloud, "CreateAutoSnapshotPolicy", &params);
            assert_eq!(refusal(made), ("ParameterInvalid".into(), 404), "{name}={value}");
        }
    }
    let made = ask(&cloud, "CreateAutoSnapshotPolicy", &good[1..]);
    assert_eq!(refusal(made), ("MissingParameter".into(), 400));
}

#[test]
fn an_account_has_so_many_policies() {
    let mut site = Site::new();
    site.limits.policies = 1;
    let cloud = site.open();
    new_policy(&cloud, "[0]", "1");
    let good = [("timePoints", "[0]"), ("repeatWeekdays", "[1]"), ("retentionDays", "1")];
    let made = ask(&cloud, "CreateAutoSnapshotPolicy", &good);
    assert_eq!(refusal(made), ("AutoSnapshotPolicy.QuotaExceed".into(), 403));
    ask_as(&cloud, "other", "CreateAutoSnapshotPolicy", &good).expect("another account has its own");
}

#[test]
fn policies_are_seen_changed_and_deleted() {
    let cloud = Site::new().open();
    let policy = new_policy(&cloud, "[\"10\",\"2\"]", "30");
    let disk = new_disk(&cloud, &[]);
    apply(&cloud, &policy, &[&disk]).expect("it has the policy");
    let wanted = json!({
        "AutoSnapshotPolicyId": policy, "RegionId": REGION, "AutoSnapshotPolicyName": "",
        "TimePoints": "[\"2\",\"10\"]", "RepeatWeekdays": "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\"]",
        "RetentionDays": 30, "DiskNums": 1, "VolumeNums": 0, "CreationTime": "2018-06-07T06:08:54Z",
        "Status": "Normal", "EnableCrossRegionCopy": false, "TargetCopyRegions": "", "Tags": { "Tag": [] },
    });
    assert_eq!(list(&cloud), [wanted]);
    let modify = [("autoSnapshotPolicyId", policy.as_str()), ("retentionDays", "-1"), ("autoSnapshotPolicyName", "ab")];
    ask(&cloud, "ModifyAutoSnapshotPolicyEx", &modify).expect("it is changed");
    let seen = &list(&cloud)[0];
    assert_eq!((&seen["RetentionDays"], &seen["AutoSnapshotPolicyName"]), (&json!(-1), &json!("ab")));
    assert_eq!(seen["TimePoints"], "[\"2\",\"10\"]");
    for action in ["ModifyAutoSnapshotPolicyEx", "DeleteAutoSnapshotPolicy"] {
        let params = [("autoSnapshotPolicyId", policy.as_str()), ("retentionDays", "1")];
        assert_eq!(refusal(ask_as(&cloud, "other", action, &params)), ("ParameterInvalid".into(), 404));
    }
    ask(&cloud, "DeleteAutoSnapshotPolicy", &[("autoSnapshotPolicyId", &policy)]).expect("it is deleted");
    assert!(list(&cloud).is_empty());
    let disks = ask(&cloud, "DescribeDisks", &[]).expect("a list");
    assert_eq!(disks["Disks"]["Disk"][0]["AutoSnapshotPolicyId"], "");
}

#[test]
fn a_policy_is_applied_to_all_disks_or_none() {
    let cloud = Site::new().open();
    let policy = new_policy(&cloud, "[0]", "1");
    let disk = new_disk(&cloud, &[]);
    let of_disk = || {
        let disks = ask(&cloud, "DescribeDisks", &[]).expect("a list");
        disks["Disks"]["Disk"][0]["AutoSnapshotPolicyId"].as_str().expect("a text").to_owned()
    };
    assert_eq!(refusal(apply(&cloud, &policy, &[&disk, "d-none"])), ("InvalidDiskId.NotFound".into(), 404));
    assert_eq!(of_disk(), "");
    assert_eq!(refusal(apply(&cloud, "sp-none", &[&disk])), ("ParameterInvalid".into(), 404));
    assert_eq!(refusal(apply(&cloud, &policy, &[])), ("ParameterInvalid".into(), 404));
    apply(&cloud, &policy, &[&disk]).expect("it has the policy");
    assert_eq!(of_disk(), policy);
    let cancel = |ids: &str| ask(&cloud, "CancelAutoSnapshotPolicy", &[("diskIds", ids)]);
    assert_eq!(refusal(cancel("d-1")), ("ParameterInvalid".into(), 404));
    assert_eq!(refusal(cancel("[\"d-none\"]")), ("InvalidDiskId.NotFound".into(), 404));
    cancel(&json!([disk]).to_string()).expect("it has none");
    assert_eq!(of_disk(), "");
}

#[test]
fn a_policy_is_made_and_deleted_or_not() {
    let site = Site::new();
    let cloud = site.open();
    let good = [("timePoints", "[0]"), ("repeatWeekdays", "[1]"), ("retentionDays", "1"), ("ClientToken", "t")];
    cut_everywhere(&site, |cloud| ask(cloud, "CreateAutoSnapshotPolicy", &good));
    let policy = new_policy(&cloud, "[0]", "1");
    cut_everywhere(&site, |cloud| ask(cloud, "DeleteAutoSnapshotPolicy", &[("autoSnapshotPolicyId", &policy)]));
}
