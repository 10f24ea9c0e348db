//! A list of batches with the amounts kept beside it, and the lists that one class has. Of the
//! grace periods that batches wait for, this module knows only the stamps.

use crate::batch::{Batch, BatchList, Pool, Queue};
use crate::class::{Class, ClassTable};
use crate::rcu::Stamp;
use crate::sync::Tally;
use crate::sys::heap;
use once_cell::race::OnceBox;
use std::fmt;
use std::sync::atomic::Ordering;

/// A list of batches and the number of objects in it. It has its own cache lines, because all CPUs
/// write to it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Stage {
    /// Batches in the order of their arrival, the newest first.
    arrived: BatchList,
    /// Batches that arrived before all of `arrived`, the oldest first.
    ordered: BatchList,
    objects: Tally,
    /// The smallest number of objects here since the last call of `idle`.
    fewest: Tally,
    /// The age of the newest stamp that the list has been searched for. The list is searched once
    /// per grace period, not for every batch that is added.
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

    /// Returns the number of objects here. Exact only while no other thread adds or takes any.
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

    /// Adds batches whose grace periods are no later than those of the batches already here.
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

    /// Takes all batches, including those that are pending.
    pub(super) fn take_all(&self, pool: &Pool) -> Queue {
        let mut all = self.ordered.take_all(pool);
        all.append(pool, &mut self.arrived.take_all(pool));
        self.objects.fetch_sub(all.objects(), Ordering::Relaxed);
        all
    }

    /// Returns how many objects have not been needed since the last call.
    pub(super) fn idle(&self) -> u64 {
        self.fewest.swap(self.objects(), Ordering::Relaxed)
    }

    /// Makes the next search look at the batches even if no grace period has ended since the last.
    fn search_again(&self) {
        self.searched.store(0, Ordering::Relaxed);
    }

    /// In the child of a fork: counts the objects here, and makes the next search look at every
    /// batch.
    pub(super) fn recount(&self, pool: &Pool) -> u64 {
        let mut all = self.ordered.take_all(pool);
        all.append(pool, &mut self.arrived.take_all(pool).reversed(pool));
        let objects = all.objects();
        self.ordered.push_all(pool, all);
        self.objects.store(objects, Ordering::Relaxed);
        self.search_again();
        objects
    }

    /// Takes at most `most` batches whose grace period has passed, the oldest first.
    ///
    /// Stops at the first batch that is still pending, so the cost is proportional to the number of
    /// batches taken, not to the number that are pending. Stamps grow with time. Batches of several
    /// CPUs may be out of order by one grace period, and then stay pending that much longer.
    pub(super) fn take_passed(&self, pool: &Pool, completed: &Stamp, most: usize) -> Queue {
        let (mut passed, age) = (Queue::new(), completed.age());
        // A batch that is added behind the search, or that another search holds, is found after the
        // next grace period.
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

    /// Takes the batch that was added first. Refills `ordered` from `arrived` when it is empty, so
    /// each batch is moved once.
    fn take_oldest(&self, pool: &Pool) -> Option<Batch> {
        self.ordered.pop(pool).or_else(|| {
            let mut arrived = self.arrived.take_all(pool).reversed(pool);
            let oldest = arrived.pop_front(pool);
            self.ordered.push_all(pool, arrived);
            oldest
        })
    }
}

/// Bytes of a class that stay in the depot for the next refill, however seldom they are needed. The
/// amount doubles whenever objects have to be carved after others have gone back to the slabs.
const LEAST_READY: u64 = 1 << 20;

/// The lists of one class beyond the CPUs.
#[derive(Debug)]
pub(crate) struct ClassDepot {
    /// Objects that may be allocated again immediately.
    pub(crate) free_by_rcu_ttrace: Stage,
    /// The number of objects reserved for callers that must not carve (MEM-L3).
    reserved: Tally,
    /// Ready objects beyond this many bytes go back to the slabs.
    most_ready: Tally,
    /// 1 if objects have gone back to the slabs since objects were last carved.
    gave_back: Tally,
    /// The most objects in a batch.
    pub(super) batch: usize,
    /// Objects that wait until every reader that could hold one has left.
    pub(crate) waiting_for_gp: Stage,
    /// Objects that have waited, and are left to a call that runs hooks.
    pub(super) put_off: Stage,
    /// Objects on their way to the slabs; they may still be allocated.
    pub(crate) waiting_for_gp_ttrace: Stage,
}

/// The depots of all classes of an allocator, created at its first allocation.
pub(super) struct ClassDepots(OnceBox<Box<[ClassDepot]>>);

impl ClassDepots {
    /// Creates no depots yet; [`wake`](Self::wake) does.
    pub(super) fn new(classes: &ClassTable) -> Self {
        let depots = Self(OnceBox::new());
        if cfg!(loom) {
            // In a model they exist before its threads begin.
            depots.wake(classes);
        }
        depots
    }

    /// Creates empty depots unless they exist. Returns false if there is no memory.
    pub(super) fn wake(&self, classes: &ClassTable) -> bool {
        if self.0.get().is_some() {
            return true;
        }
        let empty = |class: &Class| ClassDepot::new(class.most_at_once());
        let all = heap::try_collect(classes.classes().iter().map(empty));
        let Some(all) = all.and_then(heap::try_box) else {
            return false;
        };
        // An error means that another thread has created them meanwhile.
        _ = self.0.set(all);
        true
    }

    /// Returns the depot of each class, or none before `wake`.
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
    /// Creates an empty depot for batches of at most `batch` objects.
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

    /// Returns true if more objects, of `size` bytes each, are ready than stay for the next refill:
    /// none if their slabs are `sparse`.
    pub(super) fn has_surplus(&self, size: u64, sparse: bool) -> bool {
        let most = if sparse { 0 } else { self.most_ready.load(Ordering::Relaxed) };
        self.free_by_rcu_ttrace.objects() * size > most
    }

    /// Records that surplus objects have gone back to the slabs.
    pub(super) fn gave_back(&self) {
        if self.gave_back.load(Ordering::Relaxed) == 0 {
            self.gave_back.store(1, Ordering::Relaxed);
        }
    }

    /// Records that objects are carved. If others have gone back to the slabs before, twice as many
    /// bytes stay from now on, but at most `most`.
    pub(super) fn carves(&self, most: u64) {
        if self.gave_back.load(Ordering::Relaxed) != 0
            && self.gave_back.swap(0, Ordering::Relaxed) != 0
        {
            let twice = 2 * self.most_ready.load(Ordering::Relaxed);
            self.most_ready.store(twice.min(most).max(LEAST_READY), Ordering::Relaxed);
        }
    }

    /// Resets the bytes that stay to `LEAST_READY`.
    pub(super) fn keeps_least(&self) {
        self.gave_back.store(0, Ordering::Relaxed);
        self.most_ready.store(LEAST_READY, Ordering::Relaxed);
    }

    /// Returns true if a batch may be taken from `free_by_rcu_ttrace` (MEM-L3).
    pub(super) fn has_spare_batch(&self) -> bool {
        let reserved = self.reserved.load(Ordering::Relaxed);
        reserved == 0 || self.free_by_rcu_ttrace.objects() >= reserved + self.batch as u64
    }

    /// Returns true if fewer objects are ready than are reserved.
    pub(super) fn lacks_reserved(&self) -> bool {
        let reserved = self.reserved.load(Ordering::Relaxed);
        reserved > 0 && self.free_by_rcu_ttrace.objects() < reserved
    }

    /// Returns the number of objects that are ready after a refill: a batch, or the reserved ones.
    pub(super) fn least_ready(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed).max(self.batch as u64)
    }

    /// Raises the number of reserved objects to `objects`, if it is smaller.
    pub(super) fn reserve(&self, objects: u64) {
        self.reserved.fetch_max(objects, Ordering::Relaxed);
    }

    /// Releases the reservation.
    pub(super) fn unreserve(&self) {
        self.reserved.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn batches_are_taken_oldest_first_as_far_as_their_grace_periods_have_ended() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (1..=4).for_each(|cookie| stage.push(&pool, pool.stamped(cookie)));
        let take = |completed| {
            stage.take_passed(&pool, &Stamp::of(completed, 0), usize::MAX).into_ages(&pool)
        };
        assert_eq!(take(2), [1, 2]);
        assert_eq!(take(2), [], "one search for each grace period");
        (5..=6).for_each(|cookie| stage.push(&pool, pool.stamped(cookie)));
        assert_eq!(take(5), [3, 4, 5]);
        assert_eq!(stage.objects(), 1);
        assert_eq!(stage.take_all(&pool).into_ages(&pool), [6]);
        assert!(stage.is_empty());
    }

    #[test]
    fn a_bounded_search_leaves_the_rest_to_the_next_one() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (1..=5).for_each(|cookie| stage.push(&pool, pool.stamped(cookie)));
        let completed = Stamp::of(9, 0);
        let take = || stage.take_passed(&pool, &completed, 2).into_ages(&pool);
        assert_eq!([take(), take(), take(), take()], [vec![1, 2], vec![3, 4], vec![5], vec![]]);
    }

    #[test]
    fn a_batch_that_waits_for_no_later_grace_period_is_not_held_up_by_others() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        stage.push(&pool, pool.stamped(7));
        assert!(stage.take_passed(&pool, &Stamp::of(3, 0), usize::MAX).is_empty());
        let mut older = Queue::new();
        older.push_back(&pool, pool.stamped(2));
        stage.push_all_oldest(&pool, older);
        assert_eq!(stage.take_passed(&pool, &Stamp::of(3, 0), usize::MAX).into_ages(&pool), [2]);
    }

    /// A stalled reader of one flavour must not make every grace period of the other look at all
    /// that waits for it.
    #[test]
    fn a_search_in_vain_looks_at_one_batch() {
        let pool = Pool::reserved(1 << 24);
        let stage = Stage::new();
        (100..110).for_each(|cookie| stage.push(&pool, pool.stamped(cookie)));
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
