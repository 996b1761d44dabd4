//! The Reservation Notification log (Base section 5.16.1.26): what other hosts did to this host's registrations.

use std::collections::VecDeque;

use super::super::wire::log_page::{ReservationNotice, ReservationPage};

/// Pages that are kept: as many as the page's count of available pages can say, and the one that carries it.
const PAGES: usize = 256;

/// The notifications that the host has not read.
#[derive(Default)]
pub(super) struct ReservationLog {
    /// All that there ever were; the number of the newest.
    count: u64,
    unread: VecDeque<(u64, u32, ReservationNotice)>,
}

impl ReservationLog {
    /// Adds a notification. When the host does not read, the oldest go: the numbers then have a gap, which tells it so.
    pub(super) fn add(&mut self, nsid: u32, what: ReservationNotice) {
        self.count += 1;
        if self.unread.len() == PAGES {
            self.unread.pop_front();
        }
        self.unread.push_back((self.count, nsid, what));
    }

    /// The oldest notification, or an empty page.
    pub(super) fn page(&self) -> ReservationPage {
        let Some(&(count, nsid, what)) = self.unread.front() else { return ReservationPage::default() };
        ReservationPage {
            count: count.into(),
            kind: what as u8,
            available: (self.unread.len() - 1) as u8,
            nsid: nsid.into(),
            ..ReservationPage::default()
        }
    }

    /// The host has read the oldest notification. Says whether there are more.
    pub(super) fn read(&mut self) -> bool {
        self.unread.pop_front();
        !self.unread.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn pages_come_in_order_and_say_how_many_wait() {
        let mut log = ReservationLog::default();
        assert_eq!(log.page().as_bytes(), [0; 64]);
        assert!(!log.read(), "reading an empty page changes nothing");
        log.add(5, ReservationNotice::RegistrationPreempted);
        log.add(6, ReservationNotice::ReservationReleased);
        assert_eq!(log.page().as_bytes()[..16], [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 5, 0, 0, 0]);
        assert!(log.read());
        assert_eq!(log.page().as_bytes()[..16], [2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0]);
        assert!(!log.read());
        assert_eq!(log.page().as_bytes(), [0; 64]);
    }

    #[test]
    fn a_host_that_does_not_read_sees_a_gap() {
        let mut log = ReservationLog::default();
        (0..300).for_each(|_| log.add(1, ReservationNotice::ReservationPreempted));
        assert_eq!((log.page().count.get(), log.page().available), (45, 255));
    }
}
