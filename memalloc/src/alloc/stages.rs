//! Every place that an object of an allocator can be in, and the moves between two of them.
//!
//! ```text
//!            alloc                       free at once
//!  user  <------------  CPU cache  <----------------------  user
//!                         |  ^                                |  free_rcu
//!    above high watermark |  | at low watermark               v
//!                         v  |                           free_by_rcu
//!                free_by_rcu_ttrace  <---- RCU GP ----  waiting_for_gp
//!                         |  ^
//!                         v  |
//!                waiting_for_gp_ttrace
//!                         |  RCU GP
//!                         v
//!                       slab
//! ```
//!
//! Knows when a move is allowed (the cookie of a batch), not when it is worth while: that is
//! `flow`.
//!
//! - INV-L1: an object enters `free_by_rcu_ttrace` only when its policy lets it be allocated
//!   again.
//! - INV-L2: an object enters its slab only after a grace period since it was taken off the
//!   stages that `alloc` draws on, so memory and type hold for every reader (INV-A3).

use crate::batch::{Batch, BatchList, Pool};
use crate::class::ClassTable;
use crate::cpu::{CpuCache, CpuCaches, ObjectList};
use crate::rcu::Cookie;
use crate::slab::{Handle, Slabs};
use crate::sync::{AtomicU64, Ordering};
use std::ptr::NonNull;

/// Runs for an object when its last reader has left, before it may be allocated again.
pub(crate) type Destructor = unsafe fn(NonNull<u8>);

/// A list of batches, and how much is in it.
#[derive(Debug)]
pub(crate) struct Stage {
    list: BatchList,
    objects: AtomicU64,
    /// The newest cookie for which the list has been searched, so that a search is made once for
    /// a grace period and not for every batch that is added.
    searched: AtomicU64,
}

impl Stage {
    fn new() -> Self {
        Self { list: BatchList::new(), objects: AtomicU64::new(0), searched: AtomicU64::new(0) }
    }

    /// How many objects are here, at a quiet moment.
    pub(crate) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn push(&self, pool: &Pool, mut batch: Batch) {
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        self.objects.fetch_add(count, Ordering::Relaxed);
        self.list.push(pool, batch);
    }

    pub(super) fn pop(&self, pool: &Pool) -> Option<Batch> {
        let mut batch = self.list.pop(pool)?;
        let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
        self.objects.fetch_sub(count, Ordering::Relaxed);
        Some(batch)
    }

    /// Takes the batches whose grace period has passed and gives each to `receive`.
    fn take_passed(&self, pool: &Pool, completed: Cookie, mut receive: impl FnMut(Batch)) {
        // A batch that is added behind the search, or that another search has in hand, is found
        // after the next grace period.
        if self.is_empty() || self.searched.fetch_max(completed.0, Ordering::Relaxed) >= completed.0
        {
            return;
        }
        let mut waiting = self.list.take_all();
        let mut passed = waiting.take_passed(pool, |body| body.cookie() <= completed);
        self.list.put_back(pool, waiting);
        while let Some(mut batch) = passed.pop(pool) {
            let count = pool.with(&mut batch, |body| body.objects.len()) as u64;
            self.objects.fetch_sub(count, Ordering::Relaxed);
            receive(batch);
        }
    }
}

/// What one class has beyond the CPUs.
#[derive(Debug)]
pub(crate) struct ClassStages {
    /// May be allocated again at once.
    pub(crate) free_by_rcu_ttrace: Stage,
    /// Waits until every reader that could hold an object has left.
    pub(crate) waiting_for_gp: Stage,
    /// On the way back to the slabs; may still be allocated.
    pub(crate) waiting_for_gp_ttrace: Stage,
}

/// All of them, and what is needed to move between them.
#[derive(Debug)]
pub(crate) struct Stages {
    pub(crate) classes: ClassTable,
    pub(crate) caches: CpuCaches,
    pub(super) pool: Pool,
    pub(crate) slabs: Slabs,
    pub(super) destructor: Option<Destructor>,
    by_class: Box<[ClassStages]>,
}

impl Stages {
    pub(super) fn new(
        classes: ClassTable,
        caches: CpuCaches,
        pool: Pool,
        slabs: Slabs,
        destructor: Option<Destructor>,
    ) -> Self {
        let by_class = (0..classes.len())
            .map(|_| ClassStages {
                free_by_rcu_ttrace: Stage::new(),
                waiting_for_gp: Stage::new(),
                waiting_for_gp_ttrace: Stage::new(),
            })
            .collect();
        Self { classes, caches, pool, slabs, destructor, by_class }
    }

    #[inline(always)]
    pub(crate) fn of(&self, class: usize) -> &ClassStages {
        &self.by_class[class]
    }

    /// `waiting_for_gp` to `free_by_rcu_ttrace`: what `completed` allows, after its destructor.
    pub(super) fn end_waiting(&self, class: usize, completed: Cookie) {
        let stages = self.of(class);
        stages.waiting_for_gp.take_passed(&self.pool, completed, |mut batch| {
            if let Some(destroy) = self.destructor {
                self.pool.with(&mut batch, |body| {
                    for &object in body.objects.as_slice() {
                        // SAFETY: the grace period of the batch has passed, so this thread alone
                        // can reach the object (INV-R2), and it runs once for each waiting.
                        unsafe { destroy(self.slabs.arena().pointer(object)) };
                    }
                });
            }
            stages.free_by_rcu_ttrace.push(&self.pool, batch);
        });
    }

    /// `waiting_for_gp_ttrace` to the slabs: what `completed` allows. Returns how many objects.
    pub(super) fn end_returning(&self, class: usize, completed: Cookie, may_wait: bool) -> u64 {
        let stages = self.of(class);
        let mut returned = 0;
        stages.waiting_for_gp_ttrace.take_passed(&self.pool, completed, |mut batch| {
            let put_back = self.pool.with(&mut batch, |body| {
                // INV-L2: the batch's grace period has passed.
                let done = self.slabs.put_back(&self.classes, body.objects.as_slice(), may_wait);
                done.then_some(body.objects.len() as u64)
            });
            match put_back {
                Some(count) => {
                    returned += count;
                    self.pool.give(batch);
                }
                None => stages.waiting_for_gp_ttrace.push(&self.pool, batch),
            }
        });
        returned
    }

    /// `free_by_rcu_ttrace` to `waiting_for_gp_ttrace`: one batch, stamped by `stamp` once it is
    /// off the list. `false` when there is none.
    pub(super) fn begin_returning(&self, class: usize, stamp: impl FnOnce() -> Cookie) -> bool {
        let stages = self.of(class);
        let Some(mut batch) = stages.free_by_rcu_ttrace.pop(&self.pool) else {
            return false;
        };
        self.pool.with(&mut batch, |body| body.stamp(stamp()));
        stages.waiting_for_gp_ttrace.push(&self.pool, batch);
        true
    }

    /// A batch that may be allocated from.
    pub(super) fn take_ready(&self, class: usize) -> Option<Batch> {
        let stages = self.of(class);
        // Refilling from objects on their way back is allowed: that wait protects memory and
        // type, and allocating again keeps both.
        stages
            .free_by_rcu_ttrace
            .pop(&self.pool)
            .or_else(|| stages.waiting_for_gp_ttrace.pop(&self.pool))
    }

    /// What the system lent: every object that is outside of its slab is at one of these places.
    pub(crate) fn census(&self, class: usize) -> Census {
        let arena = self.slabs.arena();
        let stages = self.of(class);
        let mut census = Census {
            cached: stages.free_by_rcu_ttrace.objects() + stages.waiting_for_gp_ttrace.objects(),
            pending: stages.waiting_for_gp.objects(),
        };
        for cache in self.caches.of_class(class) {
            let arrays = self.caches.enter_any(cache);
            census.cached += arrays.free.len() as u64;
            census.pending += arrays.free_by_rcu.len() as u64;
            drop(arrays);
            census.cached += cache.free_llist_extra.len(arena);
            census.pending += cache.free_llist_extra_rcu.len(arena);
        }
        census
    }

    /// Empties the caches of one class into batches: free objects to `free_by_rcu_ttrace`,
    /// waiting ones to `waiting_for_gp`, stamped by `stamp`. `false` when memory for batches ran
    /// out before the end.
    pub(super) fn empty_caches(&self, class: usize, stamp: impl Fn() -> Cookie) -> bool {
        let (mut free, mut waiting) = (Packer::new(self), Packer::new(self));
        for cache in self.caches.of_class(class) {
            let mut arrays = self.caches.enter_any(cache);
            while free.has_room()
                && let Some(object) = arrays.free.pop()
            {
                free.add(object);
            }
            while waiting.has_room()
                && let Some(object) = arrays.free_by_rcu.pop()
            {
                waiting.add(object);
            }
            drop(arrays);
            self.pack(&cache.free_llist_extra, &mut free);
            self.pack(&cache.free_llist_extra_rcu, &mut waiting);
        }
        let complete = free.has_room() && waiting.has_room();
        self.unload(class, free, waiting, stamp);
        complete
    }

    /// The same for what was freed while a cache was busy. Async-signal-safe.
    pub(super) fn recover_extra(&self, class: usize, cache: &CpuCache, stamp: impl Fn() -> Cookie) {
        let stages = self.of(class);
        self.gather(&cache.free_llist_extra, |batch| {
            stages.free_by_rcu_ttrace.push(&self.pool, batch);
        });
        self.gather(&cache.free_llist_extra_rcu, |mut batch| {
            self.pool.with(&mut batch, |body| body.stamp(stamp()));
            stages.waiting_for_gp.push(&self.pool, batch);
        });
    }

    /// Takes a list into batches and gives each to `receive`; what has no room stays.
    fn gather(&self, list: &ObjectList, mut receive: impl FnMut(Batch)) {
        let arena = self.slabs.arena();
        let mut open = None;
        list.take_all(arena, |object| {
            let Some(mut batch) = open.take().or_else(|| self.pool.take(true)) else {
                return list.push(arena, object);
            };
            let full = self.pool.with(&mut batch, |body| {
                body.objects.push(object);
                body.objects.is_full()
            });
            if full { receive(batch) } else { open = Some(batch) }
        });
        open.into_iter().for_each(receive);
    }

    /// Moves a list into batches; what has no room stays.
    fn pack(&self, list: &ObjectList, into: &mut Packer<'_>) {
        let arena = self.slabs.arena();
        list.take_all(arena, |object| {
            if into.has_room() { into.add(object) } else { list.push(arena, object) }
        });
    }

    fn unload(
        &self,
        class: usize,
        free: Packer<'_>,
        waiting: Packer<'_>,
        stamp: impl Fn() -> Cookie,
    ) {
        let stages = self.of(class);
        free.finish(|batch| stages.free_by_rcu_ttrace.push(&self.pool, batch));
        waiting.finish(|mut batch| {
            self.pool.with(&mut batch, |body| body.stamp(stamp()));
            stages.waiting_for_gp.push(&self.pool, batch);
        });
    }

    /// Puts objects, at most a batch, where any CPU refills from; `false` when there is no
    /// memory for a batch.
    pub(super) fn make_ready(&self, class: usize, objects: &[Handle]) -> bool {
        let Some(mut batch) = self.pool.take(true) else {
            return false;
        };
        self.pool.with(&mut batch, |body| body.objects.extend(objects));
        self.of(class).free_by_rcu_ttrace.push(&self.pool, batch);
        true
    }
}

/// Objects of a class at one moment, outside of slabs and not with a user.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// May be allocated.
    pub(crate) cached: u64,
    /// Wait for a grace period.
    pub(crate) pending: u64,
}

/// Fills batches one after the other.
struct Packer<'a> {
    stages: &'a Stages,
    open: Option<Batch>,
    full: Vec<Batch>,
}

impl<'a> Packer<'a> {
    fn new(stages: &'a Stages) -> Self {
        Self { stages, open: None, full: Vec::new() }
    }

    /// Whether another object can be added; opens a batch for it.
    fn has_room(&mut self) -> bool {
        let pool = &self.stages.pool;
        if let Some(mut open) = self.open.take() {
            if !pool.with(&mut open, |body| body.objects.is_full()) {
                self.open = Some(open);
                return true;
            }
            self.full.push(open);
        }
        if self.full.try_reserve(1).is_ok() {
            self.open = pool.take(true);
        }
        self.open.is_some()
    }

    /// Adds an object; the caller asked for room.
    fn add(&mut self, object: Handle) {
        if let Some(open) = &mut self.open {
            self.stages.pool.with(open, |body| body.objects.push(object));
        }
    }

    fn finish(mut self, mut receive: impl FnMut(Batch)) {
        let pool = &self.stages.pool;
        for mut batch in self.full.drain(..).chain(self.open.take()) {
            if pool.with(&mut batch, |body| body.objects.len()) == 0 {
                pool.give(batch);
            } else {
                receive(batch);
            }
        }
    }
}
