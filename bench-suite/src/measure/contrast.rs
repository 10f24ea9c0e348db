//! What may be said of two subjects whose samples were taken in turns.

use super::Summary;

/// Closer than this is the same: where code and data happen to lie moves more than that.
pub(crate) const WORTH_CLAIMING: f64 = 1.02;

/// With fewer rounds no difference is claimed, whatever the samples are.
const FEWEST_ROUNDS: usize = 5;

/// Two subjects side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contrast {
    /// The second subject's samples over the first one's, taken round by round: what slows a
    /// whole round down is in both, and cancels out.
    pub(crate) ratio: Summary,
    /// What follows.
    pub(crate) verdict: Verdict,
}

/// Whether two subjects differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They do: their middle halves are apart, every round agrees on which is larger, and it is
    /// larger by more than two in a hundred. Two subjects that are the same pass for different
    /// in about one of a hundred comparisons of seven rounds.
    Differ,
    /// The spreads overlap, or the rounds contradict each other, or it is too little.
    NoDifference,
    /// Nobody can tell from so few rounds.
    TooFewRounds,
}

impl Contrast {
    /// Compares samples of the same rounds; `None` where there are none, or where a ratio has
    /// no meaning because `base` has a zero.
    pub(crate) fn of(base: &[f64], other: &[f64]) -> Option<Self> {
        if base.len() != other.len() || base.iter().any(|&sample| sample <= 0.0) {
            return None;
        }
        let ratios: Vec<f64> = base.iter().zip(other).map(|(base, other)| other / base).collect();
        let ratio = Summary::of(&ratios)?;
        let apart = !Summary::of(base)?.overlaps(&Summary::of(other)?);
        let rounds_agree = ratio.min > 1.0 || ratio.max < 1.0;
        let enough = ratio.median.max(ratio.median.recip()) >= WORTH_CLAIMING;
        let verdict = match apart && rounds_agree && enough {
            _ if base.len() < FEWEST_ROUNDS => Verdict::TooFewRounds,
            true => Verdict::Differ,
            false => Verdict::NoDifference,
        };
        Some(Self { ratio, verdict })
    }

    /// The median ratio where a difference may be claimed, and 1 elsewhere.
    pub(crate) fn claimed_ratio(&self) -> f64 {
        match self.verdict {
            Verdict::Differ => self.ratio.median,
            Verdict::NoDifference | Verdict::TooFewRounds => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(base: &[f64], other: &[f64]) -> Verdict {
        Contrast::of(base, other).unwrap().verdict
    }

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        // The machine is twice as fast in the last two rounds; the ratio does not see it.
        let base = [10.0, 10.0, 10.0, 20.0, 20.0];
        let other = [11.0, 11.0, 11.0, 22.0, 22.0];
        let ratio = Contrast::of(&base, &other).unwrap().ratio;
        assert!((ratio.min - 1.1).abs() < 1e-9 && (ratio.max - 1.1).abs() < 1e-9);
    }

    #[test]
    fn overlapping_spreads_are_no_difference() {
        let base = [10.0, 11.0, 12.0, 13.0, 14.0];
        let other = [11.0, 12.0, 13.0, 14.0, 15.0];
        assert_eq!(verdict(&base, &other), Verdict::NoDifference);
        assert_eq!(verdict(&base, &base), Verdict::NoDifference);
    }

    #[test]
    fn rounds_that_contradict_each_other_are_no_difference() {
        let base = [10.0, 10.0, 10.0, 10.0, 10.0];
        let other = [12.0, 12.0, 12.0, 12.0, 9.0];
        assert_eq!(verdict(&base, &other), Verdict::NoDifference);
    }

    #[test]
    fn spreads_that_are_apart_are_a_difference_in_either_direction() {
        let slow = [10.0, 10.1, 10.2, 10.3, 10.4];
        let fast = [12.0, 12.1, 12.2, 12.3, 12.4];
        assert_eq!(verdict(&slow, &fast), Verdict::Differ);
        assert_eq!(verdict(&fast, &slow), Verdict::Differ);
        assert!(Contrast::of(&slow, &fast).unwrap().claimed_ratio() > 1.1);
    }

    #[test]
    fn too_small_a_difference_is_none() {
        assert_eq!(verdict(&[100.0; 5], &[101.0; 5]), Verdict::NoDifference);
        assert_eq!(verdict(&[100.0; 5], &[103.0; 5]), Verdict::Differ);
    }

    #[test]
    fn few_rounds_never_show_a_difference() {
        assert_eq!(verdict(&[1.0; 4], &[9.0; 4]), Verdict::TooFewRounds);
        assert_eq!(Contrast::of(&[1.0; 4], &[9.0; 4]).unwrap().claimed_ratio(), 1.0);
    }

    #[test]
    fn there_is_no_ratio_to_nothing() {
        assert!(Contrast::of(&[], &[]).is_none());
        assert!(Contrast::of(&[0.0; 5], &[1.0; 5]).is_none());
        assert!(Contrast::of(&[1.0; 5], &[1.0; 4]).is_none());
    }
}
