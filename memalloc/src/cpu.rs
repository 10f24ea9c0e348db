//! One CPU's caches: arrays of free objects for each class, under the `active` protocol.
//!
//! A thread that uses a cache sets its `active` flag with one exchange; when it is set already
//! (by a thread that was preempted inside, or by the code that a signal handler interrupted) the
//! caller does without: a free goes to a lock-free list beside the cache, an allocation to the
//! slow path. Knows nothing of batches, slabs or grace periods.
//!
//! - INV-C1: the arrays of a cache are touched only between a successful exchange of `active`
//!   and the store that ends it; [`Active`] stands for that span.
//! - INV-C2: an object is in one place only: an array, a list, or outside. The link of an object
//!   is used by the list that it is in.

use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY};
use crate::slab::{Arena, Handle};
use crate::sync::{AtomicBool, AtomicU32, Ordering, UnsafeCell};
use crate::sys::cpu::{CpuMode, CpuSlots};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A bounded stack of objects.
#[derive(Debug)]
pub(crate) struct Stack<const N: usize> {
    count: u32,
    objects: [u32; N],
}

impl<const N: usize> Stack<N> {
    pub(crate) const fn new() -> Self {
        Self { count: 0, objects: [0; N] }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Adds an object; the caller knows that there is room.
    #[inline(always)]
    pub(crate) fn push(&mut self, object: Handle) {
        self.objects[self.count as usize] = object.get();
        self.count += 1;
    }

    /// Takes the object that was added last.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Handle> {
        self.count = self.count.checked_sub(1)?;
        Handle::new(*self.objects.get(self.count as usize)?)
    }
}

/// What a cache holds.
#[derive(Debug)]
pub(crate) struct Arrays {
    /// Objects that may be allocated.
    #[doc(alias = "free_llist")]
    pub(crate) free: Stack<CACHE_CAPACITY>,
    /// Objects on their way to a grace period.
    pub(crate) free_by_rcu: Stack<BATCH_CAPACITY>,
}

/// A lock-free list of single objects, linked beside the objects. Only whole lists are taken.
#[derive(Debug)]
pub(crate) struct ObjectList {
    head: AtomicU32,
}

impl ObjectList {
    fn new() -> Self {
        Self { head: AtomicU32::new(0) }
    }

    /// Async-signal-safe.
    pub(crate) fn push(&self, arena: &Arena, object: Handle) {
        let link = arena.link(object);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `take_all`: the link, and everything
            // that was done to the object, comes before its next use. Falls to `loom`
            // `an_object_freed_while_its_cache_is_busy_is_found_again`.
            match self.head.compare_exchange_weak(
                head,
                object.get(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Takes the whole list and gives each object to `receive`. Async-signal-safe.
    pub(crate) fn take_all(&self, arena: &Arena, mut receive: impl FnMut(Handle)) {
        if self.head.load(Ordering::Relaxed) == 0 {
            return;
        }
        // ORDERING: Acquire pairs with the Release in `push`. The list is taken whole, so an
        // object can't come back behind an exchange that is under way.
        let mut next = Handle::new(self.head.swap(0, Ordering::Acquire));
        while let Some(object) = next {
            next = Handle::new(arena.link(object).load(Ordering::Relaxed));
            receive(object);
        }
    }

    /// How many objects are in it, as far as the caller's own view goes.
    pub(crate) fn len(&self, arena: &Arena) -> u64 {
        let mut count = 0;
        // ORDERING: Acquire pairs with the Release in `push`: the links can be followed. An
        // object that leaves meanwhile makes the count wrong, not the walk unsafe: links are
        // atomic and never unmapped; the bound keeps a walk that was led astray finite.
        let mut next = Handle::new(self.head.load(Ordering::Acquire));
        while let Some(object) = next.filter(|_| count < 1 << 20) {
            next = Handle::new(arena.link(object).load(Ordering::Relaxed));
            count += 1;
        }
        count
    }
}

/// One CPU's cache of one class.
///
/// On cache lines of its own: two CPUs never write to one line.
#[repr(align(128))]
pub(crate) struct CpuCache {
    active: AtomicBool,
    arrays: UnsafeCell<Arrays>,
    /// Objects that were freed while the cache was busy.
    pub(crate) free_llist_extra: ObjectList,
    /// The same, for objects that wait for a grace period first.
    pub(crate) free_llist_extra_rcu: ObjectList,
}

impl fmt::Debug for CpuCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuCache").finish_non_exhaustive()
    }
}

// SAFETY: the arrays are touched under `active` only (INV-C1); the rest is atomic.
unsafe impl Sync for CpuCache {}

impl CpuCache {
    fn new() -> Self {
        Self {
            active: AtomicBool::new(false),
            arrays: UnsafeCell::new(Arrays { free: Stack::new(), free_by_rcu: Stack::new() }),
            free_llist_extra: ObjectList::new(),
            free_llist_extra_rcu: ObjectList::new(),
        }
    }

    /// The arrays, unless somebody is using them. Async-signal-safe, never waits.
    #[inline(always)]
    pub(crate) fn try_enter(&self) -> Option<Active<'_>> {
        // ORDERING: Acquire pairs with the Release in `Active::drop`: spans follow one another.
        // Falls to `loom` `an_object_is_never_handed_out_twice`.
        match self.active.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Some(Active { cache: self }),
            Err(_) => None,
        }
    }

    /// The arrays, after waiting for whoever uses them. Not for signal handlers.
    pub(crate) fn enter(&self) -> Active<'_> {
        loop {
            if let Some(active) = self.try_enter() {
                return active;
            }
            // The holder may have been preempted inside.
            crate::sync::thread::yield_now();
        }
    }
}

/// The right to touch the arrays of a cache; it ends when this is dropped.
pub(crate) struct Active<'a> {
    cache: &'a CpuCache,
}

impl Deref for Active<'_> {
    type Target = Arrays;

    #[inline(always)]
    fn deref(&self) -> &Arrays {
        // SAFETY: INV-C1, and the borrow of `self` keeps the span open.
        self.cache.arrays.with(|arrays| unsafe { &*arrays })
    }
}

impl DerefMut for Active<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Arrays {
        // SAFETY: INV-C1, and `&mut self` is the only way in.
        self.cache.arrays.with_mut(|arrays| unsafe { &mut *arrays })
    }
}

impl Drop for Active<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquire in `try_enter`.
        self.cache.active.store(false, Ordering::Release);
    }
}

/// The caches of all CPUs and classes.
#[derive(Debug)]
pub(crate) struct CpuCaches {
    slots: CpuSlots,
    classes: usize,
    /// One CPU's classes lie side by side.
    caches: Box<[CpuCache]>,
}

impl CpuCaches {
    /// `None` when there is no memory for them.
    pub(crate) fn new(mode: CpuMode, classes: usize) -> Option<Self> {
        let slots = CpuSlots::new(mode);
        let mut caches = Vec::new();
        caches.try_reserve_exact(slots.count() * classes).ok()?;
        caches.extend((0..slots.count() * classes).map(|_| CpuCache::new()));
        Some(Self { slots, classes, caches: caches.into_boxed_slice() })
    }

    pub(crate) fn mode(&self) -> CpuMode {
        self.slots.mode()
    }

    /// The cache of the CPU that this thread is on, as far as it can know.
    #[inline(always)]
    pub(crate) fn current(&self, class: usize) -> &CpuCache {
        &self.caches[self.slots.current() * self.classes + class]
    }

    /// The caches of one class, of all CPUs.
    pub(crate) fn of_class(&self, class: usize) -> impl Iterator<Item = &CpuCache> {
        self.caches[class..].iter().step_by(self.classes)
    }
}
