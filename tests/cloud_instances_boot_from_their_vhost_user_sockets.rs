//! A guest of a cloud's instance has its disks at the vhost-user sockets in its instance's folder. The official SDK makes an encrypted disk, attaches,
//! grows, copies and detaches it, while Linux uses it in QEMU: what the API says of an instance's disks is what is in its folder, and nothing of them
//! is in another's. The sockets go when the instance stops and come back when it starts, and when the target does.

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
mod vhost;

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloud::{GIB, ZONE, shown, text};
use files::{files, write_file};
use guest::{Guest, Host, Image, VhostUser};
use keeper::json_of;
use operator::{PATIENCE, Target};
use sdk::Generation::{self, Classic, Current};
use sdk::Sdk;
use serde_json::{Value, json};
use tempfile::TempDir;
use vhost::wire::{GET_FEATURES, Wire};

const FIRST: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0021" };
const SECOND: Host = Host { name: "vm2", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0022" };
/// What a system disk has unless it is asked for.
const SYSTEM: u64 = 40 * GIB;

/// A cloud whose instances have sockets in a folder. Its path is short, wherever the tests are built: there is little room for that of a socket.
fn site(sockets: &TempDir, more: &str) -> String {
    cloud::site(&format!("[vhost_user]\ndirectory = '{}'\n{more}", sockets.path().display()), "")
}

fn new_instance(sdk: &mut Sdk, by: Generation) -> String {
    let asked = json!({"ImageId": "m-blank", "InstanceType": "ecs.test", "ZoneId": ZONE});
    text(&sdk.ecs(by, "CreateInstance", asked).expect("made"), "InstanceId")
}

/// A new disk; `more` says of what size, and from what.
fn new_disk(sdk: &mut Sdk, by: Generation, more: &Value) -> String {
    let mut asked = json!({"ZoneId": ZONE, "DiskCategory": "cloud_ssd", "Encrypted": true});
    for (name, value) in more.as_object().expect("parameters") {
        asked[name] = value.clone();
    }
    text(&sdk.ecs(by, "CreateDisk", asked).expect("made"), "DiskId")
}

fn pair(disk: &str, instance: &str) -> Value {
    json!({"DiskId": disk, "InstanceId": instance})
}

/// Has something done to an instance, such as StartInstance.
fn order(sdk: &mut Sdk, by: Generation, action: &str, instance: &str) {
    sdk.ecs(by, action, json!({"InstanceId": instance})).unwrap_or_else(|e| panic!("{action}: {e:?}"));
}

/// Where an instance's sockets are.
fn folder(target: &Target, instance: &str) -> PathBuf {
    let exports = json_of(target, &["export", "list"]);
    Path::new(&text(&exports["vhost_user"], "directory")).join(instance)
}

fn socket(target: &Target, instance: &str, disk: &str) -> PathBuf {
    folder(target, instance).join(format!("{disk}.sock"))
}

/// The disks of which an instance's folder has sockets.
fn sockets(target: &Target, instance: &str) -> BTreeSet<String> {
    let Ok(folder) = std::fs::read_dir(folder(target, instance)) else { return BTreeSet::new() };
    let names = folder.map(|entry| {
        let entry = entry.expect("an entry");
        assert!(entry.file_type().expect("a type").is_socket(), "{} is there as well", entry.path().display());
        entry.file_name().into_string().expect("text")
    });
    names
        .map(|name| name.strip_suffix(".sock").unwrap_or_else(|| panic!("{name} is there as well")).to_owned())
        .collect()
}

/// The disks that an instance has, as the API says.
fn disks_of(sdk: &mut Sdk, instance: &str) -> BTreeSet<String> {
    let answer = sdk.ecs(Current, "DescribeDisks", json!({"InstanceId": instance})).expect("shown");
    answer["Disks"]["Disk"].as_array().expect("a list").iter().map(|disk| text(disk, "DiskId")).collect()
}

/// The folder of each instance that runs has a socket of each of its disks and of no other; one that is stopped has no folder.
fn expect_sockets(target: &Target, sdk: &mut Sdk, running: &[&str], stopped: &[&str]) {
    for instance in running {
        assert_eq!(sockets(target, instance), disks_of(sdk, instance), "{instance}");
    }
    for instance in stopped {
        assert!(!folder(target, instance).exists(), "{instance} is stopped");
    }
    let wanted: usize = running.iter().map(|instance| disks_of(sdk, instance).len()).sum();
    let exports = json_of(target, &["export", "list"]);
    assert_eq!(exports["vhost_user"]["sockets"].as_array().expect("a list").len(), wanted, "{exports}");
}

/// Boots a guest with some of an instance's disks.
fn boot(image: &Image, host: Host, target: &Target, instance: &str, disks: &[&str]) -> Guest {
    let disk = |disk: &&str| VhostUser { socket: socket(target, instance, disk), options: "num-queues=2" };
    image.boot_with(2, host, &disks.iter().map(disk).collect::<Vec<_>>())
}

/// The disk goes on under load when the target is killed and started again.
fn outlives_a_killed_target(vm: &Guest, device: &str, target: Target, site: &str) -> Target {
    vm.sh(&format!("mount {device} /mnt/d"));
    let load = vm.start_fio_verify("/mnt/d/load", "--bs=4k --size=16m --iodepth=16");
    std::thread::sleep(Duration::from_secs(2));
    let target = Target::start_with(target.kill(), site);
    vm.finish(load).success();
    vm.sh("rm /mnt/d/load; umount /mnt/d");
    target
}

#[test]
fn guests_use_the_disks_of_their_instances() {
    let Some(image) = Image::take() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    // There is no other way to them.
    let site = site(&directory, "");
    let target = Target::start_with(cloud::folder(), &site);
    let Some(mut sdk) = cloud::sdk(&target) else { return };
    cloud::add_account(&target);
    cloud::open_kms(&target);

    // A stopped instance may have disks, but sees none; nor does the other one ever.
    let [first, second] = [Classic, Current].map(|by| new_instance(&mut sdk, by));
    let (first, second) = (first.as_str(), second.as_str());
    let system = disks_of(&mut sdk, first).pop_first().expect("a system disk");
    let disk = new_disk(&mut sdk, Current, &json!({"Size": 20}));
    sdk.ecs(Classic, "AttachDisk", pair(&disk, first)).expect("attached");
    expect_sockets(&target, &mut sdk, &[], &[first, second]);
    order(&mut sdk, Current, "StartInstance", first);
    assert_eq!(sockets(&target, first), BTreeSet::from([system.clone(), disk.clone()]));
    expect_sockets(&target, &mut sdk, &[first], &[second]);

    let vm = boot(&image, FIRST, &target, first, &[&system, &disk]);
    vm.block_device(SYSTEM);
    let device = vm.block_device(20 * GIB);
    let name = device.trim_start_matches("/dev/");
    let serial = vm.sh(&format!("cat /sys/block/{name}/serial")).trim().to_owned();
    assert_eq!(serial, text(&shown(&mut sdk, Classic, &disk), "SerialNumber"));
    vm.sh(&format!("mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 {device}"));
    write_file(&vm, &device, "file1");

    // The kernel learns of the new size by itself, and the file system grows while it is used.
    sdk.ecs(Current, "ResizeDisk", json!({"DiskId": disk, "NewSize": 24, "Type": "online"})).expect("grown");
    assert_eq!(vm.block_device(24 * GIB), device);
    vm.sh(&format!("set -e; mount {device} /mnt/d; resize2fs {device} >&2; umount /mnt/d"));
    let taken = sdk.ecs(Classic, "CreateSnapshot", json!({"DiskId": disk, "SnapshotName": "grown"})).expect("taken");
    let snapshot = text(&taken, "SnapshotId");
    write_file(&vm, &device, "file2");

    drop(sdk);
    let target = outlives_a_killed_target(&vm, &device, target, &site);
    let mut sdk = cloud::sdk(&target).expect("it was there before");
    assert_eq!(files(&vm, &device), "file1 file2");
    expect_sockets(&target, &mut sdk, &[first], &[second]);
    vm.expect_no_complaint();
    vm.power_off();

    // The disk goes over to the other instance, beside one that is made from the snapshot.
    order(&mut sdk, Classic, "StopInstance", first);
    expect_sockets(&target, &mut sdk, &[], &[first, second]);
    order(&mut sdk, Classic, "StartInstance", second);
    let clone = new_disk(&mut sdk, Classic, &json!({"Size": 25, "SnapshotId": snapshot}));
    sdk.ecs(Current, "AttachDisk", pair(&clone, second)).expect("attached");
    sdk.ecs(Current, "DetachDisk", pair(&disk, first)).expect("detached");
    sdk.ecs(Classic, "AttachDisk", pair(&disk, second)).expect("attached");
    expect_sockets(&target, &mut sdk, &[second], &[first]);
    let vm = boot(&image, SECOND, &target, second, &[&clone, &disk]);
    let (copy, device) = (vm.block_device(25 * GIB), vm.block_device(24 * GIB));
    assert_eq!((files(&vm, &copy), files(&vm, &device)), ("file1".to_owned(), "file1 file2".to_owned()));
    write_file(&vm, &copy, "file3");
    goes_on_when_its_disk_is_back(&vm, &device, &target, &mut sdk, [&disk, first, second]);
    assert_eq!((files(&vm, &copy), files(&vm, &device)), ("file1 file3".to_owned(), "file1 file2".to_owned()));
    vm.expect_no_complaint();
    vm.power_off();

    for id in [&clone, &disk] {
        sdk.ecs(Current, "DetachDisk", pair(id, second)).expect("detached");
        assert!(!socket(&target, second, id).exists());
        sdk.ecs(Classic, "DeleteDisk", json!({"DiskId": id})).expect("deleted");
    }
    expect_sockets(&target, &mut sdk, &[second], &[first]);
    cloud::expect_no_marker(target.stop().path());
}

/// A guest whose disk is detached under it waits, also while another instance has the disk, and goes on when it is attached again.
fn goes_on_when_its_disk_is_back(vm: &Guest, device: &str, target: &Target, sdk: &mut Sdk, names: [&str; 3]) {
    let [disk, other, own] = names;
    sdk.ecs(Classic, "DetachDisk", pair(disk, own)).expect("detached");
    expect_sockets(target, sdk, &[own], &[other]);
    let reading =
        vm.start(PATIENCE * 2, &format!("dd if={device} of=/dev/null bs=4k count=1 iflag=direct status=none"));
    sdk.ecs(Current, "AttachDisk", pair(disk, other)).expect("attached");
    order(sdk, Current, "StartInstance", other);
    expect_sockets(target, sdk, &[own, other], &[]);
    assert!(socket(target, other, disk).exists() && !socket(target, own, disk).exists());
    vm.sh("sleep 1; grep -qx dd /proc/[0-9]*/comm");
    sdk.ecs(Current, "DetachDisk", pair(disk, other)).expect("detached");
    order(sdk, Classic, "StopInstance", other);
    vm.sh("sleep 1; grep -qx dd /proc/[0-9]*/comm");
    sdk.ecs(Classic, "AttachDisk", pair(disk, own)).expect("attached");
    vm.finish(reading).success();
}

/// A front end that is served.
fn connect(target: &Target, instance: &str, disk: &str) -> Wire {
    let path = socket(target, instance, disk);
    let stream = UnixStream::connect(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut wire = Wire(stream);
    assert!(is_served(&mut wire));
    wire
}

fn is_served(wire: &mut Wire) -> bool {
    wire.ask(GET_FEATURES, &[]).is_some()
}

fn state(target: &Target, disk: &str) -> String {
    text(&json_of(target, &["disk", "show", disk]), "state")
}

#[test]
fn sockets_follow_their_instances_through_their_lives() {
    let directory = tempfile::tempdir().expect("a directory");
    let site = site(&directory, "[nvme_tcp]\nlisten = ['127.0.0.1:0']");
    let target = Target::start_with(cloud::folder(), &site);
    let Some(mut sdk) = cloud::sdk(&target) else { return };
    cloud::add_account(&target);
    cloud::open_kms(&target);
    let [first, second] = [Current, Classic].map(|by| new_instance(&mut sdk, by));
    let (first, second) = (first.as_str(), second.as_str());
    let disk = new_disk(&mut sdk, Classic, &json!({"Size": 20, "DiskName": "own"}));
    let shared = new_disk(&mut sdk, Current, &json!({"Size": 20, "MultiAttach": "Enabled"}));
    for instance in [first, second] {
        order(&mut sdk, Current, "StartInstance", instance);
        sdk.ecs(Current, "AttachDisk", pair(&shared, instance)).expect("attached");
    }
    sdk.ecs(Classic, "AttachDisk", pair(&disk, first)).expect("attached");
    expect_sockets(&target, &mut sdk, &[first, second], &[]);
    assert!(!socket(&target, second, &disk).exists());

    // Rebooting is the guest's affair.
    let [mut own, mut here, mut there] =
        [(first, &disk), (first, &shared), (second, &shared)].map(|(instance, disk)| connect(&target, instance, disk));
    order(&mut sdk, Classic, "RebootInstance", first);
    assert!(is_served(&mut own) && is_served(&mut here) && is_served(&mut there));

    // Stopping ends its sessions and nobody else's, and takes the key from memory that nobody else needs.
    order(&mut sdk, Current, "StopInstance", first);
    assert!(own.has_ended() && here.has_ended() && is_served(&mut there));
    expect_sockets(&target, &mut sdk, &[second], &[first]);
    assert_eq!((state(&target, &disk).as_str(), state(&target, &shared).as_str()), ("detached", "open"));
    order(&mut sdk, Classic, "StartInstance", first);
    expect_sockets(&target, &mut sdk, &[first, second], &[]);
    let mut own = connect(&target, first, &disk);

    // Whichever way the target ends, running instances find their sockets again, and stopped ones have none.
    order(&mut sdk, Current, "StopInstance", second);
    assert!(there.has_ended());
    drop(sdk);
    let path = socket(&target, first, &disk);
    let dir = target.kill();
    assert!(own.has_ended() && path.exists(), "what a killed target leaves");
    // As if it had been killed while it stopped the other instance.
    let late = directory.path().join(second);
    std::fs::create_dir(&late).expect("a folder");
    drop(UnixListener::bind(late.join(format!("{shared}.sock"))).expect("bound"));
    let target = Target::start_with(dir, &site);
    let mut sdk = cloud::sdk(&target).expect("it was there before");
    expect_sockets(&target, &mut sdk, &[first], &[second]);
    connect(&target, first, &disk);
    drop(sdk);
    let path = socket(&target, first, &disk);
    let dir = target.stop();
    assert!(!path.exists(), "a target that was stopped leaves sockets");
    let target = Target::start_with(dir, &site);
    let mut sdk = cloud::sdk(&target).expect("it was there before");
    expect_sockets(&target, &mut sdk, &[first], &[second]);
    let mut own = connect(&target, first, &disk);

    // An instance that is deleted takes its folder along, and leaves its data disks.
    sdk.ecs(Current, "DeleteInstance", json!({"InstanceId": first, "Force": true})).expect("deleted");
    assert!(own.has_ended());
    expect_sockets(&target, &mut sdk, &[], &[first, second]);
    assert_eq!(text(&shown(&mut sdk, Classic, &disk), "Status"), "Available");
    sdk.ecs(Classic, "AttachDisk", pair(&disk, second)).expect("attached");
    order(&mut sdk, Classic, "StartInstance", second);
    expect_sockets(&target, &mut sdk, &[second], &[first]);
    connect(&target, second, &disk);
}
