//! An allocator without its types: the fast paths of `alloc` and `free`, which touch only the cache
//! of the current CPU, and its end. The slow paths are in `raw_alloc`, `raw_free`, `defer` and
//! `reclaim`.

use super::depot::Depot;
use super::error::AllocErrorKind;
use super::owed::Owed;
use super::wanted::Wanted;
use crate::class::MAX_SIZE;
use crate::cpu::CpuCaches;
use crate::first_panic::FirstPanic;
use crate::rcu::{Domain, Stamp};
use crate::slab::Handle;
use crate::sync::Tally;
use crate::sys::rseq::CacheRow;
use std::mem::ManuallyDrop;

/// An allocator without its types: every size class, both kinds of free.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(super) domain: Domain,
    pub(super) depot: ManuallyDrop<Depot>,
    /// Bytes on their way to the slabs that have no grace period yet.
    pub(super) owed: Owed,
    /// The most bytes that may be pending before a free waits for readers.
    pub(super) max_pending: u64,
    /// The age of the completed grace periods when `reclaim` last searched every place.
    pub(super) reclaimed_at: Tally,
    /// Bytes that have left the depot for the slabs as surplus.
    pub(super) surplus: Tally,
    /// The number of turns in which unneeded objects of a class have left as well.
    pub(super) next_idle: Tally,
    /// The age of the completed grace periods when a thread inside a section last let objects pass.
    pub(super) settled_at: Tally,
    /// The last time at which an allocation that may not wait moved pending objects along, in
    /// nanoseconds of `thread::clock`.
    pub(super) moved_along_at: Tally,
    /// The classes that workers are to refill.
    pub(super) wanted: Wanted,
    /// True in a model that claims nothing about the end (`MemAlloc::ends_at_once`).
    #[cfg(loom)]
    pub(super) ends_at_once: bool,
}

impl Raw {
    pub(super) fn new(domain: Domain, depot: Depot, max_pending: u64) -> Self {
        let wanted = Wanted::new(&depot.bells);
        Self {
            domain,
            depot: ManuallyDrop::new(depot),
            owed: Owed::new(),
            max_pending,
            reclaimed_at: Tally::new(u64::MAX),
            surplus: Tally::new(0),
            next_idle: Tally::new(0),
            settled_at: Tally::new(u64::MAX),
            moved_along_at: Tally::new(0),
            wanted,
            #[cfg(loom)]
            ends_at_once: false,
        }
    }

    #[inline(always)]
    pub(crate) fn depot(&self) -> &Depot {
        &self.depot
    }

    pub(crate) fn max_pending(&self) -> u64 {
        self.max_pending
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Allocates an object of a class, if the cache of this CPU has one (`unit_alloc`).
    #[doc(alias = "unit_alloc")]
    #[inline(always)]
    pub(super) fn alloc(&self, caches: &CacheRow) -> Option<Handle> {
        self.depot.caches.pop(caches)
    }

    /// As `alloc`, but only if an object is ready: takes no lock. Wakes a worker if this leaves too
    /// few ready for the next call.
    pub(super) fn alloc_nowait(&self, caches: &CacheRow) -> Result<Handle, AllocErrorKind> {
        if let Some(object) = self.depot.caches.pop(&CacheRow { low: 0, ..*caches }) {
            return Ok(object);
        }
        let class = caches.class.into();
        let object = self
            .take_passed_nowait(class)
            .or_else(|| self.unpack(class, self.depot.take_ready(class)?))
            .or_else(|| self.alloc_anywhere(class, CpuCaches::try_enter_quietly))
            .or_else(|| self.alloc_moved_along(class));
        self.want(class);
        object.ok_or(AllocErrorKind::WouldBlock)
    }

    /// Frees an object that may be allocated again immediately (`unit_free`). Async-signal-safe if
    /// the allocator has no destructor.
    #[doc(alias = "unit_free")]
    #[inline(always)]
    pub(super) fn free_now(&self, caches: &CacheRow, object: Handle) {
        if !self.depot.caches.push(caches, object) {
            self.free_slow(caches.class.into(), object);
        }
    }

    /// Frees an object that may be allocated again after a grace period (`unit_free_rcu`).
    /// Async-signal-safe if the allocator has neither a destructor nor a finalizer.
    #[doc(alias = "unit_free_rcu")]
    #[inline(always)]
    pub(super) fn free_rcu(&self, caches: &CacheRow, object: Handle) {
        if !self.depot.caches.push_by_rcu(caches, object) {
            self.free_rcu_slow(caches.class.into(), object);
        }
    }

    pub(super) fn size(&self, class: usize) -> u64 {
        let size = self.depot.classes.class(class).size;
        debug_assert!(size <= MAX_SIZE);
        size as u64
    }

    /// Returns the most objects that a cache of a class holds, if that is fewer than usual.
    pub(super) fn most_if_sparse(&self, class: usize) -> Option<usize> {
        let sparse = self.depot.slabs.is_sparse(class);
        sparse.then(|| self.depot.classes.class(class).watermarks.full_if_sparse())
    }

    /// Returns the most objects that a cache of a class holds.
    pub(super) fn most_cached(&self, class: usize) -> usize {
        let full = || self.depot.classes.class(class).watermarks.full();
        self.most_if_sparse(class).unwrap_or_else(full)
    }

    pub(super) fn all_classes(&self) -> std::ops::Range<usize> {
        self.depot.used_classes()
    }
}

/// The number of checks for readers that may be about to leave, when an allocator ends.
const LOOKS_AT_THE_END: u32 = if cfg!(loom) { 1 } else { 16 };

impl Drop for Raw {
    /// Never blocks: if readers may still look at objects, the domain ends the allocator later.
    fn drop(&mut self) {
        // SAFETY: `self` is not used after this. The depot stays wrapped until its end: if a
        // callback or a hook panics before that, readers and users may still be there, so it leaks.
        let depot = ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut self.depot) });
        #[cfg(loom)]
        if self.ends_at_once {
            return drop(ManuallyDrop::into_inner(depot));
        }
        if !depot.slabs.were_used() {
            return drop(ManuallyDrop::into_inner(depot));
        }
        let readers = depot.route.returned;
        if self.domain.pass(readers, self.domain.stamp(readers), LOOKS_AT_THE_END) {
            end(depot);
        } else {
            self.domain.call_after(readers, move || end(depot));
        }
        if !std::thread::panicking() {
            // Allocators that were left to the domain earlier.
            self.domain.run_all_callbacks();
        }
    }
}

/// Ends an allocator that has no readers left. Finalizers and destructors run for every object that
/// no user holds. Memory that a user still holds is leaked.
fn end(depot: ManuallyDrop<Depot>) {
    let classes = depot.used_classes();
    classes.clone().for_each(|class| depot.of(class).unreserve());
    let (passed, mut panics) = (Stamp::AFTER_EVERYTHING, FirstPanic::default());
    let mut return_batches = || {
        let return_class = |class| {
            let finished = panics.catch(|| depot.end_waiting(class, &passed, None));
            while depot.begin_returning(class, || Stamp::PASSED) > 0 {}
            let returned = panics.catch(|| depot.end_returning(class, &passed, usize::MAX, true));
            finished.map_or(1, |finished| finished.returned) + returned.unwrap_or(1)
        };
        classes.clone().map(return_class).sum::<u64>()
    };
    // If memory for batches runs out, the batches that the slabs have emptied are used again.
    while !depot.empty_caches(classes.clone(), || Stamp::PASSED) && return_batches() > 0 {}
    return_batches();
    if depot.slabs.usage().taken.iter().all(|&taken| taken == 0) {
        drop(ManuallyDrop::into_inner(depot));
    }
    panics.go_on();
}
