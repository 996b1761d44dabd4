//! Measures all rows, unit by unit.
//!
//! Holds always: a unit measures each side twice, in an order and then in its reverse, and the order turns from unit to unit; so neither a drift of
//! the machine nor a place in the order favours a side. A pass makes one unit of each row that needs one, so that a bad minute of the machine costs
//! each row a unit and not one row all of them. Whether a row needs more units depends on its noise only, never on which side is ahead.

use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::sample::{Metric, Sample};

use super::matrix::{Row, Subject, worse};
use super::session::{self, Session, Slice};
use super::side::{Role, Side, Sides};
use super::signed_rank::SignedRank;

/// After so many failures one after the other a row is given up: on a busy machine a short slice may get no processor at all.
const FAILURES: usize = 3;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Units of each row at least,
    pub least: usize,
    /// and at most.
    pub most: usize,
    /// Units are added until a slowdown of so many percent would be seen.
    pub seek_percent: f64,
    /// What is measured at a time.
    pub slice: Slice,
    /// Percent by which each command of HEAD is slowed down on purpose.
    pub slow_percent: f64,
}

/// How a figure is judged.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// A slowdown of so much is no regression, as the logarithm of its factor.
    pub margin: f64,
    /// The chance of a false alarm in the whole run.
    pub level: f64,
}

/// The two samples of each side in a unit; `[role][0 or 1]`.
pub type Unit = [[Sample; 2]; 3];

/// A row and what was measured of it.
pub struct Measured {
    /// The row.
    pub row: Row,
    /// Its units.
    pub units: Vec<Unit>,
    /// Why a side could not be measured.
    pub failed: [Option<String>; 3],
    slice: Slice,
    failures: usize,
    /// Nanoseconds by which each command of HEAD is slowed down on purpose.
    price_ns: f64,
}

/// How much worse a figure is, unit by unit.
pub struct Differences {
    /// HEAD than BASE.
    pub head: Vec<f64>,
    /// BASE again than BASE.
    pub again: Vec<f64>,
}

impl Measured {
    /// A row of which nothing is known yet.
    pub fn new(row: Row, slice: Slice) -> Self {
        Self { row, units: Vec::new(), failed: [None, None, None], slice, failures: 0, price_ns: 0.0 }
    }

    /// All samples of a side.
    pub fn samples(&self, role: Role) -> impl Iterator<Item = &Sample> {
        self.units.iter().flat_map(move |unit| &unit[role as usize])
    }

    /// The differences in a figure, each between the better slices of two sides: what disturbs a slice can only make it worse. A unit in which a side does not tell it is left out.
    pub fn differences(&self, metric: Metric) -> Differences {
        let side = |unit: &Unit, role: Role| -> Option<f64> {
            let [first, second] = &unit[role as usize];
            Some(worse(metric, metric.of(first)?, 1.0).min(worse(metric, metric.of(second)?, 1.0)))
        };
        let of = |unit: &Unit| -> Option<(f64, f64)> {
            let [base, head, again] = Role::ALL.map(|role| side(unit, role));
            let (base, head, again) = (base?, head?, again?);
            // Not against both BASEs together: if the sides are equal, any of them is as likely to have the wild slice, and only the difference
            // of two is then as likely to lie above zero as below.
            Some((head - base, again - base)).filter(|(h, a)| h.is_finite() && a.is_finite())
        };
        let (head, again) = self.units.iter().filter_map(of).unzip();
        Differences { head, again }
    }

    fn is_over(&self) -> bool {
        self.failed.iter().any(Option::is_some)
    }

    fn needs_more(&self, effort: &Effort, rule: Rule, figures: usize) -> bool {
        if self.is_over() || self.units.len() >= effort.most {
            return false;
        }
        let differences = self.differences(self.row.speed());
        self.units.len() < effort.least || !is_sharp(&differences.head, effort, rule, figures)
    }

    /// Measures each side once, to see whether it can do the row at all, and how long a command is.
    fn try_out(&mut self, sides: &Sides, effort: &Effort) -> Result<()> {
        if self.row.subject == Subject::Pool && !session::pool_takes_fractions(sides.of(Role::Base)) {
            self.slice = Slice { seconds: 1.0, ramp_s: 0.0 };
        }
        for role in Role::ALL {
            interrupt::check()?;
            sides.of(role).slow(0.0)?;
            let mut tried = self.rate(role, sides);
            for _ in 1..FAILURES {
                if tried.is_err() {
                    tried = self.rate(role, sides);
                }
            }
            match tried {
                Err(failure) => self.failed[role as usize] = Some(failure.to_string()),
                Ok(iops) => self.price_ns = effort.slow_percent / 100.0 * 1e9 / iops,
            }
        }
        Ok(())
    }

    /// Measures a unit.
    fn measure(&mut self, sides: &Sides) -> Result<()> {
        sides.of(Role::Head).slow(self.price_ns)?;
        match self.unit(sides) {
            Ok(unit) => {
                self.units.push(unit);
                self.failures = 0;
            }
            Err((_, Failure::Interrupted)) => return Err(Failure::Interrupted),
            Err((role, failure)) => {
                eprintln!("    {}, {}: {failure}", self.row.title(), role.name());
                self.failures += 1;
                if self.failures >= FAILURES {
                    self.failed[role as usize] = Some(failure.to_string());
                }
            }
        }
        Ok(())
    }

    fn unit(&self, sides: &Sides) -> std::result::Result<Unit, (Role, Failure)> {
        let mut sessions = Vec::new();
        for role in Role::ALL {
            sessions.push(self.open(sides.of(role), sides).map_err(|failure| (role, failure))?);
        }
        let mut unit = Unit::default();
        for (role, turn) in order(self.units.len()) {
            interrupt::check().map_err(|failure| (role, failure))?;
            let sample = self.once(&mut sessions[role as usize], role, sides).map_err(|failure| (role, failure))?;
            unit[role as usize][turn] = sample;
        }
        Ok(unit)
    }

    /// I/Os a second of a side in one slice.
    fn rate(&self, role: Role, sides: &Sides) -> Result<f64> {
        let mut session = self.open(sides.of(role), sides)?;
        let iops = self.once(&mut session, role, sides)?.iops.filter(|&iops| iops > 0.0);
        iops.ok_or_else(|| Failure::Answer { program: self.row.title(), why: "no I/O was made".into() })
    }

    fn open(&self, side: &Side, sides: &Sides) -> Result<Session> {
        Session::open(&self.row, side, sides)
    }

    fn once(&self, session: &mut Session, role: Role, sides: &Sides) -> Result<Sample> {
        session.slice(&self.row, sides.of(role), sides, self.slice)
    }
}

/// Whether a slowdown of the size that is sought would be seen.
pub fn is_sharp(differences: &[f64], effort: &Effort, rule: Rule, figures: usize) -> bool {
    let sought = (1.0 + effort.seek_percent / 100.0).ln();
    SignedRank::of(differences).is_some_and(|ranks| ranks.seen(rule.margin, rule.level / figures as f64) <= sought)
}

/// The order in a unit, and how often each had its turn before.
fn order(unit: usize) -> [(Role, usize); 6] {
    let [a, b, c] = [0, 1, 2].map(|place| Role::ALL[(unit + place) % 3]);
    [(a, 0), (b, 0), (c, 0), (c, 1), (b, 1), (a, 1)]
}

/// Measures the rows. `figures` is how many will be judged.
pub fn run(rows: Vec<Row>, sides: &Sides, effort: &Effort, rule: Rule, figures: usize) -> Result<Vec<Measured>> {
    let mut all: Vec<Measured> = rows.into_iter().map(|row| Measured::new(row, effort.slice)).collect();
    for measured in &mut all {
        eprintln!("  tries {}", measured.row.title());
        measured.try_out(sides, effort)?;
    }
    for pass in 1.. {
        let mut left = 0;
        for measured in all.iter_mut().filter(|m| m.needs_more(effort, rule, figures)) {
            measured.measure(sides)?;
            left += 1;
        }
        match left {
            0 => break,
            _ => eprintln!("  pass {pass}: a unit of {left} rows"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regress::matrix;

    #[test]
    fn each_side_has_each_place_and_the_order_is_mirrored() {
        for side in Role::ALL {
            let places = |unit: usize| -> Vec<usize> {
                order(unit).iter().enumerate().filter(|(_, (role, _))| *role == side).map(|(place, _)| place).collect()
            };
            for unit in 0..3 {
                assert_eq!(places(unit).iter().sum::<usize>(), 5);
            }
            let firsts: std::collections::BTreeSet<usize> = (0..3).map(|unit| places(unit)[0]).collect();
            assert_eq!(firsts.len(), 3);
        }
    }

    #[test]
    fn differences_are_taken_within_a_unit() {
        let row = matrix::rows().into_iter().find(|row| row.speed() == Metric::Iops).unwrap();
        let mut measured = Measured::new(row, Slice { seconds: 1.0, ramp_s: 0.0 });
        let sample = |iops| Sample { iops: Some(iops), ..Sample::default() };
        // The machine is twice as slow in the second unit; HEAD is always a tenth slower than BASE.
        for rate in [1000.0, 500.0] {
            measured.units.push([1.0, 0.9, 1.0].map(|factor| [sample(rate * factor), sample(rate * factor * 1.2)]));
        }
        measured.units.push(Unit::default());
        let differences = measured.differences(Metric::Iops);
        assert_eq!(differences.head.len(), 2);
        assert!(differences.head.iter().all(|d| (d - (1.0 / 0.9_f64).ln()).abs() < 1e-9), "{:?}", differences.head);
        assert!(differences.again.iter().all(|d| d.abs() < 1e-9));
    }
}
