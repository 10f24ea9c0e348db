//! The CPUs that this process may use, pinning a thread to one of them, and the CPU time of a
//! thread.

use std::num::NonZero;
use std::thread;
use std::time::Duration;

/// Returns the number of CPUs that this process may use. More threads than these are
/// oversubscribed.
pub(crate) fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Pins the calling thread to the `number`th of the allowed CPUs, modulo their number. If the
/// system can't do it the thread stays free to move: perhaps slower, never wrong.
#[cfg(target_os = "linux")]
pub(crate) fn pin(number: usize) {
    use std::sync::LazyLock;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Read before any thread is pinned: a pinned thread sees only one CPU.
    static ALLOWED: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
        (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
    });

    if let Some(place) = number.checked_rem(ALLOWED.len()) {
        let mut set = CpuSet::new();
        set.set(ALLOWED[place]);
        // Fails if CPUs have been removed since: then the thread is not pinned.
        let _ = sched_setaffinity(None, &set);
    }
}

/// Returns the CPU time of the calling thread, if the system reports it.
#[cfg(target_os = "linux")]
pub(super) fn time_used() -> Option<Duration> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).ok()
}

/// See the version for Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_number: usize) {}

/// See the version for Linux.
#[cfg(not(target_os = "linux"))]
pub(super) fn time_used() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_cpu_and_a_new_one_has_them_all() {
        let all = available();
        let pinned = |number| {
            thread::spawn(move || {
                pin(number);
                available()
            })
            .join()
            .unwrap()
        };
        assert_eq!((pinned(0), pinned(all), available()), (1, 1, all));
    }
}
