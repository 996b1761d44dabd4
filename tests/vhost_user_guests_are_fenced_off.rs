//! A host that preempts another one over NVMe/TCP and has its commands aborted can rely on it: when it is answered, nothing of a virtual machine of that
//! other host is still on its way to the disk, and nothing comes after.

mod common;
mod vhost;

use std::time::Duration;

use common::nvme_client::{Digests, Host, admin};
use common::nvme_target::NvmeTarget;
use strongroom::bench::vhost_user::RingKind;
use strongroom::crypto::xts::SectorSize;
use strongroom::export::nvme_tcp::wire::opcode::io::{RESERVATION_ACQUIRE, RESERVATION_REGISTER};
use vhost::guest::{Guest, IO_ERROR, NO_STATUS, OK, OUT};

/// Two reactors, so that the guest's queue and the hosts' need not share one.
const REACTORS: usize = 2;
const KEY_OF_A: u64 = 0xA;
const KEY_OF_B: u64 = 0xB;
const WRITE_EXCLUSIVE: u32 = 1;

/// Sends a reservation command with two keys.
#[track_caller]
fn reserve(host: &mut Host, opcode: u8, dword10: u32, keys: [u64; 2]) {
    let done = host.run(admin(opcode, 1, dword10, 0), keys.map(u64::to_le_bytes).as_flattened());
    assert!(done.status.is_success(), "{}", done.status);
}

/// Fences a guest off while it writes. Whether the write was at work by then.
fn fence_off(kind: RingKind) -> bool {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let slow = "kind = 'memory'\nsize = '8 MiB'\nlayers = [{ kind = 'delay', write_us = 500000 }]";
    let disk = common::encrypted("x", &common::device(&dir, slow), SectorSize::B4096);
    let target = NvmeTarget::start(dir, REACTORS, std::slice::from_ref(&disk), "");
    let guests = target.show_to_guests(&disk, Some("b"));

    let ((admin_a, mut a), (admin_b, mut b)) = (target.both("a", Digests::NONE), target.both("b", Digests::NONE));
    reserve(&mut a, RESERVATION_REGISTER, 0, [0, KEY_OF_A]);
    reserve(&mut b, RESERVATION_REGISTER, 0, [0, KEY_OF_B]);
    reserve(&mut b, RESERVATION_ACQUIRE, WRITE_EXCLUSIVE << 8, [KEY_OF_B, 0]);
    let mut guest = Guest::connect(&target.dir.path().join("x.sock"), kind);
    guest.queue.ring.give(&guest.chain(OUT, 8, 4096), false);
    guest.queue.publish();
    std::thread::sleep(Duration::from_millis(100));
    let preempt_and_abort = 2;
    reserve(&mut a, RESERVATION_ACQUIRE, preempt_and_abort | WRITE_EXCLUSIVE << 8, [KEY_OF_A, KEY_OF_B]);
    let at_once = guest.status();
    guest.queue.wait(true);
    let was_at_work = guest.status() == OK;
    assert!(!was_at_work || at_once == OK, "a write was under way when the host was answered");
    assert!(was_at_work || matches!(at_once, IO_ERROR | NO_STATUS));
    assert_eq!(guest.run(&guest.chain(OUT, 8, 4096)).0, IO_ERROR, "a write after that");

    drop((guest, a, b, admin_a, admin_b));
    assert!(guests.stop(common::PATIENCE), "the server of guests did not stop in order");
    target.stop();
    was_at_work
}

#[test]
fn preempt_and_abort_waits_for_a_guest_of_the_preempted_host() {
    for kind in [RingKind::Split, RingKind::Packed] {
        // On a busy machine the guest's write may come too late to be at work.
        assert!((0..20).any(|_| fence_off(kind)), "a guest's write was never at work");
    }
}
