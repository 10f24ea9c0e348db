//! Finishes the objects that have passed their grace periods: hooks run for them, and they return to
//! their slabs if the policy says so.

use super::depot::{Depot, ObjectFn};
use super::hook_frame;
use crate::batch::{Batch, Queue};
use crate::first_panic::FirstPanic;
use crate::rcu::Stamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Depot {
    /// Finishes objects that have passed their grace period: runs their finalizers, then moves the
    /// objects to their slabs or to where any CPU refills from. Returns the number of objects that
    /// went to the slabs.
    ///
    /// If a hook panics, the hooks of the remaining objects run first, then the panic resumes. When
    /// a hook of this allocator calls this, the objects are left to the call that runs that hook,
    /// so that hooks do not nest on the stack.
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

    /// Returns true if hooks run for objects that have passed their grace period, before these are
    /// allocated again.
    pub(super) fn runs_hooks_when_passed(&self) -> bool {
        self.hooks.finalizer.is_some()
            || (self.route.through_slab && self.hooks.destructor.is_some())
    }

    /// Returns true if the caller runs inside a hook of this allocator.
    pub(super) fn is_in_hook(&self) -> bool {
        self.runs_hooks_when_passed() && hook_frame::leave_to_outer(self.name())
    }

    /// Identifies the allocator among others.
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
        let (depot, mut returned, mut still_out) = (self.of(class), 0, Queue::new());
        while let Some(mut batch) = passed.pop_front(&self.pool) {
            // MEM-R2: the grace period of the batch has passed, so only this thread can reach the
            // objects, and this runs once per grace period of an object.
            self.run(self.hooks.finalizer, &mut batch, panics);
            if !self.route.through_slab {
                depot.free_by_rcu_ttrace.push(&self.pool, batch);
                continue;
            }
            match self.put_back(batch, may_wait, panics) {
                Ok(count) => returned += count,
                Err(batch) => still_out.push_back(&self.pool, batch),
            }
        }
        depot.waiting_for_gp_ttrace.push_all(&self.pool, still_out, Stamp::PASSED);
        returned
    }

    /// Puts the objects of a batch into their slabs and returns how many they were, or returns the
    /// batch if that would block. MEM-L2: the caller has seen that its grace periods have passed.
    pub(super) fn put_back(
        &self,
        mut batch: Batch,
        may_wait: bool,
        panics: &mut FirstPanic,
    ) -> Result<u64, Batch> {
        // A destructor runs outside of the lock, so an object that it has seen must go back.
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
