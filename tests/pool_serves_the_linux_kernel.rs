//! The Linux kernel keeps ext4 and XFS on thin encrypted disks of a pool, over NVMe/TCP: snapshots that are taken while it writes are
//! sound file systems, clones of them are mounted beside the disks that they come from, `fstrim` gives space back, a disk grows under
//! its file system, and nothing of what the guest writes can be read in the pool's file.

mod guest;
mod operator;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use guest::{Guest, Host, Image, Portal};
use operator::{PATIENCE, Target};
use serde_json::Value;

const VM: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0004" };
const MIB: u64 = 1 << 20;

/// What the guest writes into files, and nobody may find below.
const MARKER: &str = "the guest's own words, in clear";

struct FileSystem {
    disk: &'static str,
    /// Its name in the kernel's messages.
    driver: &'static str,
    /// Each disk is found by its size. Together they are larger than the pool.
    mib: u64,
    make: &'static str,
    mount: &'static str,
    /// Looks at one that is not mounted, and fails if anything is wrong with it.
    check: &'static str,
}

const EXT4: FileSystem =
    FileSystem { disk: "ext", driver: "EXT4-fs", mib: 256, make: "mkfs.ext4 -q", mount: "mount", check: "e2fsck -fn" };
// A clone has the UUID of its origin, which XFS mounts only once. 300 MiB is the least that mkfs.xfs takes.
const XFS: FileSystem = FileSystem {
    disk: "xfs",
    driver: "XFS",
    mib: 320,
    make: "mkfs.xfs -q",
    mount: "mount -o nouuid",
    check: "xfs_repair -n",
};

#[test]
fn a_kernel_keeps_file_systems_in_a_pool() {
    let Some(image) = Image::take() else { return };
    let [vm] = image.boot(4, [VM]);
    let target = start_target();
    let portal = Portal::here(port(&target));
    vm.connect(portal, &vm.discover_one(portal), "-i 2");

    for fs in [&EXT4, &XFS] {
        let disk = vm.disk(fs.mib * MIB);
        make(&vm, fs, &disk);
        let clone = snapshot_under_load(&vm, &target, fs);
        clone_is_sound(&vm, fs, &clone);
        origin_goes_on(&vm, fs, &disk);
        give_back(&vm, &target, fs, &clone);
    }
    trim_gives_space_back(&vm, &target);
    grows_while_mounted(&vm, &target);
    goes_back(&vm, &target);
    vm.disconnect();
    vm.expect_no_complaint();
    keeps_words_secret(target);
}

/// A target whose disks the guest may have.
fn start_target() -> Target {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let key = dir.path().join("k");
    std::fs::write(&key, (0..64).collect::<Vec<u8>>()).expect("written");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("mode set");
    let nqn = VM.nqn();
    let mut config = format!(
        "[reactor]\nmemory_mib = 64\nhugepages = 'never'\n[control]\nsocket = 'c'\n\
         [nvme_tcp]\nlisten = ['127.0.0.1:0']\n[[account]]\nname = 'acme'\n\
         [[host]]\nname = 'vm1'\naccount = 'acme'\nnqn = '{nqn}'\n\
         [[device]]\nname = 'f'\nkind = 'file'\npath = 'pool'\nsize = '512M'\ncreate = true\n\
         [[pool]]\nname = 'p'\ndevice = 'f'\ncreate = true\n"
    );
    for FileSystem { disk, mib, .. } in [EXT4, XFS] {
        config += &format!(
            "[[disk]]\nname = '{disk}'\npool = 'p'\nsize = '{mib}M'\naccount = 'acme'\nattached_to = ['vm1']\n\
             encryption = {{ key_file = 'k' }}\n"
        );
    }
    Target::start_with(dir, &config)
}

/// The port that the target has chosen.
fn port(target: &Target) -> u16 {
    let at = target.report.find("127.0.0.1:").expect("an address");
    let digits: String = target.report[at + 10..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a port")
}

/// A file system with files of which the sums are known, all of it on the disk; it stays mounted.
fn make(vm: &Guest, fs: &FileSystem, disk: &str) {
    vm.sh(&format!(
        "set -e; {make} {disk}; mkdir /mnt/{name} /mnt/clone-{name}; mount {disk} /mnt/{name}; cd /mnt/{name}
         mkdir deep; cp /usr/bin/bash /usr/bin/nvme deep/; cp /usr/bin/fio .
         for n in {{1..2000}}; do echo \"{MARKER}, line $n\"; done > words
         sha256sum fio words deep/bash deep/nvme > sums; sync -f .",
        make = fs.make,
        name = fs.disk,
    ));
}

/// Takes a snapshot and attaches its clone while the guest writes; gives the path of the clone.
fn snapshot_under_load(vm: &Guest, target: &Target, fs: &FileSystem) -> String {
    let name = fs.disk;
    let load = vm.start(
        Duration::from_secs(600),
        &format!(
            "set -e; rm -f /tmp/enough; until [ -e /tmp/enough ]; do
             fio --name=load --directory=/mnt/{name} --ioengine=psync --rw=randrw --bsrange=4k-64k --size=6m --numjobs=2 \
             --fsync=16 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal; done"
        ),
    );
    vm.wait_for(
        "the load to be under way",
        &format!("[ \"$(du -sm /mnt/{name}/load.1.0 | cut -f 1)\" -ge 1 ] && echo"),
    );
    target.done(&["snapshot", "create", name, "busy"]);
    let clone = format!("copy-{name}");
    let from = format!("{name}@busy");
    let create = ["disk", "create", &clone, "--pool", "p", "--from-snapshot", &from, "--account", "acme"];
    target.done(&create);
    target.done(&["disk", "attach", &clone, "--host", "vm1"]);
    let uuid = json(target, &["disk", "show", &clone])["uuid"].as_str().expect("a UUID").to_owned();
    let found = vm.wait_for(
        "the clone",
        &format!("grep -l {uuid} /sys/block/nvme*/uuid | grep -v nvme[0-9]*c | cut -d / -f 4 | grep ."),
    );
    vm.sh("touch /tmp/enough");
    vm.finish(load).success();
    format!("/dev/{}", found.trim())
}

/// Mounted, it replays its journal; then it is clean, and holds what was on the disk before the snapshot.
fn clone_is_sound(vm: &Guest, fs: &FileSystem, clone: &str) {
    let at = format!("/mnt/clone-{}", fs.disk);
    let (mount, check) = (fs.mount, fs.check);
    vm.sh(&format!(
        "set -e; {mount} {clone} {at}; cd {at}; sha256sum --quiet -c sums; cd /; umount {at}; {check} {clone}"
    ));
    // The snapshot was of a disk in use: otherwise it would have proved little.
    let name = clone.trim_start_matches("/dev/");
    vm.sh(&format!("dmesg | grep -i '{} ({name}): .*recovery'", fs.driver));
    // A life of its own.
    vm.sh(&format!(
        "set -e; {mount} {clone} {at}; cd {at}; cp deep/bash other; rm words; sync -f .; sha256sum deep/bash other
         cd /; umount {at}; {check} {clone}"
    ));
}

/// The disk itself has noticed nothing.
fn origin_goes_on(vm: &Guest, fs: &FileSystem, disk: &str) {
    let (name, check) = (fs.disk, fs.check);
    vm.sh(&format!(
        "set -e; umount /mnt/{name}; {check} {disk}; mount {disk} /mnt/{name}; cd /mnt/{name}; sha256sum --quiet -c sums; [ ! -e other ]"
    ));
}

/// The clone and its snapshot go while the guest has the disk mounted.
fn give_back(vm: &Guest, target: &Target, fs: &FileSystem, clone: &str) {
    let copy = format!("copy-{}", fs.disk);
    target.done(&["disk", "detach", &copy, "--host", "vm1"]);
    vm.wait_for("the clone to go", &format!("! ls {clone} 2>/dev/null"));
    target.done(&["disk", "delete", &copy]);
    target.done(&["snapshot", "delete", &format!("{}@busy", fs.disk)]);
}

fn trim_gives_space_back(vm: &Guest, target: &Target) {
    for fs in [&EXT4, &XFS] {
        let name = fs.disk;
        vm.sh(&format!("set -e; cd /mnt/{name}; head -c 24M /dev/urandom > large; sync -f ."));
        let before = allocated(target, name);
        vm.sh(&format!("set -e; cd /mnt/{name}; rm large load.*; sync -f .; fstrim -v ."));
        let after = allocated(target, name);
        // Clusters at the edges of what was trimmed stay, and so do blocks that the file system has put to other uses.
        assert!(after + 24 * MIB < before, "{name}: {before} bytes before the trim, {after} after it");
        vm.sh(&format!("cd /mnt/{name}; sha256sum --quiet -c sums"));
    }
    // What snapshots and clones had is free again: there is nothing but both disks, their maps and the journal.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pool = json(target, &["pool", "show", "p"]);
        let (used, data) = (number(&pool["used_bytes"]), allocated(target, EXT4.disk) + allocated(target, XFS.disk));
        if pool["freeing_bytes"] == 0 && used < data + 16 * MIB {
            break;
        }
        assert!(Instant::now() < deadline, "{used} bytes in use for {data} of data: {pool}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kernel sees the new size without being asked to look, and puts it to use.
fn grows_while_mounted(vm: &Guest, target: &Target) {
    let FileSystem { disk: name, mib, .. } = EXT4;
    let disk = vm.disk(mib * MIB);
    let larger = mib + 1024;
    target.done(&["disk", "resize", name, &format!("{larger}M")]);
    assert_eq!(vm.disk(larger * MIB), disk, "the disk became another when it grew");
    // Space far behind the pool's own size: it is thin.
    let at = larger - 8;
    vm.sh(&format!(
        "set -e; head -c 4M /dev/urandom > /tmp/end; dd if=/tmp/end of={disk} bs=1M seek={at} oflag=direct conv=fsync status=none
         dd if={disk} of=/tmp/back bs=1M skip={at} count=4 iflag=direct status=none
         [ \"$(sha256sum < /tmp/end)\" = \"$(sha256sum < /tmp/back)\" ]
         [ \"$(dd if={disk} bs=1M skip=700 count=4 iflag=direct status=none | tr -d '\\0' | wc -c)\" = 0 ]
         resize2fs {disk}; cd /mnt/{name}; [ $(($(stat -f -c %b*%S .) >> 20)) -gt {mib} ]; sha256sum --quiet -c sums
         cd /; umount /mnt/{name}; {check} {disk}",
        check = EXT4.check,
    ));
}

/// Back to a snapshot: the disk is detached for that, and the file system is as it was.
fn goes_back(vm: &Guest, target: &Target) {
    let FileSystem { disk: name, mib, check, .. } = XFS;
    target.done(&["snapshot", "create", name, "quiet"]);
    vm.sh(&format!(
        "set -e; cd /mnt/{name}; rm -r deep words; cp /usr/bin/bash new; sync -f .; cd /; umount /mnt/{name}"
    ));
    target.done(&["disk", "detach", name, "--host", "vm1"]);
    vm.wait_without_disk(mib * MIB);
    target.done(&["snapshot", "rollback", name, "quiet"]);
    target.done(&["disk", "attach", name, "--host", "vm1"]);
    let disk = vm.disk(mib * MIB);
    vm.sh(&format!(
        "set -e; mount {disk} /mnt/{name}; cd /mnt/{name}; sha256sum --quiet -c sums; [ ! -e new ]; cd /; umount /mnt/{name}; {check} {disk}"
    ));
}

/// Cipher text only, in the whole file, and a sound pool.
fn keeps_words_secret(target: Target) {
    let dir = target.stop();
    let path = dir.path().join("pool");
    let mut bytes = Vec::new();
    File::open(&path).expect("the pool").read_to_end(&mut bytes).expect("read");
    let words = MARKER.as_bytes();
    assert!(!bytes.windows(words.len()).any(|window| window == words), "plain text is stored");
    let (out, err, code) =
        operator::command(&["pool", "check", path.to_str().expect("text")], &dir.path().join("nobody"));
    assert_eq!(code, 0, "{out}{err}");
}

fn allocated(target: &Target, disk: &str) -> u64 {
    let pool = json(target, &["pool", "show", "p"]);
    let volume = pool["contents"].as_array().expect("a list").iter().find(|volume| volume["name"] == disk);
    number(&volume.expect("listed")["allocated_bytes"])
}

fn json(target: &Target, args: &[&str]) -> Value {
    serde_json::from_str(&target.done(&[args, &["--json"]].concat())).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}
