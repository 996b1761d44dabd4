//! Ours in process on null, memory and file, beside SPDK's bdevperf (if there is one) and fio's io_uring engine.

use crate::contender::bench::{Bench, Cipher, Device};
use crate::contender::fio::FioFile;
use crate::contender::spdk::Spdk;
use crate::contender::{AnyContender, OURS};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

pub(super) fn rows() -> Vec<Row> {
    [null(), memory(), file()].into_iter().flatten().collect()
}

fn reference(metric: Metric, rate: f64) -> Vec<Target> {
    vec![Target::Reference { metric, ours: OURS, bound: Bound::AtLeast(rate) }]
}

fn null() -> Vec<Row> {
    vec![Row {
        subject: "null, plain".into(),
        workload: Some(Workload::randread_4k(32)),
        contenders: beside_spdk(Device::Null, Cipher::Plain, "null"),
        targets: reference(Metric::Iops, 25e6),
    }]
}

fn memory() -> Vec<Row> {
    let mut rows = Vec::new();
    let ciphers = [
        (Cipher::Xts(4096), "memory-c4k", "memory, AES-256-XTS, 4096-byte sectors", Some((1.9e6, 2.8e6))),
        (Cipher::Xts(512), "memory-c512", "memory, AES-256-XTS, 512-byte sectors", Some((1.8e6, 2.4e6))),
        (Cipher::Plain, "memory", "memory, plain", None),
    ];
    for (cipher, config, subject, rates) in ciphers {
        let encrypted = cipher != Cipher::Plain;
        let targets = [
            (Workload::randread_4k(32), rates.map(|(read, _)| (Metric::Iops, read))),
            (Workload::randwrite_4k(32), rates.map(|(_, write)| (Metric::Iops, write))),
            (Workload::read_128k(32), encrypted.then_some((Metric::GibPerS, 20.0))),
            (Workload::write_128k(32), encrypted.then_some((Metric::GibPerS, 20.0))),
        ];
        rows.extend(targets.into_iter().map(|(workload, target)| Row {
            subject: subject.into(),
            workload: Some(workload),
            contenders: beside_spdk(Device::Memory, cipher, config),
            targets: target.map(|(metric, rate)| reference(metric, rate)).unwrap_or_default(),
        }));
    }
    rows
}

fn beside_spdk(device: Device, cipher: Cipher, config: &'static str) -> Vec<AnyContender> {
    vec![Box::new(Bench::new(OURS, device, cipher)), Box::new(Spdk::new(config))]
}

fn file() -> Vec<Row> {
    let workloads =
        [Workload::randread_4k(32), Workload::randwrite_4k(32), Workload::read_128k(32), Workload::write_128k(32)];
    workloads
        .into_iter()
        .map(|workload| {
            let mut contenders: Vec<AnyContender> = vec![
                Box::new(Bench::new(OURS, Device::File, Cipher::Plain)),
                Box::new(FioFile::new()),
                Box::new(Spdk::new("file")),
            ];
            // Large buffers in hugepages are pinned a page at a time; that alone can decide this row, so the rival gets them as well.
            if workload.block_kib >= 128 {
                contenders.insert(2, Box::new(FioFile::with_hugepages()));
            }
            let bound = Bound::AtLeast(1.0);
            let target = Target::Ratio { metric: Metric::Iops, ours: OURS, rival: FioFile::NAME, bound };
            Row { subject: "file, plain".into(), workload: Some(workload), contenders, targets: vec![target] }
        })
        .collect()
}
