//! The codes and statuses of the pages of CreateDisk, AttachDisk, DetachDisk and DeleteDisk that can occur here. What concerns encryption stands in
//! `disk_rules`.

use std::sync::Arc;

use super::*;
use crate::cloud::crash_tests::new_disk;
use crate::cloud::ecs::disk::attach::Attach;
use crate::cloud::ecs::disk::detach::Detach;
use crate::cloud::ecs::disk::resize::ResizeDisk;
use crate::cloud::ecs::snapshot::create::CreateSnapshot;
use crate::cloud::rows::{DiskState, InstanceState};
use crate::cloud::store::{DatabaseFile, Store};
use crate::cloud::testing::{FakeTarget, Site, ZONE, new_instance};
use serde_json::json;

#[test]
fn create_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let zone = ("ZoneId", ZONE);
    let size = ("Size", "20");
    let long = "a".repeat(257);
    for (params, code, status) in [
        (&[size][..], "MissingParameter", 400),
        (&[zone], "MissingParameter", 400),
        (&[zone, size, ("RegionId", "elsewhere")], "InvalidRegionId.NotFound", 404),
        (&[("ZoneId", "zone-x"), size], "InvalidZoneId.NotFound", 404),
        (&[zone, ("Size", "x")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, ("Size", "-1")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, ("Size", "4")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, ("Size", "2001")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, ("Size", "19"), ("DiskCategory", "cloud_ssd")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, ("Size", "32769"), ("DiskCategory", "cloud_efficiency")], "InvalidSize.ValueNotSupported", 400),
        (&[zone, size, ("DiskCategory", "tape")], "InvalidDiskCategory.ValueNotSupported", 400),
        (&[zone, size, ("DiskCategory", "cloud_essd")], "InvalidDiskCategory.NotSupported", 400),
        (&[zone, size, ("PerformanceLevel", "PL9")], "InvalidPerformanceLevel.Malformed", 400),
        (&[zone, size, ("DiskName", "1")], "InvalidDiskName.Malformed", 400),
        (&[zone, size, ("DiskName", "http://a")], "InvalidDiskName.Malformed", 400),
        (&[zone, size, ("Description", "https://a")], "InvalidDescription.Malformed", 400),
        (&[zone, size, ("Description", &long)], "InvalidDescription.Malformed", 400),
        (&[zone, size, ("Tag.1.Key", "acs:a")], "InvalidTagKey.Malformed", 400),
        (&[zone, size, ("Tag.1.Key", "a"), ("Tag.1.Value", "http://b")], "InvalidTagValue.Malformed", 400),
        (&[zone, size, ("Tag.1.Key", "a"), ("Tag.2.Key", "a")], "Duplicate.TagKey", 400),
        (&[zone, ("SnapshotId", "s-none")], "InvalidSnapshotId.NotFound", 404),
        (&[zone, size, ("MultiAttach", "Maybe")], "InvalidParameter.MultiAttach", 403),
        (&[zone, size, ("MultiAttach", "Enabled")], "InvalidParameter.DiskCategoryAndMultiAttachNotMatch", 403),
        (&[zone, size, ("InstanceId", "i-1")], "InvalidParameter.Conflict", 400),
        (&[size, ("InstanceId", "i-none")], "InvalidInstanceId.NotFound", 404),
        (
            &[size, ("InstanceId", "i-1"), ("MultiAttach", "Enabled")],
            "InvalidParameter.MultiAttachAndInstanceIdConflict",
            403,
        ),
        (&[zone, size, ("ClientToken", &long)], "InvalidParameter", 400),
    ] {
        refused(&cloud, "CreateDisk", params, code, status);
    }
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    refused(&cloud, "CreateDisk", &[size, ("InstanceId", &instance)], "InvalidPayMethod", 403);
    assert!(cloud.store().read(|world| world.disks.is_empty()));
}

#[test]
fn what_is_malformed_is_told_before_what_is_not_there() {
    let cloud = Site::new().open();
    let params = [("ZoneId", ZONE), ("SnapshotId", "s-none"), ("DiskName", "1")];
    refused(&cloud, "CreateDisk", &params, "InvalidDiskName.Malformed", 400);
    refused(&cloud, "ModifyDiskAttribute", &[("DiskId", "d-none")], "NoAttributeToModify", 400);
    refused(&cloud, "ResizeDisk", &[("DiskId", "d-none"), ("NewSize", "x")], "InvalidParameter", 400);
    let device = [("DiskId", "d-none"), ("InstanceId", "i-none"), ("Device", "/dev/sda")];
    refused(&cloud, "AttachDisk", &device, "InvalidDevice.Malformed", 400);
}

#[test]
fn create_disk_refuses_snapshots_that_do_not_fit() {
    let cloud = Site::new().open();
    let disk = new_disk_of(&cloud, &[("Size", "40")]);
    let snapshot = new_snapshot(&cloud, &disk, "s-1");
    let from = [("ZoneId", ZONE), ("SnapshotId", snapshot.as_str()), ("DiskCategory", "cloud_ssd")];
    refused(&cloud, "CreateDisk", &[&from[..], &[("Size", "20")]].concat(), "InvalidDiskSize.TooSmall", 403);
    edit_snapshot(&cloud, &snapshot, |row| row.size_gib = 5);
    refused(&cloud, "CreateDisk", &from, "InvalidDiskSize.NotSupported", 403);
    edit_snapshot(&cloud, &snapshot, |row| row.size_gib = 2001);
    refused(&cloud, "CreateDisk", &from[..2], "InvalidSnapshot.TooLarge", 403);
    edit_snapshot(&cloud, &snapshot, |row| row.state = SnapshotState::Progressing);
    refused(&cloud, "CreateDisk", &from, "InvalidSnapshot.NotReady", 403);
    edit_snapshot(&cloud, &snapshot, |row| row.state = SnapshotState::Deleting);
    refused(&cloud, "CreateDisk", &from, "InvalidSnapshotId.NotFound", 404);
}

#[test]
fn a_snapshot_makes_disks_in_zones_of_its_pool_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = DatabaseFile::open(&folder.path().join("state")).expect("a file");
    let zone = |name: &str, pool: &str| json!({ "name": name, "pool": pool });
    let zones = [zone(ZONE, "p0"), zone("zone-b", "p0"), zone("zone-c", "p1")];
    let config = serde_json::from_value(json!({ "state_dir": folder.path(), "zone": zones })).expect("a configuration");
    let store = Store::open(Box::new(file)).expect("it is empty");
    let cloud = Cloud::new("cn-test", config, Arc::new(store), Arc::new(FakeTarget::default()));
    let snapshot = new_snapshot(&cloud, &new_disk(&cloud, &[]), "s-1");
    let from = ("SnapshotId", snapshot.as_str());
    ask(&cloud, "CreateDisk", &[("ZoneId", "zone-b"), ("DiskCategory", "cloud_ssd"), from]).expect("the same pool");
    let other = [("ZoneId", "zone-c"), ("DiskCategory", "cloud_ssd"), from];
    refused(&cloud, "CreateDisk", &other, "OperationDenied", 403);
}

#[test]
fn a_disk_from_a_snapshot_is_as_large_as_it_and_may_be_larger() {
    let cloud = Site::new().open();
    let snapshot = new_snapshot(&cloud, &new_disk_of(&cloud, &[("Size", "40")]), "s-1");
    for (size, gib) in [("", 40), ("40", 40), ("50", 50)] {
        let disk = new_disk_of(&cloud, &[("SnapshotId", &snapshot), ("Size", size)]);
        assert_eq!(disk_row(&cloud, &disk).size_gib, gib);
    }
}

#[test]
fn an_account_has_so_many_shared_disks() {
    let cloud = Site::new().open();
    let shared = [("ZoneId", ZONE), ("Size", "20"), ("DiskCategory", "cloud_ssd"), ("MultiAttach", "Enabled")];
    for _ in 0..cloud.config().limits.shared_disks {
        ask(&cloud, "CreateDisk", &shared).expect("it is made");
    }
    refused(&cloud, "CreateDisk", &shared, "QuotaExceed.PortableCloudDisk", 403);
    new_disk(&cloud, &[]);
}

#[test]
fn attach_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let (running, stopped) =
        (new_instance(&cloud, "i-1", InstanceState::Running), new_instance(&cloud, "i-2", InstanceState::Stopped));
    let [free, used, system] = [(); 3].map(|()| new_disk(&cloud, &[]));
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    let away = new_disk(&cloud, &[]);
    edit_disk(&cloud, &away, |disk| "zone-b".clone_into(&mut disk.zone));
    make_system(&cloud, &system);
    let to = |disk: &str, instance: &str, more: &[(&str, &str)], code: &str, status| {
        let params = [&[("DiskId", disk), ("InstanceId", instance)], more].concat();
        refused(&cloud, "AttachDisk", &params, code, status);
    };
    ask(&cloud, "AttachDisk", &[("DiskId", &used), ("InstanceId", &running)]).expect("it is attached");
    ask(&cloud, "AttachDisk", &[("DiskId", &shared), ("InstanceId", &running)]).expect("it is attached");
    refused(&cloud, "AttachDisk", &[("InstanceId", &running)], "MissingParameter", 400);
    to("", &running, &[], "InvalidParameter", 400);
    to(&free, "", &[], "InvalidParameter", 400);
    to("d-none", &running, &[], "InvalidDiskId.NotFound", 404);
    to(&free, "i-none", &[], "InvalidInstanceId.NotFound", 404);
    to(&system, &running, &[], "DiskNotPortable", 403);
    to(&used, &stopped, &[], "InvalidDisk.InUse", 404);
    to(&used, &running, &[], "InvalidDisk.InUse", 404);
    to(&shared, &running, &[], "InvalidDisk.InUse", 404);
    to(&away, &running, &[], "ResourcesNotInSameZone", 403);
    to(&shared, &stopped, &[("DeleteWithInstance", "true")], "DeleteWithInstance.Conflict", 403);
    to(&free, &running, &[("DeleteWithInstance", "x")], "InvalidParameter", 400);
    to(&free, &running, &[("Device", "/dev/xvdb")], "InvalidDevice.InUse", 403);
    for device in ["/dev/xvda", "/dev/xvdB", "/dev/xvdbb", "/dev/sdb", "xvdb"] {
        to(&free, &running, &[("Device", device)], "InvalidDevice.Malformed", 400);
    }
    for state in [InstanceState::Pending, InstanceState::Starting, InstanceState::Stopping] {
        edit_instance(&cloud, &stopped, |instance| instance.state = state);
        to(&free, &stopped, &[], "IncorrectInstanceStatus", 400);
    }
    for state in [DiskState::Creating, DiskState::Attaching, DiskState::Detaching, DiskState::ReIniting] {
        edit_disk(&cloud, &free, |disk| disk.state = state);
        to(&free, &running, &[], "IncorrectDiskStatus", 403);
    }
    edit_disk(&cloud, &free, |disk| disk.state = DiskState::Deleting);
    to(&free, &running, &[], "InvalidDiskId.NotFound", 404);
}

#[test]
fn a_disk_to_which_something_is_being_done_is_left_alone() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    let [free, used] = [(); 2].map(|()| new_disk(&cloud, &[]));
    ask(&cloud, "AttachDisk", &[("DiskId", &used), ("InstanceId", &instance)]).expect("it is attached");
    let at = ("InstanceId", instance.as_str());
    let snapshot = new_snapshot(&cloud, &free, "s-1");
    for disk in [&free, &used] {
        begin(&cloud, Intent::ResizeDisk(ResizeDisk { disk: disk.clone(), gib: 40 }));
    }
    let (free, used) = (("DiskId", free.as_str()), ("DiskId", used.as_str()));
    refused(&cloud, "AttachDisk", &[free, at], "IncorrectDiskStatus", 403);
    refused(&cloud, "DetachDisk", &[used, at], "IncorrectDiskStatus", 403);
    refused(&cloud, "DeleteDisk", &[free], "IncorrectDiskStatus", 403);
    refused(&cloud, "ResizeDisk", &[free, ("NewSize", "50")], "Operation.Conflict", 403);
    refused(&cloud, "ResetDisk", &[free, ("SnapshotId", &snapshot)], "Operation.Conflict", 403);
    refused(&cloud, "ReInitDisk", &[used], "Operation.Conflict", 403);
    // As while the instance is started: it is the instance that is not ready.
    edit_instance(&cloud, &instance, |row| row.state = InstanceState::Starting);
    refused(&cloud, "DetachDisk", &[used, at], "IncorrectInstanceStatus", 403);
    refused(&cloud, "ResizeDisk", &[used, ("NewSize", "50")], "IncorrectInstanceStatus", 403);
    refused(&cloud, "ReInitDisk", &[used], "IncorrectInstanceStatus", 403);
    edit_instance(&cloud, &instance, |row| row.state = InstanceState::Stopped);
    end_all(&cloud);
    ask(&cloud, "DetachDisk", &[used, at]).expect("it is detached");
    ask(&cloud, "DeleteDisk", &[free]).expect("it is deleted");
}

#[test]
fn a_disk_of_which_a_snapshot_is_being_made_is_left_alone() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    let [free, used] = [(); 2].map(|()| new_disk(&cloud, &[]));
    ask(&cloud, "AttachDisk", &[("DiskId", &used), ("InstanceId", &instance)]).expect("it is attached");
    let snapshot = new_snapshot(&cloud, &free, "s-1");
    for disk in [&free, &used] {
        begin(&cloud, Intent::CreateSnapshot(CreateSnapshot { disk: disk.clone(), snapshot: "s-2".to_owned() }));
    }
    let (free, used, at) = (("DiskId", &*free), ("DiskId", &*used), ("InstanceId", &*instance));
    refused(&cloud, "DeleteDisk", &[free], "DiskCreatingSnapshot", 403);
    refused(&cloud, "ResizeDisk", &[free, ("NewSize", "40")], "DiskCreatingSnapshot", 403);
    refused(&cloud, "ReInitDisk", &[used], "DiskCreatingSnapshot", 403);
    // These pages have no such code.
    refused(&cloud, "ResetDisk", &[free, ("SnapshotId", &snapshot)], "IncorrectDiskStatus", 403);
    refused(&cloud, "AttachDisk", &[free, at], "IncorrectDiskStatus", 403);
    refused(&cloud, "DetachDisk", &[used, at], "IncorrectDiskStatus", 403);
    end_all(&cloud);
    ask(&cloud, "DeleteDisk", &[free]).expect("it is deleted");
}

#[test]
fn several_disks_come_to_an_instance_at_once() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let [there, coming, next] = [(); 3].map(|()| new_disk(&cloud, &[]));
    let to = |disk: &str| [("DiskId", disk.to_owned()), ("InstanceId", instance.clone())];
    let attach = |disk: &str, more: &[(&str, &str)]| {
        let params = to(disk);
        let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ask(&cloud, "AttachDisk", &[&params[..], more].concat())
    };
    attach(&there, &[]).expect("it is attached");
    let work = Attach {
        disk: coming.clone(),
        instance: instance.clone(),
        device: "/dev/xvdc".to_owned(),
        delete_with_instance: false,
    };
    begin(&cloud, Intent::Attach(work));
    begin(&cloud, Intent::Detach(Detach { disk: there.clone(), instance: instance.clone() }));
    // What is on its way has its name already.
    assert_eq!(refusal(attach(&next, &[("Device", "/dev/xvdc")])), ("InvalidDevice.InUse".to_owned(), 403));
    attach(&next, &[]).expect("it is attached");
    assert_eq!(disk_row(&cloud, &next).attachments[0].device, "/dev/xvdd");
}

#[test]
fn a_device_that_is_free_may_be_chosen() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    for (device, named) in [("/dev/xvdz", "/dev/xvdz"), ("/dev/vdc", "/dev/vdc"), ("", "/dev/xvdb")] {
        let disk = new_disk(&cloud, &[]);
        let params = [("DiskId", disk.as_str()), ("InstanceId", &instance), ("Device", device)];
        ask(&cloud, "AttachDisk", &params).expect("it is attached");
        assert_eq!(disk_row(&cloud, &disk).attachments[0].device, named);
    }
}

#[test]
fn an_instance_has_so_many_disks_and_a_shared_disk_so_many_instances() {
    let cloud = Site::new().open();
    let (disks, instances) = (cloud.config().limits.disks_per_instance, cloud.config().limits.shared_attachments);
    let first = new_instance(&cloud, "i-0", InstanceState::Running);
    for _ in 0..disks {
        let disk = new_disk(&cloud, &[]);
        ask(&cloud, "AttachDisk", &[("DiskId", &disk), ("InstanceId", &first)]).expect("it is attached");
    }
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    let of = ("DiskId", shared.as_str());
    refused(&cloud, "AttachDisk", &[of, ("InstanceId", &first)], "InstanceDiskLimitExceeded", 403);
    for number in 1..=instances {
        let instance = new_instance(&cloud, &format!("i-{number}"), InstanceState::Running);
        ask(&cloud, "AttachDisk", &[of, ("InstanceId", &instance)]).expect("it is attached");
    }
    let one_more = new_instance(&cloud, "i-x", InstanceState::Running);
    refused(&cloud, "AttachDisk", &[of, ("InstanceId", &one_more)], "DiskAttachedNumberExceeded", 403);
}

#[test]
fn detach_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let another = new_instance(&cloud, "i-2", InstanceState::Running);
    let [free, used, system] = [(); 3].map(|()| new_disk(&cloud, &[]));
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled")]);
    for disk in [&used, &shared] {
        ask(&cloud, "AttachDisk", &[("DiskId", disk), ("InstanceId", &instance)]).expect("it is attached");
    }
    make_system(&cloud, &system);
    let from = |disk: &str, instance: &str, code: &str, status| {
        refused(&cloud, "DetachDisk", &[("DiskId", disk), ("InstanceId", instance)], code, status);
    };
    refused(&cloud, "DetachDisk", &[("DiskId", &used)], "MissingParameter", 400);
    from(&used, "", "InvalidParameter", 400);
    from("", &instance, "InvalidParameter", 400);
    from("d-none", &instance, "InvalidDiskId.NotFound", 404);
    from(&used, "i-none", "InvalidInstanceId.NotFound", 404);
    from(&system, &instance, "DiskTypeViolation", 403);
    from(&used, &another, "DependencyViolation", 403);
    from(&free, &instance, "DependencyViolation", 403);
    let with = [("DiskId", shared.as_str()), ("InstanceId", &instance), ("DeleteWithInstance", "true")];
    refused(&cloud, "DetachDisk", &with, "DeleteWithInstance.Conflict", 403);
    for state in [InstanceState::Starting, InstanceState::Stopping] {
        edit_instance(&cloud, &instance, |row| row.state = state);
        from(&used, &instance, "IncorrectInstanceStatus", 403);
    }
    for state in [DiskState::Attaching, DiskState::Detaching, DiskState::ReIniting] {
        edit_disk(&cloud, &used, |disk| disk.state = state);
        from(&used, &instance, "IncorrectDiskStatus", 403);
    }
}

#[test]
fn delete_disk_refuses_what_its_page_says() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Stopped);
    let [free, used, system] = [(); 3].map(|()| new_disk(&cloud, &[]));
    ask(&cloud, "AttachDisk", &[("DiskId", &used), ("InstanceId", &instance)]).expect("it is attached");
    make_system(&cloud, &system);
    refused(&cloud, "DeleteDisk", &[], "MissingParameter", 400);
    refused(&cloud, "DeleteDisk", &[("DiskId", &used)], "DiskStillAttached", 403);
    refused(&cloud, "DeleteDisk", &[("DiskId", &system)], "DiskTypeViolation", 403);
    for state in [DiskState::Creating, DiskState::Attaching, DiskState::Detaching, DiskState::ReIniting] {
        edit_disk(&cloud, &free, |disk| disk.state = state);
        refused(&cloud, "DeleteDisk", &[("DiskId", &free)], "IncorrectDiskStatus", 403);
    }
    for disk in ["d-none", "x"] {
        assert_eq!(ask(&cloud, "DeleteDisk", &[("DiskId", disk)]), Ok(json!({})), "what is not there is deleted");
    }
}
