//! Finds the slot of a leaf that a hint led to, without a walk: through the leaf's parent.
//!
//! ```text
//!  hint ──► leaf f: linked, and the key's          (QPT-V5: f stays this leaf until the section ends)
//!             │ parent (QPT-N9)
//!             ▼
//!           branch p ──► the slot of the key's symbol
//!
//!    1  s := p.count                     odd or zero: walk
//!    2  which slot has the key's twig?   p has no way for it: walk
//!    3  p.count still s?                 no: the header may be torn: walk
//!    4  lock p in life s                 p is in another life: walk
//!    5  the slot names f?                no: walk
//!    6  replace f
//! ```
//!
//! - QPT-W7: the holder of the lock of a branch in one of its lives knows that the branch is
//!   linked: a branch is created locked, and its lock is first released after it was published; its
//!   life ends under its lock. (A branch that is given up before it was published ends its life
//!   too, without releasing its lock.) So after step 5, a slot of a linked branch names `f`. It is
//!   the only slot that does, and no other writer changes it before step 6 is done (QPT-W3). The
//!   way in which the writer found `p` does not matter.
//!
//! `p` is a guess of any age. Its memory may be another branch, in a later life: then step 4 or 5
//! fails. It may be about to become one: while its twigs are filled in, the count is odd, or zero
//! in memory that was never used or was returned to the system; and from then until it is
//! published, its count is even and locked, and step 4 waits. A branch whose first life has begun
//! is not in life zero.

use super::locate::{OwnedSlot, SlotOwner};
use super::replace::Named;
use crate::node::{Node, Nodes, Twig, symbol_at};
use crate::read::{LinkedBranch, LinkedLeaf};
use memalloc::ReusePolicy;
use memalloc::sync::Ordering;

/// Returns the slot of the leaf that a hint led to, if the leaf's parent still has it.
///
/// The caller is inside the section in which the leaf was found, and `key` is the leaf's key.
#[inline]
pub(crate) fn locate_by_parent<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
    at: LinkedLeaf,
) -> Option<Named<'t>> {
    debug_assert!(
        L::PROTECTS_IDENTITY,
        "other leaves are overwritten in place, without their slot"
    );
    let leaf = at.leaf;
    // SAFETY: the leaf was linked inside the section (QPT-V5), which keeps it (QPT-N3).
    let branch = unsafe { nodes.parent(leaf) }?;
    let at = LinkedBranch { branch, life: nodes.count(branch).life_at_any_age()? };
    let shape = nodes.shape(branch);
    let number = nodes.way(branch, shape, symbol_at(key, shape.index()))?;
    at.is_linked(nodes).ok()?;
    let (slot, node) = (nodes.slot(branch, number), Node::Leaf(leaf));
    // The check under the lock is the one that counts; this one is cheaper.
    if Twig::load(slot, Ordering::Relaxed).node() != node {
        return None;
    }
    let slot_at = OwnedSlot { owner: SlotOwner::Branch(at, number), slot, node };
    Some(Named { leaf, slot_at, by_parent: true })
}
