//! Compares two subjects whose samples were taken in the same rounds, or in two runs.

use serde::{Deserialize, Serialize};

use super::rounds::FEWEST_ROUNDS;
use super::{Placed, Summary, ratios};

/// A ratio from 1 / this to this is no difference: the placement of code and data in memory has
/// effects of this size.
pub(crate) const MARGIN: f64 = 1.03;

/// The number of times that the rounds are redrawn, with replacement, for the interval (the
/// percentile bootstrap over processes). The draws are the same in every run: the same samples give
/// the same interval. Each row is drawn independently.
const DRAWS: usize = 10_000;

/// The share of the draws' medians within the interval.
const COVERAGE: f64 = 0.95;

/// The comparison of two subjects.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    /// The median of the ratios of the second subject's samples to the first one's, round by round:
    /// a disturbance of a whole round affects both, and cancels out. (For samples of several
    /// placements see [`ratios`].)
    pub(crate) ratio: f64,
    /// The 95 % bootstrap interval of that median.
    pub(crate) interval: Interval,
    /// The verdict.
    pub(crate) verdict: Verdict,
}

/// From low to high, both included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// The position of an interval of ratios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The whole interval is above the margin.
    Above,
    /// The whole interval is below 1 / the margin.
    Below,
    /// The whole interval is between the two.
    Within,
    /// The interval crosses a threshold.
    Across,
}

impl Interval {
    /// Returns the position for a margin above 1.
    pub(crate) fn side(&self, margin: f64) -> Side {
        let least = margin.recip();
        match () {
            () if self.low > margin => Side::Above,
            () if self.high < least => Side::Below,
            () if self.low >= least && self.high <= margin => Side::Within,
            () => Side::Across,
        }
    }
}

/// The verdict on two subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// They differ: the whole interval is beyond 3 % on one side.
    Differ,
    /// They do not differ: the whole interval is within 3 %.
    NoDifference,
    /// The interval crosses a threshold.
    NotToldApart,
    /// There are too few rounds for a verdict.
    TooFewRounds,
}

impl Comparison {
    /// Compares samples of the same rounds; `None` if there are none, or one of them is zero.
    pub(crate) fn of(base: Placed<'_>, other: Placed<'_>) -> Option<Self> {
        Self::of_groups(&[vec![ratios(base, other)?]])
    }

    /// Returns the geometric mean over groups of rows. Each group has the same weight, as has each
    /// row in its group; a row consists of ratios of the same two subjects, one for each round.
    /// `None` if a group or a row is empty.
    pub(crate) fn of_groups(groups: &[Vec<Vec<f64>>]) -> Option<Self> {
        let mean = |middle: &mut dyn FnMut(&[f64]) -> Option<f64>| {
            let mut sum = 0.0;
            for group in groups {
                for row in group {
                    sum += middle(row)?.ln() / (group.len() * groups.len()) as f64;
                }
            }
            Some(sum.exp())
        };
        if groups.is_empty() || groups.iter().any(Vec::is_empty) {
            return None;
        }
        let ratio = mean(&mut |row| Some(Summary::of(row)?.median))?;
        let mut rng = fastrand::Rng::with_seed(1);
        let mut drawn = Vec::new();
        let mut draw = |row: &[f64]| {
            drawn.clear();
            drawn.extend(row.iter().map(|_| row[rng.usize(..row.len())]));
            Some(Summary::of(&drawn)?.median)
        };
        let mut means: Vec<f64> = (0..DRAWS).map_while(|_| mean(&mut draw)).collect();
        let rounds = groups.iter().flatten().map(Vec::len).min().unwrap_or(0);
        Self::judge(ratio, &mut means, rounds)
    }

    /// Compares the medians of several runs with those of other runs. The interval has the ratios
    /// of all pairs of a run and another, so they differ if each of the others is beyond each of
    /// the first, and the ratio of the medians is beyond `margin`. `None` if a side is empty or has
    /// a zero.
    pub(crate) fn of_runs(base: &[f64], other: &[f64], margin: f64) -> Option<Self> {
        if base.iter().chain(other).any(|&value| value <= 0.0) {
            return None;
        }
        let ratio = Summary::of(other)?.median / Summary::of(base)?.median;
        let pairs = base.iter().flat_map(|base| other.iter().map(move |other| other / base));
        let (low, high) = (pairs.clone().reduce(f64::min)?, pairs.reduce(f64::max)?);
        let interval = Interval { low, high };
        let is_separate = interval.low > 1.0 || interval.high < 1.0;
        let verdict = match interval.side(margin) {
            Side::Within => Verdict::NoDifference,
            _ if is_separate && !(margin.recip()..=margin).contains(&ratio) => Verdict::Differ,
            _ => Verdict::NotToldApart,
        };
        Some(Self { ratio, interval, verdict })
    }

    /// Judges a ratio by the results of all draws.
    fn judge(ratio: f64, drawn: &mut [f64], rounds: usize) -> Option<Self> {
        drawn.sort_by(f64::total_cmp);
        let beyond = (DRAWS as f64 * (1.0 - COVERAGE) / 2.0) as usize;
        let interval = Interval { low: *drawn.get(beyond)?, high: *drawn.get(DRAWS - 1 - beyond)? };
        let verdict = match interval.side(MARGIN) {
            _ if rounds < FEWEST_ROUNDS => Verdict::TooFewRounds,
            Side::Above | Side::Below => Verdict::Differ,
            Side::Within => Verdict::NoDifference,
            Side::Across => Verdict::NotToldApart,
        };
        Some(Self { ratio, interval, verdict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(base: &[f64], other: &[f64]) -> Option<Comparison> {
        Comparison::of(Placed::anywhere(base), Placed::anywhere(other))
    }

    fn verdict(base: &[f64], other: &[f64]) -> Verdict {
        compare(base, other).unwrap().verdict
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        // The machine is twice as fast in the last rounds; the ratio is unaffected.
        let base = [10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0];
        let other = base.map(|sample| sample * 1.1);
        let comparison = compare(&base, &other).unwrap();
        assert!((comparison.ratio - 1.1).abs() < 1e-9 && comparison.verdict == Verdict::Differ);
        let Interval { low, high } = comparison.interval;
        assert!((low - 1.1).abs() < 1e-9 && (high - 1.1).abs() < 1e-9);
    }

    #[test]
    fn an_interval_within_the_margin_is_no_difference() {
        let base = [100.0; 9];
        let near = [98.0, 99.0, 99.5, 100.0, 100.0, 100.5, 101.0, 101.5, 102.0];
        assert_eq!(verdict(&base, &near), Verdict::NoDifference);
    }

    #[test]
    fn an_interval_beyond_the_margin_is_a_difference_in_either_direction() {
        let slow = [10.0, 10.1, 10.2, 10.3, 10.4, 10.1, 10.2];
        let fast = [12.0, 12.1, 12.2, 12.3, 12.4, 12.1, 12.2];
        assert_eq!(verdict(&slow, &fast), Verdict::Differ);
        assert_eq!(verdict(&fast, &slow), Verdict::Differ);
    }

    #[test]
    fn an_interval_across_the_margin_is_not_told_apart() {
        let base = [10.0; 7];
        let wild = [9.0, 11.0, 12.0, 10.0, 8.0, 13.0, 10.5];
        assert_eq!(verdict(&base, &wild), Verdict::NotToldApart);
        // All rounds agree that the second is larger, but not that it is larger by 3 %.
        let larger = [10.1, 10.2, 10.5, 10.6, 10.2, 10.4, 10.3];
        assert_eq!(verdict(&base, &larger), Verdict::NotToldApart);
    }

    /// As docs/METHODOLOGY.md says.
    #[test]
    fn an_interval_excludes_the_extreme_rounds_and_no_others() {
        for rounds in [7_u8, 9] {
            let samples: Vec<f64> = (1..=rounds).map(f64::from).collect();
            let base = vec![1.0; samples.len()];
            let Interval { low, high } = compare(&base, &samples).unwrap().interval;
            assert!((low - 2.0).abs() < 1e-9, "{rounds} rounds: {low}");
            assert!((high - f64::from(rounds - 1)).abs() < 1e-9, "{rounds} rounds: {high}");
        }
    }

    #[test]
    fn one_wild_round_does_not_decide() {
        let base = [10.0; 7];
        let mut other = [12.0; 7];
        other[3] = 5.0;
        assert_eq!(verdict(&base, &other), Verdict::Differ);
    }

    #[test]
    fn too_few_rounds_give_no_verdict() {
        assert_eq!(verdict(&[1.0; 6], &[9.0; 6]), Verdict::TooFewRounds);
    }

    /// With noise of 5 %, runs of 7 rounds claim a difference between two identical subjects in
    /// fewer than 2 of 100 runs.
    #[test]
    fn two_identical_subjects_seldom_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut noisy = || -> [f64; 7] {
            std::array::from_fn(|_| {
                let sum: f64 = (0..12).map(|_| rng.f64()).sum();
                100.0 * (1.0 + 0.05 * (sum - 6.0))
            })
        };
        let differ = (0..300).filter(|_| verdict(&noisy(), &noisy()) == Verdict::Differ).count();
        assert!(differ <= 6, "{differ} of 300");
    }

    #[test]
    fn there_is_no_ratio_without_samples_or_with_zeros() {
        assert!(compare(&[], &[]).is_none());
        assert!(compare(&[0.0; 7], &[1.0; 7]).is_none());
        assert!(compare(&[1.0; 7], &[0.0; 7]).is_none());
        assert!(compare(&[1.0; 7], &[1.0; 6]).is_none());
    }

    #[test]
    fn runs_differ_if_each_of_the_others_is_beyond_each_of_the_first() {
        let of = |base: &[f64], other: &[f64], margin| Comparison::of_runs(base, other, margin);
        let verdict =
            |other: &[f64], margin| of(&[10.0, 10.3, 10.1], other, margin).unwrap().verdict;
        assert_eq!(verdict(&[11.0, 10.9, 10.4], 1.03), Verdict::Differ);
        assert_eq!(verdict(&[9.0, 9.9, 9.1], 1.03), Verdict::Differ);
        assert_eq!(verdict(&[11.0, 10.9, 10.2], 1.03), Verdict::NotToldApart, "one is between");
        assert_eq!(verdict(&[10.32, 10.4, 10.31], 1.03), Verdict::NotToldApart, "too near");
        assert_eq!(verdict(&[11.0, 10.9, 10.4], 1.2), Verdict::NoDifference);
        assert!(of(&[0.0], &[1.0], 1.03).is_none() && of(&[], &[1.0], 1.03).is_none());
    }

    #[test]
    fn groups_have_equal_weight_for_any_number_of_rows() {
        let row = |ratio: f64| vec![ratio; 7];
        let (one, many) = (vec![row(4.0)], vec![row(1.0), row(1.0), row(1.0)]);
        let ratio = Comparison::of_groups(&[one, many]).unwrap().ratio;
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
        assert!(Comparison::of_groups(&[vec![row(2.0)], vec![]]).is_none());
        assert!(Comparison::of_groups(&[]).is_none());
    }
}
