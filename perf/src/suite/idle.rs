//! CPU time of targets that have nothing to do while a client is connected.

use crate::contender::AnyContender;
use crate::contender::idle::IdleServer;
use crate::contender::nbd::Kind;
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};

const MEMORY: &str = "strongroom, memory, encrypted";
const FILE: &str = "strongroom, file, encrypted";

pub(super) fn rows() -> Vec<Row> {
    let servers = [
        (MEMORY, Kind::OursMemory),
        (FILE, Kind::OursFile),
        ("nbdkit memory", Kind::NbdkitMemory),
        ("qemu-nbd raw", Kind::QemuRaw),
    ];
    let limit = |ours| Target::Value { metric: Metric::CpuPercent, ours, bound: Bound::AtMost(1.0) };
    vec![Row {
        subject: "idle NBD server with an open connection".into(),
        workload: None,
        contenders: servers.map(|(name, kind)| Box::new(IdleServer::new(name, kind)) as AnyContender).into(),
        targets: vec![limit(MEMORY), limit(FILE)],
    }]
}
