//! The maintenance of a trie, its statistics, its memory usage and its depth.

use crate::map::by_ref::point::TrieRef;
use crate::map::trie::QpTrie;
use crate::read::{Ascending, Walk, move_hints};
use memalloc::rcu::SynchronizeError;
use memalloc::sync::Ordering;
use memalloc::{ProtectsIdentity, Reclaimed, ReusePolicy, Stats};
use std::fmt;
use std::ops::Bound::{Excluded, Unbounded};

/// Statistics of a trie, returned by [`QpTrie::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrieStats {
    /// The number of entries; exact when nothing runs.
    pub entries: u64,
    /// The number of times that lookups and scans retried because a branch had changed under them.
    pub retries: u64,
    /// The number of lookups and seeks that insisted after too many retries and blocked changes
    /// below their root until they were done.
    pub insisted: u64,
}

/// One line: `3 entries, 0 retries, 0 insisted`.
impl fmt::Display for TrieStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, retries, insisted } = self;
        write!(f, "{entries} entries, {retries} retries, {insisted} insisted")
    }
}

/// The memory usage of a trie, returned by [`QpTrie::memory_usage`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Statistics of the allocator of branches.
    pub branches: Stats,
    /// Statistics of the allocator of leaves.
    pub leaves: Stats,
    /// The size of the `QpTrie` itself, its table of roots and its counts, in bytes.
    pub root_bytes: u64,
    /// The size of the table of hints, and of replaced tables that readers may still use, in bytes.
    pub hint_bytes: u64,
}

/// The statistics of branches and of leaves, each after a line with its name, and a line with the
/// sums: `total: 632392 bytes (slabs 69632, tables 556448, roots 6312, hints 0)`.
impl fmt::Display for MemoryUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { branches, leaves, root_bytes, hint_bytes } = self;
        writeln!(f, "branches:\n{branches}\nleaves:\n{leaves}")?;
        let tables = branches.table_bytes + leaves.table_bytes;
        write!(
            f,
            "total: {} bytes (slabs {}, tables {tables}, roots {root_bytes}, hints {hint_bytes})",
            self.total_bytes(),
            self.slab_bytes()
        )
    }
}

impl MemoryUsage {
    /// Returns the total: slab memory that was touched, used or not; the tables of the allocators
    /// (per-CPU caches, batches, and the maps of objects to slabs); the roots; the hints. Excludes
    /// memory that values point to, the domain, which other structures may share, and the memory
    /// that [`Stats::backing_bytes`] excludes.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.slab_bytes() + self.table_bytes()
    }

    /// Returns the slab memory, which is the part that grows with the entries.
    #[must_use]
    pub fn slab_bytes(&self) -> u64 {
        self.branches.backing_bytes + self.leaves.backing_bytes
    }

    /// Returns everything except the slab memory.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.branches.table_bytes + self.leaves.table_bytes + self.root_bytes + self.hint_bytes
    }
}

/// The number of buckets of hints that `tend` moves, so that it does not hold up the other tasks of
/// a worker.
const BUCKETS_AT_ONCE: u64 = 1024;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Does pending maintenance without waiting for readers: drives grace periods, frees nodes
    /// whose grace period has passed, and releases surplus memory. Moves some of the
    /// [hints](crate::Builder::hints) whose table is being replaced, of 1024 buckets at most, and
    /// frees replaced tables. Changes of the trie do the same in passing, except that a replaced
    /// table may wait until the next one is replaced. While there are none, call this, or let a
    /// [`Worker`](memalloc::Worker) call it. Runs the callbacks of the domain that are due.
    ///
    /// ```
    /// use memalloc::Worker;
    /// use qptrie::QpTrie;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let trie = Arc::new(QpTrie::new()?);
    /// trie.pin().insert("key", 1)?;
    /// let worker = Worker::every(Duration::from_millis(10)).tend_with(&trie, QpTrie::tend).start()?;
    /// # drop(worker);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "irq_work")]
    pub fn tend(&self) {
        self.nodes.branches.tend();
        self.nodes.leaves.tend();
        self.settle_hints(BUCKETS_AT_ONCE, false);
    }

    /// Returns unused nodes to their slabs and empty slabs to the system without waiting for
    /// readers, and replaces a table of [hints](crate::Builder::hints) that has become too large;
    /// moving all of its hints takes longer the more entries there are.
    /// Free nodes in the caches of CPUs stay there. [`quiesce`](Self::quiesce) returns all unused
    /// memory, but waits.
    pub fn trim(&self) -> Reclaimed {
        let reclaimed = together(self.nodes.branches.trim(), self.nodes.leaves.trim());
        self.settle_hints(u64::MAX, true);
        reclaimed
    }

    /// Replaces a table of hints that has the wrong size, moves the hints of this many buckets of
    /// the former one, and frees former tables that no reader can use any more.
    fn settle_hints(&self, mut buckets: u64, may_shrink: bool) {
        let nodes = &self.nodes;
        let mut move_some = || {
            // A section for each bucket, so that grace periods don't wait for all of them.
            let _section = self.domain.pin();
            let moved = buckets > 0 && nodes.hints.are_moving() && move_hints(nodes);
            buckets -= u64::from(moved);
            moved
        };
        // Before the table is replaced: hints in a former table would be lost.
        while move_some() {}
        nodes.fit_hints(may_shrink);
        while move_some() {}
    }

    /// Waits for readers until no removed node and no replaced table of
    /// [hints](crate::Builder::hints) is pending, and returns unused memory to the system.
    ///
    /// If values have destructors, it does not return while other threads keep replacing and
    /// removing values, as [`MemAlloc::quiesce`](memalloc::MemAlloc::quiesce) says.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] if the calling thread is inside a read section of
    /// the domain.
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        let branches = self.nodes.branches.quiesce()?;
        let leaves = self.nodes.leaves.quiesce()?;
        self.settle_hints(u64::MAX, true);
        // Other threads may have taken a table out meanwhile, and replaced one.
        for _ in 0..2 {
            if self.nodes.hints.have_replaced() {
                self.domain.synchronize()?;
                self.settle_hints(u64::MAX, true);
            }
        }
        Ok(together(branches, leaves))
    }

    /// Returns the current statistics of the trie.
    #[must_use]
    pub fn stats(&self) -> TrieStats {
        TrieStats {
            entries: self.nodes.entries.sum(),
            retries: self.counters.retries.load(Ordering::Relaxed),
            insisted: self.counters.insisted.load(Ordering::Relaxed),
        }
    }

    /// Returns the number of bytes of slab memory that branches and leaves have touched and not
    /// returned to the system, plus the size of the trie itself, its roots and its hints. This is
    /// [`MemoryUsage::total_bytes`] without the tables of the allocators, and takes only two locks.
    #[must_use]
    pub fn backing_bytes(&self) -> u64 {
        let slabs = self.nodes.branches.backing_bytes() + self.nodes.leaves.backing_bytes();
        slabs + self.root_bytes() + self.hint_bytes()
    }

    /// Returns the memory usage of the trie, down to the byte. Reads the caches of every CPU and
    /// every slab, so it is not cheap.
    #[must_use]
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage {
            branches: self.nodes.branches.stats(),
            leaves: self.nodes.leaves.stats(),
            root_bytes: self.root_bytes(),
            hint_bytes: self.hint_bytes(),
        }
    }

    fn hint_bytes(&self) -> u64 {
        // A table found inside a section is not freed before the section ends.
        let _section = self.domain.pin();
        self.nodes.hints.bytes()
    }

    fn root_bytes(&self) -> u64 {
        size_of::<Self>() as u64 + self.nodes.roots.bytes() + self.nodes.entries.bytes()
    }
}

/// Adds up what two allocators returned.
fn together(mut all: Reclaimed, others: Reclaimed) -> Reclaimed {
    all.objects += others.objects;
    all.bytes += others.bytes;
    all.released_bytes += others.released_bytes;
    all
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Returns a histogram of leaf depth: element `i` counts the entries with `i` branches above
    /// them, and the last element is not zero. A lookup of an entry takes as many steps as branches
    /// are above it.
    ///
    /// Scans all entries, at the cost of [`iter`](Self::iter), and while other threads write counts
    /// the entries that a scan returns.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// let trie = QpTrie::<u32>::from([("a", 1), ("b", 2), ("ba", 3), ("bad", 4)]);
    /// // `a` is alone; one branch separates `b` from `ba` and `bad`, another separates these two.
    /// assert_eq!(trie.pin().depth_histogram(), [1, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn depth_histogram(&self) -> Vec<u64> {
        let (mut walk, mut histogram) = (Walk::<Ascending>::lost(), Vec::new());
        let mut leaf = self.seek(&mut walk, Unbounded);
        while let Some(found) = leaf {
            let depth = walk.depth();
            if histogram.len() <= depth {
                histogram.resize(depth + 1, 0);
            }
            histogram[depth] += 1;
            // SAFETY: the walk found the leaf inside the section.
            leaf = self.step(&mut walk, || Excluded(unsafe { self.entry(found) }.0));
        }
        histogram
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Hints;
    use memalloc::rcu::Domain;
    use memalloc::{AfterRcuGp, Immediate};

    fn keys(numbers: std::ops::Range<u64>) -> impl Iterator<Item = String> + Clone {
        numbers.map(|number| format!("{:x}/{number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn most_keys_keep_their_hints<L: ReusePolicy>() {
        const KEYS: u64 = 20_000;
        const LEFT: u64 = 2_000;
        let builder = QpTrie::<u64, Immediate, L>::builder();
        let trie = builder.domain(Domain::new()).hints(Hints::On).build().expect("a trie");
        let hinted = |count| {
            let view = trie.pin();
            let hints = &trie.nodes.hints;
            let is_hinted = |key: &String| {
                view.find_hinted(key.as_bytes(), hints.for_lookup(key.as_bytes())).is_some()
            };
            keys(0..count).filter(is_hinted).count() as u64
        };
        for key in keys(0..KEYS) {
            trie.pin().insert_copied(&key, 0).expect("memory");
        }
        assert!(hinted(KEYS) >= KEYS * 9 / 10, "{} of {KEYS}, grown", hinted(KEYS));
        let before = hinted(LEFT);
        for key in keys(LEFT..KEYS) {
            trie.pin().remove_copied(&key).expect("it was inserted");
        }
        trie.quiesce().expect("outside of sections");
        assert!(hinted(LEFT) >= before * 9 / 10, "{} of {before}, shrunk", hinted(LEFT));
        assert!(!trie.nodes.hints.have_replaced(), "no table is left");
    }

    /// Creates a trie, and lets it replace its table of hints. Returns the number of buckets that
    /// have to be moved, too.
    fn moving(keys_in_it: u64) -> (QpTrie<u64>, u64) {
        let builder = QpTrie::builder().domain(Domain::new()).hints(Hints::On);
        let trie = builder.build().expect("a trie");
        for key in keys(0..keys_in_it) {
            trie.pin().insert(&key, 0).expect("memory");
        }
        trie.quiesce().expect("outside of sections");
        let buckets = trie.hint_bytes() / 64 - 2;
        trie.nodes.hints.fit(&trie.domain, || 100 * keys_in_it, false);
        (trie, buckets)
    }

    #[test]
    fn lookups_of_present_keys_move_all_hints_and_of_absent_keys_too_but_seldom_some() {
        const KEYS: u64 = 1_000;
        let absent = KEYS..2 * KEYS;
        for (numbers, present, least) in [(0..KEYS, Some(&0), 1), (absent, None, 64 / 4)] {
            let (trie, buckets) = moving(KEYS);
            let calls = keys(numbers).cycle().take_while(|key| {
                assert_eq!(trie.pin().get(key), present);
                trie.nodes.hints.are_moving()
            });
            let calls = calls.count() as u64;
            assert!(calls >= least * buckets, "{calls} lookups moved {buckets} buckets");
        }
    }

    #[test]
    fn tend_moves_a_part_of_the_hints_and_trim_the_rest() {
        let (trie, buckets) = moving(40_000);
        assert!(buckets > 2 * BUCKETS_AT_ONCE);
        trie.tend();
        trie.tend();
        assert!(trie.nodes.hints.are_moving(), "two calls do not move all");
        trie.trim();
        assert!(!trie.nodes.hints.are_moving());
    }

    #[test]
    fn most_keys_keep_their_hints_while_the_table_grows_and_shrinks() {
        most_keys_keep_their_hints::<AfterRcuGp>();
        most_keys_keep_their_hints::<Immediate>();
    }
}
