//! Random sequences over a few instances and disks: after each step, whatever became of it, store and target agree.

use std::sync::atomic::Ordering;

use super::*;
use crate::cloud::crash_tests::check;
use crate::cloud::testing::{Fate, Site};

const SEEDS: u64 = 12;
const STEPS: usize = 100;

/// Numbers that a seed leads to (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    fn one_of(&mut self, items: &[String]) -> String {
        if items.is_empty() { "none".to_owned() } else { items[self.below(items.len())].clone() }
    }

    fn flag(&mut self) -> &'static str {
        ["true", "false"][self.below(2)]
    }
}

/// A request of a random kind on random things.
fn request(numbers: &mut Numbers, cloud: &Cloud) -> (&'static str, Vec<(&'static str, String)>) {
    // In the order in which they were made, not of their identifiers: so a seed leads to the same sequence each time.
    let (instances, disks) = cloud.store().read(|world| {
        let mut instances: Vec<&Instance> = world.instances.rows().collect();
        instances.sort_by_key(|instance| instance.created_at);
        let mut disks: Vec<&Disk> = world.disks.rows().collect();
        disks.sort_by_key(|disk| (disk.created_at, disk.size_gib));
        let instances: Vec<String> = instances.into_iter().map(|instance| instance.id.clone()).collect();
        (instances, disks.into_iter().map(|disk| disk.id.clone()).collect::<Vec<_>>())
    });
    let mut instance = numbers.one_of(&instances);
    let disk = numbers.one_of(&disks);
    if numbers.below(3) == 0 {
        let owner =
            cloud.store().read(|world| world.disks.get(&disk)?.attachments.first().map(|at| at.instance.clone()));
        instance = owner.unwrap_or(instance);
    }
    let data_disk = |numbers: &mut Numbers| {
        vec![
            ("ImageId", "m-blank".to_owned()),
            ("DataDisk.1.Size", "20".to_owned()),
            ("DataDisk.1.Encrypted", numbers.flag().to_owned()),
            ("DataDisk.1.DeleteWithInstance", numbers.flag().to_owned()),
        ]
    };
    match numbers.below(12) {
        0 => ("CreateInstance", data_disk(numbers)),
        1 => ("RunInstances", data_disk(numbers)),
        2 => {
            let shared = ["Enabled", "Disabled"][numbers.below(2)];
            let size = ("Size", "20".to_owned());
            let encrypted = ("Encrypted", numbers.flag().to_owned());
            let category = ("DiskCategory", "cloud_ssd".to_owned());
            (
                "CreateDisk",
                vec![("ZoneId", ZONE.to_owned()), size, encrypted, category, ("MultiAttach", shared.to_owned())],
            )
        }
        3 | 4 => {
            let along = ("DeleteWithInstance", numbers.flag().to_owned());
            ("AttachDisk", vec![("DiskId", disk), ("InstanceId", instance), along])
        }
        5 => ("DetachDisk", vec![("DiskId", disk), ("InstanceId", instance)]),
        6 | 7 => ("StartInstance", vec![("InstanceId", instance)]),
        8 | 9 => ("StopInstance", vec![("InstanceId", instance)]),
        10 => ("DeleteInstance", vec![("InstanceId", instance), ("Force", numbers.flag().to_owned())]),
        _ => ("DeleteDisk", vec![("DiskId", disk)]),
    }
}

#[test]
fn store_and_target_agree_after_any_sequence() {
    let mut done = std::collections::BTreeMap::<&str, usize>::new();
    for seed in 1..=SEEDS {
        let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let site = Site::new();
        for step in 0..STEPS {
            site.target().kms_is_away = numbers.below(8) == 0;
            // Now and then the process dies on its way.
            let fate = match numbers.below(4) {
                0 => Fate::at(numbers.below(8) as u64, numbers.below(2) == 0),
                _ => Fate::default(),
            };
            site.clock.fetch_add(1, Ordering::Relaxed);
            let cloud = site.open_until(&fate);
            let (action, params) = request(&mut numbers, &cloud);
            let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if ask(&cloud, action, &params).is_ok() {
                *done.entry(action).or_default() += 1;
            }
            site.target().kms_is_away = false;
            let next = site.open();
            next.recover();
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&next, &site)));
            assert!(checked.is_ok(), "seed {seed}, step {step}: after {action} {params:?}");
        }
    }
    // The sequences are worth something only if everything in them is done often.
    assert!(done.len() == 9 && done.values().all(|count| *count > 5), "{done:?}");
}
