//! A guest's machine changes under it: it gets more memory and loses it again while its disks work out of it, and disks are plugged in and pulled
//! out. And what its host may do to a disk changes: a reservation that another host takes over NVMe/TCP binds the guest as well.

mod guest;
mod target;

use guest::{FREE_SLOT, Guest, Host, Image, Portal, VhostUser};
use serde_json::json;
use target::{Client, Disk, MIB, Target};

const VM: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0021" };
const OTHER: Host = Host { name: "host2", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0022" };

// Each disk is found by its size.
const MAIN: Disk = Disk { name: "main", sector_size: 4096, bytes: 96 * MIB, shared: false, attached_to: &["vm1"] };
const LATE: Disk = Disk { name: "late", sector_size: 512, bytes: 48 * MIB, shared: false, attached_to: &["vm1"] };
const SHARED: Disk =
    Disk { name: "shared", sector_size: 4096, bytes: 32 * MIB, shared: true, attached_to: &["vm1", "host2"] };

const LOAD: &str = "--bs=64k --size=48m --iodepth=32 --loops=3";
/// A script that prints what the kernel tells of its movable memory.
const MOVABLE: &str = "sed -n '/zone *Movable/,$p' /proc/zoneinfo";

#[test]
fn a_guest_changes_while_it_runs() {
    let Some(image) = Image::take() else { return };
    let clients = [&VM, &OTHER].map(|host| Client { name: host.name, nqn: host.nqn(), secrets: None });
    let target = Target::start_with(&clients, &[MAIN, LATE, SHARED], "[vhost_user]\ndirectory = 'v'\nqueues = 4");
    let disks = [&MAIN, &SHARED].map(|disk| VhostUser { socket: socket(&target, disk), options: "num-queues=2" });
    let vm = image.boot_with(2, VM, &disks);
    let main = vm.block_device(MAIN.bytes);
    gets_memory_and_loses_it(&vm, &main);
    gets_a_disk_and_loses_it(&vm, &target);
    is_bound_by_reservations(&vm, &target);
    vm.fio_verify(&main, "--bs=4k --size=4m --iodepth=32");
}

fn socket(target: &Target, disk: &Disk) -> std::path::PathBuf {
    target.file(&format!("v/vm1/{}.sock", disk.name))
}

/// The disk is under load when the memory comes, when the load's own buffers lie in it, and when it goes.
fn gets_memory_and_loses_it(vm: &Guest, path: &str) {
    // Movable memory has only what belongs to programs, and that is taken from there first.
    vm.sh("echo online_movable > /sys/devices/system/memory/auto_online_blocks");
    let mut monitor = vm.monitor();
    let throughout = vm.start_fio_verify(path, &format!("{LOAD} --offset=48m"));
    for _ in 0..2 {
        monitor.run(
            "object-add",
            json!({"qom-type": "memory-backend-memfd", "id": "more", "size": 256 * MIB, "share": true}),
        );
        monitor.run("device_add", json!({"driver": "pc-dimm", "id": "dimm", "memdev": "more"}));
        vm.wait_for("the memory", &format!("{MOVABLE} | grep -E 'present +65536'"));
        let load = vm.start_fio_verify(path, LOAD);
        vm.wait_for(
            "the load's buffers to be there",
            &format!(
                "pages=0; while read -r _ more; do pages=$((pages + more)); done < <({MOVABLE} | grep -E 'nr_zone_(in)?active_anon')
                 [ $pages -ge 512 ]"
            ),
        );
        // The kernel may refuse to let go of memory that is in use just now.
        let mut tries = 0;
        loop {
            monitor.run("device_del", json!({"id": "dimm"}));
            if monitor.wait_for(&["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"], "dimm") == "DEVICE_DELETED" {
                break;
            }
            tries += 1;
            assert!(tries < 200, "the guest does not let go of its memory");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        monitor.run("object-del", json!({"id": "more"}));
        vm.finish(load).success();
    }
    vm.finish(throughout).success();
    vm.expect_no_complaint();
}

/// What was written is there when the disk is plugged in again; a guest that has none leaves the socket to the next.
fn gets_a_disk_and_loses_it(vm: &Guest, target: &Target) {
    let mut monitor = vm.monitor();
    for files in [
        "mkfs.ext4 -q $disk; mount $disk /mnt; cp /usr/bin/fio /mnt; cd /mnt; sha256sum fio > sum; cd /; umount /mnt",
        "mount $disk /mnt; cd /mnt; sha256sum --quiet -c sum; cd /; umount /mnt",
    ] {
        let address = json!({"type": "unix", "data": {"path": socket(target, &LATE)}});
        let backend = json!({"type": "socket", "data": {"addr": address, "server": false, "reconnect": 1}});
        monitor.run("chardev-add", json!({"id": "late", "backend": backend}));
        monitor.run(
            "device_add",
            json!({"driver": "vhost-user-blk-pci", "id": "late", "chardev": "late", "num-queues": 2, "bus": FREE_SLOT}),
        );
        let path = vm.block_device(LATE.bytes);
        vm.sh(&format!("set -e; disk={path}; {files}"));
        vm.fio_verify(&path, "--bs=512 --offset=40m --size=1m --iodepth=16");
        monitor.run("device_del", json!({"id": "late"}));
        monitor.wait_for(&["DEVICE_DELETED"], "late");
        monitor.run("chardev-remove", json!({"id": "late"}));
        vm.wait_for("the disk to go", "! grep -qs 98304 /sys/block/vd*/size");
    }
    target.detach(LATE.name, VM.name);
    assert!(!socket(target, &LATE).exists());
    vm.expect_no_complaint();
}

/// The other host is this kernel too, by its other name: it has the same disk over NVMe/TCP.
fn is_bound_by_reservations(vm: &Guest, target: &Target) {
    let own = vm.block_device(SHARED.bytes);
    vm.sh(&format!("echo {} > /etc/nvme/hostnqn; echo {} > /etc/nvme/hostid", OTHER.nqn(), OTHER.id));
    let portal = Portal::here(target.port());
    vm.connect(portal, &vm.discover_one(portal), "-i 2");
    let others = vm.disk(SHARED.bytes);
    let resv = |command: &str, options: &str| vm.sh(&format!("nvme resv-{command} {others} {options}"));
    let write = |path: &str, byte: char| {
        vm.attempt(&format!(
            "head -c 4096 /dev/zero | tr '\\0' {byte} | dd of={path} bs=4k iflag=fullblock oflag=direct status=none"
        ))
        .code
    };
    let read = |path: &str| vm.attempt(&format!("dd if={path} bs=4k count=1 iflag=direct status=none | head -c 1")).out;

    assert_eq!((write(&own, 'a'), read(&others)), (0, "a".to_owned()));
    resv("register", "--nrkey=0xa1 --rrega=0");
    resv("acquire", "--crkey=0xa1 --rtype=1 --racqa=0");
    assert_ne!(write(&own, 'b'), 0, "write exclusive keeps others from writing");
    assert_eq!((read(&own), write(&others, 'c'), read(&own)), ("a".to_owned(), 0, "c".to_owned()));
    resv("release", "--crkey=0xa1 --rtype=1 --rrela=0");
    resv("acquire", "--crkey=0xa1 --rtype=2 --racqa=0");
    assert_eq!(read(&own), "", "exclusive access keeps others from reading");
    resv("release", "--crkey=0xa1 --rtype=2 --rrela=0");
    assert_eq!((write(&own, 'd'), read(&others)), (0, "d".to_owned()));
    vm.disconnect();
}
