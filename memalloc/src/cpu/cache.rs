//! One CPU's cache of one class, and exclusive access to it.

use super::deferred::Deferred;
use super::spill_list::SpillList;
use crate::batch::Stack;
use crate::broken::{self, Fault};
use crate::class::{BATCH_CAPACITY, CACHE_CAPACITY, MAX_CLASSES};
use crate::slab::Handle;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};
use crate::sys::count_word::CountWord;
use crate::sys::rseq::{CacheRow, OBJECTS_AT};
use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

/// The contents of a cache.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Arrays {
    /// Objects that may be allocated. Their number is in the cache's word unless the cache is busy.
    #[doc(alias = "free_llist")]
    pub(crate) free: Stack<CACHE_CAPACITY>,
    /// For the sequences: the number of objects in `free_by_rcu`, unless the cache is busy.
    by_rcu_word: CountWord,
    /// Objects that have not begun to wait for a grace period.
    pub(crate) free_by_rcu: Stack<BATCH_CAPACITY>,
    /// The number of objects from which on the sequences leave an array to the slow paths; 0 until
    /// the CPU has entered the cache.
    limits: Limits,
    /// Batches of deferred objects.
    pub(crate) deferred: Deferred,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    free: u16,
    by_rcu: u16,
    /// Lowers both, unless it is 0.
    most: u16,
    /// The number of objects in `free` when the cache was last watched.
    watched: u16,
}

impl Arrays {
    /// Lowers the limits of the sequences to `most` from now on, or ends that if it is `None`.
    pub(crate) fn lower_limits(&mut self, most: Option<usize>) {
        self.limits.most = most.map_or(0, |most| most as u16);
        self.limits.apply_most();
    }

    /// Lets `is_idle` tell whether the cache's CPU uses it from now on: the next free takes the
    /// slow path, which sets the limits again. Only while nothing is deferred here: with limits of
    /// 0, a cache that is emptied looks unused (`CpuCache::was_used`).
    pub(crate) fn watch(&mut self) {
        if self.free_by_rcu.is_empty() && self.deferred.is_empty() {
            (self.limits.free, self.limits.by_rcu) = (0, 0);
            self.limits.watched = self.free.len() as u16;
        }
    }

    /// Returns true if no object is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.free_by_rcu.is_empty() && self.deferred.is_empty()
    }

    /// Returns true if the cache's CPU has neither allocated nor freed here since `watch`.
    pub(crate) fn is_idle(&self) -> bool {
        self.limits.free == 0 && self.free.len() == self.limits.watched.into()
    }
}

impl Limits {
    #[inline(always)]
    fn apply_most(&mut self) {
        if self.most != 0 {
            self.free = self.free.min(self.most);
            self.by_rcu = self.by_rcu.min(self.most);
        }
    }
}

/// One CPU's cache of one class. All zero, it is an empty cache that is not in use.
///
/// It has its own cache lines: two CPUs never write to the same line.
#[repr(C)]
pub(crate) struct CpuCache {
    /// The number of objects in `free`, or the mark of the thread that has the cache; see
    /// `sys::rseq`.
    word: AtomicU64,
    arrays: UnsafeCell<Arrays>,
    /// Objects that were freed for immediate reuse while the cache was busy.
    pub(crate) free_llist_extra: SpillList,
    /// Objects that were freed while the cache was busy and wait for a grace period first.
    pub(crate) free_llist_extra_rcu: SpillList,
}

/// The offsets of the words of its arrays in a cache.
pub(super) const FREE_AT: usize = 0;
pub(super) const BY_RCU_AT: usize = offset_of!(CpuCache, arrays) + offset_of!(Arrays, by_rcu_word);

/// The bytes that a cache takes up. Neither a divisor nor a multiple of a page, so that the most
/// used words of different classes are in different sets of the processor's cache.
pub(super) const CACHE_BYTES: usize = 4096 - 64;

/// The layout that the sequences and the table of caches rely on. (Under loom words are larger, and
/// there are neither.)
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

// SAFETY: the arrays are touched only while the word is busy (MEM-C1); the rest is atomic.
unsafe impl Sync for CpuCache {}

impl CpuCache {
    /// Creates an empty cache, in models, where zeroed memory is not one.
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

    /// In the child of a fork: takes the cache back from a vanished thread. Its contents are lost:
    /// they may have been copied elsewhere already, or not be there yet.
    #[cfg(not(loom))]
    pub(super) fn repair_after_fork(&self, _survivor: crate::sys::fork::Survivor) {
        let was_busy = CountWord::from_bits(self.word.load(Ordering::Relaxed)).is_busy();
        self.arrays.with_mut(|arrays| {
            // SAFETY: MEM-C1: the thread that had marked the cache busy no longer exists, and no
            // other thread can mark it yet.
            let arrays = unsafe { &mut *arrays };
            if arrays.deferred.counted() != 0 {
                // Pending objects are counted again.
                arrays.deferred.set_counted(0);
            }
            if was_busy {
                arrays.deferred = Deferred::default();
                arrays.by_rcu_word = CountWord::UNUSED;
                // The thread may have vanished before it recorded that this CPU is used (MEM-C5).
                arrays.limits = Limits::default();
            }
        });
        if was_busy {
            self.word.store(CountWord::UNUSED.bits(), Ordering::Relaxed);
        }
    }

    /// Returns true if the cache was ever used, as far as the calling thread has seen. (Models use
    /// all of their few caches.)
    pub(super) fn was_used(&self) -> bool {
        cfg!(loom)
            || self.word.load(Ordering::Relaxed) != CountWord::UNUSED.bits()
            || !self.free_llist_extra.is_empty()
            || !self.free_llist_extra_rcu.is_empty()
    }

    /// Returns the word, or an older value of it. An old value does no harm: the exchange that
    /// follows fails, or the caller gives up, as if the cache were busy.
    #[inline(always)]
    fn seen(&self) -> CountWord {
        #[cfg(not(loom))]
        return CountWord::from_bits(self.word.load(Ordering::Relaxed));
        // Models would explore every old value, and see nothing new many times. An exchange that
        // fails sees the newest.
        #[cfg(loom)]
        match self.word.compare_exchange(!0, !0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(word) | Err(word) => CountWord::from_bits(word),
        }
    }

    /// Marks the cache busy, without sequences, and returns its previous word.
    #[inline(always)]
    fn set_busy(&self, by: CountWord) -> Option<CountWord> {
        let mut seen = self.seen();
        while broken::leaves_out(Fault::Busy) || !seen.is_busy() {
            // ORDERING: Acquire pairs with the Release in `Active::drop`: uses of the cache follow
            // one another. Falls to `loom` `an_object_is_never_handed_out_twice`. An exchange that
            // fails stores nothing: another thread was first, or the CPU's sequences continue.
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

    /// Returns the arrays, without sequences, unless the cache is in use.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<Active<'_>> {
        self.set_busy(CountWord::LOCAL).map(|word| self.active(word))
    }

    /// The first half of entering with sequences, for a thread on any CPU: stores the ticket and
    /// returns the word that it replaced. The sequences have to be restarted before the second
    /// half.
    pub(super) fn ask(&self, ticket: CountWord) -> Option<CountWord> {
        self.set_busy(ticket)
    }

    /// The second half: returns the arrays, if the ticket that replaced `word` is still there and
    /// the sequences were `restarted` after it was stored.
    pub(super) fn enter_with(
        &self,
        ticket: CountWord,
        word: CountWord,
        restarted: bool,
    ) -> Option<Active<'_>> {
        // ORDERING: Acquire as in `set_busy`; the barrier of the restart already orders it, but the
        // compiler does not know that. If a sequence of the cache's CPU committed to the word
        // meanwhile, it had seen the cache free, and its store came after ours: the cache is now
        // free, or that thread's, or perhaps another ticket's. A commit to the other word leaves
        // the ticket; that word is read after the restart. Falls to nothing: `loom_protocol` "take
        // relaxed" is covered by that barrier.
        let ours = self.word.load(Ordering::Acquire) == ticket.bits();
        if ours && !restarted {
            // ORDERING: Relaxed: nothing was touched. It fails if a sequence committed to the word.
            let relaxed = Ordering::Relaxed;
            let _ = self.word.compare_exchange(ticket.bits(), word.bits(), relaxed, relaxed);
        }
        (ours && restarted).then(|| self.active(word))
    }

    /// Returns the access of a thread that has marked the cache busy, when its word was `word`.
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

/// Exclusive access to the arrays of a cache. It ends when this is dropped.
pub(crate) struct Active<'a> {
    cache: &'a CpuCache,
}

impl<'a> Active<'a> {
    /// Returns the access that a sequence has taken, when the word was `word`.
    ///
    /// # Safety
    ///
    /// A sequence of this thread marked the cache busy, and nothing has ended that.
    #[inline(always)]
    pub(super) unsafe fn of_taken(cache: &'a CpuCache, word: CountWord) -> Self {
        cache.active(word)
    }

    /// Returns true if the CPU has not entered the cache yet, or not since `watch`.
    #[inline(always)]
    pub(super) fn is_first_use(&self) -> bool {
        self.limits.free == 0
    }

    pub(super) fn cache(&self) -> &'a CpuCache {
        self.cache
    }

    /// Sets the limits of the sequences to those of `row`, or lower.
    #[inline(always)]
    pub(super) fn limited_by(mut self, row: &CacheRow) -> Self {
        self.limits.free = row.limit;
        self.limits.by_rcu = row.by_rcu_limit.into();
        self.limits.apply_most();
        self
    }

    /// Adds an object to the first array, if it is below its limit.
    #[inline(always)]
    pub(super) fn push_free(&mut self, object: Handle) -> bool {
        let limit = self.limits.free;
        self.free.push_below(limit, object)
    }

    /// Adds an object to the second array, if it is below its limit.
    #[inline(always)]
    pub(super) fn push_by_rcu(&mut self, object: Handle) -> bool {
        let limit = self.limits.by_rcu;
        self.free_by_rcu.push_below(limit, object)
    }
}

impl Deref for Active<'_> {
    type Target = Arrays;

    #[inline(always)]
    fn deref(&self) -> &Arrays {
        // SAFETY: MEM-C1; the borrow of `self` keeps the cache busy.
        self.cache.arrays.with(|arrays| unsafe { &*arrays })
    }
}

impl DerefMut for Active<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Arrays {
        // SAFETY: MEM-C1, and `&mut self` is the only way in.
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
