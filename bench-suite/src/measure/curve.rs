//! Samples with more than one number: a course over time, or a distribution of times.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The most points of a timeline. Beyond that, pairs of points are merged.
const MOST_POINTS: usize = 200;

/// The quantiles of a distribution that are kept.
const QUANTILES: [f64; 13] =
    [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// Values of a metric along another quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// The quantity on the other axis.
    pub(crate) over: Over,
    /// Pairs of place and value, in the unit of the metric, by ascending place.
    pub(crate) points: Vec<[f64; 2]>,
}

/// The other axis of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// Seconds since the sample began, without its warm-up. Each value covers the time since the
    /// previous point.
    TimeS,
    /// The share of all timed calls, from 0 to 1, that took no longer than the value.
    Quantile,
}

impl Curve {
    /// Returns the distribution of values in any order; `None` without values.
    pub(crate) fn distribution(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let value_at = |part: f64| sorted[(part * last as f64).ceil() as usize];
        Self::from_quantiles(sorted.len() as u64, value_at)
    }

    /// Returns the distribution of so many values by their quantiles; `None` without values.
    pub(crate) fn from_quantiles(values: u64, value_at: impl Fn(f64) -> f64) -> Option<Self> {
        // A quantile within one call of the end equals the largest value.
        let known = |part: &f64| *part == 1.0 || (1.0 - part) * values as f64 >= 1.0;
        let points = QUANTILES.into_iter().filter(known).map(|part| [part, value_at(part)]);
        (values > 0).then(|| Self { over: Over::Quantile, points: points.collect() })
    }
}

/// The course of a sample: operations done and memory held, observed at intervals.
#[derive(Debug)]
pub(crate) struct Timeline {
    seen: Vec<Seen>,
    /// The number of observations per point.
    stride: usize,
    looks: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    operations: u64,
    /// The peak since the previous point.
    bytes: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { seen: Vec::new(), stride: 1, looks: 0 }
    }
}

impl Timeline {
    /// Records the number of operations so far, and the bytes held.
    pub(crate) fn note(&mut self, operations: u64, bytes: u64) {
        self.note_at(Instant::now(), operations, bytes);
    }

    fn note_at(&mut self, at: Instant, operations: u64, bytes: u64) {
        let now = Seen { at, operations, bytes };
        match self.seen.last_mut() {
            // The first point is the origin of time.
            Some(last) if self.looks > 1 && !(self.looks - 1).is_multiple_of(self.stride) => {
                *last = Seen { bytes: last.bytes.max(bytes), ..now };
            }
            _ => self.seen.push(now),
        }
        self.looks += 1;
        if self.seen.len() > MOST_POINTS {
            self.halve();
        }
    }

    /// Merges each pair of points after the first point.
    fn halve(&mut self) {
        let Some((first, rest)) = self.seen.split_first() else { return };
        let pairs = rest.chunks(2).filter_map(|pair| {
            let bytes = pair.iter().map(|seen| seen.bytes).max()?;
            Some(Seen { bytes, ..*pair.last()? })
        });
        self.seen = std::iter::once(*first).chain(pairs).collect();
        self.stride *= 2;
    }

    /// Returns operations per second, and bytes, over time; `None` if there is only one point.
    pub(crate) fn curves(&self) -> Option<(Curve, Curve)> {
        let first = self.seen.first()?;
        let over_time = |value: fn(&Seen, &Seen) -> f64| {
            let steps = self.seen.windows(2).filter_map(|step| match step {
                [before, now] if now.at > before.at => {
                    Some([seconds(now.at - first.at), value(before, now)])
                }
                _ => None,
            });
            Curve { over: Over::TimeS, points: steps.collect() }
        };
        let speed = over_time(|before, now| {
            let done = now.operations.saturating_sub(before.operations);
            (done as f64 / (now.at - before.at).as_secs_f64()).round()
        });
        let held = over_time(|_, now| now.bytes as f64);
        (!speed.points.is_empty()).then_some((speed, held))
    }
}

/// Rounds to a tenth of a millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_the_quantiles_that_its_values_can_show() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let Curve { points, .. } = Curve::distribution(&values).unwrap();
        assert_eq!(points.first(), Some(&[0.0, 1.0]));
        assert!(points.contains(&[0.5, 51.0]) && points.contains(&[0.99, 100.0]), "{points:?}");
        assert_eq!((points.len(), points.last()), (11, Some(&[1.0, 100.0])));
        assert_eq!(Curve::distribution(&[]), None);
    }

    /// Operations and time add up, and the peak of memory is kept, for any length of a sample.
    #[test]
    fn a_long_timeline_has_few_points_and_loses_no_peak() {
        let zero = Instant::now();
        let mut timeline = Timeline::default();
        for look in 0..10_000_u64 {
            let bytes = if look == 7777 { 500 } else { 1 };
            timeline.note_at(zero + Duration::from_millis(5 * look), 10 * look, bytes);
        }
        let (speed, held) = timeline.curves().unwrap();
        assert!((MOST_POINTS / 3..=MOST_POINTS).contains(&speed.points.len()));
        assert!(speed.points.iter().all(|[_, speed]| *speed == 2000.0), "{speed:?}");
        let end = speed.points.last().unwrap()[0];
        assert!((end - 49.995).abs() < 1e-9, "{end}");
        let peak = held.points.iter().find(|[_, bytes]| *bytes == 500.0).unwrap()[0];
        assert!((38.8..39.5).contains(&peak), "{peak}");
        assert_eq!(Timeline::default().curves(), None);
    }
}
