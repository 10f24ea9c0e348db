//! An allocator without its types: the fast paths of `alloc` and `free`, which touch the cache of
//! the current CPU only, and its end. `refill` and `reclaim` have the slow paths.

use super::error::AllocErrorKind;
use super::stages::Stages;
use crate::class::MAX_SIZE;
use crate::cpu::CpuCaches;
use crate::rcu::{Domain, SynchronizeError};
use crate::slab::Handle;
use crate::sync::AtomicU64;
use std::mem::ManuallyDrop;

/// An allocator without its types: every size class, both kinds of free.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(super) domain: Domain,
    pub(super) stages: ManuallyDrop<Stages>,
    /// Bytes and objects that began to wait since the last grace period was begun.
    pub(super) deferred_bytes: AtomicU64,
    pub(super) deferred_objects: AtomicU64,
    /// The newest cookie that had passed when memory was looked for everywhere.
    pub(super) reclaimed_at: AtomicU64,
}

impl Flow {
    pub(super) fn new(domain: Domain, stages: Stages) -> Self {
        Self {
            domain,
            stages: ManuallyDrop::new(stages),
            deferred_bytes: AtomicU64::new(0),
            deferred_objects: AtomicU64::new(0),
            reclaimed_at: AtomicU64::new(u64::MAX),
        }
    }

    #[inline(always)]
    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// An object of a class (`unit_alloc`).
    #[doc(alias = "unit_alloc")]
    #[inline]
    pub(super) fn alloc(&self, class: usize) -> Result<Handle, AllocErrorKind> {
        let low = self.stages.classes.marks(class).low;
        match self.stages.caches.pop(class, low.into()) {
            Some(object) => Ok(object),
            None => self.alloc_slow(class),
        }
    }

    /// As `alloc`, but from what is ready only: no lock, no system call.
    pub(super) fn alloc_nowait(&self, class: usize) -> Result<Handle, AllocErrorKind> {
        if let Some(object) = self.stages.caches.pop(class, 0) {
            return Ok(object);
        }
        let batch = self.stages.take_ready(class);
        batch
            .and_then(|batch| self.unpack(class, batch))
            .or_else(|| self.alloc_anywhere(class, CpuCaches::try_enter_quietly))
            .ok_or(AllocErrorKind::WouldBlock)
    }

    /// Frees an object that may be allocated again at once (`unit_free`). Async-signal-safe.
    #[doc(alias = "unit_free")]
    #[inline]
    pub(super) fn free_now(&self, class: usize, object: Handle) {
        let high = self.stages.classes.marks(class).high;
        if !self.stages.caches.push(class, high.into(), object) {
            self.free_slow(class, object);
        }
    }

    /// Frees an object that may be allocated again after a grace period (`unit_free_rcu`).
    /// Async-signal-safe where the allocator has no destructor.
    #[doc(alias = "unit_free_rcu")]
    #[inline]
    pub(super) fn free_rcu(&self, class: usize, object: Handle) {
        // The object that fills the batch takes the slow path.
        let limit = usize::from(self.stages.classes.marks(class).batch) - 1;
        if !self.stages.caches.push_by_rcu(class, limit, object) {
            self.free_rcu_slow(class, object);
        }
    }

    pub(super) fn size(&self, class: usize) -> u64 {
        let size = self.stages.classes.class(class).size;
        debug_assert!(size <= MAX_SIZE);
        size as u64
    }

    pub(super) fn all_classes(&self) -> std::ops::Range<usize> {
        0..self.stages.classes.len()
    }
}

impl Drop for Flow {
    /// Waits for the readers that may still look at objects, or leaves that to the domain when
    /// this very thread is one of them.
    fn drop(&mut self) {
        // SAFETY: `self` is not used after this.
        let stages = unsafe { ManuallyDrop::take(&mut self.stages) };
        match self.domain.synchronize() {
            Ok(()) => end(stages),
            Err(SynchronizeError::InsideReadSection) => self.domain.call(move || end(stages)),
        }
    }
}

/// Ends an allocator that no reader looks at any more: destructors run for everything that
/// waited; memory that a user still holds stays, for good.
fn end(stages: Stages) {
    let newest = crate::rcu::Cookie(u64::MAX);
    let mut live = 0;
    let taken = stages.slabs.usage().taken;
    for (class, taken) in taken.into_iter().enumerate() {
        stages.empty_caches(class, || newest);
        stages.end_waiting(class, newest);
        let census = stages.census(class);
        live += taken - census.cached - census.pending;
    }
    if live > 0 {
        std::mem::forget(stages);
    }
}
