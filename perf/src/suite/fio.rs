//! Our engine in fio's process, beside fio's own engines: `null`, which shows what fio itself can do, and io_uring on the plain file.

use crate::contender::bench::{Cipher, Device};
use crate::contender::fio::FioFile;
use crate::contender::fio_engine::{FioEngine, FioNull};
use crate::contender::{AnyContender, OURS};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};
use crate::workload::Workload;

/// What is left of fio's own speed when a disk does the work.
const TO_NULL: f64 = 0.9;
/// What is left of the plain file's speed when it is encrypted.
const TO_PLAIN_FILE: f64 = 0.98;

pub(super) fn rows() -> Vec<Row> {
    let workloads = [Workload::randread_4k(32), Workload::randwrite_4k(32)];
    let null = workloads.map(|workload| {
        let ours = FioEngine::new(Device::Null, Cipher::Plain);
        row("fio in process, null, plain", workload, ours, Box::new(FioNull), FioNull::NAME, TO_NULL)
    });
    let file = workloads.map(|workload| {
        let ours = FioEngine::new(Device::File, Cipher::Xts(4096));
        let subject = "fio in process, file, AES-256-XTS (4096-byte sectors) beside plain";
        row(subject, workload, ours, Box::new(FioFile::new()), FioFile::NAME, TO_PLAIN_FILE)
    });
    null.into_iter().chain(file).collect()
}

fn row(subject: &str, workload: Workload, ours: FioEngine, rival: AnyContender, name: &'static str, bound: f64) -> Row {
    Row {
        subject: subject.into(),
        workload: Some(workload),
        contenders: vec![Box::new(ours), rival],
        targets: vec![Target::Ratio { metric: Metric::Iops, ours: OURS, rival: name, bound: Bound::AtLeast(bound) }],
    }
}
