//! A Linux guest in QEMU has disks over vhost-user and uses them like local ones: packed and split rings, both sizes of sectors, every request that
//! the kernel sends, disks that grow while it runs. The target is killed under load and started again, and the guest goes on; the guest is
//! rebooted, and finds what it has written.

mod guest;
mod target;

use guest::{Guest, Host, Image, VhostUser};
use target::{Client, Disk, MIB, Target};

const VM: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0011" };

// Each disk is found by its size.
const MAIN: Disk = Disk { name: "main", sector_size: 4096, bytes: 96 * MIB, shared: false, attached_to: &["vm1"] };
const FINE: Disk = Disk { name: "fine", sector_size: 512, bytes: 48 * MIB, shared: false, attached_to: &["vm1"] };
const BARE: Disk = Disk { name: "bare", sector_size: 512, bytes: 32 * MIB, shared: false, attached_to: &["vm1"] };

#[test]
fn a_guest_uses_its_disks() {
    let Some(image) = Image::take() else { return };
    let clients = [Client { name: VM.name, nqn: VM.nqn(), secrets: None }];
    let mut target = Target::start_with(&clients, &[MAIN, FINE, BARE], "[vhost_user]\ndirectory = 'v'\nqueues = 4");
    let disk = |disk: &Disk, options| VhostUser { socket: target.file(&format!("v/vm1/{}.sock", disk.name)), options };
    let disks = [
        disk(&MAIN, "num-queues=2,packed=on"),
        disk(&FINE, "num-queues=2,packed=off"),
        disk(&BARE, "num-queues=1,indirect_desc=off,event_idx=off"),
    ];
    let vm = image.boot_with(2, VM, &disks);

    let (main, fine, bare) = (vm.block_device(MAIN.bytes), vm.block_device(FINE.bytes), vm.block_device(BARE.bytes));
    describes_its_disk(&vm, &main, &MAIN, 2);
    describes_its_disk(&vm, &fine, &FINE, 2);
    describes_its_disk(&vm, &bare, &BARE, 1);
    keeps_a_file_system(&vm, &main);
    keeps_a_file_system(&vm, &fine);
    for sizes in ["--bs=4k --size=8m --iodepth=32 --numjobs=2 --offset_increment=8m", "--bs=1m --size=8m"] {
        vm.fio_verify(&main, sizes);
    }
    for sizes in ["--bs=512 --size=1m --iodepth=16", "--bsrange=512-64k --size=4m --iodepth=16"] {
        vm.fio_verify(&fine, sizes);
        vm.fio_verify(&bare, sizes);
    }
    obeys_commands(&vm, &main);
    obeys_commands(&vm, &fine);
    stores_cipher_text(&vm, &target, &main, &MAIN);
    stores_cipher_text(&vm, &target, &fine, &FINE);
    has_a_write_cache_that_can_be_turned_off(&vm, &mut target, &bare, &BARE);
    goes_on_when_the_target_is_killed(&vm, &mut target, [&main, &fine]);
    // From here on its configuration has another size than the disk, with which it does not start again.
    grows(&vm, &mut target, &bare);
    vm.expect_no_complaint();
    finds_its_files_after_a_reboot(&vm);
    vm.expect_no_complaint();
}

/// The configuration space (virtio 1.2, section 5.2.4), as the kernel shows it.
fn describes_its_disk(vm: &Guest, path: &str, disk: &Disk, queues: usize) {
    let folder = format!("/sys/block/{}", path.trim_start_matches("/dev/"));
    let show = |file: &str| vm.sh(&format!("cat {folder}/{file}")).trim().to_owned();
    assert_eq!(show("queue/logical_block_size"), disk.sector_size.to_string());
    assert_eq!(show("queue/physical_block_size"), "4096");
    assert_eq!(show("queue/write_cache"), "write back");
    assert_eq!(show("serial"), disk.name);
    assert_eq!(show("ro"), "0");
    assert_eq!(vm.sh(&format!("ls -d {folder}/mq/* | wc -l")).trim(), queues.to_string());
    for limit in ["discard_max_bytes", "write_zeroes_max_bytes"] {
        assert_ne!(show(&format!("queue/{limit}")), "0", "{limit}");
    }
}

fn keeps_a_file_system(vm: &Guest, path: &str) {
    vm.sh(&format!(
        "set -e; mkfs.ext4 -q {path}; mount {path} /mnt
         mkdir /mnt/deep; cp /usr/bin/[a-d]* /mnt/deep/; rm /mnt/deep/c*; cp /usr/bin/fio /mnt/
         cd /mnt; sha256sum fio deep/bash deep/blkdiscard > sums; cd /
         umount /mnt; mount {path} /mnt; cd /mnt; sha256sum --quiet -c sums; cd /; fstrim /mnt; umount /mnt
         e2fsck -fn {path}"
    ));
}

/// Each command does what it says to its own sectors and leaves the neighbours alone.
fn obeys_commands(vm: &Guest, path: &str) {
    let areas = r#"
        area() { dd if=$1 bs=64k skip=$2 count=1 status=none ${3:-}; }
        fresh() { dd if=/tmp/pattern of=$disk bs=64k oflag=direct status=none; }
        same() { local n; for n; do [ "$(area $disk $n iflag=direct | sha256sum)" = "$(area /tmp/pattern $n | sha256sum)" ] || return 1; done; }
        zero() { [ "$(area $disk $1 iflag=direct | tr -d '\0' | wc -c)" = 0 ]; }
        set -e"#;
    let does = |steps: &str| vm.sh(&format!("disk={path}{areas}\n{steps}"));
    does("head -c 1M /dev/urandom > /tmp/pattern; fresh; same 0 7 15");
    does("blkdiscard -z -o $((5 << 16)) -l 65536 $disk; zero 5; same 4 6");
    does("blkdiscard -o $((7 << 16)) -l 65536 $disk; same 6 8");
    does("blkdiscard $disk; fresh; same 1 3 5 7 9 11; sync");
}

fn stores_cipher_text(vm: &Guest, target: &Target, path: &str, disk: &Disk) {
    const AT: u64 = 20 * MIB;
    let text = "the guest's own words, which are sixty-four bytes in each line.\n".repeat(1024);
    vm.sh(&format!("head -c 65536 <(while echo \"the guest's own words, which are sixty-four bytes in each line.\"; do :; done) | dd of={path} bs=64k seek={} iflag=fullblock oflag=direct conv=fsync", AT / 65536));
    let stored = target.stored(disk.name, AT, text.len());
    let words = b"the guest's own";
    assert!(!stored.windows(words.len()).any(|w| w == words), "plain text is stored");
    let plain = target::decrypted(disk.name, disk.sector_size, u128::from(AT) / disk.sector_size as u128, &stored);
    assert!(plain == text.as_bytes(), "OpenSSL does not find the guest's bytes");
}

/// Without its cache every write is followed by a flush of ours, which the disk counts; with it none is. A target that was started again knows how
/// the guest has set it.
fn has_a_write_cache_that_can_be_turned_off(vm: &Guest, target: &mut Target, path: &str, disk: &Disk) {
    let folder = format!("/sys/block/{}", path.trim_start_matches("/dev/"));
    let set = |mode: &str| {
        vm.sh(&format!("echo '{mode}' > {folder}/cache_type"));
        assert_eq!(vm.sh(&format!("cat {folder}/cache_type")).trim(), mode);
    };
    let flushes_of_writes = |target: &Target| {
        let flushes = || {
            let stat = target.control(&["stat", disk.name, "--json"]);
            let stat: serde_json::Value = serde_json::from_str(&stat).expect("JSON");
            stat[0]["flush"]["commands"].as_u64().expect("a count")
        };
        let before = flushes();
        vm.sh(&format!("dd if=/dev/zero of={path} bs=4k count=16 oflag=direct status=none"));
        flushes() - before
    };
    set("write through");
    assert_eq!(flushes_of_writes(target), 16);
    target.kill();
    target.restart();
    vm.sh(&format!("dd if={path} of=/dev/null bs=4k count=1 iflag=direct status=none"));
    assert_eq!(flushes_of_writes(target), 16, "forgotten");
    set("write back");
    assert_eq!(flushes_of_writes(target), 0);
}

/// The kernel learns of it by the device's message: nobody asks it to look. Also if it has no target when the disk grows.
fn grows(vm: &Guest, target: &mut Target, path: &str) {
    for is_away in [true, false] {
        let grown = BARE.bytes + if is_away { 8 } else { 12 } * MIB;
        if is_away {
            target.kill();
            target.restart();
        }
        target.resize(BARE.name, grown);
        assert_eq!(vm.block_device(grown), path, "the disk became another when it grew");
        vm.fio_verify(path, &format!("--bs=64k --offset={} --size=4m", grown - 6 * MIB));
    }
}

/// No request fails, and none is lost: those that were under way are carried out again.
fn goes_on_when_the_target_is_killed(vm: &Guest, target: &mut Target, paths: [&str; 2]) {
    let loads = paths.map(|path| vm.start_fio_verify(path, "--bs=4k --size=16m --iodepth=32"));
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_secs(2));
        target.kill();
        target.restart();
    }
    for load in loads {
        vm.finish(load).success();
    }
}

fn finds_its_files_after_a_reboot(vm: &Guest) {
    let (main, fine) = (vm.block_device(MAIN.bytes), vm.block_device(FINE.bytes));
    keeps_a_file_system(vm, &main);
    keeps_a_file_system(vm, &fine);
    vm.reboot();
    for bytes in [MAIN.bytes, FINE.bytes] {
        let path = vm.block_device(bytes);
        vm.sh(&format!(
            "set -e; mount {path} /mnt; cd /mnt; sha256sum --quiet -c sums; cd /; umount /mnt; e2fsck -fn {path}"
        ));
    }
}
