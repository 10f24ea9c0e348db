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

use crate::batch::{Batch, BatchList, Pool, Stack};
use crate::class::ClassTable;
use crate::cpu::{CpuCache, CpuCaches, ObjectList};
use crate::rcu::Cookie;
use crate::slab::{Arena, Handle, Slabs};
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
        let mut free = self.to_ready(class);
        let mut waiting = self.to_waiting(class, stamp);
        let mut complete = true;
        for cache in self.caches.of_class(class) {
            let mut arrays = self.caches.enter_any(cache);
            complete &= free.add_stack(&mut arrays.free);
            complete &= waiting.add_stack(&mut arrays.free_by_rcu);
            drop(arrays);
            complete &= free.add_list(&cache.free_llist_extra, self.slabs.arena());
            complete &= waiting.add_list(&cache.free_llist_extra_rcu, self.slabs.arena());
        }
        complete
    }

    /// The same for what was freed while a cache was busy; what finds no memory stays.
    /// Async-signal-safe.
    pub(super) fn recover_extra(&self, class: usize, cache: &CpuCache, stamp: impl Fn() -> Cookie) {
        let arena = self.slabs.arena();
        self.to_ready(class).add_list(&cache.free_llist_extra, arena);
        self.to_waiting(class, stamp).add_list(&cache.free_llist_extra_rcu, arena);
    }

    /// Fills batches for `free_by_rcu_ttrace`.
    fn to_ready(&self, class: usize) -> Filler<'_, impl FnMut(Batch)> {
        let ready = &self.of(class).free_by_rcu_ttrace;
        Filler::new(&self.pool, |batch| ready.push(&self.pool, batch))
    }

    /// Fills batches for `waiting_for_gp`. A batch is stamped when all its objects are in it.
    fn to_waiting(
        &self,
        class: usize,
        stamp: impl Fn() -> Cookie,
    ) -> Filler<'_, impl FnMut(Batch)> {
        let waiting = &self.of(class).waiting_for_gp;
        Filler::new(&self.pool, move |mut batch| {
            self.pool.with(&mut batch, |body| body.stamp(stamp()));
            waiting.push(&self.pool, batch);
        })
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

/// Fills batches one after the other, and delivers each when it is full or when this is dropped.
struct Filler<'a, D: FnMut(Batch)> {
    pool: &'a Pool,
    open: Option<Batch>,
    deliver: D,
}

impl<'a, D: FnMut(Batch)> Filler<'a, D> {
    fn new(pool: &'a Pool, deliver: D) -> Self {
        Self { pool, open: None, deliver }
    }

    /// Adds an object; `false` when there is no memory for a batch.
    fn add(&mut self, object: Handle) -> bool {
        let Some(mut batch) = self.open.take().or_else(|| self.pool.take(true)) else {
            return false;
        };
        let full = self.pool.with(&mut batch, |body| {
            body.objects.push(object);
            body.objects.is_full()
        });
        if full {
            (self.deliver)(batch)
        } else {
            self.open = Some(batch)
        }
        true
    }

    /// Moves a stack; `false`, with the rest left where it is, when memory runs out.
    fn add_stack<const N: usize>(&mut self, stack: &mut Stack<N>) -> bool {
        while let Some(object) = stack.pop() {
            if !self.add(object) {
                stack.push(object);
                return false;
            }
        }
        true
    }

    /// Moves a list; `false`, with the rest left where it is, when memory runs out.
    fn add_list(&mut self, list: &ObjectList, arena: &Arena) -> bool {
        let mut complete = true;
        list.take_all(arena, |object| {
            if !self.add(object) {
                list.push(arena, object);
                complete = false;
            }
        });
        complete
    }
}

impl<D: FnMut(Batch)> Drop for Filler<'_, D> {
    fn drop(&mut self) {
        if let Some(batch) = self.open.take() {
            (self.deliver)(batch);
        }
    }
}
