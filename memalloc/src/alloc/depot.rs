//! The places that an object of an allocator can be in, and the moves between them.
//!
//! ```text
//!            alloc                       free at once
//!  user  <------------  CPU cache  <----------------------  user
//!                         |  ^                                |  free_rcu
//!    above high watermark |  | at low watermark               v
//!                         |  |                 free_by_rcu, of the CPU
//!                         |  +-- passed, of the CPU <- GP -|
//!                         v  |               |             v
//!                free_by_rcu_ttrace  <-------+-- GP --  waiting_for_gp
//!                         |  ^
//!                         v  |
//!                waiting_for_gp_ttrace
//!                         |  tasks-trace GP and RCU GP
//!                         v
//!                       slab
//! ```
//!
//! Under [`FreeAfterRcuGp`](crate::FreeAfterRcuGp) objects go from `waiting_for_gp` straight to
//! their slabs. This module knows when a move is allowed (the stamp of a list), not when it is
//! worth while; `raw_alloc`, `defer` and `reclaim` decide that.
//!
//! - MEM-L1: an object enters a cache's array, `passed` or `free_by_rcu_ttrace` only when its
//!   policy lets it be allocated again.
//! - MEM-L2: an object enters its slab only after the grace periods that its policy asks for, so
//!   memory and type hold for every reader that the policy knows (MEM-A3).
//! - MEM-L3: the reserved objects of `free_by_rcu_ttrace` are left there, where every CPU finds
//!   them, except by callers that have no other way to get an object.

use super::error::AllocErrorKind;
use super::filler::Filler;
use super::recount::Recount;
use super::stage::{ClassDepot, ClassDepots};
use super::turn::Turn;
use crate::batch::{Batch, Pool, Queue};
use crate::class::{ClassTable, UNIT};
use crate::cpu::{CpuCache, CpuCaches, Deferred};
use crate::first_panic::FirstPanic;
use crate::policy::PolicyKind;
use crate::rcu::{Stamp, WaitFor};
use crate::slab::{Handle, Slabs};
use crate::sync::Tally;
use crate::sys::bell::Bells;
use crate::sys::fork::Registration;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A function that is called with an object that no other thread can reach.
pub(crate) type ObjectFn = unsafe fn(NonNull<u8>);

/// The functions that run for objects.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hooks {
    /// Runs for a deferred object when its last reader has left, before anything else is done to
    /// it.
    pub(crate) finalizer: Option<ObjectFn>,
    /// Runs for an object that returns to its slab.
    pub(crate) destructor: Option<ObjectFn>,
}

/// The grace periods and moves that a policy requires.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The readers that a deferred object waits for.
    pub(crate) deferred: WaitFor,
    /// True if a deferred object then returns to its slab, and is allocated again only from there.
    pub(crate) through_slab: bool,
    /// The readers that every other object waits for before it returns to its slab: a superset of
    /// `deferred`.
    pub(crate) returned: WaitFor,
}

impl Route {
    pub(crate) const fn of(policy: PolicyKind) -> Self {
        use WaitFor::{Both, Rcu};
        let (deferred, through_slab, returned) = match policy {
            PolicyKind::Immediate | PolicyKind::AfterRcuGp => (Rcu, false, Both),
            PolicyKind::FreeAfterRcuGp => (Rcu, true, Rcu),
            PolicyKind::AfterTasksTraceGp => (Both, false, Both),
        };
        Self { deferred, through_slab, returned }
    }
}

/// The places of an allocator's objects, and the data that moves between them need.
#[derive(Debug)]
pub(crate) struct Depot {
    /// Dropped before the `Recount` that it refers to.
    _registration: Registration,
    _recount: Arc<Recount>,
    pub(crate) classes: ClassTable,
    pub(crate) caches: CpuCaches,
    pub(super) pool: Arc<Pool>,
    pub(crate) slabs: Slabs,
    pub(super) hooks: Hooks,
    pub(super) route: Route,
    /// Bytes of the objects in `waiting_for_gp`, in `unfinished` and in the queues of the CPUs: an
    /// upper bound.
    pub(super) pending_bytes: Arc<Tally>,
    /// Bytes of the objects in the lists beside the caches that wait for a grace period: an upper
    /// bound.
    spilled_bytes: Arc<Tally>,
    pub(super) by_class: Arc<ClassDepots>,
    /// The bells of the workers that serve the allocator.
    pub(super) bells: Arc<Bells>,
    /// The turn of a thread in `quiesce`, which holds batches that other threads do not see.
    pub(super) quiescing: Arc<Turn>,
}

impl Depot {
    pub(super) fn new(
        classes: ClassTable,
        caches: CpuCaches,
        pool: Pool,
        slabs: Slabs,
        hooks: Hooks,
        route: Route,
    ) -> Self {
        let by_class = Arc::new(ClassDepots::new(&classes));
        let pool = Arc::new(pool);
        let [pending_bytes, spilled_bytes] = [(); 2].map(|()| Arc::new(Tally::new(0)));
        let bytes = [&pending_bytes, &spilled_bytes];
        let (bells, quiescing) = (Arc::default(), Arc::new(Turn::new()));
        let recount = Recount::new(&classes, &pool, &by_class, bytes, (&bells, &quiescing));
        let _recount = Arc::new(recount);
        // SAFETY: the `Arc` is dropped after the registration.
        let _registration = unsafe { Registration::new(&_recount) };
        Self {
            _registration,
            _recount,
            classes,
            caches,
            pool,
            slabs,
            hooks,
            route,
            pending_bytes,
            spilled_bytes,
            by_class,
            bells,
            quiescing,
        }
    }

    /// Creates the tables that an allocator needs from its first allocation on. Not for signal
    /// handlers.
    pub(super) fn wake(&self) -> Result<(), AllocErrorKind> {
        if self.caches.is_live() {
            return Ok(());
        }
        if !self.by_class.wake(&self.classes) {
            return Err(AllocErrorKind::OutOfMemory);
        }
        // As elsewhere, a refused request is repeated before the error is reported.
        let woken = self.caches.wake(&self.classes).or_else(|_| self.caches.wake(&self.classes));
        woken.map_err(|_| AllocErrorKind::OutOfMemory)
    }

    /// Returns the classes that may have objects: none until something is allocated.
    pub(super) fn used_classes(&self) -> Range<usize> {
        0..self.by_class.all().len()
    }

    /// Returns the depot of a class that may have objects.
    #[inline(always)]
    pub(crate) fn of(&self, class: usize) -> &ClassDepot {
        &self.by_class.all()[class]
    }

    /// Returns the pending bytes: in `waiting_for_gp`, in `unfinished`, in the queues of the CPUs
    /// and in the lists beside their caches, but not in their arrays.
    pub(super) fn pending_bytes(&self) -> u64 {
        let spilled = self.spilled_bytes.load(Ordering::Relaxed);
        self.pending_bytes.load(Ordering::Relaxed).saturating_add(spilled)
    }

    /// Adds a deferred object to the list beside the cache of this CPU, which is busy or full.
    /// Returns true if more than `most` bytes are pending in total. Async-signal-safe.
    pub(super) fn spill_deferred(&self, class: usize, object: Handle, most: u64) -> bool {
        self.spilled_bytes.fetch_add(self.bytes(class, 1), Ordering::Relaxed);
        let cache = self.caches.current(class);
        cache.free_llist_extra_rcu.push(self.slabs.arena(), object);
        self.pending_bytes() > most
    }

    /// Adds the objects that a CPU has deferred to the pending bytes, in steps, so that CPUs seldom
    /// contend for the counter. Returns true if more than `most` bytes are pending in total.
    pub(super) fn count_pending(&self, class: usize, deferred: &mut Deferred, most: u64) -> bool {
        const MOST_STEP: u64 = 64 << 10;
        let counts = 8 * (self.caches.cpus() * self.classes.len()) as u64;
        let step = (most / counts).min(MOST_STEP).next_multiple_of(UNIT as u64).max(UNIT as u64);
        let bytes = self.bytes(class, deferred.pending());
        let Some(more) = bytes.checked_sub(deferred.counted()).filter(|&more| more > 0) else {
            let surplus = deferred.counted() - bytes;
            if surplus > step && self.pending_bytes() > most / 2 {
                deferred.set_counted(bytes);
                self.pending_bytes.fetch_sub(surplus, Ordering::Relaxed);
            }
            // Other CPUs, which did not wait, may have added too much and be idle now.
            return self.pending_bytes() > most;
        };
        let rounded = more.next_multiple_of(step);
        let more = if self.pending_bytes().saturating_add(rounded) > most { more } else { rounded };
        deferred.set_counted(deferred.counted() + more);
        self.pending_bytes.fetch_add(more, Ordering::Relaxed);
        self.pending_bytes() > most
    }

    /// Moves the objects that a CPU has deferred to where any CPU finds them: those that have
    /// passed their grace period to `free_by_rcu_ttrace`, the others to `waiting_for_gp`. Objects
    /// without a stamp get one from `stamp`.
    fn share_deferred(&self, class: usize, deferred: &mut Deferred, stamp: &impl Fn() -> Stamp) {
        self.of(class).free_by_rcu_ttrace.push_all(&self.pool, deferred.passed.take());
        // It may have passed already.
        let begun = deferred.stamp();
        self.begin_waiting(class, deferred.waiting_for_gp.take(), || begun);
        self.begin_waiting(class, deferred.free_by_rcu.take(), stamp);
        deferred.give_spare(&self.pool);
        self.pending_bytes.fetch_sub(deferred.counted(), Ordering::Relaxed);
        deferred.set_counted(0);
    }

    /// As `share_deferred`, for every CPU, and also for objects that do not fill a batch yet or
    /// were freed while the cache was busy. Skips caches that are in use.
    pub(super) fn share_all_deferred(&self, stamp: impl Fn() -> Stamp) {
        self.share(self.used_classes(), false, false, stamp);
    }

    /// As `share_all_deferred`, waiting for caches in use, and also for the free objects of
    /// caches that their CPUs have not used since the previous call.
    pub(super) fn share_all_idle(&self, stamp: impl Fn() -> Stamp) {
        self.share(self.used_classes(), true, true, stamp);
    }

    /// As `share_all_idle` for one class, but skips caches that are in use.
    pub(super) fn share_idle(&self, class: usize, stamp: impl Fn() -> Stamp) {
        self.share(class..class + 1, false, true, stamp);
    }

    fn share(&self, classes: Range<usize>, may_wait: bool, idle: bool, stamp: impl Fn() -> Stamp) {
        self.caches.enter_all(classes, may_wait, |class, cache, mut arrays| {
            if idle && arrays.is_idle() {
                let added = self.to_ready(class).add_all(arrays.free.as_slice());
                arrays.free.forget_oldest(added);
            }
            let added = self.to_waiting(class, &stamp).add_all(arrays.free_by_rcu.as_slice());
            arrays.free_by_rcu.forget_oldest(added);
            self.share_deferred(class, &mut arrays.deferred, &stamp);
            if idle {
                arrays.watch();
            }
            drop(arrays);
            let most = if may_wait { usize::MAX } else { 2 * self.of(class).batch };
            self.recover_some_extra(class, cache, most, &stamp);
        });
    }

    pub(super) fn bytes(&self, class: usize, objects: u64) -> u64 {
        objects * self.classes.class(class).size as u64
    }

    /// Moves batches to `waiting_for_gp`. All their objects have been freed by now.
    fn begin_waiting(&self, class: usize, batches: Queue, stamp: impl Fn() -> Stamp) {
        if !batches.is_empty() {
            let bytes = self.bytes(class, batches.objects());
            self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.of(class).waiting_for_gp.push_all(&self.pool, batches, stamp());
        }
    }

    /// Takes all batches from `waiting_for_gp`, also those that are pending. Their bytes stay
    /// pending until `finish_held`, or the batches are put back with `release_held`.
    pub(super) fn hold_waiting(&self, class: usize) -> Queue {
        self.of(class).waiting_for_gp.take_all(&self.pool)
    }

    /// Puts batches back that were held.
    pub(super) fn release_held(&self, class: usize, batches: Queue, stamp: Stamp) {
        self.of(class).waiting_for_gp.push_all(&self.pool, batches, stamp);
    }

    /// Moves a batch from `free_by_rcu_ttrace` to `waiting_for_gp_ttrace`, stamped by `stamp` once
    /// it is off the list. Returns the number of objects; 0 if there is no batch to spare.
    pub(super) fn begin_returning(&self, class: usize, stamp: impl FnOnce() -> Stamp) -> u64 {
        let depot = self.of(class);
        if !depot.has_spare_batch() {
            return 0;
        }
        let Some(mut batch) = depot.free_by_rcu_ttrace.pop(&self.pool) else {
            return 0;
        };
        let count = self.pool.with(&mut batch, |body| body.objects.len()) as u64;
        depot.waiting_for_gp_ttrace.push(&self.pool, batch, stamp());
        count
    }

    /// Moves at most `most` batches that `completed` allows from `waiting_for_gp_ttrace` to the
    /// slabs. Returns the number of objects.
    pub(super) fn end_returning(
        &self,
        class: usize,
        completed: &Stamp,
        most: usize,
        may_wait: bool,
    ) -> u64 {
        let on_their_way = &self.of(class).waiting_for_gp_ttrace;
        let (mut returned, mut panics) = (0, FirstPanic::default());
        let mut passed = on_their_way.take_passed(&self.pool, completed, most);
        let mut still_out = Queue::new();
        while let Some(batch) = passed.pop_front(&self.pool) {
            let more = !may_wait && !passed.is_empty();
            match self.put_back(batch, may_wait, more, &mut panics) {
                Ok(count) => returned += count,
                Err(batch) => still_out.push_back(&self.pool, batch),
            }
        }
        on_their_way.push_all(&self.pool, still_out, Stamp::PASSED);
        panics.go_on();
        returned
    }

    /// Takes a batch that may be allocated from and is not reserved.
    pub(super) fn take_spare(&self, class: usize) -> Option<Batch> {
        let depot = self.of(class);
        if depot.has_spare_batch() {
            return self.take_ready(class);
        }
        depot.waiting_for_gp_ttrace.pop(&self.pool)
    }

    /// Takes a batch that may be allocated from.
    pub(super) fn take_ready(&self, class: usize) -> Option<Batch> {
        let depot = self.of(class);
        // Refilling from objects on their way to the slabs is allowed: that wait protects memory
        // and type, and allocating them again keeps both.
        depot
            .free_by_rcu_ttrace
            .pop(&self.pool)
            .or_else(|| depot.waiting_for_gp_ttrace.pop(&self.pool))
    }

    /// Returns the bytes of the tables beside the slabs.
    pub(crate) fn table_bytes(&self) -> u64 {
        let depot = size_of_val(self.by_class.all()) as u64;
        self.caches.table_bytes() + self.pool.table_bytes() + self.slabs.table_bytes() + depot
    }

    /// Counts the objects of each class that are outside of their slabs and not with a user.
    pub(crate) fn census(&self) -> Vec<Census> {
        let arena = self.slabs.arena();
        let in_batches = |depot: &ClassDepot| Census {
            cached: depot.free_by_rcu_ttrace.objects() + depot.waiting_for_gp_ttrace.objects(),
            pending: depot.waiting_for_gp.objects() + depot.unfinished.objects(),
        };
        let mut all: Vec<_> = self.by_class.all().iter().map(in_batches).collect();
        self.caches.enter_all(0..all.len(), true, |class, cache, arrays| {
            let census = &mut all[class];
            census.cached += arrays.free.len() as u64;
            census.cached += arrays.deferred.passed.objects();
            census.pending += arrays.free_by_rcu.len() as u64 + arrays.deferred.pending();
            drop(arrays);
            census.cached += cache.free_llist_extra.len(arena);
            census.pending += cache.free_llist_extra_rcu.len(arena);
        });
        all.resize(self.classes.len(), Census::default());
        all
    }

    /// Empties the caches of some classes into batches: free objects go to `free_by_rcu_ttrace`,
    /// pending ones to `waiting_for_gp`, stamped by `stamp`. Returns false if memory for batches
    /// ran out.
    pub(super) fn empty_caches(&self, classes: Range<usize>, stamp: impl Fn() -> Stamp) -> bool {
        let arena = self.slabs.arena();
        let mut complete = true;
        let mut open = None;
        self.caches.enter_all(classes, true, |class, cache, mut arrays| {
            let fillers = match open.take() {
                Some((of, fillers)) if of == class => fillers,
                _ => (self.to_ready(class), self.to_waiting(class, &stamp)),
            };
            let (_, (free, waiting)) = open.insert((class, fillers));
            let added = free.add_all(arrays.free.as_slice());
            arrays.free.forget_oldest(added);
            complete &= arrays.free.is_empty();
            let added = waiting.add_all(arrays.free_by_rcu.as_slice());
            arrays.free_by_rcu.forget_oldest(added);
            complete &= arrays.free_by_rcu.is_empty();
            self.share_deferred(class, &mut arrays.deferred, &stamp);
            drop(arrays);
            complete &= free.add_list(&cache.free_llist_extra, arena, usize::MAX).complete;
            complete &= self.unspill(class, waiting, cache, usize::MAX);
        });
        complete
    }

    /// Returns true if every object is in its slab or with a user. Waits for caches in use.
    pub(super) fn is_empty(&self) -> bool {
        let mut is_empty = true;
        // First: another thread may move pending objects from here to the lists.
        self.caches.enter_all(self.used_classes(), true, |_, cache, arrays| {
            is_empty &= arrays.is_empty()
                && cache.free_llist_extra.is_empty()
                && cache.free_llist_extra_rcu.is_empty();
        });
        is_empty && self.by_class.all().iter().all(ClassDepot::is_empty)
    }

    /// Moves objects that were freed while a cache was busy into batches, as `empty_caches` does:
    /// two batches of either kind, more than a call leaves there. Objects for which there is no
    /// memory stay in their list. Async-signal-safe.
    pub(super) fn recover_extra(&self, class: usize, cache: &CpuCache, stamp: impl Fn() -> Stamp) {
        self.recover_some_extra(class, cache, 2 * self.of(class).batch, stamp);
    }

    fn recover_some_extra(
        &self,
        class: usize,
        cache: &CpuCache,
        most: usize,
        stamp: impl Fn() -> Stamp,
    ) {
        let arena = self.slabs.arena();
        self.to_ready(class).add_list(&cache.free_llist_extra, arena, most);
        self.unspill(class, &mut self.to_waiting(class, stamp), cache, most);
    }

    /// Moves at most `most` objects that were spilled by `spill_deferred`. Returns false if memory
    /// for batches ran out.
    fn unspill(
        &self,
        class: usize,
        waiting: &mut Filler<'_, impl FnMut(Batch)>,
        cache: &CpuCache,
        most: usize,
    ) -> bool {
        let moved = waiting.add_list(&cache.free_llist_extra_rcu, self.slabs.arena(), most);
        if moved.objects > 0 {
            let bytes = self.bytes(class, moved.objects);
            // The child of a fork begins at 0, whatever the lists have.
            let less = |spilled: u64| Some(spilled.saturating_sub(bytes));
            _ = self.spilled_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        moved.complete
    }

    /// Returns a filler of batches for `free_by_rcu_ttrace`.
    fn to_ready(&self, class: usize) -> Filler<'_, impl FnMut(Batch)> {
        let ready = &self.of(class).free_by_rcu_ttrace;
        Filler::new(&self.pool, self.of(class).batch, |batch| ready.push(&self.pool, batch))
    }

    /// Returns a filler of batches for `waiting_for_gp`. A batch is stamped once all its objects
    /// are in it.
    fn to_waiting(&self, class: usize, stamp: impl Fn() -> Stamp) -> Filler<'_, impl FnMut(Batch)> {
        Filler::new(&self.pool, self.of(class).batch, move |batch| {
            let mut one = Queue::new();
            one.push_back(&self.pool, batch);
            self.begin_waiting(class, one, &stamp);
        })
    }

    /// Moves at most a batch of objects to where any CPU refills from. Returns false if there is no
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

/// The number of objects of a class, at one moment, that are outside of slabs and not with a user.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Objects that may be allocated.
    pub(crate) cached: u64,
    /// Objects that wait for a grace period.
    pub(crate) pending: u64,
}
