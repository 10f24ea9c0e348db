//! Replaces a leaf whose slot is known, from a walk (`locate`) or from the leaf (`by_parent`).

use super::locate::OwnedSlot;
use crate::node::{Locked, Nodes, Retry, Tag, Twig};
use memalloc::sync::Ordering;
use memalloc::{Handle, ReusePolicy};

/// A leaf, and the slot that named it.
#[derive(Clone, Copy)]
pub(crate) struct Named<'t> {
    pub(crate) leaf: Handle,
    pub(super) slot_at: OwnedSlot<'t>,
    /// True if the slot was found through the leaf's parent, not by a walk.
    pub(super) by_parent: bool,
}

impl<'t> Named<'t> {
    /// Replaces the leaf by `leaf`, which has the same key, and unlinks it.
    #[inline]
    pub(crate) fn replace<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
        leaf: Handle,
    ) -> Result<(), Retry> {
        let parent = self.slot_at.branch().map(|(branch, _)| branch);
        put_parent(nodes, leaf, parent);
        let _held = self.lock(nodes)?;
        if !nodes.faults.unmarked_late() {
            nodes.mark_unlinked(self.leaf);
        }
        let named = Twig::load(self.slot_at.slot, Ordering::Relaxed);
        let twig = if nodes.faults.tag_of_another_key() {
            Twig::leaf(leaf, Tag::of(b"another"))
        } else {
            named.replaced_by(leaf)
        };
        twig.publish(self.slot_at.slot);
        nodes.mark_linked(leaf);
        if nodes.faults.unmarked_late() {
            nodes.mark_unlinked(self.leaf);
        }
        Ok(())
    }

    /// Locks the owner of the slot, and checks that the slot still names the leaf. (`None` only in
    /// a model that omits the lock.)
    #[inline]
    fn lock<'n, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'n Nodes<V, B, L>,
    ) -> Result<Option<Locked<'n>>, Retry>
    where
        't: 'n,
    {
        if self.by_parent && nodes.faults.parent_unlocked() {
            return Ok(None);
        }
        let held = self.slot_at.lock(nodes);
        if self.by_parent && nodes.faults.parent_life_ignored() {
            let named = Twig::load(self.slot_at.slot, Ordering::Relaxed).node();
            let is_same = named == self.slot_at.node;
            return if is_same { Ok(held.ok()) } else { Err(Retry) };
        }
        held.map(Some)
    }
}

/// Stores the parent of a leaf that is about to be linked, and has not been.
pub(super) fn put_parent<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    leaf: Handle,
    parent: Option<Handle>,
) {
    // SAFETY: the leaf is not published (QPT-N9).
    unsafe { nodes.put_parent(leaf, parent) };
    if nodes.faults.marked_early() {
        nodes.mark_linked(leaf);
    }
}
