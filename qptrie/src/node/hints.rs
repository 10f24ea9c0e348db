//! Hints: a table beside the trie that maps the hash of a key to the handle of its leaf.
//!
//! A hint may be stale, missing or wrong. Correctness does not depend on it: the leaf itself tells
//! whether it is linked and which key it has (`read::hinted`), and a lookup that the table does not
//! answer walks the trie. So the table is read and written without locks, one word at a time, and
//! two threads that write to one bucket may overwrite each other's hints.
//!
//! A table (`hint_table`) has a fixed size. When hints are often evicted, and there are more
//! entries than a table of this size is meant for, another table replaces it. The *former* table
//! stays until its hints have moved: each call that adds a hint moves those of one bucket, and so
//! does each lookup that finds its hint in the former table, and one in 64 of those that find none.
//! Once a call has begun to move the last bucket, the next one takes the former table out. A call
//! to `fit` after a grace period frees it.
//!
//! - QPT-H1: every handle in a table was that of a leaf of this trie at some time. With hints,
//!   slabs of leaves keep their class, so the memory at a handle is a leaf, was a leaf, or says
//!   "not linked".
//! - QPT-H2: a table that was found inside a section is not freed before the section ends.

use super::hint_odds::{HintOdds, Look};
use super::hint_table::HintTable;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use memalloc::Handle;
use memalloc::rcu::{Cookie, Domain};
use memalloc::sync::{AtomicPtr, AtomicU32, Lock, Ordering, owner_load_ptr};
use std::hash::Hasher;
use std::ptr::NonNull;

/// The number of entries per bucket above which a table with many evictions is replaced.
const CROWDED: u64 = 13;

/// The number of entries per bucket in a table that replaces a smaller one: half as many, so that a
/// hint moves about once.
const ROOMY: u64 = 6;

/// The number of entries per bucket in a table that replaces one that is too large.
const SNUG: u64 = 9;

/// A walk costs several times as much as a look at one bucket: one lookup in five has to profit.
const LOOKUP_GAIN: u32 = 4;

/// An update also looks at the parent of the leaf: one in three has to profit.
const UPDATE_GAIN: u32 = 2;

/// The minimum number of bits for a handle: 256 MiB of leaves.
const LEAST_HANDLE_BITS: u32 = 24;

/// The hints of a trie, if it keeps them.
#[derive(Debug)]
pub(crate) struct Hints {
    hash: Option<Hash>,
    /// Null while there is no table.
    current: AtomicPtr<HintTable>,
    /// The number of bits of the largest handle.
    handle_bits: AtomicU32,
    /// Replaced tables that readers may still use, each with the grace period after which it is
    /// freed.
    replaced: Lock<Vec<(NonNull<HintTable>, Cookie)>>,
    /// Whether lookups find present keys, and updates find what they replace by a hint.
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

impl KeyHash {
    /// Returns true if the call looks at the hints.
    #[inline(always)]
    pub(crate) fn is_to_be_found(self) -> bool {
        self.look != Look::No
    }

    /// Returns true for one call in 64, at random.
    pub(crate) fn is_counted(self) -> bool {
        self.look == Look::Counted
    }
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

impl Hints {
    pub(super) fn new(wanted: bool) -> Self {
        let hints = Self {
            hash: wanted.then(Hash::new),
            current: AtomicPtr::new(std::ptr::null_mut()),
            handle_bits: AtomicU32::new(LEAST_HANDLE_BITS),
            replaced: Lock::new(Vec::new()),
            lookups: HintOdds::new(LOOKUP_GAIN),
            updates: HintOdds::new(UPDATE_GAIN),
        };
        // Models examine the use of a table, not its growth.
        #[cfg(loom)]
        if wanted && let Some(table) = HintTable::new(1, LEAST_HANDLE_BITS, std::ptr::null_mut()) {
            hints.current.store(table.as_ptr(), Ordering::Relaxed);
        }
        hints
    }

    /// Returns true if the trie keeps hints.
    #[inline(always)]
    pub(crate) fn are_kept(&self) -> bool {
        self.hash.is_some()
    }

    /// Returns the hash of a key; `None` if no hints are kept.
    #[inline(always)]
    pub(crate) fn hash_of(&self, key: &[u8]) -> Option<u64> {
        Some(self.hash.as_ref()?.of(key))
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

    /// Returns the hash of a key that is removed, without a look at the hints, and prefetches its
    /// bucket. `None` if no hints are kept.
    #[inline(always)]
    pub(crate) fn for_removal(&self, key: &[u8]) -> Option<KeyHash> {
        Some(self.prefetched(self.hash_of(key)?, Look::No))
    }

    /// Like `for_removal`, for a key that is replaced, or inserted if it is absent. The call looks
    /// at the hints if they have helped lately.
    #[inline(always)]
    pub(crate) fn for_update(&self, key: &[u8]) -> Option<KeyHash> {
        let hash = self.hash_of(key)?;
        Some(self.prefetched(hash, self.updates.look()))
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
            table.prefetch(hash);
        }
    }

    /// Counts whether a key that was looked up was present.
    #[inline(always)]
    pub(crate) fn looked_up(&self, hash: Option<KeyHash>, present: bool) {
        if hash.is_some_and(|hash| hash.look == Look::Counted) {
            self.lookups.count(present);
        }
    }

    /// Counts whether a hint led to what is updated.
    #[inline(always)]
    pub(crate) fn updated(&self, hash: Option<KeyHash>, by_hint: bool) {
        if hash.is_some_and(|hash| hash.look == Look::Counted) {
            self.updates.count(by_hint);
        }
    }

    #[inline(always)]
    fn table(&self) -> Option<&HintTable> {
        // ORDERING: pairs with the store in `fit`: a thread that finds a table sees it empty, or
        // filled by other threads. Falls to `a_hint_is_found_while_its_table_is_replaced`.
        self.reached(self.current.load(Ordering::Acquire))
    }

    /// Returns the table that `table` has replaced, while its hints are moving.
    #[inline(always)]
    fn former<'t>(&'t self, table: &'t HintTable) -> Option<&'t HintTable> {
        // Relaxed: it was stored before `table` was published, and is only replaced by null.
        self.reached(table.former.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn reached(&self, table: *mut HintTable) -> Option<&HintTable> {
        // SAFETY: callers are inside a section, in which the table is not freed, or hold
        // `replaced`, without which no table is taken out (QPT-H2).
        let table = unsafe { NonNull::new(table)?.as_ref() };
        #[cfg(loom)]
        table.alive.with(|_| ());
        Some(table)
    }

    /// Calls `is_it` with the leaves that may have the key with this hash, until it returns `Some`.
    #[inline(always)]
    pub(crate) fn find<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(Handle) -> Option<R>,
    ) -> Option<R> {
        self.table()?.find(hash.hash, is_it)
    }

    /// Like `find`, in the former table.
    #[inline]
    pub(crate) fn find_in_former<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(Handle) -> Option<R>,
    ) -> Option<R> {
        self.former(self.table()?)?.find(hash.hash, is_it)
    }

    /// Returns true while hints are moving to another table.
    #[inline(always)]
    pub(crate) fn are_moving(&self) -> bool {
        self.table().is_some_and(|table| self.former(table).is_some())
    }

    /// Moves the hints of one bucket of the former table: `HintTable::move_bucket`. Returns false
    /// if no bucket is left; then [`fit`](Self::fit) may take the former table out.
    pub(crate) fn move_some(
        &self,
        prefetch: impl Fn(Handle),
        hash_of: impl FnMut(Handle) -> Option<u64>,
    ) -> bool {
        let Some(table) = self.table() else { return false };
        self.former(table).is_some_and(|former| table.move_bucket(former, prefetch, hash_of))
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
            // A load first, so that threads with many such leaves share the line.
            if self.handle_bits.load(Ordering::Relaxed) < bits {
                self.handle_bits.fetch_max(bits, Ordering::Relaxed);
            }
            return self.former(table).is_none();
        }
        // Models keep stale hints, to examine them.
        let old = old.filter(|_| !cfg!(loom));
        table.put(hash, leaf, old) && !cfg!(loom) && table.is_crowded()
    }

    /// Removes the hint for a leaf of the key with this hash.
    #[inline]
    pub(crate) fn forget(&self, KeyHash { hash, .. }: KeyHash, leaf: Handle) {
        // Models keep stale hints, to examine them. One in the former table does not move, because
        // its leaf is not linked.
        if let Some(table) = self.table().filter(|_| !cfg!(loom)) {
            table.forget(hash, leaf);
        }
    }

    /// Replaces a table that is too small for this number of entries, or, with `may_shrink`, too
    /// large. Takes a table out of which no bucket is left to be moved: a call that still moves one
    /// is inside a section. Frees those that no reader can use any more.
    #[cold]
    pub(crate) fn fit(&self, domain: &Domain, entries: impl FnOnce() -> u64, may_shrink: bool) {
        // Most models of the trie examine the use of a table, not its growth.
        if !self.are_kept() || cfg!(all(loom, not(test))) {
            return;
        }
        // One thread at a time does this on behalf of all.
        let Some(mut replaced) = self.replaced.try_lock() else { return };
        replaced.retain(|&(table, cookie)| {
            let stays = !domain.advance(cookie);
            if !stays {
                // SAFETY: it was taken out before the grace period began (QPT-H2).
                drop(unsafe { Box::from_raw(table.as_ptr()) });
            }
            stays
        });
        if replaced.try_reserve(1).is_err() {
            return;
        }
        let mut take_former_out = |table: &HintTable| {
            let former = NonNull::new(table.former.swap(std::ptr::null_mut(), Ordering::Relaxed));
            replaced.extend(former.map(|former| (former, domain.start_poll())));
        };
        let handle_bits = self.handle_bits.load(Ordering::Relaxed);
        let entries = entries();
        let buckets = (entries / if may_shrink { SNUG } else { ROOMY } + 1) as usize;
        // SAFETY: only the holder of `replaced` stores to it.
        let current = self.reached(unsafe { owner_load_ptr(&self.current) });
        if let Some(table) = current {
            table.forget_evictions();
            if self.former(table).is_some_and(|former| table.has_begun_all(former)) {
                take_former_out(table);
            }
            // A table that is too narrow stays until it has the hints of its former one.
            let is_wide = handle_bits <= table.handle_bits || self.former(table).is_some();
            let is_good = is_wide
                && entries <= table.len() as u64 * CROWDED
                && !(may_shrink && buckets < table.len() / 10 * 9);
            if is_good {
                return;
            }
        }
        let former =
            current.map_or(std::ptr::null_mut(), |table| std::ptr::from_ref(table).cast_mut());
        let Some(table) = HintTable::new(buckets, handle_bits, former) else { return };
        // ORDERING: pairs with the load in `table`. Falls to
        // `a_hint_is_found_while_its_table_is_replaced`.
        self.current.store(table.as_ptr(), Ordering::Release);
        // A table has one former table. Hints that are still in an older one are lost.
        if let Some(table) = current {
            take_former_out(table);
        }
    }

    /// Returns true if a table waits for its hints to be moved, or for its grace period, or if
    /// another thread replaces one.
    pub(crate) fn have_replaced(&self) -> bool {
        let replaced = self.replaced.try_lock();
        // The lock is held meanwhile (QPT-H2).
        replaced.is_none_or(|replaced| !replaced.is_empty() || self.are_moving())
    }

    /// Returns the size of the tables, in bytes; excludes replaced tables while another thread
    /// replaces one. The caller is inside a section.
    pub(crate) fn bytes(&self) -> u64 {
        let replaced = self.replaced.try_lock();
        let tables = replaced.iter().flat_map(|tables| tables.iter());
        // SAFETY: a table in the list is not freed while the list is locked.
        let tables = tables.map(|(table, _)| unsafe { table.as_ref() });
        let current = self.table();
        let former = current.and_then(|table| self.former(table));
        tables.chain(current).chain(former).map(HintTable::bytes).sum()
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        let current = NonNull::new(self.current.load(Ordering::Relaxed));
        // SAFETY: no other thread is left to free it.
        let former = current.map(|table| unsafe { table.as_ref() }.former.load(Ordering::Relaxed));
        // After a fork, a thread that the child does not have may hold the lock. Then they leak.
        let replaced = self.replaced.try_lock().map(|mut replaced| std::mem::take(&mut *replaced));
        let replaced = replaced.into_iter().flatten().map(|(table, _)| table);
        for table in replaced.chain(former.and_then(NonNull::new)).chain(current) {
            // SAFETY: no reader is left.
            drop(unsafe { Box::from_raw(table.as_ptr()) });
        }
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
