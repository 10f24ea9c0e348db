//! From a deferred free to the next life of the object, on the CPU that freed it: when grace periods
//! begin, what happens when they have passed, and how what is pending is bounded.

use super::raw::Raw;
use crate::batch::{Queue, Stack};
use crate::cpu::{Active, Arrays, Deferred};
use crate::rcu::{Backoff, WaitFor};
use crate::slab::Handle;
use crate::sync::Ordering::Relaxed;
use crate::sys::rseq::CacheRow;
use crate::sys::thread;

/// The most that a CPU collects of a class before it looks at readers, while a look needs no
/// barrier: in batches, and in bytes.
const MOST_BATCHES: u64 = 8;
const MOST_BYTES: u64 = 256 << 10;

/// The same while a look may need one, which takes as long as thousands of allocations.
const MOST_BARRIER_BYTES: u64 = 512 << 10;

/// Looks at a reader that is inside: most sections are shorter than a few looks.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 16 };

/// So often, with a growing pause in between, whoever waits for room finds nothing that waits before it
/// goes on: what is pending is in the hands of a thread that it interrupted, or in caches.
const MOST_EMPTY: u32 = if cfg!(loom) { 1 } else { 80 };

/// Behind a stalled reader a part of `max_pending`, one in so many, may be added for each length of a
/// stall: a writer comes out of a lock that the reader waits for, and memory lasts.
const ROOM_PER_STALL: u64 = 16;

impl Raw {
    #[cold]
    pub(super) fn free_rcu_slow(&self, class: usize, object: Handle) {
        if self.collect(class, object) {
            self.hold_back();
        }
    }

    /// As `free_rcu`, but does not wait for room.
    pub(super) fn free_rcu_unbounded(&self, caches: &CacheRow, object: Handle) {
        if !self.depot.caches.push_by_rcu(caches, object) {
            self.collect(caches.class.into(), object);
        }
    }

    /// Adds an object to what this CPU defers; returns whether more is pending than may be.
    fn collect(&self, class: usize, object: Handle) -> bool {
        let batch = self.depot.classes.class(class).deferred_batch();
        match self.depot.caches.try_enter(class) {
            Some(mut arrays) if !arrays.free_by_rcu.is_full() => {
                arrays.free_by_rcu.push(object);
                arrays.free_by_rcu.len() >= batch && self.defer(class, arrays)
            }
            _ => {
                let cache = self.depot.caches.current(class);
                cache.free_llist_extra_rcu.push(self.depot.slabs.arena(), object);
                false
            }
        }
    }

    /// Looks at readers if that is due, and lets what a cache has collected be allocated again, or
    /// makes a batch of it. Returns whether more is pending than may be.
    #[cold]
    fn defer(&self, class: usize, mut arrays: Active<'_>) -> bool {
        let (depot, pool) = (self.depot(), &self.depot.pool);
        let wait_for = depot.route.deferred;
        let is_due = arrays.deferred.is_due_for_one_more();
        let nobody_is_inside = is_due && self.domain.nobody_is_inside(wait_for);
        let mut passed = Queue::new();
        if nobody_is_inside {
            passed = arrays.deferred.pass_all(pool);
            if !self.passes_by_batch() && !depot.of(class).lacks_reserved() {
                let Arrays { free, free_by_rcu, .. } = &mut *arrays;
                free.take_newest(free_by_rcu, depot.classes.class(class).watermarks.full());
            }
        }
        // Without memory for a batch the array fills up, and then the extra list takes over.
        if !arrays.free_by_rcu.is_empty()
            && let Some(mut batch) = arrays.deferred.take_spare(pool)
        {
            let count = arrays.free_by_rcu.len();
            pool.with(&mut batch, |body| body.objects.extend(arrays.free_by_rcu.as_slice()));
            arrays.free_by_rcu.forget_oldest(count);
            if nobody_is_inside {
                passed.push_front(pool, batch);
            } else {
                arrays.deferred.collect(pool, batch);
            }
        }
        if !nobody_is_inside {
            passed = self.pass_with_stamp(class, &mut arrays.deferred, is_due);
        }
        let is_over = depot.count_pending(class, &mut arrays.deferred, self.max_pending);
        self.let_pass(class, arrays, passed);
        self.recover_extra(class);
        if !depot.of(class).waiting_for_gp.is_empty() {
            self.end_shared(class);
        }
        self.return_surplus(class);
        is_over
    }

    /// Whether objects that have passed their grace period can't go straight to a cache.
    fn passes_by_batch(&self) -> bool {
        self.depot.hooks.finalizer.is_some() || self.depot.route.through_slab
    }

    /// Takes what has passed its grace period, and has it pass one if that is due.
    fn take_passed(&self, class: usize, deferred: &mut Deferred) -> Queue {
        let is_due = deferred.is_due();
        if is_due && self.domain.nobody_is_inside(self.depot.route.deferred) {
            return deferred.pass_all(&self.depot.pool);
        }
        self.pass_with_stamp(class, deferred, is_due)
    }

    /// The same where somebody is inside a section, or may be.
    fn pass_with_stamp(&self, class: usize, deferred: &mut Deferred, is_due: bool) -> Queue {
        let (wait_for, pool) = (self.depot.route.deferred, &self.depot.pool);
        let mut passed = Queue::new();
        if !deferred.waiting_for_gp.is_empty() {
            passed = deferred.take_passed(&self.domain.completed(wait_for));
        }
        if !is_due {
            return passed;
        }
        deferred.look_was_dear(self.most_batches(class, wait_for));
        if deferred.waiting_for_gp.is_empty() {
            if deferred.free_by_rcu.is_empty() {
                return passed;
            }
            // Every object was unlinked before it was freed, and so before this stamp.
            deferred.begin(self.domain.stamp(wait_for));
        }
        if self.domain.pass(wait_for, deferred.stamp(), LOOKS) {
            passed.append(pool, &mut deferred.take_passed(&self.domain.completed(wait_for)));
        }
        passed
    }

    /// The most batches that a CPU collects of a class before it looks at readers.
    fn most_batches(&self, class: usize, wait_for: WaitFor) -> u32 {
        let objects = self.depot.classes.class(class).deferred_batch() as u64;
        let batch = objects * self.size(class);
        // Where much is pending already, every CPU gets its share of the bound.
        let cpus = self.depot.caches.cpus() as u64;
        let is_full = self.depot.pending_bytes() > self.max_pending / 2;
        let share = self.max_pending / if is_full { 4 * cpus } else { 8 };
        let most = if self.domain.costs_a_barrier(wait_for) {
            MOST_BARRIER_BYTES.min(share) / batch
        } else {
            MOST_BATCHES.min(MOST_BYTES.min(share) / batch)
        };
        most.max(1) as u32
    }

    /// Lets objects that have passed their grace period be allocated again, and gives away what
    /// this CPU did not need.
    fn let_pass(&self, class: usize, mut arrays: Active<'_>, passed: Queue) {
        if passed.is_empty() {
            return;
        }
        let depot = self.depot();
        if self.passes_by_batch() {
            drop(arrays);
            depot.finish(class, passed, false);
            return;
        }
        let unneeded = arrays.deferred.let_pass(&depot.pool, passed);
        drop(arrays);
        depot.of(class).free_by_rcu_ttrace.push_all(&depot.pool, unneeded);
    }

    /// An object of what this CPU has freed and that has passed its grace period.
    pub(super) fn refill_from_passed(&self, class: usize) -> Option<Handle> {
        let (depot, pool) = (self.depot(), &self.depot.pool);
        let mut arrays = depot.caches.try_enter(class)?;
        if arrays.deferred.passed.is_empty() {
            if depot.runs_hooks_when_passed() {
                // Not in an allocation: its caller may hold what they need.
                return None;
            }
            let passed = self.take_passed(class, &mut arrays.deferred);
            if passed.is_empty() {
                return None;
            }
            self.let_pass(class, arrays, passed);
            arrays = depot.caches.try_enter(class)?;
        }
        if depot.of(class).lacks_reserved() {
            let passed = arrays.deferred.passed.take();
            drop(arrays);
            depot.of(class).free_by_rcu_ttrace.push_all(pool, passed);
            return None;
        }
        let full = depot.classes.class(class).watermarks.full();
        let Arrays { free, deferred, .. } = &mut *arrays;
        deferred.unpack_passed(pool, |objects| {
            let object = objects.pop();
            free.take_newest(objects, full);
            object
        })
    }

    /// The same, of what has passed already, whatever the amount that is reserved: no look at
    /// readers.
    pub(super) fn take_passed_nowait(&self, class: usize) -> Option<Handle> {
        let pool = &self.depot.pool;
        let mut arrays = self.depot.caches.try_enter(class)?;
        arrays.deferred.unpack_passed(pool, Stack::pop)
    }

    /// Moves along what waits where any CPU finds it.
    pub(super) fn end_shared(&self, class: usize) {
        let wait_for = self.depot.route.deferred;
        if self.domain.costs_a_barrier(wait_for) {
            self.domain.advance_begun(wait_for);
        } else {
            self.domain.advance_once(wait_for);
        }
        self.end_waiting(class, false);
    }

    /// Whether no more is pending than may be: `max_pending` bytes, and a part of it more for each time
    /// that a stall has lasted as long as one takes to be reported, so that frees go on behind it.
    fn has_room(&self) -> bool {
        let (pending, most) = (self.depot.pending_bytes(), self.max_pending);
        pending <= most || {
            let stalls = self.domain.stalls(self.depot.route.deferred);
            pending <= most.saturating_add((most / ROOM_PER_STALL).saturating_mul(stalls))
        }
    }

    /// Waits until readers let so much be reused that there is room, no longer than a stall takes, and
    /// reports the reader that holds them up, once for each grace period. A thread that is inside a
    /// section waits when that has ended. Nobody waits for batches whose waiting is being ended: by
    /// another thread soon, or never if this one interrupted it.
    #[cold]
    fn hold_back(&self) {
        let wait_for = self.depot.route.deferred;
        if self.depot.is_in_hook() {
            // The call that runs it goes on with what has passed.
            return;
        }
        self.domain.advance_once(wait_for);
        if self.has_room() {
            return self.domain.report_new_stall(wait_for);
        }
        if self.domain.would_wait_for_itself(wait_for) {
            self.let_everybodys_pass();
            if !self.has_room() {
                self.domain.owe(wait_for);
            }
            return;
        }
        self.wait_for_room();
        self.domain.report_new_stall(wait_for);
    }

    /// Lets what has passed a grace period be reused, also what other CPUs have deferred, once for each
    /// grace period.
    fn let_everybodys_pass(&self) {
        let age = self.domain.completed(self.depot.route.deferred).age();
        if self.settled_at.swap(age, Relaxed) != age {
            self.depot.share_all_deferred(false, || self.stamp_deferred());
            self.all_classes().for_each(|class| _ = self.end_waiting(class, false));
        }
    }

    fn wait_for_room(&self) {
        let wait_for = self.depot.route.deferred;
        self.depot.share_all_deferred(false, || self.stamp_deferred());
        // What is pending now needs no later grace period than this; what others add may.
        let stamp = self.stamp_deferred();
        let enough = || {
            if self.domain.pass(wait_for, stamp, 1) {
                self.domain.advance_once(wait_for);
            }
            self.all_classes().for_each(|class| _ = self.end_waiting(class, false));
            self.has_room()
        };
        let completed = || self.domain.completed_epochs(wait_for);
        let mut shared_at = completed();
        let (start, limit) = (thread::clock(), self.domain.rcu().stalls_after());
        let mut backoff = Backoff::default();
        // Another thread may have the batches in hand for a moment.
        let mut empty = 0..MOST_EMPTY;
        while !enough() && !self.domain.would_wait_for_itself(wait_for) {
            let (now, waits) = (completed(), self.anything_waits());
            if waits {
                empty = 0..MOST_EMPTY;
            } else if empty.next().is_none() {
                return;
            }
            if !waits || now != shared_at {
                // What others have deferred since may be all that is in the way.
                self.depot.share_all_deferred(false, || self.stamp_deferred());
                shared_at = now;
            }
            if thread::clock().saturating_sub(start) >= limit {
                return;
            }
            backoff.wait();
        }
    }

    fn anything_waits(&self) -> bool {
        self.all_classes().any(|class| !self.depot.of(class).waiting_for_gp.is_empty())
    }
}
