//! The table of hints in memory: buckets of words, read and written without locks.
//!
//! ```text
//!  bucket   | hint | hint | …       16 in one cache line
//!  hint     | tag of the hash | handle of the leaf |      32 bits; 0: none
//! ```
//!
//! Upper bits of the hash select the bucket, lower bits are the tag. A key has one bucket; if it is
//! full, another hint is evicted. A hint does not have its whole hash, so a hint moves to another
//! table by the key of its leaf.
//!
//! - QPT-H3: the buckets of a table are initialised when it is created (zeros are atomic words of
//!   value 0), and freed with it.

use super::hint_memory;
use memalloc::Handle;
use memalloc::sync::{AtomicPtr, AtomicU32, Ordering};
use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// The number of hints in one bucket, which fills one cache line.
const WAYS: usize = if cfg!(loom) { 2 } else { 16 };

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket([AtomicU32; WAYS]);

/// Returns a bit for each way whose hint is accepted.
#[inline(always)]
fn ways(bucket: &[AtomicU32; WAYS], accepts: impl Fn(u32) -> bool) -> u32 {
    let bit =
        |(way, hint): (usize, &AtomicU32)| u32::from(accepts(hint.load(Ordering::Relaxed))) << way;
    bucket.iter().enumerate().map(bit).fold(0, |ways, way| ways | way)
}

/// Every access reads its first cache line, which is seldom written.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct HintTable {
    buckets: NonNull<[Bucket]>,
    pub(super) handle_bits: u32,
    /// The table that this one has replaced, until its hints have been moved here; or null.
    pub(super) former: AtomicPtr<HintTable>,
    counts: Counts,
    /// Read by every access to the table, so that a model finds one that is freed too early.
    #[cfg(loom)]
    pub(super) alive: memalloc::sync::UnsafeCell<()>,
}

/// What calls count, in a cache line of its own.
#[repr(align(64))]
#[derive(Debug)]
struct Counts {
    /// The number of hints that were evicted for another one.
    evicted: AtomicU32,
    /// The number of buckets of the former table of which a call has begun to move the hints.
    begun: AtomicU32,
}

impl HintTable {
    /// Allocates an empty table, which replaces `former` if that is not null; `None` if there is no
    /// memory for it.
    pub(super) fn new(
        buckets: usize,
        handle_bits: u32,
        former: *mut Self,
    ) -> Option<NonNull<Self>> {
        let layout = Layout::array::<Bucket>(buckets).ok()?;
        // SAFETY: a table has a size.
        let table = NonNull::new(unsafe { alloc(Layout::new::<Self>()) })?.cast::<Self>();
        // SAFETY: there is at least one bucket.
        let Some(first) = (unsafe { hint_memory::allocate(layout) }) else {
            // SAFETY: it was just allocated with this layout.
            unsafe { dealloc(table.as_ptr().cast(), Layout::new::<Self>()) };
            return None;
        };
        let first = first.cast::<Bucket>();
        #[cfg(loom)]
        for number in 0..buckets {
            let bucket = Bucket(std::array::from_fn(|_| AtomicU32::new(0)));
            // SAFETY: inside the memory that was just allocated.
            unsafe { first.add(number).write(bucket) };
        }
        let buckets = NonNull::slice_from_raw_parts(first, buckets);
        let content = Self {
            buckets,
            handle_bits,
            former: AtomicPtr::new(former),
            counts: Counts { evicted: AtomicU32::new(0), begun: AtomicU32::new(0) },
            #[cfg(loom)]
            alive: memalloc::sync::UnsafeCell::new(()),
        };
        // SAFETY: there is room for it, and a box frees it: the layout is that of its content.
        unsafe { table.write(content) };
        Some(table)
    }

    #[inline(always)]
    fn buckets(&self) -> &[Bucket] {
        // SAFETY: QPT-H3.
        unsafe { self.buckets.as_ref() }
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> &[AtomicU32; WAYS] {
        let number = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        &self.buckets()[number as usize].0
    }

    /// Returns the tag of a hash, at its position in a hint. It is never 0, so no empty entry
    /// matches it.
    #[inline(always)]
    fn tag(&self, hash: u64) -> u32 {
        let tag = (hash as u32 >> self.handle_bits).max(1);
        tag << self.handle_bits
    }

    #[inline(always)]
    fn handle(&self, hint: u32) -> Option<Handle> {
        Handle::new(hint & ((1 << self.handle_bits) - 1))
    }

    /// Prefetches the bucket of a hash.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        super::prefetch::line(std::ptr::from_ref(self.bucket(hash)).cast());
    }

    #[inline(always)]
    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Self>() + hint_memory::bytes_of(Layout::for_value(self.buckets()))) as u64
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Counts evictions from 0 again.
    pub(super) fn forget_evictions(&self) {
        self.counts.evicted.store(0, Ordering::Relaxed);
    }

    /// Returns true if so many hints were evicted that the table may be too small.
    #[inline(always)]
    pub(super) fn is_crowded(&self) -> bool {
        self.counts.evicted.load(Ordering::Relaxed) as usize > self.buckets.len() / 2 + WAYS
    }

    /// Returns a bit for each way that has this tag.
    #[inline(always)]
    fn ways_with(&self, tag: u32, bucket: &[AtomicU32; WAYS]) -> u32 {
        ways(bucket, |hint| (hint ^ tag) >> self.handle_bits == 0)
    }

    /// Calls `is_it` with the leaves that may have the key with this hash, until it returns `Some`.
    #[inline(always)]
    pub(super) fn find<R>(
        &self,
        hash: u64,
        mut is_it: impl FnMut(Handle) -> Option<R>,
    ) -> Option<R> {
        let (bucket, tag) = (self.bucket(hash), self.tag(hash));
        let mut ways = self.ways_with(tag, bucket);
        while ways != 0 {
            // The hint may have changed since the first load: it still names a leaf.
            // ORDERING: pairs with the Release stores in `put`: a thread that sees a handle may
            // access the memory that it names. Falls to `loom`
            // `a_hint_is_believed_of_the_keys_own_leaf_only`.
            let hint = bucket[ways.trailing_zeros() as usize].load(Ordering::Acquire);
            if let Some(found) = self.handle(hint).and_then(&mut is_it) {
                return Some(found);
            }
            ways &= ways - 1;
        }
        None
    }

    /// Adds a hint for a leaf, in place of the hint for `old`, or of any other if there is no room.
    /// Returns true if that one was evicted.
    #[inline]
    pub(super) fn put(&self, hash: u64, leaf: Handle, old: Option<Handle>) -> bool {
        let (bucket, tag) = (self.bucket(hash), self.tag(hash));
        let hint = tag | leaf.get();
        let mut free = 0;
        let mut same = self.ways_with(tag, bucket);
        while same != 0 {
            let way = same.trailing_zeros();
            let now = bucket[way as usize].load(Ordering::Relaxed);
            if now == hint {
                return false;
            }
            if old.is_some_and(|old| now == tag | old.get()) {
                free = 1 << way;
            }
            same &= same - 1;
        }
        if free == 0 {
            free = ways(bucket, |hint| hint == 0);
        }
        // Evict a pseudo-random hint if there is none.
        let way =
            if free == 0 { (hash >> 16) as usize % WAYS } else { free.trailing_zeros() as usize };
        // ORDERING: pairs with the Acquire load in `find`. Falls to `loom`
        // `a_hint_is_believed_of_the_keys_own_leaf_only`.
        bucket[way].store(hint, Ordering::Release);
        if free != 0 {
            return false;
        }
        let evicted = self.counts.evicted.load(Ordering::Relaxed).wrapping_add(1);
        self.counts.evicted.store(evicted, Ordering::Relaxed);
        true
    }

    /// Removes the hint for a leaf of the key with this hash.
    #[inline]
    pub(super) fn forget(&self, hash: u64, leaf: Handle) {
        let hint = self.tag(hash) | leaf.get();
        for way in self.bucket(hash) {
            if way.load(Ordering::Relaxed) == hint {
                way.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Moves the hints of one bucket of `former`, which this table has replaced. `hash_of` returns
    /// the hash of a leaf's key if the leaf is linked. Calls `prefetch` with the leaves of the
    /// next bucket, so that they arrive before the next call. Returns true if there was a bucket
    /// left.
    pub(super) fn move_bucket(
        &self,
        former: &Self,
        prefetch: impl Fn(Handle),
        mut hash_of: impl FnMut(Handle) -> Option<u64>,
    ) -> bool {
        // A load first, so that the number never wraps.
        if self.has_begun_all(former) {
            return false;
        }
        let number = self.counts.begun.fetch_add(1, Ordering::Relaxed) as usize;
        let leaves_of = |Bucket(bucket): &Bucket| {
            // ORDERING: pairs with the Release store in `put`, as in `find`. Falls to `loom`
            // `a_hint_moves_beside_a_writer_of_its_leaf`.
            let leaves = bucket.each_ref().map(|hint| former.handle(hint.load(Ordering::Acquire)));
            leaves.into_iter().flatten()
        };
        let Some(bucket) = former.buckets().get(number) else { return false };
        for leaf in leaves_of(bucket) {
            if leaf.get() >> self.handle_bits == 0
                && let Some(hash) = hash_of(leaf)
            {
                self.put(hash, leaf, None);
            }
        }
        if let Some(next) = former.buckets().get(number + 1) {
            leaves_of(next).for_each(prefetch);
        }
        if let Some(after) = former.buckets().get(number + 2) {
            super::prefetch::line(std::ptr::from_ref(after).cast());
        }
        true
    }

    /// Returns true if all hints of `former` have been moved, or are being moved by a call that may
    /// still read `former`.
    pub(super) fn has_begun_all(&self, former: &Self) -> bool {
        self.counts.begun.load(Ordering::Relaxed) as usize >= former.len()
    }
}

impl Drop for HintTable {
    fn drop(&mut self) {
        #[cfg(loom)]
        self.alive.with_mut(|_| ());
        let layout = Layout::for_value(self.buckets());
        // SAFETY: allocated in `new` with this layout (QPT-H3). A model drops its atomics.
        unsafe {
            self.buckets.drop_in_place();
            hint_memory::free(self.buckets.cast(), layout);
        }
    }
}
