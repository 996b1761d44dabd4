//! How many clients an export has; or that none may come, because the disk is changed under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The count while nobody may come.
const HELD: usize = usize::MAX;

/// The clients of one export, on all reactors.
#[derive(Default)]
pub(in crate::export) struct Clients(AtomicUsize);

/// A client that counts until this is dropped.
pub(in crate::export) struct Guest(Arc<Clients>);

/// Nobody may come until this is dropped, or ever, if it is kept.
pub(in crate::export) struct Hold(Option<Arc<Clients>>);

impl Clients {
    /// Counts a client; `None` if none may come now.
    pub(in crate::export) fn enter(self: &Arc<Self>) -> Option<Guest> {
        let more = |count: usize| (count != HELD).then(|| count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Guest(self.clone()))
    }

    /// Lets nobody in, if nobody is there; or says how many are, which are none if it is held already: one hold at a time.
    pub(in crate::export) fn hold(self: &Arc<Self>) -> Result<Hold, usize> {
        match self.0.compare_exchange(0, HELD, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Hold(Some(self.clone()))),
            Err(HELD) => Err(0),
            Err(count) => Err(count),
        }
    }
}

impl Hold {
    /// Nobody may come any more: there is nothing to come to.
    pub(in crate::export) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(clients) = &self.0 {
            clients.0.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_clients_or_a_hold_and_never_both() {
        let clients = Arc::new(Clients::default());
        let guests = [clients.enter().expect("let in"), clients.enter().expect("let in")];
        assert_eq!(clients.hold().err(), Some(2));
        drop(guests);
        let Ok(hold) = clients.hold() else { panic!("nobody is there") };
        assert!(clients.enter().is_none());
        assert_eq!(clients.hold().err(), Some(0));
        drop(hold);
        assert!(clients.enter().is_some());
        let Ok(hold) = clients.hold() else { panic!("nobody is there") };
        hold.keep();
        assert!(clients.enter().is_none());
    }
}
