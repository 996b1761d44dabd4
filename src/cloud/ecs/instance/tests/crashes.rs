//! Every operation on instances, cut off at every durable step.

use super::*;
use crate::cloud::crash_tests::{check, cut_everywhere};
use crate::cloud::testing::{Fate, Site};

#[test]
fn instances_are_made_with_their_disks_or_not_at_all() {
    let params = [&TWO_DISKS[..], &[("ClientToken", "t")]].concat();
    cut_everywhere(&Site::new(), |cloud| ask_for(cloud, "CreateInstance", &params));
    let two = [&params[..], &[("Amount", "2")]].concat();
    cut_everywhere(&Site::new(), |cloud| ask_for(cloud, "RunInstances", &two));
}

#[test]
fn instances_of_an_image_are_made_or_not_made() {
    let site = Site::new();
    let cloud = site.open();
    new_snapshot(&cloud, "s-root", DiskKind::System, "false");
    new_snapshot(&cloud, "s-secret", DiskKind::Data, "true");
    new_image(&cloud, "m-1", &["s-root", "s-secret"]);
    let params = [("ImageId", "m-1"), ("DataDisk.1.SnapshotId", "s-secret")];
    cut_everywhere(&site, |cloud| ask_for(cloud, "RunInstances", &params));
}

#[test]
fn a_request_that_was_cut_off_can_come_again() {
    let params = [&TWO_DISKS[..], &[("ClientToken", "t")]].concat();
    let site = Site::new();
    let fate = Fate::default();
    ask_for(&site.fork().open_until(&fate), "RunInstances", &params).expect("it is made");
    for step in 0..fate.steps() {
        for done in [false, true] {
            let site = site.fork();
            let cut = site.open_until(&Fate::at(step, done));
            ask_for(&cut, "RunInstances", &params).expect_err("it dies");
            let next = site.open();
            next.recover();
            ask_for(&next, "RunInstances", &params).expect("it is made, or was made");
            assert_eq!(next.store().read(|world| world.instances.len()), 1, "step {step}");
            check(&next, &site);
        }
    }
}

#[test]
fn an_instance_is_started_and_stopped_or_not() {
    let site = Site::new();
    let instance = new_instance(&site.open(), &TWO_DISKS);
    cut_everywhere(&site, |cloud| ask(cloud, "StartInstance", &[("InstanceId", &instance)]));
    ask(&site.open(), "StartInstance", &[("InstanceId", &instance)]).expect("it starts");
    cut_everywhere(&site, |cloud| ask(cloud, "RebootInstance", &[("InstanceId", &instance)]));
    cut_everywhere(&site, |cloud| ask(cloud, "StopInstance", &[("InstanceId", &instance)]));
}

#[test]
fn an_instance_is_deleted_with_its_disks_or_stays() {
    for running in [false, true] {
        let site = Site::new();
        let cloud = site.open();
        let instance = if running { run_instance(&cloud, &TWO_DISKS) } else { new_instance(&cloud, &TWO_DISKS) };
        let plain = disks(&cloud, &instance)[1].clone();
        snapshot_of(&cloud, "s-1", &plain.id, plain.kind, Some("sp-1"));
        let encrypted = new_disk(&cloud, &[("Encrypted", "true")]);
        let attach = [("DiskId", &*encrypted), ("InstanceId", &*instance), ("DeleteWithInstance", "true")];
        ask(&cloud, "AttachDisk", &attach).expect("it is attached");
        cut_everywhere(&site, |cloud| ask(cloud, "DeleteInstance", &[("InstanceId", &instance), ("Force", "true")]));
    }
}

#[test]
fn an_instance_is_renamed_or_not() {
    let site = Site::new();
    let instance = new_instance(&site.open(), &[]);
    let params = [("InstanceId", &*instance), ("InstanceName", "web")];
    cut_everywhere(&site, |cloud| ask(cloud, "ModifyInstanceAttribute", &params));
}

#[test]
fn what_cannot_be_finished_after_a_crash_is_undone() {
    let params = [&TWO_DISKS[..], &[("DataDisk.3.Size", "20"), ("Amount", "2")]].concat();
    let fate = Fate::default();
    ask_for(&Site::new().open_until(&fate), "RunInstances", &params).expect("they run");
    for step in 0..fate.steps() {
        let site = Site::new();
        ask_for(&site.open_until(&Fate::at(step, true)), "RunInstances", &params).expect_err("it dies");
        // Plain disks can be attached now, encrypted ones cannot.
        site.target().kms_is_away = true;
        let next = site.open();
        next.recover();
        check(&next, &site);
    }
}
