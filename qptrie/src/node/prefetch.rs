//! Prefetching of nodes.

use super::{Node, Nodes};
use memalloc::{ReusePolicy, UNIT};

/// The offset of the last unit in 64 bytes.
const LAST: usize = 64 - UNIT;

/// Prefetches the cache line at `place`. The program does not read it.
#[inline(always)]
pub(super) fn line(place: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = place;
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// Prefetches a node; does nothing on processors other than x86-64. The twig that named it
    /// need not be validated: nothing is read.
    #[inline(always)]
    pub(crate) fn prefetch(&self, node: Node) {
        self.prefetch_at(node, [0]);
    }

    /// Prefetches the first 64 bytes of a node: two cache lines, unless the node begins at a line
    /// boundary. The rest of the node is not prefetched.
    #[inline(always)]
    pub(crate) fn prefetch_both_lines(&self, node: Node) {
        self.prefetch_at(node, [0, LAST]);
    }

    #[inline(always)]
    fn prefetch_at<const N: usize>(&self, node: Node, offsets: [usize; N]) {
        // A model refuses addresses outside of its memory, and a twig that was not validated may
        // lead there.
        if cfg!(loom) {
            return;
        }
        let place = match node {
            Node::Nothing => return,
            Node::Branch(branch) => self.branches.pointer(branch),
            Node::Leaf(leaf) => self.leaves.pointer(leaf),
        };
        for offset in offsets {
            line(place.as_ptr().wrapping_add(offset));
        }
    }
}
