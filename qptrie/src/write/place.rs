//! Where a key is, or would be: found without a lock, as readers find it.
//!
//! A way down follows the key's own twigs, and where there is none any others, to a leaf. Where its key
//! and this one part says which of the branches on the way has the place: all keys below a branch begin
//! with the same symbols (INV-N5), so they part from the key where that leaf does. Only the last two
//! branches that the key's own twigs led to are kept, so that the heap is not needed however deep the
//! place is; where it is further up than these, a second way finds it.

use crate::node::{Life, Locked, Node, Nodes, Retry, Root, Shape, Symbol, Twig, symbol_at};
use crate::read::{Footing, LeafFooting, Reached, follow};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};

/// What has a slot.
#[derive(Clone, Copy)]
enum Holder<'t> {
    Root(&'t Root),
    /// And the number of the slot.
    Branch(Footing, u16),
}

/// A slot, who has it, and what it holds, if what was found belongs together: `lock` looks.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'t> {
    holder: Holder<'t>,
    pub(super) slot: &'t AtomicU32,
    pub(super) twig: Twig,
}

impl<'t> Spot<'t> {
    /// Locks what has the slot, if it is in the life in which it was found and the slot still
    /// holds the same.
    pub(super) fn lock<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        self,
        nodes: &'t Nodes<V, B, L>,
    ) -> Result<Locked<'t>, Retry> {
        let locked = match self.holder {
            Holder::Root(root) => root.count(nodes.faults).lock(Life::ONLY)?,
            Holder::Branch(at, _) => nodes.count(at.branch).lock(at.life)?,
        };
        if !nodes.faults.slot_not_checked_under_lock()
            && Twig::load(self.slot, Ordering::Relaxed) != self.twig
        {
            return Err(Retry);
        }
        Ok(locked)
    }

    /// The branch that the slot is in, and the slot's number; none for a root.
    pub(super) fn branch(self) -> Option<(Handle, u16)> {
        match self.holder {
            Holder::Root(_) => None,
            Holder::Branch(at, number) => Some((at.branch, number)),
        }
    }
}

/// Where a key is, or where it would be.
pub(crate) enum Place<'t> {
    /// A leaf with this very key.
    Found(Found<'t>),
    /// No such leaf.
    Vacant(Vacant<'t>),
}

/// A leaf that was in the trie.
pub(crate) struct Found<'t> {
    pub(crate) leaf: Handle,
    /// What the leaf was when its key was read.
    pub(super) at: LeafFooting,
    pub(super) spot: Spot<'t>,
    /// The slot that names the branch that the leaf hangs on, and the symbol by which it does; none
    /// where it hangs on a root.
    pub(super) above: Option<(Spot<'t>, Symbol)>,
}

/// A place for a leaf.
pub(crate) enum Vacant<'t> {
    /// An empty root.
    Root(Spot<'t>),
    /// A branch that tests the right symbol, and the slot that names it.
    Twig { above: Spot<'t>, at: Footing, new: Symbol },
    /// Above what a slot holds, where all that is below it parts from the new key.
    Fork { spot: Spot<'t>, below: Below, index: u32, nearest: Symbol, new: Symbol },
}

/// What hangs on the slot of a fork that is to be, as it was when its keys' common beginning was
/// known.
#[derive(Clone, Copy)]
pub(crate) enum Below {
    Branch(Footing),
    Leaf(LeafFooting),
}

impl Below {
    /// Whether it is the same still. The caller holds the lock of the slot, which names it.
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
/// The caller is inside a read section. Whoever changes something there locks first, which fails
/// where it is not as it was found.
pub(crate) fn locate<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
) -> Result<Place<'t>, Retry> {
    let mut parts_at = None;
    loop {
        let (way, reached) = Way::walk(nodes, key, parts_at)?;
        let Some(reached) = reached else {
            return Ok(Place::Vacant(Vacant::Root(way.slot_below(nodes, None, Twig::NOTHING)?)));
        };
        let (parting, leaf_at) = reached.parting(nodes, key)?;
        if parts_at.is_some() && parts_at != parting.map(|(index, _)| index) {
            // Another leaf than that of the first way.
            return Err(Retry);
        }
        let leaf = reached.leaf;
        let Some((index, nearest)) = parting else {
            let above = match way.last {
                Some(last) => Some((way.slot_of_last(nodes, last)?, symbol_at(key, last.index))),
                None => None,
            };
            let spot = way.slot_below(nodes, way.last, Twig::leaf(leaf))?;
            return Ok(Place::Found(Found { leaf, at: leaf_at, spot, above }));
        };
        if way.above.is_some_and(|above| above.index >= index) {
            parts_at = Some(index);
            continue;
        }
        let new = symbol_at(key, index);
        let (spot, below) = match way.last {
            Some(last) if last.index == index => {
                let above = way.slot_of_last(nodes, last)?;
                return Ok(Place::Vacant(Vacant::Twig { above, at: last.at, new }));
            }
            Some(last) if last.index > index => {
                (way.slot_of_last(nodes, last)?, Below::Branch(last.at))
            }
            last => (way.slot_below(nodes, last, Twig::leaf(leaf))?, Below::Leaf(leaf_at)),
        };
        return Ok(Place::Vacant(Vacant::Fork { spot, below, index, nearest, new }));
    }
}

/// A branch on the way.
#[derive(Clone, Copy)]
struct Stop {
    at: Footing,
    /// The symbol that it tests.
    index: u32,
    /// The number of the slot of the key's own twig.
    slot: Option<u16>,
}

/// How many further twigs are looked at in search of a leaf, where any will do.
const NEAR: usize = 8;

/// A way from the root, by the key's own twigs as far as there are any.
struct Way<'t> {
    root: &'t Root,
    /// The last branch, and the one above it.
    last: Option<Stop>,
    above: Option<Stop>,
}

impl<'t> Way<'t> {
    /// Goes down to a leaf; none when the root is empty. The way ends at the first branch that has no
    /// twig of the key, or that tests symbol number `until` or a later one: below it, any leaf will do.
    #[inline(always)]
    fn walk<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
        until: Option<u32>,
    ) -> Result<(Self, Option<Reached<'t>>), Retry> {
        let root = nodes.roots.of(key);
        let mut way = Self { root, last: None, above: None };
        let mut slot = root.slot();
        // ORDERING: pairs with `Twig::publish`, as in `find`.
        let mut twig = Twig::load(slot, Ordering::Acquire);
        loop {
            let parent = way.last.map(|last| last.at);
            let branch = match twig.node() {
                Node::Nothing => return Ok((way, None)),
                Node::Leaf(leaf) => return Ok((way, Some(Reached { leaf, slot, parent }))),
                Node::Branch(branch) => branch,
            };
            let at = Footing::enter::<true, V, B, L>(nodes, branch, (slot, twig), parent)?;
            let shape = nodes.shape(branch);
            let own = nodes.way(branch, shape, symbol_at(key, shape.index()));
            at.confirm(nodes)?;
            way.above = way.last.replace(Stop { at, index: shape.index(), slot: own });
            if let Some(own) = own
                && until.is_none_or(|until| shape.index() < until)
            {
                slot = nodes.slot(branch, own);
                twig = follow::<B>(slot);
                at.confirm(nodes)?;
                // A hole is as good as no twig.
                if twig != Twig::NOTHING {
                    continue;
                }
            }
            return Ok((way, Some(some_leaf(nodes, at, shape)?)));
        }
    }

    /// The slot that names the last stop.
    fn slot_of_last<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        last: Stop,
    ) -> Result<Spot<'t>, Retry> {
        self.slot_below(nodes, self.above, Twig::branch(last.at.branch))
    }

    /// The slot of the key's own twig of a stop, or that of the root; and what it has to hold. Where the
    /// stop has none, what was found does not belong together.
    fn slot_below<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        stop: Option<Stop>,
        twig: Twig,
    ) -> Result<Spot<'t>, Retry> {
        let Some(Stop { at, slot, .. }) = stop else {
            return Ok(Spot { holder: Holder::Root(self.root), slot: self.root.slot(), twig });
        };
        let number = slot.ok_or(Retry)?;
        let slot = nodes.slot(at.branch, number);
        Ok(Spot { holder: Holder::Branch(at, number), slot, twig })
    }
}

/// A leaf below a branch: one of its own, where one is near.
#[inline(never)]
fn some_leaf<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    mut at: Footing,
    mut shape: Shape,
) -> Result<Reached<'t>, Retry> {
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
            Node::Leaf(leaf) => return Ok(Reached { leaf, slot, parent: Some(at) }),
            Node::Branch(branch) => {
                at = Footing::enter::<true, V, B, L>(nodes, branch, (slot, twig), Some(at))?;
                shape = nodes.shape(branch);
            }
        }
    }
}
