//! Measures the times of groups of updates.
//!
//! The clock is read once per group of [`GROUP`] updates, which costs an update less than 0.1 ns.
//! A group is long enough for that and short enough to show a single update that waits: the others
//! take some microseconds together.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::measure::{Curve, Metric, Reading};

/// The number of updates in a group.
pub(super) const GROUP: u64 = 512;

/// The times of the groups of one thread, or of several.
#[derive(Debug)]
pub(super) struct GroupTimes {
    times: Histogram<u32>,
    begun: Instant,
    /// The thread's updates before the current group.
    before: u64,
}

impl GroupTimes {
    /// Allocates the counters, and writes to all of them: a thread that records times does not add
    /// to the memory of its process.
    pub(super) fn new() -> Self {
        // A precision of 1 %, up to minutes: longer times count as the longest.
        let times = Histogram::new_with_bounds(1, 300_000_000_000, 2);
        let mut times = times.unwrap_or_else(|_| unreachable!("valid bounds"));
        times.reset();
        Self { times, begun: Instant::now(), before: 0 }
    }

    /// Begins a group after a pause. The thread has made `done` updates so far.
    pub(super) fn begin(&mut self, done: u64) {
        (self.begun, self.before) = (Instant::now(), done);
    }

    /// Forgets all groups.
    pub(super) fn forget(&mut self) {
        self.times.reset();
    }

    /// Ends the group if it is complete after `done` updates, and begins the next.
    #[inline]
    pub(super) fn note(&mut self, done: u64) {
        if done - self.before >= GROUP {
            self.end_group(done, Instant::now());
        }
    }

    fn end_group(&mut self, done: u64, now: Instant) {
        self.record(now - self.begun);
        (self.begun, self.before) = (now, done);
    }

    /// Ends the sample, or begins a pause. The last group is incomplete, and counts only if it is
    /// the longest: a complete one would have taken at least as long.
    pub(super) fn end(&mut self) {
        self.end_at(Instant::now());
    }

    fn end_at(&mut self, now: Instant) {
        let elapsed = now - self.begun;
        if self.times.is_empty() || elapsed.as_nanos() > u128::from(self.times.max()) {
            self.record(elapsed);
        }
    }

    fn record(&mut self, elapsed: Duration) {
        self.times.saturating_record(elapsed.as_nanos().clamp(1, u64::MAX.into()) as u64);
    }

    /// Adds the groups of another thread.
    pub(super) fn add(&mut self, other: &Self) {
        // The bounds are the same, so everything fits.
        let _ = self.times.add(&other.times);
    }

    /// Returns the times of groups, with their distribution, and the average time of an update in
    /// such a group.
    pub(super) fn readings(&self, case: &'static str) -> Vec<Reading> {
        let at = |quantile: f64| self.times.value_at_quantile(quantile) as f64;
        let reading = |metric, value| Reading::new(case, metric, value);
        let (half, late) = (at(0.5), at(0.99));
        let curve = Curve::from_quantiles(self.times.len(), at);
        vec![
            reading(Metric::UpdateGroupP50Ns, half).with_curve(curve),
            reading(Metric::UpdateGroupP99Ns, late),
            reading(Metric::UpdateGroupMaxNs, self.times.max() as f64),
            reading(Metric::UpdateP50Ns, half / GROUP as f64),
            reading(Metric::UpdateP99Ns, late / GROUP as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times of groups that took so many microseconds each.
    fn times(microseconds: &[u64]) -> GroupTimes {
        let mut times = GroupTimes::new();
        times.begin(0);
        for (number, &time) in (1..).zip(microseconds) {
            let now = times.begun + Duration::from_micros(time);
            times.end_group(number * GROUP, now);
        }
        times
    }

    fn value(times: &GroupTimes, metric: Metric) -> f64 {
        let readings = times.readings("case");
        readings.iter().find(|reading| reading.metric == metric).unwrap().value
    }

    #[track_caller]
    fn about(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.01, "{found} is not about {expected}");
    }

    #[test]
    fn a_group_that_waits_shows_in_the_longest_time_and_not_in_the_median() {
        let mut all = times(&[5; 200]);
        all.add(&times(&[100_000]));
        about(value(&all, Metric::UpdateGroupP50Ns), 5_000.0);
        about(value(&all, Metric::UpdateGroupP99Ns), 5_000.0);
        about(value(&all, Metric::UpdateGroupMaxNs), 100_000_000.0);
        about(value(&all, Metric::UpdateP50Ns), 5_000.0 / 512.0);
    }

    #[test]
    fn a_distribution_ends_with_the_longest_group() {
        let readings = times(&[5, 6, 7, 8]).readings("case");
        let points = &readings[0].curve.as_ref().unwrap().points;
        about(points[0][1], 5_000.0);
        about(points.last().unwrap()[1], 8_000.0);
        assert_eq!(points.last().unwrap()[0], 1.0);
    }

    #[test]
    fn a_group_ends_only_when_it_is_complete() {
        let mut times = GroupTimes::new();
        times.begin(100);
        times.note(99 + GROUP);
        assert_eq!(times.times.len(), 0);
        times.note(100 + GROUP);
        assert_eq!((times.times.len(), times.before), (1, 100 + GROUP));
    }

    #[test]
    fn an_incomplete_group_counts_only_if_it_is_the_longest() {
        let cut_short = |after| {
            let mut times = times(&[5, 5]);
            times.end_at(times.begun + Duration::from_micros(after));
            (times.times.len(), value(&times, Metric::UpdateGroupMaxNs))
        };
        assert_eq!(cut_short(4).0, 2);
        let (groups, longest) = cut_short(90_000);
        assert_eq!(groups, 3);
        about(longest, 90_000_000.0);
    }

    #[test]
    fn the_times_of_the_warm_up_do_not_count() {
        let mut times = times(&[100_000]);
        times.forget();
        times.begin(GROUP);
        times.end_at(times.begun + Duration::from_micros(5));
        about(value(&times, Metric::UpdateGroupMaxNs), 5_000.0);
    }
}
