//! What a trie costs, and how deep it is.

use super::trie::QpTrie;
use super::view::TrieRef;
use crate::read::{Ascending, Walk};
use memalloc::{ProtectsIdentity, ReusePolicy, Stats};
use std::ops::Bound::{Excluded, Unbounded};

/// What [`QpTrie::memory_usage`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// The allocator of the branches.
    pub branches: Stats,
    /// The allocator of the leaves.
    pub leaves: Stats,
    /// The trie itself, its table of roots and its counts, in bytes.
    pub root_bytes: u64,
    /// The table of hints, and those that were replaced and may still be looked at, in bytes.
    pub hint_bytes: u64,
}

impl MemoryUsage {
    /// All of it: slab memory that was touched, used or not; the allocators' tables, which are the
    /// caches of every CPU, batches, and which objects are in which slab; the roots; the hints. Not what
    /// values point to, nor the domain, which others may share; nor what [`Stats::backing_bytes`]
    /// leaves out.
    pub fn total_bytes(&self) -> u64 {
        self.slab_bytes() + self.table_bytes()
    }

    /// Of it the slab memory: what grows with the entries.
    pub fn slab_bytes(&self) -> u64 {
        self.branches.backing_bytes + self.leaves.backing_bytes
    }

    /// Of it what is beside the slabs.
    pub fn table_bytes(&self) -> u64 {
        self.branches.table_bytes + self.leaves.table_bytes + self.root_bytes + self.hint_bytes
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Bytes of slab memory that branches and leaves have touched and not given back, and of the
    /// trie itself, its roots and its hints: [`MemoryUsage::total_bytes`] without the allocators' tables, at
    /// the cost of two locks.
    pub fn backing_bytes(&self) -> u64 {
        let slabs = self.nodes.branches.backing_bytes() + self.nodes.leaves.backing_bytes();
        slabs + self.root_bytes() + self.hint_bytes()
    }

    /// Where the memory of the trie is, every byte of it. Looks at the caches of every CPU and at
    /// every slab, so it is not cheap.
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage {
            branches: self.nodes.branches.stats(),
            leaves: self.nodes.leaves.stats(),
            root_bytes: self.root_bytes(),
            hint_bytes: self.hint_bytes(),
        }
    }

    fn hint_bytes(&self) -> u64 {
        // A table that is found is not freed meanwhile.
        let _section = self.domain.pin();
        self.nodes.hints.bytes()
    }

    fn root_bytes(&self) -> u64 {
        size_of::<Self>() as u64 + self.nodes.roots.bytes() + self.nodes.entries.bytes()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// How many entries there are below so many branches: element 0 counts those that hang on a
    /// root, element 1 those on a branch below it, and so on; no zeros at the end. A lookup takes as
    /// many steps.
    ///
    /// Goes through all entries, at the cost of [`iter`](Self::iter), and beside writers sees what
    /// that sees.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// let trie = QpTrie::<u32>::from([("a", 1), ("b", 2), ("ba", 3), ("bad", 4)]);
    /// // `a` is alone; `b` parts from what it begins, and these from each other where `ba` ends.
    /// assert_eq!(trie.pin().depth_histogram(), [1, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
