//! Every place that an object of an allocator can be in, and the moves between two of them.
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
//! their slabs. Knows when a move is allowed (the stamp of a batch), not when it is worth while:
//! that is `raw_alloc`, `defer` and `reclaim`.
//!
//! - INV-L1: an object enters a cache's array, `passed` or `free_by_rcu_ttrace` only when its
//!   policy lets it be allocated again.
//! - INV-L2: an object enters its slab only after the grace periods that its policy asks for, so
//!   memory and type hold for every reader that the policy knows (INV-A3).
//! - INV-L3: what is reserved of `free_by_rcu_ttrace` is left there, where every CPU finds it, by
//!   all but those who have no other way to an object.

use super::error::AllocErrorKind;
use super::filler::Filler;
use super::hook_frame;
use super::recount::Recount;
use super::stage::{ClassDepot, ClassDepots};
use crate::batch::{Batch, Pool, Queue};
use crate::class::{ClassTable, UNIT};
use crate::cpu::{CpuCache, CpuCaches, Deferred};
use crate::first_panic::FirstPanic;
use crate::policy::PolicyKind;
use crate::rcu::{Stamp, WaitFor};
use crate::slab::{Handle, Slabs};
use crate::sync::Tally;
use crate::sys::fork::Registration;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Does something to an object that nobody else can reach.
pub(crate) type ObjectFn = unsafe fn(NonNull<u8>);

/// What runs for objects on their way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hooks {
    /// For a deferred object when its last reader has left, before anything else is done to it.
    pub(crate) finalizer: Option<ObjectFn>,
    /// For an object that goes back to its slab.
    pub(crate) destructor: Option<ObjectFn>,
}

/// What a policy asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Whom a deferred object waits for.
    pub(crate) deferred: WaitFor,
    /// Whether it then goes to its slab, and is allocated again from there only.
    pub(crate) through_slab: bool,
    /// Whom other objects wait for on the way to their slabs: nobody less.
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

/// All of them, and what is needed to move between them.
#[derive(Debug)]
pub(crate) struct Depot {
    /// Ends before what it names.
    _registration: Registration,
    _recount: Arc<Recount>,
    pub(crate) classes: ClassTable,
    pub(crate) caches: CpuCaches,
    pub(super) pool: Arc<Pool>,
    pub(crate) slabs: Slabs,
    pub(super) hooks: Hooks,
    pub(super) route: Route,
    /// Bytes of the objects in `waiting_for_gp`, and of what CPUs have deferred: not less than there
    /// are.
    pending_bytes: Arc<Tally>,
    by_class: Arc<ClassDepots>,
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
        let (pool, pending_bytes) = (Arc::new(pool), Arc::new(Tally::new(0)));
        let _recount = Arc::new(Recount::new(&classes, &pool, &by_class, &pending_bytes));
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
            by_class,
        }
    }

    /// Makes what an allocator needs from its first allocation on. Not for signal handlers.
    pub(super) fn wake(&self) -> Result<(), AllocErrorKind> {
        if self.caches.is_live() {
            return Ok(());
        }
        if !self.by_class.wake(&self.classes) {
            return Err(AllocErrorKind::OutOfMemory);
        }
        // As elsewhere, what is refused is asked for again before memory has run out.
        let woken = self.caches.wake(&self.classes).or_else(|_| self.caches.wake(&self.classes));
        woken.map_err(|_| AllocErrorKind::OutOfMemory)
    }

    /// The classes that there may be objects of: none until something is allocated.
    pub(super) fn used_classes(&self) -> Range<usize> {
        0..self.by_class.all().len()
    }

    /// A class that there may be objects of.
    #[inline(always)]
    pub(crate) fn of(&self, class: usize) -> &ClassDepot {
        &self.by_class.all()[class]
    }

    /// Bytes that wait for a grace period before they can be allocated again, beside what is in
    /// the caches.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Counts what a CPU has deferred, in steps, so that CPUs seldom meet at the count; and says
    /// whether that is more than `most` bytes together.
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
            // Others, who did not wait, may have added too much and be idle now.
            return self.pending_bytes() > most;
        };
        let rounded = more.next_multiple_of(step);
        let more = if self.pending_bytes().saturating_add(rounded) > most { more } else { rounded };
        deferred.set_counted(deferred.counted() + more);
        self.pending_bytes.fetch_add(more, Ordering::Relaxed) + more > most
    }

    /// What has passed its grace period: finalizers run, and the objects go to their slabs, or to
    /// where any CPU refills from. Returns how many objects went to the slabs.
    ///
    /// A hook that panics keeps no other object from its own; the panic goes on when all is done. Called
    /// by a hook of this allocator, it leaves the objects to the call that runs that hook, so that hooks
    /// do not pile up on the stack.
    pub(super) fn finish(&self, class: usize, mut passed: Queue, may_wait: bool) -> u64 {
        if !self.runs_hooks_when_passed() {
            return self.finish_each(class, passed, may_wait, &mut FirstPanic::default());
        }
        if hook_frame::leave_to_outer(self.name()) {
            let bytes = self.bytes(class, passed.objects());
            self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.of(class).put_off.push_all(&self.pool, passed);
            return 0;
        }
        let (mut returned, mut panics) = (0, FirstPanic::default());
        hook_frame::run(self.name(), || {
            returned += self.finish_each(class, passed.take(), may_wait, &mut panics);
            for class in self.used_classes() {
                let more = self.of(class).put_off.take_all(&self.pool);
                let bytes = self.bytes(class, more.objects());
                self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
                returned += self.finish_each(class, more, may_wait, &mut panics);
            }
        });
        panics.go_on();
        returned
    }

    /// Whether hooks run for objects that have passed their grace period, before they are allocated again.
    pub(super) fn runs_hooks_when_passed(&self) -> bool {
        self.hooks.finalizer.is_some()
            || (self.route.through_slab && self.hooks.destructor.is_some())
    }

    /// Whether a hook of this allocator is what calls.
    pub(super) fn is_in_hook(&self) -> bool {
        self.runs_hooks_when_passed() && hook_frame::leave_to_outer(self.name())
    }

    /// Names the allocator among others.
    fn name(&self) -> *const () {
        Arc::as_ptr(&self.by_class).cast()
    }

    fn finish_each(
        &self,
        class: usize,
        mut passed: Queue,
        may_wait: bool,
        panics: &mut FirstPanic,
    ) -> u64 {
        let (depot, mut returned) = (self.of(class), 0);
        while let Some(mut batch) = passed.pop_front(&self.pool) {
            // INV-R2: the grace period of the batch has passed, so this thread alone can reach
            // the objects, and this runs once for each waiting.
            self.run(self.hooks.finalizer, &mut batch, panics);
            if !self.route.through_slab {
                depot.free_by_rcu_ttrace.push(&self.pool, batch);
                continue;
            }
            match self.put_back(batch, may_wait, panics) {
                Ok(count) => returned += count,
                Err(batch) => depot.waiting_for_gp_ttrace.push_again(&self.pool, batch),
            }
        }
        returned
    }

    /// Moves what a CPU has deferred to where any CPU finds it: what has passed its grace period to
    /// `free_by_rcu_ttrace`, what has not to `waiting_for_gp`, stamped by `stamp` where it has no
    /// stamp yet.
    fn share_deferred(&self, class: usize, deferred: &mut Deferred, stamp: &impl Fn() -> Stamp) {
        self.of(class).free_by_rcu_ttrace.push_all(&self.pool, deferred.passed.take());
        if !deferred.waiting_for_gp.is_empty() {
            self.share_waiting(class, deferred.waiting_for_gp.take(), deferred.stamp());
            // That stamp may have passed already.
            self.of(class).waiting_for_gp.search_again();
        }
        if !deferred.free_by_rcu.is_empty() {
            self.share_waiting(class, deferred.free_by_rcu.take(), stamp());
        }
        deferred.give_spare(&self.pool);
        self.pending_bytes.fetch_sub(deferred.counted(), Ordering::Relaxed);
        deferred.set_counted(0);
    }

    /// The same for every CPU, as far as their caches are not in use where it may not wait, and for
    /// what is no full batch yet.
    pub(super) fn share_all_deferred(&self, may_wait: bool, stamp: impl Fn() -> Stamp) {
        self.caches.enter_all(self.used_classes(), may_wait, |class, _, mut arrays| {
            let added = self.to_waiting(class, &stamp).add_all(arrays.free_by_rcu.as_slice());
            arrays.free_by_rcu.forget_oldest(added);
            self.share_deferred(class, &mut arrays.deferred, &stamp);
        });
    }

    fn bytes(&self, class: usize, objects: u64) -> u64 {
        objects * self.classes.class(class).size as u64
    }

    /// To `waiting_for_gp`: batches whose objects are all freed by now.
    fn share_waiting(&self, class: usize, mut batches: Queue, stamp: Stamp) {
        let mut stamped = Queue::new();
        while let Some(mut batch) = batches.pop_front(&self.pool) {
            self.pool.with(&mut batch, |body| body.set_stamp(stamp));
            stamped.push_back(&self.pool, batch);
        }
        let bytes = self.bytes(class, stamped.objects());
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.of(class).waiting_for_gp.push_all(&self.pool, stamped);
    }

    /// To `waiting_for_gp`: a batch whose objects are all freed by now.
    pub(super) fn begin_waiting(&self, class: usize, mut batch: Batch, stamp: Stamp) {
        let count = self.pool.with(&mut batch, |body| {
            body.set_stamp(stamp);
            body.objects.len() as u64
        });
        self.pending_bytes.fetch_add(self.bytes(class, count), Ordering::Relaxed);
        self.of(class).waiting_for_gp.push(&self.pool, batch);
    }

    /// `waiting_for_gp` to `free_by_rcu_ttrace`, or to the slabs: what `completed` allows, after
    /// its finalizer. Returns how many objects went to the slabs.
    pub(super) fn end_waiting(&self, class: usize, completed: &Stamp, may_wait: bool) -> u64 {
        let mut passed = Queue::new();
        self.of(class).waiting_for_gp.take_passed(&self.pool, completed, |batch| {
            passed.push_back(&self.pool, batch);
        });
        if passed.is_empty() {
            return 0;
        }
        let bytes = self.bytes(class, passed.objects());
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.finish(class, passed, may_wait)
    }

    /// `free_by_rcu_ttrace` to `waiting_for_gp_ttrace`: one batch, stamped by `stamp` once it is
    /// off the list. Returns how many objects; 0 when there is no batch to spare.
    pub(super) fn begin_returning(&self, class: usize, stamp: impl FnOnce() -> Stamp) -> u64 {
        let depot = self.of(class);
        if !depot.has_spare_batch() {
            return 0;
        }
        let Some(mut batch) = depot.free_by_rcu_ttrace.pop(&self.pool) else {
            return 0;
        };
        let count = self.pool.with(&mut batch, |body| {
            body.set_stamp(stamp());
            body.objects.len() as u64
        });
        depot.waiting_for_gp_ttrace.push(&self.pool, batch);
        count
    }

    /// `waiting_for_gp_ttrace` to the slabs: what `completed` allows. Returns how many objects.
    pub(super) fn end_returning(&self, class: usize, completed: &Stamp, may_wait: bool) -> u64 {
        let depot = self.of(class);
        let (mut returned, mut panics) = (0, FirstPanic::default());
        depot.waiting_for_gp_ttrace.take_passed(&self.pool, completed, |batch| {
            match self.put_back(batch, may_wait, &mut panics) {
                Ok(count) => returned += count,
                Err(batch) => depot.waiting_for_gp_ttrace.push_again(&self.pool, batch),
            }
        });
        panics.go_on();
        returned
    }

    /// Puts the objects of a batch into their slabs, and says how many; or gives the batch back,
    /// where that would mean to wait. INV-L2: the caller has seen that its grace periods passed.
    fn put_back(
        &self,
        mut batch: Batch,
        may_wait: bool,
        panics: &mut FirstPanic,
    ) -> Result<u64, Batch> {
        // A destructor runs outside of the lock, so what it has seen has to go back.
        let may_wait = may_wait || self.hooks.destructor.is_some();
        self.run(self.hooks.destructor, &mut batch, panics);
        let put_back = self.pool.with(&mut batch, |body| {
            let done = self.slabs.put_back(&self.classes, body.objects.as_slice(), may_wait);
            done.then_some(body.objects.len() as u64)
        });
        match put_back {
            Some(count) => {
                self.pool.give(batch);
                Ok(count)
            }
            None => Err(batch),
        }
    }

    /// Calls a hook for every object of a batch, also where it panics for another. Nobody else can reach
    /// them.
    fn run(&self, hook: Option<ObjectFn>, batch: &mut Batch, panics: &mut FirstPanic) {
        let Some(hook) = hook else {
            return;
        };
        self.pool.with(batch, |body| {
            for &object in body.objects.as_slice() {
                // A model reports a reader that may still look at what the hook writes.
                #[cfg(loom)]
                self.slabs.arena().writes_plain(object);
                // SAFETY: the promise of who set the hook (`Builder`); the grace periods of the
                // object have passed (INV-R2), so this thread alone has it.
                panics.catch(|| unsafe { hook(self.slabs.arena().pointer(object)) });
            }
        });
    }

    /// A batch that may be allocated from and is not reserved.
    pub(super) fn take_spare(&self, class: usize) -> Option<Batch> {
        let depot = self.of(class);
        if depot.has_spare_batch() {
            return self.take_ready(class);
        }
        depot.waiting_for_gp_ttrace.pop(&self.pool)
    }

    /// A batch that may be allocated from.
    pub(super) fn take_ready(&self, class: usize) -> Option<Batch> {
        let depot = self.of(class);
        // Refilling from objects on their way back is allowed: that wait protects memory and
        // type, and allocating again keeps both.
        depot
            .free_by_rcu_ttrace
            .pop(&self.pool)
            .or_else(|| depot.waiting_for_gp_ttrace.pop(&self.pool))
    }

    /// Bytes of what is kept beside the slabs.
    pub(crate) fn table_bytes(&self) -> u64 {
        let depot = size_of_val(self.by_class.all()) as u64;
        self.caches.table_bytes() + self.pool.table_bytes() + self.slabs.table_bytes() + depot
    }

    /// What the system lent: every object that is outside of its slab is at one of these places.
    /// For each class.
    pub(crate) fn census(&self) -> Vec<Census> {
        let arena = self.slabs.arena();
        let in_batches = |depot: &ClassDepot| Census {
            cached: depot.free_by_rcu_ttrace.objects() + depot.waiting_for_gp_ttrace.objects(),
            pending: depot.waiting_for_gp.objects() + depot.put_off.objects(),
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

    /// Empties the caches of some classes into batches: free objects to `free_by_rcu_ttrace`,
    /// waiting ones to `waiting_for_gp`, stamped by `stamp`. `false` when memory for batches ran
    /// out before the end.
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
            complete &= free.add_list(&cache.free_llist_extra, arena);
            complete &= waiting.add_list(&cache.free_llist_extra_rcu, arena);
        });
        complete
    }

    /// The same for what was freed while a cache was busy; what finds no memory stays.
    /// Async-signal-safe.
    pub(super) fn recover_extra(&self, class: usize, cache: &CpuCache, stamp: impl Fn() -> Stamp) {
        let arena = self.slabs.arena();
        self.to_ready(class).add_list(&cache.free_llist_extra, arena);
        self.to_waiting(class, stamp).add_list(&cache.free_llist_extra_rcu, arena);
    }

    /// Fills batches for `free_by_rcu_ttrace`.
    fn to_ready(&self, class: usize) -> Filler<'_, impl FnMut(Batch)> {
        let ready = &self.of(class).free_by_rcu_ttrace;
        Filler::new(&self.pool, self.of(class).batch, |batch| ready.push(&self.pool, batch))
    }

    /// Fills batches for `waiting_for_gp`. A batch is stamped when all its objects are in it.
    fn to_waiting(&self, class: usize, stamp: impl Fn() -> Stamp) -> Filler<'_, impl FnMut(Batch)> {
        Filler::new(&self.pool, self.of(class).batch, move |batch| {
            self.begin_waiting(class, batch, stamp())
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
