//! The count of a leaf that is reused at once: its life and its value, and the right to write it.
//!
//! ```text
//!  31 … 2   | 1      | 0
//!  version  | linked | busy
//! ```
//!
//! Odd while the leaf is free or being written; even while its content is valid. With hints, a bit
//! tells whether the leaf is linked; a reader that came through a slot does not need it. Readers
//! ignore the lock of a branch, but a locked leaf is unreadable, because its holder changes what
//! readers copy.

use super::Retry;
use crate::fault::Faults;
use memalloc::sync::{AtomicU32, Ordering, fence, owner_load, pause};
use memalloc::{YIELDS, let_others_run};

const BUSY: u32 = 1;
const LINKED: u32 = 2;

/// The difference between one version and the next.
const STEP: u32 = 4;

/// The number of times that a leaf which is being written is checked before the thread yields the
/// processor.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// One value in one life of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u32);

impl Version {
    /// A placeholder where versions are not compared.
    pub(crate) const ONLY: Self = Self(0);

    /// Returns true if the leaf was linked when it had this version.
    #[inline(always)]
    pub(crate) fn is_linked(self) -> bool {
        self.0 & LINKED != 0
    }
}

/// The count word of a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Versions<'t> {
    word: &'t AtomicU32,
    faults: Faults,
}

impl<'t> Versions<'t> {
    #[inline(always)]
    pub(super) fn new(word: &'t AtomicU32, faults: Faults) -> Self {
        Self { word, faults }
    }

    /// Returns the version of the leaf; `None` while it is free or being written.
    #[inline(always)]
    pub(crate) fn now(self) -> Option<Version> {
        // ORDERING: pairs with the Release stores in `begin` and `Writing::drop`: a thread that
        // sees the count of this version sees its words. Falls to `loom`
        // `a_copy_is_whole_beside_an_overwrite`.
        let order =
            if self.faults.leaf_count_relaxed() { Ordering::Relaxed } else { Ordering::Acquire };
        let count = self.word.load(order);
        (count & BUSY == 0).then_some(Version(count))
    }

    /// Returns true if the leaf still has this version.
    #[inline(always)]
    pub(crate) fn is(self, version: Version) -> bool {
        self.word.load(Ordering::Relaxed) == version.0
    }

    /// Takes the right to write, if the leaf still has this version. Returns `Retry` if not, or
    /// while another thread writes.
    #[inline]
    pub(crate) fn lock(self, version: Version) -> Result<Writing<'t>, Retry> {
        let busy = version.0 | BUSY;
        // Relaxed: a thread that has a version has seen its words (`now`), and no thread wrote
        // since.
        let taken =
            self.word.compare_exchange(version.0, busy, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() && !self.faults.without_locks() {
            return Err(Retry);
        }
        // ORDERING: pairs with the reader's Acquire fence before it reads the count again: if the
        // reader saw any of the words that the holder stores, it sees that the count had become
        // odd. Falls to `loom` `a_copy_is_whole_beside_an_overwrite`.
        if !self.faults.leaf_fence_missing() {
            fence(Ordering::Release);
        }
        Ok(Writing { word: self.word, version })
    }

    /// Waits for a bounded time for the thread that writes the leaf.
    #[cold]
    pub(crate) fn wait(self) {
        let mut left = SPINS;
        while left > 0 {
            if self.word.load(Ordering::Relaxed) & BUSY == 0 {
                return;
            }
            pause();
            left -= 1;
        }
        // A yield lets a thread of this priority run, a sleep also one of a lower.
        for round in [0, YIELDS] {
            let_others_run(round);
            if cfg!(loom) || self.word.load(Ordering::Relaxed) & BUSY == 0 {
                return;
            }
        }
    }

    /// Begins the next life: the leaf may now be linked. Only the caller knows it.
    pub(super) fn begin(self) {
        // SAFETY: no other thread changes the count of a leaf that is free: it has no version to
        // lock.
        let old = unsafe { owner_load(self.word) };
        // ORDERING: pairs with the Acquire load in `now`. Falls to `loom`
        // `a_copy_is_its_keys_though_the_leaf_comes_back`.
        self.word.store((old | BUSY | LINKED).wrapping_add(1), Ordering::Release);
    }

    /// Marks the leaf as linked. The caller holds the lock of the slot that names the leaf, so its
    /// life does not end meanwhile; other threads may write it.
    pub(super) fn mark_linked(self) {
        let mut count = self.word.load(Ordering::Relaxed) & !BUSY;
        // ORDERING: Release pairs with the Acquire load in `now`: a thread that sees the mark sees
        // that the slot names the leaf. Falls to `loom` `a_hint_is_believed_of_a_linked_leaf_only`.
        while let Err(now) =
            self.word.compare_exchange(count, count | LINKED, Ordering::Release, Ordering::Relaxed)
        {
            if now & BUSY != 0 {
                self.wait();
            }
            count = now & !BUSY;
        }
    }

    /// Ends the life of a leaf that no other thread can reach.
    pub(super) fn end(self) {
        // SAFETY: no other thread can reach the leaf.
        let count = unsafe { owner_load(self.word) };
        self.word.store(count | BUSY, Ordering::Relaxed);
    }
}

/// The right to write a leaf. Its next version begins when this is dropped.
#[derive(Debug)]
pub(crate) struct Writing<'t> {
    word: &'t AtomicU32,
    version: Version,
}

impl Writing<'_> {
    /// Ends the life: the leaf is about to be unlinked, and stays unreadable in this life.
    pub(crate) fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Writing<'_> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: pairs with the Acquire load in `Versions::now`. Falls to `loom`
        // `a_copy_is_whole_beside_an_overwrite`.
        self.word.store(self.version.0.wrapping_add(STEP), Ordering::Release);
    }
}
