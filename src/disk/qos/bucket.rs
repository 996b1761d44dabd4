//! The bucket of one consumer on one reactor: takes tokens from the disk's budget, many at once while there are enough.

use super::Throttle;
use super::budget::{Answer, Wish};
use super::limits::Cost;
use super::tokens::{BILLION, Tokens};
use super::{TICK_NS, UNLIMITED};

/// The most commands for which tokens are taken ahead.
const MOST_AHEAD: u64 = 4096;

/// What a look at the budget brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The first command of the line may go.
    Go,
    /// It may not before so many nanoseconds have passed.
    After(u64),
}

#[derive(Default)]
pub(super) struct LocalBucket {
    /// The limits of which the tokens are.
    generation: u64,
    /// Whole tokens, of which commands pay: words that a processor compares at once.
    ios_left: u64,
    bytes_left: u64,
    /// What it has beside them: less than one of each, as a rule.
    rest: Tokens,
    /// What the commands in line cost.
    waiting: Tokens,
    /// The budget has a wish of this one that is not granted yet.
    wishes: bool,
    /// I/Os for which tokens came since a moment, and in the tick before it.
    since_ns: u64,
    ios: u64,
    ios_before: u64,
}

impl LocalBucket {
    /// Pays for a command that goes before all that wait; false if there is not enough.
    #[inline]
    pub(super) fn pay(&mut self, generation: u64, cost: Cost) -> bool {
        let enough = (self.ios_left >= cost.ios.into()) & (self.bytes_left >= cost.bytes);
        if self.generation != generation || !enough {
            return false;
        }
        self.ios_left -= u64::from(cost.ios);
        self.bytes_left -= cost.bytes;
        true
    }

    /// All that it has.
    fn has(&self) -> Tokens {
        let whole = Tokens { ios: self.ios_left.into(), bytes: self.bytes_left.into() };
        whole.times(BILLION).plus(self.rest)
    }

    /// Has so much, and nothing else.
    fn hold(&mut self, tokens: Tokens) {
        let whole = |billionths: u128| u64::try_from(billionths / BILLION).unwrap_or(u64::MAX);
        (self.ios_left, self.bytes_left) = (whole(tokens.ios), whole(tokens.bytes));
        self.rest = Tokens::NONE;
        self.rest = tokens.less(self.has());
    }

    /// A command joins the line.
    pub(super) fn join(&mut self, cost: Cost) {
        self.waiting = self.waiting.plus(cost.into());
    }

    /// A command leaves the line.
    pub(super) fn leave(&mut self, cost: Cost) {
        self.waiting = self.waiting.less(cost.into());
    }

    /// For how many commands tokens are asked for beside those that wait: twice what went in a tick, so that a consumer with few commands
    /// under way gets to as much as its share lets it.
    fn ahead(&mut self, now_ns: u64) -> u64 {
        let ns = now_ns.saturating_sub(self.since_ns);
        if ns >= TICK_NS {
            self.ios_before = (u128::from(self.ios) * u128::from(TICK_NS) / u128::from(ns)) as u64;
            (self.since_ns, self.ios) = (now_ns, 0);
        }
        (2 * self.ios.max(self.ios_before).min(MOST_AHEAD) + 1).min(MOST_AHEAD)
    }

    /// Asks the budget for what the line needs; `first` is the cost of its first command, which is paid if that may go.
    pub(super) fn look(&mut self, throttle: &Throttle, seat: u64, first: Cost, now_ns: u64) -> Look {
        let generation = throttle.generation();
        if generation == UNLIMITED || self.pay(generation, first) {
            return Look::Go;
        }
        if self.generation != generation {
            self.hold(Tokens::NONE);
        }
        let has = self.has();
        let wish = Wish {
            short: self.waiting.less(has),
            spare: has.less(self.waiting),
            each: first.into(),
            ahead: self.ahead(now_ns),
        };
        match throttle.budget().visit(seat, wish, now_ns) {
            Answer::Unlimited => Look::Go,
            Answer::Granted { generation, tokens, suffices, look_ns } => {
                self.wishes = !suffices;
                let kept = if self.generation == generation { has } else { Tokens::NONE };
                self.generation = generation;
                self.hold(kept.plus(tokens));
                self.ios = self.ios.saturating_add((tokens.ios / BILLION) as u64);
                if self.pay(generation, first) { Look::Go } else { Look::After(look_ns) }
            }
        }
    }

    /// The line is empty: wishes nothing any more, and gives back what it has, if somebody left the line who had not paid, or was still
    /// wished for: that would come on top of the next burst.
    pub(super) fn rest(&mut self, throttle: &Throttle, seat: u64, has_paid: bool) {
        if self.wishes || !has_paid && !self.has().is_none() {
            let (generation, left) = self.empty();
            throttle.budget().withdraw(seat, generation, left);
        }
    }

    /// Empties it: of which limits, and what is left.
    pub(super) fn empty(&mut self) -> (u64, Tokens) {
        let left = self.has();
        self.wishes = false;
        self.hold(Tokens::NONE);
        (self.generation, left)
    }
}
