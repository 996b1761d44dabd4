//! A slowdown of the data path on purpose, so that `scripts/perf-regress --prove` has something to find. Only with the cargo feature `slowdown`.
//!
//! Each command owes as many nanoseconds as `STRONGROOM_SLOWDOWN_NS` says. A thread pays when its debt is long enough for the clock to be read
//! exactly, and what it pays too much counts for the next time: so the mean is right even where a command takes no longer than a look at the clock.

use std::cell::Cell;
use std::sync::OnceLock;

use crate::reactor::Clock;

const VARIABLE: &str = "STRONGROOM_SLOWDOWN_NS";
/// Nanoseconds of debt that are paid together.
const PAYMENT_NS: f64 = 200.0;

static PRICE_NS: OnceLock<f64> = OnceLock::new();

thread_local! {
    static DEBT_NS: Cell<f64> = const { Cell::new(0.0) };
}

/// A command begins.
#[inline]
pub(super) fn pay(clock: &Clock) {
    let price = *PRICE_NS.get_or_init(|| std::env::var(VARIABLE).ok().and_then(|ns| ns.parse().ok()).unwrap_or(0.0));
    // Without a price as well, so that spinning is all that two processes differ by.
    DEBT_NS.set(settle(clock, DEBT_NS.get() + price));
}

/// Spins a debt off if it is long enough; gives what is left of it, which may be less than nothing.
fn settle(clock: &Clock, debt: f64) -> f64 {
    if debt < PAYMENT_NS {
        return debt;
    }
    let start = clock.now();
    loop {
        let paid = clock.nanoseconds(clock.now().since(start)) as f64;
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
        assert_eq!(settle(&clock, PAYMENT_NS - 1.0), PAYMENT_NS - 1.0);
        assert!(settle(&clock, PAYMENT_NS) <= 0.0);
    }
}
