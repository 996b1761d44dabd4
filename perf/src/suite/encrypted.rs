//! What encryption costs on a file: the same disk encrypted and plain, in throughput and in the 99th percentile.

use crate::contender::OURS;
use crate::contender::bench::{Bench, Cipher, Device};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::{Rw, Workload};

/// The name of the plain disk.
const PLAIN: &str = "strongroom, plain";

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (block_kib, read, write) in [(4, Rw::RandRead, Rw::RandWrite), (128, Rw::Read, Rw::Write)] {
        for rw in [read, write] {
            rows.extend([1, 32].map(|depth| row(Workload { rw, block_kib, depth })));
        }
    }
    rows
}

fn row(workload: Workload) -> Row {
    Row {
        subject: "file, AES-256-XTS (4096-byte sectors) beside plain".into(),
        workload: Some(workload),
        contenders: vec![
            Box::new(Bench::new(OURS, Device::File, Cipher::Xts(4096))),
            Box::new(Bench::new(PLAIN, Device::File, Cipher::Plain)),
        ],
        targets: vec![
            Target::Ratio { metric: Metric::Iops, ours: OURS, rival: PLAIN, bound: Bound::AtLeast(0.98) },
            Target::Ratio { metric: Metric::P99, ours: OURS, rival: PLAIN, bound: Bound::AtMost(1.05) },
        ],
    }
}
