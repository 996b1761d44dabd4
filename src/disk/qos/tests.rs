//! The maths of the limits, on a clock of the test's own: consumers with so many commands under way, each on one or more seats.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::bucket::{LocalBucket, Look};
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

fn iops(iops: u64) -> Limits {
    Limits { iops, ..Limits::default() }
}

/// A seat with commands that all cost the same, and come again as soon as they have ended.
struct Load {
    host: usize,
    cost: Cost,
    /// How long the disk takes for a command.
    takes_ns: u64,
    /// How long it is until the next one comes.
    thinks_ns: u64,
    seat: u64,
    bucket: LocalBucket,
    waiting: usize,
    /// When each command that was let go went.
    gone: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes(usize),
    Looks(usize),
}

struct World {
    throttle: Throttle,
    loads: Vec<Load>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    now_ns: u64,
    count: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let throttle = Throttle::default();
        throttle.set_limits_at(Some(limits), 0);
        Self { throttle, loads: Vec::new(), events: BinaryHeap::new(), now_ns: 0, count: 0 }
    }

    fn at(&mut self, at_ns: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at_ns, self.count, event)));
    }

    /// A host's seat with `depth` commands under way.
    fn load(&mut self, host: usize, depth: usize, cost: Cost, takes_ns: u64, thinks_ns: u64) -> usize {
        let seat = self.throttle.join(&Consumer::Named(format!("host {host}")));
        let bucket = LocalBucket::default();
        self.loads.push(Load { host, cost, takes_ns, thinks_ns, seat, bucket, waiting: 0, gone: Vec::new() });
        let load = self.loads.len() - 1;
        (0..depth).for_each(|_| self.at(self.now_ns, Event::Comes(load)));
        load
    }

    fn run_until(&mut self, end_ns: u64) {
        while let Some(Reverse((at_ns, ..))) = self.events.peek()
            && *at_ns < end_ns
        {
            let Some(Reverse((at_ns, _, event))) = self.events.pop() else { return };
            self.now_ns = at_ns;
            match event {
                Event::Comes(load) => self.comes(load),
                Event::Looks(load) => self.looks(load),
            }
        }
        self.now_ns = end_ns;
    }

    fn comes(&mut self, at: usize) {
        let generation = self.throttle.generation();
        let load = &mut self.loads[at];
        if generation == UNLIMITED || load.waiting == 0 && load.bucket.pay(generation, load.cost) {
            return self.goes(at);
        }
        load.bucket.join(load.cost);
        load.waiting += 1;
        if load.waiting == 1 {
            self.looks(at);
        }
    }

    /// The first of the line looks, as often as it may go.
    fn looks(&mut self, at: usize) {
        let now = self.now_ns;
        while self.loads[at].waiting > 0 {
            let load = &mut self.loads[at];
            match load.bucket.look(&self.throttle, load.seat, load.cost, now) {
                Look::Go => {
                    load.bucket.leave(load.cost);
                    load.waiting -= 1;
                    if load.waiting == 0 {
                        load.bucket.rest(&self.throttle, load.seat, true);
                    }
                    self.goes(at);
                }
                Look::After(ns) => return self.at(now + ns, Event::Looks(at)),
            }
        }
    }

    fn goes(&mut self, at: usize) {
        let load = &mut self.loads[at];
        load.gone.push(self.now_ns);
        let again = self.now_ns + load.takes_ns + load.thinks_ns;
        self.at(again, Event::Comes(at));
    }

    /// Commands of a host that went in a time.
    fn done(&self, host: usize, from_ns: u64, to_ns: u64) -> u64 {
        let loads = self.loads.iter().filter(|load| load.host == host);
        loads.flat_map(|load| &load.gone).filter(|at| (from_ns..to_ns).contains(at)).count() as u64
    }

    /// All I/Os and bytes, in the order in which they went.
    fn gone(&self) -> Vec<(u64, Cost)> {
        let mut gone: Vec<_> = self.loads.iter().flat_map(|load| load.gone.iter().map(|at| (*at, load.cost))).collect();
        gone.sort_by_key(|(at, _)| *at);
        gone
    }

    /// In no time of this length more went than burst and rate allow.
    #[track_caller]
    fn keeps(&self, limits: Limits, window_ns: u64) {
        let brings = |rate: u64, least: u64| {
            let burst = u128::from(rate) * limits.burst.as_nanos() / u128::from(SECOND);
            burst.max(u128::from(least)) as u64 + (u128::from(rate) * u128::from(window_ns) / u128::from(SECOND)) as u64
        };
        let (mut ios, mut bytes, mut window) = (0, 0, VecDeque::new());
        for (at, cost) in self.gone() {
            ios += u64::from(cost.ios);
            bytes += cost.bytes;
            window.push_back((at, cost));
            while let Some((first, cost)) = window.front().copied()
                && first + window_ns <= at
            {
                ios -= u64::from(cost.ios);
                bytes -= cost.bytes;
                window.pop_front();
            }
            assert!(limits.iops == 0 || ios <= brings(limits.iops, 2), "{ios} I/Os until {at}");
            let most_bytes = brings(limits.bytes_per_second, Limits::LEAST_BURST_BYTES);
            assert!(limits.bytes_per_second == 0 || bytes <= most_bytes, "{bytes} bytes until {at}");
        }
    }
}

#[track_caller]
fn near(value: u64, expected: u64, percent: u64) {
    let within = expected * percent / 100;
    assert!(value.abs_diff(expected) <= within, "{value} is not within {percent} % of {expected}");
}

const US: u64 = 1000;

#[test]
fn a_disk_without_limits_lets_all_go() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.throttle.generation(), UNLIMITED);
    assert_eq!(world.throttle.limits(), None);
    world.load(0, 1, Cost::of(4096), 10 * US, 0);
    world.run_until(100 * MS);
    assert_eq!(world.done(0, 0, 100 * MS), 10_000);
}

#[test]
fn the_rate_is_reached_and_never_exceeded() {
    for rate in [3, 100, 20_000, 300_000] {
        for depth in [1, 8, 128] {
            let limits = iops(rate);
            let mut world = World::new(limits);
            world.load(0, depth, Cost::of(4096), 2 * US, 0);
            world.run_until(4 * SECOND);
            for window in [MS, 10 * MS, SECOND] {
                world.keeps(limits, window);
            }
            // The last tick may not have come, and what lies ahead is not used.
            near(world.done(0, SECOND, 4 * SECOND), 3 * rate, 1 + 40 / (3 * rate));
        }
    }
}

#[test]
fn bytes_are_limited_too_and_the_scarcer_limit_holds() {
    for (bytes, ios) in [(4096, 5000), (64 << 10, 1600), (8 << 20, 12)] {
        let limits = Limits { iops: 5000, bytes_per_second: 100 << 20, ..Limits::default() };
        let mut world = World::new(limits);
        world.load(0, 16, Cost::of(bytes), 20 * US, 0);
        world.run_until(5 * SECOND);
        if bytes <= Limits::LEAST_BURST_BYTES {
            world.keeps(limits, SECOND);
        }
        near(world.done(0, SECOND, 5 * SECOND), 4 * ios, 5);
    }
}

#[test]
fn hosts_that_want_more_get_equal_shares_whatever_their_queues() {
    for rate in [200, 20_000, 200_000] {
        let limits = iops(rate);
        let mut world = World::new(limits);
        // One command at a time, on one reactor, against four reactors with deep queues.
        world.load(0, 1, Cost::of(4096), 2 * US, 0);
        for _ in 0..4 {
            world.load(1, 128, Cost::of(4096), 2 * US, 0);
        }
        world.load(2, 32, Cost::of(4096), 2 * US, 0);
        world.run_until(6 * SECOND);
        world.keeps(limits, SECOND);
        let shares: Vec<_> = (0..3).map(|host| world.done(host, SECOND, 6 * SECOND)).collect();
        near(shares.iter().sum(), 5 * rate, 1);
        shares.iter().for_each(|share| near(*share, 5 * rate / 3, 5));
    }
}

#[test]
fn shares_count_what_is_scarce() {
    // Small commands are short of I/Os and large ones of bytes: each gets half of the disk's time.
    let limits = Limits { iops: 10_000, bytes_per_second: 200 << 20, ..Limits::default() };
    let mut world = World::new(limits);
    world.load(0, 32, Cost::of(4096), 20 * US, 0);
    world.load(1, 32, Cost::of(128 << 10), 20 * US, 0);
    world.run_until(5 * SECOND);
    world.keeps(limits, SECOND);
    let (small, large) = (world.done(0, SECOND, 5 * SECOND), world.done(1, SECOND, 5 * SECOND));
    // In units of the disk's time.
    near(small * 100 / 10_000, large * 100 / 1600, 5);
}

#[test]
fn what_one_host_leaves_is_for_the_others() {
    let mut world = World::new(iops(20_000));
    // Wants 1,000 a second, and gets them.
    world.load(0, 1, Cost::of(4096), 10 * US, 990 * US);
    world.load(1, 64, Cost::of(4096), 10 * US, 0);
    world.run_until(4 * SECOND);
    let (modest, greedy) = (world.done(0, SECOND, 4 * SECOND), world.done(1, SECOND, 4 * SECOND));
    assert!(modest >= 3 * 600, "{modest}");
    near(modest + greedy, 3 * 20_000, 1);
}

#[test]
fn a_host_that_comes_back_has_saved_up_nothing() {
    let mut world = World::new(iops(10_000));
    let first = world.load(0, 32, Cost::of(4096), 10 * US, 0);
    let second = world.load(1, 32, Cost::of(4096), 10 * US, 0);
    world.run_until(SECOND);
    // The second goes away for a while.
    world.loads[second].thinks_ns = 3 * SECOND;
    world.run_until(2 * SECOND);
    near(world.done(0, SECOND + 100 * MS, 2 * SECOND), 9000, 5);
    world.loads[second].thinks_ns = 0;
    world.run_until(6 * SECOND);
    assert_eq!(world.loads[first].host, 0);
    near(world.done(0, 5 * SECOND, 6 * SECOND), 5000, 5);
    near(world.done(1, 5 * SECOND, 6 * SECOND), 5000, 5);
}

#[test]
fn limits_change_while_commands_wait() {
    let mut world = World::new(iops(1000));
    world.load(0, 32, Cost::of(4096), 10 * US, 0);
    world.run_until(SECOND);
    world.throttle.set_limits_at(Some(iops(50_000)), world.now_ns);
    world.run_until(2 * SECOND);
    near(world.done(0, SECOND, 2 * SECOND), 50_000, 5);
    world.throttle.set_limits_at(Some(iops(100)), world.now_ns);
    world.run_until(4 * SECOND);
    // No burst comes with the change.
    near(world.done(0, 2 * SECOND, 4 * SECOND), 200, 15);
    world.throttle.set_limits_at(None, world.now_ns);
    world.run_until(4 * SECOND + 20 * MS);
    world.run_until(4 * SECOND + 30 * MS);
    assert_eq!(world.done(0, 4 * SECOND + 20 * MS, 4 * SECOND + 30 * MS), 32 * 1000);
    // A bucket that is new is full.
    world.throttle.set_limits_at(Some(iops(10_000)), world.now_ns);
    let from = world.now_ns;
    world.run_until(from + SECOND);
    near(world.done(0, from, from + SECOND), 11_000, 2);
}

#[test]
fn a_bucket_is_not_refilled_by_changing_its_limits() {
    let mut world = World::new(iops(1000));
    world.load(0, 32, Cost::of(4096), 10 * US, 0);
    world.run_until(SECOND);
    for change in 1..=10 {
        let now = world.now_ns;
        world.throttle.set_limits_at(Some(iops(1000 + change)), now);
        world.run_until(now + 10 * MS);
    }
    near(world.done(0, SECOND, SECOND + 100 * MS), 100, 20);
}

#[test]
fn a_limit_that_does_not_bite_asks_the_budget_once_a_tick() {
    let mut world = World::new(iops(100_000_000));
    world.load(0, 1, Cost::of(4096), US, 0);
    world.run_until(SECOND);
    assert_eq!(world.done(0, 0, SECOND), 1_000_000);
    let looks = world.throttle.budget().turns();
    assert!(looks < 3000, "{looks} grants for a million commands");
}

#[test]
fn seats_that_go_give_back_what_they_have() {
    let mut world = World::new(iops(1000));
    for host in 0..10 {
        let load = world.load(host, 1, Cost::of(4096), 10 * US, 0);
        world.run_until((host as u64 + 1) * 20 * MS);
        let load = &mut world.loads[load];
        load.thinks_ns = 1000 * SECOND;
        world.run_until(world.now_ns + 20 * MS);
    }
    for load in &mut world.loads {
        let (generation, left) = load.bucket.empty();
        world.throttle.budget().leave(load.seat, generation, left);
    }
    let from = world.now_ns + SECOND;
    world.run_until(from);
    assert_eq!(world.throttle.budget().seats(), 0);
    world.load(99, 64, Cost::of(4096), 10 * US, 0);
    world.run_until(from + SECOND);
    // The whole burst is there again.
    near(world.done(99, from, from + SECOND), 1100, 2);
}

#[test]
fn limits_of_any_size_are_carried() {
    let most = Limits { iops: u64::MAX, bytes_per_second: u64::MAX, burst: std::time::Duration::MAX };
    let throttle = Throttle::default();
    throttle.set_limits_at(Some(most), 0);
    let seat = throttle.join(&Consumer::new_one());
    let mut bucket = LocalBucket::default();
    let cost = Cost::of(1 << 40);
    for now in [0, 1, u64::MAX] {
        bucket.join(cost);
        assert_eq!(bucket.look(&throttle, seat, cost, now), Look::Go);
        bucket.leave(cost);
    }
    throttle.set_limits_at(Some(Limits { iops: 1, bytes_per_second: 1, burst: std::time::Duration::ZERO }), u64::MAX);
    assert_eq!(throttle.limits().map(|limits| limits.iops), Some(1));
}
