//! When objects move: the paths of `alloc` and `free`, and the work that they do by the way.
//!
//! The fast paths touch the cache of the current CPU only. The slow paths move one batch, drive
//! grace periods by the amount that waits (never by the object), and send what is more than
//! enough back towards the slabs.

use super::error::AllocErrorKind;
use super::stages::Stages;
use crate::batch::{Batch, Stack};
use crate::class::{BATCH_CAPACITY, MAX_SIZE};
use crate::cpu::{Active, CpuCache, CpuCaches};
use crate::rcu::{Domain, SynchronizeError};
use crate::slab::Handle;
use crate::sync::{AtomicU64, Ordering};
use std::mem::ManuallyDrop;

/// A grace period is begun for this many bytes of deferred frees. One barrier interrupts the
/// other CPUs for about as long as some thousand allocations take, so it has to serve that many.
const GP_BYTES: u64 = if cfg!(loom) { 1 } else { 1 << 20 };

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

/// An allocator without its types: every size class, both kinds of free.
#[derive(Debug)]
pub(crate) struct Flow {
    domain: Domain,
    stages: ManuallyDrop<Stages>,
    /// Bytes and objects that began to wait since the last grace period was begun.
    deferred_bytes: AtomicU64,
    deferred_objects: AtomicU64,
    /// The newest cookie that had passed when memory was looked for everywhere.
    reclaimed_at: AtomicU64,
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

    #[cold]
    fn alloc_slow(&self, class: usize) -> Result<Handle, AllocErrorKind> {
        if let Some(object) = self.refill(class) {
            return Ok(object);
        }
        self.carve(class).or_else(|error| {
            // Before memory has run out, every object that nobody holds is looked for.
            self.reclaim();
            let found = self.refill(class).or_else(|| self.carve(class).ok());
            let found = found.or_else(|| self.alloc_anywhere(class, CpuCaches::try_enter_any));
            found.ok_or(AllocErrorKind::from(error))
        })
    }

    /// An object from what is ready, or has waited long enough.
    fn refill(&self, class: usize) -> Option<Handle> {
        let stages = self.stages();
        self.recover_extra(class);
        let mut batch = stages.take_ready(class);
        let waiting = &stages.of(class).waiting_for_gp;
        if batch.is_none() && !waiting.is_empty() {
            if waiting.objects() * self.size(class) > GP_BYTES / 4 {
                self.domain.advance_once();
            }
            stages.end_waiting(class, self.domain.completed());
            batch = stages.take_ready(class);
        }
        self.unpack(class, batch?)
    }

    /// Sends everything that nobody holds to the slabs, as far as readers allow at once.
    #[cold]
    fn reclaim(&self) {
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

    /// An object from any CPU's cache, below its low watermark too, or from beside it.
    fn alloc_anywhere(
        &self,
        class: usize,
        enter: impl for<'a> Fn(&CpuCaches, &'a CpuCache) -> Option<Active<'a>>,
    ) -> Option<Handle> {
        let (caches, arena) = (&self.stages.caches, self.stages.slabs.arena());
        caches.of_class(class).find_map(|cache| {
            let object = enter(caches, cache).and_then(|mut arrays| arrays.free.pop());
            object.or_else(|| cache.free_llist_extra.take_one(arena))
        })
    }

    /// A batch of objects fresh from slabs: one for the caller, the others for the cache.
    fn carve(&self, class: usize) -> Result<Handle, crate::slab::SlabError> {
        let stages = self.stages();
        let wanted = stages.classes.class(class).watermarks.batch;
        let mut fresh = Stack::<BATCH_CAPACITY>::new();
        stages.slabs.carve(&stages.classes, class, wanted, |object| fresh.push(object))?;
        let Some(object) = fresh.pop() else {
            unreachable!("carving gives an object or an error");
        };
        let left = self.stock(class, fresh.as_slice());
        if left > 0 && !self.stages.make_ready(class, &fresh.as_slice()[..left]) {
            fresh.as_slice()[..left].iter().for_each(|&object| self.push_extra(class, object));
        }
        Ok(object)
    }

    /// One object of a batch for the caller, the others for the cache. The batch is not empty.
    fn unpack(&self, class: usize, mut batch: Batch) -> Option<Handle> {
        let pool = &self.stages.pool;
        let (object, left) = pool.with(&mut batch, |body| {
            let object = body.objects.pop();
            let left = self.stock(class, body.objects.as_slice());
            body.objects.truncate(left);
            (object, left)
        });
        if left == 0 {
            pool.give(batch);
        } else {
            // Somebody else is using the cache, or it is full by now.
            self.stages.of(class).free_by_rcu_ttrace.push(pool, batch);
        }
        object
    }

    /// Puts the last of `objects` into the cache of the current CPU, as many as there is room
    /// for, unless somebody else uses it, and says how many are left.
    fn stock(&self, class: usize, objects: &[Handle]) -> usize {
        let high = self.stages.classes.class(class).watermarks.high;
        let Some(mut arrays) = self.stages.caches.try_enter(class) else {
            return objects.len();
        };
        let left = objects.len() - objects.len().min(high.saturating_sub(arrays.free.len()));
        arrays.free.extend(&objects[left..]);
        left
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

    #[cold]
    fn free_slow(&self, class: usize, object: Handle) {
        let high = self.stages.classes.class(class).watermarks.high;
        match self.stages.caches.try_enter(class) {
            Some(mut arrays) if !arrays.free.is_full() => {
                arrays.free.push(object);
                if arrays.free.len() > high {
                    self.flush(class, arrays);
                }
            }
            _ => self.push_extra(class, object),
        }
    }

    /// Where an object goes while its CPU's cache is busy.
    fn push_extra(&self, class: usize, object: Handle) {
        let cache = self.stages.caches.current(class);
        cache.free_llist_extra.push(self.stages.slabs.arena(), object);
    }

    /// Moves a batch from a cache to where any CPU may refill from.
    #[cold]
    fn flush(&self, class: usize, mut arrays: Active<'_>) {
        let stages = self.stages();
        let count = stages.classes.class(class).watermarks.batch;
        // Without memory for a batch the cache fills up, and then the extra list takes over.
        let Some(mut batch) = stages.pool.take(true) else {
            return;
        };
        // The oldest, which are the least likely to be in the processor's caches.
        let count = count.min(arrays.free.len());
        stages.pool.with(&mut batch, |body| body.objects.extend(&arrays.free.as_slice()[..count]));
        arrays.free.forget_oldest(count);
        drop(arrays);
        stages.of(class).free_by_rcu_ttrace.push(&stages.pool, batch);
        self.recover_extra(class);
        self.return_surplus(class);
    }

    /// Objects that this CPU's cache turned away while it was busy: to where the others go.
    fn recover_extra(&self, class: usize) {
        let cache = self.stages.caches.current(class);
        self.stages.recover_extra(class, cache, || self.domain.start_poll());
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

    #[cold]
    fn free_rcu_slow(&self, class: usize, object: Handle) {
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
    fn return_surplus(&self, class: usize) {
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

    fn size(&self, class: usize) -> u64 {
        let size = self.stages.classes.class(class).size;
        debug_assert!(size <= MAX_SIZE);
        size as u64
    }

    fn all_classes(&self) -> std::ops::Range<usize> {
        0..self.stages.classes.len()
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
