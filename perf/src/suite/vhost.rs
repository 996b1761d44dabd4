//! vhost-user-blk back ends under the same front end: ours encrypted and plain beside QEMU's storage daemon and SPDK's, and beside a device
//! without data.

use crate::contender::vhost::{FrontEndAlone, Kind, SPDK, VhostDisk};
use crate::contender::{AnyContender, OURS};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

/// What is to be reached in a row: a rate or latency as it was set, and the same against SPDK's encrypted disk, whose figures stood beside it.
struct Goal {
    metric: Metric,
    bound: Bound,
    spdk: f64,
}

impl Goal {
    fn iops(rate: f64, spdk: f64) -> Self {
        Self { metric: Metric::Iops, bound: Bound::AtLeast(rate), spdk }
    }

    fn gib(rate: f64, spdk: f64) -> Self {
        Self { metric: Metric::GibPerS, bound: Bound::AtLeast(rate), spdk }
    }

    fn targets(self) -> Vec<Target> {
        let Self { metric, bound, spdk } = self;
        let ratio = match bound {
            Bound::AtLeast(value) => Bound::AtLeast(value / spdk),
            Bound::AtMost(value) => Bound::AtMost(value / spdk),
        };
        vec![
            Target::Reference { metric, ours: OURS, bound },
            Target::Ratio { metric, ours: OURS, rival: SPDK, bound: ratio },
        ]
    }
}

pub(super) fn rows() -> Vec<Row> {
    let median = Goal { metric: Metric::P50, bound: Bound::AtMost(1.4), spdk: 1.82 };
    let rows = [
        (Workload::randread_4k(1), median),
        (Workload::randread_4k(32), Goal::iops(1.45e6, 955e3)),
        (Workload::randread_4k(128), Goal::iops(1.5e6, 925e3)),
        (Workload::randwrite_4k(32), Goal::iops(2.1e6, 1.35e6)),
        (Workload::randwrite_4k(128), Goal::iops(2.1e6, 1.33e6)),
        (Workload::read_128k(32), Goal::gib(18.0, 14.1)),
        (Workload::write_128k(32), Goal::gib(18.0, 15.3)),
    ];
    let mut rows: Vec<Row> = rows.into_iter().map(|(workload, goal)| row(4096, workload, goal)).collect();
    rows.push(row(512, Workload::randread_4k(32), Goal::iops(1.4e6, 719e3)));
    rows
}

fn row(sector: u32, workload: Workload, goal: Goal) -> Row {
    let (ours, spdk) = if sector == 512 { (Kind::Ours512, Kind::Spdk512) } else { (Kind::Ours, Kind::Spdk) };
    let contenders: Vec<AnyContender> = vec![
        Box::new(VhostDisk::new(ours)),
        Box::new(VhostDisk::new(Kind::OursPlain)),
        Box::new(FrontEndAlone),
        Box::new(VhostDisk::new(Kind::Qemu)),
        Box::new(VhostDisk::new(spdk)),
        Box::new(VhostDisk::new(Kind::SpdkPlain)),
    ];
    Row {
        subject: format!("vhost-user, memory, AES-256-XTS, {sector}-byte sectors"),
        workload: Some(workload),
        contenders,
        targets: goal.targets(),
    }
}
