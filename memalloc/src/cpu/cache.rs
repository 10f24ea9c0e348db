//! One CPU's cache of one class, and the right to touch it.

use super::deferred::Deferred;
use super::list::ObjectList;
use crate::batch::Stack;
use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY, MAX_CLASSES};
use crate::sync::{AtomicU32, Ordering, UnsafeCell};
use crate::sys::rseq::{self, Caches};
use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

/// What a cache holds.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Arrays {
    /// Objects that may be allocated.
    #[doc(alias = "free_llist")]
    pub(crate) free: Stack<CACHE_CAPACITY>,
    /// Objects on their way to a grace period.
    pub(crate) free_by_rcu: Stack<BATCH_CAPACITY>,
    /// Batches of them.
    pub(crate) deferred: Deferred,
}

/// One CPU's cache of one class. All zero, it is an empty one that nobody uses.
///
/// On cache lines of its own: two CPUs never write to one line.
#[repr(C)]
pub(crate) struct CpuCache {
    /// `FREE`, `LOCAL` or a ticket; see `sys::rseq`.
    active: AtomicU32,
    arrays: UnsafeCell<Arrays>,
    /// Objects that were freed while the cache was busy.
    pub(crate) free_llist_extra: ObjectList,
    /// The same, for objects that wait for a grace period first.
    pub(crate) free_llist_extra_rcu: ObjectList,
}

/// Where a cache has the counts of its arrays.
pub(super) const FREE_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free);
pub(super) const BY_RCU_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free_by_rcu);

/// The room that a cache takes up.
pub(super) const CACHE_BYTES: usize = 2048;

/// What the sequences and the table of caches rely on. (Under loom words are larger, and there
/// are neither.)
const _: () = {
    assert!(cfg!(loom) || size_of::<CpuCache>() <= CACHE_BYTES);
    assert!(offset_of!(CpuCache, active) == 0);
    assert!(cfg!(loom) || FREE_AT == rseq::COUNT_AT && BY_RCU_AT.is_multiple_of(4));
    assert!(Stack::<CACHE_CAPACITY>::OBJECTS_AT == 4);
    assert!(cfg!(loom) || MAX_CLASSES * CACHE_BYTES == Caches::CPU_BYTES);
};

impl fmt::Debug for CpuCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuCache").finish_non_exhaustive()
    }
}

// SAFETY: the arrays are touched under `active` only (INV-C1); the rest is atomic.
unsafe impl Sync for CpuCache {}

impl CpuCache {
    /// An empty cache, where zeroed memory is not one.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            active: AtomicU32::new(rseq::FREE),
            arrays: UnsafeCell::new(Arrays {
                free: Stack::new(),
                free_by_rcu: Stack::new(),
                deferred: Deferred::default(),
            }),
            free_llist_extra: ObjectList::new(),
            free_llist_extra_rcu: ObjectList::new(),
        }
    }

    /// In the child of a fork: takes the cache back from a vanished thread. What was in it is
    /// lost: it may have been copied elsewhere already, or not be there yet.
    #[cfg(not(loom))]
    pub(super) fn mend(&self, _survivor: crate::sys::fork::Survivor) {
        let is_free = self.active.load(Ordering::Relaxed) == rseq::FREE;
        self.arrays.with_mut(|arrays| {
            // SAFETY: INV-C1: the thread that had set `active` is no more, and no other can yet.
            let arrays = unsafe { &mut *arrays };
            if arrays.deferred.counted() != 0 {
                // What is pending is counted again.
                arrays.deferred.set_counted(0);
            }
            if is_free {
                return;
            }
            arrays.deferred = Deferred::default();
            arrays.free.truncate(0);
            arrays.free_by_rcu.truncate(0);
        });
        if !is_free {
            self.active.store(rseq::FREE, Ordering::Relaxed);
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

    /// The arrays, without sequences, unless somebody is using them.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<Active<'_>> {
        // A closure: an `Active` that is built in vain would clear the flag.
        self.set_active(rseq::LOCAL).then(|| Active { cache: self })
    }

    /// The first half of entering beside sequences, for a thread on any CPU: `true` when the
    /// ticket was set. The sequences have to be restarted before the second half.
    pub(super) fn ask(&self, ticket: u32) -> bool {
        self.set_active(ticket)
    }

    /// The second half: the arrays, if the ticket is still there and the sequences were
    /// `restarted` after it was set.
    pub(super) fn enter_with(&self, ticket: u32, restarted: bool) -> Option<Active<'_>> {
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

impl<'a> Active<'a> {
    /// The right that a sequence took.
    ///
    /// # Safety
    ///
    /// A sequence of this thread set `active`, and nothing has cleared it.
    #[inline(always)]
    pub(super) unsafe fn of_taken(cache: &'a CpuCache) -> Self {
        Self { cache }
    }
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
