//! One CPU's caches: arrays of free objects for each class, under the `active` protocol.
//!
//! A thread that uses a cache sets its `active` flag with one exchange; when it is set already
//! (by a thread that was preempted inside, or by the code that a signal handler interrupted) the
//! caller does without: a free goes to a lock-free list beside the cache, an allocation to the
//! slow path. Where the system has restartable sequences, single objects move without setting
//! the flag, and the flag is set by a sequence too (`sys::rseq`). Knows nothing of slabs or
//! grace periods.
//!
//! - INV-C1: the arrays of a cache are touched only while this thread has set `active`, for
//!   which [`Active`] stands, or by a restartable sequence that finds it clear.
//! - INV-C2: an object is in one place only: an array, a list, or outside. The link of an object
//!   is used by the list that it is in.

use crate::batch::Stack;
use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY};
use crate::slab::{Arena, Handle};
use crate::sync::{AtomicU32, Ordering, UnsafeCell};
use crate::sys::cpu::{CpuMode, CpuSlots};
use crate::sys::rseq::{self, Rseq};
use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What a cache holds.
#[derive(Debug)]
#[repr(C)]
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

    /// Whether the list looks empty at the moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == 0
    }

    /// Takes the whole list and gives each object to `receive`. Async-signal-safe.
    pub(crate) fn take_all(&self, arena: &Arena, mut receive: impl FnMut(Handle)) {
        if self.is_empty() {
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

    /// Takes the object that was added last; the others are off the list for a moment.
    /// Async-signal-safe.
    pub(crate) fn take_one(&self, arena: &Arena) -> Option<Handle> {
        let mut first = None;
        self.take_all(arena, |object| match first {
            None => first = Some(object),
            Some(_) => self.push(arena, object),
        });
        first
    }

    /// How many objects are in it, as far as the caller's own view goes.
    pub(crate) fn len(&self, arena: &Arena) -> u64 {
        let mut count = 0;
        // An object that leaves meanwhile makes the count wrong, not the walk unsafe: links are
        // atomic and never unmapped; the bound keeps a walk that was led astray finite.
        let mut next = Handle::new(self.head.load(Ordering::Relaxed));
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
#[repr(C, align(128))]
pub(crate) struct CpuCache {
    /// `FREE`, `LOCAL` or a ticket; see `sys::rseq`.
    active: AtomicU32,
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
            active: AtomicU32::new(rseq::FREE),
            arrays: UnsafeCell::new(Arrays { free: Stack::new(), free_by_rcu: Stack::new() }),
            free_llist_extra: ObjectList::new(),
            free_llist_extra_rcu: ObjectList::new(),
        }
    }

    /// Sets `active`, without sequences.
    #[inline(always)]
    fn set_active(&self, by: u32) -> bool {
        // ORDERING: Acquire pairs with the Release in `Active::drop`: spans follow one another.
        // Falls to `loom` `an_object_is_never_handed_out_twice`. An exchange that fails stores
        // nothing.
        let set =
            self.active.compare_exchange(rseq::FREE, by, Ordering::Acquire, Ordering::Relaxed);
        set.is_ok()
    }

    /// The arrays, where single objects are moved by sequences, for a thread on any CPU.
    fn enter_beside_sequences(&self, sequences: Rseq, ticket: u32) -> Option<Active<'_>> {
        if !self.set_active(ticket) {
            return None;
        }
        let restarted = sequences.restart_others();
        // ORDERING: Acquire as in `set_active`; the barrier of the restart already orders it, but
        // does not say so to the compiler. If a sequence of the cache's CPU set the flag
        // meanwhile, it saw the cache free, and its store came after ours: it has the cache, or
        // has given it back, and perhaps to another ticket.
        let ours = self.active.load(Ordering::Acquire) == ticket;
        if ours && !restarted {
            // ORDERING: Relaxed: nothing was touched. It fails if a sequence took the cache.
            let (free, relaxed) = (rseq::FREE, Ordering::Relaxed);
            let _ = self.active.compare_exchange(ticket, free, relaxed, relaxed);
        }
        (ours && restarted).then(|| Active { cache: self })
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
        // ORDERING: Release pairs with the Acquire in `set_active`. Falls to `loom`
        // `an_object_is_never_handed_out_twice`.
        self.cache.active.store(rseq::FREE, Ordering::Release);
    }
}

/// Where a cache has the counts of its arrays.
const FREE_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free);
const BY_RCU_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free_by_rcu);

/// What the sequences rely on.
const _: () = {
    assert!(offset_of!(CpuCache, active) == 0);
    assert!(Stack::<CACHE_CAPACITY>::OBJECTS_AT == 4);
    // Under loom the flag is larger than a word, and there are no sequences.
    assert!(cfg!(loom) || FREE_AT == 4 && BY_RCU_AT.is_multiple_of(4));
};

/// The caches of all CPUs and classes.
#[derive(Debug)]
pub(crate) struct CpuCaches {
    slots: CpuSlots,
    sequences: Option<Rseq>,
    classes: usize,
    /// From one CPU's caches to the next, in bytes.
    stride: usize,
    tickets: AtomicU32,
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
        let sequences = Rseq::find().filter(|_| mode == CpuMode::Rseq);
        let stride = classes * size_of::<CpuCache>();
        Some(Self {
            slots,
            sequences,
            classes,
            stride,
            tickets: AtomicU32::new(rseq::FIRST_TICKET),
            caches: caches.into_boxed_slice(),
        })
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

    #[inline(always)]
    fn as_sequences_see(&self, class: usize) -> rseq::Caches {
        debug_assert!(class < self.classes);
        let first = NonNull::from(&*self.caches).cast::<CpuCache>();
        rseq::Caches {
            // SAFETY: CPU 0's cache of the class is in the slice.
            base: unsafe { first.add(class) }.cast(),
            stride: self.stride,
            cpus: self.slots.count() as u32,
        }
    }

    /// Takes an object out of this CPU's cache, if there are more than `low` and nobody is using
    /// it. Async-signal-safe, never waits.
    #[inline(always)]
    pub(crate) fn pop(&self, class: usize, low: usize) -> Option<Handle> {
        match self.sequences {
            Some(sequences) => {
                // SAFETY: the layout is asserted above, and the caches stay as long as `self`.
                Handle::new(unsafe { sequences.pop(self.as_sequences_see(class), low as u32) })
            }
            None => {
                let mut arrays = self.try_enter(class)?;
                if arrays.free.len() > low { arrays.free.pop() } else { None }
            }
        }
    }

    /// Puts an object into this CPU's cache, if there are fewer than `limit` and nobody is using
    /// it. Async-signal-safe, never waits.
    #[inline(always)]
    pub(crate) fn push(&self, class: usize, limit: usize, object: Handle) -> bool {
        debug_assert!(limit <= CACHE_CAPACITY);
        match self.sequences {
            // SAFETY: as in `pop`; watermarks are below the capacity (`Watermarks::check`).
            Some(sequences) => unsafe {
                let caches = self.as_sequences_see(class);
                sequences.push::<FREE_AT>(caches, limit as u32, object.get())
            },
            None => match self.try_enter(class) {
                Some(mut arrays) if arrays.free.len() < limit => {
                    arrays.free.push(object);
                    true
                }
                _ => false,
            },
        }
    }

    /// The same, for an object that waits for a grace period.
    #[inline(always)]
    pub(crate) fn push_by_rcu(&self, class: usize, limit: usize, object: Handle) -> bool {
        debug_assert!(limit <= BATCH_CAPACITY);
        match self.sequences {
            // SAFETY: as in `push`; a batch is at most the capacity (`Watermarks::check`).
            Some(sequences) => unsafe {
                let caches = self.as_sequences_see(class);
                sequences.push::<BY_RCU_AT>(caches, limit as u32, object.get())
            },
            None => match self.try_enter(class) {
                Some(mut arrays) if arrays.free_by_rcu.len() < limit => {
                    arrays.free_by_rcu.push(object);
                    true
                }
                _ => false,
            },
        }
    }

    /// The arrays of this CPU's cache, unless somebody is using them. Async-signal-safe, never
    /// waits.
    #[inline(always)]
    pub(crate) fn try_enter(&self, class: usize) -> Option<Active<'_>> {
        match self.sequences {
            Some(sequences) => {
                // SAFETY: as in `pop`.
                let place = unsafe { sequences.enter(self.as_sequences_see(class)) }?;
                // SAFETY: the place of one of our caches.
                Some(Active { cache: unsafe { place.cast().as_ref() } })
            }
            None => {
                let cache = self.current(class);
                // A closure: an `Active` that is built in vain would clear the flag.
                cache.set_active(rseq::LOCAL).then(|| Active { cache })
            }
        }
    }

    /// The arrays of any CPU's cache, unless somebody is using them.
    pub(crate) fn try_enter_any<'a>(&self, cache: &'a CpuCache) -> Option<Active<'a>> {
        match self.sequences {
            Some(sequences) => cache.enter_beside_sequences(sequences, self.ticket()),
            None => cache.set_active(rseq::LOCAL).then(|| Active { cache }),
        }
    }

    /// A number that no other attempt under way has, unless 2^32 began meanwhile.
    fn ticket(&self) -> u32 {
        loop {
            let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
            if ticket >= rseq::FIRST_TICKET {
                return ticket;
            }
        }
    }

    /// The same, if it needs no system call.
    pub(crate) fn try_enter_quietly<'a>(&self, cache: &'a CpuCache) -> Option<Active<'a>> {
        if self.sequences.is_some() { None } else { self.try_enter_any(cache) }
    }

    /// The arrays of any CPU's cache, after waiting for whoever uses them. Not for signal
    /// handlers.
    pub(crate) fn enter_any<'a>(&self, cache: &'a CpuCache) -> Active<'a> {
        loop {
            if let Some(active) = self.try_enter_any(cache) {
                return active;
            }
            // The holder may have been preempted inside.
            crate::sync::thread::yield_now();
        }
    }
}
