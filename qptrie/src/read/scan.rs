//! Keys in order, without locks.
//!
//! A [`Walk`] keeps the branches between the root and where it stands, each with the twigs that
//! are left to visit. A step takes the next twig and confirms its branch before the twig is
//! believed. Where that fails the walk is *lost*: it finds its place again from the root, by the
//! key that it returned last (or by the bound that it began with). Nobody is waited for, nothing
//! is locked.
//!
//! Works in both directions: *beyond* a key means greater on an ascending walk, less on a
//! descending one. Knows order; not which entries a caller wants, nor how often a walk may get
//! lost (`map`).
//!
//! Why a scan is strictly ordered and misses no key that is there throughout:
//!
//! - INV-S1: a branch on the way was linked, in the life that its footing names, at a moment
//!   since the scan began (INV-V1, INV-V2). As long as it is linked, *all* keys that begin with the
//!   symbols before the one it tests are below it, each always by the same way; these keys are
//!   neighbours in the order of keys.
//! - INV-S2: every key below a twig that is left, now or later in this life of its branch, is
//!   beyond every key that was returned. For the branch's ways are ordered as its keys, and the
//!   ways up to the last one taken are not left.
//! - INV-S3: every key that is there throughout and beyond the key returned last is below a twig
//!   or a root that is left. For a twig that is taken was confirmed: it is a leaf that is returned,
//!   or a branch of which everything is left, or there was no such key. And where nothing is
//!   left of a branch, its shape was confirmed with the last twig: it never had a further way in
//!   this life.
//! - INV-S4: the nearest leaf that [`Walk::descend`] finds for a key agrees with it for at least
//!   as many symbols as any key that is there throughout. For as far as such a key agrees, it is
//!   below every branch that was entered, by the way that was taken. So what lies beyond the
//!   key is right of (left of) the way at each branch before the first difference, and at the
//!   branch that tests it; below a branch that tests a later symbol it is everything or nothing, as
//!   the nearest leaf is beyond the key or not.
//! - INV-S5: nor does the bound of a seek keep out any key below a twig that the seek left, now or
//!   later: such a key agrees with the bound up to the symbol in which it is beyond it. That does not
//!   hold of a twig that is visited again after it had been taken to be beyond the bound (the
//!   "everything" of INV-S4): it may name other nodes by then. So the first leaf below such a twig is
//!   compared with the bound; the further ones follow it by INV-S2.
//!
//! Under a policy that protects identity nothing is confirmed, and a branch on the way may be
//! unlinked. It was linked once since the scan began, and by then held every key of INV-S1 that is
//! there throughout; from then on it and its slots stand still, and what they name was linked
//! when it was unlinked. So INV-S3 and INV-S4 hold; INV-S2 does because a branch keeps its
//! beginning as long as the section protects it.

use super::footing::{Footing, follow};
use super::leaf::Reached;
use crate::node::{Node, Nodes, Parting, Retry, Roots, Symbol, Twig, parting, symbol_at};
use memalloc::sync::Ordering;
use memalloc::{Handle, ReusePolicy};
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::Range;

/// Which way a walk goes.
pub(crate) trait Direction {
    /// The next of what is left.
    fn take(left: &mut Range<u16>) -> Option<u16>;

    /// What of `all` is beyond `way`.
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16>;

    /// Puts the way before those that are left back to them.
    fn put_back(left: &mut Range<u16>);

    /// Whether keys with `symbol` are beyond those with `other` in its place.
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool;

    /// Whether a walk that begins at `from` comes by `key`.
    #[inline(always)]
    fn admits(from: Bound<&[u8]>, key: &[u8]) -> bool {
        match from {
            Included(bound) | Excluded(bound) => Self::admits_at(from, parting(bound, key)),
            Unbounded => true,
        }
    }

    /// The same of a key of which it is known where it parts from the one in `from`.
    #[inline(always)]
    fn admits_at(from: Bound<&[u8]>, parting: Parting) -> bool {
        match (from, parting) {
            (Unbounded, _) | (Included(_), None) => true,
            (Excluded(_), None) => false,
            (Included(bound) | Excluded(bound), Some((index, symbol))) => {
                Self::is_beyond(symbol, symbol_at(bound, index))
            }
        }
    }
}

/// From lesser keys to greater ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ascending {}

/// From greater keys to lesser ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Descending {}

impl Direction for Ascending {
    #[inline(always)]
    fn take(left: &mut Range<u16>) -> Option<u16> {
        left.next()
    }

    #[inline(always)]
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16> {
        way.end..all.end
    }

    #[inline(always)]
    fn put_back(left: &mut Range<u16>) {
        left.start -= 1;
    }

    #[inline(always)]
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool {
        symbol > other
    }
}

impl Direction for Descending {
    #[inline(always)]
    fn take(left: &mut Range<u16>) -> Option<u16> {
        left.next_back()
    }

    #[inline(always)]
    fn beyond(way: Range<u16>, all: Range<u16>) -> Range<u16> {
        all.start..way.start
    }

    #[inline(always)]
    fn put_back(left: &mut Range<u16>) {
        left.end += 1;
    }

    #[inline(always)]
    fn is_beyond(symbol: Symbol, other: Symbol) -> bool {
        symbol < other
    }
}

/// A branch on the way, and its slots that are left to visit.
#[derive(Clone, Debug)]
struct Stop {
    footing: Footing,
    /// The symbol that the branch tests.
    index: u16,
    left: Range<u16>,
}

/// Branches on a way that need no memory of their own.
const SHALLOW: usize = if cfg!(loom) { 2 } else { 24 };

/// Where the first leaf of a seek is.
enum Next {
    /// It is the one by which the place was found.
    Leaf(Handle),
    /// Below a twig, or a root, beyond the way of the bound.
    Beyond,
    /// Below a twig that was visited before.
    Again,
}

/// A place between two keys, and the way there.
#[derive(Clone, Debug)]
pub(crate) struct Walk<D> {
    way: SmallVec<[Stop; SHALLOW]>,
    /// Roots that are left.
    roots: Range<u16>,
    /// Whether the way and the roots mean something.
    placed: bool,
    direction: PhantomData<D>,
}

impl<D: Direction> Walk<D> {
    /// A walk without a place.
    pub(crate) fn lost() -> Self {
        Self { way: SmallVec::new(), roots: 0..0, placed: false, direction: PhantomData }
    }

    /// How many branches there are above the leaf that was found last.
    pub(crate) fn depth(&self) -> usize {
        self.way.len()
    }

    /// The next leaf; none at the end of the trie. When the walk is lost, or gets lost, only a
    /// [`seek`](Self::seek) helps.
    ///
    /// The caller is in the read section in which the walk began.
    #[inline]
    pub(crate) fn step<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<Option<Handle>, Retry> {
        let leaf = if self.placed { self.next_leaf(nodes) } else { Err(Retry) };
        self.kept_if(leaf)
    }

    /// What was found; where that failed, half a way is no place.
    #[inline]
    fn kept_if<R>(&mut self, found: Result<R, Retry>) -> Result<R, Retry> {
        if found.is_err() {
            self.way.clear();
            self.placed = false;
        }
        found
    }

    /// Takes a place at `from`, wherever it was before, and makes a step.
    ///
    /// The caller is inside a read section. When nobody changes the subtree it never fails.
    pub(crate) fn seek<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
    ) -> Result<Option<Handle>, Retry> {
        let place = self.place(nodes, from);
        let leaf = place.and_then(|next| self.arrive(nodes, from, next));
        self.kept_if(leaf)
    }

    /// As [`seek`](Self::seek), but of what is below root number `root` only, which `from` admits,
    /// or its key is below: never fails when nobody changes anything there.
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
            // What `from` says is decided by the number of the root: nothing is looked at elsewhere.
            self.way.clear();
            self.roots = number..number + 1;
            self.placed = true;
            return self.step(nodes);
        }
        let place = self.place(nodes, from);
        self.roots = self.roots.start.max(number)..self.roots.end.min(number + 1);
        let leaf = place.and_then(|next| self.arrive(nodes, from, next));
        self.kept_if(leaf)
    }

    /// The first step (INV-S5).
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

    /// The leaf to which the last step, or a seek, led, with the slot that named it: that of the
    /// twig which was taken last.
    #[inline]
    pub(crate) fn reached<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &'t Nodes<V, B, L>,
        leaf: Handle,
    ) -> Reached<'t> {
        let last = |left: &Range<u16>| {
            let mut left = left.clone();
            D::put_back(&mut left);
            D::take(&mut left).unwrap_or(0)
        };
        match self.way.last() {
            Some(stop) => {
                let slot = nodes.slot(stop.footing.branch, last(&stop.left));
                Reached { leaf, slot, parent: Some(stop.footing) }
            }
            None => {
                let slot = nodes.roots.all()[usize::from(last(&self.roots))].slot();
                Reached { leaf, slot, parent: None }
            }
        }
    }

    /// Goes to the place between the keys that `from` admits and the others.
    fn place<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
        from: Bound<&[u8]>,
    ) -> Result<Next, Retry> {
        self.way.clear();
        self.placed = false;
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
        while self.way.last().is_some_and(|stop| stop.index > difference) {
            self.way.pop();
        }
        let is_tested = self.way.last().is_some_and(|stop| stop.index == difference);
        if is_tested || !D::admits_at(from, nearest) {
            return Ok(Next::Beyond);
        }
        if self.way.len() == all {
            return Ok(Next::Leaf(leaf.leaf));
        }
        D::put_back(self.way.last_mut().map_or(&mut self.roots, |stop| &mut stop.left));
        Ok(Next::Again)
    }

    /// Goes down to some leaf that agrees with `key` as far as any does (INV-S4), and leaves, at
    /// each branch on the way there, what is beyond the way of `key`; none in an empty subtree.
    fn descend<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &'t Nodes<V, B, L>,
        key: &[u8],
    ) -> Result<Option<Reached<'t>>, Retry> {
        let mut slot = nodes.roots.of(key).slot();
        // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_scanned_whole`.
        let mut twig = Twig::load(slot, Ordering::Acquire);
        let mut parent = None;
        loop {
            let branch = match twig.node() {
                Node::Nothing => return Ok(None),
                Node::Leaf(leaf) => {
                    self.prefetch_next(nodes);
                    return Ok(Some(Reached { leaf, slot, parent }));
                }
                Node::Branch(branch) => branch,
            };
            let footing = Footing::enter::<false, V, B, L>(nodes, branch, (slot, twig), parent)?;
            let shape = nodes.shape(branch);
            let symbol = symbol_at(key, shape.index());
            let way = nodes.way(branch, shape, symbol);
            let place = way.unwrap_or_else(|| nodes.place(branch, shape, symbol));
            let all = nodes.slots(branch, shape);
            footing.confirm(nodes)?;
            let own = place..place + u16::from(way.is_some());
            let left = D::beyond(own, all.clone());
            let look = |slot| {
                let slot = nodes.slot(branch, slot);
                (slot, follow::<B>(slot))
            };
            let is_there = |(_, twig): &(_, Twig)| *twig != Twig::NOTHING;
            (slot, twig) = match way.map(look).filter(is_there) {
                Some(own) => own,
                // Without a way of its own the key has parted, here or before, and any leaf will
                // do: best one that the next step comes by. A hole (see `write`) is no way.
                None => {
                    let next = D::take(&mut left.clone());
                    next.into_iter().chain(all).map(look).find(is_there).ok_or(Retry)?
                }
            };
            footing.confirm(nodes)?;
            self.way.push(Stop { footing, index: shape.index() as u16, left });
            parent = Some(footing);
        }
    }

    #[inline]
    fn next_leaf<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &mut self,
        nodes: &Nodes<V, B, L>,
    ) -> Result<Option<Handle>, Retry> {
        loop {
            let (slot, twig, parent) = match self.way.last_mut() {
                Some(stop) => {
                    let Some(slot) = D::take(&mut stop.left) else {
                        self.way.pop();
                        continue;
                    };
                    let slot = nodes.slot(stop.footing.branch, slot);
                    let twig = follow::<B>(slot);
                    let confirmed = stop.footing.confirm(nodes);
                    if !nodes.faults.scan_unconfirmed() {
                        confirmed?;
                    }
                    (slot, twig, Some(stop.footing))
                }
                None => {
                    let Some(number) = D::take(&mut self.roots) else {
                        return Ok(None);
                    };
                    let slot = nodes.roots.all()[usize::from(number)].slot();
                    // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_scanned_whole`.
                    (slot, Twig::load(slot, Ordering::Acquire), None)
                }
            };
            match twig.node() {
                Node::Nothing => {}
                Node::Leaf(leaf) => return Ok(Some(leaf)),
                Node::Branch(branch) => {
                    let footing =
                        Footing::enter::<false, V, B, L>(nodes, branch, (slot, twig), parent)?;
                    let shape = nodes.shape(branch);
                    let left = nodes.slots(branch, shape);
                    footing.confirm(nodes)?;
                    // They come next, and lie anywhere: each arrives while others are visited.
                    for slot in left.clone().map(|slot| nodes.slot(branch, slot)) {
                        nodes.prefetch(Twig::load(slot, Ordering::Relaxed));
                    }
                    self.way.push(Stop { footing, index: shape.index() as u16, left });
                }
            }
        }
    }

    /// Starts to bring the node that a step from here visits into the cache.
    #[inline(always)]
    fn prefetch_next<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &self,
        nodes: &Nodes<V, B, L>,
    ) {
        let next = |stop: &Stop| Some((stop.footing.branch, D::take(&mut stop.left.clone())?));
        if let Some((branch, slot)) = self.way.iter().rev().find_map(next) {
            nodes.prefetch(Twig::load(nodes.slot(branch, slot), Ordering::Relaxed));
        }
    }
}

/// The leaf with the longest key that is a beginning of `key`: at least as long as any that is
/// there throughout.
///
/// The answer is what `arrive` makes of that leaf, and of its key, as a part of `key`. Under immediate reuse
/// the leaf may be another one by then: `arrive` has to look.
///
/// The caller is inside a read section. When nobody changes the subtree it never fails.
pub(crate) fn longest_prefix<'t, R, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &'t Nodes<V, B, L>,
    key: &[u8],
    arrive: impl FnOnce(Reached<'t>, &[u8]) -> Result<R, Retry>,
) -> Result<Option<R>, Retry> {
    let mut walk = Walk::<Descending>::lost();
    if let Some(nearest) = walk.descend(nodes, key)? {
        let difference = match nearest.parting(nodes, key)?.0 {
            None => return arrive(nearest, key).map(Some),
            // A beginning of the key.
            Some((index, Symbol::END)) => {
                return arrive(nearest, &key[..index as usize]).map(Some);
            }
            Some((index, _)) => index,
        };
        // A beginning of `key` parts from the nearest key where it ends, so there is a branch on
        // the way that tests the symbol there.
        for stop in walk.way.iter().rev().filter(|stop| u32::from(stop.index) <= difference) {
            let branch = stop.footing.branch;
            let way = nodes.way(branch, nodes.shape(branch), Symbol::END);
            stop.footing.confirm(nodes)?;
            let Some(way) = way else { continue };
            let slot = nodes.slot(branch, way);
            let twig = follow::<B>(slot);
            stop.footing.confirm(nodes)?;
            if let Node::Leaf(leaf) = twig.node() {
                let reached = Reached { leaf, slot, parent: Some(stop.footing) };
                return arrive(reached, &key[..usize::from(stop.index)]).map(Some);
            }
        }
    }
    let slot = nodes.roots.of(b"").slot();
    // ORDERING: as in `find`. Falls to `loom` `a_lone_leaf_is_scanned_whole`.
    match Twig::load(slot, Ordering::Acquire).node() {
        Node::Leaf(leaf) => arrive(Reached { leaf, slot, parent: None }, b"").map(Some),
        Node::Nothing | Node::Branch(_) => Ok(None),
    }
}
