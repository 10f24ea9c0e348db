//! One key, from the root to its leaf.

use crate::node::{Node, Nodes, Twig, bit_at};
use memalloc::sync::{AtomicU32, Ordering, fence};
use memalloc::{Handle, ProtectsIdentity, ReusePolicy};

/// Something changed on the way; what was read so far means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retry;

/// A branch that a reader stands on: where it is, and the count that it had when it was linked.
/// Under a policy that protects identity there is nothing to validate, and every check below is
/// compiled to nothing.
#[derive(Clone, Copy)]
struct Footing {
    branch: Handle,
    count: u32,
}

impl Footing {
    /// Steps 1 to 3: stands on `branch`, which `slot` of `parent` named.
    #[inline(always)]
    fn enter<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
        nodes: &Nodes<V, B, L>,
        branch: Handle,
        (slot, twig): (&AtomicU32, Twig),
        parent: Option<Self>,
    ) -> Result<Self, Retry> {
        if B::PROTECTS_IDENTITY {
            return Ok(Self { branch, count: 0 });
        }
        // ORDERING: pairs with the Release store of the count in `new_branch`: who sees this
        // life's count sees its shape and twigs. Falls to `loom_protocol` "first count relaxed".
        let count = nodes.count(branch).load(Ordering::Acquire);
        if count % 2 == 1 {
            return Err(Retry);
        }
        if !nodes.faults.slot_not_reread() && Twig::load(slot, Ordering::Relaxed) != twig {
            return Err(Retry);
        }
        if let Some(parent) = parent
            && !nodes.faults.parent_not_reread()
        {
            parent.confirm(nodes)?;
        }
        Ok(Self { branch, count })
    }

    /// Step 5, and step 3 of the next branch: everything read from the branch so far was its
    /// own.
    #[inline(always)]
    fn confirm<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        if B::PROTECTS_IDENTITY {
            return Ok(());
        }
        // ORDERING: pairs with the Release fences in `new_branch` and `free_branch`. If what
        // this thread read before the fence came from a later life, the load below sees a later
        // count; if it sees the same count, all of it was read from this life. Also hands over
        // the leaf that a twig named (see `Twig::publish`). Falls to `loom_protocol` "fence
        // before the last count removed".
        fence(Ordering::Acquire);
        let count = nodes.count(self.branch).load(Ordering::Relaxed);
        if count == self.count { Ok(()) } else { Err(Retry) }
    }
}

/// Loads a slot of a branch that the reader stands on.
#[inline(always)]
fn follow<B: ReusePolicy>(slot: &AtomicU32) -> Twig {
    // ORDERING: pairs with `Twig::publish`. A validating reader leaves the ordering to the fence
    // of its next check; a plain one has no other. Falls to `loom`
    // `a_plain_reader_finds_a_key_that_is_always_there`.
    let ordering = if B::PROTECTS_IDENTITY { Ordering::Acquire } else { Ordering::Relaxed };
    Twig::load(slot, ordering)
}

/// The leaf of `key` below `root`, if there is one.
///
/// The caller is inside a read section. Under the lock of the subtree it never asks to retry.
#[inline]
pub(crate) fn find<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
    nodes: &Nodes<V, B, L>,
    root: &AtomicU32,
    key: &[u8],
) -> Result<Option<Handle>, Retry> {
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
pub(crate) fn closest_leaf<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
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
