//! Double-ended iteration over entries in order.

use crate::map::by_ref::point::TrieRef;
use crate::map::range::{Bounds, Key};
use crate::node::Nodes;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::{AfterRcuGp, Handle, Immediate, ProtectsIdentity, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded};

/// A double-ended iterator over entries in order: all entries ([`TrieRef::iter`]), those in a range
/// ([`TrieRef::range`]), or those with a common prefix ([`TrieRef::prefix`]).
///
/// Concurrent writers are allowed:
///
/// - Keys are strictly ascending from the front and strictly descending from the back, and the
///   front stays below the back: no key is returned twice.
/// - Every key in the range that is present from the first call of `next` or `next_back` until the
///   two ends meet is returned. A key that is inserted or removed meanwhile may or may not be
///   returned.
/// - Each returned entry was present at a moment during that call, with this value. If the policy
///   of branches protects identity, the moment may be earlier, but not before the first call: a
///   scan continues on its current branch even if writers have replaced it.
/// - An iterator that returned `None` stays at its end.
///
/// Cost: a lookup for each end that is used, then one step for each entry, without a lock. Under
/// [`Immediate`], if a branch on the path was changed, one more lookup.
#[must_use = "an iterator does nothing unless it is consumed"]
pub struct Iter<
    'r,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsIdentity = AfterRcuGp,
> {
    view: &'r TrieRef<V, B, L>,
    front: End<Ascending>,
    back: End<Descending>,
    /// The ends have met: later insertions beyond them are not returned.
    ended: bool,
}

/// One end of the remaining range.
#[derive(Clone)]
struct End<D> {
    walk: Walk<D>,
    place: Position,
}

/// The position of an end.
#[derive(Clone)]
enum Position {
    /// At its start: no entry was returned yet.
    Start(Bound<Key>),
    /// At the leaf that was returned last.
    Leaf(Handle),
}

impl Position {
    /// Returns the bound at which this walk continues and a walk in the other direction ends.
    ///
    /// # Safety
    ///
    /// The read section in which the leaf was found lasts for `'a`.
    #[inline]
    unsafe fn bound<'a, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
        &'a self,
        nodes: &'a Nodes<V, B, L>,
    ) -> Bound<&'a [u8]> {
        match self {
            Self::Start(bound) => bound.as_ref().map(|key| &key[..]),
            // SAFETY: the caller's promise.
            Self::Leaf(leaf) => Excluded(unsafe { nodes.key(*leaf) }),
        }
    }
}

impl<D: Direction> End<D> {
    /// Returns the next entry, or `None` if it is not before `other`.
    #[inline(always)]
    fn next<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity, O: Direction>(
        &mut self,
        view: &'r TrieRef<V, B, L>,
        other: &End<O>,
    ) -> Option<(&'r [u8], &'r V)> {
        let leaf = match self.next_beside(view) {
            Some(leaf) => leaf,
            None => self.next_apart(view)?,
        };
        // SAFETY: the walk found this leaf, and the other end its own, in the section that `view`
        // keeps open.
        let (entry, limit) = unsafe { (view.entry(leaf), other.place.bound(&view.trie.nodes)) };
        O::admits(limit, entry.0).then_some(entry)
    }

    /// Moves to the next leaf, if it is below the same branch.
    #[inline(always)]
    fn next_beside<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
        &mut self,
        view: &TrieRef<V, B, L>,
    ) -> Option<Handle> {
        let Position::Leaf(at) = &mut self.place else { return None };
        *at = self.walk.step_beside(&view.trie.nodes)?;
        Some(*at)
    }

    /// Moves to the next leaf, wherever it is.
    #[inline(never)]
    fn next_apart<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity>(
        &mut self,
        view: &TrieRef<V, B, L>,
    ) -> Option<Handle> {
        let nodes = &view.trie.nodes;
        // SAFETY: the leaf was found in the section that `view` keeps open.
        let leaf = unsafe {
            match self.place {
                Position::Start(_) => view.seek(&mut self.walk, self.place.bound(nodes)),
                Position::Leaf(_) => view.step(&mut self.walk, || self.place.bound(nodes)),
            }
        }?;
        self.place = Position::Leaf(leaf);
        Some(leaf)
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Iter<'r, V, B, L> {
    pub(in crate::map) fn new(view: &'r TrieRef<V, B, L>, (start, end): Bounds) -> Self {
        Self {
            view,
            front: End { walk: Walk::lost(), place: Position::Start(start) },
            back: End { walk: Walk::lost(), place: Position::Start(end) },
            ended: false,
        }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Iterator
    for Iter<'r, V, B, L>
{
    type Item = (&'r [u8], &'r V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.front.next(self.view, &self.back);
        self.ended = entry.is_none();
        entry
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> DoubleEndedIterator
    for Iter<'_, V, B, L>
{
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.back.next(self.view, &self.front);
        self.ended = entry.is_none();
        entry
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> FusedIterator
    for Iter<'_, V, B, L>
{
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Clone for Iter<'_, V, B, L> {
    fn clone(&self) -> Self {
        Self {
            view: self.view,
            front: self.front.clone(),
            back: self.back.clone(),
            ended: self.ended,
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> fmt::Debug
    for Iter<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("ended", &self.ended).finish_non_exhaustive()
    }
}
