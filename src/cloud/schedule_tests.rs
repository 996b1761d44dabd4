//! What happens by itself, by the site's clock. It starts on Thursday, 2018-06-07 at 14:08:54 in UTC+8.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::*;
use crate::cloud::backend::KeyState;
use crate::cloud::crash_tests::{check, cut_everywhere};
use crate::cloud::ecs::policy::tests::{apply, new_policy};
use crate::cloud::ecs::snapshot::tests::{change_disk, new_snapshot, used_disk};
use crate::cloud::intent::Open;
use crate::cloud::rows::DiskKind;
use crate::cloud::testing::{Fate, Site, ask};

fn pass(site: &Site, seconds: Seconds) {
    site.clock.fetch_add(seconds, Ordering::Relaxed);
}

fn automatic_of(cloud: &Cloud, disk: &str) -> Vec<Value> {
    let answer = ask(cloud, "DescribeSnapshots", &[("DiskId", disk), ("SnapshotType", "auto")]).expect("a list");
    answer["Snapshots"]["Snapshot"].as_array().expect("a list").clone()
}

#[test]
fn a_policy_has_its_hour_once() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    apply(&cloud, &new_policy(&cloud, "[15, 17]", "3"), &[&disk]).expect("it has the policy");
    cloud.tick();
    assert!(automatic_of(&cloud, &disk).is_empty(), "it is 14 o'clock");
    pass(&site, HOUR);
    for _ in 0..3 {
        cloud.tick();
        pass(&site, 60);
    }
    site.open().tick();
    let seen = automatic_of(&cloud, &disk);
    assert_eq!(seen.len(), 1, "once, also after a restart");
    assert_eq!((&seen[0]["SnapshotName"], &seen[0]["SnapshotType"]), (&json!("auto_20180607_15"), &json!("timer")));
    assert_eq!((&seen[0]["RetentionDays"], &seen[0]["Encrypted"]), (&json!(3), &json!(true)));
    let cloud = site.open();
    pass(&site, HOUR);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 1, "it is 16 o'clock");
    pass(&site, HOUR);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 2);
    pass(&site, DAY);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 3, "on the next day again");
    check(&cloud, &site);
}

#[test]
fn a_deleted_snapshot_is_not_made_again() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    apply(&cloud, &new_policy(&cloud, "[14]", "3"), &[&disk]).expect("it has the policy");
    cloud.tick();
    let seen = automatic_of(&cloud, &disk);
    let snapshot = seen[0]["SnapshotId"].as_str().expect("a text");
    ask(&cloud, "DeleteSnapshot", &[("SnapshotId", snapshot)]).expect("it goes");
    cloud.tick();
    assert!(automatic_of(&cloud, &disk).is_empty());
}

#[test]
fn hours_and_weekdays_are_those_of_china() {
    let policy = |hours: &[u8], weekdays: &[u8]| Policy {
        id: "sp".to_owned(),
        account: "acme".to_owned(),
        name: String::new(),
        hours: hours.to_vec(),
        weekdays: weekdays.to_vec(),
        retention_days: None,
        last_hour: None,
        created_at: 0,
    };
    let at = |text: &str| text.parse::<Time>().expect("a time").seconds();
    // Thursday at 17 o'clock in London is Friday at 1 in Shanghai.
    let friday = at("2018-06-07T17:30:00.000Z");
    assert!(is_due(&policy(&[1], &[5]), friday));
    assert!(!is_due(&policy(&[1], &[4]), friday));
    assert!(!is_due(&policy(&[17], &[4, 5]), friday));
    assert!(is_due(&policy(&[23], &[7]), at("2018-06-10T15:59:59.000Z")));
    assert!(is_due(&policy(&[0], &[1]), at("2018-06-10T16:00:00.000Z")));
    let done = Policy { last_hour: Some(friday / HOUR), ..policy(&[1], &[5]) };
    assert!(!is_due(&done, friday) && is_due(&done, friday + 7 * DAY));
}

#[test]
fn only_disks_that_are_in_use_and_allow_it_get_automatic_snapshots() {
    let site = Site::new();
    let cloud = site.open();
    let disks: Vec<String> = (0..4).map(|_| used_disk(&cloud, &[])).collect();
    let policy = new_policy(&cloud, "[14]", "3");
    apply(&cloud, &policy, &[&disks[0], &disks[1], &disks[2]]).expect("they have the policy");
    change_disk(&cloud, &disks[1], |disk| disk.enable_auto_snapshot = false);
    let detach = [("DiskId", disks[2].as_str()), ("InstanceId", &format!("i-{}", disks[2]))];
    ask(&cloud, "DetachDisk", &detach).expect("it is detached");
    cloud.tick();
    let counts: Vec<usize> = disks.iter().map(|disk| automatic_of(&cloud, disk).len()).collect();
    assert_eq!(counts, [1, 0, 0, 0]);
}

#[test]
fn a_disk_that_is_on_its_way_gets_its_snapshot_when_it_is_there() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    apply(&cloud, &new_policy(&cloud, "[14]", "3"), &[&disk]).expect("it has the policy");
    change_disk(&cloud, &disk, |disk| disk.state = DiskState::Attaching);
    cloud.tick();
    assert!(automatic_of(&cloud, &disk).is_empty());
    change_disk(&cloud, &disk, |disk| disk.state = DiskState::InUse);
    pass(&site, PAUSE_SECONDS);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 1);
}

#[test]
fn at_the_limit_the_oldest_automatic_snapshot_goes() {
    let mut site = Site::new();
    site.limits.snapshots_per_disk = 3;
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    apply(&cloud, &new_policy(&cloud, "[14]", "-1"), &[&disk]).expect("it has the policy");
    let manual = new_snapshot(&cloud, &disk);
    for _ in 0..4 {
        cloud.tick();
        pass(&site, DAY);
    }
    let names = |cloud: &Cloud| -> Vec<String> {
        automatic_of(cloud, &disk)
            .iter()
            .map(|seen| seen["SnapshotName"].as_str().expect("a text").to_owned())
            .collect()
    };
    assert_eq!(names(&cloud), ["auto_20180609_14", "auto_20180610_14"]);
    assert!(cloud.store().read(|world| world.snapshots.contains(&manual)));
    // An image holds one: the other goes. With two held nothing can go, and nothing comes.
    change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::System);
    let hold = |cloud: &Cloud, name: &str| {
        let changed = cloud.store().change(|world| -> Result<(), ApiError> {
            let row = world.snapshots.rows().find(|row| row.name == name).expect("it is there").id.clone();
            world.snapshots.get_mut(&row).expect("it is there").disk_kind = DiskKind::System;
            Ok(())
        });
        changed.expect("it lives");
        let all = automatic_of(cloud, &disk);
        let seen = all.iter().find(|seen| seen["SnapshotName"] == name).expect("it is there");
        let params = [("SnapshotId", seen["SnapshotId"].as_str().expect("a text"))];
        ask(cloud, "CreateImage", &params).expect("it is made");
    };
    hold(&cloud, "auto_20180609_14");
    cloud.tick();
    assert_eq!(names(&cloud), ["auto_20180609_14", "auto_20180611_14"]);
    hold(&cloud, "auto_20180611_14");
    pass(&site, DAY);
    cloud.tick();
    assert_eq!(names(&cloud), ["auto_20180609_14", "auto_20180611_14"]);
    check(&cloud, &site);
}

#[test]
fn expired_snapshots_go_unless_an_image_has_them() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    change_disk(&cloud, &disk, |disk| disk.kind = DiskKind::System);
    let make = |days: &str| {
        let made = ask(&cloud, "CreateSnapshot", &[("DiskId", &disk), ("RetentionDays", days)]).expect("it is made");
        made["SnapshotId"].as_str().expect("a text").to_owned()
    };
    let (short, held, long, ever) = (make("1"), make("1"), make("2"), new_snapshot(&cloud, &disk));
    ask(&cloud, "CreateImage", &[("SnapshotId", &held)]).expect("it is made");
    pass(&site, DAY - 1);
    cloud.tick();
    assert!(cloud.store().read(|world| world.snapshots.contains(&short)));
    pass(&site, 1);
    cloud.tick();
    let there = |id: &String| cloud.store().read(|world| world.snapshots.contains(id));
    assert_eq!([short, held, long, ever].each_ref().map(there), [false, true, true, true]);
    check(&cloud, &site);
}

#[test]
fn what_the_kms_held_up_is_tried_again_in_the_hour() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[("Encrypted", "true")]);
    apply(&cloud, &new_policy(&cloud, "[14]", "3"), &[&disk]).expect("it has the policy");
    site.target().kms_is_away = true;
    cloud.tick();
    site.target().kms_is_away = false;
    pass(&site, PAUSE_SECONDS - 1);
    cloud.tick();
    assert!(automatic_of(&cloud, &disk).is_empty(), "it is left alone for a while");
    pass(&site, 1);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 1);
    // A disabled key will be so for longer.
    pass(&site, DAY);
    site.target().keys[0].state = KeyState::Disabled;
    cloud.tick();
    site.target().keys[0].state = KeyState::Enabled;
    pass(&site, PAUSE_SECONDS);
    cloud.tick();
    assert_eq!(automatic_of(&cloud, &disk).len(), 1);
}

#[test]
fn what_could_not_be_undone_is_undone_later() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    let by = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
    let left = cloud.store().change(|world| -> Result<_, ApiError> {
        let row = row_of(world.disks.get(&disk).expect("it is there"), 1);
        let intent = crate::cloud::ecs::snapshot::create::plan(world, row.clone());
        world.intents.put("7", Open { intent, by: by.clone(), token: None, is_undone: true });
        Ok(row)
    });
    let left = left.expect("it lives");
    cloud.backend().snapshot(&disk, &left.id, &by).expect("it is there");
    cloud.tick();
    assert!(cloud.store().read(|world| world.snapshots.is_empty()));
    check(&cloud, &site);
}

#[test]
fn what_another_thread_carries_out_is_left_to_it() {
    let site = Site::new();
    let cloud = site.open();
    let disk = used_disk(&cloud, &[]);
    drop(ask(&site.open_until(&Fate::at(0, true)), "CreateSnapshot", &[("DiskId", &disk)]));
    let cloud = site.open();
    let number = cloud.store().read(|world| world.intents.iter().next().map(|(id, _)| id.to_owned()));
    let number = number.expect("it was begun");
    let held = cloud.hold_for_test(&number);
    assert!(cloud.recover(), "there is nothing that it may touch");
    assert_eq!(cloud.store().read(|world| world.intents.len()), 1);
    ask(&cloud, "ModifySnapshotAttribute", &[("SnapshotId", "s-none")]).expect_err("it is not there");
    new_snapshot(&cloud, &used_disk(&cloud, &[]));
    drop(held);
    assert!(cloud.recover());
    check(&cloud, &site);
}

#[test]
fn requests_and_further_tries_do_not_meet() {
    let mut site = Site::new();
    site.limits.snapshots_per_disk = 1000;
    let cloud = site.open();
    let disks = [0, 1, 2].map(|_| used_disk(&cloud, &[]));
    std::thread::scope(|scope| {
        let requests = disks.each_ref().map(|disk| {
            let cloud = &cloud;
            scope.spawn(move || {
                for _ in 0..30 {
                    let snapshot = new_snapshot(cloud, disk);
                    ask(cloud, "DeleteSnapshot", &[("SnapshotId", &snapshot)]).expect("it goes");
                }
                new_snapshot(cloud, disk);
            })
        });
        while requests.iter().any(|request| !request.is_finished()) {
            assert!(cloud.recover());
        }
    });
    assert_eq!(cloud.store().read(|world| world.snapshots.len()), 3);
    check(&cloud, &site);
}

#[test]
fn each_disk_has_its_snapshot_once_wherever_the_process_dies() {
    let site = Site::new();
    let cloud = site.open();
    let disks = [used_disk(&cloud, &[("Encrypted", "true")]), used_disk(&cloud, &[])];
    apply(&cloud, &new_policy(&cloud, "[14]", "1"), &[&disks[0], &disks[1]]).expect("they have the policy");
    let tick = |cloud: &Cloud| match cloud.do_due(cloud.now()).into_iter().next() {
        Some(error) => Err(error),
        None => Ok(json!({})),
    };
    cut_everywhere(&site, tick);
    let fate = Fate::default();
    tick(&site.fork().open_until(&fate)).expect("it is done");
    for step in 0..fate.steps() {
        for done in [false, true] {
            let site = site.fork();
            tick(&site.open_until(&Fate::at(step, done))).expect_err("it died");
            let next = site.open();
            next.recover();
            next.tick();
            for disk in &disks {
                assert_eq!(automatic_of(&next, disk).len(), 1, "step {step}");
            }
            check(&next, &site);
        }
    }
    // The day after, they expire, and others come.
    cloud.tick();
    pass(&site, DAY);
    cut_everywhere(&site, tick);
    cloud.tick();
    assert_eq!(disks.each_ref().map(|disk| automatic_of(&cloud, disk).len()), [1, 1]);
}
