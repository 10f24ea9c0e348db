//! The path from a deferred free to the next life of the object, on the CPU that freed it: when
//! grace periods begin, what happens once they have passed, and how the pending memory is bounded.

use super::finish::Finished;
use super::raw::Raw;
use crate::batch::{Queue, Stack};
use crate::class::BATCH_CAPACITY;
use crate::cpu::{Active, Arrays, Deferred};
use crate::rcu::{Backoff, WaitFor};
use crate::slab::Handle;
use crate::sync::Ordering::Relaxed;
use crate::sys::rseq::CacheRow;
use crate::sys::thread;

/// The most that a CPU collects of one class before it checks for readers, if the check needs no
/// barrier: in batches, and in bytes.
const MOST_BATCHES: u64 = 8;
const MOST_BYTES: u64 = 256 << 10;

/// The most that a CPU collects of one class, in bytes, if checking for readers may need a barrier,
/// which takes as long as thousands of allocations.
const MOST_BARRIER_BYTES: u64 = 512 << 10;

/// The most batches that a free in a hook takes over from other CPUs.
const BATCHES_IN_HOOK: usize = 2;

/// The number of times to check a reader that is inside a section. Most sections are shorter than a
/// few checks.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 16 };

/// The number of times that a thread waiting for room, with a growing pause in between, may find
/// nothing pending in the depot before it gives up: the pending objects are then held by a thread
/// that it interrupted, or in caches.
const MOST_EMPTY: u32 = if cfg!(loom) { 1 } else { 80 };

/// Behind a stalled reader, `1 / ROOM_PER_STALL` of `max_pending` may be added each time
/// `stall_after` elapses. So a writer can release a lock that the reader waits for, and memory
/// grows slowly.
const ROOM_PER_STALL: u64 = 16;

/// The room that a free has to make when more is pending than may be, in bytes.
struct Room {
    /// Added by the free.
    added: u64,
    /// Added by the hooks that the free has run.
    added_by_hooks: u64,
    made: u64,
}

impl Room {
    fn of(added: u64) -> Self {
        Self { added, added_by_hooks: 0, made: 0 }
    }

    fn note(&mut self, finished: &Finished) {
        self.made += finished.passed_bytes;
        self.added_by_hooks += finished.added_bytes;
    }

    /// Returns true if less is pending than before the free, by as much as it has added.
    fn is_made(&self) -> bool {
        self.made >= 2 * self.added + self.added_by_hooks
    }
}

impl Raw {
    #[cold]
    pub(super) fn free_rcu_slow(&self, class: usize, object: Handle) {
        if let Some(room) = self.collect(class, object) {
            self.hold_back(room);
        }
    }

    /// As `free_rcu`, but does not wait for room.
    pub(super) fn free_rcu_unbounded(&self, caches: &CacheRow, object: Handle) {
        let class = caches.class.into();
        if !self.depot.caches.push_by_rcu(caches, object) && self.collect(class, object).is_some() {
            self.end_shared(class);
        }
    }

    /// Adds an object to what this CPU defers. Returns as `defer`.
    fn collect(&self, class: usize, object: Handle) -> Option<Room> {
        let batch = self.depot.classes.class(class).deferred_batch().min(self.most_cached(class));
        let arrays = self.depot.caches.try_enter(class);
        match arrays {
            Some(mut arrays) if !arrays.free_by_rcu.is_full() => {
                arrays.free_by_rcu.push(object);
                let is_full = arrays.free_by_rcu.len() >= batch;
                is_full.then(|| self.defer(class, arrays)).flatten()
            }
            _ => {
                let is_over = self.depot.spill_deferred(class, object, self.max_pending);
                let Some(arrays) = arrays else {
                    return is_over.then(|| Room::of(self.size(class)));
                };
                // A full array waits for a batch, which the objects that pass now may leave.
                let mut room = self.defer(class, arrays)?;
                room.added += self.size(class);
                Some(room)
            }
        }
    }

    /// Checks for readers if that is due. Then lets the objects that a cache has collected be
    /// allocated again, or makes a batch of them. If more is pending than allowed, returns the room
    /// that the caller has to make, by moving on those that all CPUs share.
    #[cold]
    fn defer(&self, class: usize, mut arrays: Active<'_>) -> Option<Room> {
        let (depot, pool) = (self.depot(), &self.depot.pool);
        let wait_for = depot.route.deferred;
        // Also for those that pass at once: CPUs that are idle now may have added too much.
        let mut room = Room::of(depot.bytes(class, arrays.free_by_rcu.len() as u64));
        let is_due = arrays.deferred.is_due_for_one_more();
        let nobody_is_inside = is_due && self.domain.nobody_is_inside(wait_for);
        let mut passed = Queue::new();
        self.shed_if_sparse(class, &mut arrays);
        if nobody_is_inside {
            passed = arrays.deferred.pass_all(pool);
            if !depot.finishes() && !depot.of(class).lacks_reserved() {
                let Arrays { free, free_by_rcu, .. } = &mut *arrays;
                free.take_newest(free_by_rcu, self.most_cached(class));
            }
        }
        // Without memory for a batch the array fills up; further objects go to the extra list.
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
        if depot.finishes() {
            depot.let_pass(class, passed.take());
        }
        let is_over = depot.count_pending(class, &mut arrays.deferred, self.max_pending);
        self.let_pass(class, arrays, passed);
        self.recover_extra(class);
        room.note(&depot.finish(class, Some(self.batches_per_call(class))));
        if !is_over && !depot.of(class).waiting_for_gp.is_empty() {
            self.end_shared(class);
        }
        self.return_surplus(class);
        is_over.then_some(room)
    }

    /// Moves a batch of the objects that a cache may allocate to where any CPU refills from, if
    /// the cache has too many for sparse slabs.
    fn shed_if_sparse(&self, class: usize, arrays: &mut Arrays) {
        let most = self.most_if_sparse(class);
        arrays.lower_limits(most);
        let surplus = most.map_or(0, |most| arrays.free.len().saturating_sub(most));
        let count = surplus.min(BATCH_CAPACITY);
        if count > 0 && self.depot.make_ready(class, &arrays.free.as_slice()[..count]) {
            arrays.free.forget_oldest(count);
        }
    }

    /// Takes the objects that have passed their grace period. Drives the grace period first if that
    /// is due.
    fn take_passed(&self, class: usize, deferred: &mut Deferred) -> Queue {
        let is_due = deferred.is_due();
        if is_due && self.domain.nobody_is_inside(self.depot.route.deferred) {
            return deferred.pass_all(&self.depot.pool);
        }
        self.pass_with_stamp(class, deferred, is_due)
    }

    /// As `take_passed`, if a reader is or may be inside a section.
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
            // Every object was unlinked before it was freed, and therefore before this stamp.
            deferred.begin(self.domain.stamp(wait_for));
        }
        if self.domain.pass(wait_for, deferred.stamp(), LOOKS) {
            passed.append(pool, &mut deferred.take_passed(&self.domain.completed(wait_for)));
        }
        passed
    }

    /// Returns the most batches of a class that a CPU collects before it checks for readers.
    fn most_batches(&self, class: usize, wait_for: WaitFor) -> u32 {
        let batch = self.batch_bytes(class);
        // If much is pending already, every CPU gets a share of the bound.
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

    /// Lets objects that have passed their grace period be allocated again. The objects that this
    /// CPU did not need go to the depot.
    fn let_pass(&self, class: usize, mut arrays: Active<'_>, passed: Queue) {
        if passed.is_empty() {
            return;
        }
        let depot = self.depot();
        let mut unneeded = arrays.deferred.let_pass(&depot.pool, passed);
        if depot.slabs.is_sparse(class) {
            unneeded.append(&depot.pool, &mut arrays.deferred.passed);
        }
        drop(arrays);
        depot.of(class).free_by_rcu_ttrace.push_all(&depot.pool, unneeded);
    }

    /// Returns an object that this CPU has freed and that has passed its grace period.
    pub(super) fn refill_from_passed(&self, class: usize) -> Option<Handle> {
        let (depot, pool) = (self.depot(), &self.depot.pool);
        let mut arrays = depot.caches.try_enter(class)?;
        if arrays.deferred.passed.is_empty() {
            if depot.runs_hooks_when_passed() {
                // No hooks inside an allocation: its caller may hold a lock that they need.
                return None;
            }
            let passed = self.take_passed(class, &mut arrays.deferred);
            if depot.finishes() {
                depot.let_pass(class, passed);
                drop(arrays);
                depot.finish(class, Some(self.batches_per_call(class)));
                return None;
            }
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
        let full = self.most_cached(class);
        let Arrays { free, deferred, .. } = &mut *arrays;
        deferred.unpack_passed(pool, |objects| {
            let object = objects.pop();
            free.take_newest(objects, full);
            object
        })
    }

    /// Returns an object of this CPU that has already passed its grace period, even if fewer
    /// objects are ready than are reserved. Does not check for readers.
    pub(super) fn take_passed_nowait(&self, class: usize) -> Option<Handle> {
        let pool = &self.depot.pool;
        let mut arrays = self.depot.caches.try_enter(class)?;
        arrays.deferred.unpack_passed(pool, Stack::pop)
    }

    /// Drives the grace period of the batches in the depot, and lets those that have passed it be
    /// allocated again.
    pub(super) fn end_shared(&self, class: usize) {
        let wait_for = self.depot.route.deferred;
        if self.domain.costs_a_barrier(wait_for) {
            self.domain.advance_begun(wait_for);
        } else {
            self.domain.advance_once(wait_for);
        }
        // A hook leaves them to the call that runs it: more than its free has added, but few.
        let in_hook = self.depot.is_in_hook();
        let most = if in_hook { BATCHES_IN_HOOK } else { self.batches_per_call(class) };
        self.end_waiting(class, Some(most));
    }

    /// Returns true if no more is pending than allowed: `max_pending` bytes, and a part of that
    /// more for each `stall_after` that the current stall has lasted, so that frees go on behind
    /// it.
    fn has_room(&self) -> bool {
        let (pending, most) = (self.depot.pending_bytes(), self.max_pending);
        pending <= most || {
            let stalls = self.domain.stalls(self.depot.route.deferred);
            pending <= most.saturating_add((most / ROOM_PER_STALL).saturating_mul(stalls))
        }
    }

    /// Blocks until there is room for the batch that this call has added, for at most
    /// `stall_after`, and reports the reader in the way, once per grace period. A thread inside a
    /// section blocks when that section has ended. Batches that another thread is moving on are not
    /// waited for: they are done soon, or never if this thread interrupted that one.
    #[cold]
    fn hold_back(&self, mut room: Room) {
        let wait_for = self.depot.route.deferred;
        if self.depot.is_in_hook() {
            // The call that runs the hook makes room for this batch too.
            return self.depot.note_added_by_hook(room.added);
        }
        self.domain.advance_once(wait_for);
        if self.has_room() {
            return self.domain.report_new_stall(wait_for);
        }
        if self.domain.would_wait_for_itself(wait_for) {
            if !self.let_everybodys_pass(&mut room) {
                self.domain.owe(wait_for);
            }
            return;
        }
        if !self.make_room(&mut room) {
            self.wait_for_room(&mut room);
        }
        self.domain.report_new_stall(wait_for);
    }

    /// Lets pending objects that have passed their grace period be reused. Returns true if there is
    /// room, or if this call has made more than it takes: then the rest is left to the next frees,
    /// so that no call takes longer the more is pending. Returns false if nothing is ready, or if
    /// hooks add at least half as much as is made: behind a reader no work would be enough.
    fn make_room(&self, room: &mut Room) -> bool {
        loop {
            let (made_before, added_before) = (room.made, room.added_by_hooks);
            for class in self.all_classes() {
                let most = Some(self.batches_per_call(class));
                let mut finished = Finished::default();
                if self.depot.runs_hooks_when_passed() {
                    // What hooks have left goes on before more of what may own such.
                    finished = self.depot.finish(class, most);
                }
                if finished.passed_bytes == 0 {
                    finished = self.end_waiting(class, most);
                }
                room.note(&finished);
                if room.is_made() {
                    return true;
                }
            }
            if self.has_room() {
                return true;
            }
            if room.made - made_before <= 2 * (room.added_by_hooks - added_before) {
                return false;
            }
        }
    }

    /// As `make_room`, also for what other CPUs have deferred, once per grace period.
    fn let_everybodys_pass(&self, room: &mut Room) -> bool {
        self.make_room(room) || {
            let age = self.domain.completed(self.depot.route.deferred).age();
            self.settled_at.swap(age, Relaxed) != age && {
                self.depot.share_all_deferred(|| self.stamp_deferred());
                self.make_room(room)
            }
        }
    }

    fn wait_for_room(&self, room: &mut Room) {
        let wait_for = self.depot.route.deferred;
        self.depot.share_all_deferred(|| self.stamp_deferred());
        // Objects pending now need no later grace period than this one; objects that others add
        // may.
        let mut stamp = self.stamp_deferred();
        let mut shared_of_hooks = 0;
        let enough = |room: &mut Room, stamp, shared_of_hooks| {
            if self.domain.pass(wait_for, stamp, 1) {
                self.domain.advance_once(wait_for);
            } else if shared_of_hooks > 0 {
                // What hooks have added goes on before more of what may own such.
                return self.has_room();
            }
            self.make_room(room)
        };
        let completed = || self.domain.completed_epochs(wait_for);
        let mut shared_at = completed();
        let (start, limit) = (thread::clock(), self.domain.rcu().stalls_after());
        let mut backoff = Backoff::default();
        // Another thread may hold the batches for a moment.
        let mut empty = 0..MOST_EMPTY;
        while !enough(room, stamp, shared_of_hooks) && !self.domain.would_wait_for_itself(wait_for)
        {
            let (now, waits) = (completed(), self.anything_waits());
            if waits {
                empty = 0..MOST_EMPTY;
            } else if empty.next().is_none() {
                return;
            }
            if !waits || now != shared_at {
                // Objects that others have deferred since may be all that is pending.
                self.depot.share_all_deferred(|| self.stamp_deferred());
                shared_at = now;
            }
            if room.added_by_hooks > shared_of_hooks {
                self.depot.share_all_deferred(|| self.stamp_deferred());
                stamp = self.stamp_deferred();
                shared_of_hooks = room.added_by_hooks;
            }
            if thread::clock().saturating_sub(start) >= limit {
                return;
            }
            backoff.wait();
        }
    }

    fn anything_waits(&self) -> bool {
        let waits = |class| {
            let depot = self.depot.of(class);
            !depot.waiting_for_gp.is_empty() || !depot.unfinished.is_empty()
        };
        self.all_classes().any(waits)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::rcu::Domain;
    use crate::{AfterRcuGp, CpuMode, MemAlloc};
    use std::alloc::Layout;

    const LAYOUT: Layout = Layout::new::<[u64; 2]>();
    const CLASS: usize = 0;

    /// The bytes of which a free makes room, and those by which it has raised what is pending.
    fn room_and_added(alloc: &MemAlloc<AfterRcuGp>) -> [u64; 2] {
        loop {
            let object = alloc.alloc_handle(LAYOUT).expect("memory");
            let before = alloc.raw().depot.pending_bytes();
            if let Some(room) = alloc.raw().collect(CLASS, object) {
                return [room.added, alloc.raw().depot.pending_bytes() - before];
            }
        }
    }

    #[test]
    fn a_free_beyond_max_pending_makes_room_for_the_bytes_that_it_has_added() {
        let domain = Domain::new();
        let builder = MemAlloc::<AfterRcuGp>::builder().domain(domain.clone()).max_pending(0);
        let alloc = builder.cpu_mode(CpuMode::ActiveThread).build().expect("an allocator");
        let raw = alloc.raw();
        let inside = domain.pin();
        assert_eq!(room_and_added(&alloc), [250 * 16; 2], "a batch");
        let busy = raw.depot.caches.try_enter(CLASS).expect("it is free");
        assert_eq!(room_and_added(&alloc), [16; 2], "one object while the cache is busy");
        drop(busy);
        drop(inside);
        // An object in each slab keeps it.
        let row = raw.depot.caches.serving(LAYOUT);
        let all: Vec<_> = (0..5 << 16).map(|_| alloc.alloc_handle(LAYOUT).expect("one")).collect();
        let others = all.chunks(1 << 12).flat_map(|slab| &slab[1..]);
        others.for_each(|&object| raw.free_now(row, object));
        raw.trim();
        assert!(raw.depot.slabs.is_sparse(CLASS));
        let inside = domain.pin();
        let [room, added] = room_and_added(&alloc);
        assert!(room == added && added < 100 * 16, "{room} for {added}");
        drop(inside);
    }
}
