//! What a row has to reach, and the verdict.
//!
//! Ratios of two contenders in the same rounds are judged, and so are bounds that hold on any machine (an idle target). A rate that was set
//! on another CPU is shown beside the result and never judged.

use serde::Serialize;

use crate::sample::{Metric, Sample};
use crate::stats::Summary;

/// The CPU for which the absolute targets were set.
pub const REFERENCE_CPU: &str = "Zen 5";

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The value or more.
    AtLeast(f64),
    /// The value or less.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    /// How far a value lies on the wrong side, in percent of the bound.
    fn missing_percent(self, value: f64) -> f64 {
        match self {
            Self::AtLeast(bound) => 100.0 * (bound - value) / bound,
            Self::AtMost(bound) => 100.0 * (value - bound) / bound,
        }
    }

    fn show(self, value: impl Fn(f64) -> String) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {}", value(bound)),
            Self::AtMost(bound) => format!("≤ {}", value(bound)),
        }
    }
}

/// What a row has to reach.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A contender against another one.
    Ratio {
        /// What is compared.
        metric: Metric,
        /// Who has to reach it.
        ours: &'static str,
        /// Against whom.
        rival: &'static str,
        /// The ratio.
        bound: Bound,
    },
    /// A bound that holds on any machine.
    Value {
        /// What is bounded.
        metric: Metric,
        /// Who has to reach it.
        ours: &'static str,
        /// The bound.
        bound: Bound,
    },
    /// A rate that was set on [`REFERENCE_CPU`]: shown, not judged.
    Reference {
        /// What is bounded.
        metric: Metric,
        /// Who has to reach it.
        ours: &'static str,
        /// The rate.
        bound: Bound,
    },
}

/// The answer to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Reached.
    Pass,
    /// Missed.
    Short,
    /// A side was not measured.
    NotMeasured,
    /// Not judged.
    Shown,
}

/// A target, its answer, and both in words.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// The target.
    pub target: Target,
    /// The ratio or value that was reached, over the rounds.
    pub reached: Option<Summary>,
    /// The answer.
    pub verdict: Verdict,
    /// What was compared: `strongroom / qemu LUKS IOPS`.
    pub subject: String,
    /// The result in words: `2.41 (2.38..2.50), target ≥ 2.00: PASS`.
    pub words: String,
}

impl Target {
    /// Judges the samples of a row. `samples` gives a contender's samples, one for each round.
    pub fn judge<'a>(&self, samples: impl Fn(&str) -> &'a [Option<Sample>]) -> Judgement {
        let values = |name: &str, metric: Metric| -> Vec<Option<f64>> {
            samples(name).iter().map(|s| s.as_ref().and_then(|s| metric.of(s))).collect()
        };
        match *self {
            Self::Ratio { metric, ours, rival, bound } => {
                let reached = Summary::of_ratios(values(ours, metric).into_iter().zip(values(rival, metric)));
                self.judgement(format!("{ours} / {rival}, {}", metric.name()), reached, bound, true, |v| {
                    format!("{v:.2}")
                })
            }
            Self::Value { metric, ours, bound } => {
                let reached = Summary::of(values(ours, metric).into_iter().flatten());
                self.judgement(format!("{ours}, {}", metric.name()), reached, bound, true, |v| metric.show(v))
            }
            Self::Reference { metric, ours, bound } => {
                let reached = Summary::of(values(ours, metric).into_iter().flatten());
                self.judgement(format!("{ours}, {}", metric.name()), reached, bound, false, |v| metric.show(v))
            }
        }
    }

    fn judgement(
        &self,
        subject: String,
        reached: Option<Summary>,
        bound: Bound,
        judged: bool,
        show: impl Fn(f64) -> String,
    ) -> Judgement {
        let wanted = bound.show(&show);
        let (verdict, words) = match reached {
            None => (Verdict::NotMeasured, format!("target {wanted}: NOT MEASURED")),
            Some(r) if !judged => {
                let values = range(r, &show);
                (
                    Verdict::Shown,
                    format!(
                        "{values}, target on {REFERENCE_CPU} {wanted} (shown, not judged: it moves with clock and load)"
                    ),
                )
            }
            Some(r) => {
                let verdict = if bound.holds(r.median) { Verdict::Pass } else { Verdict::Short };
                let result = match verdict {
                    Verdict::Pass => "PASS".to_owned(),
                    _ => format!("SHORT by {:.1} %", bound.missing_percent(r.median)),
                };
                let divided = bound.holds(r.min) != bound.holds(r.max);
                let doubt = if divided { " (rounds disagree)" } else { "" };
                (verdict, format!("{}, target {wanted}: {result}{doubt}", range(r, &show)))
            }
        };
        Judgement { target: self.clone(), reached, verdict, subject, words }
    }
}

fn range(summary: Summary, show: impl Fn(f64) -> String) -> String {
    format!("{} ({}..{})", show(summary.median), show(summary.min), show(summary.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Vec<Option<Sample>> {
        values.iter().map(|&v| Some(Sample { iops: Some(v), ..Sample::default() })).collect()
    }

    fn judge(bound: Bound, ours: &[f64], rival: &[f64]) -> Judgement {
        let (ours, rival) = (rounds(ours), rounds(rival));
        let target = Target::Ratio { metric: Metric::Iops, ours: "a", rival: "b", bound };
        target.judge(|name| if name == "a" { &ours[..] } else { &rival[..] })
    }

    #[test]
    fn a_ratio_passes_or_is_short() {
        let pass = judge(Bound::AtLeast(2.0), &[220.0, 210.0], &[100.0, 100.0]);
        assert_eq!((pass.verdict, pass.words.as_str()), (Verdict::Pass, "2.15 (2.10..2.20), target ≥ 2.00: PASS"));
        let short = judge(Bound::AtLeast(2.0), &[180.0, 180.0], &[100.0, 100.0]);
        assert_eq!(short.verdict, Verdict::Short);
        assert!(short.words.ends_with("SHORT by 10.0 %"), "{}", short.words);
        assert_eq!(judge(Bound::AtMost(1.05), &[104.0], &[100.0]).verdict, Verdict::Pass);
        assert_eq!(judge(Bound::AtMost(1.05), &[106.0], &[100.0]).verdict, Verdict::Short);
    }

    #[test]
    fn rounds_on_both_sides_of_the_bound_are_told() {
        let judgement = judge(Bound::AtLeast(1.0), &[90.0, 110.0, 120.0], &[100.0, 100.0, 100.0]);
        assert_eq!(judgement.verdict, Verdict::Pass);
        assert!(judgement.words.ends_with("PASS (rounds disagree)"), "{}", judgement.words);
    }

    #[test]
    fn a_side_that_was_not_measured_is_told() {
        assert_eq!(judge(Bound::AtLeast(1.0), &[], &[100.0]).verdict, Verdict::NotMeasured);
    }

    #[test]
    fn a_rate_from_another_cpu_is_not_judged() {
        let ours = rounds(&[1e6]);
        let target = Target::Reference { metric: Metric::Iops, ours: "a", bound: Bound::AtLeast(1.9e6) };
        let judgement = target.judge(|_| &ours[..]);
        assert_eq!(judgement.verdict, Verdict::Shown);
        assert!(judgement.words.contains("target on Zen 5 ≥ 1.90M"), "{}", judgement.words);
    }
}
