//! Keep Alive (Base section 3.9): how long a controller waits for a host that says nothing.
//!
//! Every command counts (Traffic Based Keep Alive). The timer runs while the controller is ready; before and after that a
//! connection is held for a fixed time only, so that nobody keeps a controller by connecting and saying nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The granularity of the timer that hosts are told: one second (KAS counts 100 ms).
pub(super) const GRANULARITY_100MS: u16 = 10;
const GRANULARITY_MS: u32 = GRANULARITY_100MS as u32 * 100;
/// How long a controller is held for a host that has not enabled it, has shut it down, or looks at the discovery log without keep alive: the two
/// minutes after which a discovery controller may go (Base section 3.1.2.3).
const HELD_MS: u32 = 120_000;
const FOREVER: u32 = u32::MAX;

/// When the host was last heard of, and how long it may be silent.
pub(super) struct KeepAlive {
    epoch: Instant,
    /// Milliseconds after `epoch`. Written by every queue's reactor for each command, so nothing but a plain store is spent on it.
    heard_ms: AtomicU64,
    silence_ms: AtomicU32,
}

impl KeepAlive {
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: now, heard_ms: AtomicU64::new(0), silence_ms: AtomicU32::new(HELD_MS) }
    }

    /// The host was heard of.
    #[inline]
    pub(super) fn touch(&self, now: Instant) {
        self.heard_ms.store(now.saturating_duration_since(self.epoch).as_millis() as u64, Ordering::Relaxed);
    }

    /// How long the host has been silent.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.epoch).saturating_sub(heard)
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        let allowed = self.silence_ms.load(Ordering::Relaxed);
        allowed != FOREVER && self.silence(now) > Duration::from_millis(u64::from(allowed))
    }

    /// The timer runs: the host's time, rounded up, and one granule for clocks that are only looked at now and then. 0 = the host may be
    /// silent for ever.
    pub(super) fn run(&self, timeout_ms: u32) {
        let allowed = match timeout_ms {
            0 => FOREVER,
            some => some.div_ceil(GRANULARITY_MS).saturating_add(1).saturating_mul(GRANULARITY_MS).min(FOREVER - 1),
        };
        self.silence_ms.store(allowed, Ordering::Relaxed);
    }

    /// The timer does not run; the controller is held for a while.
    pub(super) fn hold(&self) {
        self.silence_ms.store(HELD_MS, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_allowed_for_the_time_rounded_up_and_a_granule() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let timer = KeepAlive::new(start);
        timer.run(4_500);
        assert!(!timer.is_expired(at(6_000)) && timer.is_expired(at(6_001)));
        timer.touch(at(6_000));
        assert!(!timer.is_expired(at(12_000)) && timer.is_expired(at(12_001)));
        timer.run(0);
        assert!(!timer.is_expired(at(1 << 40)));
        timer.run(u32::MAX);
        assert!(timer.is_expired(at(1 << 40)), "49 days are not for ever");
        timer.hold();
        assert!(!timer.is_expired(at(126_000)) && timer.is_expired(at(126_001)));
    }
}
