//! The median and the spread of samples.

use serde::{Deserialize, Serialize};

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The lower quartile.
    pub(crate) low: f64,
    /// The median.
    pub(crate) median: f64,
    /// The upper quartile.
    pub(crate) high: f64,
}

impl Summary {
    /// Summarizes samples in any order; `None` without samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| Self {
            low: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            high: quantile(&sorted, 0.75),
        })
    }
}

/// Returns the value below which `part` of the sorted samples are, interpolated linearly.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_in_any_order() {
        let median = |samples: &[f64]| Summary::of(samples).unwrap().median;
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn quartiles_enclose_the_median() {
        let summary = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        let Summary { low, median, high } = summary;
        assert_eq!([low, median, high], [2.0, 3.0, 4.0]);
    }

    #[test]
    fn one_outlier_does_not_move_the_spread() {
        let calm = Summary::of(&[10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6]).unwrap();
        let disturbed = Summary::of(&[10.0, 10.1, 10.2, 10.3, 10.4, 10.5, 99.0]).unwrap();
        assert_eq!((calm.low, calm.high), (disturbed.low, disturbed.high));
    }
}
