//! Targets that have nothing to do while a client is connected: their CPU time, and how soon they answer the first command.

use crate::contender::AnyContender;
use crate::contender::OURS;
use crate::contender::idle::{FirstAnswer, IdleServer, IdleTarget, SILENCE};
use crate::contender::nbd::Kind;
use crate::contender::vhost::{self, VhostDisk};
use crate::row::Row;
use crate::sample::Metric;
use crate::target::{Bound, Target};

const MEMORY: &str = "strongroom, memory, encrypted";
const FILE: &str = "strongroom, file, encrypted";
/// The most CPU time of a target that does nothing, in percent of a core.
const CPU_PERCENT: f64 = 1.0;
/// The median latency of a first command, at most, where no device has to answer.
const FIRST_US: f64 = 100.0;
const QEMU: &str = "qemu-nbd raw";

pub(super) fn rows() -> Vec<Row> {
    let servers = [
        (MEMORY, Kind::OursMemory),
        (FILE, Kind::OursFile),
        ("nbdkit memory", Kind::NbdkitMemory),
        (QEMU, Kind::QemuRaw),
    ];
    let cpu = |ours| Target::Value { metric: Metric::CpuPercent, ours, bound: Bound::AtMost(CPU_PERCENT) };
    let first = |ours| Target::Value { metric: Metric::P50, ours, bound: Bound::AtMost(FIRST_US) };
    let guests = [vhost::Kind::Ours, vhost::Kind::Qemu];
    let first_of_device = Target::Ratio { metric: Metric::P50, ours: FILE, rival: QEMU, bound: Bound::AtMost(1.0) };
    vec![
        Row {
            subject: "idle NBD server with an open connection".into(),
            workload: None,
            contenders: servers.map(|(name, kind)| Box::new(IdleServer::new(name, kind)) as AnyContender).into(),
            targets: vec![cpu(MEMORY), cpu(FILE)],
        },
        Row {
            subject: "idle target with all exports and APIs open".into(),
            workload: None,
            contenders: vec![Box::new(IdleTarget::new())],
            targets: vec![cpu(IdleTarget::NAME)],
        },
        Row {
            subject: "first 4 KiB read over NBD after 10 ms of silence".into(),
            workload: None,
            contenders: servers.map(|(name, kind)| Box::new(FirstAnswer::new(name, kind)) as AnyContender).into(),
            targets: vec![first(MEMORY), first_of_device],
        },
        Row {
            subject: "first 4 KiB read over vhost-user after 10 ms of silence".into(),
            workload: None,
            contenders: guests.map(|kind| Box::new(VhostDisk::with_silence(kind, SILENCE)) as AnyContender).into(),
            targets: vec![first(OURS)],
        },
    ]
}
