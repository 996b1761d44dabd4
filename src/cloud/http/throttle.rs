//! How much an account may ask: a bucket of tokens for each, which fills at a constant rate. It holds what a second brings.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// The buckets. Only accounts that have signed a request have one, so there are as many as there are accounts.
pub(super) struct Throttle {
    /// 0 is any number.
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Throttle {
    /// So many requests a second for each account; 0 is any number.
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Whether the account may ask now; if it may, that counts.
    pub(super) fn admits(&self, account: &str, now: Instant) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let mut buckets = self.buckets.lock().expect("no thread panics while it holds this lock");
        if !buckets.contains_key(account) {
            buckets.insert(account.to_owned(), Bucket { tokens: self.per_second, filled: now });
        }
        let bucket = buckets.get_mut(account).expect("it is there");
        // Threads may come here in another order than that in which they have looked at the clock.
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.per_second);
        bucket.filled = bucket.filled.max(now);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_account_may_ask_so_much_and_others_do_not_feel_it() {
        let throttle = Throttle::new(4);
        let start = Instant::now();
        let admitted = |account, now| (0..10).filter(|_| throttle.admits(account, now)).count();
        assert_eq!(admitted("a", start), 4);
        assert_eq!(admitted("b", start), 4);
        assert_eq!(admitted("a", start + Duration::from_millis(500)), 2);
        assert_eq!(admitted("a", start), 0, "an older look at the clock fills nothing");
        assert_eq!(admitted("a", start + Duration::from_secs(60)), 4, "what was not asked for is not saved up");
    }

    #[test]
    fn zero_is_any_number() {
        let throttle = Throttle::new(0);
        let now = Instant::now();
        assert!((0..1000).all(|_| throttle.admits("a", now)));
    }
}
