//! A target that is killed under load and started again costs its clients time, never an error and never a byte: the kernel reconnects
//! and sends again what had no answer.

mod guest;
mod target;

use guest::{Guest, Host, Image, Portal};
use target::{Client, Disk, MIB, Target};

const VM: Host = Host { name: "vm1", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0001" };
const MAIN: Disk = Disk { name: "main", sector_size: 4096, bytes: 64 * MIB, shared: false, attached_to: &["vm1"] };

#[test]
fn a_killed_target_comes_back_under_load() {
    let Some(image) = Image::take() else { return };
    let [vm] = image.boot(2, [VM]);
    let mut target = Target::start(&[Client { name: VM.name, nqn: VM.nqn(), secrets: None }], &[MAIN]);
    let portal = Portal::here(target.port());
    let controller =
        vm.connect(portal, &vm.discover_one(portal), "-i 2 --ctrl-loss-tmo=600 --reconnect-delay=1 --keep-alive-tmo=5");
    let disk = vm.disk(MAIN.bytes);
    // Slow enough to last through two outages: some 2048 reads and as many writes, 150 a second of each; then all that was written is read.
    let load = vm.start_fio_verify(&disk, "--bs=4k --size=16m --iodepth=16 --rate_iops=150");
    for outage in 1..=2 {
        wait_for_writes(&vm, &disk, outage * 500);
        target.kill();
        vm.wait_for("the kernel to notice", &format!("grep connecting /sys/class/nvme/{controller}/state"));
        target.restart();
        vm.wait_for("the kernel to reconnect", &format!("grep live /sys/class/nvme/{controller}/state"));
    }
    vm.finish(load).success();
    assert_eq!(vm.attempt("dmesg | grep -E 'I/O error|Buffer I/O'").out, "");
    vm.disconnect();
}

/// The first number of write I/Os in the kernel's statistics of a disk is the fifth word.
fn wait_for_writes(vm: &Guest, disk: &str, count: u32) {
    let name = disk.trim_start_matches("/dev/");
    vm.wait_for("the load to run", &format!("read -ra stat < /sys/block/{name}/stat; ((stat[4] >= {count}))"));
}
