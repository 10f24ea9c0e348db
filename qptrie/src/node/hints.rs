//! Hints: a table beside the trie that maps the hash of a key to the handle of its leaf.
//!
//! A hint may be stale, missing or wrong. Correctness does not depend on it: the leaf itself tells
//! whether it is linked and which key it has (`read::hinted`), and a lookup that the table does not
//! answer walks the trie. So the table is read and written without locks, one word at a time, and
//! two threads that write to one bucket may overwrite each other's hints.
//!
//! ```text
//!  bucket   | hint | hint | …       16 in one cache line
//!  hint     | tag of the hash | handle of the leaf |      32 bits; 0: none
//! ```
//!
//! Upper bits of the hash select the bucket, lower bits are the tag. A key has one bucket; if it is
//! full, another hint is evicted. When that happens often, and there are more entries than a table
//! of this size is meant for, an empty table replaces it, and lookups that walked the trie fill it.
//! The old table is freed after a grace period.
//!
//! - QPT-H1: every handle in a table was that of a leaf of this trie at some time. With hints,
//!   slabs of leaves keep their class, so the memory at a handle is a leaf, was a leaf, or says
//!   "not linked".
//! - QPT-H2: a table that was found inside a section is not freed before the section ends.

use super::hint_odds::{HintOdds, Look};
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use memalloc::Handle;
use memalloc::rcu::{Cookie, Domain};
use memalloc::sync::{AtomicPtr, AtomicU32, Lock, Ordering};
use std::alloc::Layout;
use std::hash::Hasher;
use std::ptr::NonNull;

/// The number of hints in one bucket, which fills one cache line.
const WAYS: usize = if cfg!(loom) { 2 } else { 16 };

/// The number of entries per bucket above which a table with many evictions is replaced.
const CROWDED: u64 = 13;

/// The number of entries per bucket in a table that replaces another one.
const ROOMY: u64 = 9;

/// The minimum number of bits for a handle: 256 MiB of leaves.
const LEAST_HANDLE_BITS: u32 = 24;

/// The hints of a trie, if it keeps them.
#[derive(Debug)]
pub(crate) struct Hints {
    hash: Option<Hash>,
    /// Null while there is no table.
    current: AtomicPtr<Table>,
    /// The number of bits of the largest handle.
    handle_bits: AtomicU32,
    /// Replaced tables that readers may still use, each with the grace period after which it is
    /// freed.
    replaced: Lock<Vec<(NonNull<Table>, Cookie)>>,
    /// Whether lookups, and updates that may insert, find present keys.
    lookups: HintOdds,
    updates: HintOdds,
}

// SAFETY: the tables behind the pointers consist of atomics, and are freed by one thread when no
// other thread can use them (QPT-H2).
unsafe impl Send for Hints {}
// SAFETY: as above.
unsafe impl Sync for Hints {}

/// The hash of a key, for a call that may use hints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHash {
    hash: u64,
    /// Whether the call looks at the hints before it walks the trie.
    look: Look,
}

/// The secret seed of one trie's hash, so that an attacker can't find keys that share a bucket.
#[derive(Debug)]
struct Hash {
    own: u64,
    seed: SharedSeed,
}

impl Hash {
    #[cfg(not(any(loom, shuttle)))]
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // Seeded with random numbers from the system.
        let random = RandomState::new();
        Self { own: random.hash_one(0), seed: SharedSeed::from_u64(random.hash_one(1)) }
    }

    #[inline(always)]
    fn of(&self, key: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, &self.seed);
        hasher.write(key);
        hasher.finish()
    }

    /// Uses a fixed seed, so that each execution of a model is the same.
    #[cfg(any(loom, shuttle))]
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
    /// The number of hints that were evicted for another one.
    crowded: AtomicU32,
}

impl Table {
    /// Allocates an empty table; `None` if there is no memory for it.
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
        // SAFETY: the memory consists of initialised buckets (zeros are atomic words of value 0),
        // and comes from the global allocator with the layout of such a box.
        let buckets = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, buckets)) };
        let table = Self { buckets, handle_bits, crowded: AtomicU32::new(0) };
        Some(NonNull::from(Box::leak(Box::new(table))))
    }

    #[inline(always)]
    fn bucket(&self, hash: u64) -> &[AtomicU32; WAYS] {
        let number = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        &self.buckets[number as usize].0
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
            lookups: HintOdds::new(),
            updates: HintOdds::new(),
        };
        // Models examine the use of a table, not its growth.
        #[cfg(loom)]
        if wanted && let Some(table) = Table::new(1, LEAST_HANDLE_BITS) {
            hints.current.store(table.as_ptr(), Ordering::Relaxed);
        }
        hints
    }

    /// Returns true if the trie keeps hints.
    #[inline(always)]
    pub(crate) fn are_kept(&self) -> bool {
        self.hash.is_some()
    }

    /// Returns the hash of a key that is looked up. `None` if no hints are kept, or if the key is
    /// probably absent.
    #[inline(always)]
    pub(crate) fn for_lookup(&self, key: &[u8]) -> Option<KeyHash> {
        let hash = self.hash.as_ref()?;
        match self.lookups.look() {
            Look::No => None,
            look => Some(KeyHash { hash: hash.of(key), look }),
        }
    }

    /// Returns the hash of a key that is removed or replaced, and prefetches its bucket. `None` if
    /// no hints are kept.
    #[inline(always)]
    pub(crate) fn for_present(&self, key: &[u8]) -> Option<KeyHash> {
        Some(self.prefetched(self.hash.as_ref()?.of(key), Look::Yes))
    }

    /// Like `for_present`, for a key that is inserted if it is absent.
    #[inline(always)]
    pub(crate) fn for_update(&self, key: &[u8]) -> Option<KeyHash> {
        let hash = self.hash.as_ref()?;
        Some(self.prefetched(hash.of(key), self.updates.look()))
    }

    #[inline(always)]
    fn prefetched(&self, hash: u64, look: Look) -> KeyHash {
        let hash = KeyHash { hash, look };
        self.prefetch(hash);
        hash
    }

    /// Prefetches the bucket of a key.
    #[inline(always)]
    pub(crate) fn prefetch(&self, KeyHash { hash, .. }: KeyHash) {
        if let Some(table) = self.table() {
            super::prefetch::line(std::ptr::from_ref(table.bucket(hash)).cast());
        }
    }

    /// Counts whether a key that was looked up was present.
    #[inline(always)]
    pub(crate) fn looked_up(&self, hash: Option<KeyHash>, present: bool) {
        if hash.is_some_and(|hash| hash.look == Look::Counted) {
            self.lookups.count(present);
        }
    }

    /// Counts whether a key that was inserted or replaced was present.
    #[inline(always)]
    pub(crate) fn updated(&self, hash: Option<KeyHash>, present: bool) {
        if hash.is_some_and(|hash| hash.look == Look::Counted) {
            self.updates.count(present);
        }
    }

    #[inline(always)]
    fn table(&self) -> Option<&Table> {
        // ORDERING: pairs with the swap in `fit`: a thread that finds a table sees it empty, or
        // filled by other threads. Falls to `a_table_is_found_empty_or_filled`.
        let table = NonNull::new(self.current.load(Ordering::Acquire))?;
        // SAFETY: callers are inside a section, in which the table is not freed, or hold
        // `replaced`, without which no table is replaced (QPT-H2).
        Some(unsafe { table.as_ref() })
    }

    /// Calls `is_it` with the leaves that may have the key with this hash, until it returns `Some`.
    #[inline(always)]
    pub(crate) fn find<R>(
        &self,
        KeyHash { hash, look }: KeyHash,
        mut is_it: impl FnMut(Handle) -> Option<R>,
    ) -> Option<R> {
        if look == Look::No {
            return None;
        }
        let table = self.table()?;
        let (bucket, tag) = (table.bucket(hash), table.tag(hash));
        let has_tag = |hint: u32| (hint ^ tag) >> table.handle_bits == 0;
        let mut ways = 0_u32;
        for (way, hint) in bucket.iter().enumerate() {
            ways |= u32::from(has_tag(hint.load(Ordering::Relaxed))) << way;
        }
        while ways != 0 {
            // The hint may have changed since the first load: it still names a leaf.
            // ORDERING: pairs with the Release stores in `put`: a thread that sees a handle may
            // access the memory that it names. Falls to `loom`
            // `a_hint_is_believed_of_the_keys_own_leaf_only`.
            let hint = bucket[ways.trailing_zeros() as usize].load(Ordering::Acquire);
            if let Some(found) = table.handle(hint).and_then(&mut is_it) {
                return Some(found);
            }
            ways &= ways - 1;
        }
        None
    }

    /// Adds a hint for a leaf of the key with this hash, in place of the hint for `old`. Returns
    /// true if the table had no room: then [`fit`](Self::fit) may help.
    #[inline]
    #[must_use]
    pub(crate) fn put(
        &self,
        KeyHash { hash, .. }: KeyHash,
        leaf: Handle,
        old: Option<Handle>,
    ) -> bool {
        let Some(table) = self.table() else { return true };
        if leaf.get() >> table.handle_bits != 0 {
            let bits = u32::BITS - leaf.get().leading_zeros();
            self.handle_bits.fetch_max(bits, Ordering::Relaxed);
            return true;
        }
        let (bucket, tag) = (table.bucket(hash), table.tag(hash));
        // Models keep stale hints, to examine them.
        let old = old.filter(|_| !cfg!(loom));
        let (hint, old) = (tag | leaf.get(), old.map_or(0, |old| tag | old.get()));
        let (mut same, mut replaced, mut free) = (0_u32, 0_u32, 0_u32);
        for (way, now) in bucket.iter().enumerate() {
            let now = now.load(Ordering::Relaxed);
            same |= u32::from(now == hint) << way;
            replaced |= u32::from(now == old && old != 0) << way;
            free |= u32::from(now == 0) << way;
        }
        if same != 0 {
            return false;
        }
        let free = if replaced == 0 { free } else { replaced };
        // Evict a pseudo-random hint if there is none.
        let way =
            if free == 0 { (hash >> 16) as usize % WAYS } else { free.trailing_zeros() as usize };
        let way = &bucket[way];
        // ORDERING: pairs with the Acquire load in `find`. Falls to `loom`
        // `a_hint_is_believed_of_the_keys_own_leaf_only`.
        way.store(hint, Ordering::Release);
        if free != 0 {
            return false;
        }
        let crowded = table.crowded.load(Ordering::Relaxed).wrapping_add(1);
        table.crowded.store(crowded, Ordering::Relaxed);
        !cfg!(loom) && crowded as usize > table.buckets.len() / 2 + WAYS
    }

    /// Removes the hint for a leaf of the key with this hash.
    #[inline]
    pub(crate) fn forget(&self, KeyHash { hash, .. }: KeyHash, leaf: Handle) {
        // Models keep stale hints, to examine them.
        let Some(table) = self.table().filter(|_| !cfg!(loom)) else { return };
        let hint = table.tag(hash) | leaf.get();
        for way in table.bucket(hash) {
            if way.load(Ordering::Relaxed) == hint {
                way.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Replaces a table that is too small for this number of entries, or, with `may_shrink`, too
    /// large, by an empty one. Frees replaced tables that no reader can use any more.
    #[cold]
    pub(crate) fn fit(&self, domain: &Domain, entries: u64, may_shrink: bool) {
        // Models of the trie examine the use of a table, not its growth.
        if !self.are_kept() || cfg!(all(loom, not(test))) {
            return;
        }
        // One thread at a time does this on behalf of all.
        let Some(mut replaced) = self.replaced.try_lock() else { return };
        replaced.retain(|&(table, cookie)| {
            let stays = !domain.poll(cookie);
            if !stays {
                // SAFETY: it was taken out of `current` before the grace period began (QPT-H2).
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
        // ORDERING: pairs with the load in `table`. No Acquire: the lock orders the threads that
        // replace a table. Falls to `a_table_is_found_empty_or_filled`.
        let old = self.current.swap(table.as_ptr(), Ordering::Release);
        if let Some(old) = NonNull::new(old) {
            replaced.push((old, domain.start_poll()));
        }
    }

    /// Returns true if replaced tables wait for their grace period, or another thread replaces one.
    pub(crate) fn has_replaced(&self) -> bool {
        self.replaced.try_lock().is_none_or(|replaced| !replaced.is_empty())
    }

    /// Returns the size of the tables, in bytes; excludes replaced tables while another thread
    /// replaces one. The caller is inside a section.
    pub(crate) fn bytes(&self) -> u64 {
        let replaced = self.replaced.try_lock();
        let tables = replaced.iter().flat_map(|tables| tables.iter());
        // SAFETY: a table in the list is not freed while the list is locked.
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

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::explore::Model;
    use loom::thread;
    use std::sync::Arc;

    const OF_OLD: &str = "a hint of the old table";
    const OF_NEW: &str = "the new table, still empty";

    #[test]
    fn a_table_is_found_empty_or_filled() {
        let name = "a table is replaced beside a lookup";
        let model = Model { name, bound: None, least: 10, happens: &[OF_OLD, OF_NEW] };
        model.explore(|seen| {
            let (hints, domain) = (Arc::new(Hints::new(true)), Domain::new());
            let hash = KeyHash { hash: 1, look: Look::Yes };
            let leaf = Handle::new(1).expect("not 0");
            assert!(!hints.put(hash, leaf, None), "there is room");
            let other = thread::spawn({
                let (hints, domain) = (Arc::clone(&hints), domain.clone());
                move || hints.fit(&domain, CROWDED + 1, false)
            });
            let section = domain.pin();
            let found = hints.find(hash, Some);
            drop(section);
            other.join().unwrap();
            assert!(found.is_none_or(|found| found == leaf), "claim: {found:?}");
            seen.note(OF_OLD, found.is_some());
            seen.note(OF_NEW, found.is_none());
        });
    }
}
