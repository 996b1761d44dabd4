//! Disks with limits: what a limit costs that is never reached, and how near one is reached that is.

use crate::contender::bench::{Cipher, Device};
use crate::contender::pool::PoolDisk;
use crate::contender::{AnyContender, OURS};
use crate::pool::disk::StandsOn;
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

/// The same disk without limits.
const WITHOUT: &str = "strongroom, no limits";
/// No disk reaches it.
const NEVER_REACHED: u64 = 1_000_000_000;
/// What a limit may cost that does not bite: what rounds differ by on a quiet machine.
const WITH_TO_WITHOUT: f64 = 0.99;
/// Any disk reaches it.
const REACHED: u64 = 20_000;
/// How far from it is near.
const NEAR: f64 = 0.01;

pub(super) fn rows() -> Vec<Row> {
    let workload = Workload::randread_4k(32);
    let disk = |name| PoolDisk::new(name, StandsOn::Device, Device::Memory, Cipher::Xts(4096));
    let limited = |iops| Box::new(disk(OURS).limited(iops)) as AnyContender;
    let near = |bound| Target::Value { metric: Metric::Iops, ours: OURS, bound };
    let rate = REACHED as f64;
    vec![
        Row {
            subject: "memory, AES-256-XTS, a limit that is never reached".into(),
            workload: Some(workload),
            contenders: vec![limited(NEVER_REACHED), Box::new(disk(WITHOUT))],
            targets: vec![Target::Ratio {
                metric: Metric::Iops,
                ours: OURS,
                rival: WITHOUT,
                bound: Bound::AtLeast(WITH_TO_WITHOUT),
            }],
        },
        Row {
            subject: format!("memory, AES-256-XTS, a limit of {REACHED} I/Os a second"),
            workload: Some(workload),
            contenders: vec![limited(REACHED)],
            targets: vec![near(Bound::AtLeast(rate * (1.0 - NEAR))), near(Bound::AtMost(rate * (1.0 + NEAR)))],
        },
    ]
}
