//! Backoff for a thread that waits for others.

use crate::sync::pause;
use crate::sys::thread::nap;

/// Waits longer with each round: spins at first, then sleeps, so that a preempted reader gets this
/// thread's processor.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    rounds: u32,
    restless: bool,
}

impl Backoff {
    const SPINS: u32 = 64;

    /// The number of yields of a restless backoff, some hundred microseconds.
    const YIELDS: u32 = 1 << 10;

    /// Returns a backoff that yields many times before it sleeps.
    pub(crate) fn restless() -> Self {
        Self { rounds: 0, restless: true }
    }

    pub(crate) fn wait(&mut self) {
        #[cfg(all(test, not(loom)))]
        waits::count();
        self.rounds = self.rounds.saturating_add(1);
        match self.rounds.checked_sub(Self::SPINS) {
            None => pause(),
            Some(rounds) if !self.restless => nap(rounds),
            Some(rounds) => match rounds.checked_sub(Self::YIELDS) {
                None => crate::sync::thread::yield_now(),
                // A reader of lower priority may need this processor.
                Some(naps) => nap(naps),
            },
        }
    }
}

/// Counts how often the calling thread has waited, to compare calls.
#[cfg(all(test, not(loom)))]
pub(crate) mod waits {
    use std::cell::Cell;

    std::thread_local! {
        static WAITS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        WAITS.set(WAITS.get() + 1);
    }

    /// Returns the number of waits so far.
    pub(crate) fn so_far() -> u64 {
        WAITS.get()
    }
}

#[cfg(all(test, target_os = "linux", not(any(loom, miri, counted))))]
mod tests {
    use super::*;
    use crate::sys::thread::{YIELDS, let_others_run};

    /// Returns how often the calling thread has given its processor up to sleep: a yield does not
    /// count.
    fn sleeps() -> libc::c_long {
        // SAFETY: the structure is plain numbers for which zero is valid; the call fills it.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
            usage.ru_nvcsw
        }
    }

    #[test]
    fn a_thread_that_waits_for_long_sleeps() {
        let before = sleeps();
        (0..YIELDS + 4).for_each(let_others_run);
        assert!(sleeps() >= before + 4);
        let mut restless = Backoff::restless();
        let before = sleeps();
        (0..1_200).for_each(|_| restless.wait());
        assert!(sleeps() >= before + 100, "also one that saves microseconds");
    }
}
