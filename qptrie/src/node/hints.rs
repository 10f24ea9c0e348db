//! Hints: from the hash of a key to the handle of its leaf, in a table beside the trie.
//!
//! A hint may be stale, missing or wrong. Nothing rests on it: the leaf says for itself whether it is
//! linked, and whose it is (`read::hinted`), and what the table does not answer, the trie does. So the table
//! is read and written without locks, one word at a time, and two threads that write one bucket may undo each
//! other's work.
//!
//! ```text
//!  bucket   | hint | hint | …       16 in one line of the cache
//!  hint     | tag of the hash | handle of the leaf |      32 bits; 0: none
//! ```
//!
//! Upper bits of the hash say which bucket, lower ones are the tag. A key has one bucket; where that is full,
//! another hint goes. When that happens often, and there are more entries than a table of this size is good
//! for, an empty one takes its place, which lookups fill that have gone the long way. The old one is freed
//! after a grace period.
//!
//! - INV-H1: every handle in a table was that of a leaf of this trie at some time. Slabs of leaves keep their
//!   class where there are hints, so at that place there is a leaf, or was one, or is memory that says
//!   "not linked".
//! - INV-H2: a table that was found inside a section is not freed before the section ends.

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use memalloc::Handle;
use memalloc::rcu::{Cookie, Domain};
use memalloc::sync::{AtomicPtr, AtomicU32, Lock, Ordering};
use std::alloc::Layout;
use std::hash::Hasher;
use std::ptr::NonNull;

/// Hints in one bucket: a line of the cache of them.
const WAYS: usize = if cfg!(loom) { 2 } else { 16 };

/// So many entries for each bucket, and the table is replaced when it is crowded.
const CROWDED: u64 = 13;

/// So many entries for each bucket there are in a table that was replaced.
const ROOMY: u64 = 8;

/// The fewest bits for a handle: 256 MiB of leaves.
const LEAST_HANDLE_BITS: u32 = 24;

/// The hints of a trie, if it keeps any.
#[derive(Debug)]
pub(crate) struct Hints {
    hash: Option<Hash>,
    /// Null as long as there is none.
    current: AtomicPtr<Table>,
    /// How many bits the largest handle has.
    handle_bits: AtomicU32,
    /// Tables that readers may still be looking at, and the grace period that they wait for.
    replaced: Lock<Vec<(NonNull<Table>, Cookie)>>,
}

// SAFETY: the tables behind the pointers are atomics, and are freed by one thread when no other can look at
// them (INV-H2).
unsafe impl Send for Hints {}
// SAFETY: as above.
unsafe impl Sync for Hints {}

/// Keys by which one trie hashes, so that no one outside knows which keys share a bucket.
#[derive(Debug)]
struct Hash {
    own: u64,
    seed: SharedSeed,
}

impl Hash {
    #[cfg(not(loom))]
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // Of the system's random numbers.
        let random = RandomState::new();
        Self { own: random.hash_one(0), seed: SharedSeed::from_u64(random.hash_one(1)) }
    }

    /// The same in each execution of a model.
    #[cfg(loom)]
    fn new() -> Self {
        Self { own: 0, seed: SharedSeed::from_u64(0) }
    }
}

#[repr(C, align(64))]
#[derive(Debug)]
struct Bucket([AtomicU32; WAYS]);

#[derive(Debug)]
struct Table {
    buckets: Box<[Bucket]>,
    handle_bits: u32,
    /// How often a hint went for another one.
    crowded: AtomicU32,
}

impl Table {
    /// An empty table; none where there is no memory for it.
    fn new(buckets: usize, handle_bits: u32) -> Option<NonNull<Self>> {
        let layout = Layout::array::<Bucket>(buckets).ok()?;
        // SAFETY: there is at least one bucket.
        let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Bucket>();
        if first.is_null() {
            return None;
        }
        #[cfg(loom)]
        for number in 0..buckets {
            let bucket = Bucket(std::array::from_fn(|_| AtomicU32::new(0)));
            // SAFETY: inside the memory that was just allocated.
            unsafe { first.add(number).write(bucket) };
        }
        // SAFETY: all of it is buckets (of zeros, which is what an atomic word of 0 is), and of the global
        // allocator, in the layout that such a box has.
        let buckets = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, buckets)) };
        let table = Self { buckets, handle_bits, crowded: AtomicU32::new(0) };
        Some(NonNull::from(Box::leak(Box::new(table))))
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> &[AtomicU32; WAYS] {
        let number = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        &self.buckets[number as usize].0
    }

    /// The tag of a hash, where a hint has it. It is never 0, so that no empty place has it.
    #[inline(always)]
    fn tag(&self, hash: u64) -> u32 {
        let tag = (hash as u32 >> self.handle_bits).max(1);
        tag << self.handle_bits
    }

    #[inline(always)]
    fn handle(&self, hint: u32) -> Option<Handle> {
        Handle::new(hint & ((1 << self.handle_bits) - 1))
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        (size_of::<Self>() + size_of_val(&*self.buckets)) as u64
    }

    fn is_good_for(&self, entries: u64, handle_bits: u32) -> bool {
        let buckets = self.buckets.len() as u64;
        handle_bits <= self.handle_bits && entries <= buckets * CROWDED
    }
}

impl Hints {
    pub(super) fn new(wanted: bool) -> Self {
        let hints = Self {
            hash: wanted.then(Hash::new),
            current: AtomicPtr::new(std::ptr::null_mut()),
            handle_bits: AtomicU32::new(LEAST_HANDLE_BITS),
            replaced: Lock::new(Vec::new()),
        };
        // A model is about what a table says, not about how it grows.
        #[cfg(loom)]
        if wanted && let Some(table) = Table::new(1, LEAST_HANDLE_BITS) {
            hints.current.store(table.as_ptr(), Ordering::Relaxed);
        }
        hints
    }

    /// Whether the trie keeps hints.
    #[inline(always)]
    pub(crate) fn are_kept(&self) -> bool {
        self.hash.is_some()
    }

    /// The hash of a key, by which the other functions know it; none where no hints are kept.
    #[inline(always)]
    pub(crate) fn hash(&self, key: &[u8]) -> Option<u64> {
        let hash = self.hash.as_ref()?;
        let mut hasher = FoldHasher::with_seed(hash.own, &hash.seed);
        hasher.write(key);
        Some(hasher.finish())
    }

    #[inline(always)]
    fn table(&self) -> Option<&Table> {
        // ORDERING: pairs with the swap in `fit`: who finds a table finds it empty, or filled by others.
        let table = NonNull::new(self.current.load(Ordering::Acquire))?;
        // SAFETY: callers are inside a section, in which it is not freed, or hold `replaced`, without
        // which none is replaced (INV-H2).
        Some(unsafe { table.as_ref() })
    }

    /// Starts to bring the bucket of a key into the cache.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(table) = self.table() {
            super::prefetch::line(std::ptr::from_ref(table.bucket(hash)).cast());
        }
    }

    /// Tries the leaves that may be that of the key with this hash, until `look` finds it.
    #[inline(always)]
    pub(crate) fn find<R>(
        &self,
        hash: u64,
        mut look: impl FnMut(Handle) -> Option<R>,
    ) -> Option<R> {
        let table = self.table()?;
        let (bucket, tag) = (table.bucket(hash), table.tag(hash));
        let has_tag = |hint: u32| (hint ^ tag) >> table.handle_bits == 0;
        let mut ways = 0_u32;
        for (way, hint) in bucket.iter().enumerate() {
            ways |= u32::from(has_tag(hint.load(Ordering::Relaxed))) << way;
        }
        while ways != 0 {
            // Another hint than before, maybe: it names a leaf, too.
            // ORDERING: pairs with the Release stores in `put`: who sees a handle may look at the memory that
            // it names. Falls to `loom` `a_hint_is_believed_of_a_linked_leaf_only`.
            let hint = bucket[ways.trailing_zeros() as usize].load(Ordering::Acquire);
            if let Some(found) = table.handle(hint).and_then(&mut look) {
                return Some(found);
            }
            ways &= ways - 1;
        }
        None
    }

    /// Hints at a leaf of the key with this hash, in place of another one that it had. Says whether the
    /// table had no room: then [`fit`](Self::fit) may help.
    #[inline]
    #[must_use]
    pub(crate) fn put(&self, hash: u64, leaf: Handle, old: Option<Handle>) -> bool {
        let Some(table) = self.table() else { return true };
        if leaf.get() >> table.handle_bits != 0 {
            let bits = u32::BITS - leaf.get().leading_zeros();
            self.handle_bits.fetch_max(bits, Ordering::Relaxed);
            return true;
        }
        let (bucket, tag) = (table.bucket(hash), table.tag(hash));
        // A model has stale hints to look at.
        let old = old.filter(|_| !cfg!(loom));
        let (hint, old) = (tag | leaf.get(), old.map_or(0, |old| tag | old.get()));
        let mut free = None;
        for way in bucket {
            match way.load(Ordering::Relaxed) {
                now if now == hint => return false,
                now if now == old && old != 0 => {
                    free = Some(way);
                    break;
                }
                0 if free.is_none() => free = Some(way),
                _ => {}
            }
        }
        // Which one goes is as good as random.
        let way = free.unwrap_or(&bucket[(hash >> 16) as usize % WAYS]);
        // ORDERING: pairs with the Acquire load in `find`.
        way.store(hint, Ordering::Release);
        if free.is_some() {
            return false;
        }
        let crowded = table.crowded.load(Ordering::Relaxed).wrapping_add(1);
        table.crowded.store(crowded, Ordering::Relaxed);
        !cfg!(loom) && crowded as usize > table.buckets.len() / 2 + WAYS
    }

    /// Takes the hint at a leaf out, which the key with this hash had.
    #[inline]
    pub(crate) fn forget(&self, hash: u64, leaf: Handle) {
        // A model has stale hints to look at.
        let Some(table) = self.table().filter(|_| !cfg!(loom)) else { return };
        let hint = table.tag(hash) | leaf.get();
        for way in table.bucket(hash) {
            if way.load(Ordering::Relaxed) == hint {
                way.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Puts an empty table in place of one that is too small for so many entries, or, with `may_shrink`,
    /// too large. Tables that no reader can look at any more are freed.
    #[cold]
    pub(crate) fn fit(&self, domain: &Domain, entries: u64, may_shrink: bool) {
        if !self.are_kept() || cfg!(loom) {
            return;
        }
        // One thread at a time: it is for all.
        let Some(mut replaced) = self.replaced.try_lock() else { return };
        replaced.retain(|&(table, cookie)| {
            let stays = !domain.poll(cookie);
            if !stays {
                // SAFETY: it was taken out of `current` before the grace period began (INV-H2).
                drop(unsafe { Box::from_raw(table.as_ptr()) });
            }
            stays
        });
        let handle_bits = self.handle_bits.load(Ordering::Relaxed);
        let buckets = (entries / ROOMY + 1) as usize;
        if let Some(table) = self.table() {
            table.crowded.store(0, Ordering::Relaxed);
            let too_large = may_shrink && buckets < table.buckets.len() / 2;
            if table.is_good_for(entries, handle_bits) && !too_large {
                return;
            }
        }
        if replaced.try_reserve(1).is_err() {
            return;
        }
        let Some(table) = Table::new(buckets, handle_bits) else { return };
        // ORDERING: Release pairs with the load in `table`.
        let old = self.current.swap(table.as_ptr(), Ordering::AcqRel);
        if let Some(old) = NonNull::new(old) {
            replaced.push((old, domain.start_poll()));
        }
    }

    /// The bytes of the tables; without those that were replaced, while another thread replaces one. The caller is
    /// inside a section.
    pub(crate) fn bytes(&self) -> u64 {
        let replaced = self.replaced.try_lock();
        let tables = replaced.iter().flat_map(|tables| tables.iter());
        // SAFETY: in the list it is not freed, and the list is held.
        let bytes = tables.map(|(table, _)| unsafe { table.as_ref() }.bytes());
        bytes.sum::<u64>() + self.table().map_or(0, Table::bytes)
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        let current = NonNull::new(self.current.load(Ordering::Relaxed));
        let replaced = std::mem::take(&mut *self.replaced.lock());
        for table in replaced.into_iter().map(|(table, _)| table).chain(current) {
            // SAFETY: no reader is left.
            drop(unsafe { Box::from_raw(table.as_ptr()) });
        }
    }
}
