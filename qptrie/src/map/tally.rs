//! How many entries there are.
//!
//! Without a limit every thread counts in a stripe of its own, so that writers which change different
//! parts of a trie do not pass one cache line to and fro, and a change does not wait, as it would to add
//! atomically, until all that it stored has left the processor. Threads beyond those that get a stripe share
//! the others. With a limit there is one, since whoever adds an entry has to know all others.

use crossbeam_utils::CachePadded;
use memalloc::sync::{AtomicU64, Ordering};

/// Stripes of a tally without a limit.
const STRIPES: usize = if cfg!(loom) { 2 } else { 64 };

/// How many of them, the first ones, are shared.
const SHARED: usize = if cfg!(loom) { 1 } else { 16 };

/// Which stripes are not to be had: a bit for each. Every other one belongs to nobody.
#[cfg(any(test, not(loom)))]
#[derive(Debug)]
struct Taken(AtomicU64);

#[cfg(any(test, not(loom)))]
const _: () = assert!(STRIPES <= u64::BITS as usize);

#[cfg(any(test, not(loom)))]
impl Taken {
    const AT_FIRST: u64 = (1 << SHARED) - 1;

    /// The number of a stripe that was to be had.
    fn take(&self) -> Option<usize> {
        let lowest = |taken: u64| {
            let free = taken.trailing_ones() as usize;
            (free < STRIPES).then_some(free)
        };
        // ORDERING: pairs with the Release in `give_back`: who stores to the stripe next has seen what
        // was counted there before. Falls to `a_stripe_that_changes_hands_loses_nothing`.
        let before = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            lowest(taken).map(|free| taken | 1 << free)
        });
        before.ok().and_then(lowest)
    }

    /// Gives back what `take` gave.
    fn give_back(&self, number: usize) {
        // ORDERING: pairs with the Acquire in `take`.
        self.0.fetch_and(!(1 << number), Ordering::Release);
    }
}

/// The number of the stripe, in every tally without a limit, that only this thread stores to; or of a
/// shared one. (Models of a trie count in that.)
#[inline]
fn stripe_of_thread() -> usize {
    #[cfg(not(loom))]
    {
        use std::sync::atomic::AtomicUsize;

        static TAKEN: Taken = Taken(AtomicU64::new(Taken::AT_FIRST));
        static SHARING: AtomicUsize = AtomicUsize::new(0);

        struct Number(usize);

        impl Number {
            fn new() -> Self {
                let shared = || SHARING.fetch_add(1, Ordering::Relaxed) % SHARED;
                Self(TAKEN.take().unwrap_or_else(shared))
            }
        }

        impl Drop for Number {
            fn drop(&mut self) {
                if self.0 >= SHARED {
                    TAKEN.give_back(self.0);
                }
            }
        }

        std::thread_local! {
            static NUMBER: Number = Number::new();
        }
        // A destructor of a thread that ends may come by here.
        NUMBER.try_with(|number| number.0).unwrap_or(0)
    }
    #[cfg(loom)]
    0
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
        limited.stripes[0].store(self.sum(), Ordering::Relaxed);
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
        let shared = &self.stripes[0];
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
        // With a limit there is no other than the first one, which is shared.
        let number = if self.limit == u64::MAX { stripe_of_thread() } else { 0 };
        self.change_in(number, by);
    }

    #[inline]
    fn change_in(&self, number: usize, by: i64) {
        let stripe = &self.stripes[number];
        if number < SHARED {
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
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread;

    #[test]
    fn a_stripe_belongs_to_one_taker_until_it_is_given_back() {
        let taken = Taken(AtomicU64::new(Taken::AT_FIRST));
        for number in SHARED..STRIPES {
            assert_eq!(taken.take(), Some(number));
        }
        assert_eq!(taken.take(), None);
        taken.give_back(SHARED + 7);
        assert_eq!((taken.take(), taken.take()), (Some(SHARED + 7), None));
    }

    #[test]
    fn a_thread_that_ends_leaves_its_stripe_to_others() {
        let one_after_another = (0..4 * STRIPES).map(|_| {
            let thread = thread::spawn(stripe_of_thread);
            thread.join().unwrap()
        });
        let own: Vec<_> = one_after_another.filter(|&number| number >= SHARED).collect();
        assert!(own.iter().collect::<HashSet<_>>().len() < own.len(), "{own:?}");
    }

    #[test]
    fn threads_that_live_at_once_have_different_stripes_as_long_as_there_are_some() {
        let all_there = Barrier::new(2 * STRIPES);
        let number = || {
            let number = stripe_of_thread();
            all_there.wait();
            number
        };
        let numbers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..2 * STRIPES).map(|_| scope.spawn(number)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let own: Vec<_> = numbers.into_iter().filter(|&number| number >= SHARED).collect();
        assert!(own.len() < 2 * STRIPES);
        assert_eq!(own.iter().collect::<HashSet<_>>().len(), own.len(), "{own:?}");
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

    #[test]
    fn what_a_thread_drops_when_it_ends_is_counted() {
        struct Last(Arc<Tally>);

        impl Drop for Last {
            fn drop(&mut self) {
                self.0.add().unwrap();
            }
        }

        thread_local! {
            static BEFORE: RefCell<Option<Last>> = const { RefCell::new(None) };
            static AFTER: RefCell<Option<Last>> = const { RefCell::new(None) };
        }

        let tally = Arc::new(Tally::new(u64::MAX));
        let shared = tally.clone();
        let thread = thread::spawn(move || {
            // One on each side of the number, whichever goes first.
            BEFORE.set(Some(Last(shared.clone())));
            shared.add().unwrap();
            AFTER.set(Some(Last(shared)));
        });
        thread.join().unwrap();
        assert_eq!(tally.sum(), 3);
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
            let taken = Taken(AtomicU64::new(Taken::AT_FIRST));
            let shared = Arc::new((taken, Tally::new(u64::MAX)));
            let count = |shared: &(Taken, Tally)| {
                let own = shared.0.take();
                shared.1.change_in(own.unwrap_or(0), 1);
                if let Some(number) = own {
                    shared.0.give_back(number);
                }
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
