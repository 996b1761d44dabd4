//! What was found of each figure.
//!
//! A figure is **slower** if the interval of its change lies beyond the tolerance as a whole. All figures of a run are asked together (Holm), so that
//! the chance of any false alarm in the run is [`Rule::level`], however many rows there are. BASE again is asked in the same way; if it is found to
//! differ from itself, the machine broke what the statistics rest on, and the figure is **unsure**.

use serde::Serialize;

use crate::sample::{Metric, Sample};
use crate::stats::Summary;

use super::campaign::{Measured, Rule};
use super::matrix::change_percent;
use super::side::Role;
use super::signed_rank::{SignedRank, Step, holm};

/// The level of the interval that shows the machine's noise.
const NOISE_LEVEL: f64 = 0.025;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// No regression was found.
    Same,
    /// A regression.
    Slower,
    /// The contrary of one.
    Faster,
    /// BASE differs from itself.
    Unsure,
}

impl Finding {
    /// In tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Slower => "SLOWER",
            Self::Faster => "faster",
            Self::Unsure => "UNSURE",
        }
    }
}

/// A figure of a row, judged. Changes are in percent of the figure: -5 of a rate is worse, +5 of a latency is.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What.
    pub metric: Metric,
    /// BASE's median, and its range.
    pub base: Summary,
    /// HEAD's.
    pub head: Summary,
    /// The change from BASE to HEAD.
    pub change: f64,
    /// Its interval, lower end first, at the level at which it was judged; nothing where there are too few units for one.
    pub interval: Option<[f64; 2]>,
    /// That level, of one side.
    pub level: f64,
    /// The chance to see a change like this, or a worse one, if HEAD were slower by the tolerance.
    pub chance: f64,
    /// The change from BASE to itself.
    pub noise: f64,
    /// Its interval of 95 %.
    pub noise_interval: Option<[f64; 2]>,
    /// The smallest slowdown in percent that would have been found in four of five such runs.
    pub seen: Option<f64>,
    /// What was found.
    pub finding: Finding,
}

/// Why a row has no figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "why", rename_all = "snake_case")]
pub enum Missing {
    /// BASE does not have it.
    New(String),
    /// HEAD does not have it any more.
    Broken(String),
    /// Neither does.
    Unmeasured(String),
}

/// A row, judged.
#[derive(Clone, Debug, Serialize)]
pub struct RowVerdict {
    /// Its title.
    pub title: String,
    /// Its load.
    pub workload: crate::workload::Workload,
    /// Units that were measured.
    pub units: usize,
    /// Why it is not judged, if so.
    pub missing: Option<Missing>,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// All samples of BASE, HEAD, and BASE again.
    pub samples: [Vec<Sample>; 3],
}

/// A figure that can be asked.
struct Asked {
    row: usize,
    metric: Metric,
    head: SignedRank,
    again: SignedRank,
}

/// Judges all rows together.
pub fn judge(all: &[Measured], rule: Rule) -> Vec<RowVerdict> {
    let asked: Vec<Asked> = all.iter().enumerate().flat_map(|(at, measured)| asked(at, measured)).collect();
    let ask = |chance: &dyn Fn(&Asked) -> f64| holm(&asked.iter().map(chance).collect::<Vec<_>>(), rule.level);
    let slower = ask(&|a| a.head.chance_if_at_most(rule.margin));
    let faster = ask(&|a| a.head.chance_if_at_least(-rule.margin));
    // Either side of BASE again is an alarm.
    let noisy = ask(&|a| 2.0 * a.again.chance_if_at_most(rule.margin).min(a.again.chance_if_at_least(-rule.margin)));
    let mut rows: Vec<RowVerdict> = all.iter().map(unjudged).collect();
    for (at, figure) in asked.iter().enumerate() {
        let finding = match (noisy[at].rejected, slower[at].rejected, faster[at].rejected) {
            (true, ..) => Finding::Unsure,
            (_, true, _) => Finding::Slower,
            (_, _, true) => Finding::Faster,
            _ => Finding::Same,
        };
        // Where something was found, the interval is the one that found it.
        let step = if faster[at].rejected { faster[at] } else { slower[at] };
        let judged = figure.judged(&all[figure.row], rule, step, rule.level / asked.len() as f64, finding);
        rows[figure.row].figures.extend(judged);
    }
    rows
}

fn asked(row: usize, measured: &Measured) -> Vec<Asked> {
    let of = |metric| {
        let differences = measured.differences(metric);
        Some(Asked {
            row,
            metric,
            head: SignedRank::of(&differences.head)?,
            again: SignedRank::of(&differences.again)?,
        })
    };
    match missing(measured) {
        Some(_) => Vec::new(),
        None => measured.row.figures().into_iter().filter_map(of).collect(),
    }
}

fn missing(measured: &Measured) -> Option<Missing> {
    let [base, head, again] = &measured.failed;
    match (base.as_ref().or(again.as_ref()), head) {
        (None, None) => None,
        (Some(why), None) if measured.units.is_empty() => Some(Missing::New(why.clone())),
        (Some(why), None) => Some(Missing::Unmeasured(why.clone())),
        (None, Some(why)) => Some(Missing::Broken(why.clone())),
        (Some(_), Some(why)) => Some(Missing::Unmeasured(why.clone())),
    }
}

fn unjudged(measured: &Measured) -> RowVerdict {
    RowVerdict {
        title: measured.row.title(),
        workload: measured.row.workload,
        units: measured.units.len(),
        missing: missing(measured),
        figures: Vec::new(),
        samples: Role::ALL.map(|role| measured.samples(role).cloned().collect()),
    }
}

impl Asked {
    fn judged(&self, of: &Measured, rule: Rule, step: Step, strictest: f64, finding: Finding) -> Option<Figure> {
        let summary = |role| Summary::of(of.samples(role).filter_map(|sample| self.metric.of(sample)));
        let percent = |worse: f64| change_percent(self.metric, worse);
        let interval = |ranks: &SignedRank, level: f64| {
            let ends = [percent(ranks.lower(level)), percent(ranks.upper(level))];
            let [a, b] = if ends[0] <= ends[1] { ends } else { [ends[1], ends[0]] };
            (ranks.lower(level).is_finite()).then_some([a, b])
        };
        let seen = self.head.seen(rule.margin, strictest);
        Some(Figure {
            metric: self.metric,
            base: summary(Role::Base)?,
            head: summary(Role::Head)?,
            change: percent(self.head.estimate()),
            interval: interval(&self.head, step.level),
            level: step.level,
            chance: self.head.chance_if_at_most(rule.margin),
            noise: percent(self.again.estimate()),
            noise_interval: interval(&self.again, NOISE_LEVEL),
            seen: seen.is_finite().then(|| 100.0 * (seen.exp() - 1.0)),
            finding,
        })
    }
}
