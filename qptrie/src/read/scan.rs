//! Keys in order, without locks.
//!
//! A [`Walk`] keeps the branches between the root and its position, each with the twigs that are
//! still to be visited. A step takes the next twig and confirms its branch before it trusts the
//! twig. If that fails, the walk is *lost*: it finds its position again from the root, by the key
//! that it returned last (or by its start bound). It never blocks and takes no lock.
//!
//! A walk goes in either direction: *beyond* a key means greater on an ascending walk, less on a
//! descending one. This module knows order; it does not know which entries a caller wants, nor how
//! often a walk may get lost (`map`).
//!
//! Why a scan is strictly ordered and misses no key that is present throughout:
//!
//! - QPT-S1: a branch on the path was linked, in the life that its `LinkedBranch` names, at a
//!   moment since the scan began (QPT-V1, QPT-V2). As long as it is linked, *all* keys that begin
//!   with the symbols before the one it tests are below it, each always by the same way; these keys
//!   are adjacent in the order of keys.
//! - QPT-S2: every key below a remaining twig, now or later in this life of its branch, is beyond
//!   every key that was returned: the ways of a branch are in the order of its keys, and the ways
//!   up to the last one taken do not remain.
//! - QPT-S3: every key that is present throughout and beyond the last returned key is below a
//!   remaining twig or root. When a twig is taken, it is confirmed: it is a leaf that is returned,
//!   or a branch of which everything remains, or there was no such key. And when nothing remains of
//!   a branch, its shape was confirmed with the last twig: it never had a further way in this life.
//! - QPT-S4: the nearest leaf that [`Walk::descend`] finds for a key agrees with it for at least as
//!   many symbols as any key that is present throughout. As far as such a key agrees, it is below
//!   every branch that was entered, by the way that was taken. So at each branch before the first
//!   difference, and at the branch that tests it, the keys beyond the given key are right of (left
//!   of) the way. Below a branch that tests a later symbol, all keys are beyond it or none, as the
//!   nearest leaf is or is not.
//! - QPT-S5: the bound of a seek does not exclude any key below a twig that the seek left, now or
//!   later: such a key agrees with the bound up to the symbol in which it is beyond the bound. That
//!   is not true of a twig that is visited again after all of it had been taken to be beyond the
//!   bound (the "all" of QPT-S4): it may name other nodes by then. So the first leaf below such a
//!   twig is compared with the bound; the further leaves follow it by QPT-S2.
//!
//! Under a policy that protects identity nothing is confirmed, and a branch on the path may be
//! unlinked. It was linked at a moment since the scan began, and then held every key of QPT-S1 that
//! is present throughout. From its unlinking on, it and its slots do not change, and the nodes that
//! they name were linked when it was unlinked. So QPT-S3 and QPT-S4 hold; QPT-S2 holds because a
//! branch keeps the common prefix of its keys as long as the section protects it.

use super::branch_view::{LinkedBranch, follow};
use super::direction::{Descending, Direction};
use super::fetch::{fetch_below, fetch_next};
use super::leaf_view::LeafAt;
use crate::node::{Node, Nodes, Retry, Roots, Symbol, Twig, symbol_at};
use memalloc::sync::{AtomicU32, Ordering};
use memalloc::{Handle, ReusePolicy};
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Bound::{self, Excluded, Included};
use std::ops::Range;

/// A branch on the path, and its slots that are still to be visited.
#[derive(Clone, Debug)]
struct Level {
    linked: LinkedBranch,
    /// The index of the symbol that the branch tests.
    index: u16,
    left: Range<u16>,
    /// True if all nodes below the branch have been prefetched.
    is_fetched: bool,
    /// True if all nodes below the next branch have been prefetched.
    is_next_fetched: bool,
}

impl Level {
    /// Enters a branch that a slot of `above`, or of a root, named. All of its slots remain.
    #[inline(always)]
    fn enter<D: Direction, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        nodes: &Nodes<V, B, L>,
        branch: Handle,
        named: (&AtomicU32, Twig),
        above: Option<&mut Self>,
        prefetches: bool,
    ) -> Result<Self, Retry> {
        let parent = above.as_ref().map(|above| above.linked);
        let linked = LinkedBranch::enter::<false, V, B, L>(nodes, branch, named, parent)?;
        let shape = nodes.shape(branch);
        let left = nodes.slots(branch, shape);
        linked.confirm(nodes)?;
        // The position does not depend on it (QPT-S6).
        let is_below =
            above.as_ref().is_some_and(|above| above.is_fetched || above.is_next_fetched);
        let is_fetched = is_below || (prefetches && fetch_below(nodes, linked, left.clone()));
        if is_fetched
            && let Some(above) = above
            && !above.is_fetched
        {
            above.is_next_fetched =
                fetch_next::<D, V, B, L>(nodes, above.linked, above.left.clone());
        }
        let index = shape.index() as u16;
        Ok(Self { linked, index, left, is_fetched, is_next_fetched: false })
    }

    /// Checks a twig that was read from the branch.
    #[inline(always)]
    fn confirm<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<(), Retry> {
        let confirmed = self.linked.confirm(nodes);
        if nodes.faults.scan_unconfirmed() { Ok(()) } else { confirmed }
    }
}

/// The number of branches on a path that a walk stores without an allocation.
const SHALLOW: usize = if cfg!(loom) { 2 } else { 24 };

/// The location of the first leaf of a seek.
enum Next {
    /// It is the leaf by which the position was found.
    Leaf(Handle),
    /// Below a twig or a root beyond the way of the bound.
    Beyond,
    /// Below a twig that was visited before.
    Again,
}

/// A position between two keys, and the path to it.
#[derive(Clone, Debug)]
pub(crate) struct Walk<D> {
    way: SmallVec<[Level; SHALLOW]>,
    /// The roots that are still to be visited.
    roots: Range<u16>,
    /// True if the path and the roots are valid.
    placed: bool,
    /// True once a step was taken from where the walk was placed. A seek alone needs one leaf:
    /// prefetching others would cost more than the seek.
    goes_on: bool,
    direction: PhantomData<D>,
}

impl<D: Direction> Walk<D> {
    /// Creates a walk without a position.
    pub(crate) fn lost() -> Self {
        Self {
            way: SmallVec::new(),
            roots: 0..0,
            placed: false,
            goes_on: false,
            direction: PhantomData,
        }
    }

    /// Returns the number of branches above the leaf that was found last.
    pub(crate) fn depth(&self) -> usize {
        self.way.len()
    }

    /// Returns the next leaf; `None` at the end of the trie. If the walk is lost, or gets lost,
    /// this fails until a [`seek`](Self::seek) succeeds.
    ///
    /// The caller is in the read section in which the walk began.
    #[inline]
    pub(crate) fn step<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<Option<Handle>, Retry> {
        let leaf = if self.placed { self.next_leaf(nodes) } else { Err(Retry) };
        self.goes_on = true;
        self.kept_if(leaf)
    }

    /// Like [`step`](Self::step), if the next leaf is below the same branch; otherwise, and if the
    /// walk is lost, returns `None` and takes no step. Most of an iterator's steps end here, so it
    /// is inlined.
    #[inline(always)]
    pub(crate) fn step_beside<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
    ) -> Option<Handle> {
        let level = self.way.last_mut()?;
        let mut left = level.left.clone();
        let slot = D::take(&mut left)?;
        let twig = follow::<B>(nodes.slot(level.linked.branch, slot));
        let Node::Leaf(leaf) = twig.node() else { return None };
        level.confirm(nodes).ok()?;
        level.left = left;
        Some(leaf)
    }

    /// Returns `found`. If it is an error, the walk is lost: an incomplete path is no position.
    #[inline]
    fn kept_if<R>(&mut self, found: Result<R, Retry>) -> Result<R, Retry> {
        if found.is_err() {
            self.way.clear();
            self.placed = false;
        }
        found
    }

    /// Moves to `from`, independently of the position before, and takes one step.
    ///
    /// The caller is inside a read section. Never fails while the subtree does not change.
    pub(crate) fn seek<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
    ) -> Result<Option<Handle>, Retry> {
        let place = self.place(nodes, from);
        let leaf = place.and_then(|next| self.arrive(nodes, from, next));
        self.kept_if(leaf)
    }

    /// Like [`seek`](Self::seek), restricted to the keys below root number `root`. `from` admits
    /// all of these keys, or its key is one of them. Never fails while nothing changes below this
    /// root.
    pub(crate) fn seek_below<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
        root: usize,
    ) -> Result<Option<Handle>, Retry> {
        let number = root as u16;
        let begins_here =
            matches!(from, Included(key) | Excluded(key) if Roots::number_of(key) == root);
        if !begins_here {
            // Only the number of the root matters: no other subtree is read.
            self.way.clear();
            self.roots = number..number + 1;
            self.placed = true;
            self.goes_on = false;
            return self.step(nodes);
        }
        let place = self.place(nodes, from);
        self.roots = self.roots.start.max(number)..self.roots.end.min(number + 1);
        let leaf = place.and_then(|next| self.arrive(nodes, from, next));
        self.kept_if(leaf)
    }

    /// Takes the first step of a seek (QPT-S5).
    fn arrive<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
        next: Next,
    ) -> Result<Option<Handle>, Retry> {
        let leaf = match next {
            Next::Leaf(leaf) => return Ok(Some(leaf)),
            Next::Beyond => return self.step(nodes),
            Next::Again => self.step(nodes)?,
        };
        let admitted = match (leaf, from) {
            (Some(leaf), Included(bound) | Excluded(bound)) => {
                D::admits_at(from, self.reached(nodes, leaf).parting(nodes, bound)?.0)
            }
            _ => true,
        };
        if !admitted && !nodes.faults.seek_unchecked() {
            return Err(Retry);
        }
        Ok(leaf)
    }

    /// Returns the leaf that the last step or seek found, together with the slot that named it: the
    /// slot of the twig that was taken last.
    #[inline]
    pub(crate) fn reached<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        leaf: Handle,
    ) -> LeafAt<'t> {
        let last = |left: &Range<u16>| {
            let mut left = left.clone();
            D::put_back(&mut left);
            D::take(&mut left).unwrap_or(0)
        };
        match self.way.last() {
            Some(level) => {
                let slot = nodes.slot(level.linked.branch, last(&level.left));
                LeafAt { leaf, slot, parent: Some(level.linked) }
            }
            None => {
                let slot = nodes.roots.all()[usize::from(last(&self.roots))].slot();
                LeafAt { leaf, slot, parent: None }
            }
        }
    }

    /// Moves to the position between the keys that `from` admits and the others.
    fn place<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
    ) -> Result<Next, Retry> {
        self.way.clear();
        self.placed = false;
        self.goes_on = false;
        let roots = nodes.roots.all().len() as u16;
        let (Included(key) | Excluded(key)) = from else {
            self.roots = 0..roots;
            self.placed = true;
            return Ok(Next::Beyond);
        };
        let number = Roots::number_of(key) as u16;
        self.roots = D::beyond(number..number + 1, 0..roots);
        let leaf = self.descend(nodes, key)?;
        self.placed = true;
        let Some(leaf) = leaf else {
            return Ok(Next::Beyond);
        };
        let (nearest, _) = leaf.parting(nodes, key)?;
        let difference = nearest.map_or(u16::MAX, |(index, _)| index as u16);
        let all = self.way.len();
        while self.way.last().is_some_and(|level| level.index > difference) {
            self.way.pop();
        }
        let is_tested = self.way.last().is_some_and(|level| level.index == difference);
        if is_tested || !D::admits_at(from, nearest) {
            return Ok(Next::Beyond);
        }
        if self.way.len() == all {
            return Ok(Next::Leaf(leaf.leaf));
        }
        D::put_back(self.way.last_mut().map_or(&mut self.roots, |level| &mut level.left));
        Ok(Next::Again)
    }

    /// Goes down to a leaf that agrees with `key` in as many symbols as any does (QPT-S4). At each
    /// branch on the path, the ways beyond that of `key` remain. Returns `None` in an empty
    /// subtree.
    fn descend<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<Option<LeafAt<'t>>, Retry> {
        let mut slot = nodes.roots.of(key).slot();
        // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_sought_whole`.
        let mut twig = Twig::load(slot, Ordering::Acquire);
        let mut parent = None;
        loop {
            let branch = match twig.node() {
                Node::Nothing => return Ok(None),
                Node::Leaf(leaf) => {
                    self.prefetch_next(nodes);
                    return Ok(Some(LeafAt { leaf, slot, parent }));
                }
                Node::Branch(branch) => branch,
            };
            let linked =
                LinkedBranch::enter::<false, V, B, L>(nodes, branch, (slot, twig), parent)?;
            let shape = nodes.shape(branch);
            let symbol = symbol_at(key, shape.index());
            let way = nodes.way(branch, shape, symbol);
            let place = way.unwrap_or_else(|| nodes.place(branch, shape, symbol));
            let all = nodes.slots(branch, shape);
            linked.confirm(nodes)?;
            let own = place..place + u16::from(way.is_some());
            let left = D::beyond(own, all.clone());
            let look = |slot| {
                let slot = nodes.slot(branch, slot);
                (slot, follow::<B>(slot))
            };
            let is_there = |(_, twig): &(_, Twig)| *twig != Twig::NOTHING;
            (slot, twig) = match way.map(look).filter(is_there) {
                Some(own) => own,
                // The key has no twig here, so it differs here or before, and any leaf will do:
                // best the one that the next step visits. A hole (see `write`) is no twig.
                None => {
                    let next = D::take(&mut left.clone());
                    next.into_iter().chain(all).map(look).find(is_there).ok_or(Retry)?
                }
            };
            linked.confirm(nodes)?;
            let index = shape.index() as u16;
            self.way.push(Level { linked, index, left, is_fetched: false, is_next_fetched: false });
            parent = Some(linked);
        }
    }

    #[inline]
    fn next_leaf<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<Option<Handle>, Retry> {
        loop {
            let below = match self.way.last_mut() {
                Some(level) => {
                    let Some(slot) = D::take(&mut level.left) else {
                        self.way.pop();
                        continue;
                    };
                    let slot = nodes.slot(level.linked.branch, slot);
                    let twig = follow::<B>(slot);
                    level.confirm(nodes)?;
                    match twig.node() {
                        Node::Nothing => continue,
                        Node::Leaf(leaf) => return Ok(Some(leaf)),
                        Node::Branch(branch) => {
                            let named = (slot, twig);
                            Level::enter::<D, V, B, L>(
                                nodes,
                                branch,
                                named,
                                Some(level),
                                self.goes_on,
                            )?
                        }
                    }
                }
                None => {
                    let Some(number) = D::take(&mut self.roots) else {
                        return Ok(None);
                    };
                    let slot = nodes.roots.all()[usize::from(number)].slot();
                    // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_scanned_whole`.
                    let twig = Twig::load(slot, Ordering::Acquire);
                    match twig.node() {
                        Node::Nothing => continue,
                        Node::Leaf(leaf) => return Ok(Some(leaf)),
                        Node::Branch(branch) => Level::enter::<D, V, B, L>(
                            nodes,
                            branch,
                            (slot, twig),
                            None,
                            self.goes_on,
                        )?,
                    }
                }
            };
            self.way.push(below);
        }
    }

    /// Prefetches the node that the next step visits.
    #[inline(always)]
    fn prefetch_next<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) {
        let next = |level: &Level| Some((level.linked.branch, D::take(&mut level.left.clone())?));
        if let Some((branch, slot)) = self.way.iter().rev().find_map(next) {
            nodes.prefetch(Twig::load(nodes.slot(branch, slot), Ordering::Relaxed).node());
        }
    }
}

/// Returns the leaf with the longest key that is a prefix of `key`: at least as long as any that is
/// present throughout.
///
/// Returns what `arrive` makes of that leaf, and of its key as a prefix of `key`. Under immediate
/// reuse the leaf may have become another one: `arrive` has to validate it.
///
/// The caller is inside a read section. Never fails while the subtree does not change.
pub(crate) fn longest_prefix<'t, R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
    arrive: impl FnOnce(LeafAt<'t>, &[u8]) -> Result<R, Retry>,
) -> Result<Option<R>, Retry> {
    let mut walk = Walk::<Descending>::lost();
    if let Some(nearest) = walk.descend(nodes, key)? {
        let difference = match nearest.parting(nodes, key)?.0 {
            None => return arrive(nearest, key).map(Some),
            // A prefix of the key.
            Some((index, Symbol::END)) => {
                return arrive(nearest, &key[..index as usize]).map(Some);
            }
            Some((index, _)) => index,
        };
        // A prefix of `key` differs from the nearest key where the prefix ends, so a branch on the
        // path tests the symbol there.
        for level in walk.way.iter().rev().filter(|level| u32::from(level.index) <= difference) {
            let branch = level.linked.branch;
            let way = nodes.way(branch, nodes.shape(branch), Symbol::END);
            level.linked.confirm(nodes)?;
            let Some(way) = way else { continue };
            let slot = nodes.slot(branch, way);
            let twig = follow::<B>(slot);
            level.linked.confirm(nodes)?;
            if let Node::Leaf(leaf) = twig.node() {
                let reached = LeafAt { leaf, slot, parent: Some(level.linked) };
                return arrive(reached, &key[..usize::from(level.index)]).map(Some);
            }
        }
    }
    let slot = nodes.roots.of(b"").slot();
    // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_a_whole_prefix`.
    match Twig::load(slot, Ordering::Acquire).node() {
        Node::Leaf(leaf) => arrive(LeafAt { leaf, slot, parent: None }, b"").map(Some),
        Node::Nothing | Node::Branch(_) => Ok(None),
    }
}
