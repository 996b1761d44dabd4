//! The rules of encryption that concern disks, by their numbers in the list that the cloud's pages give together: E1 to E8 and E13 to E18.

use super::*;
use crate::cloud::backend::{KeyChange, MasterKey};
use crate::cloud::crash_tests::new_disk;
use crate::cloud::ecs::OPERATIONS;
use crate::cloud::rows::{DiskState, InstanceState};
use crate::cloud::testing::{Site, ZONE, ask_as, new_instance};
use serde_json::{Value, json};

const NOT_ENABLED: (&str, u16) = ("InvalidParameter.KMSKeyId.CMKNotEnabled", 403);

fn create(cloud: &Cloud, more: &[(&str, &str)]) -> Result<Value, ApiError> {
    ask(cloud, "CreateDisk", &[&[("ZoneId", ZONE), ("DiskCategory", "cloud_ssd")], more].concat())
}

#[track_caller]
fn not_created(cloud: &Cloud, more: &[(&str, &str)], code: &str, status: u16) {
    assert_eq!(refusal(create(cloud, more)), (code.to_owned(), status), "{more:?}");
    assert!(cloud.store().read(|world| world.disks.rows().all(|disk| disk.state != DiskState::Creating)));
}

fn new_key(cloud: &Cloud, account: &str) -> MasterKey {
    cloud.backend().create_key(account, &acme()).expect("it lives")
}

fn change_key(cloud: &Cloud, key: &str, change: KeyChange) {
    cloud.backend().change_key("acme", key, change, &acme()).expect("it lives");
}

/// A disk by an own key, and that key.
fn disk_by_own_key(cloud: &Cloud, more: &[(&str, &str)]) -> (String, String) {
    let key = new_key(cloud, "acme").id;
    let params = [&[("Encrypted", "true"), ("KMSKeyId", key.as_str())], more].concat();
    (new_disk(cloud, &params), key)
}

// E1

#[test]
fn the_kms_has_to_be_opened_before_the_first_encrypted_disk() {
    let cloud = Site::new().open();
    let params = |more: &[(&'static str, &'static str)]| [&[("ZoneId", ZONE), ("Size", "20")], more].concat();
    let other = |more: &[(&'static str, &'static str)]| ask_as(&cloud, "other", "CreateDisk", &params(more));
    let not_opened = ("InvalidParameter.Encrypted.KmsNotEnabled".to_owned(), 400);
    assert_eq!(refusal(other(&[("Encrypted", "true")])), not_opened);
    assert_eq!(refusal(other(&[("Encrypted", "true"), ("KMSKeyId", "any")])), not_opened);
    other(&[("Encrypted", "false")]).expect("a plain disk needs no KMS");
    let opened = cloud.store().change(|world| -> Result<(), ApiError> {
        world.accounts.get_mut("other").expect("it is there").kms_opened = true;
        Ok(())
    });
    opened.expect("it lives");
    other(&[("Encrypted", "true")]).expect("now it may");
}

// E2

#[test]
fn encrypted_is_true_or_false_and_nothing_else() {
    let cloud = Site::new().open();
    for word in ["yes", "1", "0", "truee"] {
        not_created(&cloud, &[("Size", "20"), ("Encrypted", word)], "InvalidParameter.EncryptedIllegal", 400);
    }
    for (word, encrypted) in [("True", true), ("TRUE", true), ("False", false), ("", false)] {
        let disk = new_disk(&cloud, &[("Encrypted", word)]);
        assert_eq!(disk_row(&cloud, &disk).encrypted, encrypted, "{word}");
    }
}

#[test]
fn a_key_is_named_for_an_encrypted_disk_only() {
    let cloud = Site::new().open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    new_snapshot(&cloud, &disk, "s-1");
    // Whether the key is there does not matter then.
    for key in [key.as_str(), "none"] {
        let named = [("Size", "20"), ("KMSKeyId", key)];
        not_created(&cloud, &named, "InvalidParameter.EncryptedIllegal", 400);
        for more in [("Encrypted", "false"), ("SnapshotId", "s-1")] {
            not_created(&cloud, &[&named[..], &[more]].concat(), "InvalidParameter.EncryptedIllegal", 400);
        }
    }
}

// E3

#[test]
fn a_local_disk_cannot_be_encrypted() {
    let cloud = Site::new().open();
    let local = [("ZoneId", ZONE), ("Size", "20"), ("DiskCategory", "ephemeral_ssd"), ("Encrypted", "true")];
    refused(&cloud, "CreateDisk", &local, "InvalidParameter.EncryptedNotSupported", 400);
    refused(&cloud, "CreateDisk", &local[..3], "InvalidDiskCategory.NotSupported", 400);
    for category in ["cloud", "cloud_efficiency", "cloud_ssd"] {
        let disk = new_disk_of(&cloud, &[("DiskCategory", category), ("Encrypted", "true")]);
        assert!(disk_row(&cloud, &disk).encrypted, "{category}");
    }
}

// E4

#[test]
fn a_disk_from_a_snapshot_cannot_be_encrypted_otherwise_than_the_snapshot() {
    let cloud = Site::new().open();
    for (encrypted, otherwise) in [("true", "false"), ("false", "true")] {
        let disk = new_disk(&cloud, &[("Encrypted", encrypted)]);
        let snapshot = new_snapshot(&cloud, &disk, &format!("s-{encrypted}"));
        let from = [("SnapshotId", snapshot.as_str())];
        let conflict = [&from[..], &[("Encrypted", otherwise)]].concat();
        not_created(&cloud, &conflict, "EncryptedOption.Conflict", 400);
        create(&cloud, &[&from[..], &[("Encrypted", encrypted)]].concat()).expect("it agrees");
    }
}

// E5

#[test]
fn a_disk_from_an_encrypted_snapshot_is_encrypted_by_the_same_key() {
    let site = Site::new();
    let cloud = site.open();
    let own = disk_by_own_key(&cloud, &[]).0;
    for (number, first) in [own, new_disk(&cloud, &[("Encrypted", "true")])].into_iter().enumerate() {
        let snapshot = new_snapshot(&cloud, &first, &format!("s-{number}"));
        let answer = create(&cloud, &[("SnapshotId", &snapshot)]).expect("it inherits");
        let second = answer["DiskId"].as_str().expect("a text").to_owned();
        let (one, other) = (disk_row(&cloud, &first), disk_row(&cloud, &second));
        assert!(other.encrypted);
        assert!(one.key_id.is_some());
        assert_eq!(one.key_id, other.key_id, "the master key");
        let target = site.target();
        assert_eq!(target.disks[&first].lineage, target.disks[&second].lineage, "the disk's key");
    }
}

#[test]
fn a_disk_from_a_plain_snapshot_is_plain() {
    let cloud = Site::new().open();
    let snapshot = new_snapshot(&cloud, &new_disk(&cloud, &[]), "s-1");
    let answer = create(&cloud, &[("SnapshotId", &snapshot)]).expect("it inherits");
    let disk = disk_row(&cloud, answer["DiskId"].as_str().expect("a text"));
    assert_eq!((disk.encrypted, disk.key_id), (false, None));
}

#[test]
fn a_disk_from_an_encrypted_snapshot_cannot_get_another_key() {
    let cloud = Site::new().open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let another = new_key(&cloud, "acme").id;
    let from = [("SnapshotId", snapshot.as_str()), ("Encrypted", "true")];
    not_created(&cloud, &[&from[..], &[("KMSKeyId", &another)]].concat(), "InvalidParameter.Conflict", 400);
    create(&cloud, &[&from[..], &[("KMSKeyId", &key)]].concat()).expect("its own may be named");
}

#[test]
fn each_new_encrypted_disk_has_a_key_of_its_own() {
    let site = Site::new();
    let cloud = site.open();
    let disks = [(); 3].map(|()| new_disk(&cloud, &[("Encrypted", "true")]));
    let target = site.target();
    let keys: std::collections::BTreeSet<_> = disks.iter().map(|disk| target.disks[disk].lineage).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(Option::is_some));
}

#[test]
fn without_a_name_the_key_is_the_accounts_service_key() {
    let cloud = Site::new().open();
    let disk = disk_row(&cloud, &new_disk(&cloud, &[("Encrypted", "true")]));
    let service = cloud.backend().service_key("acme", &acme()).expect("it lives");
    assert_eq!(disk.key_id, Some(service.id));
}

// E6

#[test]
fn a_system_disk_is_not_encrypted_by_any_operation_on_disks() {
    let cloud = Site::new().open();
    let disk = new_disk(&cloud, &[("DiskName", "system")]);
    make_system(&cloud, &disk);
    // CreateDisk makes data disks only, and not from what was on a system disk.
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let from = [("SnapshotId", snapshot.as_str()), ("Encrypted", "true")];
    not_created(&cloud, &from, "InvalidSnapshotId.NotDataDiskSnapshot", 403);
    let params = [("DiskId", disk.as_str()), ("Encrypted", "true"), ("DiskName", "still")];
    ask(&cloud, "ModifyDiskAttribute", &params).expect("the name is changed");
    assert!(!disk_row(&cloud, &disk).encrypted);
}

// E7

#[test]
fn no_operation_converts_a_disk_in_place() {
    let cloud = Site::new().open();
    for encrypted in ["true", "false"] {
        let otherwise = if encrypted == "true" { "false" } else { "true" };
        let (before, after) = modified(&cloud, &[("Encrypted", encrypted)], &[("Encrypted", otherwise)]);
        assert_eq!((before.encrypted, before.key_id), (after.encrypted, after.key_id));
        let only = [("DiskId", before.id.as_str()), ("Encrypted", otherwise)];
        refused(&cloud, "ModifyDiskAttribute", &only, "NoAttributeToModify", 400);
    }
}

/// A disk before and after it is asked to become something else; its new name shows that it was asked.
fn modified(cloud: &Cloud, made: &[(&str, &str)], change: &[(&str, &str)]) -> (Disk, Disk) {
    let disk = new_disk(cloud, made);
    let before = disk_row(cloud, &disk);
    let params = [&[("DiskId", disk.as_str()), ("DiskName", "renamed")], change].concat();
    ask(cloud, "ModifyDiskAttribute", &params).expect("the name is changed");
    let after = disk_row(cloud, &disk);
    assert_eq!(after.name, "renamed");
    (before, after)
}

// E8

#[test]
fn no_operation_changes_the_master_key_of_a_disk() {
    let cloud = Site::new().open();
    let key = new_key(&cloud, "acme").id;
    let (before, after) = modified(&cloud, &[("Encrypted", "true")], &[("KMSKeyId", &key)]);
    assert_eq!(before.key_id, after.key_id);
    for name in ["ModifyDiskKey", "ModifyDiskEncryption", "ConvertDisk"] {
        assert!(OPERATIONS.iter().all(|(there, _)| *there != name));
    }
}

// E13

#[test]
fn a_disk_is_rolled_back_to_its_own_snapshots_only() {
    let cloud = Site::new().open();
    let [plain, encrypted] = ["false", "true"].map(|encrypted| new_disk(&cloud, &[("Encrypted", encrypted)]));
    let of_plain = new_snapshot(&cloud, &plain, "s-plain");
    let of_encrypted = new_snapshot(&cloud, &encrypted, "s-encrypted");
    // A disk made from a snapshot has the same key, but the snapshot is not of it.
    let answer = create(&cloud, &[("SnapshotId", &of_encrypted)]).expect("it inherits");
    let child = answer["DiskId"].as_str().expect("a text");
    for (disk, snapshot) in
        [(&*plain, &*of_encrypted), (&*encrypted, &*of_plain), (child, &*of_encrypted), (child, &*of_plain)]
    {
        let params = [("DiskId", disk), ("SnapshotId", snapshot)];
        refused(&cloud, "ResetDisk", &params, "InvalidParameter.Mismatch", 403);
    }
    for (disk, snapshot) in [(&plain, &of_plain), (&encrypted, &of_encrypted)] {
        ask(&cloud, "ResetDisk", &[("DiskId", disk), ("SnapshotId", snapshot)]).expect("it is its own");
    }
}

// E14

#[test]
fn a_key_that_is_named_has_to_be_there() {
    let cloud = Site::new().open();
    let of_another = new_key(&cloud, "other").id;
    let key = new_key(&cloud, "acme").id;
    let foreign = ["cn-test:other", "elsewhere:acme"].map(|place| format!("acs:kms:{place}:key/{key}"));
    for name in ["none", "acs:kms:cn-test:acme:key/none", &of_another, &foreign[0], &foreign[1]] {
        let named = [("Size", "20"), ("Encrypted", "true"), ("KMSKeyId", name)];
        not_created(&cloud, &named, "InvalidParameter.KMSKeyId.NotFound", 404);
    }
    let arn = format!("acs:kms:cn-test:acme:key/{key}");
    let disk = new_disk(&cloud, &[("Encrypted", "true"), ("KMSKeyId", &arn)]);
    assert_eq!(disk_row(&cloud, &disk).key_id, Some(key));
}

// E15

#[test]
fn a_key_that_is_not_enabled_makes_no_disk() {
    let cloud = Site::new().open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    for change in [KeyChange::Disable, KeyChange::ScheduleDeletion(7)] {
        change_key(&cloud, &key, change);
        let named = [("Size", "20"), ("Encrypted", "true"), ("KMSKeyId", &*key)];
        not_created(&cloud, &named, NOT_ENABLED.0, NOT_ENABLED.1);
        not_created(&cloud, &[("SnapshotId", &*snapshot)], NOT_ENABLED.0, NOT_ENABLED.1);
    }
    change_key(&cloud, &key, KeyChange::CancelDeletion);
    create(&cloud, &[("SnapshotId", &snapshot)]).expect("it may again");
}

#[test]
fn a_disk_whose_key_is_not_enabled_goes_to_no_instance() {
    let cloud = Site::new().open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    change_key(&cloud, &key, KeyChange::Disable);
    for (instance, state) in [("i-run", InstanceState::Running), ("i-stop", InstanceState::Stopped)] {
        let instance = new_instance(&cloud, instance, state);
        let params = [("DiskId", disk.as_str()), ("InstanceId", instance.as_str())];
        refused(&cloud, "AttachDisk", &params, NOT_ENABLED.0, NOT_ENABLED.1);
        assert_eq!(disk_row(&cloud, &disk).state, DiskState::Available);
    }
    change_key(&cloud, &key, KeyChange::Enable);
    ask(&cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", "i-stop")]).expect("it may again");
}

#[test]
fn a_disk_whose_key_is_not_enabled_gets_no_other_size_or_content() {
    let site = Site::new();
    let cloud = site.open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    ask(&cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).expect("it is attached");
    change_key(&cloud, &key, KeyChange::ScheduleDeletion(7));
    let before = site.target().disks[&disk].clone();
    let of = ("DiskId", disk.as_str());
    for (action, more) in
        [("ResizeDisk", ("NewSize", "40")), ("ReInitDisk", ("x", "x")), ("ResetDisk", ("SnapshotId", &*snapshot))]
    {
        refused(&cloud, action, &[of, more], NOT_ENABLED.0, NOT_ENABLED.1);
        assert_eq!(disk_row(&cloud, &disk).state, DiskState::InUse, "{action}");
        assert_eq!(site.target().disks[&disk], before, "{action}");
    }
    // Whoever is to lose it loses it, whatever the key is.
    ask(&cloud, "DetachDisk", &[of, ("InstanceId", &instance)]).expect("it is detached");
    ask(&cloud, "DeleteDisk", &[of]).expect("it is deleted");
}

// E16

#[test]
fn a_kms_that_does_not_let_the_service_in_is_told_as_such() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[("Encrypted", "true")]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    site.target().kms_refuses = true;
    let of = ("DiskId", disk.as_str());
    let unauthorized = ("InvalidParameter.KMSKeyId.KMSUnauthorized", 403);
    not_created(&cloud, &[("Size", "20"), ("Encrypted", "true")], unauthorized.0, unauthorized.1);
    for (action, more) in [
        ("AttachDisk", ("InstanceId", &*instance)),
        ("ResizeDisk", ("NewSize", "40")),
        ("ResetDisk", ("SnapshotId", &*snapshot)),
    ] {
        refused(&cloud, action, &[of, more], unauthorized.0, unauthorized.1);
        assert_eq!(disk_row(&cloud, &disk).state, DiskState::Available, "{action}");
    }
    create(&cloud, &[("Size", "20")]).expect("a plain disk needs no KMS");
}

// E17

#[test]
fn every_zone_takes_own_keys() {
    // The cloud had regions without: `InvalidRegion.NotSupport` is therefore never answered here.
    let cloud = Site::new().open();
    let key = new_key(&cloud, "acme").id;
    for zone in ["zone-a", "zone-b"] {
        let params = [("ZoneId", zone), ("Size", "20"), ("Encrypted", "true"), ("KMSKeyId", &*key)];
        ask(&cloud, "CreateDisk", &params).expect("it is made");
    }
}

// E18

#[test]
fn a_disk_by_an_own_key_goes_to_every_type_of_instance() {
    // The cloud had types without I/O optimisation: neither `InvalidOperation.InstanceTypeNotSupport` nor `IoOptimized.NotSupported` is answered here.
    let cloud = Site::new().open();
    let (disk, _) = disk_by_own_key(&cloud, &[]);
    for kind in ["ecs.t1.small", "ecs.g5.large", ""] {
        let instance = new_instance(&cloud, "i-1", InstanceState::Running);
        edit_instance(&cloud, &instance, |row| kind.clone_into(&mut row.instance_type));
        let params = [("DiskId", disk.as_str()), ("InstanceId", instance.as_str())];
        ask(&cloud, "AttachDisk", &params).expect("it is attached");
        ask(&cloud, "DetachDisk", &params).expect("it is detached");
    }
}

#[test]
fn whether_a_disk_is_encrypted_and_by_which_key_is_shown() {
    let cloud = Site::new().open();
    let (disk, key) = disk_by_own_key(&cloud, &[]);
    let plain = new_disk(&cloud, &[]);
    let show = |params: &[(&str, &str)]| ask(&cloud, "DescribeDisks", params).expect("a list")["Disks"]["Disk"].clone();
    let ids = |list: Value| -> Vec<Value> {
        list.as_array().expect("a list").iter().map(|disk| disk["DiskId"].clone()).collect()
    };
    let shown = show(&[("Encrypted", "true")]);
    assert_eq!((&shown[0]["Encrypted"], &shown[0]["KMSKeyId"]), (&json!(true), &json!(key)));
    assert_eq!(ids(shown), [json!(disk)]);
    assert_eq!(ids(show(&[("KMSKeyId", &key)])), [json!(disk)]);
    // False asks for nothing.
    assert_eq!(ids(show(&[("Encrypted", "false")])).len(), 2);
    let shown = show(&[("DiskIds", &format!("[\"{plain}\"]"))]);
    assert_eq!((&shown[0]["Encrypted"], &shown[0]["KMSKeyId"]), (&json!(false), &json!("")));
}
