//! The batches of a class that wait for grace periods, with the number of their objects. Of grace
//! periods, this module knows only the stamps.

use crate::batch::{Batch, Pool, Queue, StampedList};
use crate::rcu::Stamp;
use crate::sync::Ordering::Relaxed;
use crate::sync::Tally;
use std::cmp::Reverse;

/// The number of lists. Of one flavour, a stamp that is taken now is one of the two newest, so that
/// batches of at most two lists are pending, and those of the others have passed. While a reader of
/// one flavour holds up stamps of both, each grace period of the other makes one more.
const LISTS: usize = if cfg!(loom) { 2 } else { 4 };

/// Lists of batches, one for each stamp as far as they go. It has its own cache lines, because all
/// CPUs write to it.
///
/// No move costs more the more waits here: a chain joins a list in one step, and a search looks
/// only at the stamps of the lists and at the batches that it takes. The price: batches that are
/// added when every list has others share one, and pass with the newest of them.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Waiting {
    lists: [StampedList; LISTS],
    objects: Tally,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { lists: std::array::from_fn(|_| StampedList::new()), objects: Tally::new(0) }
    }

    /// Returns the number of objects here. Exact only while no other thread adds or takes any.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lists.iter().all(StampedList::is_empty)
    }

    /// Adds batches that wait for `stamp`.
    pub(super) fn push_all(&self, pool: &Pool, batches: Queue, stamp: Stamp) {
        if !batches.is_empty() {
            self.objects.fetch_add(batches.objects(), Relaxed);
            self.list_for(stamp).push_all(pool, batches, stamp);
        }
    }

    pub(super) fn push(&self, pool: &Pool, batch: Batch, stamp: Stamp) {
        let mut one = Queue::new();
        one.push_back(pool, batch);
        self.push_all(pool, one, stamp);
    }

    /// Returns the list in which a stamp holds up others, or is held up by them, the least. A hint:
    /// other threads may be choosing too.
    fn list_for(&self, stamp: Stamp) -> &StampedList {
        #[derive(PartialEq, Eq, PartialOrd, Ord)]
        enum Choice {
            SameStamp,
            Empty,
            Newer(u64),
            Older(Reverse<u64>),
        }
        let choice = |list: &&StampedList| match list.stamp().age() {
            age if age == stamp.age() => Choice::SameStamp,
            age if age > stamp.age() => Choice::Newer(age),
            _ if list.is_empty() => Choice::Empty,
            age => Choice::Older(Reverse(age)),
        };
        self.lists.iter().min_by_key(choice).unwrap_or(&self.lists[0])
    }

    /// Takes a batch, which may be pending.
    pub(super) fn pop(&self, pool: &Pool) -> Option<Batch> {
        let mut batch = self.lists.iter().find_map(|list| list.pop(pool))?;
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        self.objects.fetch_sub(count, Relaxed);
        Some(batch)
    }

    /// Takes at most `most` batches whose grace periods have passed, the newest first: those that
    /// finalizers have freed come before more of those that may own such.
    pub(super) fn take_passed(&self, pool: &Pool, completed: &Stamp, most: usize) -> Queue {
        let mut passed = Queue::new();
        let mut lists = self.lists.each_ref().map(|list| (Reverse(list.stamp().age()), list));
        lists.sort_unstable_by_key(|&(age, _)| age);
        for (_, list) in lists {
            while (passed.batches() as usize) < most
                && let Some(batch) = list.pop_passed(pool, completed)
            {
                passed.push_back(pool, batch);
            }
        }
        if !passed.is_empty() {
            self.objects.fetch_sub(passed.objects(), Relaxed);
        }
        passed
    }

    /// Takes all batches, including those that are pending.
    pub(super) fn take_all(&self, pool: &Pool) -> Queue {
        let mut all = Queue::new();
        for list in &self.lists {
            all.append(pool, &mut list.take_all(pool));
        }
        self.objects.fetch_sub(all.objects(), Relaxed);
        all
    }

    /// In the child of a fork: counts the objects here.
    pub(super) fn recount(&self, pool: &Pool) -> u64 {
        let recount = |list: &StampedList| {
            let all = list.take_all(pool);
            let objects = all.objects();
            list.push_all(pool, all, list.stamp());
            objects
        };
        let objects = self.lists.iter().map(recount).sum();
        self.objects.store(objects, Relaxed);
        objects
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::batch::visits;

    /// Adds a batch that waits for the RCU epoch of its number.
    fn add(waiting: &Waiting, pool: &Pool, epoch: u32) {
        waiting.push(pool, pool.numbered(epoch), Stamp::of_epochs([epoch.into(), 0]));
    }

    fn take(waiting: &Waiting, pool: &Pool, epoch: u64, most: usize) -> Vec<u32> {
        let completed = Stamp::of_epochs([epoch, 0]);
        let mut taken = waiting.take_passed(pool, &completed, most).into_numbers(pool);
        taken.sort_unstable();
        taken
    }

    #[test]
    fn batches_are_taken_once_their_grace_periods_have_passed() {
        let (pool, waiting) = (Pool::reserved(1 << 24), Waiting::new());
        [1, 2, 2, 3].iter().for_each(|&epoch| add(&waiting, &pool, epoch));
        let take = |epoch| take(&waiting, &pool, epoch, usize::MAX);
        assert_eq!([take(0), take(1), take(2)], [vec![], vec![1], vec![2, 2]]);
        // The two newest stamps, over and over.
        for epoch in 4..100 {
            add(&waiting, &pool, epoch);
            assert_eq!(take(u64::from(epoch) - 1), [epoch - 1]);
        }
        assert_eq!(waiting.objects(), 1);
        assert_eq!(take(99), [99]);
        assert!(waiting.is_empty());
    }

    /// As many as one call takes are taken by each; the others come later, and hold up no others.
    #[test]
    fn a_bounded_search_leaves_the_rest_to_the_next_one() {
        let (pool, waiting) = (Pool::reserved(1 << 24), Waiting::new());
        (0..9).for_each(|_| add(&waiting, &pool, 1));
        let mut taken = 0;
        for epoch in 2..6 {
            add(&waiting, &pool, epoch);
            taken += take(&waiting, &pool, u64::from(epoch), 3).len();
        }
        assert_eq!((taken, waiting.objects()), (12, 1));
    }

    /// However many are taken at once, and whichever lists they are in.
    #[test]
    fn of_those_that_have_passed_the_newest_are_taken_first() {
        let (pool, waiting) = (Pool::reserved(1 << 24), Waiting::new());
        let take = |most| take(&waiting, &pool, 9, most);
        [3, 1, 2].iter().for_each(|&epoch| add(&waiting, &pool, epoch));
        assert_eq!(take(2), [2, 3]);
        add(&waiting, &pool, 4);
        assert_eq!([take(1), take(1)], [[4], [1]]);
    }

    #[test]
    fn a_batch_that_has_passed_already_is_not_held_up_by_others() {
        let (pool, waiting) = (Pool::reserved(1 << 24), Waiting::new());
        add(&waiting, &pool, 7);
        assert!(take(&waiting, &pool, 3, usize::MAX).is_empty());
        add(&waiting, &pool, 2);
        assert_eq!(take(&waiting, &pool, 3, usize::MAX), [2]);
    }

    /// Also with more stamps than there are lists, as behind a reader of the other flavour.
    #[test]
    fn a_search_looks_at_no_batch_but_those_that_it_takes() {
        let (pool, waiting) = (Pool::reserved(1 << 24), Waiting::new());
        let visits_of = |call: &dyn Fn() -> usize| {
            let before = visits::so_far();
            (call(), visits::so_far() - before)
        };
        for rcu in 1..=1_000 {
            waiting.push(&pool, pool.numbered(rcu), Stamp::of_epochs([rcu.into(), 5]));
            let search = || take(&waiting, &pool, rcu.into(), usize::MAX).len();
            assert_eq!(visits_of(&search), (0, 0), "in vain");
        }
        let completed = Stamp::of_epochs([1_000, 5]);
        let few = || waiting.take_passed(&pool, &completed, 2).batches() as usize;
        let (taken, visits) = visits_of(&few);
        assert!(taken == 2 && visits <= 8 * 2, "{visits} visits for {taken}");
        while few() > 0 {}
        assert!(waiting.is_empty());
    }
}
