//! The official SDKs of the cloud, both generations in turn, take an encrypted disk through its whole life, and the Linux kernel's initiator writes and
//! checks its data at each stage: created, attached, snapshot, rolled back, cloned, grown, over a restart of the target, detached, deleted. Nothing that
//! the guest writes can be read in the pool's file.

mod guest;
mod keeper;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/nbd_client.rs"]
mod nbd_client;
mod operator;
mod sdk;

use std::path::Path;

use guest::{Guest, Host, Image, Portal};
use keeper::{audit, json_of, write_secret};
use operator::Target;
use sdk::Generation::{Classic, Current};
use sdk::Sdk;
use serde_json::{Value, json};

const REGION: &str = "cn-test";
const ZONE: &str = "cn-test-a";
const KEY: &str = "AKLIFE";
const SECRET: &str = "a secret of the access key";
const GIB: u64 = 1 << 30;
/// What the guest writes, and nobody may find below.
const MARKER: &str = "what only the guest may read";
/// The guest's identity until it has that of its instance.
const NOBODY: Host = Host { name: "vm", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0006" };

fn site() -> String {
    format!(
        "region = '{REGION}'\n[reactor]\nmemory_mib = 64\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n\
         [kms]\naudit_log = 'audit.log'\n\
         [kms.embedded]\npath = 'keys.store'\ncreate = true\nunlock = {{ passphrase = 'file:passphrase' }}\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n\
         [cloud]\nstate_dir = 'cloud'\n[cloud.api]\nlisten = ['127.0.0.1:0']\n\
         [[cloud.zone]]\nname = '{ZONE}'\npool = 'p'\n"
    )
}

/// What follows a word of the start-up report, up to the end of its line.
fn reported<'a>(target: &'a Target, before: &str) -> &'a str {
    let found = target.report.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {}", target.report));
    found.1.lines().next().expect("a line").trim()
}

fn portal(target: &Target) -> Portal {
    let address = reported(target, "nvme_tcp listens on ");
    Portal::here(address.rsplit_once(':').expect("a port").1.parse().expect("a port"))
}

fn sdk(target: &Target) -> Option<Sdk> {
    Sdk::start(reported(target, "cloud API listens on http://"), REGION, KEY, SECRET)
}

/// A guest with the identity of an instance, connected.
fn connect(vm: &Guest, target: &Target, instance: &str) {
    let shown = json_of(target, &["instance", "show", instance]);
    let text = |name: &str| shown[name].as_str().expect("a text").to_owned();
    vm.sh(&format!("echo {} > /etc/nvme/hostnqn; echo {} > /etc/nvme/hostid", text("HostNqn"), text("HostId")));
    vm.connect(portal(target), &vm.discover_one(portal(target)), "-i 2 --ctrl-loss-tmo=-1 --reconnect-delay=1");
}

fn text(answer: &Value, name: &str) -> String {
    answer[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}

/// The one disk of this identifier, as the API shows it.
fn shown(sdk: &mut Sdk, by: sdk::Generation, disk: &str) -> Value {
    let ids = json!([disk]).to_string();
    let answer = sdk.ecs(by, "DescribeDisks", json!({"DiskIds": ids})).expect("shown");
    let disks = answer["Disks"]["Disk"].as_array().expect("a list").clone();
    assert_eq!(disks.len(), 1, "{answer}");
    disks[0].clone()
}

fn write_file(vm: &Guest, disk: &str, name: &str) {
    vm.sh(&format!(
        "set -e; mkdir -p /mnt/d; mount {disk} /mnt/d; for n in {{1..500}}; do echo \"{MARKER} $n\"; done > /mnt/d/{name}
         sync -f /mnt/d; umount /mnt/d"
    ));
}

/// The files on a disk, on which nothing may be wrong.
fn files(vm: &Guest, disk: &str) -> String {
    vm.sh(&format!(
        "set -e; e2fsck -fn {disk} >&2; mkdir -p /mnt/d; mount -o ro {disk} /mnt/d; ls /mnt/d | grep -v lost+found
         for f in /mnt/d/file*; do [ $(grep -c \"{MARKER}\" $f) = 500 ]; done; umount /mnt/d"
    ))
    .split_whitespace()
    .collect::<Vec<_>>()
    .join(" ")
}

#[test]
fn the_sdk_and_the_kernel_agree_on_a_disk_for_life() {
    let Some(image) = Image::take() else { return };
    let dir = keeper::folder();
    write_secret(&dir.path().join("secret"), SECRET.as_bytes());
    let target = Target::start_with(dir, &site());
    let Some(mut sdk) = sdk(&target) else { return };
    target.done(&["account", "add", "acme"]);
    let secret = format!("file:{}", target.dir.path().join("secret").display());
    target.done(&["access-key", "add", "acme", "--id", KEY, "--secret", &secret]);
    let [vm] = image.boot(2, [NOBODY]);

    // Before the KMS is open for the account there is no encrypted disk.
    let wish =
        json!({"ZoneId": ZONE, "Size": 20, "DiskCategory": "cloud_ssd", "Encrypted": true, "DiskName": "data-数据"});
    let refused = sdk.ecs(Current, "CreateDisk", wish.clone()).expect_err("the KMS is closed");
    assert_eq!((refused.code.as_str(), refused.status), ("InvalidParameter.Encrypted.KmsNotEnabled", 400));
    target.done(&["account", "open-kms", "acme"]);

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
    let port = reported(&target, "nvme_tcp listens on ").to_owned();
    let again = site().replace("[nvme_tcp]\nlisten = ['127.0.0.1:0']", &format!("[nvme_tcp]\nlisten = ['{port}']"));
    let target = Target::start_with(target.stop(), &again);
    let mut sdk = self::sdk(&target).expect("it was there before");
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
    expect_no_marker(&dir.path().join("pool"));
}

/// Nothing of what the guest wrote may be there in clear.
fn expect_no_marker(pool: &Path) {
    let bytes = std::fs::read(pool).expect("readable");
    let marker = MARKER.as_bytes();
    assert!(!bytes.windows(marker.len()).any(|window| window == marker), "plain text in the pool");
}
