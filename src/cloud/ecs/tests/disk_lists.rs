//! DescribeDisks: what it shows, what it can be asked for, and what it refuses.

use super::*;
use crate::cloud::crash_tests::new_disk;
use crate::cloud::rows::InstanceState;
use crate::cloud::testing::{Site, new_instance};
use serde_json::{Value, json};

#[test]
fn describe_disks_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let many = json!(vec!["d-1"; 101]).to_string();
    let tags: Vec<(String, String)> = (1..=21).map(|n| (format!("Tag.{n}.Key"), format!("k{n}"))).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (params, code, status) in [
        (&[("RegionId", "elsewhere")][..], "InvalidRegion.NotFound", 400),
        (&[("ZoneId", "zone-x")], "InvalidZoneId.NotFound", 400),
        (&[("DiskIds", "d-1")], "InvalidParameter.DiskIds", 400),
        (&[("DiskIds", "[{}]")], "InvalidParameter.DiskIds", 400),
        (&[("DiskIds", &many)], "InvalidDiskIds.Malformed", 403),
        (&[("DiskType", "tape")], "InvalidDiskType.ValueNotSupported", 400),
        (&[("Category", "tape")], "InvalidCategory.ValueNotSupported", 400),
        (&[("Status", "Deleting")], "InvalidStatus.ValueNotSupported", 400),
        (&[("DiskChargeType", "Free")], "InvalidDiskChargeType.NotFound", 404),
        (&[("LockReason", "boredom")], "InvalidLockReason.NotFound", 404),
        (&[("MultiAttach", "Maybe")], "InvalidParameter.MultiAttach", 403),
        (
            &[("MultiAttach", "Disabled"), ("EnableShared", "true")],
            "InvalidParameter.MultiAttachAndEnableSharedNotMatch",
            403,
        ),
        (&[("Tag.1.Value", "v")], "InvalidTag.Mismatch", 400),
        (&tags, "InvalidTagCount", 400),
        (&[("Filter.1.Key", "Size"), ("Filter.1.Value", "2018-06-07T06:08Z")], "InvalidFilterKey.NotFound", 404),
        (&[("Filter.1.Key", "CreationStartTime"), ("Filter.1.Value", "now")], "InvalidFilterValue", 404),
        (&[("PageSize", "101")], "InvalidParameter", 400),
        (&[("Encrypted", "x")], "InvalidParameter", 400),
        (&[("DryRun", "true")], "DryRunOperation", 400),
        // A rehearsal fails as the request itself would.
        (&[("DryRun", "true"), ("Status", "x")], "InvalidStatus.ValueNotSupported", 400),
    ] {
        refused(&cloud, "DescribeDisks", params, code, status);
    }
}

#[test]
fn every_condition_of_describe_disks_has_to_hold() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let plain = new_disk(&cloud, &[("DiskName", "all"), ("Tag.1.Key", "k"), ("Tag.1.Value", "v")]);
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    ask(&cloud, "AttachDisk", &[("DiskId", &shared), ("InstanceId", &instance)]).expect("it is attached");
    let both = json!([plain, shared]).to_string();
    let found = |params: &[(&str, &str)]| {
        let answer = ask(&cloud, "DescribeDisks", params).expect("a list");
        let disks = answer["Disks"]["Disk"].as_array().expect("a list").clone();
        assert_eq!(answer["TotalCount"], disks.len());
        let mut ids: Vec<String> =
            disks.iter().map(|disk| disk["DiskId"].as_str().expect("a text").to_owned()).collect();
        ids.sort();
        ids
    };
    let (one, two) = (vec![plain.clone()], vec![shared.clone()]);
    let mut all = vec![plain.clone(), shared.clone()];
    all.sort();
    for (params, ids) in [
        (&[("Status", "All"), ("DiskType", "all"), ("Category", "all")][..], &all),
        (&[("DiskIds", &both)], &all),
        (&[("DiskIds", "[]")], &vec![]),
        (&[("DiskIds", r#"["d-none"]"#)], &vec![]),
        (&[("DiskIds", &both), ("Status", "In_use")], &two),
        (&[("DiskName", "all")], &one),
        (&[("InstanceId", "i-1")], &two),
        (&[("MultiAttach", "Enabled"), ("EnableShared", "true")], &two),
        (&[("MultiAttach", "Disabled")], &one),
        (&[("Tag.1.Key", "k")], &one),
        (&[("Tag.1.Key", "k"), ("Tag.1.Value", "w")], &vec![]),
        (&[("DiskChargeType", "PostPaid")], &all),
        (&[("DiskChargeType", "PrePaid")], &vec![]),
        (&[("LockReason", "security")], &vec![]),
        (&[("ResourceGroupId", "rg-1")], &vec![]),
        (&[("ZoneId", "zone-b")], &vec![]),
        (&[("DiskType", "system")], &vec![]),
    ] {
        assert_eq!(&found(params), ids, "{params:?}");
    }
}

#[test]
fn a_disk_is_shown_with_the_names_and_types_of_its_page() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let made = [
        ("Encrypted", "true"),
        ("DiskName", "data"),
        ("Description", "a disk"),
        ("Tag.1.Key", "k"),
        ("Tag.1.Value", "v"),
    ];
    let disk = new_disk(&cloud, &made);
    ask(&cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).expect("it is attached");
    let answer = ask(&cloud, "DescribeDisks", &[("AdditionalAttributes.1", "IOPS")]).expect("a list");
    let key = disk_row(&cloud, &disk).key_id;
    let shown = &answer["Disks"]["Disk"][0];
    let mut wanted = json!({
        "DiskId": disk, "RegionId": "cn-test", "ZoneId": ZONE, "DiskName": "data", "Description": "a disk", "Type": "data",
        "Category": "cloud_ssd", "Size": 20, "ImageId": "", "SourceSnapshotId": "", "ProductCode": "", "Portable": true,
        "Status": "In_use", "InstanceId": "i-1", "Device": "/dev/xvdb", "DeleteWithInstance": false,
        "DeleteAutoSnapshot": true, "EnableAutoSnapshot": true, "EnableAutomatedSnapshotPolicy": false,
        "AutoSnapshotPolicyId": "", "CreationTime": "2018-06-07T06:08:54Z", "AttachedTime": "2018-06-07T06:08:54Z",
        "DetachedTime": "", "DiskChargeType": "PostPaid", "ExpiredTime": "2999-09-08T16:00Z", "Encrypted": true,
        "KMSKeyId": key, "MultiAttach": "Disabled", "PerformanceLevel": "", "SerialNumber": disk[2..],
        "ResourceGroupId": "", "StorageSetId": "",
    });
    let more = json!({
        "IOPS": 1800, "IOPSRead": 1800, "IOPSWrite": 1800, "MountInstanceNum": 0, "EnableShared": false,
        "Attachments": { "Attachment": [
            { "InstanceId": "i-1", "Device": "/dev/xvdb", "AttachedTime": "2018-06-07T06:08:54Z" },
        ] },
        "MountInstances": { "MountInstance": [] }, "OperationLocks": { "OperationLock": [] },
        "Tags": { "Tag": [{ "TagKey": "k", "TagValue": "v" }] },
    });
    let more = more.as_object().expect("an object").clone();
    wanted.as_object_mut().expect("an object").extend(more);
    assert_eq!(*shown, wanted);
    let plain = ask(&cloud, "DescribeDisks", &[]).expect("a list");
    assert_eq!(plain["Disks"]["Disk"][0]["IOPS"], Value::Null, "it was not asked for");
}

#[test]
fn of_a_shared_disk_the_list_tells_who_has_it() {
    let cloud = Site::new().open();
    let disk = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    for instance in ["i-1", "i-2"] {
        let instance = new_instance(&cloud, instance, InstanceState::Running);
        ask(&cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).expect("it is attached");
    }
    let answer = ask(&cloud, "DescribeDisks", &[("InstanceId", "i-2")]).expect("a list");
    let shown = &answer["Disks"]["Disk"][0];
    assert_eq!((&shown["MultiAttach"], &shown["EnableShared"]), (&json!("Enabled"), &json!(true)));
    assert_eq!((&shown["InstanceId"], &shown["Device"]), (&json!(""), &json!("")));
    let who: Vec<&Value> =
        shown["Attachments"]["Attachment"].as_array().expect("a list").iter().map(|at| &at["InstanceId"]).collect();
    assert_eq!(who, ["i-1", "i-2"]);
    assert_eq!(shown["MountInstanceNum"], 2);
}
