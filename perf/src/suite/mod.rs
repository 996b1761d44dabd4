//! The suites: lists of rows with their contenders and targets.

mod encrypted;
mod engine;
mod fio;
mod idle;
mod limits;
mod nbd;
mod nvme;
mod pool;
mod vhost;

use crate::row::Row;

/// A suite of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Ours in process beside fio's io_uring engine and SPDK.
    Engine,
    /// Ours in fio's process beside fio's own engines.
    Fio,
    /// Encrypted beside plain.
    Encrypted,
    /// NBD servers.
    Nbd,
    /// NVMe/TCP targets.
    Nvme,
    /// vhost-user-blk back ends.
    Vhost,
    /// Servers without load.
    Idle,
    /// Volumes of a pool.
    Pool,
    /// Disks with limits.
    Limits,
    /// All of these.
    All,
}

impl Suite {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Fio => "fio",
            Self::Encrypted => "encrypted",
            Self::Nbd => "nbd",
            Self::Nvme => "nvme",
            Self::Vhost => "vhost",
            Self::Idle => "idle",
            Self::Pool => "pool",
            Self::Limits => "limits",
            Self::All => "all",
        }
    }

    /// Its rows.
    pub fn rows(self) -> Vec<Row> {
        match self {
            Self::Engine => engine::rows(),
            Self::Fio => fio::rows(),
            Self::Encrypted => encrypted::rows(),
            Self::Nbd => nbd::rows(),
            Self::Nvme => nvme::rows(),
            Self::Vhost => vhost::rows(),
            Self::Idle => idle::rows(),
            Self::Pool => pool::rows(),
            Self::Limits => limits::rows(),
            Self::All => {
                use Suite::{Encrypted, Engine, Fio, Idle, Limits, Nbd, Nvme, Pool, Vhost};
                let all = [Engine, Fio, Encrypted, Nbd, Nvme, Vhost, Idle, Pool, Limits];
                all.into_iter().flat_map(Suite::rows).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn every_target_names_contenders_of_its_row() {
        for row in Suite::All.rows() {
            let names: Vec<_> = row.contenders.iter().map(|c| c.name()).collect();
            let distinct: std::collections::HashSet<_> = names.iter().collect();
            assert_eq!(distinct.len(), names.len(), "{}: {names:?}", row.title());
            for target in &row.targets {
                let (ours, rival) = match *target {
                    Target::Ratio { ours, rival, .. } => (ours, rival),
                    Target::Value { ours, .. } | Target::Reference { ours, .. } => (ours, ours),
                };
                assert!(names.contains(&ours) && names.contains(&rival), "{}: {target:?}", row.title());
            }
        }
    }

    #[test]
    fn titles_are_unique() {
        let titles: Vec<_> = Suite::All.rows().iter().map(Row::title).collect();
        let distinct: std::collections::HashSet<_> = titles.iter().collect();
        assert_eq!(distinct.len(), titles.len(), "{titles:?}");
    }
}
