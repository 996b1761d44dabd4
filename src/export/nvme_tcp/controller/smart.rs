//! SMART / Health Information (Base section 5.16.1.3) from the disks' counters.
//!
//! Which commands count as what stands in NVM section 4.1.4.2. A disk's counters begin when it is opened, and are of all its hosts: a host that
//! shares a disk sees what the disk did, not what it did itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zerocopy::FromZeros;

use super::super::subsystem::Namespace;
use super::super::wire::log_page::Smart;
use crate::disk::{CommandKind, DiskStats, Tally};

/// Data is counted in thousands of 512 bytes, rounded up.
const DATA_UNIT_BYTES: u128 = 512 * 1000;

/// SMART Data Units Read commands.
const READS_DATA: &[CommandKind] =
    &[CommandKind::Read, CommandKind::Compare, CommandKind::CompareAndWrite, CommandKind::Verify];
/// SMART Host Read commands.
const READS: &[CommandKind] = &[CommandKind::Read, CommandKind::Compare, CommandKind::CompareAndWrite];
/// SMART Data Units Written and Host Write commands. Write Zeroes moves no data.
const WRITES: &[CommandKind] = &[CommandKind::Write, CommandKind::CompareAndWrite];
/// Commands whose failure is that of the disk.
const FAILS_BY_MEDIA: &[CommandKind] =
    &[CommandKind::Read, CommandKind::Write, CommandKind::Flush, CommandKind::WriteZeroes, CommandKind::Verify];

/// The page for these namespaces. There is no thermometer and no flash: temperature and wear are 0, the spare is whole.
pub(super) fn page(namespaces: &[Arc<Namespace>], since: Instant, error_entries: u64) -> Smart {
    let all: Vec<DiskStats> = namespaces.iter().map(|namespace| namespace.disk().stats()).collect();
    build(&all, since.elapsed(), error_entries)
}

fn build(disks: &[DiskStats], up: Duration, error_entries: u64) -> Smart {
    let sum = |kinds: &[CommandKind], of: fn(Tally) -> u64| -> u128 {
        disks.iter().flat_map(|disk| kinds.iter().map(|&kind| u128::from(of(disk.tally(kind))))).sum()
    };
    // Queues, and disks, are busy at the same time: there is no more than all the time.
    let busy = disks.iter().map(DiskStats::busy).sum::<Duration>().min(up);
    Smart {
        available_spare: 100,
        data_units_read: sum(READS_DATA, |tally| tally.bytes).div_ceil(DATA_UNIT_BYTES).into(),
        data_units_written: sum(WRITES, |tally| tally.bytes).div_ceil(DATA_UNIT_BYTES).into(),
        host_reads: sum(READS, |tally| tally.commands).into(),
        host_writes: sum(WRITES, |tally| tally.commands).into(),
        busy_minutes: u128::from(busy.as_secs() / 60).into(),
        power_on_hours: u128::from(up.as_secs() / 3600).into(),
        media_errors: sum(FAILS_BY_MEDIA, |tally| tally.errors).into(),
        error_entries: u128::from(error_entries).into(),
        ..Smart::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_disk_has_counted_nothing() {
        let page = build(&[DiskStats::default(), DiskStats::default()], Duration::from_secs(7300), 5);
        assert_eq!((page.data_units_read.get(), page.host_writes.get(), page.busy_minutes.get()), (0, 0, 0));
        assert_eq!((page.power_on_hours.get(), page.error_entries.get(), page.available_spare), (2, 5, 100));
    }
}
