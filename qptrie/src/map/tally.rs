//! How many entries there are.
//!
//! Without a limit every thread counts in a stripe of its own, so that writers which change different
//! parts of a trie do not pass one cache line to and fro, and a change does not wait, as it would to add
//! atomically, until all that it stored has left the processor. Threads beyond those that get a stripe share
//! one. With a limit that is the only one, since whoever adds an entry has to know all others.

use crossbeam_utils::CachePadded;
#[cfg(any(test, not(loom)))]
use memalloc::sync::AtomicU32;
use memalloc::sync::{AtomicU64, Ordering};

/// Stripes of a tally without a limit, the shared one among them.
const STRIPES: usize = if cfg!(loom) { 2 } else { 32 };

/// The number of the stripe that is shared.
const SHARED: usize = 0;

/// Which stripes are not to be had: a bit for each. Every other one belongs to nobody.
#[cfg(any(test, not(loom)))]
#[derive(Debug)]
struct Taken(AtomicU32);

#[cfg(any(test, not(loom)))]
impl Taken {
    #[cfg(not(loom))]
    const fn new() -> Self {
        Self(AtomicU32::new(1 << SHARED))
    }

    /// The number of a stripe that was to be had, or of the shared one.
    fn take(&self) -> usize {
        let lowest = |taken: u32| {
            let free = taken.trailing_ones() as usize;
            (free < STRIPES).then_some(free)
        };
        // ORDERING: pairs with the Release in `give_back`: who stores to the stripe next has seen what
        // was counted there before. Falls to `a_stripe_that_changes_hands_loses_nothing`.
        let before = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            lowest(taken).map(|free| taken | 1 << free)
        });
        before.ok().and_then(lowest).unwrap_or(SHARED)
    }

    /// Gives back what `take` gave.
    fn give_back(&self, number: usize) {
        if number != SHARED {
            // ORDERING: pairs with the Acquire in `take`.
            self.0.fetch_and(!(1 << number), Ordering::Release);
        }
    }
}

/// The number of the stripe that only this thread stores to, in every tally without a limit; or of the
/// shared one. (Models of a trie count in that.)
#[inline]
fn stripe_of_thread() -> usize {
    #[cfg(not(loom))]
    {
        static TAKEN: Taken = Taken::new();

        struct Own(usize);

        impl Drop for Own {
            fn drop(&mut self) {
                TAKEN.give_back(self.0);
            }
        }

        std::thread_local! {
            static OWN: Own = Own(TAKEN.take());
        }
        // A destructor of a thread that ends may come by here.
        OWN.try_with(|own| own.0).unwrap_or(SHARED)
    }
    #[cfg(loom)]
    SHARED
}

/// A count of entries. Its sum is exact when nobody changes it.
///
/// Nothing is ordered by it, so every access is relaxed.
#[derive(Debug)]
pub(super) struct Tally {
    /// What was added less what was taken, modulo 2^64: an entry may go by another stripe than it came by.
    stripes: Box<[CachePadded<AtomicU64>]>,
    limit: u64,
}

impl Tally {
    /// No entries yet, and never more than `limit`.
    pub(super) fn new(limit: u64) -> Self {
        let stripes = if limit == u64::MAX { STRIPES } else { 1 };
        Self { stripes: (0..stripes).map(|_| CachePadded::new(AtomicU64::new(0))).collect(), limit }
    }

    /// Sets another limit, which what was counted may be beyond.
    pub(super) fn limit_to(&mut self, limit: u64) {
        let limited = Self::new(limit);
        limited.stripes[SHARED].store(self.sum(), Ordering::Relaxed);
        *self = limited;
    }

    /// Counts one more; the limit, if that is reached.
    #[inline]
    pub(super) fn add(&self) -> Result<(), u64> {
        let limit = self.limit;
        if limit == u64::MAX {
            self.change(1);
            return Ok(());
        }
        let more = |entries| (entries < limit).then_some(entries + 1);
        let shared = &self.stripes[SHARED];
        let added = shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.map(|_| ()).map_err(|_| limit)
    }

    /// Counts one less: one that was counted before.
    #[inline]
    pub(super) fn take(&self) {
        self.change(-1);
    }

    #[inline]
    fn change(&self, by: i64) {
        // With a limit there is no other than the shared one.
        let number = if self.limit == u64::MAX { stripe_of_thread() } else { SHARED };
        self.change_in(number, by);
    }

    #[inline]
    fn change_in(&self, number: usize, by: i64) {
        let stripe = &self.stripes[number];
        if number == SHARED {
            stripe.fetch_add(by as u64, Ordering::Relaxed);
        } else {
            // Nobody else stores there.
            stripe.store(stripe.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
        }
    }

    /// All that were counted.
    pub(super) fn sum(&self) -> u64 {
        let stripes = self.stripes.iter().map(|stripe| stripe.load(Ordering::Relaxed));
        // An entry that went may be seen, and not that it came.
        (stripes.fold(0, u64::wrapping_add) as i64).max(0) as u64
    }

    /// The bytes that the stripes take up.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.stripes) as u64
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn a_stripe_belongs_to_one_thread_until_that_ends() {
        let taken = Taken::new();
        for number in 1..STRIPES {
            assert_eq!(taken.take(), number);
        }
        assert_eq!((taken.take(), taken.take()), (SHARED, SHARED));
        taken.give_back(SHARED);
        assert_eq!(taken.take(), SHARED);
        taken.give_back(7);
        assert_eq!((taken.take(), taken.take()), (7, SHARED));
    }

    #[test]
    fn more_threads_than_stripes_count_exactly_as_they_come_and_go() {
        let tally = Tally::new(u64::MAX);
        for _ in 0..3 {
            let all_there = Barrier::new(2 * STRIPES);
            let count = || {
                tally.add().unwrap();
                all_there.wait();
                for _ in 0..1000 {
                    tally.add().unwrap();
                    tally.take();
                }
            };
            thread::scope(|scope| {
                for _ in 0..2 * STRIPES {
                    scope.spawn(count);
                }
            });
        }
        assert_eq!(tally.sum(), 6 * STRIPES as u64);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn a_stripe_that_changes_hands_loses_nothing() {
        loom::model(|| {
            let taken = Taken(AtomicU32::new(1 << SHARED));
            let shared = Arc::new((taken, Tally::new(u64::MAX)));
            let count = |shared: &(Taken, Tally)| {
                let number = shared.0.take();
                shared.1.change_in(number, 1);
                shared.0.give_back(number);
            };
            let others = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || count(&shared))
            });
            count(&shared);
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(shared.1.sum(), 3);
        });
    }
}
