//! A row: one workload, the contenders in it, and the targets; and the runner that interleaves the contenders.
//!
//! Holds always: in each round every contender is measured once, and the order turns round from one round to the next (ABBA), so that
//! neither a drift of the machine nor the place in the order favours one. A contender that fails is left out from then on, with the reason.

use serde::Serialize;

use crate::contender::AnyContender;
use crate::failure::{Failure, Result};
use crate::interrupt;
use crate::lab::Lab;
use crate::quiet::CoreTimes;
use crate::sample::{Metric, Sample};
use crate::stats::Summary;
use crate::target::{Judgement, Target};
use crate::workload::Workload;

/// A row to be measured.
pub struct Row {
    /// What is measured on, without the workload: `memory, AES-256-XTS, 4096-byte sectors`.
    pub subject: String,
    /// What is asked; nothing for a target without load.
    pub workload: Option<Workload>,
    /// The contenders, ours first.
    pub contenders: Vec<AnyContender>,
    /// What has to be reached.
    pub targets: Vec<Target>,
}

/// A row that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    /// Subject and workload.
    pub title: String,
    /// The workload.
    pub workload: Option<Workload>,
    /// The contenders that were measured.
    pub contenders: Vec<ContenderResult>,
    /// The contenders that were not, and why.
    pub left_out: Vec<LeftOut>,
    /// The targets and their answers.
    pub judgements: Vec<Judgement>,
}

/// A contender's samples.
#[derive(Clone, Debug, Serialize)]
pub struct ContenderResult {
    /// Its name.
    pub name: String,
    /// One for each round; nothing where the measurement failed.
    pub samples: Vec<Option<Sample>>,
}

/// A contender that was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
}

impl ContenderResult {
    /// A metric over its rounds.
    pub fn summary(&self, metric: Metric) -> Option<Summary> {
        Summary::of(self.values(metric).into_iter().flatten())
    }

    /// A metric in each round.
    pub fn values(&self, metric: Metric) -> Vec<Option<f64>> {
        self.samples.iter().map(|s| s.as_ref().and_then(|s| metric.of(s))).collect()
    }

    /// The medians of its latency percentiles over the rounds; empty if it does not tell its latency.
    pub fn latency(&self) -> Vec<(&'static str, f64)> {
        let rounds: Vec<_> = self.samples.iter().flatten().filter_map(|s| s.latency_us.map(|l| l.points())).collect();
        let names = rounds.first().map(|points| points.map(|(name, _)| name)).into_iter().flatten();
        names
            .enumerate()
            .filter_map(|(i, name)| Some((name, Summary::of(rounds.iter().map(|points| points[i].1))?.median)))
            .collect()
    }

    /// The median CPU time of one I/O in microseconds.
    pub fn cpu_us_per_io(&self) -> Option<f64> {
        let of = |s: &Sample| Some(s.cpu?.percent() / 100.0 * 1e6 / s.iops?);
        Some(Summary::of(self.samples.iter().flatten().filter_map(of))?.median)
    }

    /// The largest share of stolen time in a round.
    pub fn steal_percent_most(&self) -> f64 {
        self.samples.iter().flatten().map(|s| s.steal_percent).fold(0.0, f64::max)
    }

    /// What it told about itself.
    pub fn note(&self) -> Option<&str> {
        self.samples.iter().flatten().find_map(|s| s.note.as_deref())
    }
}

impl RowResult {
    /// What is shown of a row without load: memory, time or latency where that was measured, or else CPU time.
    pub fn idle_metric(&self) -> Metric {
        let is_measured = |metric: &Metric| self.contenders.iter().any(|c| c.summary(*metric).is_some());
        [Metric::Memory, Metric::Time, Metric::P50].into_iter().find(is_measured).unwrap_or(Metric::CpuPercent)
    }
}

impl Row {
    /// Subject and workload.
    pub fn title(&self) -> String {
        match self.workload {
            Some(workload) => format!("{}, {workload}", self.subject),
            None => self.subject.clone(),
        }
    }

    /// Measures the row. Servers and whatever else it started are gone when this returns.
    pub fn run(mut self, lab: &Lab, rounds: usize) -> Result<RowResult> {
        let mut left_out = Vec::new();
        let mut entrants = Vec::new();
        for mut contender in std::mem::take(&mut self.contenders) {
            interrupt::check()?;
            match contender.prepare(lab) {
                Ok(()) => entrants.push(Entrant { contender, samples: Vec::new(), broken: None }),
                Err(failure) => left_out.push(LeftOut { name: contender.name().into(), why: failure.to_string() }),
            }
        }
        for round in 0..rounds {
            for at in order(round, entrants.len()) {
                interrupt::check()?;
                entrants[at].measure(lab, self.workload, round, rounds);
            }
        }
        interrupt::check()?;
        Ok(self.result(entrants, left_out))
    }

    fn result(self, entrants: Vec<Entrant>, mut left_out: Vec<LeftOut>) -> RowResult {
        let mut contenders = Vec::new();
        for entrant in entrants {
            let name = entrant.contender.name().to_owned();
            if let Some(failure) = entrant.broken {
                left_out.push(LeftOut { name: name.clone(), why: failure.to_string() });
            }
            if entrant.samples.iter().any(Option::is_some) {
                contenders.push(ContenderResult { name, samples: entrant.samples });
            }
        }
        let samples = |name: &str| contenders.iter().find(|c| c.name == name).map_or(&[][..], |c| &c.samples[..]);
        let judgements = self.targets.iter().map(|t| t.judge(samples)).collect();
        RowResult { title: self.title(), workload: self.workload, judgements, contenders, left_out }
    }
}

/// A contender while its row runs.
struct Entrant {
    contender: AnyContender,
    samples: Vec<Option<Sample>>,
    broken: Option<Failure>,
}

impl Entrant {
    fn measure(&mut self, lab: &Lab, workload: Option<Workload>, round: usize, rounds: usize) {
        if self.broken.is_some() {
            self.samples.push(None);
            return;
        }
        let name = self.contender.name();
        match with_steal(|| self.contender.measure(lab, workload)) {
            Ok(sample) => {
                let shown = [Metric::Iops, Metric::Memory, Metric::Time, Metric::CpuPercent]
                    .into_iter()
                    .find_map(|m| Some(m.show(m.of(&sample)?)));
                eprintln!("    round {}/{rounds}  {name}: {}", round + 1, shown.unwrap_or_default());
                self.samples.push(Some(sample));
            }
            Err(failure) => {
                eprintln!("    round {}/{rounds}  {name}: {failure}", round + 1);
                self.samples.push(None);
                self.broken = Some(failure);
            }
        }
    }
}

/// The order in a round: forwards, then backwards.
fn order(round: usize, contenders: usize) -> Vec<usize> {
    match round.is_multiple_of(2) {
        true => (0..contenders).collect(),
        false => (0..contenders).rev().collect(),
    }
}

fn with_steal(measure: impl FnOnce() -> Result<Sample>) -> Result<Sample> {
    let before = CoreTimes::now()?;
    let sample = measure()?;
    Ok(Sample { steal_percent: before.steal_percent(CoreTimes::now()?), ..sample })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Latency;

    #[test]
    fn the_order_turns_round() {
        assert_eq!([order(0, 2), order(1, 2), order(2, 2)], [vec![0, 1], vec![1, 0], vec![0, 1]]);
    }

    #[test]
    fn percentiles_are_medians_over_the_rounds() {
        let sample = |p99: f64| {
            let latency = Latency { mean: 1.0, p50: 1.0, p90: 2.0, p99, p99_9: 50.0, p99_99: 60.0, max: 70.0 };
            Some(Sample { latency_us: Some(latency), ..Sample::default() })
        };
        let result = ContenderResult { name: "a".into(), samples: vec![sample(3.0), None, sample(5.0), sample(4.0)] };
        assert_eq!(result.latency()[2], ("p99", 4.0));
        assert_eq!(result.latency().len(), 6);
        assert!(ContenderResult { name: "b".into(), samples: vec![None] }.latency().is_empty());
    }
}
