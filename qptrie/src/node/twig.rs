//! The 32-bit name of a branch or a leaf.

use memalloc::Handle;
use memalloc::sync::{AtomicU32, Ordering};

/// The content of a slot: nothing, a branch, or a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twig(u32);

/// A decoded twig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Nothing,
    Branch(Handle),
    Leaf(Handle),
}

const LEAF: u32 = 1 << 31;

impl Twig {
    pub(crate) const NOTHING: Self = Self(0);

    pub(crate) fn branch(branch: Handle) -> Self {
        debug_assert!(branch.get() < LEAF);
        Self(branch.get())
    }

    pub(crate) fn leaf(leaf: Handle) -> Self {
        debug_assert!(leaf.get() < LEAF);
        Self(leaf.get() | LEAF)
    }

    #[inline(always)]
    pub(crate) fn node(self) -> Node {
        match Handle::new(self.0 & !LEAF) {
            None => Node::Nothing,
            Some(leaf) if self.0 & LEAF != 0 => Node::Leaf(leaf),
            Some(branch) => Node::Branch(branch),
        }
    }

    #[inline(always)]
    pub(crate) fn load(slot: &AtomicU32, ordering: Ordering) -> Self {
        Self(slot.load(ordering))
    }

    /// Makes a node reachable, in place of the slot's previous content.
    pub(crate) fn publish(self, slot: &AtomicU32) {
        // ORDERING: Release pairs with the reader's Acquire load of the slot (plain readers), or
        // its Acquire fence after a Relaxed load (validating readers): a reader that sees the twig
        // sees the node that it names. Falls to `loom_protocol` "publish relaxed, leaf" and
        // "publish relaxed, branch".
        slot.store(self.0, Ordering::Release);
    }

    /// Fills a slot of a branch that is not published yet.
    pub(crate) fn place(self, slot: &AtomicU32) {
        slot.store(self.0, Ordering::Relaxed);
    }
}
