//! A list of batches, and the amounts kept beside it; and the lists that one class has. Knows nothing of
//! what the batches wait for, beyond their stamps.

use crate::batch::{Batch, BatchList, Pool, Queue};
use crate::class::{Class, ClassTable};
use crate::rcu::Stamp;
use crate::sync::Tally;
use crate::sys::heap;
use once_cell::race::OnceBox;
use std::fmt;
use std::sync::atomic::Ordering;

/// A list of batches, and how much is in it: on cache lines of its own, because CPUs take turns
/// at it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Stage {
    /// Batches in the order in which they came, the newest first.
    arrived: BatchList,
    /// Batches that came before all of `arrived`, the oldest first.
    ordered: BatchList,
    objects: Tally,
    /// The fewest objects that were here since this was looked at last.
    fewest: Tally,
    /// The age of the newest stamp for which the list has been searched, so that a search is made
    /// once for a grace period and not for every batch that is added.
    searched: Tally,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self {
            arrived: BatchList::new(),
            ordered: BatchList::new(),
            objects: Tally::new(0),
            searched: Tally::new(0),
            fewest: Tally::new(0),
        }
    }

    /// How many objects are here, at a quiet moment.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.ordered.is_empty()
    }

    pub(super) fn push(&self, pool: &Pool, mut batch: Batch) {
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        self.objects.fetch_add(count, Ordering::Relaxed);
        self.arrived.push(pool, batch);
    }

    pub(super) fn push_all(&self, pool: &Pool, queue: Queue) {
        if !queue.is_empty() {
            self.objects.fetch_add(queue.objects(), Ordering::Relaxed);
            self.arrived.push_all(pool, queue);
        }
    }

    /// Adds batches that wait for no later grace period than those already here.
    pub(super) fn push_all_oldest(&self, pool: &Pool, queue: Queue) {
        if !queue.is_empty() {
            self.objects.fetch_add(queue.objects(), Ordering::Relaxed);
            self.ordered.push_all(pool, queue);
            self.search_again();
        }
    }

    pub(super) fn pop(&self, pool: &Pool) -> Option<Batch> {
        let mut batch = self.arrived.pop(pool).or_else(|| self.ordered.pop(pool))?;
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        let left = self.objects.fetch_sub(count, Ordering::Relaxed).saturating_sub(count);
        if left < self.fewest.load(Ordering::Relaxed) {
            self.fewest.store(left, Ordering::Relaxed);
        }
        Some(batch)
    }

    /// Takes every batch, whatever it waits for.
    pub(super) fn take_all(&self, pool: &Pool) -> Queue {
        let mut all = self.ordered.take_all(pool);
        all.append(pool, &mut self.arrived.take_all(pool));
        self.objects.fetch_sub(all.objects(), Ordering::Relaxed);
        all
    }

    /// How many objects nobody needed since the last call.
    pub(super) fn idle(&self) -> u64 {
        self.fewest.swap(self.objects(), Ordering::Relaxed)
    }

    /// Makes the next search look at the batches even if no grace period has ended since the last.
    fn search_again(&self) {
        self.searched.store(0, Ordering::Relaxed);
    }

    /// In the child of a fork: counts the objects that are here, and has all looked at again.
    pub(super) fn recount(&self, pool: &Pool) -> u64 {
        let mut all = self.ordered.take_all(pool);
        all.append(pool, &mut self.arrived.take_all(pool).reversed(pool));
        let objects = all.objects();
        self.ordered.push_all(pool, all);
        self.objects.store(objects, Ordering::Relaxed);
        self.search_again();
        objects
    }

    /// Takes batches whose grace period has passed, the oldest first and at most `most`.
    ///
    /// Stops at the first batch that still waits, so a search costs as much as it takes, however
    /// much waits. Stamps grow with time; batches of several CPUs may be out of order by one grace
    /// period, and then wait that much longer.
    pub(super) fn take_passed(&self, pool: &Pool, completed: &Stamp, most: usize) -> Queue {
        let (mut passed, age) = (Queue::new(), completed.age());
        // A batch that is added behind the search, or that another search has in hand, is found
        // after the next grace period.
        if self.is_empty()
            || self.searched.load(Ordering::Relaxed) >= age
            || self.searched.fetch_max(age, Ordering::Relaxed) >= age
        {
            return passed;
        }
        while let Some(mut batch) = self.take_oldest(pool) {
            if !pool.with(&mut batch, |body| body.stamp().has_passed(completed)) {
                self.ordered.push(pool, batch);
                break;
            }
            passed.push_back(pool, batch);
            if passed.batches() as usize == most {
                self.search_again();
                break;
            }
        }
        self.objects.fetch_sub(passed.objects(), Ordering::Relaxed);
        passed
    }

    /// Takes the batch that came first. `ordered` is refilled from `arrived` when it is empty, so
    /// every batch is moved once.
    fn take_oldest(&self, pool: &Pool) -> Option<Batch> {
        self.ordered.pop(pool).or_else(|| {
            let mut arrived = self.arrived.take_all(pool).reversed(pool);
            let oldest = arrived.pop_front(pool);
            self.ordered.push_all(pool, arrived);
            oldest
        })
    }
}

/// So many bytes of a class stay for the next refill, as no CPU's, however seldom they are needed;
/// twice as many whenever objects have to be carved after others went back to the slabs.
const LEAST_READY: u64 = 1 << 20;

/// What one class has beyond the CPUs.
#[derive(Debug)]
pub(crate) struct ClassDepot {
    /// May be allocated again at once.
    pub(crate) free_by_rcu_ttrace: Stage,
    /// How many objects there are left to those who may not carve (INV-L3).
    reserved: Tally,
    /// More than so many bytes of what may be allocated go to the slabs.
    most_ready: Tally,
    /// 1 if any went there since objects were carved last.
    gave_back: Tally,
    /// The most objects of a batch.
    pub(super) batch: usize,
    /// Waits until every reader that could hold an object has left.
    pub(crate) waiting_for_gp: Stage,
    /// Has waited, and is left to a call that runs hooks.
    pub(super) put_off: Stage,
    /// On the way back to the slabs; may still be allocated.
    pub(crate) waiting_for_gp_ttrace: Stage,
}

/// Those of all classes of an allocator, once it has had an object.
pub(super) struct ClassDepots(OnceBox<Box<[ClassDepot]>>);

impl ClassDepots {
    /// None yet; [`wake`](Self::wake) makes them.
    pub(super) fn new(classes: &ClassTable) -> Self {
        let depots = Self(OnceBox::new());
        if cfg!(loom) {
            // In the model, before its threads begin.
            depots.wake(classes);
        }
        depots
    }

    /// Makes empty ones, unless there are some; `false` when there is no memory.
    pub(super) fn wake(&self, classes: &ClassTable) -> bool {
        if self.0.get().is_some() {
            return true;
        }
        let empty = |class: &Class| ClassDepot::new(class.most_at_once());
        let all = heap::try_collect(classes.classes().iter().map(empty));
        let Some(all) = all.and_then(heap::try_box) else {
            return false;
        };
        // An error: others were made meanwhile.
        _ = self.0.set(all);
        true
    }

    /// None until there is one for each class.
    #[inline(always)]
    pub(super) fn all(&self) -> &[ClassDepot] {
        self.0.get().map_or(&[], |all| all)
    }
}

impl fmt::Debug for ClassDepots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.all().fmt(f)
    }
}

impl ClassDepot {
    /// Empty, for batches of at most so many objects.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            free_by_rcu_ttrace: Stage::new(),
            reserved: Tally::new(0),
            most_ready: Tally::new(LEAST_READY),
            gave_back: Tally::new(0),
            batch,
            waiting_for_gp: Stage::new(),
            put_off: Stage::new(),
            waiting_for_gp_ttrace: Stage::new(),
        }
    }

    /// Whether more is ready, of objects of `size` bytes, than stays for the next refill.
    pub(super) fn has_surplus(&self, size: u64) -> bool {
        self.free_by_rcu_ttrace.objects() * size > self.most_ready.load(Ordering::Relaxed)
    }

    /// Objects went back to the slabs, as more than enough.
    pub(super) fn gave_back(&self) {
        if self.gave_back.load(Ordering::Relaxed) == 0 {
            self.gave_back.store(1, Ordering::Relaxed);
        }
    }

    /// Objects are carved: if others went back before, twice as many stay from now on, of `most` bytes
    /// at most.
    pub(super) fn carves(&self, most: u64) {
        if self.gave_back.load(Ordering::Relaxed) != 0
            && self.gave_back.swap(0, Ordering::Relaxed) != 0
        {
            let twice = 2 * self.most_ready.load(Ordering::Relaxed);
            self.most_ready.store(twice.min(most).max(LEAST_READY), Ordering::Relaxed);
        }
    }

    /// No more stay than at first.
    pub(super) fn keeps_least(&self) {
        self.gave_back.store(0, Ordering::Relaxed);
        self.most_ready.store(LEAST_READY, Ordering::Relaxed);
    }

    /// Whether a batch may go from `free_by_rcu_ttrace` elsewhere (INV-L3).
    pub(super) fn has_spare_batch(&self) -> bool {
        let reserved = self.reserved.load(Ordering::Relaxed);
        reserved == 0 || self.free_by_rcu_ttrace.objects() >= reserved + self.batch as u64
    }

    /// Whether fewer objects are ready than are reserved.
    pub(super) fn lacks_reserved(&self) -> bool {
        let reserved = self.reserved.load(Ordering::Relaxed);
        reserved > 0 && self.free_by_rcu_ttrace.objects() < reserved
    }

    /// Reserves so many objects, if it were fewer.
    pub(super) fn reserve(&self, objects: u64) {
        self.reserved.fetch_max(objects, Ordering::Relaxed);
    }

    /// Reserves none any more.
    pub(super) fn unreserve(&self) {
        self.reserved.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::slab::Handle;

    fn stamped(pool: &Pool, cookie: u64) -> Batch {
        let mut batch = pool.take(true).unwrap();
        pool.with(&mut batch, |body| {
            body.set_stamp(Stamp::of(cookie, 0));
            body.objects.push(Handle::new(cookie as u32).unwrap());
        });
        batch
    }

    fn drain(pool: &Pool, mut batches: Queue) -> Vec<u64> {
        let mut cookies = Vec::new();
        while let Some(mut batch) = batches.pop_front(pool) {
            cookies.push(pool.with(&mut batch, |body| body.stamp().age()));
            pool.give(batch);
        }
        cookies
    }

    #[test]
    fn batches_are_taken_oldest_first_as_far_as_their_grace_periods_have_ended() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (1..=4).for_each(|cookie| stage.push(&pool, stamped(&pool, cookie)));
        let take = |completed| {
            drain(&pool, stage.take_passed(&pool, &Stamp::of(completed, 0), usize::MAX))
        };
        assert_eq!(take(2), [1, 2]);
        assert_eq!(take(2), [], "one search for each grace period");
        (5..=6).for_each(|cookie| stage.push(&pool, stamped(&pool, cookie)));
        assert_eq!(take(5), [3, 4, 5]);
        assert_eq!(stage.objects(), 1);
        assert_eq!(drain(&pool, stage.take_all(&pool)), [6]);
        assert!(stage.is_empty());
    }

    #[test]
    fn a_bounded_search_leaves_the_rest_to_the_next_one() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (1..=5).for_each(|cookie| stage.push(&pool, stamped(&pool, cookie)));
        let completed = Stamp::of(9, 0);
        let mut take = || drain(&pool, stage.take_passed(&pool, &completed, 2));
        assert_eq!([take(), take(), take(), take()], [vec![1, 2], vec![3, 4], vec![5], vec![]]);
    }

    #[test]
    fn a_batch_that_waits_for_no_later_grace_period_is_not_held_up_by_others() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        stage.push(&pool, stamped(&pool, 7));
        assert!(stage.take_passed(&pool, &Stamp::of(3, 0), usize::MAX).is_empty());
        let mut older = Queue::new();
        older.push_back(&pool, stamped(&pool, 2));
        stage.push_all_oldest(&pool, older);
        assert_eq!(drain(&pool, stage.take_passed(&pool, &Stamp::of(3, 0), usize::MAX)), [2]);
    }

    /// A stalled reader of one flavour must not make every grace period of the other look at all
    /// that waits for it.
    #[test]
    fn a_search_in_vain_looks_at_one_batch() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (100..110).for_each(|cookie| stage.push(&pool, stamped(&pool, cookie)));
        assert!(stage.take_passed(&pool, &Stamp::of(1, 0), usize::MAX).is_empty());
        // A batch without its stamp would pass, if the search looked at it.
        let mut ordered = stage.ordered.take_all(&pool);
        let mut waiting = Queue::new();
        waiting.push_back(&pool, ordered.pop_front(&pool).unwrap());
        while let Some(mut batch) = ordered.pop_front(&pool) {
            pool.with(&mut batch, |body| body.set_stamp(Stamp::PASSED));
            waiting.push_back(&pool, batch);
        }
        stage.ordered.push_all(&pool, waiting);
        assert!(stage.take_passed(&pool, &Stamp::of(2, 0), usize::MAX).is_empty());
        assert_eq!(stage.take_passed(&pool, &Stamp::of(100, 0), usize::MAX).batches(), 10);
    }
}
