//! Dividing a budget of time among samples.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The shortest time that a sample is given: below it the clock and the starting line weigh in.
const SHORTEST: Duration = Duration::from_millis(2);

/// The part of a sample that is spent first, unmeasured, where nobody says how long.
const WARM_UP_PART: u32 = 8;

/// The time that one sample has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// How long to measure.
    pub(crate) measured: Duration,
    /// How long to work before that, to fill caches and wake the CPUs.
    pub(crate) warm_up: Duration,
}

impl Slice {
    /// A slice with a warm-up of its own, or with the usual one.
    pub(crate) fn new(measured: Duration, warm_up: Option<Duration>) -> Self {
        Self { measured, warm_up: warm_up.unwrap_or(measured / WARM_UP_PART) }
    }
}

/// Hands out what is left of a budget, sample by sample. What one of them takes too long is
/// missing for those after it; when nothing is left each still gets its least, because a budget
/// may be exceeded but no round is left out.
#[derive(Debug)]
pub(crate) struct Budget {
    end: Instant,
    shares_left: f64,
    warm_up: Option<Duration>,
}

impl Budget {
    /// A budget that begins now, for samples that have so many shares in it all together.
    pub(crate) fn new(budget: Duration, shares: f64, warm_up: Option<Duration>) -> Self {
        Self { end: Instant::now() + budget, shares_left: shares, warm_up }
    }

    /// The time that the next sample has, given its share and what it needs beside measuring,
    /// the warm-up included. At least a quarter of what falls to it is for measuring.
    pub(crate) fn slice(&mut self, share: f64, overhead: Duration) -> Slice {
        let left = self.end.saturating_duration_since(Instant::now());
        let part = (share / self.shares_left.max(share)).clamp(0.0, 1.0);
        self.shares_left -= share;
        let whole = left.mul_f64(part);
        let measured = whole.saturating_sub(overhead).max(whole / 4).max(SHORTEST);
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
        let mut budget = budget(1000, 10.0);
        let first = budget.slice(1.0, Duration::ZERO).measured;
        assert!(first > Duration::from_secs(90) && first <= Duration::from_secs(100));
        let second = budget.slice(1.0, Duration::ZERO).measured;
        assert!(second > first);
    }

    #[test]
    fn overhead_is_taken_off_but_never_all_of_the_time() {
        let mut budget = budget(1000, 10.0);
        assert!(budget.slice(1.0, Duration::from_secs(50)).measured < Duration::from_secs(60));
        assert!(budget.slice(1.0, Duration::from_secs(5000)).measured > Duration::from_secs(20));
    }

    #[test]
    fn a_spent_budget_still_gives_every_sample_its_least() {
        let mut budget = budget(0, 2.0);
        for _ in 0..4 {
            assert_eq!(budget.slice(1.0, Duration::ZERO).measured, SHORTEST);
        }
    }

    #[test]
    fn a_warm_up_is_as_long_as_wanted_or_a_part_of_the_sample() {
        let wanted = Duration::from_millis(70);
        let mut told = Budget::new(Duration::ZERO, 1.0, Some(wanted));
        assert_eq!(told.slice(1.0, Duration::ZERO).warm_up, wanted);
        assert_eq!(budget(0, 1.0).slice(1.0, Duration::ZERO).warm_up, SHORTEST / WARM_UP_PART);
    }
}
