//! Immediate free when the cache of this CPU has no room: the object goes to the lists that all
//! CPUs share.

use super::raw::Raw;
use crate::cpu::Active;
use crate::slab::Handle;

impl Raw {
    #[cold]
    pub(super) fn free_slow(&self, class: usize, object: Handle) {
        let full = self.most_cached(class);
        match self.depot.caches.try_enter(class) {
            Some(mut arrays) if !arrays.free.is_full() => {
                arrays.free.push(object);
                arrays.lower_limits(self.most_if_sparse(class));
                if arrays.free.len() > full {
                    self.flush(class, arrays);
                }
            }
            _ => self.push_extra(class, object),
        }
    }

    /// Puts an object into the list beside its CPU's cache, while that is busy.
    pub(super) fn push_extra(&self, class: usize, object: Handle) {
        let cache = self.depot.caches.current(class);
        cache.free_llist_extra.push(self.depot.slabs.arena(), object);
    }

    /// Moves a batch from a cache to where any CPU may refill from.
    #[cold]
    fn flush(&self, class: usize, mut arrays: Active<'_>) {
        let depot = self.depot();
        let count = depot.classes.class(class).watermarks.surplus();
        // Without memory for a batch the cache fills up; further objects go to the extra list.
        let Some(mut batch) = depot.pool.take(true) else {
            return;
        };
        // The oldest objects are the least likely to be in the processor's caches.
        let count = count.min(arrays.free.len());
        depot.pool.with(&mut batch, |body| body.objects.extend(&arrays.free.as_slice()[..count]));
        arrays.free.forget_oldest(count);
        drop(arrays);
        depot.of(class).free_by_rcu_ttrace.push(&depot.pool, batch);
        self.recover_extra(class);
        self.return_surplus(class);
    }

    /// Moves the objects that were freed while this CPU's cache was busy to the lists that all CPUs
    /// share.
    pub(super) fn recover_extra(&self, class: usize) {
        let cache = self.depot.caches.current(class);
        self.depot.recover_extra(class, cache, || self.stamp_deferred());
    }
}
