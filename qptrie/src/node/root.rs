//! The roots of the trie: a slot for each first byte of a key, and one for the empty key.

use super::{Count, Retry};
use crate::fault::Faults;
use memalloc::let_others_run;
use memalloc::sync::{AtomicU32, Ordering, explored, pause};

/// Keys with the same first byte share a subtree; the empty key has a separate one. (A model has
/// few subtrees, each for a range of first bytes.)
const SHIFT: u32 = if cfg!(loom) { 7 } else { 0 };
/// The number of times that a reader retries before it yields the processor.
const SPINS: u32 = 64;

const ROOTS: usize = (256 >> SHIFT) + 1;

/// The roots, in the order of the keys below them.
#[derive(Debug)]
pub(crate) struct Roots(Box<[Root]>);

/// A slot that is not in a branch. It is never unlinked: its count is only a lock.
#[derive(Debug)]
pub(crate) struct Root {
    count: AtomicU32,
    slot: AtomicU32,
    /// The number of readers that are insisting; while it is not 0, writers begin no change.
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

    /// Retries `look` until nothing changes meanwhile. While this runs, writers begin no change
    /// below this root, and the changes that have begun end, so this ends.
    #[cold]
    pub(crate) fn insist<R>(&self, mut look: impl FnMut() -> Result<R, Retry>) -> R {
        struct Insisting<'r>(&'r AtomicU32);
        impl Drop for Insisting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        // This word orders nothing, and correctness does not depend on it: a writer that misses it
        // for a moment only causes another retry.
        self.insisting.fetch_add(1, Ordering::Relaxed);
        let _insisting = Insisting(&self.insisting);
        // To a model another retry is like the one before.
        explored();
        let mut tries = 0;
        loop {
            if let Ok(found) = look() {
                return found;
            }
            // A thread that writes a leaf in place may be waiting for the processor.
            match u32::checked_sub(tries, SPINS) {
                None => pause(),
                Some(round) => let_others_run(round),
            }
            tries += 1;
        }
    }

    /// Waits while a reader insists. Called by a writer, without a lock, before each of its
    /// attempts.
    #[inline]
    pub(crate) fn let_readers_pass(&self) {
        let mut round = 0;
        while self.insisting.load(Ordering::Relaxed) > 0 {
            let_others_run(round);
            round += 1;
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

    /// Returns the number of the root that `key` is below.
    #[inline(always)]
    pub(crate) fn number_of(key: &[u8]) -> usize {
        key.first().map_or(0, |&first| (first as usize >> SHIFT) + 1)
    }

    /// Returns the root that `key` is below.
    #[inline(always)]
    pub(crate) fn of(&self, key: &[u8]) -> &Root {
        &self.0[Self::number_of(key)]
    }

    /// Returns all roots, in order.
    pub(crate) fn all(&self) -> &[Root] {
        &self.0
    }

    /// Returns the size of the table, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.0) as u64
    }
}
