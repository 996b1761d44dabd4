//! What the verdicts are worth, on made-up measurements with seeds: how often they raise a false alarm, and how often they find what is there.
//!
//! The machine that is made up drifts by half, has a run of bad minutes, and now and then a unit that is off by a multiple: worse than a real one.

use crate::sample::{Latency, Metric, Sample};

use super::campaign::{Effort, Measured, Rule, Unit, is_sharp};
use super::matrix::{self, Row};
use super::session::Slice;
use super::side::Role;
use super::signed_rank::SignedRank;
use super::verdict::{Finding, RowVerdict, judge};

const RULE: Rule = Rule { margin: 0.00995, level: 0.01 };
const SLICE: Slice = Slice { seconds: 0.15, ramp_s: 0.05 };

/// Marsaglia's xorshift64, with a normal distribution by Box and Muller.
struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A unit of a row: `slower` is the factor of HEAD's time, `noise` the deviation of a slice.
fn unit(chance: &mut Chance, at: usize, slower: f64, noise: f64) -> Unit {
    // All sides of a unit see the same drift.
    let drift = 1.0 + 0.5 * (at as f64 / 9.0).sin();
    Role::ALL.map(|role| {
        [(); 2].map(|()| {
            let wild = if chance.unit() < 0.03 { 1.0 + 2.0 * chance.unit() } else { 1.0 };
            let factor = if role == Role::Head { slower } else { 1.0 };
            let us = 10.0 * drift * factor * wild * (noise * chance.normal()).exp();
            let p99 = us * 2.0 * (4.0 * noise * chance.normal()).exp();
            let latency = Latency { mean: us, p50: us, p90: us, p99, p99_9: p99, p99_99: p99, max: p99 };
            let iops = 32e6 / us;
            Sample { iops: Some(iops), mib_per_s: Some(iops / 256.0), latency_us: Some(latency), ..Sample::default() }
        })
    })
}

fn measured(chance: &mut Chance, row: Row, units: usize, slower: f64, noise: f64) -> Measured {
    let mut measured = Measured::new(row, SLICE);
    measured.units = (0..units).map(|at| unit(chance, at, slower, noise)).collect();
    measured
}

/// A run of all rows.
fn campaign(seed: u64, slower: impl Fn(usize) -> f64, noise: f64) -> Vec<RowVerdict> {
    let mut chance = Chance(seed);
    let rows = matrix::rows().into_iter().enumerate();
    let all: Vec<Measured> = rows.map(|(at, row)| measured(&mut chance, row, 24, slower(at), noise)).collect();
    judge(&all, RULE)
}

fn count(rows: &[RowVerdict], finding: Finding) -> usize {
    rows.iter().flat_map(|row| &row.figures).filter(|figure| figure.finding == finding).count()
}

#[test]
fn equal_sides_are_not_found_to_differ() {
    let alarms = (1..=60).filter(|&seed| {
        let rows = campaign(seed * 7919, |_| 1.0, 0.03);
        count(&rows, Finding::Same) != rows.len() * 2
    });
    // Each run has a chance of 1 % at most for each of three kinds of alarm, and less because of the tolerance.
    assert!(alarms.count() <= 1);
}

#[test]
fn a_slowdown_of_five_percent_is_found_in_the_one_row_that_has_it() {
    for seed in 1..=30 {
        let slow = seed as usize % matrix::rows().len();
        let rows = campaign(seed * 104_729, |at| if at == slow { 1.05 } else { 1.0 }, 0.02);
        let found: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].figures[0].finding == Finding::Slower).collect();
        assert_eq!(found, [slow], "seed {seed}");
        assert_eq!(count(&rows, Finding::Unsure), 0, "seed {seed}");
        let seen = rows[slow].figures[0].seen.expect("units enough");
        assert!(seen < 5.0, "seed {seed}: {seen}");
    }
}

#[test]
fn a_slowdown_within_the_tolerance_is_none() {
    let alarms: usize = (1..=30).map(|seed| count(&campaign(seed * 31, |_| 1.008, 0.02), Finding::Slower)).sum();
    assert!(alarms <= 1, "{alarms}");
}

#[test]
fn a_test_without_tolerance_keeps_its_level() {
    // 4,000 tests at 5 %: 200 alarms are expected, with a deviation of 14.
    let mut chance = Chance(42);
    let row = matrix::rows().remove(1);
    let alarms = (0..4000).filter(|_| {
        let differences = measured(&mut chance, row.clone(), 16, 1.0, 0.05).differences(Metric::Iops);
        SignedRank::of(&differences.head).expect("units").chance_if_at_most(0.0) <= 0.05
    });
    let alarms = alarms.count();
    assert!((140..=260).contains(&alarms), "{alarms}");
}

#[test]
fn what_would_be_seen_is_seen_in_four_of_five_runs() {
    let mut chance = Chance(7);
    let row = matrix::rows().remove(1);
    let level = RULE.level / 38.0;
    let mut found = 0;
    for _ in 0..400 {
        let calm = measured(&mut chance, row.clone(), 24, 1.0, 0.03).differences(Metric::Iops).head;
        let slower = SignedRank::of(&calm).expect("units").seen(RULE.margin, level).exp();
        let slow = measured(&mut chance, row.clone(), 24, slower, 0.03).differences(Metric::Iops).head;
        found += usize::from(SignedRank::of(&slow).expect("units").chance_if_at_most(RULE.margin) <= level);
    }
    assert!((280..=376).contains(&found), "{found} of 400");
}

#[test]
fn measuring_until_it_is_sharp_raises_no_more_alarms() {
    let effort = Effort { least: 16, most: 48, seek_percent: 2.0, slice: SLICE, slow_percent: 0.0 };
    let rule = Rule { margin: 0.0, level: 0.05 };
    let mut chance = Chance(99);
    let row = matrix::rows().remove(1);
    let (mut alarms, mut units) = (0, 0);
    for _ in 0..2000 {
        let mut one = measured(&mut chance, row.clone(), effort.least, 1.0, 0.02);
        let mut differences = one.differences(Metric::Iops).head;
        while one.units.len() < effort.most && !is_sharp(&differences, &effort, rule, 1) {
            let at = one.units.len();
            one.units.push(unit(&mut chance, at, 1.0, 0.02));
            differences = one.differences(Metric::Iops).head;
        }
        units += one.units.len();
        alarms += usize::from(SignedRank::of(&differences).expect("units").chance_if_at_most(0.0) <= rule.level);
    }
    // 100 are expected, with a deviation of 10.
    assert!((60..=140).contains(&alarms), "{alarms} with {units} units");
    assert!(units > 2000 * effort.least, "some rows need more");
}
