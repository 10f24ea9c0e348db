//! How many entries there are.
//!
//! Without a limit every thread counts in a stripe of its own, so that writers which change different
//! parts of a trie do not pass one cache line to and fro. With a limit there is one stripe, since whoever
//! adds an entry has to know all others.

use crossbeam_utils::CachePadded;
use memalloc::sync::{AtomicU64, Ordering};

/// Stripes of a tally without a limit, a power of two. (A model has one: it counts nothing apart.)
const STRIPES: usize = if cfg!(loom) { 1 } else { 32 };

/// A count of entries. Its sum is exact when nobody changes it.
///
/// Nothing is ordered by it, so every access is relaxed.
#[derive(Debug)]
pub(super) struct Tally {
    /// What was added less what was taken, modulo 2^64: an entry may go by another stripe than it came by.
    stripes: Box<[CachePadded<AtomicU64>]>,
    limit: u64,
}

#[cfg(not(loom))]
fn number_of_thread() -> usize {
    use std::sync::atomic::AtomicUsize;
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    // A destructor of a thread that ends may come by here.
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

#[cfg(loom)]
fn number_of_thread() -> usize {
    0
}

impl Tally {
    /// No entries yet, and never more than `limit`.
    pub(super) fn new(limit: u64) -> Self {
        let stripes = if limit == u64::MAX { STRIPES } else { 1 };
        Self { stripes: (0..stripes).map(|_| CachePadded::new(AtomicU64::new(0))).collect(), limit }
    }

    /// Sets another limit, which what was counted may be beyond.
    pub(super) fn limit_to(&mut self, limit: u64) {
        let limited = Self::new(limit);
        limited.stripes[0].store(self.sum(), Ordering::Relaxed);
        *self = limited;
    }

    #[inline]
    fn own(&self) -> &AtomicU64 {
        &self.stripes[number_of_thread() & (self.stripes.len() - 1)]
    }

    /// Counts one more; the limit, if that is reached.
    #[inline]
    pub(super) fn add(&self) -> Result<(), u64> {
        let limit = self.limit;
        if limit == u64::MAX {
            self.own().fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let more = |entries| (entries < limit).then_some(entries + 1);
        let added = self.own().fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.map(|_| ()).map_err(|_| limit)
    }

    /// Counts one less: one that was counted before.
    #[inline]
    pub(super) fn take(&self) {
        self.own().fetch_sub(1, Ordering::Relaxed);
    }

    /// All that were counted.
    pub(super) fn sum(&self) -> u64 {
        let stripes = self.stripes.iter().map(|stripe| stripe.load(Ordering::Relaxed));
        // An entry that went may be seen, and not that it came.
        (stripes.fold(0, u64::wrapping_add) as i64).max(0) as u64
    }

    /// The bytes that the stripes take up.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.stripes) as u64
    }
}
