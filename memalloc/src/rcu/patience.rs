//! How a thread waits for others that can't be made to hurry.

use crate::sync::pause;

/// Waits longer the longer it takes: spins, then yields, then sleeps.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    rounds: u32,
    restless: bool,
}

impl Patience {
    const SPINS: u32 = 64;
    const YIELDS: u32 = 256;

    /// Never sleeps.
    pub(super) fn restless() -> Self {
        Self { rounds: 0, restless: true }
    }

    pub(crate) fn wait(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds < Self::SPINS {
            pause();
        } else if self.rounds < Self::YIELDS || self.restless {
            crate::sync::thread::yield_now();
        } else {
            nap();
        }
    }
}

fn nap() {
    #[cfg(not(loom))]
    std::thread::sleep(std::time::Duration::from_micros(50));
    #[cfg(loom)]
    pause();
}
