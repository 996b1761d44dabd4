//! Tokens, and the disk's two buckets of them.
//!
//! A token is counted in billionths: a rate of one a second brings exactly one of them in a nanosecond, so nothing is ever rounded away.

use super::limits::{Cost, Limits};

/// The billionths of one.
pub(super) const BILLION: u128 = 1_000_000_000;

/// What the bucket of I/Os holds at least.
const LEAST_BURST_IOS: u64 = 2;

/// The part of the buckets that may lie ahead with the consumers: with it taken, there is still room for the largest part of a wish.
const AHEAD: u128 = 4;

/// I/Os and bytes, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ios: u128,
    pub(super) bytes: u128,
}

impl From<Cost> for Tokens {
    fn from(cost: Cost) -> Self {
        Self { ios: u128::from(cost.ios) * BILLION, bytes: u128::from(cost.bytes) * BILLION }
    }
}

impl Tokens {
    pub(super) const NONE: Self = Self { ios: 0, bytes: 0 };

    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn covers(self, other: Self) -> bool {
        self.ios >= other.ios && self.bytes >= other.bytes
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { ios: self.ios + other.ios, bytes: self.bytes + other.bytes }
    }

    /// What is left of each; nothing where there is less.
    pub(super) fn less(self, other: Self) -> Self {
        Self { ios: self.ios.saturating_sub(other.ios), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    pub(super) fn times(self, count: u128) -> Self {
        Self { ios: self.ios * count, bytes: self.bytes * count }
    }

    /// One of so many equal parts, rounded up.
    pub(super) fn part(self, parts: u128) -> Self {
        Self { ios: self.ios.div_ceil(parts), bytes: self.bytes.div_ceil(parts) }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Tokens a second.
    rate: u128,
    /// Billionths.
    capacity: u128,
    /// Billionths.
    level: u128,
}

impl Bucket {
    /// A full one; nothing without a rate.
    fn new(rate: u64, limits: &Limits, least: u64) -> Option<Self> {
        let burst = limits.burst.clamp(Limits::LEAST_BURST, Limits::MOST_BURST).as_nanos();
        let rate = u128::from(rate);
        let capacity = (rate * burst).max(u128::from(least) * BILLION);
        (rate > 0).then_some(Self { rate, capacity, level: capacity })
    }

    /// Is as full as the one before it was.
    fn as_full_as(&mut self, before: &Self) {
        // Parts in a million: the product fits.
        self.level = self.capacity / 1_000_000 * (before.level * 1_000_000 / before.capacity);
    }

    fn refill(&mut self, ns: u64, out: u128) {
        let room = self.capacity.saturating_sub(out).max(self.level);
        self.level = self.level.saturating_add(self.rate.saturating_mul(ns.into())).min(room);
    }

    fn ns(&self, tokens: u128) -> u128 {
        tokens.div_ceil(self.rate)
    }

    fn ns_until(&self, tokens: u128) -> u128 {
        self.ns(tokens.saturating_sub(self.level))
    }
}

/// The buckets of a disk; one that is missing does not limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buckets {
    ios: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Buckets {
    /// Full ones.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            ios: Bucket::new(limits.iops, limits, LEAST_BURST_IOS),
            bytes: Bucket::new(limits.bytes_per_second, limits, Limits::LEAST_BURST_BYTES),
        }
    }

    /// Buckets of other limits, as full as these: a change brings no burst.
    pub(super) fn changed(&self, limits: &Limits) -> Self {
        let mut new = Self::new(limits);
        for (new, before) in [(&mut new.ios, &self.ios), (&mut new.bytes, &self.bytes)] {
            if let (Some(new), Some(before)) = (new, before) {
                new.as_full_as(before);
            }
        }
        new
    }

    pub(super) fn limit_anything(&self) -> bool {
        self.ios.is_some() || self.bytes.is_some()
    }

    /// Time passes; what was given out and may still be unused has its room in the buckets.
    pub(super) fn refill(&mut self, ns: u64, out: Tokens) {
        self.each(out, |bucket, out| bucket.refill(ns, out));
    }

    pub(super) fn take(&mut self, tokens: Tokens) {
        self.each(tokens, |bucket, tokens| bucket.level = bucket.level.saturating_sub(tokens));
    }

    pub(super) fn give_back(&mut self, tokens: Tokens) {
        self.each(tokens, |bucket, tokens| bucket.level = (bucket.level + tokens).min(bucket.capacity));
    }

    /// How often the buckets have so much.
    pub(super) fn times(&self, tokens: Tokens) -> u128 {
        self.least(tokens, |bucket, tokens| bucket.level / tokens)
    }

    /// How often what may lie ahead with the consumers has room for so much: a part of the buckets less what lies there already, and what
    /// they bring in so many nanoseconds.
    pub(super) fn times_ahead(&self, tokens: Tokens, out: Tokens, ns: u64) -> u128 {
        let of = |bucket: &Bucket, tokens: u128, out: u128| {
            (bucket.capacity / AHEAD).saturating_sub(out).min(bucket.rate * u128::from(ns)) / tokens
        };
        let ios = self.ios.as_ref().filter(|_| tokens.ios > 0).map(|bucket| of(bucket, tokens.ios, out.ios));
        let bytes = self.bytes.as_ref().filter(|_| tokens.bytes > 0).map(|bucket| of(bucket, tokens.bytes, out.bytes));
        ios.into_iter().chain(bytes).min().unwrap_or(0)
    }

    /// How long the disk needs for so much: as long as the scarcer of the two.
    pub(super) fn ns(&self, tokens: Tokens) -> u128 {
        self.most(tokens, Bucket::ns)
    }

    /// How long it takes until the buckets have so much.
    pub(super) fn ns_until(&self, tokens: Tokens) -> u128 {
        self.most(tokens, Bucket::ns_until)
    }

    fn each(&mut self, tokens: Tokens, what: impl Fn(&mut Bucket, u128)) {
        if let Some(bucket) = &mut self.ios {
            what(bucket, tokens.ios);
        }
        if let Some(bucket) = &mut self.bytes {
            what(bucket, tokens.bytes);
        }
    }

    fn most(&self, tokens: Tokens, of: impl Fn(&Bucket, u128) -> u128) -> u128 {
        let ios = self.ios.as_ref().map_or(0, |bucket| of(bucket, tokens.ios));
        let bytes = self.bytes.as_ref().map_or(0, |bucket| of(bucket, tokens.bytes));
        ios.max(bytes)
    }

    fn least(&self, tokens: Tokens, of: impl Fn(&Bucket, u128) -> u128) -> u128 {
        let ios = self.ios.as_ref().filter(|_| tokens.ios > 0).map(|bucket| of(bucket, tokens.ios));
        let bytes = self.bytes.as_ref().filter(|_| tokens.bytes > 0).map(|bucket| of(bucket, tokens.bytes));
        ios.into_iter().chain(bytes).min().unwrap_or(u128::MAX)
    }
}
