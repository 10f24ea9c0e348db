//! The objects of a class that one CPU has freed and may not allocate yet, and those that have
//! passed their grace period. The queues of batches are touched only by the thread that has the
//! cache, usually on its CPU.
//!
//! ```text
//!  free_rcu -> array -> free_by_rcu -> waiting_for_gp -> passed -> alloc
//!                       (no stamp)     (one stamp)
//! ```

use crate::batch::{Batch, Pool, Queue, Stack};
use crate::class::{BATCH_CAPACITY, UNIT};
use crate::rcu::Stamp;

/// The most empty batches to keep.
const MOST_SPARE: u32 = 16;

/// The number of batches to keep of those that have not been needed since the previous grace
/// period.
const KEPT: u32 = if cfg!(loom) { 0 } else { 2 };

/// Queues of deferred batches. All zero, it is empty.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Deferred {
    /// Freed; no grace period has begun for them.
    pub(crate) free_by_rcu: Queue,
    /// Waiting for the grace period of `stamp`.
    pub(crate) waiting_for_gp: Queue,
    stamp: [u32; 4],
    /// May be allocated; the batches that were freed last come first.
    pub(crate) passed: Queue,
    /// Empty batches.
    spare: Queue,
    /// This queue's part of the allocator's pending bytes, in units: an upper bound of what is
    /// pending here.
    counted_units: u32,
    /// The number of batches to collect before the next check for readers. 0 while checks succeed
    /// at once; it grows with checks that are expensive or fail.
    patience: u32,
    /// The number of those batches that are still missing.
    until_look: u32,
}

impl Deferred {
    pub(crate) fn pending(&self) -> u64 {
        self.free_by_rcu.objects() + self.waiting_for_gp.objects()
    }

    /// Returns true if no object is here, pending or passed, nor counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending() == 0 && self.passed.is_empty() && self.counted_units == 0
    }

    /// Returns this queue's part of the allocator's pending bytes.
    pub(crate) fn counted(&self) -> u64 {
        u64::from(self.counted_units) * UNIT as u64
    }

    /// Sets the bytes that `counted` returns. The sizes of classes are multiples of a unit.
    pub(crate) fn set_counted(&mut self, bytes: u64) {
        self.counted_units = (bytes / UNIT as u64) as u32;
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp::from_words(self.stamp)
    }

    /// Adds a full batch.
    pub(crate) fn collect(&mut self, pool: &Pool, batch: Batch) {
        self.free_by_rcu.push_back(pool, batch);
        self.until_look = self.until_look.saturating_sub(1);
    }

    /// Returns true if enough has been collected for a check for readers.
    pub(crate) fn is_due(&self) -> bool {
        self.until_look == 0 && !(self.free_by_rcu.is_empty() && self.waiting_for_gp.is_empty())
    }

    /// Returns true if one more batch would make the check for readers due.
    pub(crate) fn is_due_for_one_more(&self) -> bool {
        self.until_look <= 1
    }

    /// Takes everything that waits, after a check that found no reader inside. That check was
    /// cheap.
    pub(crate) fn pass_all(&mut self, pool: &Pool) -> Queue {
        self.patience /= 2;
        self.until_look = self.patience;
        let mut all = self.waiting_for_gp.take();
        all.append(pool, &mut self.free_by_rcu);
        all
    }

    /// Records that a check was expensive or failed: more batches are collected before the next
    /// one, up to `most`.
    pub(crate) fn look_was_dear(&mut self, most: u32) {
        self.patience = (2 * self.patience + 1).min(most);
        self.until_look = self.patience;
    }

    /// Stamps the objects that have no stamp yet. No earlier ones may be waiting.
    pub(crate) fn begin(&mut self, stamp: Stamp) {
        debug_assert!(self.waiting_for_gp.is_empty());
        self.waiting_for_gp = self.free_by_rcu.take();
        self.stamp = stamp.to_words();
    }

    /// Takes the waiting objects if `completed` covers their stamp.
    pub(crate) fn take_passed(&mut self, completed: &Stamp) -> Queue {
        if !self.waiting_for_gp.is_empty() && self.stamp().has_passed(completed) {
            self.waiting_for_gp.take()
        } else {
            Queue::new()
        }
    }

    /// Lets objects be allocated. Returns those that were not needed since the previous call,
    /// except for a few batches.
    pub(crate) fn let_pass(&mut self, pool: &Pool, passed: Queue) -> Queue {
        if passed.is_empty() {
            return passed;
        }
        let mut unneeded = std::mem::replace(&mut self.passed, passed);
        let most = self.passed.batches() + KEPT;
        while self.passed.batches() < most
            && let Some(batch) = unneeded.pop_front(pool)
        {
            self.passed.push_back(pool, batch);
        }
        unneeded
    }

    /// Calls `unpack` with the objects of the first batch that has passed, and keeps the objects
    /// that it leaves.
    pub(crate) fn unpack_passed<R>(
        &mut self,
        pool: &Pool,
        unpack: impl FnOnce(&mut Stack<BATCH_CAPACITY>) -> Option<R>,
    ) -> Option<R> {
        let mut batch = self.passed.pop_front(pool)?;
        let (taken, is_empty) =
            pool.with(&mut batch, |body| (unpack(&mut body.objects), body.objects.is_empty()));
        if is_empty {
            self.keep_spare(pool, batch);
        } else {
            self.passed.push_front(pool, batch);
        }
        taken
    }

    /// Returns an empty batch.
    pub(crate) fn take_spare(&mut self, pool: &Pool) -> Option<Batch> {
        self.spare.pop_front(pool).or_else(|| pool.take(true))
    }

    /// Keeps an empty batch for later, or gives it to the pool.
    pub(crate) fn keep_spare(&mut self, pool: &Pool, mut batch: Batch) {
        pool.with(&mut batch, |body| body.objects.truncate(0));
        if self.spare.batches() < MOST_SPARE {
            self.spare.push_front(pool, batch);
        } else {
            pool.give(batch);
        }
    }

    /// Gives all empty batches to the pool.
    pub(crate) fn give_spare(&mut self, pool: &Pool) {
        while let Some(batch) = self.spare.pop_front(pool) {
            pool.give(batch);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::slab::Handle;

    fn batch(pool: &Pool, number: u32) -> Batch {
        let mut batch = pool.take(true).unwrap();
        pool.with(&mut batch, |body| body.objects.push(Handle::new(number).unwrap()));
        batch
    }

    /// Collects batches until a check is due. Returns how many that took.
    fn collect_until_due(deferred: &mut Deferred, pool: &Pool) -> u32 {
        let mut collected = 0;
        loop {
            deferred.collect(pool, batch(pool, 1));
            collected += 1;
            if deferred.is_due() {
                return collected;
            }
        }
    }

    #[test]
    fn the_window_grows_when_checks_for_readers_fail_and_shrinks_when_they_succeed() {
        let pool = Pool::reserved(1 << 24);
        let mut deferred = Deferred::default();
        let mut windows = Vec::new();
        for _ in 0..5 {
            windows.push(collect_until_due(&mut deferred, &pool));
            deferred.look_was_dear(8);
        }
        assert_eq!(windows, [1, 1, 3, 7, 8], "no more than it is told");
        windows.clear();
        for _ in 0..5 {
            windows.push(collect_until_due(&mut deferred, &pool));
            assert!(!deferred.pass_all(&pool).is_empty() && deferred.pending() == 0);
        }
        assert_eq!(windows, [8, 4, 2, 1, 1]);
    }

    #[test]
    fn all_but_two_batches_not_needed_since_the_last_grace_period_are_given_up() {
        let pool = Pool::reserved(1 << 24);
        let mut deferred = Deferred::default();
        let passed = |numbers: std::ops::Range<u32>| {
            let mut passed = Queue::new();
            numbers.for_each(|number| passed.push_back(&pool, batch(&pool, number)));
            passed
        };
        assert!(deferred.let_pass(&pool, passed(1..6)).is_empty());
        let unneeded = deferred.let_pass(&pool, passed(6..8));
        assert_eq!((unneeded.objects(), deferred.passed.objects()), (3, 2 + u64::from(KEPT)));
        let newest = deferred.unpack_passed(&pool, Stack::pop);
        assert_eq!(newest, Handle::new(6), "the newest batch comes first");
    }
}
