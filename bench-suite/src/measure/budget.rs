//! Divides a time budget among samples.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The shortest sample: in a shorter one the clock and the starting line matter. A workload may
/// need longer ones.
pub(crate) const SHORTEST: Duration = Duration::from_millis(2);

/// The measured time of a turn: short beside the times for which a machine keeps its speed, and
/// long beside the time in which caches are filled again after the other samples' turns.
pub(super) const TURN: Duration = Duration::from_millis(20);

/// The default warm-up is the sample's time divided by this.
const WARM_UP_PART: u32 = 8;

/// The time of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// The measured time.
    pub(crate) measured: Duration,
    /// The time of work before the measurement, to fill caches and wake the CPUs.
    pub(crate) warm_up: Duration,
    /// The measured time of a turn, if the sample takes turns with those of the other subjects.
    pub(crate) turn: Option<Duration>,
}

impl Slice {
    /// Creates a slice with the given warm-up, or with the default one.
    pub(crate) fn new(measured: Duration, warm_up: Option<Duration>) -> Self {
        Self { measured, warm_up: warm_up.unwrap_or(measured / WARM_UP_PART), turn: None }
    }

    /// Returns the slice for a sample that cannot be interrupted.
    pub(crate) fn whole(self) -> Self {
        Self { turn: None, ..self }
    }

    /// Returns a part of the slice, one of `parts`.
    pub(crate) fn part(self, parts: u32) -> Self {
        Self { measured: self.measured / parts, warm_up: self.warm_up / parts, ..self }
    }

    /// Returns the number of turns, and the measured time of each. A short sample has only one, for
    /// which it need not wait.
    pub(super) fn turns(self) -> (u32, Duration) {
        let fit = |turn: Duration| self.measured.div_duration_f64(turn).round() as u32;
        let turns = self.turn.map_or(1, fit).max(1);
        (turns, self.measured / turns)
    }
}

/// Distributes the rest of a time budget, round by round. If a round takes too long, the later ones
/// get less; if nothing is left, each sample still gets the time that it needs: a budget may be
/// exceeded, but no round is skipped.
#[derive(Debug)]
pub(crate) struct Budget {
    end: Instant,
    shares_left: f64,
    warm_up: Option<Duration>,
}

impl Budget {
    /// Creates a budget that begins now, for samples with `shares` shares in total.
    pub(crate) fn new(budget: Duration, shares: f64, warm_up: Option<Duration>) -> Self {
        Self { end: Instant::now() + budget, shares_left: shares, warm_up }
    }

    /// Returns the time of each of the `samples` of the next round, given the share of each, its
    /// overhead, which includes the warm-up, and the shortest time that it needs. At least a
    /// quarter of its part is measured.
    pub(crate) fn round(
        &mut self,
        samples: usize,
        share: f64,
        overhead: Duration,
        shortest: Duration,
    ) -> Slice {
        let left = self.end.saturating_duration_since(Instant::now());
        let of_all = samples as f64 * share;
        let part = (share / self.shares_left.max(of_all)).clamp(0.0, 1.0);
        self.shares_left -= of_all;
        let whole = left.mul_f64(part);
        let measured = whole.saturating_sub(overhead).max(whole / 4).max(shortest);
        Slice::new(measured, self.warm_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(seconds: u64, shares: f64) -> Budget {
        Budget::new(Duration::from_secs(seconds), shares, None)
    }

    #[test]
    fn equal_shares_of_an_unused_budget_grow_as_fewer_are_left() {
        let mut budget = budget(1000, 20.0);
        let first = budget.round(2, 1.0, Duration::ZERO, SHORTEST).measured;
        assert!(first > Duration::from_secs(45) && first <= Duration::from_secs(50));
        let second = budget.round(2, 1.0, Duration::ZERO, SHORTEST).measured;
        assert!(second > first);
    }

    #[test]
    fn overhead_is_taken_off_but_never_all_of_the_time() {
        let mut budget = budget(1000, 10.0);
        let mut measured =
            |overhead| budget.round(1, 1.0, Duration::from_secs(overhead), SHORTEST).measured;
        assert!(measured(50) < Duration::from_secs(60));
        assert!(measured(5000) > Duration::from_secs(20));
    }

    #[test]
    fn a_spent_budget_still_gives_every_sample_the_shortest_time() {
        let mut budget = budget(0, 2.0);
        for _ in 0..4 {
            assert_eq!(budget.round(1, 1.0, Duration::ZERO, SHORTEST).measured, SHORTEST);
        }
        let longer = 100 * SHORTEST;
        assert_eq!(budget.round(1, 1.0, Duration::ZERO, longer).measured, longer);
    }

    #[test]
    fn a_warm_up_has_the_given_time_or_a_part_of_the_sample() {
        let wanted = Duration::from_millis(70);
        let mut told = Budget::new(Duration::ZERO, 1.0, Some(wanted));
        assert_eq!(told.round(1, 1.0, Duration::ZERO, SHORTEST).warm_up, wanted);
        assert_eq!(
            budget(0, 1.0).round(1, 1.0, Duration::ZERO, SHORTEST).warm_up,
            SHORTEST / WARM_UP_PART
        );
    }

    #[test]
    fn turns_have_about_the_wanted_time_and_add_up() {
        let of = |measured, turn: Option<u64>| {
            let turn = turn.map(Duration::from_millis);
            let slice = Slice { turn, ..Slice::new(Duration::from_millis(measured), None) };
            (slice.turns(), slice.whole().turns().0)
        };
        let milliseconds = Duration::from_millis;
        assert_eq!(of(100, None), ((1, milliseconds(100)), 1));
        assert_eq!(of(100, Some(20)), ((5, milliseconds(20)), 1));
        assert_eq!(of(90, Some(20)), ((5, milliseconds(18)), 1));
        assert_eq!(of(2, Some(20)), ((1, milliseconds(2)), 1));
    }
}
