//! Where a key is, or would be: found without a lock, as readers find it.
//!
//! A way down leads to the leaf nearest to the key. Where the two part says which of the branches on
//! the way has the place: all keys below a branch begin with the same symbols (INV-N5), so they part
//! from the key where that leaf does. The last branches of a way are kept, in a few places of its
//! own, so that the heap is not needed however deep the place is; where it is further up, a second
//! way finds it.

use crate::node::{
    KeyCopy, Life, Locked, Node, Nodes, Retry, Root, Symbol, Twig, first_difference, symbol_at,
};
use crate::read::{Footing, LeafFooting, Reached, follow};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};
use smallvec::SmallVec;

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

/// Finds the place of `key`. Needs no memory, except to copy a long key where leaves are reused at
/// once ([`KeyCopy`]).
///
/// The caller is inside a read section. Whoever changes something there locks first, which fails
/// where it is not as it was found.
pub(crate) fn locate<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
) -> Result<Place<'t>, Retry> {
    let mut parts_at = None;
    loop {
        let mut way = Way::new(nodes, key);
        let Some(reached) = way.walk(nodes, key, parts_at)? else {
            return Ok(Place::Vacant(Vacant::Root(way.spot(nodes, 0))));
        };
        let mut copy = KeyCopy::new();
        let (nearest_key, at) = reached.key(nodes, &mut copy)?;
        let difference = first_difference(nearest_key, key);
        if parts_at.is_some() && parts_at != difference {
            // Another leaf than that of the first way.
            return Err(Retry);
        }
        let last = way.passed;
        let Some(index) = difference else {
            let above = last.checked_sub(1).map(|above| {
                let symbol = symbol_at(key, way.stop(above).index);
                (way.spot(nodes, above), symbol)
            });
            let spot = way.spot(nodes, last);
            return Ok(Place::Found(Found { leaf: reached.leaf, at, spot, above }));
        };
        let (nearest, new) = (symbol_at(nearest_key, index), symbol_at(key, index));
        let oldest = last.saturating_sub(KEPT);
        let (number, below) = match (oldest..last).find(|&stop| way.stop(stop).index >= index) {
            // Maybe not the first one: those before it are not kept.
            Some(number) if number == oldest && number > 0 => {
                parts_at = Some(index);
                continue;
            }
            Some(number) => {
                let Stop { at, index: tested, .. } = *way.stop(number);
                if tested == index {
                    let above = way.spot(nodes, number);
                    return Ok(Place::Vacant(Vacant::Twig { above, at, new }));
                }
                (number, Below::Branch(at))
            }
            None => (last, Below::Leaf(at)),
        };
        let spot = way.spot(nodes, number);
        return Ok(Place::Vacant(Vacant::Fork { spot, below, index, nearest, new }));
    }
}

/// A branch on the way.
#[derive(Clone, Copy)]
struct Stop {
    at: Footing,
    /// The symbol that it tests.
    index: u32,
    /// The number of the slot by which the way goes on.
    slot: u16,
}

/// How many branches of a way are kept: two at least, one that is changed and the one above it.
const KEPT: usize = if cfg!(loom) { 2 } else { 24 };

/// How many twigs are looked at in search of a leaf, where any will do.
const NEAR: usize = 8;

/// A way from the root to a leaf: the key's own twigs as far as there are any.
struct Way<'t> {
    root: &'t Root,
    /// Stop number `n` at place `n % KEPT`; never more than its own places.
    kept: SmallVec<[Stop; KEPT]>,
    /// How many stops there were.
    passed: usize,
    /// What the last slot held.
    twig: Twig,
}

impl<'t> Way<'t> {
    fn new<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Self {
        let root = nodes.roots.of(key);
        // ORDERING: pairs with `Twig::publish`, as in `find`.
        let twig = Twig::load(root.slot(), Ordering::Acquire);
        Self { root, kept: SmallVec::new(), passed: 0, twig }
    }

    /// One of the last stops.
    #[inline(always)]
    fn stop(&self, number: usize) -> &Stop {
        debug_assert!(number < self.passed && number + KEPT >= self.passed);
        &self.kept[number % KEPT]
    }

    #[inline(always)]
    fn pass(&mut self, stop: Stop) {
        if self.passed < KEPT {
            self.kept.push(stop);
        } else {
            self.kept[self.passed % KEPT] = stop;
        }
        self.passed += 1;
    }

    /// The slot that names stop number `number`; behind all of them, the slot of the last twig.
    fn spot<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        number: usize,
    ) -> Spot<'t> {
        let is_stop = number < self.passed;
        let twig = if is_stop { Twig::branch(self.stop(number).at.branch) } else { self.twig };
        let (holder, slot) = match number.checked_sub(1).map(|above| self.stop(above)) {
            None => (Holder::Root(self.root), self.root.slot()),
            Some(stop) => {
                (Holder::Branch(stop.at, stop.slot), nodes.slot(stop.at.branch, stop.slot))
            }
        };
        Spot { holder, slot, twig }
    }

    /// Goes on to a leaf; none when the root is empty. The last stop that is noted is the first one
    /// that tests symbol number `until`, or a later one.
    #[inline(always)]
    fn walk<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
        until: Option<u32>,
    ) -> Result<Option<Reached<'t>>, Retry> {
        let (mut slot, mut parent, mut noted_all) = (self.root.slot(), None, false);
        loop {
            let branch = match self.twig.node() {
                Node::Nothing => return Ok(None),
                Node::Leaf(leaf) => return Ok(Some(Reached { leaf, slot, parent })),
                Node::Branch(branch) => branch,
            };
            let at = Footing::enter::<true, V, B, L>(nodes, branch, (slot, self.twig), parent)?;
            let shape = nodes.shape(branch);
            let way = nodes.way(branch, shape, symbol_at(key, shape.index()));
            at.confirm(nodes)?;
            let look = |slot| (slot, follow::<B>(nodes.slot(branch, slot)));
            let is_there = |&(_, twig): &(u16, Twig)| twig != Twig::NOTHING;
            let own = way.exists().then(|| look(way.slot())).filter(is_there);
            // A hole is as good as no twig. Any other leads to a leaf that agrees with the key as
            // far as those of this branch do.
            let next = match own {
                Some(own) => own,
                None => {
                    let slots = nodes.slots(branch, shape);
                    at.confirm(nodes)?;
                    let mut others = slots.map(look).filter(is_there);
                    let first = others.next().ok_or(Retry)?;
                    let is_leaf = |(_, twig): &(u16, Twig)| matches!(twig.node(), Node::Leaf(_));
                    let mut near = std::iter::once(first).chain(others.take(NEAR));
                    near.find(is_leaf).unwrap_or(first)
                }
            };
            at.confirm(nodes)?;
            if !noted_all {
                self.pass(Stop { at, index: shape.index(), slot: next.0 });
                noted_all = until.is_some_and(|until| shape.index() >= until);
            }
            (self.twig, parent) = (next.1, Some(at));
            slot = nodes.slot(branch, next.0);
        }
    }
}
