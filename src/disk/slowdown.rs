//! A slowdown of the data path on purpose, so that `scripts/perf-regress --prove` has something to find. Only with the cargo feature `slowdown`.
//!
//! Each command owes as many nanoseconds as `STRONGROOM_SLOWDOWN_NS` says. A thread pays when its debt is as long as two looks at the clock, which are
//! part of the payment, and what it pays too much counts for the next time: so the mean is right even where a command takes no longer than a look at
//! the clock, and the median where it does.

use std::cell::Cell;
use std::sync::OnceLock;

use crate::reactor::Clock;

const VARIABLE: &str = "STRONGROOM_SLOWDOWN_NS";
static PRICE_NS: OnceLock<f64> = OnceLock::new();
/// How long a look at the clock takes.
static LOOK_NS: OnceLock<f64> = OnceLock::new();

thread_local! {
    static DEBT_NS: Cell<f64> = const { Cell::new(0.0) };
}

/// A command begins.
#[inline]
pub(super) fn pay(clock: &Clock) {
    let price = *PRICE_NS.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|ns| ns.parse().ok()).unwrap_or(0.0));
    let look = *LOOK_NS.get_or_init(|| look_ns(clock));
    // Without a price as well, so that spinning is all that two processes differ by.
    DEBT_NS.set(settle(clock, look, DEBT_NS.get() + price));
}

/// The quickest of many looks, on which nothing was in the way.
fn look_ns(clock: &Clock) -> f64 {
    let looks = (0..1000).map(|_| {
        let start = clock.now();
        clock.nanoseconds(clock.now().since(start))
    });
    looks.min().unwrap_or(0).max(1) as f64
}

/// Spins a debt off if it is long enough; gives what is left of it, which may be less than nothing.
fn settle(clock: &Clock, look: f64, debt: f64) -> f64 {
    if debt < 2.0 * look {
        return debt;
    }
    let start = clock.now();
    loop {
        // The first look's beginning and the last one's end are not between them, and are one look together.
        let paid = clock.nanoseconds(clock.now().since(start)) as f64 + look;
        if paid >= debt {
            return debt - paid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_debts_are_kept_and_overpayment_is_remembered() {
        let clock = Clock::get();
        let look = look_ns(&clock);
        assert!(look >= 1.0);
        assert_eq!(settle(&clock, look, 2.0 * look - 1.0), 2.0 * look - 1.0);
        assert!(settle(&clock, look, 2.0 * look) <= 0.0);
    }
}
