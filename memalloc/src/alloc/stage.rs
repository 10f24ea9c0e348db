//! A list of batches that nothing holds up, with the amounts kept beside it, and the lists that one
//! class has.

use super::waiting::Waiting;
use crate::batch::{Batch, BatchList, Pool, Queue};
use crate::class::{Class, ClassTable};
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
    batches: BatchList,
    objects: Tally,
    /// The smallest number of objects here since the last call of `idle`.
    fewest: Tally,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { batches: BatchList::new(), objects: Tally::new(0), fewest: Tally::new(0) }
    }

    /// Returns the number of objects here. Exact only while no other thread adds or takes any.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, pool: &Pool, mut batch: Batch) {
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        self.objects.fetch_add(count, Ordering::Relaxed);
        self.batches.push(pool, batch);
    }

    pub(super) fn push_all(&self, pool: &Pool, queue: Queue) {
        if !queue.is_empty() {
            self.objects.fetch_add(queue.objects(), Ordering::Relaxed);
            self.batches.push_all(pool, queue);
        }
    }

    pub(super) fn pop(&self, pool: &Pool) -> Option<Batch> {
        let mut batch = self.batches.pop(pool)?;
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        let left = self.objects.fetch_sub(count, Ordering::Relaxed).saturating_sub(count);
        if left < self.fewest.load(Ordering::Relaxed) {
            self.fewest.store(left, Ordering::Relaxed);
        }
        Some(batch)
    }

    /// Takes at most `most` batches.
    pub(super) fn take_some(&self, pool: &Pool, most: usize) -> Queue {
        let mut some = Queue::new();
        while (some.batches() as usize) < most
            && let Some(batch) = self.batches.pop(pool)
        {
            some.push_back(pool, batch);
        }
        if !some.is_empty() {
            self.objects.fetch_sub(some.objects(), Ordering::Relaxed);
        }
        some
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes all batches.
    pub(super) fn take_all(&self, pool: &Pool) -> Queue {
        let all = self.batches.take_all(pool);
        self.objects.fetch_sub(all.objects(), Ordering::Relaxed);
        all
    }

    /// Returns how many objects have not been needed since the last call.
    pub(super) fn idle(&self) -> u64 {
        self.fewest.swap(self.objects(), Ordering::Relaxed)
    }

    /// In the child of a fork: counts the objects here.
    pub(super) fn recount(&self, pool: &Pool) -> u64 {
        let all = self.batches.take_all(pool);
        let objects = all.objects();
        self.batches.push_all(pool, all);
        self.objects.store(objects, Ordering::Relaxed);
        objects
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
    pub(crate) waiting_for_gp: Waiting,
    /// Objects that have waited, and are to be finalized or returned to their slabs before they are
    /// allocated again.
    pub(super) unfinished: Stage,
    /// Objects on their way to the slabs; they may still be allocated.
    pub(crate) waiting_for_gp_ttrace: Waiting,
}

impl ClassDepot {
    /// Returns true if no object is here.
    pub(super) fn is_empty(&self) -> bool {
        [&self.waiting_for_gp, &self.waiting_for_gp_ttrace].into_iter().all(Waiting::is_empty)
            && [&self.free_by_rcu_ttrace, &self.unfinished].into_iter().all(Stage::is_empty)
    }
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
            waiting_for_gp: Waiting::new(),
            unfinished: Stage::new(),
            waiting_for_gp_ttrace: Waiting::new(),
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
