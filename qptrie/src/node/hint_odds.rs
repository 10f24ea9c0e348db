//! Estimates whether a look at the hints will help a call.
//!
//! A look costs a cache line, or three if it leads on to the parent of a leaf. It saves most of the
//! walk if it leads to what the call looks for, and is in vain if the key is absent, or if the
//! leaf's branch was copied. So one call in `SAMPLE` of each thread is counted, and while looks are
//! mostly in vain, only the counted calls look. The estimate decides nothing but the speed.

use memalloc::sync::{AtomicU32, Ordering};
#[cfg(not(loom))]
use std::cell::Cell;

/// One call in this many is counted, at random: calls of one kind may have a fixed rhythm.
#[cfg(not(loom))]
const SAMPLE: u32 = 64;

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
    /// Nothing: a look would probably be in vain.
    No,
    Yes,
    /// Looks, and counts whether that helped.
    Counted,
}

/// The estimate for calls of one kind.
#[derive(Debug)]
pub(super) struct HintOdds {
    sum: AtomicU32,
    /// The amount that a look adds which helped, while one in vain takes 1 away.
    gain: u32,
}

impl HintOdds {
    /// Creates an estimate that expects help, for calls that a look pays for if one in `gain + 1`
    /// helps.
    pub(super) fn new(gain: u32) -> Self {
        Self { sum: AtomicU32::new(MOST), gain }
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
        } else if self.sum.load(Ordering::Relaxed) >= ENOUGH {
            Look::Yes
        } else {
            Look::No
        }
    }

    /// In models every call looks.
    #[cfg(loom)]
    pub(super) fn look(&self) -> Look {
        if self.sum.load(Ordering::Relaxed) >= ENOUGH { Look::Yes } else { Look::No }
    }

    /// Counts a call.
    #[cold]
    pub(super) fn count(&self, helped: bool) {
        let before = self.sum.load(Ordering::Relaxed);
        let after = if helped { (before + self.gain).min(MOST) } else { before.saturating_sub(1) };
        // While all calls are alike, the line of this word stays in the caches of all CPUs.
        if after != before {
            self.sum.store(after, Ordering::Relaxed);
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
        let (odds, many) = (HintOdds::new(4), 1000 * SAMPLE);
        assert_eq!(looks(&odds, many, 1), many);
        assert!(looks(&odds, many, 0) < many / 2);
        assert!(looks(&odds, many, 0) < many / SAMPLE * 2, "the counted ones");
        assert!(looks(&odds, many, 1) > many / 2, "they look again");
        assert_eq!(looks(&odds, many, 1), many);
    }

    #[test]
    fn one_present_key_in_four_is_enough_and_one_in_eight_is_not() {
        let (odds, many) = (HintOdds::new(4), 1000 * SAMPLE);
        assert_eq!(looks(&odds, many, 4), many);
        looks(&odds, many, 8);
        assert!(looks(&odds, many, 8) < many / SAMPLE * 2);
    }
}
