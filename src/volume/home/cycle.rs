//! Cycles: what was let go may be used again. And demolition: what a deleted volume referred to is let go, bit by bit.
//!
//! A cycle is a commit, after which the journal does not name what was let go before, and a grace period, after which no command in flight can
//! still touch it. Then each reactor frees what it has kept ([`super::super::seat::Seat::tidy`]).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::device::IoError;
use crate::reactor::{Reactor, yield_now};

use super::super::map::{Demolition, Remains};
use super::super::seat::Seat;
use super::Home;
use super::structure::Left;

/// How long what was let go waits for more of its kind.
const TIDY_AFTER: Duration = Duration::from_millis(100);

impl Home {
    /// Serves those who want cycles.
    pub(super) async fn serve_cycles(&self) {
        let cycles = &self.pool.cycles;
        while cycles.wanted().await {
            let number = cycles.begin();
            let outcome = self.cycle(number).await;
            cycles.end(number, outcome);
        }
    }

    async fn cycle(&self, number: u64) -> Result<(), IoError> {
        self.pool.commits.ask().await?;
        self.pool.census.drain().await;
        self.pool.cycle_is_done(number);
        let pool = self.pool.number;
        self.pool.census.drain_with(move |reactor| tidy(reactor, pool)).await;
        Ok(())
    }

    /// Runs cycles by itself a moment after something was let go.
    pub(super) async fn serve_tidiness(&self) {
        while self.pool.untidy().await {
            if self.closed.happens_within(&self.reactor, TIDY_AFTER).await {
                return;
            }
            // If it fails, the device has failed; the next to let go tries again.
            let _ = self.pool.cycles.ask().await;
        }
    }

    /// Takes apart what is not used any more, in the background.
    pub(super) fn demolish(&self, left: Left) {
        if let Some(root) = left {
            self.pool.waiting.fetch_add(1, Ordering::SeqCst);
            self.demolitions.borrow_mut().push_back(Demolition::new(root));
            self.demolish_now.ring();
        }
    }

    pub(super) async fn serve_demolitions(&self) {
        while self.demolish_now.next().await {
            loop {
                let Some(mut demolition) = self.demolitions.borrow_mut().pop_front() else { break };
                let mut remains = Remains::default();
                let goes_on = demolition.step(&*self.pool, &mut remains);
                self.seat.keep(remains);
                if goes_on {
                    self.demolitions.borrow_mut().push_front(demolition);
                } else {
                    self.pool.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                yield_now().await;
            }
        }
    }

    /// Waits until everything that was let go can be used again, or the device fails.
    pub async fn settle(&self) {
        while self.pool.waiting.load(Ordering::SeqCst) > 0 || !self.seat.is_tidy() {
            if self.pool.cycles.ask().await.is_err() {
                return;
            }
            yield_now().await;
        }
    }
}

/// Frees what has waited on this reactor, a part at a time.
fn tidy(reactor: &Reactor, pool: u64) {
    if let Some(seat) = Seat::find(pool)
        && !seat.tidy()
    {
        reactor.remote().post(move |reactor| tidy(reactor, pool));
    }
}
