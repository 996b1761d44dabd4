//! SMART / Health Information (Base section 5.16.1.3) from the disks' counters.

use std::sync::Arc;
use std::time::Instant;

use zerocopy::FromZeros;

use super::super::subsystem::Namespace;
use super::super::wire::log_page::Smart;

/// Data is counted in thousands of 512 bytes, rounded up.
const DATA_UNIT_BYTES: u128 = 512 * 1000;

/// What a disk has done since it was opened.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    read_bytes: u64,
    written_bytes: u64,
    reads: u64,
    writes: u64,
    media_errors: u64,
}

/// The counters of a namespace's disk.
fn counters(_namespace: &Namespace) -> Counters {
    Counters::default()
}

/// The page for these namespaces. There is no thermometer and no flash: temperature and wear are 0, the spare is whole.
pub(super) fn page(namespaces: &[Arc<Namespace>], since: Instant, error_entries: u64) -> Smart {
    let all: Vec<Counters> = namespaces.iter().map(|namespace| counters(namespace)).collect();
    let sum = |of: fn(&Counters) -> u64| all.iter().map(|disk| u128::from(of(disk))).sum::<u128>();
    Smart {
        available_spare: 100,
        data_units_read: sum(|disk| disk.read_bytes).div_ceil(DATA_UNIT_BYTES).into(),
        data_units_written: sum(|disk| disk.written_bytes).div_ceil(DATA_UNIT_BYTES).into(),
        host_reads: sum(|disk| disk.reads).into(),
        host_writes: sum(|disk| disk.writes).into(),
        power_on_hours: u128::from(since.elapsed().as_secs() / 3600).into(),
        media_errors: sum(|disk| disk.media_errors).into(),
        error_entries: u128::from(error_entries).into(),
        ..Smart::new_zeroed()
    }
}
