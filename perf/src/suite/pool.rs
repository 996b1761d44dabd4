//! Volumes of a pool: beside overwriting and beside the device alone on a file; and a pool of 1 TiB that is snapshotted, deleted and opened under load.

use crate::contender::bench::{Cipher, Device};
use crate::contender::large_pool::Asked;
use crate::contender::pool::{PoolDisk, SmallPool};
use crate::contender::spdk::Spdk;
use crate::contender::{AnyContender, OURS};
use crate::pool::disk::StandsOn;
use crate::pool::large::{LOAD_DEPTH, Request};
use crate::pool::small::Case;
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

/// The same volume, overwritten.
const OVERWRITTEN: &str = "strongroom, overwriting";
/// SPDK's logical volume over its malloc bdev.
const SPDK_LVOL: &str = "SPDK lvol, plain";
/// What a pool may cost where it has nothing to do but to look places up.
const WITH_POOL_TO_WITHOUT: f64 = 0.97;
/// Memory or file without a pool.
const DEVICE: &str = "the device alone";
/// A flush with a new block in the map.
const ONE_CHANGE: &str = "strongroom, one map change";
/// Against the device's own write and fdatasync.
const NO_CHANGE_TIMES: f64 = 1.05;
/// The same, with a map change.
const ONE_CHANGE_TIMES: f64 = 1.6;

pub(super) fn rows() -> Vec<Row> {
    [beside_the_device(), encrypted(), file(), flushes(), large()].into_iter().flatten().collect()
}

fn beside_the_device() -> Vec<Row> {
    let mut rows = Vec::new();
    let devices = [("memory", Device::Memory, Some(["lvol", "memory"])), ("file", Device::File, None)];
    for (name, device, spdk) in devices {
        for workload in [Workload::randread_4k(32), Workload::randwrite_4k(32)] {
            let disk =
                |name, stands_on| Box::new(PoolDisk::new(name, stands_on, device, Cipher::Plain)) as AnyContender;
            let mut contenders = vec![disk(OURS, StandsOn::Pool), disk(DEVICE, StandsOn::Device)];
            if let Some([lvol, malloc]) = spdk {
                contenders.push(Box::new(Spdk::named(SPDK_LVOL, lvol)));
                contenders.push(Box::new(Spdk::named("SPDK malloc", malloc)));
            }
            let bound = Bound::AtLeast(WITH_POOL_TO_WITHOUT);
            rows.push(Row {
                subject: format!("pool on {name}, plain, all blocks allocated"),
                workload: Some(workload),
                contenders,
                targets: vec![Target::Ratio { metric: Metric::Iops, ours: OURS, rival: DEVICE, bound }],
            });
        }
    }
    rows
}

fn encrypted() -> Vec<Row> {
    let rows = [(Workload::randread_4k(32), 1.8e6), (Workload::randwrite_4k(32), 2.5e6)];
    rows.map(|(workload, rate)| {
        let disk = |name, stands_on| Box::new(PoolDisk::new(name, stands_on, Device::Memory, Cipher::Xts(4096)));
        Row {
            subject: "pool on memory, AES-256-XTS, all blocks allocated".into(),
            workload: Some(workload),
            contenders: vec![
                disk(OURS, StandsOn::Pool),
                disk(DEVICE, StandsOn::Device),
                Box::new(Spdk::named("SPDK lvol, encrypted", "lvol-c4k")),
                Box::new(Spdk::named(SPDK_LVOL, "lvol")),
            ],
            targets: vec![Target::Reference { metric: Metric::Iops, ours: OURS, bound: Bound::AtLeast(rate) }],
        }
    })
    .into()
}

fn file() -> Vec<Row> {
    let overwritten = || Box::new(SmallPool::new(OVERWRITTEN, Case::Overwrite)) as AnyContender;
    let iops =
        |bound| Target::Ratio { metric: Metric::Iops, ours: OURS, rival: OVERWRITTEN, bound: Bound::AtLeast(bound) };
    let (first, after) = ("first writes to an empty volume on a file", "first writes after a snapshot, on a file");
    let rows = [
        (first, Case::FirstWrites, Workload::randwrite_4k(32), iops(0.8)),
        (after, Case::AfterSnapshot, Workload::randwrite_4k(32), iops(0.3)),
        (
            after,
            Case::AfterSnapshot,
            Workload::randwrite_4k(1),
            Target::Value { metric: Metric::P99, ours: OURS, bound: Bound::AtMost(2000.0) },
        ),
    ];
    rows.into_iter()
        .map(|(subject, case, workload, target)| Row {
            subject: subject.into(),
            workload: Some(workload),
            contenders: vec![Box::new(SmallPool::new(OURS, case)), overwritten()],
            targets: vec![target],
        })
        .collect()
}

fn flushes() -> Vec<Row> {
    let times = |ours, times| Target::Ratio { metric: Metric::P50, ours, rival: DEVICE, bound: Bound::AtMost(times) };
    vec![Row {
        subject: "write and flush, on a file".into(),
        workload: Some(Workload::randwrite_4k(1)),
        contenders: vec![
            Box::new(SmallPool::new(OURS, Case::FlushInPlace)),
            Box::new(SmallPool::new(ONE_CHANGE, Case::FlushFirstWrite)),
            Box::new(SmallPool::new(DEVICE, Case::FlushDevice)),
        ],
        targets: vec![times(OURS, NO_CHANGE_TIMES), times(ONE_CHANGE, ONE_CHANGE_TIMES)],
    }]
}

fn large() -> Vec<Row> {
    const CALM: &str = "strongroom, nothing happens";
    const AFTER_CRASH: &str = "strongroom, after a crash";
    let load = Some(Workload::randwrite_4k(LOAD_DEPTH));
    let pair = |ours, calm| vec![Box::new(Asked::new(OURS, ours)) as AnyContender, Box::new(Asked::new(CALM, calm))];
    let at_most = |metric, ours, most| Target::Value { metric, ours, bound: Bound::AtMost(most) };
    let p99 = || vec![Target::Ratio { metric: Metric::P99, ours: OURS, rival: CALM, bound: Bound::AtMost(1.2) }];
    vec![
        Row {
            subject: "snapshot of a full volume of 1 TiB, simulated device".into(),
            workload: load,
            contenders: pair(Request::Snapshots, Request::NoSnapshots),
            targets: vec![at_most(Metric::Pause, OURS, 2000.0)],
        },
        Row {
            subject: "deleting a snapshot of 1 TiB that shares its clusters, simulated device".into(),
            workload: load,
            contenders: pair(Request::DeleteShared, Request::KeepShared),
            targets: p99(),
        },
        Row {
            subject: "deleting a snapshot of 1 TiB that alone has its clusters, simulated device".into(),
            workload: load,
            contenders: pair(Request::DeleteLast, Request::KeepLast),
            targets: p99(),
        },
        Row {
            subject: "opening a pool with 1 TiB of map, simulated device".into(),
            workload: None,
            contenders: vec![
                Box::new(Asked::only(OURS, Request::OpenClean, Metric::Time)),
                Box::new(Asked::only(AFTER_CRASH, Request::OpenCrashed, Metric::Time)),
            ],
            targets: vec![at_most(Metric::Time, OURS, 0.5), at_most(Metric::Time, AFTER_CRASH, 1.0)],
        },
        Row {
            subject: "resident map of 1 TiB".into(),
            workload: None,
            contenders: vec![Box::new(Asked::only(OURS, Request::OpenClean, Metric::Memory))],
            targets: vec![at_most(Metric::Memory, OURS, 140.0)],
        },
    ]
}
