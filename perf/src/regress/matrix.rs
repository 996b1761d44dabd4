//! What is compared: the rows of the suite.

use crate::contender::bench::{Cipher, Device};
use crate::sample::Metric;
use crate::workload::Workload;

/// Blocks of this size and more are judged by their bytes.
const LARGE_KIB: u32 = 128;

/// What a load goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A disk inside `strongroom bench`.
    Bench(Device, Cipher),
    /// An encrypted disk on a pool in memory.
    Pool,
    /// `strongroom serve` with an encrypted disk in memory, over NBD.
    Nbd,
    /// The same over NVMe/TCP.
    Nvme,
    /// The same over vhost-user.
    VhostUser,
}

/// A row of the suite.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the load goes to.
    pub subject: Subject,
    /// The load.
    pub workload: Workload,
}

impl Row {
    /// Subject and workload.
    pub fn title(&self) -> String {
        let subject = match self.subject {
            Subject::Bench(Device::Null, _) => "null, plain".to_owned(),
            Subject::Bench(_, Cipher::Plain) => "memory, plain".to_owned(),
            Subject::Bench(_, Cipher::Xts(unit)) => format!("memory, AES-256-XTS, {unit}-byte sectors"),
            Subject::Pool => "pool on memory, AES-256-XTS".to_owned(),
            Subject::Nbd => "NBD, memory, AES-256-XTS".to_owned(),
            Subject::Nvme => "NVMe/TCP, memory, AES-256-XTS".to_owned(),
            Subject::VhostUser => "vhost-user, memory, AES-256-XTS".to_owned(),
        };
        format!("{subject}, {}", self.workload)
    }

    /// The figure that says how fast it is: the median latency where one command at a time is in flight, or else the rate.
    pub fn speed(&self) -> Metric {
        match self.workload {
            Workload { depth: 1, .. } => Metric::P50,
            Workload { block_kib: LARGE_KIB.., .. } => Metric::GibPerS,
            _ => Metric::Iops,
        }
    }

    /// What is judged of it.
    pub fn figures(&self) -> [Metric; 2] {
        [self.speed(), Metric::P99]
    }

    /// Whether all of it runs inside one process, so that its speed is the data path's alone.
    pub fn is_in_process(&self) -> bool {
        matches!(self.subject, Subject::Bench(..) | Subject::Pool)
    }
}

/// How much worse a figure is: the logarithm of the factor. More than 0 is worse, whichever way the figure goes.
pub fn worse(metric: Metric, value: f64, than: f64) -> f64 {
    match metric {
        Metric::Iops | Metric::GibPerS => (than / value).ln(),
        _ => (value / than).ln(),
    }
}

/// What a figure that is so much worse has become of itself, in percent: -4.8 of a rate, +5.0 of a latency.
pub fn change_percent(metric: Metric, worse: f64) -> f64 {
    match metric {
        Metric::Iops | Metric::GibPerS => 100.0 * ((-worse).exp() - 1.0),
        _ => 100.0 * (worse.exp() - 1.0),
    }
}

/// A change as a slowdown in percent, so that changes of rates and of latencies can be laid side by side: +5 takes 5 % longer.
pub fn slowdown_percent(metric: Metric, change: f64) -> f64 {
    match metric {
        Metric::Iops | Metric::GibPerS => 100.0 * (1.0 / (1.0 + change / 100.0) - 1.0),
        _ => change,
    }
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let (read, write) = (Workload::randread_4k, Workload::randwrite_4k);
    let encrypted = Subject::Bench(Device::Memory, Cipher::Xts(4096));
    let plain = Subject::Bench(Device::Memory, Cipher::Plain);
    let bench = [
        (Subject::Bench(Device::Null, Cipher::Plain), read(32)),
        (plain, read(32)),
        (plain, write(32)),
        (encrypted, read(1)),
        (encrypted, read(32)),
        (encrypted, write(32)),
        (Subject::Bench(Device::Memory, Cipher::Xts(512)), read(32)),
        (encrypted, Workload::read_128k(32)),
        (encrypted, Workload::write_128k(32)),
        (Subject::Pool, read(32)),
        (Subject::Pool, write(32)),
    ];
    let served = |subject| [read(1), read(32), write(32), Workload::read_128k(32)].map(|load| (subject, load));
    let served = [Subject::Nbd, Subject::Nvme, Subject::VhostUser].into_iter().flat_map(served);
    bench.into_iter().chain(served).map(|(subject, workload)| Row { subject, workload }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_unique() {
        let titles: Vec<_> = rows().iter().map(Row::title).collect();
        let distinct: std::collections::HashSet<_> = titles.iter().collect();
        assert_eq!(distinct.len(), titles.len(), "{titles:?}");
    }

    #[test]
    fn worse_is_more_than_nothing_either_way() {
        assert!(worse(Metric::Iops, 95.0, 100.0) > 0.05);
        assert!((change_percent(Metric::Iops, worse(Metric::Iops, 95.0, 100.0)) + 5.0).abs() < 1e-9);
        assert!((change_percent(Metric::P50, worse(Metric::P50, 105.0, 100.0)) - 5.0).abs() < 1e-9);
        assert!(worse(Metric::P99, 95.0, 100.0) < 0.0);
        assert!((slowdown_percent(Metric::Iops, -20.0) - 25.0).abs() < 1e-9);
    }
}
