//! What instances are made from.

use std::sync::Arc;

use super::*;
use crate::cloud::config::{CloudConfig, CloudLimits, ZoneConfig};
use crate::cloud::crash_tests::check;
use crate::cloud::rows::Account;
use crate::cloud::store::{DatabaseFile, Store};
use crate::cloud::testing::{FakeTarget, REGION, Site, ask_as, refusal};

fn image_of_three(cloud: &Cloud) {
    for (id, kind, encrypted) in [
        ("s-root", DiskKind::System, "false"),
        ("s-plain", DiskKind::Data, "false"),
        ("s-secret", DiskKind::Data, "true"),
    ] {
        new_snapshot(cloud, id, kind, encrypted);
    }
    new_image(cloud, "m-three", &["s-root", "s-plain", "s-secret"]);
}

#[test]
fn the_disks_of_an_image_become_disks_of_the_instance() {
    let site = Site::new();
    let cloud = site.open();
    image_of_three(&cloud);
    let instance = run_instance(&cloud, &[("ImageId", "m-three"), ("DataDisk.1.Size", "5")]);
    let made = disks(&cloud, &instance);
    let sources: Vec<Option<&str>> = made.iter().map(|disk| disk.source_snapshot.as_deref()).collect();
    assert_eq!(sources, [Some("s-root"), Some("s-plain"), Some("s-secret"), None]);
    assert_eq!(made.iter().map(|disk| disk.size_gib).collect::<Vec<_>>(), [50, 20, 20, 5]);
    assert_eq!(made.iter().map(|disk| disk.encrypted).collect::<Vec<_>>(), [false, false, true, false]);
    assert_eq!(made[0].image.as_deref(), Some("m-three"));
    let key = cloud.store().read(|world| world.snapshots.get("s-secret").and_then(|snapshot| snapshot.key_id.clone()));
    assert_eq!(made[2].key_id, key);
    check(&cloud, &site);
    let small = ask_for(&cloud, "RunInstances", &[("ImageId", "m-three"), ("SystemDisk.Size", "49")]);
    assert_eq!(refusal(small), ("InvalidSystemDiskSize.LessThanImageSize".to_owned(), 404));
    let sizes: Vec<(String, String)> = (1..=15).map(|n| (format!("DataDisk.{n}.Size"), "5".to_owned())).collect();
    let mut many: Vec<(&str, &str)> = sizes.iter().map(|(name, size)| (name.as_str(), size.as_str())).collect();
    many.push(("ImageId", "m-three"));
    assert_eq!(refusal(ask_for(&cloud, "CreateInstance", &many)), ("InstanceDiskNumLimitExceed".to_owned(), 403));
    many.remove(0);
    ask_for(&cloud, "CreateInstance", &many).expect("16 data disks are not too many");
    check(&cloud, &site);
}

#[test]
fn an_image_of_another_account_is_there_only_if_it_is_shared() {
    let site = Site::new();
    let cloud = site.open();
    new_snapshot(&cloud, "s-root", DiskKind::System, "false");
    new_snapshot(&cloud, "s-secret", DiskKind::Data, "true");
    new_image(&cloud, "m-1", &["s-root"]);
    let params = [("ImageId", "m-1")];
    let refused = refusal(ask_as(&cloud, "other", "CreateInstance", &params));
    assert_eq!(refused, ("InvalidImageId.NotFound".to_owned(), 404));
    let share = |world: &mut World, id: &str| {
        world.images.get_mut(id).expect("it is there").shared_with = vec!["other".to_owned()];
    };
    change(&cloud, |world| share(world, "m-1"));
    ask_as(&cloud, "other", "CreateInstance", &params).expect("it is shared");
    check(&cloud, &site);
    // Sharing refuses such an image; should there be one, its key is not used for another account.
    new_image(&cloud, "m-2", &["s-root", "s-secret"]);
    change(&cloud, |world| share(world, "m-2"));
    let refused = refusal(ask_as(&cloud, "other", "CreateInstance", &[("ImageId", "m-2")]));
    assert_eq!(refused, ("IncorrectImageStatus".to_owned(), 400));
}

#[test]
fn an_image_that_cannot_boot_is_refused() {
    let site = Site::new();
    let cloud = site.open();
    new_snapshot(&cloud, "s-root", DiskKind::System, "true");
    new_image(&cloud, "m-encrypted", &["s-root"]);
    new_image(&cloud, "m-without", &["s-nothing"]);
    new_image(&cloud, "m-unfinished", &[]);
    change(&cloud, |world| world.images.get_mut("m-unfinished").expect("it is there").is_available = false);
    for image in ["m-encrypted", "m-without", "m-unfinished"] {
        for action in BOTH {
            let refused = refusal(ask_for(&cloud, action, &[("ImageId", image)]));
            assert_eq!(refused, ("IncorrectImageStatus".to_owned(), 400), "{image}");
        }
    }
}

#[test]
fn without_a_zone_an_instance_goes_where_its_content_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = DatabaseFile::open(&folder.path().join("state")).expect("a file");
    let zone = |name: &str, pool: &str| ZoneConfig { name: name.to_owned(), pool: pool.to_owned() };
    let config = CloudConfig {
        state_dir: folder.path().to_owned(),
        zones: vec![zone("zone-z", "p1"), zone(ZONE, "p0")],
        limits: CloudLimits::default(),
        api: None,
        export_dir: None,
    };
    let store = Store::open(Box::new(store)).expect("it is empty");
    let cloud = Cloud::new(REGION, config, Arc::new(store), Arc::new(FakeTarget::default()));
    change(&cloud, |world| {
        world.accounts.put("acme", Account { name: "acme".to_owned(), created_at: 1, kms_opened: true });
    });
    new_snapshot(&cloud, "s-root", DiskKind::System, "false");
    new_snapshot(&cloud, "s-data", DiskKind::Data, "false");
    new_image(&cloud, "m-1", &["s-root"]);
    let zone_of = |params: &[(&str, &str)]| {
        let answer = ask(&cloud, "CreateInstance", params).expect("it is made");
        row(&cloud, answer["InstanceId"].as_str().expect("a text")).zone
    };
    assert_eq!(zone_of(&[("ImageId", "m-1")]), ZONE);
    assert_eq!(zone_of(&[("ImageId", "m-blank")]), "zone-z");
    for params in [
        &[("ZoneId", "zone-z"), ("ImageId", "m-1")][..],
        &[("ZoneId", "zone-z"), ("ImageId", "m-blank"), ("DataDisk.1.SnapshotId", "s-data")][..],
    ] {
        assert_eq!(refusal(ask(&cloud, "CreateInstance", params)), ("OperationDenied".to_owned(), 403));
    }
}
