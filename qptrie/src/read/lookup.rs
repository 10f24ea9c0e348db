//! One key, from the root to its leaf.

use super::footing::{Footing, follow};
use crate::node::{Node, Nodes, Retry, Twig, bit_at};
use memalloc::sync::Ordering;
use memalloc::{Handle, ReusePolicy};

/// The leaf of `key`, if there is one.
///
/// The caller is inside a read section.
#[inline]
pub(crate) fn find<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
    let mut slot = nodes.roots.of(key).slot();
    // ORDERING: pairs with `Twig::publish`: a root has no count whose check would order it.
    // Falls to `loom` `a_lone_leaf_arrives_whole`.
    let mut twig = Twig::load(slot, Ordering::Acquire);
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
        let footing = Footing::enter::<false, V, B, L>(nodes, branch, (slot, twig), parent)?;
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
