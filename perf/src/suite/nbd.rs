//! NBD servers under the same client: ours beside nbdkit's memory plugin, QEMU on a raw file, and QEMU and nbdkit on a LUKS image.

use crate::contender::nbd::{Kind, NbdServer};
use crate::contender::{AnyContender, OURS};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

pub(super) fn rows() -> Vec<Row> {
    let matches = [
        (
            "NBD, memory: ours encrypted, nbdkit plain",
            &[Kind::OursMemory, Kind::NbdkitMemory][..],
            Some((Kind::NbdkitMemory, 1.0)),
        ),
        (
            "NBD, encrypted file",
            &[Kind::OursFile, Kind::QemuLuks, Kind::OursFile512, Kind::NbdkitLuks][..],
            Some((Kind::QemuLuks, 2.0)),
        ),
        ("NBD, plain file", &[Kind::OursFilePlain, Kind::QemuRaw][..], None),
    ];
    let mut rows = Vec::new();
    for (subject, kinds, target) in matches {
        for workload in [Workload::randread_4k(32), Workload::randwrite_4k(32), Workload::read_128k(32)] {
            // The targets are set for 4 KiB.
            let target = target.filter(|_| workload.block_kib == 4).map(|(rival, ratio)| Target::Ratio {
                metric: Metric::Iops,
                ours: OURS,
                rival: rival.name(),
                bound: Bound::AtLeast(ratio),
            });
            rows.push(Row {
                subject: subject.into(),
                workload: Some(workload),
                contenders: kinds.iter().map(|&kind| Box::new(NbdServer::new(kind)) as AnyContender).collect(),
                targets: target.into_iter().collect(),
            });
        }
    }
    rows
}
