//! Finishes the objects that have passed their grace periods: hooks run for them, and they return
//! to their slabs if the policy says so.

use super::depot::{Depot, ObjectFn};
use super::hook_frame;
use crate::batch::{Batch, Queue};
use crate::first_panic::FirstPanic;
use crate::rcu::Stamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The work of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finished {
    /// The objects that went to their slabs, and their bytes.
    pub(super) returned: u64,
    pub(super) returned_bytes: u64,
    /// Bytes of the objects that are pending no longer.
    pub(super) passed_bytes: u64,
    /// Bytes that hooks have added to what is pending, if that was more than may be.
    pub(super) added_bytes: u64,
}

impl Depot {
    /// Returns true if something is done to objects that have passed their grace period, before
    /// they are allocated again.
    pub(super) fn finishes(&self) -> bool {
        self.hooks.finalizer.is_some() || self.route.through_slab
    }

    /// Returns true if hooks run for objects that have passed their grace period, before these are
    /// allocated again.
    pub(super) fn runs_hooks_when_passed(&self) -> bool {
        self.hooks.finalizer.is_some()
            || (self.route.through_slab && self.hooks.destructor.is_some())
    }

    /// Returns true if the caller runs inside a hook of this allocator.
    pub(super) fn is_in_hook(&self) -> bool {
        self.runs_hooks_when_passed() && hook_frame::is_inside(self.name())
    }

    /// Notes that a hook has added `bytes` to what is pending, which was more than may be.
    pub(super) fn note_added_by_hook(&self, bytes: u64) {
        hook_frame::add(self.name(), bytes);
    }

    /// Identifies the allocator among others.
    fn name(&self) -> *const () {
        Arc::as_ptr(&self.by_class).cast()
    }

    /// Adds objects that have passed their grace period to those that any call may finish, or, if
    /// there is nothing to do, to those that any CPU refills from.
    pub(super) fn let_pass(&self, class: usize, passed: Queue) {
        if !self.finishes() {
            return self.of(class).free_by_rcu_ttrace.push_all(&self.pool, passed);
        }
        if !passed.is_empty() {
            self.pending_bytes.fetch_add(self.bytes(class, passed.objects()), Ordering::Relaxed);
            self.of(class).unfinished.push_all(&self.pool, passed);
            if self.runs_hooks_when_passed() {
                hook_frame::leave_more(self.name());
            }
        }
    }

    /// Takes at most `most` batches that `completed` allows from `waiting_for_gp`, and finishes at
    /// most as many. Without `most`, takes and finishes all, and may wait.
    pub(super) fn end_waiting(
        &self,
        class: usize,
        completed: &Stamp,
        most: Option<usize>,
    ) -> Finished {
        let batches = most.unwrap_or(usize::MAX);
        let passed = self.of(class).waiting_for_gp.take_passed(&self.pool, completed, batches);
        let bytes = self.bytes(class, passed.objects());
        if bytes > 0 {
            self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.finish_passed(class, passed, most)
    }

    /// Finishes batches that were held and have passed, and all others.
    pub(super) fn finish_held(&self, class: usize, passed: Queue) -> Finished {
        let bytes = self.bytes(class, passed.objects());
        // In the child of a fork their bytes are no longer counted.
        let less = |pending: u64| Some(pending.saturating_sub(bytes));
        _ = self.pending_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.finish_passed(class, passed, None)
    }

    /// Lets objects that have passed their grace period go on, and finishes at most `most` batches.
    fn finish_passed(&self, class: usize, passed: Queue, most: Option<usize>) -> Finished {
        let passed_bytes = self.bytes(class, passed.objects());
        self.let_pass(class, passed);
        if self.finishes() {
            self.finish(class, most)
        } else {
            Finished { passed_bytes, ..Finished::default() }
        }
    }

    /// Finishes objects that have passed their grace period: runs their finalizers, then moves the
    /// objects to their slabs or to where any CPU refills from. Begins with those of `class`, and
    /// finishes at most `most` batches. Without `most`, finishes all, and may wait.
    ///
    /// If a hook panics, the hooks of the remaining objects run first, then the panic resumes.
    /// Objects that hooks free are finished after these, not inside, so that a chain of objects
    /// takes no stack however long it is. What is beyond `most` is left to later calls.
    pub(super) fn finish(&self, class: usize, most: Option<usize>) -> Finished {
        let (mut finished, mut panics) = (Finished::default(), FirstPanic::default());
        if !self.runs_hooks_when_passed() {
            self.finish_some(class, most, &mut finished, &mut panics);
            return finished;
        }
        let all = self.used_classes();
        if all.clone().all(|class| self.of(class).unfinished.is_empty()) || self.is_in_hook() {
            return finished;
        }
        let mut left = most;
        finished.added_bytes = hook_frame::run(self.name(), || {
            for class in (class..all.end).chain(0..class) {
                let batches = self.finish_some(class, left, &mut finished, &mut panics);
                left = left.map(|left| left - batches);
            }
        });
        panics.go_on();
        finished
    }

    /// Finishes at most `most` batches of a class. Returns how many.
    fn finish_some(
        &self,
        class: usize,
        most: Option<usize>,
        finished: &mut Finished,
        panics: &mut FirstPanic,
    ) -> usize {
        let (depot, mut still_out) = (self.of(class), Queue::new());
        let mut some = match most {
            Some(most) => depot.unfinished.take_some(&self.pool, most),
            None => depot.unfinished.take_all(&self.pool),
        };
        if some.is_empty() {
            return 0;
        }
        let (batches, bytes) = (some.batches() as usize, self.bytes(class, some.objects()));
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        finished.passed_bytes += bytes;
        while let Some(mut batch) = some.pop_front(&self.pool) {
            // MEM-R2: the grace period of the batch has passed, so only this thread can reach the
            // objects, and this runs once per grace period of an object.
            self.run(self.hooks.finalizer, &mut batch, panics);
            if !self.route.through_slab {
                depot.free_by_rcu_ttrace.push(&self.pool, batch);
                continue;
            }
            let more = most.is_some() && !some.is_empty();
            match self.put_back(batch, most.is_none(), more, panics) {
                Ok(count) => {
                    finished.returned += count;
                    finished.returned_bytes += self.bytes(class, count);
                }
                Err(batch) => still_out.push_back(&self.pool, batch),
            }
        }
        depot.waiting_for_gp_ttrace.push_all(&self.pool, still_out, Stamp::PASSED);
        batches
    }

    /// Puts the objects of a batch into their slabs and returns how many they were, or returns the
    /// batch if that would block. Tells the slabs if `more` batches follow, of the few that a call
    /// moves. MEM-L2: the caller has seen that its grace periods have passed.
    pub(super) fn put_back(
        &self,
        mut batch: Batch,
        may_wait: bool,
        more: bool,
        panics: &mut FirstPanic,
    ) -> Result<u64, Batch> {
        // A destructor runs outside of the lock, so an object that it has seen must go back.
        let may_wait = may_wait || self.hooks.destructor.is_some();
        self.run(self.hooks.destructor, &mut batch, panics);
        let put_back = self.pool.with(&mut batch, |body| {
            let done = self.slabs.put_back(&self.classes, body.objects.as_slice(), may_wait, more);
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

    /// Calls a hook for every object of a batch, even if it panics for one of them. No other thread
    /// can reach the objects.
    fn run(&self, hook: Option<ObjectFn>, batch: &mut Batch, panics: &mut FirstPanic) {
        let Some(hook) = hook else {
            return;
        };
        self.pool.with(batch, |body| {
            for &object in body.objects.as_slice() {
                // A model reports a reader that may still access what the hook writes.
                #[cfg(loom)]
                self.slabs.arena().writes_plain(object);
                // SAFETY: the promise made when the hook was set (`Builder`); the grace periods of
                // the object have passed (MEM-R2), so only this thread has it.
                panics.catch(|| unsafe { hook(self.slabs.arena().pointer(object)) });
            }
        });
    }
}
