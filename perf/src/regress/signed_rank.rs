//! The statistics of paired differences: Wilcoxon's signed ranks, with the exact distribution.
//!
//! Used because it asks for little: differences that are independent from one unit to the next, and as likely to lie so far above the true
//! one as below it, which the order within a unit sees to. A few wild units, as a shared machine has them, move it hardly.
//!
//! Facts: Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods* (3rd edition, 2014), sections 3.1 (test), 3.2 (Hodges and Lehmann's
//! estimate: the median of Walsh's averages) and 3.3 (Tukey's interval: averages counted from either end). Several figures at once: S. Holm,
//! "A simple sequentially rejective multiple test procedure", *Scandinavian Journal of Statistics* 6 (1979), pages 65-70.

/// Paired differences, ready to be asked.
pub struct SignedRank {
    /// Averages of each two differences, and of each with itself, in order.
    averages: Vec<f64>,
    /// The chance that so many averages or fewer lie below the true difference.
    chance: Vec<f64>,
}

impl SignedRank {
    /// Of some differences; nothing if there are none or one is no number.
    pub fn of(differences: &[f64]) -> Option<Self> {
        if differences.is_empty() || differences.iter().any(|d| !d.is_finite()) {
            return None;
        }
        let pairs =
            differences.iter().enumerate().flat_map(|(i, a)| differences[i..].iter().map(move |b| (a + b) / 2.0));
        let mut averages: Vec<f64> = pairs.collect();
        averages.sort_by(f64::total_cmp);
        Some(Self { averages, chance: chances(differences.len()) })
    }

    /// Hodges and Lehmann's estimate.
    pub fn estimate(&self) -> f64 {
        let (n, a) = (self.averages.len(), &self.averages);
        (a[(n - 1) / 2] + a[n / 2]) / 2.0
    }

    /// How probable differences like these, or larger ones, are if the true difference is `shift` at most.
    pub fn chance_if_at_most(&self, shift: f64) -> f64 {
        self.chance[self.averages.partition_point(|&a| a <= shift)]
    }

    /// How probable differences like these, or smaller ones, are if the true difference is `shift` at least.
    pub fn chance_if_at_least(&self, shift: f64) -> f64 {
        let below = self.averages.partition_point(|&a| a < shift);
        self.chance[self.averages.len() - below]
    }

    /// What the true difference is larger than, but for a chance of `level`. It is larger than `shift` by this just when
    /// [`chance_if_at_most`](Self::chance_if_at_most) of `shift` is no more than `level`.
    pub fn lower(&self, level: f64) -> f64 {
        self.cut(level).map_or(f64::NEG_INFINITY, |at| self.averages[at])
    }

    /// What the true difference is smaller than, but for a chance of `level`.
    pub fn upper(&self, level: f64) -> f64 {
        self.cut(level).map_or(f64::INFINITY, |at| self.averages[self.averages.len() - 1 - at])
    }

    /// A true difference of this size above `margin` is found at `level` in four of five runs that are as noisy as this one: the width of
    /// the interval at that level, and that of the chance of one in five.
    pub fn seen(&self, margin: f64, level: f64) -> f64 {
        let half = |level: f64| (self.upper(level) - self.lower(level)) / 2.0;
        margin + half(level) + half(MISSED)
    }

    /// How many averages may lie on the wrong side.
    fn cut(&self, level: f64) -> Option<usize> {
        self.chance.partition_point(|&chance| chance <= level).checked_sub(1)
    }
}

/// The chance to miss a difference that "would be seen".
const MISSED: f64 = 0.2;

/// The distribution of the rank sum of `n` differences: each rank belongs to one of either sign, like the faces of a coin.
fn chances(n: usize) -> Vec<f64> {
    let mut exactly = vec![0.0; n * (n + 1) / 2 + 1];
    exactly[0] = 1.0;
    for rank in 1..=n {
        for sum in (0..exactly.len()).rev() {
            let with = sum.checked_sub(rank).map_or(0.0, |rest| exactly[rest]);
            exactly[sum] = (exactly[sum] + with) / 2.0;
        }
    }
    exactly
        .into_iter()
        .scan(0.0, |sum, chance| {
            *sum += chance;
            Some(*sum)
        })
        .collect()
}

/// What Holm's procedure says about one of several questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The level at which it was asked.
    pub level: f64,
    /// Whether its hypothesis is rejected.
    pub rejected: bool,
}

/// Holm's procedure: the chance to reject any true hypothesis of all of these is `level` at most.
pub fn holm(chances: &[f64], level: f64) -> Vec<Step> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|&a, &b| chances[a].total_cmp(&chances[b]));
    let mut steps = vec![Step { level, rejected: false }; chances.len()];
    let mut stopped = None;
    for (place, &at) in order.iter().enumerate() {
        let asked = stopped.unwrap_or(level / (chances.len() - place) as f64);
        let rejected = stopped.is_none() && chances[at] <= asked;
        if !rejected {
            stopped = Some(asked);
        }
        steps[at] = Step { level: asked, rejected };
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_the_one_of_the_tables() {
        // Hollander, Wolfe and Chicken, table A.4: n = 5, P(T+ >= 15) = 0.031, P(T+ >= 12) = 0.156.
        let five = chances(5);
        assert_eq!(five[0], 1.0 / 32.0);
        assert!((five[3] - 0.15625).abs() < 1e-12);
        assert!((chances(10)[10] - 0.0419921875).abs() < 1e-12);
        assert!((chances(40).last().unwrap() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_estimate_is_the_median_of_the_averages() {
        // Averages of 1, 2, 6: 1, 1.5, 2, 3.5, 4, 6.
        let three = SignedRank::of(&[1.0, 6.0, 2.0]).unwrap();
        assert_eq!(three.estimate(), 2.75);
        assert_eq!(three.lower(0.125), 1.0);
        assert_eq!(three.upper(0.125), 6.0);
        assert_eq!(three.lower(0.1), f64::NEG_INFINITY);
        assert!(SignedRank::of(&[]).is_none() && SignedRank::of(&[f64::NAN]).is_none());
    }

    #[test]
    fn test_and_interval_say_the_same() {
        let differences: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 20) - 6.0).collect();
        let ranks = SignedRank::of(&differences).unwrap();
        for level in [0.001, 0.01, 0.05, 0.2] {
            for shift in (-20..20).map(|i| f64::from(i) / 2.0 + 0.1) {
                assert_eq!(ranks.lower(level) > shift, ranks.chance_if_at_most(shift) <= level, "{level} {shift}");
                assert_eq!(ranks.upper(level) < shift, ranks.chance_if_at_least(shift) <= level, "{level} {shift}");
            }
        }
    }

    #[test]
    fn one_wild_difference_moves_little() {
        let mut differences: Vec<f64> = (0..21).map(|i| f64::from(i - 10) / 100.0).collect();
        differences[20] = 50.0;
        assert!(SignedRank::of(&differences).unwrap().estimate().abs() < 0.02);
    }

    #[test]
    fn holm_stops_at_the_first_that_stands() {
        // The example's levels are 0.0125, 0.0167, 0.025 and 0.05.
        let steps = holm(&[0.01, 0.04, 0.03, 0.005], 0.05);
        assert_eq!(steps.iter().map(|s| s.rejected).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(steps[3].level, 0.0125);
        assert_eq!((steps[1].level, steps[2].level), (0.025, 0.025));
        assert!(holm(&[], 0.05).is_empty());
    }
}
