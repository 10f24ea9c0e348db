//! Asking for memory before it is needed.

use super::{Nodes, Twig};
use memalloc::ReusePolicy;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    /// Starts to bring what `twig` names into the cache; on processors whose instruction for it is
    /// not known here, does nothing. The twig need not be validated: nothing is read.
    #[inline(always)]
    pub(crate) fn prefetch(&self, twig: Twig) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            use super::Node;
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let place = match twig.node() {
                Node::Nothing => return,
                Node::Branch(branch) => self.branches.pointer(branch),
                Node::Leaf(leaf) => self.leaves.pointer(leaf),
            };
            // SAFETY: the instruction belongs to the architecture's first version, and takes any
            // address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.as_ptr().cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
        let _ = twig;
    }
}
