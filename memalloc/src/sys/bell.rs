//! Bells: words on which threads sleep until another one rings, also from a signal handler.
//!
//! The bells are static and never go away, so a ring cannot reach freed memory. Threads may share
//! one; a ring then wakes all of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::time::Duration;

/// The number of bells: the counts that a [`Bells`] has room for.
const COUNT: usize = (u64::BITS / COUNT_BITS) as usize;

/// The bits of a count of a [`Bells`].
const COUNT_BITS: u32 = 4;

/// The greatest count. It stands for that many or more, and so it stays.
const MOST: u64 = (1 << COUNT_BITS) - 1;

/// The number of rings of each bell. (Models have no threads that sleep on one.)
static RINGS: [AtomicU32; COUNT] = [const { AtomicU32::new(0) }; COUNT];

/// One of the bells.
#[cfg(not(loom))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bell(usize);

#[cfg(not(loom))]
impl Bell {
    /// Returns the next bell in turn. No other thread sleeps on it, unless all [`COUNT`] bells are
    /// in use.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed) as usize % COUNT)
    }

    /// Returns how often the bell has been rung. Everything that a thread stored before one of
    /// these rings is visible.
    pub(crate) fn rings(self) -> u32 {
        // ORDERING: Acquire pairs with the Release in `ring`: the caller sees what it is to look
        // for. Falls to nothing: no thread of a model sleeps on a bell, and x86_64 loads in order.
        RINGS[self.0].load(Ordering::Acquire)
    }

    /// Wakes the threads that sleep on the bell. Async-signal-safe.
    pub(crate) fn ring(self) {
        ring(self.0);
    }

    /// Sleeps until the bell has been rung more than `rings` times, but no longer than `limit`. May
    /// return early. Where nothing can wake the thread from a signal handler, it looks the less
    /// often the longer it has been `quiet`.
    pub(crate) fn wait(self, rings: u32, limit: Duration, quiet: Duration) {
        imp::wait(&RINGS[self.0], rings, limit, quiet);
    }
}

/// The bells to ring, each with the number of workers that asked for it: a count of [`COUNT_BITS`]
/// bits for each bell.
#[derive(Debug, Default)]
pub(crate) struct Bells(AtomicU64);

impl Bells {
    /// Adds a bell, once more if it is one of them.
    #[cfg(not(loom))]
    pub(crate) fn add(&self, bell: Bell) {
        self.change(bell, |count| count + 1);
    }

    /// Takes back one `add`.
    #[cfg(not(loom))]
    pub(crate) fn remove(&self, bell: Bell) {
        self.change(bell, |count| count.saturating_sub(1));
    }

    #[cfg(not(loom))]
    fn change(&self, bell: Bell, to: impl Fn(u64) -> u64) {
        let at = bell.0 as u32 * COUNT_BITS;
        let changed = |counts| match counts >> at & MOST {
            MOST => None,
            count => Some(counts & !(MOST << at) | to(count) << at),
        };
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    /// Takes back every `add`.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Wakes the threads that sleep on any of the bells. Async-signal-safe.
    pub(crate) fn ring(&self) {
        let mut left = self.0.load(Ordering::Relaxed);
        while left != 0 {
            let first = left.trailing_zeros() / COUNT_BITS;
            ring(first as usize);
            left &= !(MOST << (first * COUNT_BITS));
        }
    }
}

fn ring(number: usize) {
    let rings = &RINGS[number];
    // ORDERING: Release pairs with the Acquire in `rings`. Falls to nothing: no thread of a model
    // sleeps on a bell, and on x86_64 the addition is a full barrier.
    rings.fetch_add(1, Ordering::Release);
    imp::wake(rings);
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
use futex as imp;
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
use polling as imp;

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod futex {
    use super::{AtomicU32, Duration};
    use std::ptr;

    pub(super) fn wait(rings: &AtomicU32, seen: u32, limit: Duration, _quiet: Duration) {
        // The kernel's own form of the time for this call: two words, on every processor.
        let limit: [libc::c_long; 2] = [
            limit.as_secs().min(i32::MAX as u64) as libc::c_long,
            limit.subsec_nanos() as libc::c_long,
        ];
        let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: MEM-S1: the word is static, and the call reads the time that it is given.
        unsafe { libc::syscall(libc::SYS_futex, rings.as_ptr(), wait, seen, &raw const limit) };
    }

    pub(super) fn wake(rings: &AtomicU32) {
        let (wake, all) = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, libc::c_int::MAX);
        let no_time = ptr::null::<libc::c_long>();
        // SAFETY: MEM-S1: the word is static, and there is no time to read.
        unsafe { libc::syscall(libc::SYS_futex, rings.as_ptr(), wake, all, no_time) };
    }
}

/// Other systems: the thread looks now and then.
///
/// A signal handler may use a semaphore or a pipe on most of them. Some have no semaphore with a
/// time limit. A pipe is open to the program: the child of a fork shares it, and a daemon closes it
/// with all its files, after which a ring would write to another file.
#[cfg(any(all(test, not(loom)), not(all(target_os = "linux", not(any(loom, miri))))))]
mod polling {
    use super::AtomicU32;
    #[cfg(not(loom))]
    use super::{Duration, Ordering};

    /// The least and the most time between two looks.
    #[cfg(not(loom))]
    const LOOKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(100)];

    /// Returns the time until the next look: an eighth of the time without a ring, so that the
    /// thread notices the next one that much later at most.
    #[cfg(not(loom))]
    pub(super) fn next_look(quiet: Duration) -> Duration {
        (quiet / 8).clamp(LOOKS[0], LOOKS[1])
    }

    #[cfg(not(loom))]
    pub(super) fn wait(rings: &AtomicU32, seen: u32, limit: Duration, quiet: Duration) {
        if rings.load(Ordering::Relaxed) == seen {
            std::thread::park_timeout(limit.min(next_look(quiet)));
        }
    }

    pub(super) fn wake(_rings: &AtomicU32) {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_sleeps_until_its_bell_is_rung() {
        let bell = Bell::next();
        let before = bell.rings();
        let rung = std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while bell.rings() == before {
                    bell.wait(before, Duration::MAX, Duration::ZERO);
                }
            });
            let bells = Bells::default();
            assert!(bells.is_empty());
            bells.ring();
            assert_eq!(bell.rings(), before, "it is not one of them");
            bells.add(bell);
            bells.ring();
            sleeper.join()
        });
        assert!(rung.is_ok());
        assert_ne!(bell.rings(), before);
        // It returns at once, and at its limit.
        bell.wait(before, Duration::MAX, Duration::ZERO);
        bell.wait(bell.rings(), Duration::from_millis(1), Duration::ZERO);
    }

    /// Every implementation of this system.
    #[test]
    fn each_way_to_sleep_ends_with_a_ring_and_at_its_limit() {
        type Way = (fn(&AtomicU32, u32, Duration, Duration), fn(&AtomicU32));
        let ways: [Way; 2] = [(imp::wait, imp::wake), (polling::wait, polling::wake)];
        for (wait, wake) in ways {
            let (rings, quiet) = (AtomicU32::new(7), Duration::from_secs(1));
            wait(&rings, 6, Duration::MAX, quiet);
            wait(&rings, 7, Duration::from_millis(1), quiet);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while rings.load(Ordering::Relaxed) == 7 {
                        wait(&rings, 7, Duration::MAX, quiet);
                    }
                });
                rings.fetch_add(1, Ordering::Relaxed);
                wake(&rings);
            });
        }
    }

    #[test]
    fn a_thread_that_cannot_be_woken_looks_less_often_the_longer_it_is_quiet() {
        let look = |millis| polling::next_look(Duration::from_millis(millis)).as_millis();
        assert_eq!([look(0), look(8), look(80), look(800), look(80_000)], [1, 1, 10, 100, 100]);
    }

    #[test]
    fn a_bell_is_rung_until_all_who_asked_for_it_have_taken_that_back() {
        // Bells that no other test of this process is given.
        let (bells, bell, other) = (Bells::default(), Bell(COUNT - 2), Bell(COUNT - 1));
        bells.remove(bell);
        assert!(bells.is_empty(), "there was nothing to take back");
        [bell, other, bell].iter().for_each(|&bell| bells.add(bell));
        bells.remove(bell);
        bells.remove(other);
        let before = [bell, other].map(Bell::rings);
        bells.ring();
        assert_eq!([bell, other].map(Bell::rings), [before[0] + 1, before[1]]);
        bells.remove(bell);
        assert!(bells.is_empty());
        // More than can be counted: then it stays.
        (0..=MOST).for_each(|_| bells.add(other));
        (0..=MOST).for_each(|_| bells.remove(other));
        assert!(!bells.is_empty());
    }
}
