//! The statistics of a row: medians, ranges, and ratios of contenders that were measured in the same round.
//!
//! A ratio is taken round by round and only then reduced to its median: what slows the machine down for a while slows both contenders of
//! a round alike, and cancels.

use serde::Serialize;

/// The middle of some values and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Of some values; nothing if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = sorted[sorted.len() / 2];
        let lower = sorted[(sorted.len() - 1) / 2];
        Some(Self { median: (lower + upper) / 2.0, min, max })
    }

    /// Of the ratios of paired values. A round in which either side is missing, or the second is zero, is left out.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (Option<f64>, Option<f64>)>) -> Option<Self> {
        Self::of(pairs.into_iter().filter_map(|(ours, rival)| match (ours?, rival?) {
            (_, 0.0) => None,
            (ours, rival) => Some(ours / rival),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_one_of_them() {
        assert_eq!(Summary::of([3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is twice as slow in the second round; the ratio does not notice.
        let ratios = Summary::of_ratios([(Some(200.0), Some(100.0)), (Some(100.0), Some(50.0))]).unwrap();
        assert_eq!(ratios, Summary { median: 2.0, min: 2.0, max: 2.0 });
    }

    #[test]
    fn a_round_with_a_missing_side_is_left_out() {
        let ratios = Summary::of_ratios([(Some(3.0), Some(1.0)), (None, Some(1.0)), (Some(1.0), Some(0.0))]).unwrap();
        assert_eq!(ratios.median, 3.0);
        assert_eq!(Summary::of_ratios([(None, None)]), None);
    }
}
