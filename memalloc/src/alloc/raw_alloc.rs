//! Allocation when the cache of this CPU has no object: from the objects that this CPU has
//! deferred, the batches that all CPUs share, the slabs, or any other place.

use super::error::AllocErrorKind;
use super::raw::Raw;
use crate::batch::{Batch, Stack};
use crate::class::BATCH_CAPACITY;
use crate::cpu::{Active, CpuCache, CpuCaches};
use crate::slab::{Handle, SlabError};
use crate::sync::Ordering::Relaxed;
use crate::sys::{prefetch, thread};
use std::time::Duration;

/// The least time between two visits to every CPU's cache by allocations that may not wait. A visit
/// may interrupt the other processors.
const MOVE_ALONG_INTERVAL: Duration = Duration::from_micros(if cfg!(loom) { 0 } else { 150 });

impl Raw {
    /// Allocates an object from any place once the cache of this CPU is at its low watermark.
    #[cold]
    pub(super) fn alloc_slow(&self, class: usize) -> Result<Handle, AllocErrorKind> {
        if let Some(object) = self.refill(class) {
            return Ok(object);
        }
        self.carve(class).or_else(|error| {
            // Before it reports that memory has run out, it looks for every object that no user
            // holds.
            self.reclaim();
            let found = self.refill(class).or_else(|| self.carve(class).ok());
            let found = found.or_else(|| self.unpack(class, self.depot.take_ready(class)?));
            let found = found.or_else(|| self.alloc_anywhere(class, CpuCaches::try_enter_any));
            found.ok_or(AllocErrorKind::from(error))
        })
    }

    /// Allocates an object that is ready and not reserved, or that has passed its grace period.
    pub(super) fn refill(&self, class: usize) -> Option<Handle> {
        let depot = self.depot();
        self.recover_extra(class);
        if let Some(object) = self.refill_from_passed(class) {
            return Some(object);
        }
        let batch = depot.take_spare(class).or_else(|| {
            self.expedite(class);
            depot.take_spare(class)
        });
        self.unpack(class, batch?)
    }

    /// Allocates an object from any CPU's cache, even below the low watermark, or from the list
    /// beside it.
    pub(super) fn alloc_anywhere(
        &self,
        class: usize,
        enter: impl for<'a> Fn(&CpuCaches, &'a CpuCache) -> Option<Active<'a>>,
    ) -> Option<Handle> {
        let (caches, arena) = (&self.depot.caches, self.depot.slabs.arena());
        let pool = &self.depot.pool;
        caches.of_class(class).find_map(|cache| {
            let object = enter(caches, cache).and_then(|mut arrays| {
                arrays.free.pop().or_else(|| arrays.deferred.unpack_passed(pool, Stack::pop))
            });
            object.or_else(|| cache.free_llist_extra.pop(arena))
        })
    }

    /// Allocates an object for a call that may not wait and finds none ready: moves pending objects
    /// along first, because a program may make no other calls than this and deferred frees.
    ///
    /// Takes no lock. Visits the caches of every CPU and begins a grace period, which may issue a
    /// barrier, at most once per [`MOVE_ALONG_INTERVAL`].
    #[cold]
    pub(super) fn alloc_moved_along(&self, class: usize) -> Option<Handle> {
        let (depot, wait_for) = (self.depot(), self.depot.route.deferred);
        self.recover_extra(class);
        let now = thread::clock().as_nanos() as u64;
        let ago = now.saturating_sub(self.moved_along_at.load(Relaxed));
        // Finalizers and destructors do not run in an allocation: its caller may hold what they
        // need.
        if !depot.runs_hooks_when_passed() {
            if Duration::from_nanos(ago) >= MOVE_ALONG_INTERVAL {
                self.moved_along_at.store(now, Relaxed);
                depot.share_all_deferred(|| self.stamp_deferred());
                self.domain.advance_once(wait_for);
            } else {
                self.domain.advance_begun(wait_for);
            }
            self.end_waiting(class, Some(self.batches_per_call(class)));
        }
        let ready = depot.take_ready(class).and_then(|batch| self.unpack(class, batch));
        ready.or_else(|| {
            // Under a policy that returns freed objects to their slabs, only slabs have them.
            let current = || depot.caches.current_cpu();
            let through_slab = depot.route.through_slab;
            through_slab.then(|| depot.slabs.carve_nowait(&depot.classes, class, current()))?
        })
    }

    /// Carves a batch of objects from slabs: one for the caller, the others for the cache.
    fn carve(&self, class: usize) -> Result<Handle, SlabError> {
        let depot = self.depot();
        // Everything that may be pending can become ready a moment later, in addition to some that
        // is ready.
        depot.of(class).carves(self.max_pending.saturating_add(self.max_pending / 4));
        let (wanted, cpu) = (self.carved_at_once(class), depot.caches.current_cpu());
        let mut fresh = Stack::<BATCH_CAPACITY>::new();
        depot.slabs.carve(&depot.classes, class, cpu, wanted, |object| fresh.push(object))?;
        let Some(object) = fresh.pop() else {
            unreachable!("carving gives an object or an error");
        };
        let left = self.stock(class, fresh.as_slice());
        if left > 0 && !self.depot.make_ready(class, &fresh.as_slice()[..left]) {
            fresh.as_slice()[..left].iter().for_each(|&object| self.push_extra(class, object));
        }
        Ok(object)
    }

    /// Returns the number of objects to carve at once. If every free ends in a slab, it is the
    /// number that returns at once.
    fn carved_at_once(&self, class: usize) -> usize {
        let class = self.depot.classes.class(class);
        if self.depot.route.through_slab { class.deferred_batch() } else { class.watermarks.batch }
    }

    /// Carves until `objects` objects of a class are ready for callers that must not carve, and
    /// reserves that many.
    pub(super) fn prefill(&self, class: usize, objects: u64) -> Result<(), AllocErrorKind> {
        let depot = self.depot().of(class);
        let ready = || depot.free_by_rcu_ttrace.objects();
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let missing = objects.saturating_sub(ready())
            && missing > 0
        {
            outcome = self.carve_ready(class, missing as usize);
        }
        depot.reserve(objects.min(ready()));
        outcome
    }

    /// Carves a batch of at most `most` objects to where any CPU may refill from.
    pub(super) fn carve_ready(&self, class: usize, most: usize) -> Result<(), AllocErrorKind> {
        let depot = self.depot();
        let mut fresh = Stack::<BATCH_CAPACITY>::new();
        let cpu = depot.caches.current_cpu();
        let most = most.min(depot.classes.class(class).most_at_once());
        let carved = depot.slabs.carve(&depot.classes, class, cpu, most, |new| fresh.push(new));
        carved.map_err(AllocErrorKind::from)?;
        if !depot.make_ready(class, fresh.as_slice()) {
            fresh.as_slice().iter().for_each(|&object| self.push_extra(class, object));
            return Err(AllocErrorKind::OutOfMemory);
        }
        Ok(())
    }

    /// Returns one object of a batch. The others go to the cache or, if they are reserved, to where
    /// every CPU finds them (MEM-L3). The batch is not empty.
    pub(super) fn unpack(&self, class: usize, mut batch: Batch) -> Option<Handle> {
        let (pool, depot) = (&self.depot.pool, self.depot.of(class));
        let stays = depot.lacks_reserved();
        let (object, left) = pool.with(&mut batch, |body| {
            let object = body.objects.pop();
            let others = body.objects.as_slice();
            let left = if stays { others.len() } else { self.stock(class, others) };
            body.objects.truncate(left);
            (object, left)
        });
        if left == 0 {
            pool.give(batch);
        } else {
            // They are reserved, or the cache is in use or full.
            depot.free_by_rcu_ttrace.push(pool, batch);
        }
        object
    }

    /// Puts as many of the last `objects` into the cache of the current CPU as there is room for,
    /// unless the cache is in use. Returns how many are left.
    fn stock(&self, class: usize, objects: &[Handle]) -> usize {
        let full = self.most_cached(class);
        let Some(mut arrays) = self.depot.caches.try_enter(class) else {
            return objects.len();
        };
        arrays.lower_limits(self.most_if_sparse(class));
        let left = objects.len() - objects.len().min(full.saturating_sub(arrays.free.len()));
        arrays.free.extend(&objects[left..]);
        // Most come from another CPU, whose cache may have their memory. Fetched one after the
        // other, as they are handed out, each would be waited for.
        let arena = self.depot.slabs.arena();
        for &object in objects[left..].iter().rev() {
            prefetch::line_for_write(arena.pointer(object).as_ptr());
        }
        left
    }
}
