//! Starting, stopping, rebooting, deleting and renaming: who may when, and what becomes of the disks.

use super::*;
use crate::cloud::backend::KeyChange;
use crate::cloud::crash_tests::check;
use crate::cloud::rows::{DiskState, InstanceState};
use crate::cloud::testing::{Site, ask_as, refusal};

fn seen_by(site: &Site, instance: &str) -> usize {
    site.target().disks.values().filter(|disk| disk.attached_to.contains(instance)).count()
}

fn on(cloud: &Cloud, action: &str, instance: &str) -> Result<Value, ApiError> {
    ask(cloud, action, &[("InstanceId", instance)])
}

#[test]
fn only_the_host_of_a_running_instance_sees_disks() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &TWO_DISKS);
    assert_eq!(seen_by(&site, &instance), 0);
    on(&cloud, "StartInstance", &instance).expect("it starts");
    assert_eq!((seen_by(&site, &instance), row(&cloud, &instance).state), (3, InstanceState::Running));
    check(&cloud, &site);
    let encrypted = disks(&cloud, &instance)[2].id.clone();
    assert!(site.target().calls.contains(&format!("attach {encrypted}")), "its key was asked for");
    on(&cloud, "RebootInstance", &instance).expect("it reboots");
    assert_eq!(seen_by(&site, &instance), 3);
    on(&cloud, "StopInstance", &instance).expect("it stops");
    assert_eq!((seen_by(&site, &instance), row(&cloud, &instance).state), (0, InstanceState::Stopped));
    assert_eq!(disks(&cloud, &instance).len(), 3, "it keeps its disks");
    check(&cloud, &site);
}

#[test]
fn each_operation_has_its_state() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &[]);
    use InstanceState::{Pending, Running, Starting, Stopped, Stopping};
    for (action, fits) in [
        ("StartInstance", Stopped),
        ("StopInstance", Running),
        ("RebootInstance", Running),
        ("DeleteInstance", Stopped),
    ] {
        for state in [Pending, Starting, Running, Stopping, Stopped].into_iter().filter(|state| *state != fits) {
            change(&cloud, |world| world.instances.get_mut(&instance).expect("it is there").state = state);
            let code = match (action, state) {
                ("DeleteInstance", Pending) => "IncorrectInstanceStatus.Initializing",
                _ => "IncorrectInstanceStatus",
            };
            assert_eq!(refusal(on(&cloud, action, &instance)), (code.to_owned(), 403), "{action} {state:?}");
        }
        change(&cloud, |world| world.instances.get_mut(&instance).expect("it is there").state = fits);
        let dry = refusal(ask(&cloud, action, &[("InstanceId", &instance), ("DryRun", "true")]));
        assert_eq!(dry, ("DryRunOperation".to_owned(), 400));
    }
    check(&cloud, &site);
}

#[test]
fn what_belongs_to_another_account_is_not_there() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &[]);
    for action in ["StartInstance", "StopInstance", "RebootInstance", "DeleteInstance", "ModifyInstanceAttribute"] {
        let foreign = ask_as(&cloud, "other", action, &[("InstanceId", &instance)]);
        assert_eq!(refusal(foreign), ("InvalidInstanceId.NotFound".to_owned(), 404), "{action}");
        assert_eq!(refusal(on(&cloud, action, "i-nothing")), ("InvalidInstanceId.NotFound".to_owned(), 404));
        assert_eq!(refusal(ask(&cloud, action, &[])), ("MissingParameter".to_owned(), 400));
    }
}

#[test]
fn while_something_is_done_nothing_else_is() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &TWO_DISKS);
    let disk = disks(&cloud, &instance)[1].id.clone();
    let open = |intent| {
        let by = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
        change(&cloud, |world| {
            world.intents.put("1", crate::cloud::intent::Open { intent, by, token: None, is_undone: false });
        });
    };
    let busy = ("IncorrectInstanceStatus".to_owned(), 403);
    // A disk of it is busy.
    open(crate::cloud::intent::Intent::Detach(crate::cloud::ecs::disk::detach::Detach {
        disk: disk.clone(),
        instance: "i-other".to_owned(),
    }));
    assert_eq!(refusal(on(&cloud, "StartInstance", &instance)), busy);
    assert_eq!(refusal(on(&cloud, "DeleteInstance", &instance)), busy);
    // A disk is on its way to it.
    open(crate::cloud::intent::Intent::Attach(crate::cloud::ecs::disk::attach::Attach {
        disk: "d-other".to_owned(),
        instance: instance.clone(),
        device: "/dev/xvdd".to_owned(),
        delete_with_instance: false,
    }));
    assert_eq!(refusal(on(&cloud, "StartInstance", &instance)), busy);
    assert_eq!(refusal(on(&cloud, "DeleteInstance", &instance)), busy);
    // It is busy, and so are its disks.
    open(crate::cloud::intent::Intent::StartInstance(crate::cloud::ecs::instance::power::StartInstance {
        instance: instance.clone(),
        disks: vec![disk.clone()],
    }));
    assert_eq!(refusal(on(&cloud, "StartInstance", &instance)), busy);
    let detach = ask(&cloud, "DetachDisk", &[("DiskId", &disk), ("InstanceId", &instance)]);
    assert_eq!(refusal(detach), ("IncorrectDiskStatus".to_owned(), 403));
}

#[test]
fn instances_that_share_a_disk_start_and_stop_on_their_own() {
    let site = Site::new();
    let cloud = site.open();
    let shared = new_disk(&cloud, &[("MultiAttach", "Enabled"), ("Encrypted", "true")]);
    let (one, other) = (new_instance(&cloud, &[]), run_instance(&cloud, &[]));
    for instance in [&one, &other] {
        ask(&cloud, "AttachDisk", &[("DiskId", &shared), ("InstanceId", instance)]).expect("it is shared");
    }
    let open = crate::cloud::intent::Intent::StopInstance(crate::cloud::ecs::instance::power::StopInstance {
        instance: other.clone(),
        disks: vec![shared.clone()],
    });
    let by = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
    change(&cloud, |world| {
        world.instances.get_mut(&other).expect("it is there").state = InstanceState::Stopping;
        world.intents.put("1", crate::cloud::intent::Open { intent: open, by, token: None, is_undone: false });
    });
    on(&cloud, "StartInstance", &one).expect("the other one is being stopped");
    cloud.recover();
    check(&cloud, &site);
    assert_eq!(site.target().disks[&shared].attached_to.iter().collect::<Vec<_>>(), [&one]);
    // AttachDisk refuses this flag for a shared disk; should it be there, the other instance keeps its disk.
    change(&cloud, |world| world.disks.get_mut(&shared).expect("it is there").delete_with_instance = true);
    ask(&cloud, "DeleteInstance", &[("InstanceId", &one), ("Force", "true")]).expect("it goes");
    check(&cloud, &site);
    assert_eq!(cloud.store().read(|world| world.disks.get(&shared).map(|disk| disk.attachments.len())), Some(1));
}

#[test]
fn an_instance_starts_with_all_its_disks_or_not_at_all() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &TWO_DISKS);
    site.target().kms_is_away = true;
    assert_eq!(refusal(on(&cloud, "StartInstance", &instance)), ("ServiceUnavailable".to_owned(), 503));
    assert_eq!((seen_by(&site, &instance), row(&cloud, &instance).state), (0, InstanceState::Stopped));
    check(&cloud, &site);
    assert_eq!(refusal(ask_for(&cloud, "RunInstances", &TWO_DISKS)), ("ServiceUnavailable".to_owned(), 503));
    assert_eq!(cloud.store().read(|world| world.instances.len()), 1);
    check(&cloud, &site);
    site.target().kms_is_away = false;

    let by = Caller { account: "acme".to_owned(), access_key: "test".to_owned() };
    let key = cloud.backend().create_key("acme", &by).expect("it is made").id;
    let with_key = [("DataDisk.1.Size", "20"), ("DataDisk.1.Encrypted", "true"), ("DataDisk.1.KMSKeyId", &*key)];
    let instance = run_instance(&cloud, &with_key);
    cloud.backend().change_key("acme", &key, KeyChange::Disable, &by).expect("it is disabled");
    on(&cloud, "StopInstance", &instance).expect("stopping needs no key");
    let refused = refusal(on(&cloud, "StartInstance", &instance));
    assert_eq!(refused, ("InvalidParameter.KMSKeyId.CMKNotEnabled".to_owned(), 403));
    check(&cloud, &site);
    cloud.backend().change_key("acme", &key, KeyChange::Enable, &by).expect("it is enabled");
    on(&cloud, "StartInstance", &instance).expect("it starts");
    check(&cloud, &site);
}

#[test]
fn what_goes_with_an_instance_goes_and_the_rest_is_available() {
    let site = Site::new();
    let cloud = site.open();
    for (running, force) in [(false, "false"), (true, "true")] {
        let instance = if running { run_instance(&cloud, &TWO_DISKS) } else { new_instance(&cloud, &TWO_DISKS) };
        let made = disks(&cloud, &instance);
        let attached = new_disk(&cloud, &[]);
        ask(&cloud, "AttachDisk", &[("DiskId", &attached), ("InstanceId", &instance)]).expect("it is attached");
        for (disk, policy) in [(0, None), (1, Some("sp-1")), (2, Some("sp-1"))] {
            let id = format!("s-{disk}-{force}");
            snapshot_of(&cloud, &id, &made[disk].id, made[disk].kind, policy);
        }
        if running {
            assert_eq!(refusal(on(&cloud, "DeleteInstance", &instance)), ("IncorrectInstanceStatus".to_owned(), 403));
        }
        ask(&cloud, "DeleteInstance", &[("InstanceId", &instance), ("Force", force)]).expect("it is deleted");
        check(&cloud, &site);
        cloud.store().read(|world| {
            assert!(!world.instances.contains(&instance));
            assert!(!world.disks.contains(&made[0].id) && !world.disks.contains(&made[1].id));
            for id in [&made[2].id, &attached] {
                let disk = world.disks.get(id).expect("it stays");
                assert_eq!((disk.state, disk.detached_at.is_some()), (DiskState::Available, true));
            }
            // Its user's snapshots stay, and those of a disk that stays.
            let there = ["0", "1", "2"].map(|disk| world.snapshots.contains(&format!("s-{disk}-{force}")));
            assert_eq!(there, [true, false, true]);
        });
        assert!(!site.target().hosts.contains_key(&instance));
    }
}

#[test]
fn automatic_snapshots_stay_if_their_disk_says_so() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &[]);
    let system = disks(&cloud, &instance)[0].clone();
    snapshot_of(&cloud, "s-1", &system.id, system.kind, Some("sp-1"));
    change(&cloud, |world| world.disks.get_mut(&system.id).expect("it is there").delete_auto_snapshot = false);
    on(&cloud, "DeleteInstance", &instance).expect("it is deleted");
    assert!(cloud.store().read(|world| world.snapshots.contains("s-1")));
    check(&cloud, &site);
}

#[test]
fn a_deletion_that_fails_is_finished_later() {
    let site = Site::new();
    let cloud = site.open();
    let instance = run_instance(&cloud, &TWO_DISKS);
    let other = new_disk(&cloud, &[]);
    // The target has its host on a disk that the store knows nothing of.
    site.target().disks.get_mut(&other).expect("it is there").attached_to.insert(instance.clone());
    let delete = [("InstanceId", &*instance), ("Force", "true")];
    ask(&cloud, "DeleteInstance", &delete).expect_err("its host cannot be removed");
    assert_eq!(refusal(ask(&cloud, "DeleteInstance", &delete)), ("InvalidInstanceId.NotFound".to_owned(), 404));
    site.target().disks.get_mut(&other).expect("it is there").attached_to.clear();
    cloud.recover();
    check(&cloud, &site);
    assert!(cloud.store().read(|world| world.instances.is_empty()));
}

#[test]
fn an_instance_gets_another_name() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, &[("Description", "first")]);
    let modify =
        |more: &[(&str, &str)]| ask(&cloud, "ModifyInstanceAttribute", &[&[("InstanceId", &*instance)], more].concat());
    modify(&[("InstanceName", "web")]).expect("it is renamed");
    let row = row(&cloud, &instance);
    assert_eq!((row.name.as_str(), row.description.as_str()), ("web", "first"));
    assert_eq!(refusal(modify(&[("InstanceName", "1")])), ("InvalidInstanceName.Malformed".to_owned(), 400));
    assert_eq!(refusal(modify(&[("Description", "1")])), ("InvalidDescription.Malformed".to_owned(), 400));
}
