//! The official SDKs of the cloud, both generations in turn, take an encrypted disk through its whole life, and the Linux kernel's initiator writes and
//! checks its data at each stage: created, attached, snapshot, rolled back, cloned, grown, over a restart of the target, detached, deleted. Nothing that
//! the guest writes can be read in the pool's file.

mod cloud;
#[path = "cloud/files.rs"]
mod files;
mod guest;
mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;
mod sdk;

use cloud::{GIB, ZONE, reported, shown, text};
use files::{files, write_file};
use guest::{Guest, Host, Image, Portal};
use keeper::{audit, json_of};
use operator::Target;
use sdk::Generation::{Classic, Current};
use serde_json::{Value, json};

/// The guest's identity until it has that of its instance.
const NOBODY: Host = Host { name: "vm", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0006" };

/// At a port that is free, or the one that the target had before.
fn site(address: &str) -> String {
    cloud::site(&format!("[nvme_tcp]\nlisten = ['{address}']"), "")
}

fn portal(target: &Target) -> Portal {
    let address = reported(target, "nvme_tcp listens on ");
    Portal::here(address.rsplit_once(':').expect("a port").1.parse().expect("a port"))
}

/// A guest with the identity of an instance, connected.
fn connect(vm: &Guest, target: &Target, instance: &str) {
    let shown = json_of(target, &["instance", "show", instance]);
    let text = |name: &str| shown[name].as_str().expect("a text").to_owned();
    vm.sh(&format!("echo {} > /etc/nvme/hostnqn; echo {} > /etc/nvme/hostid", text("HostNqn"), text("HostId")));
    vm.connect(portal(target), &vm.discover_one(portal(target)), "-i 2 --ctrl-loss-tmo=-1 --reconnect-delay=1");
}

#[test]
fn the_sdk_and_the_kernel_agree_on_a_disk_for_life() {
    let Some(image) = Image::take() else { return };
    let target = Target::start_with(cloud::folder(), &site("127.0.0.1:0"));
    let Some(mut sdk) = cloud::sdk(&target) else { return };
    cloud::add_account(&target);
    let [vm] = image.boot(2, [NOBODY]);

    // Before the KMS is open for the account there is no encrypted disk.
    let wish =
        json!({"ZoneId": ZONE, "Size": 20, "DiskCategory": "cloud_ssd", "Encrypted": true, "DiskName": "data-数据"});
    let refused = sdk.ecs(Current, "CreateDisk", wish.clone()).expect_err("the KMS is closed");
    assert_eq!((refused.code.as_str(), refused.status), ("InvalidParameter.Encrypted.KmsNotEnabled", 400));
    cloud::open_kms(&target);

    let run = json!({"ImageId": "m-blank", "InstanceType": "ecs.test", "ZoneId": ZONE});
    let instance = sdk.ecs(Classic, "RunInstances", run).expect("it runs")["InstanceIdSets"]["InstanceIdSet"][0]
        .as_str()
        .expect("an identifier")
        .to_owned();
    connect(&vm, &target, &instance);

    let disk = text(&sdk.ecs(Current, "CreateDisk", wish).expect("made"), "DiskId");
    let state = shown(&mut sdk, Classic, &disk);
    assert_eq!((text(&state, "Status"), &state["Encrypted"]), ("Available".to_owned(), &json!(true)));
    let key = text(&state, "KMSKeyId");
    let service = sdk.kms(Current, "DescribeKey", json!({"KeyId": "alias/acs/ecs"})).expect("it is there");
    assert_eq!(text(&service["KeyMetadata"], "KeyId"), key);
    let refused = sdk.kms(Classic, "ScheduleKeyDeletion", json!({"KeyId": key, "PendingWindowInDays": 7}));
    assert_eq!(refused.expect_err("it is the system's").code, "Forbidden.NoPermission");

    let pair = json!({"DiskId": disk, "InstanceId": instance});
    sdk.ecs(Classic, "AttachDisk", pair.clone()).expect("attached");
    let device = vm.disk(20 * GIB);
    vm.sh(&format!("mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 {device}"));
    write_file(&vm, &device, "file1");
    let snapshot = text(
        &sdk.ecs(Current, "CreateSnapshot", json!({"DiskId": disk, "SnapshotName": "first"})).expect("taken"),
        "SnapshotId",
    );
    write_file(&vm, &device, "file2");
    assert_eq!(files(&vm, &device), "file1 file2");

    // A restart of the target brings everything back, and the kernel's initiator goes on.
    drop(sdk);
    let again = site(reported(&target, "nvme_tcp listens on "));
    let target = Target::start_with(target.stop(), &again);
    let mut sdk = cloud::sdk(&target).expect("it was there before");
    assert_eq!(files(&vm, &device), "file1 file2");
    assert_eq!(text(&shown(&mut sdk, Current, &disk), "Status"), "In_use");

    // Rolled back, which needs the instance stopped: its host sees nothing then.
    let reset = json!({"DiskId": disk, "SnapshotId": snapshot});
    let refused = sdk.ecs(Classic, "ResetDisk", reset.clone()).expect_err("it runs");
    assert_eq!((refused.code.as_str(), refused.status), ("IncorrectInstanceStatus", 403));
    sdk.ecs(Current, "StopInstance", json!({"InstanceId": instance})).expect("stopped");
    vm.wait_without_disk(20 * GIB);
    sdk.ecs(Current, "ResetDisk", reset).expect("rolled back");
    sdk.ecs(Classic, "StartInstance", json!({"InstanceId": instance})).expect("started");
    let device = vm.disk(20 * GIB);
    assert_eq!(files(&vm, &device), "file1");

    // A disk from the snapshot is encrypted by the same key, and says no to anything else.
    let from = |encrypted: Value| json!({"ZoneId": ZONE, "Size": 21, "DiskCategory": "cloud_efficiency", "SnapshotId": snapshot, "Encrypted": encrypted});
    let refused = sdk.ecs(Current, "CreateDisk", from(json!(false))).expect_err("it is encrypted");
    assert_eq!((refused.code.as_str(), refused.status), ("EncryptedOption.Conflict", 400));
    let clone = text(&sdk.ecs(Classic, "CreateDisk", from(json!(true))).expect("made"), "DiskId");
    assert_eq!(text(&shown(&mut sdk, Current, &clone), "KMSKeyId"), key);
    sdk.ecs(Current, "AttachDisk", json!({"DiskId": clone, "InstanceId": instance})).expect("attached");
    let second = vm.disk(21 * GIB);
    assert_eq!(files(&vm, &second), "file1");
    write_file(&vm, &second, "file3");
    assert_eq!(files(&vm, &device), "file1");

    // It grows while the kernel has it.
    sdk.ecs(Current, "ResizeDisk", json!({"DiskId": clone, "NewSize": 24, "Type": "online"})).expect("grown");
    let second = vm.disk(24 * GIB);
    vm.sh(&format!("e2fsck -fy {second} >&2; resize2fs {second} >&2"));
    assert_eq!(files(&vm, &second), "file1 file3");

    // Everything goes, and with the last holder the key.
    sdk.ecs(Classic, "DetachDisk", pair).expect("detached");
    vm.wait_without_disk(20 * GIB);
    sdk.ecs(Current, "DetachDisk", json!({"DiskId": clone, "InstanceId": instance})).expect("detached");
    vm.wait_without_disk(24 * GIB);
    for (by, id) in [(Classic, &disk), (Current, &clone)] {
        sdk.ecs(by, "DeleteDisk", json!({"DiskId": id})).expect("deleted");
    }
    let destroyed = |target: &Target| audit(target).iter().any(|(operation, _)| operation == "destroy_key");
    assert!(!destroyed(&target), "the snapshot has the key too");
    sdk.ecs(Classic, "DeleteSnapshot", json!({"SnapshotId": snapshot, "Force": true})).expect("deleted");
    assert!(destroyed(&target));
    sdk.ecs(Current, "DeleteInstance", json!({"InstanceId": instance, "Force": true})).expect("deleted");
    vm.disconnect();

    let dir = target.stop();
    cloud::expect_no_marker(dir.path());
}
