//! ResizeDisk, ModifyDiskAttribute, ResetDisk and ReInitDisk: what they do, and the codes and statuses of their pages that can occur here.

use super::*;
use crate::cloud::category::Category;
use crate::cloud::crash_tests::{check, cut_everywhere, new_disk};
use crate::cloud::ecs::disk::reinit::ReInitDisk;
use crate::cloud::rows::{DiskState, InstanceState};
use crate::cloud::testing::{Site, new_instance};
use serde_json::json;

fn attach(cloud: &Cloud, disk: &str, instance: &str) {
    ask(cloud, "AttachDisk", &[("DiskId", disk), ("InstanceId", instance)]).expect("it is attached");
}

fn set_state(cloud: &Cloud, instance: &str, state: InstanceState) {
    edit_instance(cloud, instance, |row| row.state = state);
}

#[test]
fn a_larger_disk_is_faster() {
    let site = Site::new();
    let cloud = site.open();
    for encrypted in ["true", "false"] {
        let disk = new_disk(&cloud, &[("Encrypted", encrypted)]);
        ask(&cloud, "ResizeDisk", &[("DiskId", &disk), ("NewSize", "100")]).expect("it becomes larger");
        assert_eq!(disk_row(&cloud, &disk).size_gib, 100);
        let volume = site.target().disks[&disk].clone();
        assert_eq!(volume.made.bytes, 100 << 30);
        assert_eq!(volume.made.speed, Category::CloudSsd.speed(100, false));
    }
    check(&cloud, &site);
}

#[test]
fn a_resized_disk_is_as_it_was_or_as_it_should_be() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[("Encrypted", "true")]);
    let params = [("DiskId", disk.as_str()), ("NewSize", "40"), ("ClientToken", "t")];
    cut_everywhere(&site, |cloud| ask(cloud, "ResizeDisk", &params));
    attach(&cloud, &disk, &new_instance(&cloud, "i-1", InstanceState::Running));
    cut_everywhere(&site, |cloud| ask(cloud, "ResizeDisk", &[&params[..], &[("Type", "online")]].concat()));
}

#[test]
fn a_resize_with_a_token_is_answered_again() {
    let cloud = Site::new().open();
    let disk = new_disk(&cloud, &[]);
    let params = [("DiskId", disk.as_str()), ("NewSize", "40"), ("ClientToken", "t")];
    ask(&cloud, "ResizeDisk", &params).expect("it becomes larger");
    assert_eq!(ask(&cloud, "ResizeDisk", &params), Ok(json!({})));
    refused(&cloud, "ResizeDisk", &params[..2], "InvalidDiskSize.TooSmall", 403);
    let other = [("DiskId", disk.as_str()), ("NewSize", "50"), ("ClientToken", "t")];
    refused(&cloud, "ResizeDisk", &other, "IdempotentParameterMismatch", 403);
}

#[test]
fn resize_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let [disk, system] = [(); 2].map(|()| new_disk(&cloud, &[]));
    let basic = new_disk_of(&cloud, &[("DiskCategory", "cloud")]);
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    make_system(&cloud, &system);
    let to = |disk: &str, size: &str, kind: &str, code: &str, status| {
        refused(&cloud, "ResizeDisk", &[("DiskId", disk), ("NewSize", size), ("Type", kind)], code, status);
    };
    refused(&cloud, "ResizeDisk", &[("NewSize", "40")], "MissingParameter", 400);
    refused(&cloud, "ResizeDisk", &[("DiskId", &disk)], "MissingParameter", 400);
    to(&disk, "x", "", "InvalidParameter", 400);
    to(&disk, "40", "sideways", "InvalidParam.Type", 400);
    to("d-none", "40", "", "InvalidDiskId.NotFound", 404);
    to(&system, "40", "", "OperationDenied", 403);
    for size in ["0", "19", "20"] {
        to(&disk, size, "", "InvalidDiskSize.TooSmall", 403);
    }
    to(&disk, "32769", "", "InvalidDiskSize.TooLarge", 403);
    to(&disk, &u64::MAX.to_string(), "", "InvalidDiskSize.TooLarge", 403);
    to(&basic, "2001", "", "InvalidDiskSize.TooLarge", 403);
    to(&disk, "40", "online", "IncorrectDiskStatus", 403);
    to(&basic, "40", "online", "InvalidDiskCategory.NotSupported", 403);
    attach(&cloud, &shared, &instance);
    to(&shared, "40", "online", "InvalidOperation.MultiAttachDiskNotSupportResizeOnline", 403);
    attach(&cloud, &disk, &instance);
    set_state(&cloud, &instance, InstanceState::Stopped);
    to(&disk, "40", "online", "InvalidInstanceStatus.NotRunning", 403);
    set_state(&cloud, &instance, InstanceState::Stopping);
    to(&disk, "40", "", "IncorrectInstanceStatus", 403);
    let reinit = ReInitDisk { disk: disk.clone(), instance: instance.clone() };
    begin(&cloud, Intent::ReInitDisk(reinit));
    edit_disk(&cloud, &disk, |disk| disk.state = DiskState::ReIniting);
    to(&disk, "40", "", "IncorrectDiskStatus", 403);
}

#[test]
fn a_disk_is_what_its_user_says_of_it() {
    let cloud = Site::new().open();
    let [one, other] = [(); 2].map(|()| new_disk(&cloud, &[("DiskName", "first"), ("Description", "a disk")]));
    let id = ("DiskId", one.as_str());
    ask(&cloud, "ModifyDiskAttribute", &[id, ("DeleteAutoSnapshot", "False")]).expect("it is changed");
    ask(&cloud, "ModifyDiskAttribute", &[id, ("EnableAutoSnapshot", "false"), ("DeleteWithInstance", "true")])
        .expect("it is changed");
    let row = disk_row(&cloud, &one);
    assert_eq!((&*row.name, &*row.description), ("first", "a disk"));
    assert_eq!((row.delete_auto_snapshot, row.enable_auto_snapshot, row.delete_with_instance), (false, false, true));
    let both = [("DiskIds.1", one.as_str()), ("DiskIds.2", &other), ("DiskName", "second"), ("Description", "two")];
    ask(&cloud, "ModifyDiskAttribute", &both).expect("both are changed");
    for disk in [&one, &other] {
        let row = disk_row(&cloud, disk);
        assert_eq!((&*row.name, &*row.description), ("second", "two"));
    }
}

#[test]
fn modify_disk_attribute_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let [disk, system] = [(); 2].map(|()| new_disk(&cloud, &[("DiskName", "first")]));
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    make_system(&cloud, &system);
    let (id, name) = (("DiskId", disk.as_str()), ("DiskName", "second"));
    let many: Vec<(String, String)> = (1..=101).map(|n| (format!("DiskIds.{n}"), disk.clone())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let many = [&many[..], &[name]].concat();
    for (params, code, status) in [
        (&[name][..], "MissingParameter", 400),
        (&[id, ("DiskIds.1", &disk), name], "InvalidParameter.Conflict", 400),
        (&many, "InvalidParameter", 400),
        (&[id], "NoAttributeToModify", 400),
        (&[id, ("DiskName", "1")], "InvalidDiskName.Malformed", 400),
        // 404, on this page alone.
        (&[id, ("Description", "http://a")], "InvalidDescription.Malformed", 404),
        (&[id, ("DeleteWithInstance", "x")], "InvalidParameter", 400),
        (&[("DiskId", "d-none"), name], "InvalidDiskId.NotFound", 404),
        (&[("DiskIds.1", &disk), ("DiskIds.2", "d-none"), name], "InvalidDiskId.NotFound", 404),
        (&[("DiskId", &shared), ("DeleteWithInstance", "true")], "DeleteWithInstance.Conflict", 403),
        (&[("DiskId", &system), ("DeleteWithInstance", "false")], "DiskNotPortable", 403),
    ] {
        refused(&cloud, "ModifyDiskAttribute", params, code, status);
    }
    assert_eq!(disk_row(&cloud, &disk).name, "first", "all or nothing");
}

#[test]
fn a_disk_is_rolled_back_while_nobody_sees_it() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    for encrypted in ["true", "false"] {
        let disk = new_disk(&cloud, &[("Encrypted", encrypted)]);
        site.target().disks.get_mut(&disk).expect("it is there").content = "then".to_owned();
        let snapshot = new_snapshot(&cloud, &disk, &format!("s-{encrypted}"));
        let params = [("DiskId", disk.as_str()), ("SnapshotId", snapshot.as_str())];
        let before = disk_row(&cloud, &disk);
        for state in [DiskState::Available, DiskState::InUse] {
            site.target().disks.get_mut(&disk).expect("it is there").content = "now".to_owned();
            if state == DiskState::InUse {
                attach(&cloud, &disk, &instance);
            }
            ask(&cloud, "ResetDisk", &params).expect("it is rolled back");
            assert_eq!(site.target().disks[&disk].content, "then");
            let after = disk_row(&cloud, &disk);
            assert_eq!((after.state, &after.key_id), (state, &before.key_id));
        }
    }
    check(&cloud, &site);
}

#[test]
fn a_disk_is_rolled_back_or_will_be() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[("Encrypted", "true")]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let params = [("DiskId", disk.as_str()), ("SnapshotId", snapshot.as_str())];
    cut_everywhere(&site, |cloud| ask(cloud, "ResetDisk", &params));
    attach(&cloud, &disk, &new_instance(&cloud, "i-1", InstanceState::Stopped));
    cut_everywhere(&site, |cloud| ask(cloud, "ResetDisk", &params));
}

#[test]
fn reset_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let (one, other) =
        (new_instance(&cloud, "i-1", InstanceState::Stopped), new_instance(&cloud, "i-2", InstanceState::Stopped));
    let disk = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    let another = new_disk(&cloud, &[]);
    let (snapshot, alien) = (new_snapshot(&cloud, &disk, "s-1"), new_snapshot(&cloud, &another, "s-2"));
    let (id, to) = (("DiskId", disk.as_str()), ("SnapshotId", snapshot.as_str()));
    refused(&cloud, "ResetDisk", &[to], "MissingParameter", 400);
    refused(&cloud, "ResetDisk", &[id], "MissingParameter", 400);
    refused(&cloud, "ResetDisk", &[("DiskId", "d-none"), to], "InvalidDiskId.NotFound", 404);
    refused(&cloud, "ResetDisk", &[id, ("SnapshotId", "s-none")], "InvalidSnapshotId.NotFound", 404);
    refused(&cloud, "ResetDisk", &[id, ("SnapshotId", &alien)], "InvalidParameter.Mismatch", 403);
    attach(&cloud, &disk, &one);
    attach(&cloud, &disk, &other);
    // Each of its instances has to be stopped.
    for state in [InstanceState::Running, InstanceState::Starting, InstanceState::Stopping] {
        set_state(&cloud, &other, state);
        refused(&cloud, "ResetDisk", &[id, to], "IncorrectInstanceStatus", 403);
    }
    set_state(&cloud, &other, InstanceState::Stopped);
    for state in [DiskState::Attaching, DiskState::Detaching, DiskState::ReIniting, DiskState::Creating] {
        edit_disk(&cloud, &disk, |disk| disk.state = state);
        refused(&cloud, "ResetDisk", &[id, to], "IncorrectDiskStatus", 403);
    }
    edit_disk(&cloud, &disk, |disk| disk.state = DiskState::InUse);
    edit_snapshot(&cloud, &snapshot, |row| row.state = SnapshotState::Progressing);
    refused(&cloud, "ResetDisk", &[id, to], "InvalidSnapshotId.NotReady", 403);
    edit_snapshot(&cloud, &snapshot, |row| row.state = SnapshotState::Deleting);
    refused(&cloud, "ResetDisk", &[id, to], "InvalidSnapshotId.NotFound", 404);
}

#[test]
fn a_reinitialised_disk_is_as_it_was_made() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    for encrypted in ["true", "false"] {
        let empty = new_disk(&cloud, &[("Encrypted", encrypted)]);
        site.target().disks.get_mut(&empty).expect("it is there").content = "of the snapshot".to_owned();
        let snapshot = new_snapshot(&cloud, &empty, &format!("s-{encrypted}"));
        let copy = new_disk(&cloud, &[("SnapshotId", &snapshot)]);
        let system = new_disk(&cloud, &[]);
        for (disk, content) in [(&empty, ""), (&copy, "of the snapshot"), (&system, "")] {
            attach(&cloud, disk, &instance);
            site.target().disks.get_mut(disk).expect("it is there").content = "now".to_owned();
            if disk == &system {
                make_system(&cloud, disk);
            }
            ask(&cloud, "ReInitDisk", &[("DiskId", disk)]).expect("it is reinitialised");
            assert_eq!(site.target().disks[disk].content, content);
            assert_eq!(disk_row(&cloud, disk).state, DiskState::InUse);
        }
    }
    check(&cloud, &site);
}

#[test]
fn a_disk_is_reinitialised_or_will_be() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[("Encrypted", "true")]);
    attach(&cloud, &disk, &new_instance(&cloud, "i-1", InstanceState::Stopped));
    cut_everywhere(&site, |cloud| ask(cloud, "ReInitDisk", &[("DiskId", &disk)]));
}

#[test]
fn a_disk_says_that_it_is_being_reinitialised() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[]);
    attach(&cloud, &disk, &new_instance(&cloud, "i-1", InstanceState::Stopped));
    // The first step writes the plan, and the second, which is not done, is the target's.
    let cut = site.open_until(&crate::cloud::testing::Fate::at(1, false));
    ask(&cut, "ReInitDisk", &[("DiskId", &disk)]).expect_err("it dies");
    let next = site.open();
    let list = ask(&next, "DescribeDisks", &[("Status", "ReIniting")]).expect("a list");
    assert_eq!(list["Disks"]["Disk"][0]["DiskId"], json!(disk));
    next.recover();
    check(&next, &site);
}

#[test]
fn reinit_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let disk = new_disk(&cloud, &[]);
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let copy = new_disk(&cloud, &[("SnapshotId", &snapshot)]);
    let id = ("DiskId", disk.as_str());
    refused(&cloud, "ReInitDisk", &[], "MissingParameter", 400);
    refused(&cloud, "ReInitDisk", &[id, ("SecurityEnhancementStrategy", "Maybe")], "InvalidParameter", 400);
    refused(&cloud, "ReInitDisk", &[id, ("AutoStartInstance", "true")], "UnsupportedParameter", 400);
    refused(&cloud, "ReInitDisk", &[("DiskId", "d-none")], "InvalidDiskId.NotFound", 404);
    refused(&cloud, "ReInitDisk", &[id], "IncorrectDiskStatus", 403);
    for disk in [&disk, &shared, &copy] {
        attach(&cloud, disk, &instance);
    }
    for state in [InstanceState::Running, InstanceState::Starting, InstanceState::Stopping] {
        set_state(&cloud, &instance, state);
        refused(&cloud, "ReInitDisk", &[id], "IncorrectInstanceStatus", 403);
    }
    edit_instance(&cloud, &instance, |row| (row.state, row.was_started) = (InstanceState::Stopped, false));
    refused(&cloud, "ReInitDisk", &[id], "IncorrectInstanceStatus", 403);
    edit_instance(&cloud, &instance, |row| row.was_started = true);
    refused(&cloud, "ReInitDisk", &[("DiskId", &shared)], "InvalidOperation.MultiAttachDisk", 403);
    drop_snapshot(&cloud, &snapshot);
    refused(&cloud, "ReInitDisk", &[("DiskId", &copy)], "InvalidSourceSnapshot", 403);
}

#[test]
fn a_snapshot_that_a_disk_is_being_made_from_does_not_go_with_its_own_disk() {
    let site = Site::new();
    let cloud = site.open();
    let disk = new_disk(&cloud, &[]);
    let [kept, gone] = ["s-1", "s-2"].map(|id| new_snapshot(&cloud, &disk, id));
    for id in [&kept, &gone] {
        edit_snapshot(&cloud, id, |row| row.policy = Some("sp-1".to_owned()));
    }
    let other = new_disk(&cloud, &[("SnapshotId", &kept)]);
    edit_disk(&cloud, &other, |row| row.state = DiskState::Creating);
    ask(&cloud, "DeleteDisk", &[("DiskId", &disk)]).expect("it is deleted");
    let left: Vec<String> = cloud.store().read(|world| world.snapshots.iter().map(|(id, _)| id.to_owned()).collect());
    assert_eq!(left, [kept]);
}
