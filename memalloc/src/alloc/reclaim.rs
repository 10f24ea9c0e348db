//! From a deferred free to the next life of the object, and from there back to its slab: when
//! grace periods begin, and what happens when they have passed.

use super::flow::Flow;
use crate::cpu::Active;
use crate::rcu::SynchronizeError;
use crate::slab::Handle;
use crate::sync::Ordering;

/// A grace period is begun for this many bytes of deferred frees. One barrier interrupts the
/// other CPUs for about as long as some thousand allocations take, so it has to serve that many.
pub(super) const GP_BYTES: u64 = if cfg!(loom) { 1 } else { 1 << 20 };

/// The same, counted in objects, for small ones.
const GP_OBJECTS: u64 = 8192;

/// Objects that may be allocated and that no CPU holds: up to this many bytes of a class stay
/// for the next refill, what is more goes back to the slabs.
const READY_BYTES: u64 = 1 << 20;

/// What went back, and what that gave the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reclaimed {
    /// Objects that returned to their slabs.
    pub objects: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Bytes of empty slabs that went back to the system.
    pub released_bytes: u64,
}

impl Flow {
    #[cold]
    pub(super) fn free_rcu_slow(&self, class: usize, object: Handle) {
        let batch = self.stages.classes.class(class).watermarks.batch;
        match self.stages.caches.try_enter(class) {
            Some(mut arrays) if !arrays.free_by_rcu.is_full() => {
                arrays.free_by_rcu.push(object);
                if arrays.free_by_rcu.len() >= batch {
                    self.defer(class, arrays);
                }
            }
            _ => {
                let cache = self.stages.caches.current(class);
                cache.free_llist_extra_rcu.push(self.stages.slabs.arena(), object);
            }
        }
    }

    /// Stamps what a cache has collected and lets it wait for the grace period.
    #[cold]
    fn defer(&self, class: usize, mut arrays: Active<'_>) {
        let stages = self.stages();
        let Some(mut batch) = stages.pool.take(true) else {
            return;
        };
        let count = arrays.free_by_rcu.len() as u64;
        stages.pool.with(&mut batch, |body| {
            body.objects.extend(arrays.free_by_rcu.as_slice());
            // Every object was unlinked before it was freed, and so before this cookie.
            body.stamp(self.domain.start_poll());
        });
        arrays.free_by_rcu.forget_oldest(count as usize);
        drop(arrays);
        stages.of(class).waiting_for_gp.push(&stages.pool, batch);
        self.recover_extra(class);
        self.drive(class, count);
    }

    /// Moves grace periods along, now that `count` objects more wait for one, and ends the
    /// waiting of those whose has passed.
    fn drive(&self, class: usize, count: u64) {
        self.owe(class, count);
        self.stages.end_waiting(class, self.domain.completed());
        self.return_surplus(class);
    }

    /// Begins a grace period when enough objects wait for one.
    fn owe(&self, class: usize, count: u64) {
        let more = count * self.size(class);
        let bytes = more + self.deferred_bytes.fetch_add(more, Ordering::Relaxed);
        let objects = count + self.deferred_objects.fetch_add(count, Ordering::Relaxed);
        if bytes >= GP_BYTES || objects >= GP_OBJECTS {
            self.deferred_bytes.store(0, Ordering::Relaxed);
            self.deferred_objects.store(0, Ordering::Relaxed);
            self.domain.advance_once();
        } else {
            self.domain.advance_begun();
        }
    }

    /// Sends batches that are more than enough towards the slabs, and puts those back whose
    /// grace period has passed.
    pub(super) fn return_surplus(&self, class: usize) {
        let stages = self.stages();
        let ready = &stages.of(class).free_by_rcu_ttrace;
        let before = ready.objects();
        while ready.objects() * self.size(class) > READY_BYTES {
            if !stages.begin_returning(class, || self.domain.start_poll()) {
                break;
            }
        }
        let begun = before.saturating_sub(ready.objects());
        if begun > 0 || !stages.of(class).waiting_for_gp_ttrace.is_empty() {
            self.owe(class, begun);
            stages.end_returning(class, self.domain.completed(), false);
        }
    }

    /// Sends everything that nobody holds to the slabs, as far as readers allow at once.
    #[cold]
    pub(super) fn reclaim(&self) {
        let completed = self.domain.completed();
        if self.reclaimed_at.load(Ordering::Relaxed) == completed.0 {
            // No grace period has passed since, not even those that this would begin: a reader
            // holds everything up.
            return;
        }
        for class in self.all_classes() {
            self.stages.empty_caches(class, || self.domain.start_poll());
        }
        self.trim();
        self.reclaimed_at.store(completed.0, Ordering::Relaxed);
    }

    /// Returns what nobody needs, without waiting for readers.
    pub(super) fn trim(&self) -> Reclaimed {
        let stages = self.stages();
        self.advance_twice();
        for class in self.all_classes() {
            stages.end_waiting(class, self.domain.completed());
            while stages.begin_returning(class, || self.domain.start_poll()) {}
        }
        self.advance_twice();
        self.put_back_passed()
    }

    /// Ends the grace period of every cookie so far, where no reader holds it up: one may be
    /// under way already, which does not count for the newest cookies.
    fn advance_twice(&self) {
        self.domain.advance_once();
        self.domain.advance_once();
    }

    /// Returns everything that is not with a user, after waiting for readers.
    pub(super) fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        self.domain.check_outside()?;
        let stages = self.stages();
        for class in self.all_classes() {
            while !stages.empty_caches(class, || self.domain.start_poll()) {
                // No memory for batches: use those again that are under way.
                self.domain.synchronize()?;
                stages.end_waiting(class, self.domain.completed());
                while stages.begin_returning(class, || self.domain.start_poll()) {}
                self.domain.synchronize()?;
                if stages.end_returning(class, self.domain.completed(), true) == 0 {
                    break;
                }
            }
        }
        self.domain.synchronize()?;
        for class in self.all_classes() {
            stages.end_waiting(class, self.domain.completed());
            while stages.begin_returning(class, || self.domain.start_poll()) {}
        }
        self.domain.synchronize()?;
        Ok(self.put_back_passed())
    }

    fn put_back_passed(&self) -> Reclaimed {
        let slabs = &self.stages.slabs;
        let released_before = slabs.released_bytes();
        let mut reclaimed = Reclaimed::default();
        for class in self.all_classes() {
            let objects = self.stages.end_returning(class, self.domain.completed(), true);
            reclaimed.objects += objects;
            reclaimed.bytes += objects * self.size(class);
        }
        slabs.release_spare();
        reclaimed.released_bytes = slabs.released_bytes() - released_before;
        reclaimed
    }
}
