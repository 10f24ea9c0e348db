//! Bells: words on which threads sleep until another one rings, also from a signal handler.
//!
//! The bells are static and never go away, so a ring cannot reach freed memory. Threads may share
//! one; a ring then wakes all of them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::time::Duration;

/// The number of bells: the bits of a [`Bells`].
const COUNT: usize = u64::BITS as usize;

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
    /// return early.
    pub(crate) fn wait(self, rings: u32, limit: Duration) {
        imp::wait(&RINGS[self.0], rings, limit);
    }
}

/// A set of bells.
#[derive(Debug)]
pub(crate) struct Bells(AtomicU64);

impl Bells {
    /// Creates an empty set.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cfg(not(loom))]
    pub(crate) fn add(&self, bell: Bell) {
        self.0.fetch_or(1 << bell.0, Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Wakes the threads that sleep on any of the bells. Async-signal-safe.
    pub(crate) fn ring(&self) {
        let mut left = self.0.load(Ordering::Relaxed);
        while left != 0 {
            ring(left.trailing_zeros() as usize);
            left &= left - 1;
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
mod imp {
    use super::{AtomicU32, Duration};
    use std::ptr;

    pub(super) fn wait(rings: &AtomicU32, seen: u32, limit: Duration) {
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

/// Systems that have no way to wake a thread from a signal handler: the thread looks now and then.
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
mod imp {
    use super::AtomicU32;

    #[cfg(not(loom))]
    pub(super) fn wait(rings: &AtomicU32, seen: u32, limit: super::Duration) {
        const LOOK: super::Duration = super::Duration::from_millis(1);
        if rings.load(super::Ordering::Relaxed) == seen {
            std::thread::sleep(limit.min(LOOK));
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
                    bell.wait(before, Duration::MAX);
                }
            });
            let bells = Bells::new();
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
        bell.wait(before, Duration::MAX);
        bell.wait(bell.rings(), Duration::from_millis(1));
    }
}
