//! One CPU's cache of one class, and the right to touch it.

use super::deferred::Deferred;
use super::spill_list::SpillList;
use crate::batch::Stack;
use crate::broken::{self, Fault};
use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY, MAX_CLASSES};
use crate::sync::{AtomicU64, Ordering, UnsafeCell};
use crate::sys::count_word::CountWord;
use crate::sys::rseq::{CacheRow, OBJECTS_AT};
use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

/// What a cache holds.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Arrays {
    /// Objects that may be allocated. How many there are is in the cache's word unless it is busy.
    #[doc(alias = "free_llist")]
    pub(crate) free: Stack<CACHE_CAPACITY>,
    /// For the sequences: how many of the next there are unless the cache is busy.
    by_rcu_word: CountWord,
    /// Objects on their way to a grace period.
    pub(crate) free_by_rcu: Stack<BATCH_CAPACITY>,
    /// From how many objects on the sequences leave an array to slow paths: 0 until the CPU has used
    /// the cache.
    limits: Limits,
    /// Batches of deferred objects.
    pub(crate) deferred: Deferred,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    free: u16,
    by_rcu: u16,
}

/// One CPU's cache of one class. All zero, it is an empty one that nobody uses.
///
/// On cache lines of its own: two CPUs never write to one line.
#[repr(C)]
pub(crate) struct CpuCache {
    /// How many objects are in `free`, or who has the cache; see `sys::rseq`.
    word: AtomicU64,
    arrays: UnsafeCell<Arrays>,
    /// Objects that were freed while the cache was busy.
    pub(crate) free_llist_extra: SpillList,
    /// The same, for objects that wait for a grace period first.
    pub(crate) free_llist_extra_rcu: SpillList,
}

/// Where a cache has the words of its arrays.
pub(super) const FREE_AT: usize = 0;
pub(super) const BY_RCU_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, by_rcu_word);

/// The room that a cache takes up.
/// No divisor or multiple of a page: the words that a CPU uses most, of different classes, are in
/// different sets of the processor's cache.
pub(super) const CACHE_BYTES: usize = 4096 - 64;

/// What the sequences and the table of caches rely on. (Under loom words are larger, and there
/// are neither.)
const _: () = {
    const FREE: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free);
    const BY_RCU: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, free_by_rcu);
    const OBJECTS: usize = Stack::<CACHE_CAPACITY>::OBJECTS_AT;
    assert!(cfg!(loom) || size_of::<CpuCache>() <= CACHE_BYTES);
    assert!(cfg!(loom) || offset_of!(CpuCache, word) == FREE_AT);
    assert!(cfg!(loom) || FREE + OBJECTS == FREE_AT + OBJECTS_AT);
    assert!(cfg!(loom) || BY_RCU + OBJECTS == BY_RCU_AT + OBJECTS_AT);
    assert!(cfg!(loom) || MAX_CLASSES * CACHE_BYTES <= CacheRow::CPU_BYTES);
};

impl fmt::Debug for CpuCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuCache").finish_non_exhaustive()
    }
}

// SAFETY: the arrays are touched while the word is busy only (INV-C1); the rest is atomic.
unsafe impl Sync for CpuCache {}

impl CpuCache {
    /// An empty cache, where zeroed memory is not one.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(CountWord::UNUSED.bits()),
            arrays: UnsafeCell::new(Arrays {
                free: Stack::new(),
                by_rcu_word: CountWord::UNUSED,
                free_by_rcu: Stack::new(),
                limits: Limits::default(),
                deferred: Deferred::default(),
            }),
            free_llist_extra: SpillList::new(),
            free_llist_extra_rcu: SpillList::new(),
        }
    }

    /// In the child of a fork: takes the cache back from a vanished thread. What was in it is
    /// lost: it may have been copied elsewhere already, or not be there yet.
    #[cfg(not(loom))]
    pub(super) fn repair_after_fork(&self, _survivor: crate::sys::fork::Survivor) {
        let was_busy = CountWord::from_bits(self.word.load(Ordering::Relaxed)).is_busy();
        self.arrays.with_mut(|arrays| {
            // SAFETY: INV-C1: the thread that had made the cache busy is no more, and no other can
            // yet.
            let arrays = unsafe { &mut *arrays };
            if arrays.deferred.counted() != 0 {
                // What is pending is counted again.
                arrays.deferred.set_counted(0);
            }
            if was_busy {
                arrays.deferred = Deferred::default();
                arrays.by_rcu_word = CountWord::UNUSED;
            }
        });
        if was_busy {
            self.word.store(CountWord::UNUSED.bits(), Ordering::Relaxed);
        }
    }

    /// Whether anything was ever in it, as far as the caller's own view goes. (Models use all of
    /// their few caches.)
    pub(super) fn was_used(&self) -> bool {
        cfg!(loom)
            || self.word.load(Ordering::Relaxed) != CountWord::UNUSED.bits()
            || !self.free_llist_extra.is_empty()
            || !self.free_llist_extra_rcu.is_empty()
    }

    /// What the word is, or was. An old value does no harm: the exchange after it fails, or the
    /// caller gives up, as when the cache is busy.
    #[inline(always)]
    fn seen(&self) -> CountWord {
        #[cfg(not(loom))]
        return CountWord::from_bits(self.word.load(Ordering::Relaxed));
        // Models would look at every old value, and see nothing new many times over. An exchange
        // that fails sees the newest.
        #[cfg(loom)]
        match self.word.compare_exchange(!0, !0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(word) | Err(word) => CountWord::from_bits(word),
        }
    }

    /// Makes the cache busy, without sequences, and says what its word was.
    #[inline(always)]
    fn set_busy(&self, by: CountWord) -> Option<CountWord> {
        let mut seen = self.seen();
        while broken::leaves_out(Fault::Busy) || !seen.is_busy() {
            // ORDERING: Acquire pairs with the Release in `Active::drop`: spans follow one another.
            // Falls to `loom` `an_object_is_never_handed_out_twice`. An exchange that fails stores
            // nothing: somebody was quicker, or the CPU's sequences go on.
            match self.word.compare_exchange_weak(
                seen.bits(),
                by.bits(),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(seen),
                Err(changed) => seen = CountWord::from_bits(changed),
            }
        }
        None
    }

    /// The arrays, without sequences, unless somebody is using them.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<Active<'_>> {
        self.set_busy(CountWord::LOCAL).map(|word| self.active(word))
    }

    /// The first half of entering beside sequences, for a thread on any CPU: what the word was
    /// when the ticket took its place. The sequences have to be restarted before the second half.
    pub(super) fn ask(&self, ticket: CountWord) -> Option<CountWord> {
        self.set_busy(ticket)
    }

    /// The second half: the arrays, if the ticket that took the place of `word` is still there and
    /// the sequences were `restarted` after that.
    pub(super) fn enter_with(
        &self,
        ticket: CountWord,
        word: CountWord,
        restarted: bool,
    ) -> Option<Active<'_>> {
        // ORDERING: Acquire as in `set_busy`; the barrier of the restart already orders it, but
        // does not say so to the compiler. If a sequence of the cache's CPU committed to the word
        // meanwhile, it had seen the cache free, and its store came after ours: the cache is free, or
        // that thread's, or perhaps another ticket's by now. A commit to the other word leaves the
        // ticket; that word is read after the restart.
        let ours = self.word.load(Ordering::Acquire) == ticket.bits();
        if ours && !restarted {
            // ORDERING: Relaxed: nothing was touched. It fails if a sequence committed to the word.
            let relaxed = Ordering::Relaxed;
            let _ = self.word.compare_exchange(ticket.bits(), word.bits(), relaxed, relaxed);
        }
        (ours && restarted).then(|| self.active(word))
    }

    /// The right that comes with having made the cache busy, when its word was `word`.
    #[inline(always)]
    fn active(&self, word: CountWord) -> Active<'_> {
        broken::lingers(&[Fault::Busy, Fault::Restart]);
        let mut active = Active { cache: self };
        let arrays = &mut *active;
        arrays.free.set_len(word.count());
        arrays.free_by_rcu.set_len(arrays.by_rcu_word.count());
        active
    }
}

/// The right to touch the arrays of a cache; it ends when this is dropped.
pub(crate) struct Active<'a> {
    cache: &'a CpuCache,
}

impl<'a> Active<'a> {
    /// The right that a sequence took, when the word was `word`.
    ///
    /// # Safety
    ///
    /// A sequence of this thread made the cache busy, and nothing has ended that.
    #[inline(always)]
    pub(super) unsafe fn of_taken(cache: &'a CpuCache, word: CountWord) -> Self {
        cache.active(word)
    }

    /// From now on the sequences keep to the limits of `row`.
    #[inline(always)]
    pub(super) fn limited_by(mut self, row: &CacheRow) -> Self {
        self.limits = Limits { free: row.limit, by_rcu: row.by_rcu_limit.into() };
        self
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
        let arrays = &mut **self;
        arrays.by_rcu_word = CountWord::free(arrays.free_by_rcu.len(), arrays.limits.by_rcu);
        let word = CountWord::free(arrays.free.len(), arrays.limits.free);
        // ORDERING: Release pairs with the Acquire in `set_busy`. Falls to `loom`
        // `an_object_is_never_handed_out_twice`.
        self.cache.word.store(word.bits(), Ordering::Release);
    }
}
