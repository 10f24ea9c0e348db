//! How many entries there are.
//!
//! Without a limit every thread counts in a stripe of its own, so that writers which change different
//! parts of a trie do not pass one cache line to and fro, and a change does not wait, as it would to add
//! atomically, until all that it stored has left the processor. Threads beyond those that get a stripe share
//! the others.
//!
//! With a limit there is one word, which also counts the changes that are *under way*: an entry counts from
//! before it is linked until after it is unlinked, and in between the word says that one of them is about to
//! come or to go.
//!
//! - INV-E1: with a limit there are never more entries linked than counted, and never more counted than the
//!   limit (but where entries were there before the limit). Where no change is under way, as many are linked
//!   as are counted. So a word that says "as many as the limit, and nothing under way" was seen when the trie
//!   was full.

use crate::fault::Faults;
use crossbeam_utils::CachePadded;
use memalloc::sync::{AtomicU64, Ordering, pause, thread};
use once_cell::race::OnceBox;

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

/// More entries than there are handles of leaves: as good as no limit.
const UNLIMITED: u64 = 1 << 31;

/// One change under way, in the word of a count with a limit. The entries are below.
const UNDER_WAY: u64 = 1 << 32;

/// How often such a word is looked at before others are given the processor.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// Why there is no room for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There are as many as the limit allows.
    Full { limit: u64 },
    /// There may be, or there may have been: a change is under way.
    UnderWay,
}

/// A count of entries. Its sum is exact when nobody changes it.
#[derive(Debug)]
pub(crate) struct EntryCount {
    /// Without a limit, from the first change on. In each what was added less what was taken, modulo
    /// 2^64: an entry may go by another stripe than it came by.
    stripes: OnceBox<Stripes>,
    /// With one.
    limited: CachePadded<AtomicU64>,
    limit: u64,
}

type Stripes = [CachePadded<AtomicU64>; STRIPES];

fn no_entries() -> Box<Stripes> {
    Box::new(std::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))))
}

impl EntryCount {
    /// No entries yet, and never more than `limit`.
    pub(crate) fn new(limit: u64) -> Self {
        // A model has them before its threads begin.
        let stripes = if cfg!(loom) { OnceBox::with_value(no_entries()) } else { OnceBox::new() };
        Self { stripes, limited: CachePadded::new(AtomicU64::new(0)), limit }
    }

    /// Sets another limit, which what was counted may be beyond.
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

    /// Counts one more, which is to be linked. Called under the lock of the slot that it is to be in,
    /// where nothing has its key: so if this says that the trie is full, it was, without the key.
    #[inline]
    pub(crate) fn begin_add(&self, faults: Faults) -> Result<Counting<'_>, NoRoom> {
        if !self.is_limited() {
            self.change(1);
            return Ok(Counting { count: self, adds: true });
        }
        let limit = self.limit;
        let more = |word| (entries(word) < limit).then_some(word + 1 + UNDER_WAY);
        // ORDERING: pairs with the Release in `settle`: who finds nothing under way sees what the changes
        // did that were. Relaxed to count: what this thread links it releases by itself, and who sees it
        // linked, or gone, sees that it was counted, or was under way.
        match self.limited.fetch_update(Ordering::Relaxed, Ordering::Acquire, more) {
            Ok(_) => Ok(Counting { count: self, adds: true }),
            Err(word) if word < UNDER_WAY || faults.full_while_under_way() => {
                Err(NoRoom::Full { limit })
            }
            Err(_) => Err(NoRoom::UnderWay),
        }
    }

    /// Begins to count one less, which is linked and about to be unlinked.
    #[inline]
    pub(crate) fn begin_take(&self) -> Counting<'_> {
        if self.is_limited() {
            self.limited.fetch_add(UNDER_WAY, Ordering::Relaxed);
        }
        Counting { count: self, adds: false }
    }

    /// Ends what was under way, and counts by `by`.
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

    /// Lets the changes finish that keep it unknown whether the trie is full.
    #[cold]
    pub(crate) fn wait(&self) {
        let mut left = SPINS;
        while left > 0 {
            let word = self.limited.load(Ordering::Relaxed);
            if word < UNDER_WAY || entries(word) < self.limit {
                return;
            }
            pause();
            left -= 1;
        }
        thread::yield_now();
    }

    #[inline]
    fn change(&self, by: i64) {
        self.change_in(stripe_of_thread(), by);
    }

    /// Changes a stripe.
    #[inline]
    fn change_in(&self, number: usize, by: i64) {
        let stripe = &self.stripes.get_or_init(no_entries)[number];
        // Nothing is ordered by a stripe, so every access is relaxed.
        if number < SHARED {
            stripe.fetch_add(by as u64, Ordering::Relaxed);
        } else {
            // Nobody else stores there.
            stripe.store(stripe.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
        }
    }

    /// All that were counted.
    pub(crate) fn sum(&self) -> u64 {
        if self.is_limited() {
            return entries(self.limited.load(Ordering::Relaxed));
        }
        let stripes = self.stripes.get().into_iter().flatten();
        let stripes = stripes.map(|stripe| stripe.load(Ordering::Relaxed));
        // An entry that went may be seen, and not that it came.
        (stripes.fold(0, u64::wrapping_add) as i64).max(0) as u64
    }

    /// The bytes that the stripes take up.
    pub(crate) fn bytes(&self) -> u64 {
        self.stripes.get().map_or(0, size_of_val) as u64
    }
}

/// The entries that the word of a count with a limit says.
fn entries(word: u64) -> u64 {
    word % UNDER_WAY
}

/// An entry that is about to come or to go. If neither [`done`](Self::done), it stays as it was.
#[derive(Debug)]
#[must_use = "the change is not counted when this is dropped"]
pub(crate) struct Counting<'t> {
    count: &'t EntryCount,
    adds: bool,
}

impl Counting<'_> {
    /// It is linked, or unlinked.
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
    fn a_limit_that_no_trie_reaches_is_none() {
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
    fn what_a_thread_drops_when_it_ends_is_counted() {
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
            // One on each side of the number, whichever goes first.
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
    use loom::thread;
    use std::sync::Arc;

    #[test]
    fn a_stripe_that_changes_hands_loses_nothing() {
        loom::model(|| {
            let taken = Taken(AtomicU64::new(Taken::AT_FIRST));
            let shared = Arc::new((taken, EntryCount::new(u64::MAX)));
            let count = |shared: &(Taken, EntryCount)| {
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
