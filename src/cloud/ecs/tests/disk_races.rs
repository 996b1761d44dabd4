//! Several clients at once: whatever they do to the same disks, each is served or refused with a code of the pages, and store and target agree afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cloud::crash_tests::{check, new_disk};
use crate::cloud::rows::InstanceState;
use crate::cloud::testing::{Site, new_instance};

const CLIENTS: u64 = 4;
const REQUESTS: u64 = 60;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64 (G. Marsaglia, "Xorshift RNGs").
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one<'a>(&mut self, of: &'a [String]) -> &'a str {
        &of[self.below(of.len())]
    }
}

#[test]
fn clients_that_want_the_same_disks_leave_them_whole() {
    let site = Site::new();
    let cloud = site.open();
    let mut disks: Vec<String> =
        ["true", "false", "true"].map(|encrypted| new_disk(&cloud, &[("Encrypted", encrypted)])).into();
    disks.push(new_disk(&cloud, &[("MultiAttach", "Enabled"), ("Encrypted", "true")]));
    let snapshots: Vec<String> =
        disks.iter().enumerate().map(|(number, disk)| new_snapshot(&cloud, disk, &format!("s-{number}"))).collect();
    let instances: Vec<String> =
        [("i-1", InstanceState::Running), ("i-2", InstanceState::Stopped), ("i-3", InstanceState::Stopped)]
            .map(|(id, state)| new_instance(&cloud, id, state))
            .into();
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 1..=CLIENTS {
            let (cloud, disks, snapshots, instances, served) = (&cloud, &disks, &snapshots, &instances, &served);
            scope.spawn(move || {
                let mut dice = Dice(client << 32 | 0x9e37_79b9);
                for request in 0..REQUESTS {
                    let disk = dice.below(disks.len());
                    let (of, at) = (("DiskId", &*disks[disk]), ("InstanceId", dice.one(instances)));
                    let size = (20 + request).to_string();
                    let answer = match dice.below(6) {
                        0 | 1 => ask(cloud, "AttachDisk", &[of, at]),
                        2 => ask(cloud, "DetachDisk", &[of, at]),
                        3 => ask(cloud, "ResizeDisk", &[of, ("NewSize", &size)]),
                        4 => ask(cloud, "ResetDisk", &[of, ("SnapshotId", &snapshots[disk])]),
                        _ => ask(cloud, "ReInitDisk", &[of]),
                    };
                    served.fetch_add(usize::from(answer.is_ok()), Ordering::Relaxed);
                    assert!(answer.as_ref().err().is_none_or(|error| error.status < 500), "{answer:?}");
                }
            });
        }
    });
    assert!(served.into_inner() > 20, "most were refused: nothing was tested");
    check(&cloud, &site);
}

#[test]
fn disks_that_are_attached_at_once_all_arrive() {
    let site = Site::new();
    let cloud = site.open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let disks = [(); 8].map(|()| new_disk(&cloud, &[]));
    std::thread::scope(|scope| {
        for disk in &disks {
            let (cloud, instance) = (&cloud, &*instance);
            scope.spawn(move || {
                ask(cloud, "AttachDisk", &[("DiskId", disk), ("InstanceId", instance)]).expect("it arrives")
            });
        }
    });
    let devices: std::collections::BTreeSet<String> =
        disks.iter().map(|disk| disk_row(&cloud, disk).attachments[0].device.clone()).collect();
    assert_eq!(devices.len(), disks.len(), "each has a name of its own");
    check(&cloud, &site);
}
