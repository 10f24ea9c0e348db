//! How a thread waits for others that can't be hurried.

use crate::sync::pause;

/// Waits longer the longer it takes: spins for a moment, then sleeps, so that a reader that was
/// preempted gets this thread's processor.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    rounds: u32,
    restless: bool,
}

impl Backoff {
    const SPINS: u32 = 64;

    /// Never sleeps.
    pub(super) fn restless() -> Self {
        Self { rounds: 0, restless: true }
    }

    pub(crate) fn wait(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        match self.rounds.checked_sub(Self::SPINS) {
            None => pause(),
            Some(_) if self.restless => crate::sync::thread::yield_now(),
            Some(naps) => nap(naps),
        }
    }
}

/// Sleeps: for a moment at first, for half a millisecond in the end.
fn nap(earlier: u32) {
    #[cfg(not(loom))]
    crate::sync::thread::sleep(std::time::Duration::from_micros(1 << earlier.min(9)));
    #[cfg(loom)]
    {
        let _ = earlier;
        pause();
    }
}
