//! Backoff for a thread that waits for others.

use crate::sync::pause;
use crate::sys::thread;
use std::time::Duration;

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

/// Sleeps for 1 µs at first, and twice as long each time, up to 512 µs.
fn nap(earlier: u32) {
    thread::nap(Duration::from_micros(1 << earlier.min(9)));
}
