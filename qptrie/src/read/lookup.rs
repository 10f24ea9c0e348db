//! One key, from the root to its leaf.

use super::footing::{Footing, Retry, follow};
use crate::node::{Node, Nodes, Twig, bit_at};
use memalloc::sync::Ordering;
use memalloc::{Handle, ReusePolicy};

/// The leaf of `key`, if there is one.
///
/// The caller is inside a read section. Under the lock of the subtree it never asks to retry.
#[inline]
pub(crate) fn find<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    let root = nodes.roots.of(key);
    let mut slot = root;
    // ORDERING: pairs with `Twig::publish`: a root has no count whose check would order it.
    // Falls to `loom` `a_lone_leaf_arrives_whole`.
    let mut twig = Twig::load(root, Ordering::Acquire);
    let mut parent = None;
    loop {
        let branch = match twig.node() {
            Node::Nothing => return Ok(None),
            Node::Leaf(leaf) => {
                // SAFETY: the twig was confirmed, or is a root's; the caller's section keeps
                // the leaf (INV-N3).
                let found = unsafe { nodes.key(leaf) } == key;
                return Ok(found.then_some(leaf));
            }
            Node::Branch(branch) => branch,
        };
        let footing = Footing::enter(nodes, branch, (slot, twig), parent)?;
        let shape = nodes.shape(branch);
        let bit = bit_at(key, shape.index());
        if !shape.has(bit) {
            if !nodes.faults.unvalidated_absence() {
                footing.confirm(nodes)?;
            }
            return Ok(None);
        }
        slot = nodes.slot(branch, shape.position(bit));
        twig = follow::<B>(slot);
        if !nodes.faults.unvalidated_twig() {
            footing.confirm(nodes)?;
        }
        parent = Some(footing);
    }
}

/// Some leaf below `twig` that agrees with `key` as far as any does; `None` in an empty subtree.
///
/// The caller holds the lock of the subtree.
pub(crate) fn closest_leaf<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    mut twig: Twig,
    key: &[u8],
) -> Option<Handle> {
    loop {
        let branch = match twig.node() {
            Node::Nothing => return None,
            Node::Leaf(leaf) => return Some(leaf),
            Node::Branch(branch) => branch,
        };
        let shape = nodes.shape(branch);
        let bit = bit_at(key, shape.index());
        let at = |position| Twig::load(nodes.slot(branch, position), Ordering::Relaxed);
        let own = shape.has(bit).then(|| at(shape.position(bit)));
        // A hole (see `write`) is as good as no twig; two others are not holes.
        twig = own
            .into_iter()
            .chain((0..shape.len()).map(at))
            .find(|twig| *twig != Twig::NOTHING)
            .unwrap_or(Twig::NOTHING);
    }
}
