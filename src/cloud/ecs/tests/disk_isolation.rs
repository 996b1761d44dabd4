//! What belongs to another account is answered exactly as what is not there, and stays as it is.

use super::*;
use crate::cloud::crash_tests::new_disk;
use crate::cloud::rows::InstanceState;
use crate::cloud::testing::{Site, ZONE, ask_as, new_instance};
use serde_json::Value;

/// The things of one account.
struct Things {
    disk: String,
    used: String,
    snapshot: String,
    instance: String,
    key: String,
}

fn things_of_acme(cloud: &Cloud) -> Things {
    let key = cloud.backend().create_key("acme", &acme()).expect("it lives").id;
    let made = [("Encrypted", "true"), ("KMSKeyId", key.as_str()), ("Tag.1.Key", "k")];
    let [disk, used] = [(); 2].map(|()| new_disk(cloud, &made));
    let instance = new_instance(cloud, "i-acme", InstanceState::Stopped);
    ask(cloud, "AttachDisk", &[("DiskId", &used), ("InstanceId", &instance)]).expect("it is attached");
    let snapshot = new_snapshot(cloud, &disk, "s-acme");
    new_disk(cloud, &[("SnapshotId", &snapshot)]);
    Things { disk, used, snapshot, instance, key }
}

fn things_that_are_not_there() -> Things {
    let none = |prefix: &str| format!("{prefix}-none");
    Things { disk: none("d"), used: none("d"), snapshot: none("s"), instance: none("i"), key: none("k") }
}

/// Another account, which may have encrypted disks and has one of its own, with a snapshot and an instance.
fn other_account(cloud: &Cloud) -> Things {
    let instance = new_instance(cloud, "i-other", InstanceState::Stopped);
    edit_instance(cloud, &instance, |row| "other".clone_into(&mut row.account));
    let opened = cloud.store().change(|world| -> Result<(), ApiError> {
        world.accounts.get_mut("other").expect("it is there").kms_opened = true;
        Ok(())
    });
    opened.expect("it lives");
    let new = || {
        let params = [("ZoneId", ZONE), ("Size", "20"), ("Encrypted", "true")];
        let answer = ask_as(cloud, "other", "CreateDisk", &params).expect("it is made");
        answer["DiskId"].as_str().expect("a text").to_owned()
    };
    let (disk, used) = (new(), new());
    let params = [("DiskId", used.as_str()), ("InstanceId", instance.as_str())];
    ask_as(cloud, "other", "AttachDisk", &params).expect("it is attached");
    let snapshot = new_snapshot(cloud, &disk, "s-other");
    Things { disk, used, snapshot, instance, key: String::new() }
}

/// Requests that name one thing of `theirs` each; what else they need is the caller's own.
fn requests<'t>(mine: &'t Things, theirs: &'t Things) -> Vec<(&'static str, Vec<(&'static str, &'t str)>)> {
    let create = [("ZoneId", ZONE), ("Size", "20")];
    vec![
        ("CreateDisk", [&create[..], &[("SnapshotId", &theirs.snapshot)]].concat()),
        ("CreateDisk", [&create[..], &[("SnapshotId", &theirs.snapshot), ("Encrypted", "false")]].concat()),
        ("CreateDisk", [&create[..], &[("KMSKeyId", &theirs.key), ("Encrypted", "true")]].concat()),
        ("CreateDisk", vec![("Size", "20"), ("InstanceId", &theirs.instance)]),
        ("AttachDisk", vec![("DiskId", &theirs.disk), ("InstanceId", &mine.instance)]),
        ("AttachDisk", vec![("DiskId", &theirs.used), ("InstanceId", &mine.instance)]),
        ("AttachDisk", vec![("DiskId", &mine.disk), ("InstanceId", &theirs.instance)]),
        ("DetachDisk", vec![("DiskId", &theirs.used), ("InstanceId", &theirs.instance)]),
        ("DetachDisk", vec![("DiskId", &mine.used), ("InstanceId", &theirs.instance)]),
        ("DeleteDisk", vec![("DiskId", &theirs.disk)]),
        ("DeleteDisk", vec![("DiskId", &theirs.used)]),
        ("ResizeDisk", vec![("DiskId", &theirs.disk), ("NewSize", "40")]),
        ("ResizeDisk", vec![("DiskId", &theirs.used), ("NewSize", "10")]),
        ("ModifyDiskAttribute", vec![("DiskId", &theirs.disk), ("DiskName", "mine")]),
        ("ModifyDiskAttribute", vec![("DiskIds.1", &mine.disk), ("DiskIds.2", &theirs.disk), ("DiskName", "mine")]),
        ("ResetDisk", vec![("DiskId", &theirs.disk), ("SnapshotId", &theirs.snapshot)]),
        ("ResetDisk", vec![("DiskId", &theirs.disk), ("SnapshotId", &mine.snapshot)]),
        ("ResetDisk", vec![("DiskId", &mine.disk), ("SnapshotId", &theirs.snapshot)]),
        ("ReInitDisk", vec![("DiskId", &theirs.disk)]),
        ("ReInitDisk", vec![("DiskId", &theirs.used)]),
        ("DescribeDisks", vec![("InstanceId", &theirs.instance)]),
        ("DescribeDisks", vec![("SnapshotId", &theirs.snapshot)]),
        ("DescribeDisks", vec![("KMSKeyId", &theirs.key)]),
        ("AddTags", vec![("ResourceType", "disk"), ("ResourceId", &theirs.disk), ("Tag.1.Key", "k")]),
        ("AddTags", vec![("ResourceType", "snapshot"), ("ResourceId", &theirs.snapshot), ("Tag.1.Key", "k")]),
        ("RemoveTags", vec![("ResourceType", "disk"), ("ResourceId", &theirs.disk), ("Tag.1.Key", "k")]),
        ("TagResources", vec![("ResourceType", "disk"), ("ResourceId.1", &theirs.disk), ("Tag.1.Key", "k")]),
        ("UntagResources", vec![("ResourceType", "instance"), ("ResourceId.1", &theirs.instance), ("All", "true")]),
        ("DescribeTags", vec![("ResourceType", "disk"), ("ResourceId", &theirs.disk)]),
        ("ListTagResources", vec![("ResourceType", "disk"), ("ResourceId.1", &theirs.disk)]),
        ("ListTagResources", vec![("ResourceType", "disk"), ("Tag.1.Key", "k")]),
    ]
}

#[test]
fn what_belongs_to_another_account_is_not_there() {
    let site = Site::new();
    let cloud = site.open();
    let (theirs, nothing, mine) = (things_of_acme(&cloud), things_that_are_not_there(), other_account(&cloud));
    let before = everything(&cloud);
    for ((action, alien), (_, absent)) in requests(&mine, &theirs).into_iter().zip(requests(&mine, &nothing)) {
        let answer = ask_as(&cloud, "other", action, &alien);
        assert_eq!(answer, ask_as(&cloud, "other", action, &absent), "{action} {alien:?}");
        assert_eq!(everything(&cloud), before, "{action} {alien:?}");
    }
}

#[test]
fn the_own_account_is_answered_otherwise() {
    // Otherwise the test above would hold for operations that refuse everything.
    let site = Site::new();
    let (theirs, nothing, mine) = {
        let cloud = site.open();
        (things_of_acme(&cloud), things_that_are_not_there(), other_account(&cloud))
    };
    for ((action, own), (_, absent)) in requests(&theirs, &theirs).into_iter().zip(requests(&mine, &nothing)) {
        let site = site.fork();
        let (one, other) = (site.open(), site.fork().open());
        if action == "DeleteDisk" {
            continue; // It answers nothing, whatever it has done.
        }
        assert_ne!(ask(&one, action, &own), ask_as(&other, "other", action, &absent), "{action} {own:?}");
    }
}

#[test]
fn no_list_has_disks_of_another_account() {
    let cloud = Site::new().open();
    let theirs = things_of_acme(&cloud);
    let ids = format!("[\"{}\",\"{}\"]", theirs.disk, theirs.used);
    for params in [&[][..], &[("DiskIds", ids.as_str())], &[("Encrypted", "true")], &[("Tag.1.Key", "k")]] {
        let list = ask_as(&cloud, "other", "DescribeDisks", params).expect("a list");
        assert_eq!((&list["TotalCount"], list["Disks"]["Disk"].as_array().map(Vec::len)), (&Value::from(0), Some(0)));
    }
}

/// All rows, as texts.
fn everything(cloud: &Cloud) -> String {
    cloud.store().read(|world| {
        let disks: Vec<_> = world.disks.iter().collect();
        let snapshots: Vec<_> = world.snapshots.iter().collect();
        let instances: Vec<_> = world.instances.iter().collect();
        format!("{disks:?}{snapshots:?}{instances:?}{:?}", world.intents.iter().count())
    })
}
