//! A host for which a secret is configured gets nothing until it has proved that it knows it, and can have the controller prove itself in
//! turn (TP 8006, DH-HMAC-CHAP). The Linux kernel and `nvme` are the other side; they make the secrets too.

mod guest;
mod target;

use guest::{Guest, Host, Image, Portal};
use target::{Client, Disk, MIB, Target};

const OPEN: Host = Host { name: "open", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0001" };
/// The same guest under another name, which has to prove itself.
const PROVEN: Host = Host { name: "proven", id: "6f0c1d5e-0b7a-4c7e-9a59-3d1f5a0b0002" };

// Each disk is found by its size.
const ANYBODYS: Disk =
    Disk { name: "anybodys", sector_size: 4096, bytes: 32 * MIB, shared: false, attached_to: &["open"] };
const SAFE: Disk = Disk { name: "safe", sector_size: 4096, bytes: 40 * MIB, shared: false, attached_to: &["proven"] };

#[test]
fn a_host_with_a_secret_has_to_prove_itself() {
    let Some(image) = Image::take() else { return };
    let [vm] = image.boot(2, [OPEN]);
    // Secrets as they are, and transformed by SHA-256, SHA-384 and SHA-512: their lengths differ.
    (0..=3).for_each(|hmac| check(&vm, hmac));
    vm.expect_no_complaint();
}

fn check(vm: &Guest, hmac: u8) {
    let secret = || vm.sh(&format!("nvme gen-dhchap-key -m {hmac} -n {}", PROVEN.nqn())).trim().to_owned();
    let (host, controller, other) = (secret(), secret(), secret());
    let secrets = Some((host.clone(), controller.clone()));
    let clients = [
        Client { name: OPEN.name, nqn: OPEN.nqn(), secrets: None },
        Client { name: PROVEN.name, nqn: PROVEN.nqn(), secrets },
    ];
    let target = Target::start(&clients, &[ANYBODYS, SAFE]);
    let portal = Portal::here(target.port());
    let nqn = vm.discover_one(portal);
    let identity = format!("-i 1 --hostnqn={} --hostid={}", PROVEN.nqn(), PROVEN.id);

    for wrong in [
        "".to_owned(),
        format!("--dhchap-secret={other}"),
        format!("--dhchap-secret={host} --dhchap-ctrl-secret={other}"),
    ] {
        let answer = vm.try_connect(portal, &nqn, &format!("{identity} {wrong}"));
        let refused = answer.err.contains("Failed to write to /dev/nvme-fabrics");
        assert!(answer.code != 0 && refused, "connected, or no answer, with {wrong:?}");
    }
    // The kernel complains of what was refused, as it should.
    vm.sh("dmesg -C");
    for right in
        [format!("--dhchap-secret={host}"), format!("--dhchap-secret={host} --dhchap-ctrl-secret={controller}")]
    {
        vm.connect(portal, &nqn, &format!("{identity} {right}"));
        vm.fio_verify(&vm.disk(SAFE.bytes), "--bs=4k --size=256k --iodepth=16");
        vm.wait_without_disk(ANYBODYS.bytes);
        vm.disconnect();
    }
    // A host that needs no secret is not disturbed, and does not see the other's disk.
    vm.connect(portal, &nqn, "-i 1");
    vm.disk(ANYBODYS.bytes);
    vm.wait_without_disk(SAFE.bytes);
    vm.disconnect();
}
