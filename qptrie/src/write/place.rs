//! Where a key is, or would be: found without a lock, as readers find it.

use crate::node::{
    KeyCopy, Life, Locked, Node, Nodes, Retry, Root, Symbol, Twig, first_difference, symbol_at,
};
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

/// A slot, who has it, and what it held.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'t> {
    holder: Holder<'t>,
    pub(super) slot: &'t AtomicU32,
    pub(super) twig: Twig,
}

impl<'t> Spot<'t> {
    fn root(root: &'t Root) -> Self {
        // ORDERING: pairs with `Twig::publish`, as in `find`.
        let twig = Twig::load(root.slot(), Ordering::Acquire);
        Self { holder: Holder::Root(root), slot: root.slot(), twig }
    }

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
    /// The slot that names the branch that the leaf hangs on; none where it hangs on a root.
    pub(super) above: Option<Spot<'t>>,
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

/// Finds the place of `key`.
///
/// The caller is inside a read section. Whoever changes something there locks first, which fails
/// where it is not as it was found.
pub(crate) fn locate<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
) -> Result<Place<'t>, Retry> {
    // A way to the leaf nearest to the key says where the two part. If that is above the last
    // branch, a second way, to a leaf that parts there as well, has the place on it.
    let mut parts_at = u32::MAX;
    loop {
        let mut way = Way::new(nodes, key);
        let nearest = match way.walk(nodes, key, parts_at)? {
            Some(leaf) => leaf,
            None => return Ok(Place::Vacant(Vacant::Root(way.spot))),
        };
        let mut copy = KeyCopy::new();
        let (nearest_key, at) = way.reached(nearest).key(nodes, &mut copy)?;
        let Some(index) = first_difference(nearest_key, key) else {
            return Ok(Place::Found(Found { leaf: nearest, at, spot: way.spot, above: way.above }));
        };
        let leaf = at;
        let new = symbol_at(key, index);
        let fork = |(spot, below)| {
            Place::Vacant(Vacant::Fork {
                spot,
                below,
                index,
                nearest: symbol_at(nearest_key, index),
                new,
            })
        };
        if let Some((above, at)) = way.lacking
            && nodes.shape(at.branch).index() == index
        {
            at.confirm(nodes)?;
            return Ok(Place::Vacant(Vacant::Twig { above, at, new }));
        }
        if way.last < Some(index) {
            return Ok(fork((way.spot, Below::Leaf(leaf))));
        }
        if let Some(passed) = way.passed
            && index == parts_at
        {
            let (spot, branch) = passed;
            return Ok(fork((spot, Below::Branch(branch))));
        }
        parts_at = index;
    }
}

/// A way from the root to a leaf: the key's own twigs as far as there are any.
struct Way<'t> {
    /// Where it has come to.
    spot: Spot<'t>,
    /// The slot that names the branch that `spot` is in.
    above: Option<Spot<'t>>,
    /// The first branch without a twig for the key, and the slot that names it.
    lacking: Option<(Spot<'t>, Footing)>,
    /// The first branch that tests a symbol from a given one on, and the slot that names it.
    passed: Option<(Spot<'t>, Footing)>,
    /// The symbol that the last branch tests.
    last: Option<u32>,
}

impl<'t> Way<'t> {
    fn new<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Self {
        let spot = Spot::root(nodes.roots.of(key));
        Self { spot, above: None, lacking: None, passed: None, last: None }
    }

    /// The leaf that the way has come to.
    fn reached(&self, leaf: Handle) -> Reached<'t> {
        let parent = match self.spot.holder {
            Holder::Root(_) => None,
            Holder::Branch(at, _) => Some(at),
        };
        Reached { leaf, slot: self.spot.slot, parent }
    }

    /// Goes on to a leaf, noting the first branch that tests a symbol from `from` on; none when
    /// the root is empty.
    fn walk<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
        from: u32,
    ) -> Result<Option<Handle>, Retry> {
        let mut parent = None;
        loop {
            let branch = match self.spot.twig.node() {
                Node::Nothing => return Ok(None),
                Node::Leaf(leaf) => return Ok(Some(leaf)),
                Node::Branch(branch) => branch,
            };
            let named = (self.spot.slot, self.spot.twig);
            let at = Footing::enter::<true, V, B, L>(nodes, branch, named, parent)?;
            let shape = nodes.shape(branch);
            let way = nodes.way(branch, shape, symbol_at(key, shape.index()));
            at.confirm(nodes)?;
            let look = |number| {
                let slot = nodes.slot(branch, number);
                Spot { holder: Holder::Branch(at, number), slot, twig: follow::<B>(slot) }
            };
            let is_there = |spot: &Spot<'_>| spot.twig != Twig::NOTHING;
            let own = way.exists().then(|| look(way.slot())).filter(is_there);
            // A hole is as good as no twig. Any other leads to a leaf that agrees with the key as
            // far as those of this branch do.
            let next = match own {
                Some(own) => Some(own),
                None => {
                    let slots = nodes.slots(branch, shape);
                    at.confirm(nodes)?;
                    slots.map(look).find(is_there)
                }
            };
            at.confirm(nodes)?;
            if own.is_none() && self.lacking.is_none() {
                self.lacking = Some((self.spot, at));
            }
            if self.passed.is_none() && shape.index() >= from {
                self.passed = Some((self.spot, at));
            }
            self.last = Some(shape.index());
            self.above = Some(self.spot);
            self.spot = next.ok_or(Retry)?;
            parent = Some(at);
        }
    }
}
