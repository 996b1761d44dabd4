//! Images on their way to other accounts, regions and files.

use serde_json::json;

use crate::cloud::crash_tests::cut_everywhere;
use crate::cloud::ecs::image::tests::{list, machine, new_image};
use crate::cloud::ecs::snapshot::tests::new_snapshot;
use crate::cloud::error::ApiError;
use crate::cloud::rows::Account;
use crate::cloud::testing::{REGION, Site, ask, ask_as, refusal};

#[test]
fn an_image_is_shared_with_accounts_that_are_there() {
    let cloud = Site::new().open();
    let (_, system, _) = machine(&cloud, "false");
    let image = new_image(&cloud, &[("SnapshotId", &new_snapshot(&cloud, &system))]);
    let share = |params: &[(&str, &str)]| {
        ask(&cloud, "ModifyImageSharePermission", &[&[("ImageId", image.as_str())], params].concat())
    };
    assert!(list(&cloud, "other", &[("ImageId", &image)]).is_empty());
    share(&[("AddAccount.1", "other")]).expect("it is shared");
    assert_eq!(list(&cloud, "other", &[("ImageId", &image)])[0]["ImageOwnerAlias"], "others");
    assert_eq!(list(&cloud, "acme", &[("ImageId", &image)])[0]["IsSelfShared"], "True");
    let seen = ask(&cloud, "DescribeImageSharePermission", &[("ImageId", &image)]).expect("a list");
    let wanted = json!({
        "ImageId": image, "RegionId": REGION, "TotalCount": 1, "PageNumber": 1, "PageSize": 10,
        "Accounts": { "Account": [{ "AliyunId": "other" }] }, "ShareGroups": { "ShareGroup": [] },
    });
    assert_eq!(seen, wanted);
    let theirs = ask_as(&cloud, "other", "DescribeImageSharePermission", &[("ImageId", &image)]);
    assert_eq!(refusal(theirs), ("InvalidImageId.NotFound".into(), 403));
    let copied = ask_as(&cloud, "other", "CopyImage", &[("ImageId", &image), ("DestinationRegionId", "x")]);
    assert_eq!(refusal(copied), ("Forbidden".into(), 403));
    assert_eq!(refusal(share(&[("AddAccount.1", "acme")])), ("InvalidAccount.Forbbiden".into(), 404));
    assert_eq!(refusal(share(&[("AddAccount.1", "nobody")])), ("InvalidAccount.NotFound".into(), 404));
    assert_eq!(refusal(share(&[("RemoveAccount.1", "nobody")])), ("InvalidAccount.NotFound".into(), 404));
    assert_eq!(refusal(share(&[("RegionId", "x")])), ("InvalidRegionId.NotFound".into(), 400));
    share(&[("RemoveAccount.1", "other")]).expect("it is not shared");
    assert!(list(&cloud, "other", &[("ImageId", &image)]).is_empty());

    let many: Vec<String> = (0..51).map(|number| format!("account-{number}")).collect();
    let made = cloud.store().change(|world| -> Result<(), ApiError> {
        for name in &many {
            world.accounts.put(name, Account { name: name.clone(), created_at: 1, kms_opened: false });
        }
        Ok(())
    });
    made.expect("it lives");
    for ten in many.chunks(10) {
        let names: Vec<String> = (1..=ten.len()).map(|number| format!("AddAccount.{number}")).collect();
        let params: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(ten.iter().map(String::as_str)).collect();
        let shared = share(&params);
        if ten.len() == 10 {
            shared.expect("50 may have it");
        } else {
            assert_eq!(refusal(shared), ("QuotaExceed.ShareImageUser".into(), 403));
        }
    }
    let names: Vec<String> = (1..=11).map(|number| format!("RemoveAccount.{number}")).collect();
    let params: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(many.iter().map(String::as_str)).collect();
    assert_eq!(refusal(share(&params)), ("InvalidParameter".into(), 400));
}

#[test]
fn an_image_cannot_be_copied_to_where_nobody_serves() {
    let cloud = Site::new().open();
    let (_, system, _) = machine(&cloud, "false");
    let image = new_image(&cloud, &[("SnapshotId", &new_snapshot(&cloud, &system))]);
    let copy = |image: &str, to: &str| ask(&cloud, "CopyImage", &[("ImageId", image), ("DestinationRegionId", to)]);
    assert_eq!(refusal(copy(&image, REGION)), ("IncorrectDestinationRegion".into(), 403));
    assert_eq!(refusal(copy(&image, "cn-beijing")), ("InvalidRegionId.NotFound".into(), 404));
    assert_eq!(refusal(copy("m-none", "cn-beijing")), ("InvalidImageId.NotFound".into(), 400));
    assert_eq!(refusal(copy(&image, "")), ("MissingParameter".into(), 400));
}

#[test]
fn e9_to_e11_an_image_with_an_encrypted_snapshot_is_not_copied_shared_or_exported() {
    let cloud = Site::new().open();
    let (instance, ..) = machine(&cloud, "true");
    let image = new_image(&cloud, &[("InstanceId", &instance)]);
    for (action, more, code, status) in [
        ("CopyImage", ("DestinationRegionId", "cn-beijing"), "OperationDeined.EncryptedSnapshot", 403),
        ("CopyImage", ("DestinationRegionId", REGION), "OperationDeined.EncryptedSnapshot", 403),
        ("ModifyImageSharePermission", ("AddAccount.1", "other"), "OperationDeined.EncryptedSnapshot", 403),
        ("ExportImage", ("OssBucket", "bucket"), "ImageNotSupported", 400),
        ("ExportImage", ("OSSBucket", "bucket"), "ImageNotSupported", 400),
    ] {
        assert_eq!(refusal(ask(&cloud, action, &[("ImageId", &image), more])), (code.to_owned(), status), "{action}");
    }
}

#[test]
fn an_image_is_exported_into_a_bucket_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new();
    let cloud = site.open();
    let (instance, system, data) = machine(&cloud, "false");
    site.target().disks.get_mut(&system).expect("there").content = "system".to_owned();
    site.target().disks.get_mut(&data).expect("there").content = "data".to_owned();
    let image = new_image(&cloud, &[("InstanceId", &instance)]);
    let bucket = [("ImageId", image.as_str()), ("OssBucket", "bucket")];
    assert_eq!(refusal(ask(&cloud, "ExportImage", &bucket)), ("OssBucket.NotFound".into(), 400), "no folder");

    let export_dir = folder.path().join("exports");
    std::fs::create_dir_all(export_dir.join("bucket")).expect("a folder");
    std::fs::create_dir_all(folder.path().join("outside")).expect("a folder");
    site.export_dir = Some(export_dir.clone());
    let cloud = site.open();
    let export = |params: &[(&str, &str)]| {
        let known: Vec<&str> = params.iter().map(|(name, _)| *name).collect();
        let rest: Vec<(&str, &str)> = bucket.iter().filter(|(name, _)| !known.contains(name)).copied().collect();
        ask(&cloud, "ExportImage", &[params, &rest].concat())
    };
    for name in ["none", "../outside", "..", ".", "bucket/", "bucket/../bucket", "-bucket", "BUCKET", "/tmp"] {
        assert_eq!(refusal(export(&[("OssBucket", name)])), ("OssBucket.NotFound".into(), 400), "{name}");
    }
    for name in ["../a", "a/b", ".", "a-b", &"a".repeat(31)] {
        assert_eq!(refusal(export(&[("OssPrefix", name)])), ("OssPrefix.Malformed".into(), 400), "{name}");
    }
    assert_eq!(refusal(export(&[("ImageFormat", "VHD")])), ("InvalidImageFormat.Malformed".into(), 400));
    assert_eq!(refusal(export(&[("ImageId", "m-none")])), ("ImageId.NotFound".into(), 403));
    assert_eq!(refusal(export(&[("RegionId", "x")])), ("RegionId.NotFound".into(), 400));
    assert_eq!(refusal(export(&[("OssBucket", "")])), ("MissingParameter".into(), 400));

    let answer = export(&[("OssPrefix", "a1"), ("ImageFormat", "RAW")]).expect("it is exported");
    assert_eq!(answer["RegionId"], REGION);
    assert!(answer["TaskId"].as_str().is_some_and(|task| task.starts_with("tsk-")), "{answer}");
    let content = |name: String| std::fs::read_to_string(export_dir.join("bucket").join(name)).expect("it is there");
    assert_eq!(content(format!("a1{image}.raw")), "system");
    assert_eq!(content(format!("a1{image}_1.raw")), "data");
    assert_eq!(std::fs::read_dir(folder.path().join("outside")).expect("a folder").count(), 0);
    cut_everywhere(&site, |cloud| ask(cloud, "ExportImage", &bucket));
}

#[test]
fn an_image_that_is_too_large_is_not_exported() {
    let cloud = Site::new().open();
    let (_, system, data) = machine(&cloud, "false");
    let (system, data) = (new_snapshot(&cloud, &system), new_snapshot(&cloud, &data));
    let params = [
        ("DiskDeviceMapping.1.SnapshotId", system.as_str()),
        ("DiskDeviceMapping.2.SnapshotId", &data),
        ("DiskDeviceMapping.2.Size", "501"),
    ];
    let exported = ask(&cloud, "ExportImage", &[("ImageId", &new_image(&cloud, &params)), ("OssBucket", "bucket")]);
    assert_eq!(refusal(exported), ("InvalidImage.DiskAmountOrSize".into(), 400));
}
