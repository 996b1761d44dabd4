//! The Linux kernel's initiator finds an account's disks over NVMe/TCP and uses them like local ones: file systems, every command that
//! the kernel and `nvme` send, digests, disks that come, go and grow while it is connected.

mod guest;
mod target;

use guest::{Guest, Host, Image, Portal};
use serde_json::Value;
use target::{Client, Disk, MIB, Target};

const VM: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0001" };

// Each disk is found by its size.
const MAIN: Disk = Disk { name: "main", sector_size: 4096, bytes: 96 * MIB, shared: false, attached_to: &["vm1"] };
const FINE: Disk = Disk { name: "fine", sector_size: 512, bytes: 48 * MIB, shared: false, attached_to: &["vm1"] };
const LATE: Disk = Disk { name: "late", sector_size: 4096, bytes: 32 * MIB, shared: false, attached_to: &[] };

#[test]
fn a_kernel_uses_its_disks() {
    let Some(image) = Image::take() else { return };
    let [vm] = image.boot(4, [VM]);
    let clients = [Client { name: VM.name, nqn: VM.nqn(), secrets: None }];
    let target = Target::start(&clients, &[MAIN, FINE, LATE]);
    let portal = Portal::here(target.port());
    let nqn = vm.discover_one(portal);

    let controller = connect_with_queues(&vm, portal, &nqn, 1);
    let (main, fine) = (vm.disk(MAIN.bytes), vm.disk(FINE.bytes));
    describes_itself(&vm, &controller, &nqn);
    describes_its_disk(&vm, &main, &MAIN);
    describes_its_disk(&vm, &fine, &FINE);
    keeps_a_file_system(&vm, &main);
    vm.disconnect();

    let controller = connect_with_queues(&vm, portal, &nqn, 4);
    let (main, fine) = (vm.disk(MAIN.bytes), vm.disk(FINE.bytes));
    counts_what_it_does(&vm, &controller, &main);
    for sizes in [
        "--bs=4k --size=8m --iodepth=32 --numjobs=2 --offset_increment=8m",
        "--bs=256k --size=16m --iodepth=4",
        "--bs=1m --size=8m",
    ] {
        vm.fio_verify(&main, sizes);
    }
    for sizes in [
        "--bs=512 --size=1m --iodepth=16",
        "--bsrange=512-4k --size=4m --iodepth=16",
        "--bs=256k --size=8m --iodepth=4",
    ] {
        vm.fio_verify(&fine, sizes);
    }
    obeys_commands(&vm, &main, &MAIN);
    obeys_commands(&vm, &fine, &FINE);
    stores_cipher_text(&vm, &target, &main, &MAIN);
    stores_cipher_text(&vm, &target, &fine, &FINE);
    disks_come_grow_and_go(&vm, &target);
    vm.disconnect();

    vm.connect(portal, &nqn, "-i 2 --hdr-digest --data-digest");
    vm.fio_verify(&vm.disk(MAIN.bytes), "--bs=4k --size=4m --iodepth=16");
    vm.fio_verify(&vm.disk(MAIN.bytes), "--bs=256k --size=8m --iodepth=4");
    keeps_a_file_system(&vm, &vm.disk(FINE.bytes));
    vm.disconnect();
    vm.expect_no_complaint();
}

fn connect_with_queues(vm: &Guest, portal: Portal, nqn: &str, queues: usize) -> String {
    let controller = vm.connect(portal, nqn, &format!("-i {queues}"));
    // The kernel counts the admin queue too.
    let counted = vm.sh(&format!("cat /sys/class/nvme/{controller}/queue_count"));
    assert_eq!(counted.trim(), (queues + 1).to_string());
    controller
}

/// Identify Controller and the log pages (Base 2.0, sections 5.17.2.1 and 5.16.1).
fn describes_itself(vm: &Guest, controller: &str, nqn: &str) {
    let device = format!("/dev/{controller}");
    let identity = vm.json(&format!("id-ctrl {device}"));
    let field = |name: &str| number(&identity[name]);
    assert_eq!(identity["subnqn"], nqn);
    for text in ["sn", "mn", "fr"] {
        assert!(!identity[text].as_str().expect("text").trim().is_empty(), "no {text}");
    }
    assert!(field("ver") >= 0x0001_0400, "version {:#x}", field("ver"));
    assert_eq!(field("cntrltype"), 1, "an I/O controller");
    // Compare, dataset management, write zeroes, reservations, verify.
    let offered = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 7;
    assert_eq!(field("oncs") & offered, offered, "oncs {:#x}", field("oncs"));
    assert_eq!(field("fuses") & 1, 1, "compare and write");
    assert_eq!(field("vwc") & 1, 1, "a volatile write cache: flush means something");
    assert!(field("ioccsz") * 16 >= 64 + 8192, "in-capsule data of at least 8 KiB");
    assert!(field("kas") > 0, "keep-alive");
    assert_eq!(field("oaes") >> 8 & 1, 1, "namespace attribute notices");
    assert!(field("maxcmd") > 0);

    let firmware = vm.json(&format!("fw-log {device}")).to_string();
    let revision = identity["fr"].as_str().expect("text").trim();
    assert!(firmware.contains(revision), "{revision} is not in {firmware}");
    assert!(vm.json(&format!("error-log {device} -e 1")).is_object());
    let effects = vm.sh(&format!("nvme effects-log {device} --csi=0"));
    for command in
        ["Write", "Read", "Flush", "Compare", "Write Zeroes", "Dataset Management", "Verify", "Reservation Acquire"]
    {
        assert!(effects.contains(command), "{command} is not in the effects log:\n{effects}");
    }
    let list = vm.json(&format!("list-ns {device}"));
    assert_eq!(list["nsid_list"].as_array().expect("a list").len(), 2, "{list}");
}

/// Identify Namespace (Command Set 1.0, section 4.1.5.1) and what the kernel makes of it.
fn describes_its_disk(vm: &Guest, path: &str, disk: &Disk) {
    let identity = vm.json(&format!("id-ns {path}"));
    let sectors = disk.bytes / disk.sector_size as u64;
    assert_eq!((number(&identity["nsze"]), number(&identity["ncap"])), (sectors, sectors));
    let format = &identity["lbafs"][(number(&identity["flbas"]) & 0xf) as usize];
    assert_eq!((number(&format["ds"]), number(&format["ms"])), (disk.sector_size.ilog2().into(), 0));
    assert_eq!(number(&identity["nmic"]), u64::from(disk.shared));
    let queue = format!("/sys/block/{}/queue", path.trim_start_matches("/dev/"));
    assert_eq!(vm.sh(&format!("cat {queue}/logical_block_size")).trim(), disk.sector_size.to_string());
    assert_eq!(vm.sh(&format!("cat {queue}/write_cache {queue}/fua")), "write back\n1\n");
    vm.sh(&format!("[[ $(<{queue}/discard_max_bytes) -gt 0 && $(<{queue}/write_zeroes_max_bytes) -gt 0 ]]"));
    let names = vm.sh(&format!("cat /sys/block/{}/uuid /sys/block/{0}/nguid", path.trim_start_matches("/dev/")));
    assert!(names.lines().count() == 2 && names.chars().any(|c| ('1'..='f').contains(&c)), "{names}");
}

fn keeps_a_file_system(vm: &Guest, path: &str) {
    vm.sh(&format!(
        "set -e; mkfs.ext4 -q {path}; mount {path} /mnt
         mkdir /mnt/deep; cp -r /usr/bin /mnt/deep/; rm -r /mnt/deep/bin/f*; cp /usr/bin/fio /mnt/
         cd /mnt; sha256sum fio deep/bin/bash deep/bin/nvme > sums; cd /
         umount /mnt; mount {path} /mnt; cd /mnt; sha256sum --quiet -c sums; cd /; umount /mnt
         e2fsck -fn {path}"
    ));
}

/// The SMART log counts commands (Base 2.0, section 5.16.1.3).
fn counts_what_it_does(vm: &Guest, controller: &str, disk: &str) {
    let log = || {
        let log = vm.json(&format!("smart-log /dev/{controller}"));
        assert_eq!(number(&log["critical_warning"]), 0, "{log}");
        (number(&log["host_read_commands"]), number(&log["host_write_commands"]))
    };
    let before = log();
    vm.sh(&format!(
        "dd if=/dev/zero of={disk} bs=4k count=20 oflag=direct; dd if={disk} of=/dev/null bs=4k count=30 iflag=direct"
    ));
    let after = log();
    assert!(after.0 >= before.0 + 30 && after.1 >= before.1 + 20, "{before:?} became {after:?}");
}

/// Shell functions for the first MiB of a disk, in sixteen areas of 64 KiB; `$s` is an area's number of sectors.
const AREAS: &str = r#"
    area() { dd if=$1 bs=64k skip=$2 count=1 status=none ${3:-}; }
    fresh() { dd if=/tmp/pattern of=$disk bs=64k oflag=direct status=none; }
    same() { local n; for n; do [ "$(area $disk $n iflag=direct | sha256sum)" = "$(area /tmp/pattern $n | sha256sum)" ] || return 1; done; }
    zero() { [ "$(area $disk $1 iflag=direct | tr -d '\0' | wc -c)" = 0 ]; }
    set -e
"#;

/// Each command does what it says to its own sectors and leaves the neighbours alone.
fn obeys_commands(vm: &Guest, path: &str, disk: &Disk) {
    let sector = disk.sector_size;
    let script = |steps: &str| {
        let nsid = vm.nsid(path);
        format!("disk={path} nsid={nsid} sector={sector} s={}{AREAS}{steps}", 65536 / sector)
    };
    let does = |steps: &str| vm.sh(&script(steps));
    let fails = |steps: &str, words: &str| {
        let answer = vm.attempt(&script(steps));
        assert!(answer.code != 0 && (answer.out + &answer.err).contains(words), "{steps}: no {words:?}");
    };
    does("head -c 1M /dev/urandom > /tmp/pattern; fresh; same 0 7 15");
    does("head -c $sector /tmp/pattern > /tmp/one; nvme compare $disk -s 0 -c 0 -z $sector -d /tmp/one");
    fails("nvme compare $disk -s $s -c 0 -z $sector -d /tmp/one", "Compare Fail");
    does("nvme verify $disk -s 0 -c $((s - 1)); nvme flush $disk -n $nsid");
    does("nvme write-zeroes $disk -s $s -c $((s - 1)); zero 1; same 0 2");
    does("nvme write-zeroes $disk --deac -s $((3 * s)) -c $((s - 1)); zero 3; same 2 4");
    does("blkdiscard -z -o $((5 << 16)) -l 65536 $disk; zero 5; same 4 6");
    does("blkdiscard -o $((7 << 16)) -l 65536 $disk; same 6 8");
    does("nvme dsm $disk -n $nsid --ad -s $((9 * s)),$((11 * s)) -b $s,$s; same 8 10 12");
    does("blkdiscard $disk; fresh; same 1 3 5 7 9 11");
    let last = disk.bytes / sector as u64 - 1;
    fails(&format!("nvme verify $disk -s {last} -c 1"), "LBA Out of Range");
}

fn stores_cipher_text(vm: &Guest, target: &Target, path: &str, disk: &Disk) {
    const AT: u64 = 20 * MIB;
    let text = "the client's own words, sixty-four bytes of them in every line.\n".repeat(1024);
    vm.sh(&format!("head -c 65536 <(while echo \"the client's own words, sixty-four bytes of them in every line.\"; do :; done) | dd of={path} bs=64k seek={} iflag=fullblock oflag=direct conv=fsync", AT / 65536));
    let stored = target.stored(disk.name, AT, text.len());
    let words = b"the client's own";
    assert!(!stored.windows(words.len()).any(|w| w == words), "plain text is stored");
    let plain = target::decrypted(disk.name, disk.sector_size, u128::from(AT) / disk.sector_size as u128, &stored);
    assert!(plain == text.as_bytes(), "OpenSSL does not find the client's bytes");
}

/// The kernel learns of changes by asynchronous events alone: nobody asks it to look (Base 2.0, section 5.2.1).
fn disks_come_grow_and_go(vm: &Guest, target: &Target) {
    vm.wait_without_disk(LATE.bytes);
    target.attach(LATE.name, VM.name);
    let late = vm.disk(LATE.bytes);
    let load = vm.start_fio_verify(&vm.disk(MAIN.bytes), "--bs=4k --size=8m --iodepth=8");
    vm.fio_verify(&late, "--bs=4k --size=2m --iodepth=16");
    let grown = LATE.bytes + 8 * MIB;
    target.resize(LATE.name, grown);
    assert_eq!(vm.disk(grown), late, "the disk became another when it grew");
    vm.fio_verify(&late, &format!("--bs=64k --offset={} --size=4m", LATE.bytes + 2 * MIB));
    target.detach(LATE.name, VM.name);
    vm.wait_without_disk(grown);
    vm.finish(load).success();
}

/// `nvme` prints 128-bit counters as text.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("not a number: {value}"))
}
