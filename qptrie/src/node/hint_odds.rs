//! Estimates whether the keys of coming calls are present, so that a hint is worth a look.
//!
//! A look at the hints costs a cache line. It saves most of the walk if the key is present, and is
//! in vain if it is absent. So one call in `SAMPLE` of each thread is counted, and while the
//! counted keys are mostly absent, only the counted calls look. The estimate decides nothing but
//! the speed.

use memalloc::sync::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::cell::Cell;

/// One call in this many is counted, at random: calls of one kind may have a fixed rhythm.
#[cfg(not(loom))]
const SAMPLE: u32 = 64;

/// A walk costs several times as much as a look. So hints are worth a look if one key in five is
/// present: the amount that a present key adds, while an absent one takes 1 away.
const PRESENT: u32 = 4;

/// The largest sum.
const MOST: u32 = 64;

/// The smallest sum with which calls look.
const ENOUGH: u32 = MOST / 2;

#[cfg(not(loom))]
memalloc::sync::thread_local! {
    /// Pseudo-random numbers (a linear congruential generator, of which the upper bits are good).
    static RANDOM: Cell<u32> = const { Cell::new(0) };
}

/// What a call does about hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: its key is probably absent.
    No,
    Yes,
    /// Looks, and counts whether its key was present.
    Counted,
}

/// The estimate for calls of one kind.
#[derive(Debug)]
pub(super) struct HintOdds(AtomicU32);

impl HintOdds {
    /// Creates an estimate that expects present keys.
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(MOST))
    }

    /// Returns what the next call does.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn look(&self) -> Look {
        let random = RANDOM.with(|random| {
            random.set(random.get().wrapping_mul(747_796_405).wrapping_add(2_891_336_453));
            random.get()
        });
        if random < u32::MAX / SAMPLE {
            Look::Counted
        } else if self.0.load(Ordering::Relaxed) >= ENOUGH {
            Look::Yes
        } else {
            Look::No
        }
    }

    /// In models every call looks.
    #[cfg(loom)]
    pub(super) fn look(&self) -> Look {
        if self.0.load(Ordering::Relaxed) >= ENOUGH { Look::Yes } else { Look::No }
    }

    /// Counts a call.
    #[cold]
    pub(super) fn count(&self, present: bool) {
        let before = self.0.load(Ordering::Relaxed);
        let after = if present { (before + PRESENT).min(MOST) } else { before.saturating_sub(1) };
        // While all keys are alike, the line of this word stays in the caches of all CPUs.
        if after != before {
            self.0.store(after, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Makes calls, of which one key in `present` is present (0: none), and returns how many look.
    fn looks(odds: &HintOdds, calls: u32, present: u32) -> u32 {
        let mut counted = 0;
        let looks = (0..calls).filter(|_| match odds.look() {
            Look::No => false,
            Look::Yes => true,
            Look::Counted => {
                counted += 1;
                odds.count(present != 0 && counted % present == 0);
                true
            }
        });
        looks.count() as u32
    }

    #[test]
    fn calls_look_while_keys_are_present_and_seldom_while_they_are_absent() {
        let (odds, many) = (HintOdds::new(), 1000 * SAMPLE);
        assert_eq!(looks(&odds, many, 1), many);
        assert!(looks(&odds, many, 0) < many / 2);
        assert!(looks(&odds, many, 0) < many / SAMPLE * 2, "the counted ones");
        assert!(looks(&odds, many, 1) > many / 2, "they look again");
        assert_eq!(looks(&odds, many, 1), many);
    }

    #[test]
    fn one_present_key_in_four_is_enough_and_one_in_eight_is_not() {
        let (odds, many) = (HintOdds::new(), 1000 * SAMPLE);
        assert_eq!(looks(&odds, many, 4), many);
        looks(&odds, many, 8);
        assert!(looks(&odds, many, 8) < many / SAMPLE * 2);
    }
}
