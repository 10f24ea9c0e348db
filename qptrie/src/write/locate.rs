//! Finds the place of a key, without a lock, in the same way as readers.
//!
//! A walk follows the key's own twigs, and where the key has none, any others, to a leaf. The
//! symbol in which that leaf's key differs from this one determines which branch on the path has
//! the place: all keys below a branch begin with the same symbols (QPT-N5), so they differ from the
//! key where that leaf does. Only the last two branches that the key's own twigs led to are kept,
//! so no heap memory is needed, however deep the place is. If the place is above these two, a
//! second walk finds it.

use crate::node::{Life, Locked, Node, Nodes, Retry, Root, Shape, Symbol, Twig, symbol_at};
use crate::read::{LeafAt, LinkedBranch, LinkedLeaf, follow};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};

/// The owner of a slot.
#[derive(Clone, Copy)]
pub(super) enum SlotOwner<'t> {
    Root(&'t Root),
    /// A branch, and the number of the slot.
    Branch(LinkedBranch, u16),
}

/// A slot, its owner and the node that it named, as they were read. They may be inconsistent;
/// `lock` checks them.
#[derive(Clone, Copy)]
pub(crate) struct OwnedSlot<'t> {
    pub(super) owner: SlotOwner<'t>,
    pub(super) slot: &'t AtomicU32,
    pub(super) node: Node,
}

impl<'t> OwnedSlot<'t> {
    /// Locks the owner of the slot, if it is still in the life in which it was found and the slot
    /// names the same node.
    pub(super) fn lock<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &'t Nodes<V, B, L>,
    ) -> Result<Locked<'t>, Retry> {
        let locked = match self.owner {
            SlotOwner::Root(root) => root.count(nodes.faults).lock(Life::ONLY)?,
            SlotOwner::Branch(at, _) => nodes.count(at.branch).lock(at.life)?,
        };
        if !nodes.faults.slot_not_checked_under_lock()
            && Twig::load(self.slot, Ordering::Relaxed).node() != self.node
        {
            return Err(Retry);
        }
        Ok(locked)
    }

    /// Returns the branch that the slot is in and the slot's number; `None` for a root.
    pub(super) fn branch(self) -> Option<(Handle, u16)> {
        match self.owner {
            SlotOwner::Root(_) => None,
            SlotOwner::Branch(at, number) => Some((at.branch, number)),
        }
    }
}

/// The place of a key: its leaf, or the slot that it would get.
pub(crate) enum Located<'t> {
    /// A leaf with exactly this key.
    Found(Found<'t>),
    /// No leaf has this key.
    Vacant(Vacant<'t>),
}

/// A leaf that was linked.
pub(crate) struct Found<'t> {
    pub(crate) leaf: Handle,
    /// The leaf's version when its key was read.
    pub(super) at: LinkedLeaf,
    pub(super) slot_at: OwnedSlot<'t>,
    /// The slot that names the leaf's branch, and the symbol of the leaf in that branch; `None` if
    /// the leaf is directly below a root.
    pub(super) above: Option<(OwnedSlot<'t>, Symbol)>,
}

/// A place for a new leaf.
pub(crate) enum Vacant<'t> {
    /// An empty root.
    Root(OwnedSlot<'t>),
    /// A branch that tests the symbol in which the key differs, and the slot that names the branch.
    Twig { above: OwnedSlot<'t>, at: LinkedBranch, new: Symbol },
    /// A slot above whose content a fork has to be inserted: all keys below it differ from the new
    /// key in symbol number `index`.
    Fork { slot_at: OwnedSlot<'t>, below: Below, index: u32, nearest: Symbol, new: Symbol },
}

/// The content of the slot where a fork is to be inserted, in the life or version in which the
/// common prefix of its keys was determined.
#[derive(Clone, Copy)]
pub(crate) enum Below {
    Branch(LinkedBranch),
    Leaf(LinkedLeaf),
}

impl Below {
    /// Returns true if it is unchanged. The caller holds the lock of the slot that names it.
    pub(super) fn is_same<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &Nodes<V, B, L>,
    ) -> bool {
        match self {
            Self::Branch(at) => {
                nodes.faults.life_not_checked_under_lock() || nodes.count(at.branch).is_in(at.life)
            }
            Self::Leaf(at) => nodes.faults.leaf_not_checked_under_lock() || at.is_same(nodes),
        }
    }
}

/// Finds the place of `key`. Needs no memory.
///
/// The caller is inside a read section. To change something at the place, a writer locks it first;
/// locking fails if the place has changed.
pub(crate) fn locate<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
) -> Result<Located<'t>, Retry> {
    let mut parts_at = None;
    loop {
        let (path, reached) = Path::walk(nodes, key, parts_at)?;
        let Some(reached) = reached else {
            return Ok(Located::Vacant(Vacant::Root(path.slot_below(
                nodes,
                None,
                Node::Nothing,
            )?)));
        };
        let (parting, leaf_at) = reached.parting(nodes, key)?;
        if parts_at.is_some() && parts_at != parting.map(|(index, _)| index) {
            // This leaf is not the one that the first walk found.
            return Err(Retry);
        }
        let leaf = reached.leaf;
        let Some((index, nearest)) = parting else {
            let above = match path.last {
                Some(last) => Some((path.slot_of_last(nodes, last)?, symbol_at(key, last.index))),
                None => None,
            };
            let slot_at = path.slot_below(nodes, path.last, Node::Leaf(leaf))?;
            return Ok(Located::Found(Found { leaf, at: leaf_at, slot_at, above }));
        };
        if path.above.is_some_and(|above| above.index >= index) {
            parts_at = Some(index);
            continue;
        }
        let new = symbol_at(key, index);
        let (slot_at, below) = match path.last {
            Some(last) if last.index == index => {
                let above = path.slot_of_last(nodes, last)?;
                return Ok(Located::Vacant(Vacant::Twig { above, at: last.at, new }));
            }
            Some(last) if last.index > index => {
                (path.slot_of_last(nodes, last)?, Below::Branch(last.at))
            }
            last => (path.slot_below(nodes, last, Node::Leaf(leaf))?, Below::Leaf(leaf_at)),
        };
        return Ok(Located::Vacant(Vacant::Fork { slot_at, below, index, nearest, new }));
    }
}

/// A branch on the path.
#[derive(Clone, Copy)]
struct PathStep {
    at: LinkedBranch,
    /// The index of the symbol that the branch tests.
    index: u32,
    /// The number of the slot of the key's own twig; `None` if the branch has no way for it.
    slot: Option<u16>,
}

/// The number of further twigs to examine in search of a leaf, if any leaf will do.
const NEAR: usize = 8;

/// A path from the root that follows the key's own twigs as far as there are any.
struct Path<'t> {
    root: &'t Root,
    /// The last branch on the path.
    last: Option<PathStep>,
    /// The branch before the last one.
    above: Option<PathStep>,
}

impl<'t> Path<'t> {
    /// Goes down to a leaf; `None` if the root is empty. The path ends at the first branch that has
    /// no twig for the key, or that tests symbol number `until` or a later one: below it, any leaf
    /// will do.
    #[inline(always)]
    fn walk<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
        until: Option<u32>,
    ) -> Result<(Self, Option<LeafAt<'t>>), Retry> {
        let root = nodes.roots.of(key);
        let mut path = Self { root, last: None, above: None };
        let mut slot = root.slot();
        // ORDERING: pairs with `Twig::publish`, as in `find`. Falls to `loom`
        // `two_leaves_arrive_at_an_empty_root`.
        let mut twig = Twig::load(slot, Ordering::Acquire);
        loop {
            let parent = path.last.map(|last| last.at);
            let branch = match twig.node() {
                Node::Nothing => return Ok((path, None)),
                Node::Leaf(leaf) => return Ok((path, Some(LeafAt { leaf, slot, parent }))),
                Node::Branch(branch) => branch,
            };
            let at = LinkedBranch::enter::<true, V, B, L>(nodes, branch, (slot, twig), parent)?;
            let shape = nodes.shape(branch);
            let own = nodes.way(branch, shape, symbol_at(key, shape.index()));
            at.confirm(nodes)?;
            path.above = path.last.replace(PathStep { at, index: shape.index(), slot: own });
            if let Some(own) = own
                && until.is_none_or(|until| shape.index() < until)
            {
                slot = nodes.slot(branch, own);
                twig = follow::<B>(slot);
                at.confirm(nodes)?;
                // A hole counts as no twig.
                if twig != Twig::NOTHING {
                    continue;
                }
            }
            return Ok((path, Some(some_leaf(nodes, at, shape)?)));
        }
    }

    /// Returns the slot that names the last step.
    fn slot_of_last<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        last: PathStep,
    ) -> Result<OwnedSlot<'t>, Retry> {
        self.slot_below(nodes, self.above, Node::Branch(last.at.branch))
    }

    /// Returns the slot of the key's own twig at a step, or the slot of the root, with the
    /// node that it is expected to name. Fails if the step has no such slot: then what was read is
    /// inconsistent.
    fn slot_below<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        step: Option<PathStep>,
        node: Node,
    ) -> Result<OwnedSlot<'t>, Retry> {
        let Some(PathStep { at, slot, .. }) = step else {
            return Ok(OwnedSlot {
                owner: SlotOwner::Root(self.root),
                slot: self.root.slot(),
                node,
            });
        };
        let number = slot.ok_or(Retry)?;
        let slot = nodes.slot(at.branch, number);
        Ok(OwnedSlot { owner: SlotOwner::Branch(at, number), slot, node })
    }
}

/// Returns a leaf below a branch: one of the branch's own, if one is near.
#[inline(never)]
fn some_leaf<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    mut at: LinkedBranch,
    mut shape: Shape,
) -> Result<LeafAt<'t>, Retry> {
    loop {
        let slots = nodes.slots(at.branch, shape);
        at.confirm(nodes)?;
        let look = |slot| {
            let slot = nodes.slot(at.branch, slot);
            (slot, follow::<B>(slot))
        };
        let mut twigs = slots.map(look).filter(|(_, twig)| *twig != Twig::NOTHING);
        let first = twigs.next().ok_or(Retry)?;
        let is_leaf = |(_, twig): &(_, Twig)| matches!(twig.node(), Node::Leaf(_));
        let mut near = std::iter::once(first).chain(twigs.take(NEAR));
        let (slot, twig) = near.find(is_leaf).unwrap_or(first);
        at.confirm(nodes)?;
        match twig.node() {
            Node::Nothing => return Err(Retry),
            Node::Leaf(leaf) => return Ok(LeafAt { leaf, slot, parent: Some(at) }),
            Node::Branch(branch) => {
                at = LinkedBranch::enter::<true, V, B, L>(nodes, branch, (slot, twig), Some(at))?;
                shape = nodes.shape(branch);
            }
        }
    }
}
