//! Entries in order, from both ends.

use super::range::KeyRange;
use super::view::TrieRef;
use crate::node::Nodes;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::{AfterRcuGp, Handle, Immediate, ProtectsIdentity, ReusePolicy};
use smallvec::SmallVec;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

/// A key of an iterator's own.
pub(super) type Key = SmallVec<[u8; 24]>;

/// Where a scan begins and ends.
pub(super) type Bounds = (Bound<Key>, Bound<Key>);

/// Those of a range.
pub(super) fn range_bounds(range: &impl KeyRange) -> Bounds {
    let (start, end) = range.bounds();
    (start.map(Key::from), end.map(Key::from))
}

/// Those of the keys that begin with `prefix`.
pub(super) fn prefix_bounds(prefix: &[u8]) -> Bounds {
    // These keys end before the next one of its length, or shorter where it ends in the greatest
    // bytes.
    let end = prefix.iter().rposition(|&byte| byte < 0xff).map_or(Unbounded, |last| {
        let mut next: Key = prefix[..=last].into();
        next[last] += 1;
        Excluded(next)
    });
    (Included(prefix.into()), end)
}

/// Entries in order, from both ends: all of them ([`TrieRef::iter`]), those of a range
/// ([`TrieRef::range`]), or those that begin alike ([`TrieRef::prefix`]).
///
/// Beside writers:
///
/// - Keys come strictly ascending from the front, strictly descending from the back, and the
///   front stays below the back: no key comes twice.
/// - Every key in the range that is there from the first call of `next` or `next_back` until the
///   ends have met is returned. Of keys that come or go meanwhile any may be.
/// - An entry that is returned was there at a moment during that call; its value was the key's
///   then. Where the policy of branches protects identity, at a moment since the first call: a scan
///   that stands on a branch goes on with it, also when writers have replaced it.
/// - What has ended stays ended.
///
/// Cost: a lookup for each end that is asked, then one step for each entry, without a lock. Where a
/// branch on the way was changed, and under [`Immediate`] only then, one more lookup.
pub struct Iter<
    'r,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsIdentity = AfterRcuGp,
> {
    view: &'r TrieRef<V, B, L>,
    front: End<Ascending>,
    back: End<Descending>,
    /// The ends have met: what is inserted behind them afterwards is not for this iterator.
    ended: bool,
}

/// One end of what is left.
#[derive(Clone)]
struct End<D> {
    walk: Walk<D>,
    place: Place,
}

/// How far an end has come.
#[derive(Clone)]
enum Place {
    /// It is where it began.
    Start(Bound<Key>),
    /// At the leaf that was returned last.
    Leaf(Handle),
}

impl Place {
    /// Where the walk goes on, and where one in the other direction ends.
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
    /// The next entry, unless it is not before `other`.
    #[inline]
    fn next<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity, O: Direction>(
        &mut self,
        view: &'r TrieRef<V, B, L>,
        other: &End<O>,
    ) -> Option<(&'r [u8], &'r V)> {
        let nodes = &view.trie.nodes;
        // SAFETY: both leaves were found in the section that `view` keeps open.
        let leaf = unsafe {
            match self.place {
                Place::Start(_) => view.seek(&mut self.walk, self.place.bound(nodes)),
                Place::Leaf(_) => view.step(&mut self.walk, || self.place.bound(nodes)),
            }
        }?;
        // SAFETY: the walk found it in the section that `view` keeps open, and so was the other.
        let (entry, limit) = unsafe { (view.entry(leaf), other.place.bound(nodes)) };
        self.place = Place::Leaf(leaf);
        O::admits(limit, entry.0).then_some(entry)
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Iter<'r, V, B, L> {
    pub(super) fn new(view: &'r TrieRef<V, B, L>, (start, end): Bounds) -> Self {
        Self {
            view,
            front: End { walk: Walk::lost(), place: Place::Start(start) },
            back: End { walk: Walk::lost(), place: Place::Start(end) },
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
