//! Every operation, cut off at every durable step: what an earlier life has left is finished or undone, and store and target agree.

use std::collections::BTreeSet;

use super::error::ApiError;
use super::rows::{DiskState, InstanceState, SnapshotState};
use super::service::Cloud;
use super::testing::{Fate, Site, ask, new_instance};

/// What has to hold when nothing is under way.
pub fn check(cloud: &Cloud, site: &Site) {
    let target = site.target();
    cloud.store().read(|world| {
        assert!(world.intents.is_empty(), "an intent is left");
        assert!(world.tokens.rows().all(|token| token.intent.is_none()), "a token waits for nothing");
        let rows: Vec<&str> = world.disks.iter().map(|(id, _)| id).collect();
        let volumes: Vec<&str> = target.disks.keys().map(String::as_str).collect();
        assert_eq!(rows, volumes, "disks of the store and of the target");
        for disk in world.disks.rows() {
            let volume = &target.disks[&disk.id];
            assert!(matches!(disk.state, DiskState::Available | DiskState::InUse), "{disk:?}");
            assert_eq!(disk.state, disk.resting_state());
            assert_eq!(disk.encrypted, volume.made.encrypted);
            assert_eq!(disk.key_id, volume.made.key_id);
            assert_eq!(disk.nsid, Some(volume.nsid));
            assert_eq!(disk.size_gib << 30, volume.made.bytes);
            let running =
                disk.attachments.iter().map(|at| &at.instance).filter(|instance| {
                    world.instances.get(instance).expect("it is there").state == InstanceState::Running
                });
            assert_eq!(running.collect::<BTreeSet<_>>(), volume.attached_to.iter().collect(), "{}", disk.id);
        }
        let mut snapshots: Vec<String> = world.snapshots.rows().map(|snapshot| snapshot.pool_name()).collect();
        snapshots.sort();
        let mut there: Vec<String> = target.snapshots.keys().map(|(_, name)| name.clone()).collect();
        there.sort();
        assert_eq!(snapshots, there, "snapshots of the store and of the pool");
        for snapshot in world.snapshots.rows() {
            assert_eq!(snapshot.state, SnapshotState::Accomplished);
            let (_, bytes, lineage) = &target.snapshots[&("p0".to_owned(), snapshot.pool_name())];
            assert_eq!(snapshot.size_gib << 30, *bytes);
            assert_eq!(snapshot.encrypted, lineage.is_some(), "{snapshot:?}");
            assert_eq!(snapshot.encrypted, snapshot.key_id.is_some(), "{snapshot:?}");
        }
        for image in world.images.rows() {
            assert!(image.is_available, "{image:?}");
            assert!(image.devices.iter().all(|device| world.snapshots.contains(&device.snapshot)), "{image:?}");
        }
        let hosts: Vec<&str> = world.instances.iter().map(|(id, _)| id).collect();
        assert_eq!(hosts, target.hosts.keys().map(String::as_str).collect::<Vec<_>>(), "instances and hosts");
        let rests = |state| matches!(state, InstanceState::Running | InstanceState::Stopped);
        assert!(world.instances.rows().all(|instance| rests(instance.state)));
    });
}

/// Cuts an operation off at each of its steps, lets the next life recover, and checks; each time on a copy of the site.
pub fn cut_everywhere(site: &Site, operation: impl Fn(&Cloud) -> Result<serde_json::Value, ApiError>) {
    let whole = site.fork();
    let fate = Fate::default();
    let cloud = whole.open_until(&fate);
    operation(&cloud).expect("it is done if nobody cuts it off");
    check(&cloud, &whole);
    assert!(fate.steps() > 0);
    for step in 0..fate.steps() {
        for done in [false, true] {
            let site = site.fork();
            let cut = operation(&site.open_until(&Fate::at(step, done)));
            assert!(cut.is_err(), "step {step}: it did not notice that it died");
            let next = site.open();
            next.recover();
            check(&next, &site);
            // Whatever became of it, the next one works.
            ask(&next, "CreateDisk", &[("ZoneId", super::testing::ZONE), ("Size", "20")]).expect("it lives");
            check(&next, &site);
        }
    }
}

/// A disk of `acme`: its identifier.
pub fn new_disk(cloud: &Cloud, more: &[(&str, &str)]) -> String {
    let params = [&[("ZoneId", super::testing::ZONE), ("Size", "20"), ("DiskCategory", "cloud_ssd")], more].concat();
    let answer = ask(cloud, "CreateDisk", &params).expect("it is made");
    answer["DiskId"].as_str().expect("a text").to_owned()
}

#[test]
fn a_disk_is_made_or_not_made() {
    for encrypted in ["true", "false"] {
        let token = [("ZoneId", super::testing::ZONE), ("Size", "20"), ("Encrypted", encrypted), ("ClientToken", "t")];
        cut_everywhere(&Site::new(), |cloud| ask(cloud, "CreateDisk", &token));
    }
}

#[test]
fn a_disk_is_deleted_or_stays() {
    let site = Site::new();
    let disk = new_disk(&site.open(), &[("Encrypted", "true")]);
    cut_everywhere(&site, |cloud| ask(cloud, "DeleteDisk", &[("DiskId", &disk)]));
}

#[test]
fn a_disk_is_attached_or_not() {
    for state in [InstanceState::Running, InstanceState::Stopped] {
        let site = Site::new();
        let cloud = site.open();
        let (disk, instance) = (new_disk(&cloud, &[("Encrypted", "true")]), new_instance(&cloud, "i-1", state));
        let params = [("DiskId", disk.as_str()), ("InstanceId", instance.as_str())];
        cut_everywhere(&site, |cloud| ask(cloud, "AttachDisk", &params));
        ask(&cloud, "AttachDisk", &params).expect("it is attached");
        cut_everywhere(&site, |cloud| ask(cloud, "DetachDisk", &params));
    }
}

#[test]
fn what_fails_is_undone() {
    let site = Site::new();
    let cloud = site.open();
    let (disk, instance) =
        (new_disk(&cloud, &[("Encrypted", "true")]), new_instance(&cloud, "i-1", InstanceState::Running));
    site.target().kms_is_away = true;
    let attach = [("DiskId", disk.as_str()), ("InstanceId", instance.as_str())];
    let error = ask(&cloud, "AttachDisk", &attach).expect_err("there is no key");
    assert_eq!((&*error.code, error.status), ("ServiceUnavailable", 503));
    check(&cloud, &site);
    let create = [("ZoneId", super::testing::ZONE), ("Size", "20"), ("Encrypted", "true"), ("ClientToken", "t")];
    ask(&cloud, "CreateDisk", &create).expect_err("there is no key");
    check(&cloud, &site);
    site.target().kms_is_away = false;
    ask(&cloud, "CreateDisk", &create).expect("the token was not used up");
    check(&cloud, &site);
}

#[test]
fn rows_follow_a_switch_or_nothing_has_happened() {
    for state in [InstanceState::Running, InstanceState::Stopped] {
        let site = Site::new();
        let cloud = site.open();
        let (plain, copy) = (new_disk(&cloud, &[]), new_disk(&cloud, &[("Encrypted", "true")]));
        let instance = new_instance(&cloud, "i-1", state);
        let attach = [("DiskId", plain.as_str()), ("InstanceId", instance.as_str()), ("DeleteWithInstance", "true")];
        ask(&cloud, "AttachDisk", &attach).expect("it is attached");
        let with_policy = cloud.store().change(|world| -> Result<(), ApiError> {
            world.disks.get_mut(&plain).expect("a row").policy = Some("sp-1".to_owned());
            Ok(())
        });
        with_policy.expect("it lives");
        let row = |cloud: &Cloud, id: &str| cloud.store().read(|world| world.disks.get(id).cloned()).expect("a row");
        let (old, new) = (row(&cloud, &plain), row(&cloud, &copy));
        // Steps: the intent, the switch, the rows.
        for step in 0..4 {
            for done in [false, true] {
                let site = site.fork();
                let fate = Fate::at(step, done);
                let (cloud, converter) = (site.open_until(&fate), site.converter(&fate));
                let switched = cloud.switch(&plain, &copy, || converter.switch(&plain, &copy));
                assert_eq!(matches!(switched, Ok(Ok(()))), step > 1, "step {step}: {switched:?}");
                let next = site.open();
                next.recover();
                check(&next, &site);
                let is_switched = site.target().switched.contains_key(&plain);
                assert_eq!(is_switched, (step, done) >= (1, true));
                let (now, copied) = (row(&next, &plain), row(&next, &copy));
                if !is_switched {
                    assert_eq!((now, copied), (old.clone(), new.clone()));
                    continue;
                }
                assert_eq!((&copied.attachments, copied.attached_at), (&old.attachments, old.attached_at));
                assert_eq!((copied.delete_with_instance, now.delete_with_instance), (true, false));
                assert_eq!((copied.nsid, now.nsid), (old.nsid, new.nsid));
                assert_eq!((copied.policy.as_deref(), now.policy), (Some("sp-1"), None));
                assert!(copied.uuid.is_some() && now.uuid.is_some() && copied.uuid != now.uuid);
                assert_eq!((copied.key_id, copied.encrypted), (new.key_id.clone(), true));
                assert!(now.attachments.is_empty() && now.detached_at.is_some());
            }
        }
    }
}

#[test]
fn a_disk_that_is_switched_is_left_alone() {
    let site = Site::new();
    let cloud = site.open();
    let (plain, copy) = (new_disk(&cloud, &[]), new_disk(&cloud, &[("Encrypted", "true")]));
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let attach = [("DiskId", plain.as_str()), ("InstanceId", instance.as_str())];
    ask(&cloud, "AttachDisk", &attach).expect("it is attached");
    let converter = site.converter(&Fate::default());
    let switched = cloud.switch(&plain, &copy, || {
        for action in ["DetachDisk", "AttachDisk"] {
            ask(
                &cloud,
                action,
                &[("DiskId", if action == "DetachDisk" { &plain } else { &copy }), ("InstanceId", &instance)],
            )
            .expect_err("it is being switched");
        }
        ask(&cloud, "StopInstance", &[("InstanceId", &instance)]).expect_err("its disk is being switched");
        assert_eq!(cloud.check_conversion(&plain, &copy).expect_err("busy").status, 409);
        converter.switch(&plain, &copy)
    });
    assert_eq!(switched.expect("nobody was busy"), Ok(()));
    check(&cloud, &site);
    // What takes the disk from its host takes the copy.
    ask(&cloud, "StopInstance", &[("InstanceId", &instance)]).expect("stopped");
    check(&cloud, &site);
    let refused = super::testing::refusal(ask(&cloud, "AttachDisk", &attach));
    assert_eq!(refused, ("OperationConflict".to_owned(), 409));
    check(&cloud, &site);
}
