//! The Error Information log (Base section 5.16.1.2): the last commands that failed.

use std::collections::VecDeque;

use zerocopy::{FromZeros, IntoBytes};

use super::super::wire::identify::NVM_COMMAND_SET;
use super::super::wire::log_page::{ErrorEntry, discovery};
use super::super::wire::status::Status;

/// Entries that are kept.
pub(super) const ENTRIES: usize = 64;

/// A command that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The queue.
    pub queue_id: u16,
    /// The command's identifier.
    pub cid: u16,
    /// The command's opcode.
    pub opcode: u8,
    /// What the host was told.
    pub status: Status,
    /// The first logical block that the command was about; 0 if it was about none.
    pub lba: u64,
    /// The namespace that the command named.
    pub nsid: u32,
    /// The byte of the command that is wrong: [`NO_PARAMETER`](super::super::wire::log_page::NO_PARAMETER) if none is.
    pub parameter: u16,
}

/// The last commands that failed, the newest first.
#[derive(Default)]
pub(super) struct Errors {
    /// All that there ever were.
    count: u64,
    last: VecDeque<ErrorEntry>,
}

impl Errors {
    pub(super) fn add(&mut self, failure: &Failure) {
        self.count += 1;
        self.last.truncate(ENTRIES - 1);
        self.last.push_front(ErrorEntry {
            count: self.count.into(),
            queue_id: failure.queue_id.into(),
            cid: failure.cid.into(),
            status: failure.status.to_wire().into(),
            parameter: failure.parameter.into(),
            lba: failure.lba.into(),
            nsid: failure.nsid.into(),
            transport: discovery::TCP,
            command_set: NVM_COMMAND_SET,
            opcode: failure.opcode,
            version: 1,
            ..ErrorEntry::new_zeroed()
        });
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The log page: all entries, those that are not used as zeros.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.last.iter().flat_map(|entry| entry.as_bytes().iter().copied()).collect();
        page.resize(ENTRIES * size_of::<ErrorEntry>(), 0);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first_and_the_oldest_go() {
        let mut errors = Errors::default();
        assert_eq!(errors.page(), vec![0; 4096]);
        for cid in 0..100 {
            let status = Status::LBA_OUT_OF_RANGE.final_one();
            errors.add(&Failure { queue_id: 1, cid, opcode: 2, status, lba: 0x1234, nsid: 7, parameter: 0xFFFF });
        }
        let page = errors.page();
        assert_eq!(page.len(), 4096);
        assert_eq!(page[..8], 100u64.to_le_bytes());
        assert_eq!(page[8..16], [1, 0, 99, 0, 0x00, 0x81, 0xFF, 0xFF]);
        assert_eq!(page[16..24], 0x1234u64.to_le_bytes());
        assert_eq!(page[24..32], [7, 0, 0, 0, 0, 3, 0, 2]);
        assert_eq!(page[63], 1);
        assert_eq!(page[4032..4040], 37u64.to_le_bytes(), "the oldest that is kept");
        assert_eq!(errors.count(), 100);
    }
}
