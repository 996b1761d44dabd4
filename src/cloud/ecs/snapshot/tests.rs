//! The rules of snapshots, each with its code.

use serde_json::{Value, json};

use crate::cloud::crash_tests::{check, cut_everywhere, new_disk};
use crate::cloud::error::ApiError;
use crate::cloud::rows::{Disk, DiskKind, DiskState, InstanceState};
use crate::cloud::service::Cloud;
use crate::cloud::testing::{Fate, Site, ZONE, ask, ask_as, new_instance, refusal};

/// A disk of `acme` that a running instance has, which is called as the disk with `i-` before it.
pub fn used_disk(cloud: &Cloud, more: &[(&str, &str)]) -> String {
    let disk = new_disk(cloud, more);
    let instance = new_instance(cloud, &format!("i-{disk}"), InstanceState::Running);
    ask(cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]).expect("it is attached");
    disk
}

/// A snapshot of a disk: its identifier.
pub fn new_snapshot(cloud: &Cloud, disk: &str) -> String {
    let answer = ask(cloud, "CreateSnapshot", &[("DiskId", disk)]).expect("it is made");
    answer["SnapshotId"].as_str().expect("a text").to_owned()
}

/// Changes the row of a disk.
pub fn change_disk(cloud: &Cloud, disk: &str, change: impl FnOnce(&mut Disk)) {
    let changed = cloud.store().change(|world| -> Result<(), ApiError> {
        change(world.disks.get_mut(disk).expect("it is there"));
        Ok(())
    });
    changed.expect("it lives");
}

/// The snapshots of `acme`.
pub fn list(cloud: &Cloud, params: &[(&str, &str)]) -> Vec<Value> {
    let answer = ask(cloud, "DescribeSnapshots", params).expect("a list");
    answer["Snapshots"]["Snapshot"].as_array().expect("a list").clone()
}

/// Makes a disk from a snapshot.
pub fn disk_from(cloud: &Cloud, snapshot: &str, more: &[(&str, &str)]) -> Result<Value, ApiError> {
    let params = [&[("ZoneId", ZONE), ("SnapshotId", snapshot), ("DiskCategory", "cloud_ssd")], more].concat();
    ask(cloud, "CreateDisk", &params)
}

fn id(answer: Value) -> String {
    answer["DiskId"].as_str().expect("a text").to_owned()
}

#[test]
fn a_snapshot_is_of_a_disk_that_was_used() {
    let site = Site::new();
    let cloud = site.open();
    let make = |disk: &str| ask(&cloud, "CreateSnapshot", &[("DiskId", disk)]);
    let disk = new_disk(&cloud, &[]);
    assert_eq!(refusal(make(&disk)), ("IncorrectDiskStatus.NeverAttached".into(), 403));
    assert_eq!(refusal(make("d-none")), ("InvalidDiskId.NotFound".into(), 404));
    assert_eq!(refusal(ask_as(&cloud, "other", "CreateSnapshot", &[("DiskId", &disk)])).0, "InvalidDiskId.NotFound");
    assert_eq!(refusal(ask(&cloud, "CreateSnapshot", &[])), ("MissingParameter".into(), 400));

    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    let started = |was_started| {
        let changed = cloud.store().change(|world| -> Result<(), ApiError> {
            world.instances.get_mut(&instance).expect("it is there").was_started = was_started;
            Ok(())
        });
        changed.expect("it lives");
    };
    started(false);
    let attach = [("DiskId", disk.as_str()), ("InstanceId", instance.as_str())];
    ask(&cloud, "AttachDisk", &attach).expect("it is attached");
    assert_eq!(refusal(make(&disk)), ("IncorrectDiskStatus.NeverUsed".into(), 403));
    started(true);
    make(&disk).expect("the instance may have used it");
    ask(&cloud, "DetachDisk", &attach).expect("it is detached");
    make(&disk).expect("it was attached once");
    check(&cloud, &site);
}

#[test]
fn a_disk_and_its_instance_have_to_rest() {
    let cloud = Site::new().open();
    let disk = used_disk(&cloud, &[]);
    let make = || refusal(ask(&cloud, "CreateSnapshot", &[("DiskId", &disk)]));
    change_disk(&cloud, &disk, |disk| disk.state = DiskState::Detaching);
    assert_eq!(make(), ("IncorrectDiskStatus".into(), 403));
    change_disk(&cloud, &disk, |disk| disk.state = DiskState::InUse);
    let changed = cloud.store().change(|world| -> Result<(), ApiError> {
        world.instances.get_mut(&format!("i-{disk}")).expect("it is there").state = InstanceState::Stopping;
        Ok(())
    });
    changed.expect("it lives");
    assert_eq!(make(), ("IncorrectInstanceStatus".into(), 400));
}

#[test]
fn parameters_of_a_snapshot_are_checked() {
    let cloud = Site::new().open();
    let disk = used_disk(&cloud, &[]);
    for (name, value, code, status) in [
        ("SnapshotName", "auto1", "InvalidSnapshotName.Malformed", 400),
        ("SnapshotName", "1a", "InvalidSnapshotName.Malformed", 400),
        ("Description", "http://a", "InvalidDescription.Malformed", 404),
        ("RetentionDays", "0", "InvalidParameter", 400),
        ("RetentionDays", "65537", "InvalidParameter", 400),
        ("Tag.1.Key", "acs:a", "InvalidTagKey.Malformed", 400),
    ] {
        let made = ask(&cloud, "CreateSnapshot", &[("DiskId", &disk), (name, value)]);
        assert_eq!(refusal(made), (code.to_owned(), status), "{name}={value}");
    }
}

#[test]
fn a_disk_has_so_many_snapshots() {
    let mut site = Site::new();
    site.limits.snapshots_per_disk = 2;
    let cloud = site.open();
    let (disk, other) = (used_disk(&cloud, &[]), used_disk(&cloud, &[]));
    let first = new_snapshot(&cloud, &disk);
    new_snapshot(&cloud, &disk);
    assert_eq!(refusal(ask(&cloud, "CreateSnapshot", &[("DiskId", &disk)])), ("QuotaExceed.Snapshot".into(), 403));
    new_snapshot(&cloud, &other);
    ask(&cloud, "DeleteSnapshot", &[("SnapshotId", &first)]).expect("it goes");
    new_snapshot(&cloud, &disk);
}

#[test]
fn a_snapshot_is_made_once_for_a_token() {
    let cloud = Site::new().open();
    let disk = used_disk(&cloud, &[]);
    let make =
        |name: &str| ask(&cloud, "CreateSnapshot", &[("DiskId", &disk), ("ClientToken", "t"), ("SnapshotName", name)]);
    let first = make("one").expect("it is made");
    assert_eq!(make("one"), Ok(first));
    assert_eq!(refusal(make("two")), ("IdempotentParameterMismatch".into(), 403));
    assert_eq!(list(&cloud, &[]).len(), 1);
}

#[test]
fn snapshots_and_disks_from_snapshots_inherit_encryption_and_key() {
    let site = Site::new();
    let cloud = site.open();
    for encrypted in ["true", "false"] {
        let disk = used_disk(&cloud, &[("Encrypted", encrypted)]);
        site.target().disks.get_mut(&disk).expect("there").content = "blocks".to_owned();
        let snapshot = new_snapshot(&cloud, &disk);
        let child = id(disk_from(&cloud, &snapshot, &[]).expect("it is made"));
        let instance = format!("i-{disk}");
        ask(&cloud, "AttachDisk", &[("DiskId", &child), ("InstanceId", &instance)]).expect("it is attached");
        let grandchild = id(disk_from(&cloud, &new_snapshot(&cloud, &child), &[]).expect("it is made"));
        let target = site.target();
        let (source, last) = (&target.disks[&disk], &target.disks[&grandchild]);
        assert_eq!(source.lineage.is_some(), encrypted == "true");
        assert_eq!((&last.lineage, &last.made.key_id), (&source.lineage, &source.made.key_id));
        assert_eq!(last.content, "blocks");
        drop(target);
        check(&cloud, &site);
    }
}

#[test]
fn e5_a_disk_from_an_encrypted_snapshot_is_encrypted_without_being_told() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    let snapshot = new_snapshot(&cloud, &disk);
    let key = list(&cloud, &[])[0]["KMSKeyId"].clone();
    disk_from(&cloud, &snapshot, &[]).expect("it inherits");
    let disks = ask(&cloud, "DescribeDisks", &[("SnapshotId", &snapshot)]).expect("a list");
    let made = &disks["Disks"]["Disk"][0];
    assert_eq!((&made["Encrypted"], &made["KMSKeyId"]), (&json!(true), &key));
    assert_eq!(refusal(disk_from(&cloud, &snapshot, &[("Encrypted", "false")])).0, "EncryptedOption.Conflict");
}

#[test]
fn e7_no_operation_converts_a_snapshot() {
    let cloud = Site::new().open();
    for encrypted in ["true", "false"] {
        let disk = used_disk(&cloud, &[("Encrypted", encrypted)]);
        let other = if encrypted == "true" { "false" } else { "true" };
        let made = ask(&cloud, "CreateSnapshot", &[("DiskId", &disk), ("Encrypted", other), ("KMSKeyId", "k")]);
        let snapshot = made.expect("there is no such parameter")["SnapshotId"].as_str().expect("a text").to_owned();
        let modify = [("SnapshotId", snapshot.as_str()), ("SnapshotName", "name"), ("Encrypted", other)];
        ask(&cloud, "ModifySnapshotAttribute", &modify).expect("it has a name");
        let seen = &list(&cloud, &[("DiskId", &disk)])[0];
        assert_eq!(seen["Encrypted"], json!(encrypted == "true"));
        assert_eq!(refusal(disk_from(&cloud, &snapshot, &[("Encrypted", other)])).0, "EncryptedOption.Conflict");
    }
}

#[test]
fn e15_a_snapshot_needs_an_enabled_key() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    let make = || ask(&cloud, "CreateSnapshot", &[("DiskId", &disk)]);
    site.target().keys[0].state = crate::cloud::backend::KeyState::Disabled;
    assert_eq!(refusal(make()), ("InvalidParameter.KMSKeyId.CMKNotEnabled".into(), 403));
    site.target().keys[0].state = crate::cloud::backend::KeyState::Enabled;
    site.target().kms_is_away = true;
    assert_eq!(refusal(make()), ("ServiceUnavailable".into(), 503));
    check(&cloud, &site);
}

#[test]
fn a_snapshot_that_is_needed_stays() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    let delete =
        |snapshot: &str, force: &str| ask(&cloud, "DeleteSnapshot", &[("SnapshotId", snapshot), ("Force", force)]);
    let snapshot = new_snapshot(&cloud, &disk);
    ask_as(&cloud, "other", "DeleteSnapshot", &[("SnapshotId", &snapshot)]).expect("it is not there for them");
    assert_eq!(list(&cloud, &[]).len(), 1);
    let child = id(disk_from(&cloud, &snapshot, &[]).expect("it is made"));
    assert_eq!(refusal(delete(&snapshot, "")), ("SnapshotCreatedDisk".into(), 403));
    change_disk(&cloud, &child, |disk| disk.state = DiskState::Creating);
    assert_eq!(refusal(delete(&snapshot, "true")), ("Operation.Conflict".into(), 403));
    change_disk(&cloud, &child, |disk| disk.state = DiskState::Available);
    change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::System);
    let system = new_snapshot(&cloud, &disk);
    ask(&cloud, "CreateImage", &[("SnapshotId", &system)]).expect("it is made");
    assert_eq!(refusal(delete(&system, "true")), ("SnapshotCreatedImage".into(), 403));
    assert_eq!(delete(&snapshot, "true"), Ok(json!({})));
    assert_eq!(delete(&snapshot, ""), Ok(json!({})), "what is gone can be deleted");
    assert_eq!(delete("s-none", ""), Ok(json!({})));
    assert_eq!(refusal(ask(&cloud, "DeleteSnapshot", &[])), ("MissingParameter".into(), 400));
    check(&cloud, &site);
}

#[test]
fn a_snapshot_is_made_and_deleted_or_not() {
    for encrypted in ["true", "false"] {
        let site = Site::new();
        let cloud = site.open();
        let disk = used_disk(&cloud, &[("Encrypted", encrypted)]);
        let make = [("DiskId", disk.as_str()), ("ClientToken", "t")];
        cut_everywhere(&site, |cloud| ask(cloud, "CreateSnapshot", &make));
        let snapshot = new_snapshot(&cloud, &disk);
        cut_everywhere(&site, |cloud| ask(cloud, "DeleteSnapshot", &[("SnapshotId", &snapshot)]));
    }
}

#[test]
fn one_snapshot_of_a_disk_is_made_at_a_time() {
    let site = Site::new();
    let (instance, disk) = {
        let cloud = site.open();
        let disk = used_disk(&cloud, &[]);
        change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::System);
        (format!("i-{disk}"), disk)
    };
    // The first one is still under way.
    let make = [("DiskId", disk.as_str())];
    ask(&site.open_until(&Fate::at(0, true)), "CreateSnapshot", &make).expect_err("it died");
    let cloud = site.open();
    let seen = &list(&cloud, &[])[0];
    assert_eq!((&seen["Status"], &seen["Progress"]), (&json!("progressing"), &json!("0%")));
    let first = seen["SnapshotId"].as_str().expect("a text");
    assert_eq!(refusal(ask(&cloud, "CreateSnapshot", &make)), ("IncorrectDiskStatus.CreatingSnapshot".into(), 403));
    let image = ask(&cloud, "CreateImage", &[("InstanceId", &instance)]);
    assert_eq!(refusal(image), ("IncorrectDiskStatus.CreatingSnapshot".into(), 403));
    let image = ask(&cloud, "CreateImage", &[("SnapshotId", first)]);
    assert_eq!(refusal(image), ("InvalidSnapshotId.NotReady".into(), 403));
    assert_eq!(refusal(ask(&cloud, "DeleteSnapshot", &[("SnapshotId", first)])), ("Operation.Conflict".into(), 403));
    change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::Data);
    let detached = ask(&cloud, "DetachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]);
    assert_eq!(refusal(detached), ("IncorrectDiskStatus".into(), 403));
    cloud.recover();
    ask(&cloud, "CreateSnapshot", &make).expect("the first one is finished");
    check(&cloud, &site);
}
