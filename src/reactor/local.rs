//! A reactor on the thread of somebody else, who lets it take one turn after the other: how a program that has threads of its own, such as fio,
//! runs disks to completion on them, without handing anything over.

use std::cell::RefCell;
use std::sync::Arc;

use super::mailbox::Mailbox;
use super::{Idle, Reactor, ReactorConfig, ReactorError, ReactorStats, affinity};

/// A reactor that does something only while its thread calls [`LocalReactor::turn`].
///
/// Who has used volumes of pools on it lets [`crate::volume::retire`] run there before it is dropped: it answers nobody any more then.
///
/// The thread stays where its owner has it: it is not pinned, and `cores` of the configuration is not looked at.
pub struct LocalReactor {
    reactor: Reactor,
    idle: RefCell<Idle>,
}

impl LocalReactor {
    /// Sets up a reactor on the calling thread, which alone may use it.
    pub fn start(config: &ReactorConfig) -> Result<Self, ReactorError> {
        let core = affinity::current_cpu();
        let mailbox = Mailbox::new().map_err(|source| ReactorError::Start { core, source })?;
        let reactor = Reactor::on_this_thread(core, config, Arc::new(mailbox), Arc::new(ReactorStats::default()))?;
        Ok(Self { reactor, idle: RefCell::default() })
    }

    /// The reactor: what tasks hold.
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// One turn; false if there was nothing to do. After long enough without work it sleeps first, as every reactor does: until a task can go on.
    #[inline]
    pub fn turn(&self) -> bool {
        self.reactor.0.tasks.enter(|| self.reactor.step(&mut self.idle.borrow_mut()))
    }

    /// Takes one turn without ever sleeping.
    #[inline]
    pub fn look(&self) -> bool {
        self.reactor.0.tasks.enter(|| self.reactor.turn())
    }
}

impl Drop for LocalReactor {
    /// Lets the tasks end, as a reactor with a thread of its own does.
    fn drop(&mut self) {
        self.reactor.0.stopping.set(true);
        while self.turn() || self.reactor.0.tasks.alive() > 0 {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::memory::HugePages;
    use crate::reactor::yield_now;

    fn small() -> LocalReactor {
        let config = ReactorConfig { memory_mib: 2, hugepages: HugePages::Never, ..ReactorConfig::default() };
        LocalReactor::start(&config).expect("a reactor")
    }

    #[test]
    fn tasks_go_on_turn_by_turn_on_the_callers_thread() {
        let local = small();
        let (steps, thread) = (Rc::new(Cell::new(0)), std::thread::current().id());
        let counted = steps.clone();
        local.reactor().spawn(async move {
            for _ in 0..3 {
                assert_eq!(std::thread::current().id(), thread);
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        assert_eq!(steps.get(), 0);
        for turn in 1..=3 {
            assert!(local.look());
            assert_eq!(steps.get(), turn);
        }
    }

    #[test]
    fn a_sleeping_reactor_is_woken_by_timers_and_by_other_threads() {
        let local = small();
        let done = Rc::new(Cell::new(0));
        let (reactor, counted) = (local.reactor().clone(), done.clone());
        local.reactor().spawn(async move {
            reactor.sleep(Duration::from_millis(20)).await;
            counted.set(counted.get() + 1);
        });
        let remote = local.reactor().remote();
        let other = std::thread::spawn(move || remote.call(|_| 7));
        while done.get() == 0 || !other.is_finished() {
            local.turn();
        }
        assert_eq!(other.join().expect("no panic"), 7);
    }

    #[test]
    fn dropped_it_lets_its_tasks_end() {
        let local = small();
        let (ended, reactor) = (Rc::new(Cell::new(false)), local.reactor().clone());
        let end = ended.clone();
        local.reactor().spawn(async move {
            while !reactor.is_stopping() {
                yield_now().await;
            }
            end.set(true);
        });
        drop(local);
        assert!(ended.get());
    }
}
