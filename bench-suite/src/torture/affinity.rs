//! Changes the CPU affinity of running threads.

use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};

/// The CPUs that the process may use, read before any affinity changes.
static ALLOWED: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
});

/// Reads [`ALLOWED`]. Must be called before any thread is moved.
pub(super) fn remember() {
    LazyLock::force(&ALLOWED);
}

fn set(of: impl IntoIterator<Item = usize>) -> CpuSet {
    let mut set = CpuSet::new();
    of.into_iter().for_each(|cpu| set.set(cpu));
    set
}

/// Pins the calling thread to the allowed CPU with index `number`, modulo their number. If the
/// system refuses, the affinity does not change.
pub(super) fn stay_on(number: usize) {
    if let Some(place) = number.checked_rem(ALLOWED.len()) {
        let _ = sched_setaffinity(None, &set([ALLOWED[place]]));
    }
}

/// Lets the calling thread run on any allowed CPU.
pub(super) fn stay_anywhere() {
    let _ = sched_setaffinity(None, &set(ALLOWED.iter().copied()));
}

/// The threads that may be moved between CPUs.
#[derive(Debug, Default)]
pub(super) struct Movable(Mutex<Vec<Pid>>);

impl Movable {
    /// Adds the calling thread.
    pub(super) fn join(&self) {
        self.lock().push(gettid());
    }

    /// Removes the calling thread.
    pub(super) fn leave(&self) {
        let own = gettid();
        self.lock().retain(|thread| *thread != own);
    }

    /// Moves a random thread to one CPU, or lets it run on any. Returns true if the affinity was
    /// set.
    pub(super) fn move_one(&self, random: &mut fastrand::Rng) -> bool {
        let threads = self.lock();
        let Some(&thread) = random.choice(threads.iter()) else { return false };
        let cpus = match random.u8(..4) {
            0 => set(ALLOWED.iter().copied()),
            _ => set(random.choice(ALLOWED.iter()).copied()),
        };
        sched_setaffinity(Some(thread), &cpus).is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
