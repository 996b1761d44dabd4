//! NVMe/TCP targets under the same client: ours encrypted and plain beside SPDK's, and beside what the wire allows.

use crate::contender::echo::{ClientAlone, Echo};
use crate::contender::nvme::{IDLE_DEPTH, IDLE_QUEUES, IdleQueues, Kind, NvmeTarget, PLAIN};
use crate::contender::{AnyContender, OURS};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

/// What encryption may cost.
const ENCRYPTED_TO_PLAIN: f64 = 0.95;
/// The median of one command at a time, against the same bytes without a target.
const TIMES_THE_ECHO: f64 = 1.35;
/// MiB for all idle connections.
const IDLE_MIB: f64 = 300.0;

pub(super) fn rows() -> Vec<Row> {
    let rate = |metric, rate| Target::Reference { metric, ours: OURS, bound: Bound::AtLeast(rate) };
    let loaded = [
        (
            Workload::randread_4k(1),
            Target::Ratio { metric: Metric::P50, ours: OURS, rival: Echo::NAME, bound: Bound::AtMost(TIMES_THE_ECHO) },
        ),
        (Workload::randread_4k(32), rate(Metric::Iops, 750e3)),
        (Workload::randread_4k(128), rate(Metric::Iops, 800e3)),
        (Workload::randwrite_4k(32), rate(Metric::Iops, 750e3)),
        (Workload::randwrite_4k(128), rate(Metric::Iops, 900e3)),
        (Workload::read_128k(32), rate(Metric::GibPerS, 5.0)),
        (Workload::write_128k(32), rate(Metric::GibPerS, 5.0)),
    ];
    let mut rows: Vec<Row> = loaded.into_iter().map(|(workload, target)| row(workload, target)).collect();
    rows.push(Row {
        subject: format!("NVMe/TCP, {IDLE_QUEUES} idle connections of depth {IDLE_DEPTH}"),
        workload: None,
        contenders: vec![Box::new(IdleQueues::new(Kind::OursNull)), Box::new(IdleQueues::new(Kind::SpdkPlain))],
        targets: vec![Target::Value { metric: Metric::Memory, ours: OURS, bound: Bound::AtMost(IDLE_MIB) }],
    });
    rows
}

fn row(workload: Workload, target: Target) -> Row {
    let contenders: Vec<AnyContender> = vec![
        Box::new(NvmeTarget::new(Kind::Ours)),
        Box::new(NvmeTarget::new(Kind::OursPlain)),
        Box::new(Echo),
        Box::new(ClientAlone),
        Box::new(NvmeTarget::new(Kind::Spdk)),
        Box::new(NvmeTarget::new(Kind::SpdkPlain)),
        Box::new(NvmeTarget::under_spdk("strongroom, SPDK's client", Kind::Ours)),
        Box::new(NvmeTarget::under_spdk("SPDK nvmf, encrypted, SPDK's client", Kind::Spdk)),
    ];
    let bound = Bound::AtLeast(ENCRYPTED_TO_PLAIN);
    let plain = Target::Ratio { metric: Metric::Iops, ours: OURS, rival: PLAIN, bound };
    Row {
        subject: "NVMe/TCP, memory, AES-256-XTS, 4096-byte sectors".into(),
        workload: Some(workload),
        contenders,
        targets: vec![target, plain],
    }
}
