//! The count of a branch: its life, whether it is linked, and its lock.
//!
//! ```text
//!  31 … 2 | 1                       | 0
//!  life   | locked by a writer      | unlinked
//! ```
//!
//! Readers compare lives and ignore the lock, so a writer that holds a branch, or changes one of
//! its twigs in place, forces no reader to retry. A writer takes the lock of the life that it saw,
//! with one exchange; if the branch is in another life since, or unlinked, the exchange fails. So
//! no thread ever holds or releases the lock of a branch that has been reused meanwhile.
//!
//! A root has a count too, in its only life.

use crate::fault::Faults;
use memalloc::let_others_run;
use memalloc::sync::{AtomicU32, Ordering, owner_load, pause};

const UNLINKED: u32 = 1;
const LOCKED: u32 = 2;

/// The number of attempts to take a lock before the thread yields the processor.
const SPINS: u32 = 64;

/// Something changed on the path; everything read so far is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry;

/// One life of a branch, in which it is, or was, linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(u32);

impl Life {
    /// The life that a count of zero seems to be. The first life of a branch is a later one.
    const ZERO: Self = Self(0);

    /// The life of a root, and a placeholder where lives are not compared.
    pub(crate) const ONLY: Self = Self::ZERO;
}

/// The count word of a branch or of a root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count<'t> {
    word: &'t AtomicU32,
    faults: Faults,
}

impl<'t> Count<'t> {
    #[inline(always)]
    pub(super) fn new(word: &'t AtomicU32, faults: Faults) -> Self {
        Self { word, faults }
    }

    /// Returns the life of the branch; `None` while it is not linked.
    #[inline(always)]
    pub(crate) fn life(self) -> Option<Life> {
        // ORDERING: pairs with the Release store of the count in `begin`: a thread that sees the
        // count of this life sees its shape and twigs. Falls to `loom_protocol`
        // "first count relaxed".
        let count = self.word.load(Ordering::Acquire);
        (count & UNLINKED == 0).then_some(Life(count & !LOCKED))
    }

    /// Returns the life of a branch that is named by a handle of any age; `None` also where the
    /// branch was never initialised, or its memory was returned to the system: there the count is
    /// zero.
    #[inline(always)]
    pub(crate) fn life_at_any_age(self) -> Option<Life> {
        self.life().filter(|&life| life != Life::ZERO)
    }

    /// Returns true if the branch is in this life, and linked.
    #[inline(always)]
    pub(crate) fn is_in(self, life: Life) -> bool {
        self.word.load(Ordering::Relaxed) & !LOCKED == life.0
    }

    /// Waits for the lock of this life; returns `Retry` if the life is over.
    #[inline]
    pub(crate) fn lock(self, life: Life) -> Result<Locked<'t>, Retry> {
        let mut spins = 0;
        if self.faults.without_locks() {
            return Ok(Locked { count: self, life });
        }
        loop {
            // ORDERING: pairs with the Release store in `Locked::drop`: the holder sees what
            // earlier holders stored into the slots. Falls to `loom` "lock taken relaxed".
            let order =
                if self.faults.relaxed_locks() { Ordering::Relaxed } else { Ordering::Acquire };
            let locked = life.0 | LOCKED;
            match self.word.compare_exchange(life.0, locked, order, Ordering::Relaxed) {
                Ok(_) => return Ok(Locked { count: self, life }),
                Err(now) if now != locked => return Err(Retry),
                // Another thread has the lock. It holds it for a few stores, sometimes an
                // allocation. A failed exchange takes the cache line from it, a load shares it.
                Err(_) => loop {
                    match u32::checked_sub(spins, SPINS) {
                        None => pause(),
                        Some(round) => let_others_run(round),
                    }
                    spins += 1;
                    // A model would explore the same wait twice.
                    if cfg!(loom) || self.word.load(Ordering::Relaxed) != locked {
                        break;
                    }
                },
            }
        }
    }

    /// Begins the next life: the branch may now be linked, and its count is even (QPT-N2). Only the
    /// caller knows the branch; it gets its lock.
    pub(crate) fn begin(self) -> Locked<'t> {
        // SAFETY: no other thread changes the count of a branch that is not linked: there is no
        // life to lock.
        let old = unsafe { owner_load(self.word) };
        let next = if self.faults.without_counts() {
            old
        } else {
            (old | UNLINKED | LOCKED).wrapping_add(1)
        };
        // ORDERING: pairs with the Acquire load in `life`. Falls to `loom_protocol` "init count
        // relaxed".
        self.word.store(next | LOCKED, Ordering::Release);
        Locked { count: self, life: Life(next) }
    }

    /// Ends the life of a branch that no other thread can reach.
    pub(crate) fn end(self) {
        // SAFETY: no other thread can reach the branch.
        let life = unsafe { owner_load(self.word) };
        Locked { count: self, life: Life(life & !LOCKED) }.unlink();
    }
}

/// The lock of a branch or of a root: only its holder changes the slots. Released when dropped.
#[derive(Debug)]
pub(crate) struct Locked<'t> {
    count: Count<'t>,
    life: Life,
}

impl Locked<'_> {
    /// Ends the life: no slot names the branch any more. From here on, readers that stand on the
    /// branch and writers that wait for it start again.
    pub(crate) fn unlink(self) {
        let faults = self.count.faults;
        if !faults.counts_on_reuse_only() && !faults.without_counts() {
            self.count.word.store(self.life.0 | UNLINKED, Ordering::Relaxed);
            std::mem::forget(self);
        }
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: pairs with the exchange in `Count::lock`. Falls to `loom_protocol` "lock
        // released relaxed".
        self.count.word.store(self.life.0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_never_a_branch_is_in_no_life() {
        let word = AtomicU32::new(0);
        let count = Count::new(&word, Faults::default());
        assert_eq!(count.life_at_any_age(), None, "zeros");
        let held = count.begin();
        let life = count.life_at_any_age().expect("its first life has begun");
        assert!(life != Life::ZERO && count.is_in(life));
        held.unlink();
        assert_eq!(count.life_at_any_age(), None, "unlinked");
        let held = count.begin();
        assert!(count.life_at_any_age().is_some_and(|next| next != life), "the next life");
        drop(held);
    }
}
