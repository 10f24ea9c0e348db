//! The number of entries.
//!
//! Without a limit every thread counts in its own stripe. So writers that change different parts of
//! a trie do not bounce a cache line, and a change avoids an atomic addition, which would wait
//! until all its earlier stores have left the processor. Threads beyond those that get a stripe
//! share some stripes.
//!
//! With a limit there is one word, which also counts the changes that are *under way*. An entry is
//! counted from before it is linked until after it is unlinked; during its insertion or removal the
//! word has one change under way.
//!
//! - QPT-E1: with a limit, the number of linked entries is never above the count, and the count is
//!   never above the limit (except for entries that were there before the limit was set). While no
//!   change is under way, the number of linked entries equals the count. So if the word is at the
//!   limit with nothing under way, the trie was full when the word was read.

use crate::fault::Faults;
use crossbeam_utils::CachePadded;
use memalloc::sync::{AtomicU64, Ordering, pause};
use memalloc::{YIELDS, let_others_run};
use once_cell::race::OnceBox;

/// The number of stripes of a count without a limit.
const STRIPES: usize = if cfg!(loom) { 2 } else { 64 };

/// The number of shared stripes, which are the first ones.
const SHARED: usize = if cfg!(loom) { 1 } else { 16 };

/// The stripes that are not free: one bit for each. No thread owns a stripe whose bit is clear.
#[cfg(any(test, not(loom)))]
#[derive(Debug)]
struct Taken(AtomicU64);

#[cfg(any(test, not(loom)))]
const _: () = assert!(STRIPES <= u64::BITS as usize);

#[cfg(any(test, not(loom)))]
impl Taken {
    const AT_FIRST: u64 = (1 << SHARED) - 1;

    /// Takes a free stripe and returns its number.
    fn take(&self) -> Option<usize> {
        let lowest = |taken: u64| {
            let free = taken.trailing_ones() as usize;
            (free < STRIPES).then_some(free)
        };
        // ORDERING: pairs with the Release in `give_back`: the next thread that stores to the
        // stripe has seen what was counted there before. Falls to
        // `a_stripe_that_changes_hands_loses_nothing`.
        let before = self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            lowest(taken).map(|free| taken | 1 << free)
        });
        before.ok().and_then(lowest)
    }

    /// Gives back a stripe that `take` returned.
    fn give_back(&self, number: usize) {
        // ORDERING: pairs with the Acquire in `take`. Falls to
        // `a_stripe_that_changes_hands_loses_nothing`.
        self.0.fetch_and(!(1 << number), Ordering::Release);
    }
}

/// Returns the number of the stripe, of every count without a limit, to which only this thread
/// stores; or the number of a shared stripe. (Models of a trie count in a shared stripe.)
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

        memalloc::sync::thread_local! {
            static NUMBER: Number = Number::new();
        }
        // The destructor of another thread-local may call this after `NUMBER` was dropped.
        NUMBER.try_with(|number| number.0).unwrap_or(0)
    }
    #[cfg(loom)]
    0
}

/// More entries than there are handles of leaves, so such a limit is no limit.
const UNLIMITED: u64 = 1 << 31;

/// One change under way, in the word of a count with a limit. The bits below count entries.
const UNDER_WAY: u64 = 1 << 32;

/// The number of times that this word is read before the thread yields the processor.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// The reason why there is no room for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The number of entries is at the limit.
    Full { limit: u64 },
    /// The count is at the limit, but a change is under way, so the trie may not be full.
    UnderWay,
}

/// A count of entries. Its sum is exact while no thread changes it.
#[derive(Debug)]
pub(crate) struct EntryCount {
    /// Used without a limit, from the first change on. Each stripe has additions minus removals,
    /// modulo 2^64: an entry may be removed in another stripe than it was added in.
    stripes: OnceBox<Stripes>,
    /// Used with a limit.
    limited: CachePadded<AtomicU64>,
    limit: u64,
}

type Stripes = [CachePadded<AtomicU64>; STRIPES];

fn no_entries() -> Box<Stripes> {
    Box::new(std::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))))
}

impl EntryCount {
    /// Creates a count of 0 that never exceeds `limit`.
    pub(crate) fn new(limit: u64) -> Self {
        // A model needs the stripes before its threads begin.
        let stripes = OnceBox::new();
        if cfg!(loom) {
            _ = stripes.set(no_entries());
        }
        Self { stripes, limited: CachePadded::new(AtomicU64::new(0)), limit }
    }

    /// Sets another limit; the current count may exceed it.
    pub(crate) fn limit_to(&mut self, limit: u64) {
        let limited = Self::new(limit);
        match self.sum() {
            0 => {}
            sum if limited.is_limited() => limited.limited.store(sum, Ordering::Relaxed),
            sum => limited.change_in(0, sum as i64),
        }
        *self = limited;
    }

    #[inline(always)]
    fn is_limited(&self) -> bool {
        self.limit < UNLIMITED
    }

    /// Counts one more entry, which is about to be linked. Called under the lock of its slot, while
    /// no leaf has its key: so if this returns `Full`, the trie was full and the key was absent.
    #[inline]
    pub(crate) fn begin_add(&self, faults: Faults) -> Result<Counting<'_>, NoRoom> {
        if !self.is_limited() {
            self.change(1);
            return Ok(Counting { count: self, adds: true });
        }
        let limit = self.limit;
        let more = |word| (entries(word) < limit).then_some(word + 1 + UNDER_WAY);
        // ORDERING: pairs with the Release in `settle`: a thread that finds nothing under way sees
        // the stores of the changes that were under way. Counting itself is Relaxed: this thread
        // releases what it links by another store, and a thread that sees an entry linked, or
        // unlinked, sees that it was counted, or was under way. Falls to `loom`
        // `full_is_said_when_it_is_so_only`.
        match self.limited.fetch_update(Ordering::Relaxed, Ordering::Acquire, more) {
            Ok(_) => Ok(Counting { count: self, adds: true }),
            Err(word) if word < UNDER_WAY || faults.full_while_under_way() => {
                Err(NoRoom::Full { limit })
            }
            Err(_) => Err(NoRoom::UnderWay),
        }
    }

    /// Begins to count one entry less. The entry is linked and about to be unlinked.
    #[inline]
    pub(crate) fn begin_take(&self) -> Counting<'_> {
        if self.is_limited() {
            self.limited.fetch_add(UNDER_WAY, Ordering::Relaxed);
        }
        Counting { count: self, adds: false }
    }

    /// Ends a change that was under way, and adds `by` to the count.
    #[inline]
    fn settle(&self, by: i64) {
        if self.is_limited() {
            let less = UNDER_WAY.wrapping_add_signed(-by);
            // ORDERING: pairs with the Acquire in `begin_add`. Falls to `loom`
            // `full_is_said_when_it_is_so_only`.
            self.limited.fetch_sub(less, Ordering::Release);
        } else if by != 0 {
            self.change(by);
        }
    }

    /// Waits for changes under way that leave it unknown whether the trie is full.
    #[cold]
    pub(crate) fn wait(&self) {
        let is_known = || {
            let word = self.limited.load(Ordering::Relaxed);
            word < UNDER_WAY || entries(word) < self.limit
        };
        let mut left = SPINS;
        while left > 0 {
            if is_known() {
                return;
            }
            pause();
            left -= 1;
        }
        // A yield lets a thread of this priority run, a sleep also one of a lower.
        for round in [0, YIELDS] {
            let_others_run(round);
            if cfg!(loom) || is_known() {
                return;
            }
        }
    }

    #[inline]
    fn change(&self, by: i64) {
        self.change_in(stripe_of_thread(), by);
    }

    /// Adds `by` to a stripe.
    #[inline]
    fn change_in(&self, number: usize, by: i64) {
        let stripe = &self.stripes.get_or_init(no_entries)[number];
        // A stripe orders nothing, so every access is relaxed.
        if number < SHARED {
            stripe.fetch_add(by as u64, Ordering::Relaxed);
        } else {
            // No other thread stores to this stripe.
            stripe.store(stripe.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
        }
    }

    /// Returns the number of entries.
    pub(crate) fn sum(&self) -> u64 {
        if self.is_limited() {
            return entries(self.limited.load(Ordering::Relaxed));
        }
        let stripes = self.stripes.get().into_iter().flatten();
        let stripes = stripes.map(|stripe| stripe.load(Ordering::Relaxed));
        // A removal may be seen without the insertion before it.
        (stripes.fold(0, u64::wrapping_add) as i64).max(0) as u64
    }

    /// Returns the size of the stripes, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.stripes.get().map_or(0, size_of_val) as u64
    }
}

/// Returns the number of entries in the word of a count with a limit.
fn entries(word: u64) -> u64 {
    word % UNDER_WAY
}

/// An entry that is being inserted or removed. If this is dropped without [`done`](Self::done), the
/// count is as before.
#[derive(Debug)]
#[must_use = "the change is not counted when this is dropped"]
pub(crate) struct Counting<'t> {
    count: &'t EntryCount,
    adds: bool,
}

impl Counting<'_> {
    /// The entry has been linked, or unlinked.
    #[inline]
    pub(crate) fn done(self) {
        self.count.settle(if self.adds { 0 } else { -1 });
        std::mem::forget(self);
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.count.settle(if self.adds { -1 } else { 0 });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread;

    fn add(count: &EntryCount) {
        count.begin_add(Faults::default()).unwrap().done();
    }

    #[test]
    fn a_count_with_a_limit_is_full_when_nothing_is_under_way() {
        let count = EntryCount::new(2);
        add(&count);
        let begin = || count.begin_add(Faults::default());
        let coming = begin().unwrap();
        assert_eq!(begin().unwrap_err(), NoRoom::UnderWay, "the other one is not there yet");
        drop(coming);
        assert_eq!(count.sum(), 1, "and did not come");
        begin().unwrap().done();
        assert_eq!(begin().unwrap_err(), NoRoom::Full { limit: 2 });
        let going = count.begin_take();
        assert_eq!((begin().unwrap_err(), count.sum()), (NoRoom::UnderWay, 2));
        drop(going);
        assert_eq!(begin().unwrap_err(), NoRoom::Full { limit: 2 }, "it stayed");
        count.begin_take().done();
        assert_eq!(count.sum(), 1);
        begin().unwrap().done();
    }

    #[test]
    fn a_limit_that_no_trie_can_reach_is_no_limit() {
        for limit in [1 << 31, u64::MAX] {
            let count = EntryCount::new(limit);
            assert_eq!(count.bytes(), 0, "nor is there anything of one that counts nothing");
            add(&count);
            assert_eq!(count.bytes(), size_of::<Stripes>() as u64);
        }
    }

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
        let count = EntryCount::new(u64::MAX);
        for _ in 0..3 {
            let all_there = Barrier::new(2 * STRIPES);
            let work = || {
                add(&count);
                all_there.wait();
                for _ in 0..1000 {
                    add(&count);
                    count.begin_take().done();
                }
            };
            thread::scope(|scope| {
                for _ in 0..2 * STRIPES {
                    scope.spawn(work);
                }
            });
        }
        assert_eq!(count.sum(), 6 * STRIPES as u64);
    }

    #[test]
    fn a_change_by_a_destructor_of_an_ending_thread_is_counted() {
        struct Last(Arc<EntryCount>);

        impl Drop for Last {
            fn drop(&mut self) {
                add(&self.0);
            }
        }

        thread_local! {
            static BEFORE: RefCell<Option<Last>> = const { RefCell::new(None) };
            static AFTER: RefCell<Option<Last>> = const { RefCell::new(None) };
        }

        let count = Arc::new(EntryCount::new(u64::MAX));
        let shared = count.clone();
        let thread = thread::spawn(move || {
            // One destructor on each side of the thread's number, whichever runs first.
            BEFORE.set(Some(Last(shared.clone())));
            add(&shared);
            AFTER.set(Some(Last(shared)));
        });
        thread.join().unwrap();
        assert_eq!(count.sum(), 3);
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::explore::Model;
    use loom::thread;
    use std::sync::Arc;

    /// Two threads had the same stripe, one after the other.
    const ONE_FOR_TWO: &str = "one stripe for two";

    #[test]
    fn a_stripe_that_changes_hands_loses_nothing() {
        let name = "a stripe changes hands";
        let model = Model { name, bound: None, least: 10, happens: &[ONE_FOR_TWO] };
        model.explore(|seen| {
            let taken = Taken(AtomicU64::new(Taken::AT_FIRST));
            let shared = Arc::new((taken, EntryCount::new(u64::MAX)));
            let count = |shared: &(Taken, EntryCount)| {
                let own = shared.0.take();
                shared.1.change_in(own.unwrap_or(0), 1);
                if let Some(number) = own {
                    shared.0.give_back(number);
                }
                own
            };
            let others = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || count(&shared))
            });
            let own = count(&shared);
            let [first, second] = others.map(|other| other.join().unwrap());
            assert_eq!(shared.1.sum(), 3);
            let mut stripes: Vec<_> = [own, first, second].into_iter().flatten().collect();
            stripes.sort_unstable();
            seen.note(ONE_FOR_TWO, stripes.windows(2).any(|two| two[0] == two[1]));
        });
    }
}
