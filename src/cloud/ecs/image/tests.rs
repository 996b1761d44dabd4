//! The rules of images, each with its code.

use serde_json::{Value, json};

use crate::cloud::crash_tests::{check, cut_everywhere, new_disk};
use crate::cloud::ecs::image::blank::BLANK;
use crate::cloud::ecs::snapshot::tests::{change_disk, new_snapshot, used_disk};
use crate::cloud::error::ApiError;
use crate::cloud::rows::{DiskKind, Instance, InstanceState};
use crate::cloud::service::Cloud;
use crate::cloud::testing::{REGION, Site, ask, ask_as, new_instance, refusal};

/// A running instance of `acme` with a system disk and a data disk: its identifier and theirs.
pub fn machine(cloud: &Cloud, encrypted: &str) -> (String, String, String) {
    let system = used_disk(cloud, &[]);
    change_disk(cloud, &system, |disk| disk.kind = DiskKind::System);
    let (instance, data) = (format!("i-{system}"), new_disk(cloud, &[("Encrypted", encrypted)]));
    ask(cloud, "AttachDisk", &[("DiskId", &data), ("InstanceId", &instance)]).expect("it is attached");
    (instance, system, data)
}

/// An image: its identifier.
pub fn new_image(cloud: &Cloud, params: &[(&str, &str)]) -> String {
    let answer = ask(cloud, "CreateImage", params).expect("it is made");
    answer["ImageId"].as_str().expect("a text").to_owned()
}

fn change_instance(cloud: &Cloud, id: &str, change: impl FnOnce(&mut Instance)) {
    let changed = cloud.store().change(|world| -> Result<(), ApiError> {
        change(world.instances.get_mut(id).expect("it is there"));
        Ok(())
    });
    changed.expect("it lives");
}

/// The images that an account sees.
pub fn list(cloud: &Cloud, account: &str, params: &[(&str, &str)]) -> Vec<Value> {
    let answer = ask_as(cloud, account, "DescribeImages", params).expect("a list");
    answer["Images"]["Image"].as_array().expect("a list").clone()
}

fn ids(images: &[Value]) -> Vec<&str> {
    images.iter().map(|image| image["ImageId"].as_str().expect("a text")).collect()
}

#[test]
fn an_image_of_an_instance_has_snapshots_of_its_disks() {
    let site = Site::new();
    let cloud = site.open();
    let (instance, system, data) = machine(&cloud, "true");
    let other = new_snapshot(&cloud, &data);
    // The instance counts before everything else.
    let image = new_image(&cloud, &[("InstanceId", &instance), ("SnapshotId", &other), ("ImageName", "name")]);
    let seen = &list(&cloud, "acme", &[("ImageId", &image)])[0];
    let parts = seen["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().expect("a list");
    let kinds: Vec<&Value> = parts.iter().map(|part| &part["Type"]).collect();
    assert_eq!(kinds, [&json!("system"), &json!("data")]);
    cloud.store().read(|world| {
        let row = |part: &Value| world.snapshots.get(part["SnapshotId"].as_str().expect("a text")).expect("there");
        assert_eq!((&row(&parts[0]).disk, row(&parts[0]).encrypted), (&system, false));
        assert_eq!((&row(&parts[1]).disk, row(&parts[1]).encrypted), (&data, true));
    });
    let usage = ask(&cloud, "DescribeSnapshots", &[("Usage", "image")]).expect("a list");
    assert_eq!(usage["TotalCount"], 2);
    check(&cloud, &site);
}

#[test]
fn an_instance_rests_and_has_a_system_disk_when_an_image_is_made() {
    let mut site = Site::new();
    site.limits.snapshots_per_disk = 1;
    let cloud = site.open();
    let make = |instance: &str| ask(&cloud, "CreateImage", &[("InstanceId", instance)]);
    assert_eq!(refusal(make("i-none")), ("InvalidInstanceId.NotFound".into(), 400));
    let empty = new_instance(&cloud, "i-1", InstanceState::Running);
    assert_eq!(refusal(make(&empty)), ("InvalidInstanceId.ValueNotSupported".into(), 400));
    let (instance, _, data) = machine(&cloud, "false");
    change_instance(&cloud, &instance, |instance| instance.state = InstanceState::Starting);
    assert_eq!(refusal(make(&instance)), ("IncorrectInstanceStatus".into(), 400));
    change_instance(&cloud, &instance, |instance| instance.state = InstanceState::Stopped);
    new_snapshot(&cloud, &data);
    assert_eq!(refusal(make(&instance)), ("QuotaExceed.Snapshot".into(), 403));
    let theirs = ask_as(&cloud, "other", "CreateImage", &[("InstanceId", &instance)]);
    assert_eq!(refusal(theirs), ("InvalidInstanceId.NotFound".into(), 400));
}

#[test]
fn parameters_of_an_image_are_checked() {
    let cloud = Site::new().open();
    let (_, system, data) = machine(&cloud, "false");
    let (system, data) = (new_snapshot(&cloud, &system), new_snapshot(&cloud, &data));
    new_image(&cloud, &[("SnapshotId", &system), ("ImageName", "taken"), ("ClientToken", "t")]);
    let long = "1".repeat(41);
    for (name, value, code, status) in [
        ("ImageName", "aliyun1", "InvalidImageName.Malformed", 400),
        ("ImageName", "1", "InvalidImageName.Malformed", 400),
        ("ImageName", "taken", "InvalidImageName.Duplicated", 400),
        ("ImageVersion", &long, "InvalidImageVersion.Malformed", 400),
        ("Description", "1", "InvalidDescription.Malformed", 400),
        ("Architecture", "s390", "InvalidArchitecture.Malformed", 400),
        ("Platform", &long, "InvalidPlatform.Malformed", 400),
        ("RegionId", "elsewhere", "InvalidRegionId.NotFound", 404),
        ("ClientToken", "t", "InvalidParamter.Conflict", 403),
        ("Tag.1.Key", "acs:", "InvalidTagKey.Malformed", 400),
    ] {
        let made = ask(&cloud, "CreateImage", &[("SnapshotId", &system), (name, value)]);
        assert_eq!(refusal(made), (code.to_owned(), status), "{name}={value}");
    }
    for (params, code, status) in [
        (&[][..], "MissingParameter", 400),
        (&[("SnapshotId", "s-none")], "InvalidSnapshotId.NotFound", 404),
        (&[("SnapshotId", &data)], "OperationDenied", 403),
        (&[("DiskDeviceMapping.1.Size", "40")], "MissingParameter", 400),
        (&[("DiskDeviceMapping.1.SnapshotId", &data)], "OperationDenied", 400),
        (
            &[("DiskDeviceMapping.1.SnapshotId", &system), ("DiskDeviceMapping.2.SnapshotId", &system)],
            "OperationDenied",
            400,
        ),
        (
            &[("DiskDeviceMapping.1.SnapshotId", &data), ("DiskDeviceMapping.1.DiskType", "system")],
            "OperationDenied",
            403,
        ),
        (
            &[("DiskDeviceMapping.1.SnapshotId", &data), ("DiskDeviceMapping.1.DiskType", "x")],
            "InvalidDiskType.ValueNotSupported",
            400,
        ),
        (
            &[("DiskDeviceMapping.1.SnapshotId", &system), ("DiskDeviceMapping.1.Size", "19")],
            "InvalidSize.ValueNotSupported",
            400,
        ),
        (
            &[("DiskDeviceMapping.1.SnapshotId", &system), ("DiskDeviceMapping.1.Device", "/dev/sda")],
            "InvalidDevice.Malformed",
            400,
        ),
        (
            &[
                ("DiskDeviceMapping.1.SnapshotId", &system),
                ("DiskDeviceMapping.1.Device", "/dev/xvdb"),
                ("DiskDeviceMapping.2.SnapshotId", &data),
                ("DiskDeviceMapping.2.Device", "/dev/xvdb"),
            ],
            "InvalidDevice.InUse",
            400,
        ),
    ] {
        let params: Vec<(&str, &str)> = params.to_vec();
        assert_eq!(refusal(ask(&cloud, "CreateImage", &params)), (code.to_owned(), status), "{params:?}");
    }
}

#[test]
fn an_image_of_snapshots_has_them_as_they_are_mapped() {
    let cloud = Site::new().open();
    let (_, system, data) = machine(&cloud, "true");
    let (system, data) = (new_snapshot(&cloud, &system), new_snapshot(&cloud, &data));
    let params = [
        ("DiskDeviceMapping.1.SnapshotId", data.as_str()),
        ("DiskDeviceMapping.1.Size", "50"),
        ("DiskDeviceMapping.2.SnapshotId", &system),
        ("DiskDeviceMapping.2.DiskType", "system"),
        ("DiskDeviceMapping.3.SnapshotId", &data),
        ("DiskDeviceMapping.3.Device", "/dev/xvdb"),
        // The mapping counts before the snapshot.
        ("SnapshotId", "s-none"),
    ];
    let image = new_image(&cloud, &params);
    let seen = &list(&cloud, "acme", &[("ImageId", &image)])[0];
    let parts = seen["DiskDeviceMappings"]["DiskDeviceMapping"].as_array().expect("a list");
    let of = |name: &str| parts.iter().map(|part| part[name].as_str().expect("a text")).collect::<Vec<&str>>();
    assert_eq!(of("Device"), ["/dev/xvda", "/dev/xvdc", "/dev/xvdb"]);
    assert_eq!(of("Size"), ["20", "50", "20"]);
    assert_eq!(of("SnapshotId"), [&system, &data, &data]);
}

#[test]
fn images_are_seen_as_documented() {
    let cloud = Site::new().open();
    let (instance, system, data) = machine(&cloud, "false");
    let snapshot = new_snapshot(&cloud, &system);
    let params = [("SnapshotId", snapshot.as_str()), ("ImageName", "name"), ("ImageVersion", "1"), ("Tag.1.Key", "k")];
    let image = new_image(&cloud, &params);
    let seen = &list(&cloud, "acme", &[("ImageId", &image)])[0];
    for (name, value) in [
        ("ImageName", json!("name")),
        ("ImageVersion", json!("1")),
        ("ImageOwnerAlias", json!("self")),
        ("Architecture", json!("x86_64")),
        ("OSType", json!("linux")),
        ("Size", json!(20)),
        ("Status", json!("Available")),
        ("Progress", json!("100%")),
        ("Usage", json!("none")),
        ("IsSelfShared", json!("False")),
        ("CreationTime", json!("2018-06-07T06:08:54Z")),
        ("Tags", json!({ "Tag": [{ "TagKey": "k", "TagValue": "" }] })),
    ] {
        assert_eq!(seen[name], value, "{name}");
    }
    assert_eq!(seen["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"], json!(snapshot));
    let answer = ask(&cloud, "DescribeImages", &[]).expect("a list");
    assert_eq!((&answer["RegionId"], &answer["TotalCount"]), (&json!(REGION), &json!(2)));

    change_instance(&cloud, &instance, |instance| instance.image = image.clone());
    let (blank, own, both): (&[&str], &[&str], &[&str]) = (&[BLANK], &[&image], &[BLANK, &image]);
    for (name, value, wanted) in [
        ("ImageId", format!("{image},{BLANK}"), both),
        ("ImageName", "name".to_owned(), own),
        ("ImageOwnerAlias", "system".to_owned(), blank),
        ("ImageOwnerAlias", "self".to_owned(), own),
        ("ImageOwnerAlias", "others".to_owned(), &[]),
        ("SnapshotId", snapshot.clone(), own),
        ("Status", "Creating".to_owned(), &[]),
        ("Usage", "instance".to_owned(), own),
        ("Usage", "none".to_owned(), blank),
        ("OSType", "windows".to_owned(), &[]),
        ("Architecture", "x86_64".to_owned(), both),
        ("Tag.1.Key", "k".to_owned(), own),
    ] {
        assert_eq!(ids(&list(&cloud, "acme", &[(name, &value)])), wanted, "{name}={value}");
    }
    for (name, code, status) in [
        ("ImageOwnerAlias", "InvalidImageOwnerAlias.ValueNotSupported", 400),
        ("Usage", "InvalidUsage", 404),
        ("OSType", "InvalidOSType", 404),
        ("Architecture", "InvalidArchitecture", 404),
        ("RegionId", "InvalidRegionId.NotFound", 404),
    ] {
        assert_eq!(refusal(ask(&cloud, "DescribeImages", &[(name, "x")])), (code.to_owned(), status), "{name}");
    }
    assert_eq!(refusal(ask(&cloud, "DescribeImages", &[("DryRun", "true")])).0, "DryRunOperation");
    drop(data);
}

#[test]
fn an_image_that_is_used_or_shared_stays() {
    let site = Site::new();
    let cloud = site.open();
    let (instance, system, _) = machine(&cloud, "false");
    let snapshot = new_snapshot(&cloud, &system);
    let image = new_image(&cloud, &[("SnapshotId", &snapshot)]);
    let delete = |force: &str| ask(&cloud, "DeleteImage", &[("ImageId", &image), ("Force", force)]);
    change_instance(&cloud, &instance, |instance| instance.image = image.clone());
    assert_eq!(refusal(delete("false")), ("ImageUsingByInstance".into(), 403));
    let share = |name: &str| ask(&cloud, "ModifyImageSharePermission", &[("ImageId", &image), (name, "other")]);
    share("AddAccount.1").expect("it is shared");
    assert_eq!(refusal(delete("true")), ("ImageUseShared".into(), 403));
    assert_eq!(ask_as(&cloud, "other", "DeleteImage", &[("ImageId", &image)]), Ok(json!({})));
    assert_eq!(list(&cloud, "acme", &[("ImageId", &image)]).len(), 1, "it is not theirs to delete");
    share("RemoveAccount.1").expect("it is not shared");
    assert_eq!(delete("true"), Ok(json!({})));
    assert_eq!(delete("false"), Ok(json!({})), "what is gone can be deleted");
    let snapshots = ask(&cloud, "DescribeSnapshots", &[]).expect("a list");
    assert_eq!(snapshots["TotalCount"], 1, "snapshots stay");
    check(&cloud, &site);
}

#[test]
fn the_blank_image_stays_as_it_is() {
    let cloud = Site::new().open();
    for account in ["acme", "other"] {
        let seen = &list(&cloud, account, &[])[0];
        assert_eq!((&seen["ImageId"], &seen["ImageOwnerAlias"]), (&json!(BLANK), &json!("system")));
        assert_eq!(seen["DiskDeviceMappings"]["DiskDeviceMapping"], json!([]));
    }
    for (action, more, code, status) in [
        ("DeleteImage", ("Force", "true"), "Forbidden", 403),
        ("CopyImage", ("DestinationRegionId", "x"), "Forbidden", 403),
        ("ExportImage", ("OssBucket", "bucket"), "ImageNotSupported", 403),
        ("ModifyImageSharePermission", ("AddAccount.1", "other"), "InvalidImageId.NotFound", 403),
        ("DescribeImageSharePermission", ("PageSize", "10"), "InvalidImageId.NotFound", 403),
    ] {
        assert_eq!(refusal(ask(&cloud, action, &[("ImageId", BLANK), more])), (code.to_owned(), status), "{action}");
    }
}

#[test]
fn e12_a_system_disk_of_an_image_is_not_encrypted() {
    let cloud = Site::new().open();
    // No operation makes an encrypted system disk: this one is made one in the store.
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    let data = new_snapshot(&cloud, &disk);
    change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::System);
    let (snapshot, instance) = (new_snapshot(&cloud, &disk), format!("i-{disk}"));
    for params in [
        &[("SnapshotId", snapshot.as_str())][..],
        &[("DiskDeviceMapping.1.SnapshotId", &snapshot)],
        &[("DiskDeviceMapping.1.SnapshotId", &data), ("DiskDeviceMapping.1.DiskType", "system")],
        &[("InstanceId", &instance)],
    ] {
        let error = ask(&cloud, "CreateImage", params).expect_err("it is refused");
        assert_eq!((&*error.code, error.status), ("OperationDenied", 400));
        assert_eq!(error.message, "Not support creating system image from an encrypted snapshot/disk.");
    }
}

#[test]
fn an_image_is_made_and_deleted_or_not() {
    let site = Site::new();
    let cloud = site.open();
    let (instance, ..) = machine(&cloud, "true");
    let params = [("InstanceId", instance.as_str()), ("ClientToken", "t")];
    cut_everywhere(&site, |cloud| ask(cloud, "CreateImage", &params));
    let image = new_image(&cloud, &params);
    cut_everywhere(&site, |cloud| ask(cloud, "DeleteImage", &[("ImageId", &image)]));
    let snapshots = ask(&cloud, "DescribeSnapshots", &[("SourceDiskType", "System")]).expect("a list");
    let snapshot = snapshots["Snapshots"]["Snapshot"][0]["SnapshotId"].as_str().expect("a text").to_owned();
    cut_everywhere(&site, |cloud| ask(cloud, "CreateImage", &[("SnapshotId", &snapshot)]));
}

#[test]
fn what_fails_in_the_middle_of_an_image_leaves_nothing() {
    let site = Site::new();
    let cloud = site.open();
    let (instance, ..) = machine(&cloud, "true");
    site.target().kms_is_away = true;
    let made = ask(&cloud, "CreateImage", &[("InstanceId", &instance)]);
    assert_eq!(refusal(made), ("ServiceUnavailable".into(), 503));
    assert_eq!(cloud.store().read(|world| (world.snapshots.len(), world.images.len())), (0, 0));
    check(&cloud, &site);
}
