//! Who has a pool open: written into its superblock, so that another machine that reaches the same device does not open it too.
//!
//! On one machine the device's lock decides ([`crate::device::SharedDevice`]); a record of this machine is then one of a process that is no more.

use std::fs;

use super::super::error::PoolError;
use super::super::format::{LONGEST_HOST, Owner};

/// This process.
pub(super) fn this_process() -> Owner {
    let mut host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    while host.len() > LONGEST_HOST {
        host.pop();
    }
    Owner {
        machine: number_in("/etc/machine-id"),
        boot: number_in("/proc/sys/kernel/random/boot_id"),
        pid: std::process::id(),
        opened_at: super::now(),
        host,
    }
}

/// Refuses a pool that another machine has opened and not closed.
pub(super) fn refuse_others(pool: &str, owner: Option<&Owner>, take_over: bool) -> Result<(), PoolError> {
    match owner {
        Some(owner) if !take_over && owner.machine != this_process().machine => {
            Err(PoolError::OwnedElsewhere { pool: pool.to_owned(), host: owner.host.clone(), pid: owner.pid })
        }
        _ => Ok(()),
    }
}

/// A file with a number of 32 hex digits, perhaps with dashes; zero if there is none.
fn number_in(path: &str) -> [u8; 16] {
    let text = fs::read_to_string(path).unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).unwrap_or_default().into_bytes()
}
