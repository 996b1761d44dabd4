//! How snapshots, their chains and their usage are seen.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::cloud::ecs::snapshot::tests::{disk_from, list, new_snapshot, used_disk};
use crate::cloud::id::snapshot_link;
use crate::cloud::testing::{REGION, Site, ask, ask_as, refusal};

#[test]
fn snapshots_are_seen_as_documented() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    let params = [("DiskId", disk.as_str()), ("SnapshotName", "name"), ("RetentionDays", "3"), ("Tag.1.Key", "k")];
    ask(&cloud, "CreateSnapshot", &params).expect("it is made");
    let seen = &list(&cloud, &[("RegionId", REGION)])[0];
    for (name, value) in [
        ("SnapshotName", json!("name")),
        ("SnapshotLinkId", json!(snapshot_link(&disk))),
        ("Status", json!("accomplished")),
        ("Progress", json!("100%")),
        ("RemainTime", json!(0)),
        ("CreationTime", json!("2018-06-07T06:08:54Z")),
        ("SourceDiskId", json!(disk)),
        ("SourceDiskSize", json!("20")),
        ("SourceDiskType", json!("data")),
        ("SnapshotType", json!("user")),
        ("RetentionDays", json!(3)),
        ("Usage", json!("none")),
        ("Encrypted", json!(true)),
        ("Category", json!("standard")),
        ("Tags", json!({ "Tag": [{ "TagKey": "k", "TagValue": "" }] })),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
    assert!(seen["KMSKeyId"].as_str().is_some_and(|key| !key.is_empty()));
    assert_eq!(ask_as(&cloud, "other", "DescribeSnapshots", &[]).expect("a list")["TotalCount"], 0);
}

#[test]
fn conditions_choose_snapshots() {
    let site = Site::new();
    let cloud = site.open();
    let (plain, secret) = (used_disk(&cloud, &[]), used_disk(&cloud, &[("Encrypted", "true")]));
    let one = new_snapshot(&cloud, &plain);
    site.clock.fetch_add(3600, Ordering::Relaxed);
    let other = new_snapshot(&cloud, &secret);
    disk_from(&cloud, &one, &[]).expect("it is made");
    let key = list(&cloud, &[("DiskId", &secret)])[0]["KMSKeyId"].as_str().expect("a text").to_owned();
    let (instance, ids) = (format!("i-{plain}"), format!("[\"{one}\"]"));
    let link = snapshot_link(&plain);
    let (none, first, second, both): (&[&String], &[&String], &[&String], &[&String]) =
        (&[], &[&one], &[&other], &[&one, &other]);
    for (name, value, wanted) in [
        ("DiskId", plain.as_str(), first),
        ("InstanceId", &instance, first),
        ("SnapshotIds", &ids, first),
        ("SnapshotIds", "[]", none),
        ("SnapshotLinkId", &link, first),
        ("SnapshotName", "name", none),
        ("Encrypted", "true", second),
        ("Encrypted", "false", both),
        ("KMSKeyId", &key, second),
        ("Status", "accomplished", both),
        ("Status", "failed", none),
        ("Status", "all", both),
        ("SnapshotType", "auto", none),
        ("SnapshotType", "user", both),
        ("SourceDiskType", "Data", both),
        ("SourceDiskType", "System", none),
        ("Usage", "disk", first),
        ("Usage", "none", second),
        ("Category", "Flash", none),
        ("Tag.1.Key", "k", none),
    ] {
        let seen = list(&cloud, &[(name, value)]);
        let seen: Vec<&str> = seen.iter().map(|seen| seen["SnapshotId"].as_str().expect("a text")).collect();
        assert_eq!(seen, wanted.to_vec(), "{name}={value}");
    }
    let from = [("Filter.1.Key", "CreationStartTime"), ("Filter.1.Value", "2018-06-07T07:00Z")];
    assert_eq!(list(&cloud, &from)[0]["SnapshotId"], json!(other));
    for (name, value, code, status) in [
        ("Status", "x", "InvalidStatus.NotFound", 404),
        ("SnapshotType", "x", "InvalidSnapshotType.NotFound", 404),
        ("SourceDiskType", "x", "InvalidSourceDiskType", 404),
        ("Usage", "x", "InvalidUsage", 404),
        ("Category", "x", "InvalidSnapshotCategory.Malformed", 403),
        ("SnapshotLinkId", "sl-x", "InvalidSnapshotLinkId.NotFound", 404),
        ("SnapshotIds", "s-1", "InvalidParameter", 400),
        ("SnapshotIds", &json!(vec!["s"; 101]).to_string(), "InvalidSnapshotIds.Malformed", 403),
        ("Filter.1.Key", "x", "InvalidFilterValue", 404),
        ("RegionId", "x", "InvalidRegionId.NotFound", 404),
        ("DryRun", "true", "DryRunOperation", 400),
    ] {
        assert_eq!(refusal(ask(&cloud, "DescribeSnapshots", &[(name, value)])), (code.to_owned(), status), "{name}");
    }
}

#[test]
fn chains_tell_how_much_they_hold() {
    let site = Site::new();
    let cloud = site.open();
    let (disk, other) = (used_disk(&cloud, &[("DiskName", "data")]), used_disk(&cloud, &[]));
    site.target().disks.get_mut(&disk).expect("there").content = "12345".to_owned();
    new_snapshot(&cloud, &disk);
    new_snapshot(&cloud, &disk);
    new_snapshot(&cloud, &other);
    let ids = json!([disk]).to_string();
    let links = ask(&cloud, "DescribeSnapshotLinks", &[("DiskIds", &ids)]).expect("a list");
    let instance = format!("i-{disk}");
    let wanted = json!({
        "SnapshotLinkId": snapshot_link(&disk), "RegionId": REGION, "InstanceId": instance, "InstanceName": instance,
        "SourceDiskId": disk, "SourceDiskName": "data", "SourceDiskSize": 20, "SourceDiskType": "data",
        "TotalSize": 10, "TotalCount": 2,
    });
    assert_eq!(links["SnapshotLinks"]["SnapshotLink"], json!([wanted]));
    let of = |name: &str, value: &str| ask(&cloud, "DescribeSnapshotLinks", &[(name, value)]);
    assert_eq!(of("InstanceId", &instance).expect("a list")["TotalCount"], 1);
    assert_eq!(of("SnapshotLinkIds", "[\"sl-x\"]").expect("a list")["TotalCount"], 0);
    assert_eq!(refusal(of("DiskIds", "x")), ("InvalidDiskIds".into(), 400));
    assert_eq!(refusal(of("SnapshotLinkIds", "x")), ("InvalidSnapshotLinkIds".into(), 400));
    assert_eq!(refusal(of("RegionId", "x")), ("InvalidRegionId".into(), 400));
    let usage = ask(&cloud, "DescribeSnapshotsUsage", &[]).expect("numbers");
    assert_eq!(usage, json!({ "SnapshotCount": 3, "SnapshotSize": 10 }));
}

#[test]
fn a_snapshot_gets_another_name() {
    let cloud = Site::new().open();
    let snapshot = new_snapshot(&cloud, &used_disk(&cloud, &[]));
    let modify = |more: &[(&str, &str)]| {
        ask(&cloud, "ModifySnapshotAttribute", &[&[("SnapshotId", snapshot.as_str())], more].concat())
    };
    modify(&[("SnapshotName", "name"), ("Description", "text")]).expect("it has them");
    let seen = &list(&cloud, &[])[0];
    assert_eq!((&seen["SnapshotName"], &seen["Description"]), (&json!("name"), &json!("text")));
    assert_eq!(refusal(modify(&[])), ("NoAttributeToModify".into(), 400));
    assert_eq!(refusal(modify(&[("SnapshotName", "automatic")])), ("InvalidSnapshotName.Malformed".into(), 400));
    let unknown = ask(&cloud, "ModifySnapshotAttribute", &[("SnapshotId", "s-none"), ("SnapshotName", "name")]);
    assert_eq!(refusal(unknown), ("InvalidSnapshotId.NotFound".into(), 404));
}
