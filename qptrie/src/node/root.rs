//! Where the trie begins: a slot for each first byte of a key, and one for the empty key.

use super::{Count, Retry};
use crate::fault::Faults;
use memalloc::sync::{AtomicU32, Ordering, explored, pause, thread};

/// Keys with the same first byte share a subtree; the empty key has one of its own. (A model has
/// few, each for a range of first bytes.)
const SHIFT: u32 = if cfg!(loom) { 7 } else { 0 };
/// How often a reader looks again before others are given the processor.
const SPINS: u32 = 64;

const ROOTS: usize = (256 >> SHIFT) + 1;

/// The roots, in the order of the keys below them.
#[derive(Debug)]
pub(crate) struct Roots(Box<[Root]>);

/// A slot that is not in a branch. It is never unlinked: its count is for its lock only.
#[derive(Debug)]
pub(crate) struct Root {
    count: AtomicU32,
    slot: AtomicU32,
    /// How many readers no stream of changes may keep from getting on.
    insisting: AtomicU32,
}

impl Root {
    #[inline(always)]
    pub(crate) fn slot(&self) -> &AtomicU32 {
        &self.slot
    }

    pub(crate) fn count(&self, faults: Faults) -> Count<'_> {
        Count::new(&self.count, faults)
    }

    /// Looks until nothing changes on the way. Meanwhile no change is begun below this root: those
    /// that have been begun end, so the looking does.
    #[cold]
    pub(crate) fn insist<R>(&self, mut look: impl FnMut() -> Result<R, Retry>) -> R {
        struct Insisting<'r>(&'r AtomicU32);
        impl Drop for Insisting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        // Nothing is ordered by this word, and no answer rests on it: who misses it for a moment
        // only makes somebody look once more.
        self.insisting.fetch_add(1, Ordering::Relaxed);
        let _insisting = Insisting(&self.insisting);
        // Another look is like the one before, only that it knows more.
        explored();
        let mut tries = 0;
        loop {
            if let Ok(found) = look() {
                return found;
            }
            // Who writes a leaf in place may be waiting for the processor.
            if tries < SPINS {
                pause();
            } else {
                thread::yield_now();
            }
            tries += 1;
        }
    }

    /// Called by a writer, without a lock, before each of its tries.
    #[inline]
    pub(crate) fn let_readers_pass(&self) {
        while self.insisting.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
    }
}

impl Roots {
    pub(super) fn new() -> Self {
        let root = |_| Root {
            count: AtomicU32::new(0),
            slot: AtomicU32::new(0),
            insisting: AtomicU32::new(0),
        };
        Self((0..ROOTS).map(root).collect())
    }

    /// The number of the root that `key` is below.
    #[inline(always)]
    pub(crate) fn number_of(key: &[u8]) -> usize {
        key.first().map_or(0, |&first| (first as usize >> SHIFT) + 1)
    }

    /// The root that `key` is below.
    #[inline(always)]
    pub(crate) fn of(&self, key: &[u8]) -> &Root {
        &self.0[Self::number_of(key)]
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> &[Root] {
        &self.0
    }

    /// The bytes that the table takes up.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}
