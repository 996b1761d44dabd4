//! The rules of CreateInstance and RunInstances, and their codes.

use super::*;
use crate::cloud::backend::KeyChange;
use crate::cloud::crash_tests::check;
use crate::cloud::testing::{Site, ask_as, refusal};

fn is_refused(cloud: &Cloud, more: &[(&str, &str)], code: &str, status: u16) {
    for action in BOTH {
        assert_eq!(refusal(ask_for(cloud, action, more)), (code.to_owned(), status), "{action} {more:?}");
    }
}

fn by() -> Caller {
    Caller { account: "acme".to_owned(), access_key: "test".to_owned() }
}

#[test]
fn e1_an_account_without_kms_has_no_encrypted_disks() {
    let site = Site::new();
    let cloud = site.open();
    for action in BOTH {
        let params = [&[("DataDisk.1.Size", "20"), ("DataDisk.1.Encrypted", "true")], &BASE[..]].concat();
        let refused = refusal(ask_as(&cloud, "other", action, &params));
        assert_eq!(refused, ("InvalidParameter.Encrypted.KmsNotEnabled".to_owned(), 400));
        ask_as(&cloud, "other", action, &BASE).expect("plain disks need no KMS");
    }
    check(&cloud, &site);
}

#[test]
fn e2_encrypted_is_a_boolean_and_true_with_a_key() {
    let site = Site::new();
    let cloud = site.open();
    let key = cloud.backend().create_key("acme", &by()).expect("it is made").id;
    for encrypted in ["maybe", "1", "yes"] {
        let more = [("DataDisk.1.Size", "20"), ("DataDisk.1.Encrypted", encrypted)];
        is_refused(&cloud, &more, "InvalidParameter.EncryptedIllegal", 400);
    }
    let with_key = [("DataDisk.3.Size", "20"), ("DataDisk.3.KMSKeyId", &*key)];
    is_refused(&cloud, &with_key, "InvalidParameter.EncryptedIllegal", 400);
    let no = [&with_key[..], &[("DataDisk.3.Encrypted", "false")]].concat();
    is_refused(&cloud, &no, "InvalidParameter.EncryptedIllegal", 400);
    let yes = [&with_key[..], &[("DataDisk.3.Encrypted", "True")]].concat();
    let disks = disks(&cloud, &new_instance(&cloud, &yes));
    assert!(disks[1].encrypted);
    assert_eq!(disks[1].key_id.as_deref(), Some(&*key));
}

#[test]
fn e3_a_category_that_cannot_be_encrypted_is_refused() {
    let site = Site::new();
    let cloud = site.open();
    let local = [("DataDisk.1.Size", "20"), ("DataDisk.1.Category", "ephemeral_ssd"), ("DataDisk.1.Encrypted", "true")];
    is_refused(&cloud, &local, "InvalidParameter.EncryptedNotSupported", 400);
    is_refused(&cloud, &local[..2], "InvalidDataDiskCategory.ValueNotSupported", 400);
}

#[test]
fn e4_a_disk_cannot_differ_from_its_snapshot() {
    let site = Site::new();
    let cloud = site.open();
    for (id, encrypted, asked) in [("s-plain", "false", "true"), ("s-encrypted", "true", "false")] {
        new_snapshot(&cloud, id, DiskKind::Data, encrypted);
        let more = [("DataDisk.1.SnapshotId", id), ("DataDisk.1.Encrypted", asked)];
        is_refused(&cloud, &more, "EncryptedOption.Conflict", 400);
    }
    check(&cloud, &site);
}

#[test]
fn e5_a_disk_has_the_encryption_and_the_key_of_its_snapshot() {
    let site = Site::new();
    let cloud = site.open();
    new_snapshot(&cloud, "s-encrypted", DiskKind::Data, "true");
    let snapshot = cloud.store().read(|world| world.snapshots.get("s-encrypted").cloned()).expect("it is there");
    for instance in [
        new_instance(&cloud, &[("DataDisk.1.SnapshotId", "s-encrypted")]),
        run_instance(&cloud, &[("DataDisk.1.SnapshotId", "s-encrypted")]),
    ] {
        let disk = &disks(&cloud, &instance)[1];
        assert!(disk.encrypted && disk.key_id.is_some());
        assert_eq!(disk.key_id, snapshot.key_id);
        assert_eq!(disk.size_gib, 20);
        let target = site.target();
        assert_eq!(target.disks[&disk.id].lineage, target.disks[&snapshot.disk].lineage, "the lineage's own key");
    }
    check(&cloud, &site);
}

#[test]
fn e6_a_system_disk_is_never_encrypted() {
    let site = Site::new();
    let cloud = site.open();
    is_refused(&cloud, &[("SystemDisk.Encrypted", "true")], "InvalidParameter.EncryptedNotSupported", 400);
    is_refused(&cloud, &[("SystemDisk.Encrypted", "perhaps")], "InvalidParameter.EncryptedIllegal", 400);
    is_refused(&cloud, &[("SystemDisk.KMSKeyId", "k")], "InvalidParameter.EncryptedIllegal", 400);
    let all_encrypted =
        [("SystemDisk.Encrypted", "False"), ("DataDisk.1.Size", "20"), ("DataDisk.1.Encrypted", "true")];
    let disks = disks(&cloud, &run_instance(&cloud, &all_encrypted));
    assert_eq!(disks.iter().map(|disk| disk.encrypted).collect::<Vec<_>>(), [false, true]);
    assert_eq!(disks[0].kind, DiskKind::System);
}

#[test]
fn a_master_key_that_is_named_is_there_and_enabled() {
    let site = Site::new();
    let cloud = site.open();
    let named = |key| [("DataDisk.1.Size", "20"), ("DataDisk.1.Encrypted", "true"), ("DataDisk.1.KMSKeyId", key)];
    is_refused(&cloud, &named("nothing"), "InvalidParameter.KMSKeyId.NotFound", 404);
    let foreign = cloud.backend().create_key("other", &by()).expect("it is made").id;
    is_refused(&cloud, &named(&foreign), "InvalidParameter.KMSKeyId.NotFound", 404);
    let key = cloud.backend().create_key("acme", &by()).expect("it is made").id;
    cloud.backend().change_key("acme", &key, KeyChange::Disable, &by()).expect("it is disabled");
    is_refused(&cloud, &named(&key), "InvalidParameter.KMSKeyId.CMKNotEnabled", 403);
}

#[test]
fn parameters_are_checked() {
    let site = Site::new();
    let cloud = site.open();
    new_snapshot(&cloud, "s-data", DiskKind::Data, "false");
    new_snapshot(&cloud, "s-system", DiskKind::System, "false");
    new_snapshot(&cloud, "s-new", DiskKind::Data, "false");
    change(&cloud, |world| {
        world.snapshots.get_mut("s-new").expect("it is there").state = SnapshotState::Progressing;
    });
    let table: &[(Pairs<'_>, &str, u16)] = &[
        (&[("RegionId", "elsewhere")], "InvalidRegionId.NotFound", 404),
        (&[("ZoneId", "nowhere")], "InvalidZoneId.NotFound", 404),
        (&[("ImageId", "")], "MissingParameter", 400),
        (&[("ImageId", "m-nothing")], "InvalidImageId.NotFound", 404),
        (&[("IoOptimized", "very")], "InvalidIoOptimizedValue.ValueNotSupported", 400),
        (&[("InstanceType", "a b")], "InvalidInstanceType.ValueNotSupported", 403),
        (&[("InstanceName", "1")], "InvalidInstanceName.Malformed", 400),
        (&[("Description", "http://a")], "InvalidDescription.Malformed", 400),
        (&[("Tag.1.Key", "acs:a")], "InvalidTagKey.Malformed", 400),
        (&[("SystemDisk.Category", "ephemeral_ssd")], "InvalidSystemDiskCategory.ValueNotSupported", 400),
        (&[("SystemDisk.Size", "large")], "InvalidSystemDiskSize", 404),
        (&[("SystemDisk.Size", "19")], "InvalidSystemDiskSize.LessThanMinSize", 404),
        (&[("SystemDisk.Size", "501")], "InvalidSystemDiskSize.MoreThanMaxSize", 404),
        (&[("SystemDisk.DiskName", "1")], "InvalidDiskName.Malformed", 400),
        (&[("SystemDisk.Description", "1")], "InvalidDiskDescription.Malformed", 400),
        (&[("DataDisk.1.Category", "cloud")], "MissingParameter", 400),
        (&[("DataDisk.1.Size", "4")], "InvalidDataDiskSize.ValueNotSupported", 400),
        (&[("DataDisk.1.Size", "20"), ("DataDisk.1.Category", "x")], "InvalidDataDiskCategory.ValueNotSupported", 400),
        (&[("DataDisk.1.Size", "20"), ("DataDisk.1.DiskName", "1")], "InvalidDiskName.Malformed", 400),
        (&[("DataDisk.1.Size", "20"), ("DataDisk.1.Description", "1")], "InvalidDiskDescription.Malformed", 400),
        (&[("DataDisk.1.Size", "20"), ("DataDisk.1.DeleteWithInstance", "x")], "InvalidParameter", 400),
        (&[("DataDisk.1.SnapshotId", "s-nothing")], "InvalidDataDiskSnapshotId.NotFound", 404),
        (&[("DataDisk.1.SnapshotId", "s-new")], "InvalidSnapshotId.NotReady", 403),
        (&[("DataDisk.1.SnapshotId", "s-system")], "InvalidSnapshotId.NotDataDiskSnapshot", 403),
        (&[("DataDisk.1.SnapshotId", "s-data"), ("DataDisk.1.Size", "10")], "InvalidDiskSize.TooSmall", 403),
        (&[("DataDisk.17.Size", "20")], "InstanceDiskNumber.LimitExceed", 400),
        (&[("DataDisk.0.Size", "20")], "InstanceDiskNumber.LimitExceed", 400),
        (&[("DryRun", "true")], "DryRunOperation", 400),
        (&[("ClientToken", "é")], "InvalidParameter", 400),
    ];
    for (more, code, status) in table {
        is_refused(&cloud, more, code, *status);
    }
    for (name, value, code) in [
        ("Amount", "0", "InvalidParameter"),
        ("Amount", "101", "InvalidParameter"),
        ("Amount", "x", "InvalidParameter"),
        ("MinAmount", "0", "InvalidMinAmount.Malformed"),
        ("MinAmount", "2", "InvalidMinAmount.Malformed"),
        ("MinAmount", "x", "InvalidMinAmount.Malformed"),
    ] {
        assert_eq!(refusal(ask_for(&cloud, "RunInstances", &[(name, value)])), (code.to_owned(), 400), "{name}");
    }
    assert!(cloud.store().read(|world| world.instances.is_empty() && world.tokens.is_empty()));
}

#[test]
fn instances_are_made_as_they_were_asked_for() {
    let site = Site::new();
    let cloud = site.open();
    let more = [&[("InstanceName", "web"), ("Description", "a server"), ("Tag.1.Key", "k")], &TWO_DISKS[..]].concat();
    let stopped = new_instance(&cloud, &more);
    let instance = row(&cloud, &stopped);
    assert_eq!((instance.name.as_str(), instance.state.word(), instance.was_started), ("web", "Stopped", false));
    assert_eq!(instance.nqn, format!("nqn.2014-08.org.nvmexpress:uuid:{}", instance.host_id));
    let made = disks(&cloud, &stopped);
    let devices: Vec<&str> = made.iter().map(|disk| disk.attachments[0].device.as_str()).collect();
    assert_eq!(devices, ["/dev/xvda", "/dev/xvdb", "/dev/xvdc"]);
    assert_eq!(made.iter().map(|disk| disk.size_gib).collect::<Vec<_>>(), [40, 20, 30]);
    assert_eq!(
        made.iter().map(|disk| disk.category.word()).collect::<Vec<_>>(),
        ["cloud_efficiency", "cloud_ssd", "cloud"]
    );
    assert_eq!(made.iter().map(|disk| disk.delete_with_instance).collect::<Vec<_>>(), [true, true, false]);
    assert!(made.iter().all(|disk| disk.state.word() == "In_use" && disk.was_ever_attached()));
    check(&cloud, &site);

    let answer = ask_for(&cloud, "RunInstances", &[&more[..], &[("Amount", "3"), ("MinAmount", "2")]].concat());
    let answer = answer.expect("they run");
    let ids = answer["InstanceIdSets"]["InstanceIdSet"].as_array().expect("a list");
    assert_eq!(ids.len(), 3);
    for id in ids {
        let instance = row(&cloud, id.as_str().expect("a text"));
        assert_eq!((instance.state.word(), instance.was_started), ("Running", true));
        assert!(instance.started_at.is_some());
    }
    check(&cloud, &site);
}

#[test]
fn a_request_that_comes_again_makes_nothing_new() {
    let site = Site::new();
    let cloud = site.open();
    let token = [("ClientToken", "t"), ("DataDisk.1.Size", "20")];
    let first = ask_for(&cloud, "RunInstances", &token).expect("it runs");
    assert_eq!(ask_for(&cloud, "RunInstances", &token).expect("it is known"), first);
    assert_eq!(cloud.store().read(|world| world.instances.len()), 1);
    let other = ask_for(&cloud, "RunInstances", &[&token[..], &[("Amount", "2")]].concat());
    assert_eq!(refusal(other), ("IdempotentParameterMismatch".to_owned(), 403));
}

#[test]
fn only_the_operator_says_how_a_host_connects() {
    let site = Site::new();
    let cloud = site.open();
    let host_id = "6f0c2a5e-7f0a-4c6e-9d5c-0a5d0f4b1c11";
    let names = [("HostNqn", "nqn.2014-08.com.example:h1"), ("HostId", host_id), ("DhchapSecret", "file:/etc/h1")];
    let users = row(&cloud, &new_instance(&cloud, &names));
    assert!(users.nqn != names[0].1 && users.host_id.to_string() != host_id && users.dhchap_secret.is_none());
    let made = ask_as_operator(&cloud, "RunInstances", &names).expect("it is made");
    let made = row(&cloud, made["InstanceIdSets"]["InstanceIdSet"][0].as_str().expect("a text"));
    assert_eq!((made.nqn.as_str(), made.host_id.to_string().as_str()), (names[0].1, host_id));
    assert!(made.dhchap_secret.is_some());
    let target = site.target().hosts[&made.id].clone();
    assert_eq!((target.nqn, target.host_id, target.dhchap_secret), (made.nqn, made.host_id, made.dhchap_secret));
    let table: &[&[(&str, &str)]] = &[
        &[("HostNqn", "nqn.2014-08.com.example:h1")],
        &[("HostId", host_id)],
        &[("HostNqn", "h1")],
        &[("HostId", "h1")],
        &[("DhchapSecret", "DHHC-1:00:c2VjcmV0:")],
    ];
    for params in table {
        let error = ask_as_operator(&cloud, "CreateInstance", params).expect_err("it is refused");
        assert_eq!((&*error.code, error.status), ("InvalidParameter", 400), "{params:?}");
        assert!(!error.message.contains("c2VjcmV0"), "{error}");
    }
    let two = ask_as_operator(&cloud, "RunInstances", &[("HostNqn", "nqn.2014-08.com.example:h2"), ("Amount", "2")]);
    assert_eq!(refusal(two), ("InvalidParameter".to_owned(), 400));
    check(&cloud, &site);
}
