//! Asking for memory before it is needed.

use super::{Node, Nodes, Twig};
use memalloc::{ReusePolicy, UNIT};

/// Where the last unit of 64 bytes begins.
const LAST: usize = 64 - UNIT;

/// Starts to bring the line at `place` into the cache; nothing is read.
#[inline(always)]
pub(super) fn line(place: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction belongs to the architecture's first version, and takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = place;
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// Starts to bring what `twig` names into the cache; on processors whose instruction for it is
    /// not known here, does nothing. The twig need not be validated: nothing is read.
    #[inline(always)]
    pub(crate) fn prefetch(&self, twig: Twig) {
        self.prefetch_at(twig, [0]);
    }

    /// The same for all of its first 64 bytes: two lines of the cache, unless it begins with one.
    /// What lies further on is waited for.
    #[inline(always)]
    pub(crate) fn prefetch_both_lines(&self, twig: Twig) {
        self.prefetch_at(twig, [0, LAST]);
    }

    #[inline(always)]
    fn prefetch_at<const N: usize>(&self, twig: Twig, offsets: [usize; N]) {
        let place = match twig.node() {
            Node::Nothing => return,
            Node::Branch(branch) => self.branches.pointer(branch),
            Node::Leaf(leaf) => self.leaves.pointer(leaf),
        };
        for offset in offsets {
            line(place.as_ptr().wrapping_add(offset));
        }
    }
}
