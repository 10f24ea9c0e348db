//! Dividing a budget of time among samples.

use std::time::{Duration, Instant};

/// The shortest time that a sample is given: below it the clock and the starting line weigh in.
const SHORTEST: Duration = Duration::from_millis(2);

/// Hands out what is left of a budget, sample by sample. What one of them takes too long is
/// missing for those after it; when nothing is left each still gets its least, because a budget
/// may be exceeded but no round is left out.
#[derive(Debug)]
pub(crate) struct Pace {
    end: Instant,
    shares_left: f64,
}

impl Pace {
    /// A budget that begins now, for samples that have so many shares in it all together.
    pub(crate) fn new(budget: Duration, shares: f64) -> Self {
        Self { end: Instant::now() + budget, shares_left: shares }
    }

    /// How long the next sample may measure, given its share and the time that it needs beside
    /// measuring. At least a quarter of what falls to it is for measuring.
    pub(crate) fn slice(&mut self, share: f64, overhead: Duration) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        let part = (share / self.shares_left.max(share)).clamp(0.0, 1.0);
        self.shares_left -= share;
        let whole = left.mul_f64(part);
        whole.saturating_sub(overhead).max(whole / 4).max(SHORTEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_of_an_unused_budget_grow_as_fewer_are_left() {
        let mut pace = Pace::new(Duration::from_secs(1000), 10.0);
        let first = pace.slice(1.0, Duration::ZERO);
        assert!(first > Duration::from_secs(90) && first <= Duration::from_secs(100));
        let second = pace.slice(1.0, Duration::ZERO);
        assert!(second > first);
    }

    #[test]
    fn overhead_is_taken_off_but_never_all_of_the_time() {
        let mut pace = Pace::new(Duration::from_secs(1000), 10.0);
        assert!(pace.slice(1.0, Duration::from_secs(50)) < Duration::from_secs(60));
        assert!(pace.slice(1.0, Duration::from_secs(5000)) > Duration::from_secs(20));
    }

    #[test]
    fn a_spent_budget_still_gives_every_sample_its_least() {
        let mut pace = Pace::new(Duration::ZERO, 2.0);
        for _ in 0..4 {
            assert_eq!(pace.slice(1.0, Duration::ZERO), SHORTEST);
        }
    }
}
