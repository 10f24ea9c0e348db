//! The count of a leaf that is reused at once: which life and which value it has, and who may
//! write it.
//!
//! ```text
//!  31 … 2   | 1      | 0
//!  version  | linked | busy
//! ```
//!
//! Odd while the leaf is free, or being written; even when what it has may be
//! believed. Where there are hints, a bit says that the leaf is linked: who comes by a slot does not need it. Unlike a branch, whose holder readers ignore, a leaf is unreadable while it is held,
//! because what its holder changes is what readers copy.

use super::Retry;
use crate::fault::Faults;
use memalloc::sync::{AtomicU32, Ordering, fence, owner_load, pause, thread};

const BUSY: u32 = 1;
const LINKED: u32 = 2;

/// From one version to the next.
const STEP: u32 = 4;

/// How often a leaf that is being written is looked at before its holder is given the processor.
const SPINS: u32 = if cfg!(loom) { 0 } else { 64 };

/// One value in one life of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u32);

impl Version {
    /// That of whoever does not look.
    pub(crate) const ONLY: Self = Self(0);

    /// Whether the leaf was linked when it had this version.
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

    /// What the leaf has at the moment; none while it is free or being written.
    #[inline(always)]
    pub(crate) fn now(self) -> Option<Version> {
        // ORDERING: pairs with the Release stores in `begin` and `Writing::drop`: who sees this
        // version's count sees its words. Falls to `loom`
        // `a_copy_is_whole_beside_an_overwrite`.
        let order =
            if self.faults.leaf_count_relaxed() { Ordering::Relaxed } else { Ordering::Acquire };
        let count = self.word.load(order);
        (count & BUSY == 0).then_some(Version(count))
    }

    /// Whether the leaf has this version still.
    #[inline(always)]
    pub(crate) fn is(self, version: Version) -> bool {
        self.word.load(Ordering::Relaxed) == version.0
    }

    /// Takes the right to write, if the leaf has this version still; `Retry` if not, or while
    /// somebody else writes.
    #[inline]
    pub(crate) fn lock(self, version: Version) -> Result<Writing<'t>, Retry> {
        let busy = version.0 | BUSY;
        // Relaxed: whoever names a version has seen its words (`now`), and nobody wrote since.
        let taken =
            self.word.compare_exchange(version.0, busy, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() && !self.faults.without_locks() {
            return Err(Retry);
        }
        // ORDERING: pairs with the reader's Acquire fence before it reads the count again: if it
        // saw any of the words that the holder stores, it sees that the count had become odd.
        // Falls to `loom` `a_copy_is_whole_beside_an_overwrite`.
        if !self.faults.leaf_fence_missing() {
            fence(Ordering::Release);
        }
        Ok(Writing { word: self.word, version })
    }

    /// Lets whoever writes the leaf at the moment finish.
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
        thread::yield_now();
    }

    /// Begins the next life: the leaf may be linked. The caller is the only one who knows it.
    pub(super) fn begin(self) {
        // SAFETY: nobody else changes the count of a leaf that is free: it has no version to lock.
        let old = unsafe { owner_load(self.word) };
        // ORDERING: pairs with the Acquire load in `now`. Falls to `loom`
        // `a_copy_is_its_keys_though_the_leaf_comes_back`.
        self.word.store((old | BUSY | LINKED).wrapping_add(1), Ordering::Release);
    }

    /// Marks the leaf as linked. The caller holds the lock of the slot that names it, so that its life
    /// does not end meanwhile; others may write it.
    pub(super) fn mark_linked(self) {
        let mut count = self.word.load(Ordering::Relaxed) & !BUSY;
        // ORDERING: Release pairs with the Acquire load in `now`: who sees the mark sees that the slot names
        // the leaf. Falls to `loom` `a_hint_is_believed_of_a_linked_leaf_only`.
        while let Err(now) =
            self.word.compare_exchange(count, count | LINKED, Ordering::Release, Ordering::Relaxed)
        {
            if now & BUSY != 0 {
                self.wait();
            }
            count = now & !BUSY;
        }
    }

    /// Ends the life of a leaf that nobody else can reach.
    pub(super) fn end(self) {
        // SAFETY: the caller is alone.
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
    /// Ends the life: the leaf is about to be unlinked, and never readable again in it.
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
