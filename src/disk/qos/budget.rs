//! The budget of a disk: its buckets, the consumers that share them, and who is next.
//!
//! Each consumer has a clock of its own that runs on by what it is granted, as time that the disk needs for it (start-time fair queueing). The
//! next grant goes to the consumer whose clock is behind the others', so those who want more than they get are granted equal times, whatever
//! their queues; one that wants less leaves the rest to others. One that comes back is put where the others are: what was not used is not
//! saved up. Consumers are known by their seats, one on each reactor; those of one consumer take turns.
//!
//! What is granted was in the buckets: in any time no more goes than they hold and the rates bring. A wish is granted in parts that the
//! buckets can always hold, so a large command holds up nobody while it gathers its tokens.
//!
//! Everything here is asked under a lock and told the time: no clock, no waiting.

use super::limits::Limits;
use super::tokens::{BILLION, Buckets, Tokens};
use super::{Consumer, TICK_NS};

/// The most bytes of a part.
const PART: u128 = (Limits::LEAST_BURST_BYTES / 2) as u128 * BILLION;

/// The longest time after which who waits looks again: limits may have changed meanwhile.
const LONGEST_LOOK_NS: u64 = 20_000_000;

/// What a seat asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// What its waiting commands need beside what it has.
    pub(super) short: Tokens,
    /// What it will have left when they have gone.
    pub(super) spare: Tokens,
    /// What another command would need, and how many it may soon have.
    pub(super) each: Tokens,
    pub(super) ahead: u64,
}

/// What it gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// There are no limits.
    Unlimited,
    /// Tokens of limits with this number, whether they are all that was short, and when to look again if not.
    Granted { generation: u64, tokens: Tokens, suffices: bool, look_ns: u64 },
}

#[derive(Default)]
pub(super) struct Budget {
    limits: Option<Limits>,
    /// The number of the limits, 0 for none.
    generation: u64,
    changes: u64,
    buckets: Buckets,
    filled_ns: u64,
    accounts: Vec<Account>,
    seats: Vec<Seat>,
    /// Where the clocks are.
    clock_ns: u128,
    turns: u64,
}

/// A consumer.
struct Account {
    consumer: Consumer,
    clock_ns: u128,
}

/// A consumer on one reactor.
struct Seat {
    number: u64,
    /// The place of its account.
    account: usize,
    /// What is left of its wish: so many parts.
    parts: u128,
    part: Tokens,
    /// What was granted since it looked.
    granted: Tokens,
    /// What it may have left in its own bucket.
    spare: Tokens,
    /// When it had its last turn.
    turn: u64,
}

impl Budget {
    pub(super) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// Sets the limits; gives their number.
    pub(super) fn set_limits(&mut self, limits: Option<Limits>, now_ns: u64) -> u64 {
        self.refill(now_ns);
        self.limits = limits.filter(Limits::is_any);
        self.buckets = self.limits.map_or(Buckets::default(), |limits| self.buckets.changed(&limits));
        self.changes += 1;
        self.generation = if self.buckets.limit_anything() { self.changes } else { 0 };
        for seat in &mut self.seats {
            (seat.parts, seat.granted, seat.spare) = (0, Tokens::NONE, Tokens::NONE);
        }
        self.generation
    }

    pub(super) fn join(&mut self, number: u64, consumer: &Consumer) {
        let known = self.accounts.iter().position(|account| account.consumer == *consumer);
        let account = known.unwrap_or(self.accounts.len());
        if known.is_none() {
            self.accounts.push(Account { consumer: consumer.clone(), clock_ns: self.clock_ns });
        }
        let (parts, part, turn) = (0, Tokens::NONE, self.turns);
        let (granted, spare) = (Tokens::NONE, Tokens::NONE);
        self.seats.push(Seat { number, account, parts, part, granted, spare, turn });
    }

    /// A seat goes; what it has left, if it is of these limits, others may have.
    pub(super) fn leave(&mut self, number: u64, generation: u64, left: Tokens) {
        self.withdraw(number, generation, left);
        let Some(at) = self.at(number) else { return };
        let account = self.seats.swap_remove(at).account;
        if !self.seats.iter().any(|other| other.account == account) {
            self.accounts.remove(account);
            self.seats.iter_mut().filter(|seat| seat.account > account).for_each(|seat| seat.account -= 1);
        }
    }

    /// A seat wants nothing any more, and gives back what it has.
    pub(super) fn withdraw(&mut self, number: u64, generation: u64, left: Tokens) {
        let Some(at) = self.at(number) else { return };
        let seat = &mut self.seats[at];
        (seat.parts, seat.spare) = (0, Tokens::NONE);
        self.buckets.give_back(std::mem::take(&mut seat.granted));
        if generation == self.generation {
            self.buckets.give_back(left);
        }
    }

    /// A seat says what it wants and gets what it was granted so far; all seats are granted what there is.
    pub(super) fn visit(&mut self, number: u64, wish: Wish, now_ns: u64) -> Answer {
        if self.generation == 0 {
            return Answer::Unlimited;
        }
        let at = self.at(number).expect("a seat leaves once");
        self.refill(now_ns);
        self.wish(at, wish);
        self.grant();
        let seat = &mut self.seats[at];
        let tokens = std::mem::take(&mut seat.granted);
        seat.spare = wish.spare.plus(tokens).less(wish.short);
        let suffices = tokens.covers(wish.short);
        if suffices {
            seat.parts = 0;
        }
        let until = if seat.parts > 0 { self.buckets.ns_until(seat.part) } else { 0 };
        let look_ns = until.clamp(u128::from(TICK_NS), u128::from(LONGEST_LOOK_NS)) as u64;
        Answer::Granted { generation: self.generation, tokens, suffices, look_ns }
    }

    /// Grants so far.
    #[cfg(test)]
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    #[cfg(test)]
    pub(super) fn seats(&self) -> usize {
        self.seats.len()
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.seats.iter().position(|seat| seat.number == number)
    }

    fn refill(&mut self, now_ns: u64) {
        let ns = now_ns.saturating_sub(self.filled_ns);
        self.filled_ns = self.filled_ns.max(now_ns);
        let out = self.out();
        self.buckets.refill(ns, out);
    }

    /// What was granted and may be unused.
    fn out(&self) -> Tokens {
        self.seats.iter().fold(Tokens::NONE, |sum, seat| sum.plus(seat.granted).plus(seat.spare))
    }

    fn wish(&mut self, at: usize, wish: Wish) {
        let account = self.seats[at].account;
        if !self.seats.iter().any(|other| other.parts > 0 && other.account == account) {
            let account = &mut self.accounts[account];
            account.clock_ns = account.clock_ns.max(self.clock_ns);
        }
        // The old wish, and what is on its way to the seat, are in the new one.
        let wanted = wish.short.less(self.seats[at].granted);
        self.seats[at].spare = wish.spare;
        let ahead = u128::from(wish.ahead).min(self.buckets.times_ahead(wish.each, self.out(), TICK_NS));
        let all = wanted.plus(wish.each.times(ahead).less(wish.spare));
        let parts = all.ios.div_ceil(BILLION).max(all.bytes.div_ceil(PART));
        let seat = &mut self.seats[at];
        (seat.parts, seat.part) = (parts, all.part(parts.max(1)));
    }

    /// Grants what there is.
    fn grant(&mut self) {
        while let Some((at, open)) = self.next() {
            let Seat { account, parts, part, .. } = self.seats[at];
            // As long as there is plenty, many parts at once.
            let times = self.buckets.times(part);
            if times == 0 {
                return;
            }
            let count = (times / (2 * open)).clamp(1, parts);
            let granted = part.times(count);
            self.buckets.take(granted);
            let account = &mut self.accounts[account];
            self.clock_ns = self.clock_ns.max(account.clock_ns);
            account.clock_ns += self.buckets.ns(granted);
            self.turns += 1;
            let seat = &mut self.seats[at];
            seat.parts -= count;
            seat.granted = seat.granted.plus(granted);
            seat.turn = self.turns;
        }
    }

    /// The seat whose turn it is, and how many have open wishes.
    fn next(&self) -> Option<(usize, u128)> {
        let open = || self.seats.iter().enumerate().filter(|(_, seat)| seat.parts > 0);
        let (at, _) = open().min_by_key(|(_, seat)| (self.accounts[seat.account].clock_ns, seat.turn))?;
        Some((at, open().count() as u128))
    }
}
