//! Double-ended iteration over entries in order, for readers that sleep in between.

use crate::map::range::{Bounds, Key};
use crate::map::sleepable::view::TraceRef;
use crate::read::{Ascending, Descending, Direction};
use memalloc::{AfterTasksTraceGp, Immediate, ProtectsSleepers, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded};

/// A double-ended iterator over entries in order. The references it returns are valid as long as
/// the [`TraceRef`] is borrowed, across blocking calls and `.await`; the iterator itself may also
/// be kept across them.
///
/// Its position is the key that it returned last, not a branch, so each step costs a lookup. While
/// other threads write it has the guarantees of [`Iter`](crate::Iter), and each returned entry was
/// present at a moment during that call.
#[must_use = "an iterator does nothing unless it is consumed"]
pub struct TraceIter<
    'r,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsSleepers = AfterTasksTraceGp,
> {
    view: &'r TraceRef<V, B, L>,
    front: Position<'r>,
    back: Position<'r>,
    /// The ends have met: later insertions beyond them are not returned.
    ended: bool,
}

/// The position of an end.
#[derive(Clone)]
enum Position<'r> {
    /// At its start: no entry was returned yet.
    Start(Bound<Key>),
    /// At the key that was returned last.
    Key(&'r [u8]),
}

impl Position<'_> {
    fn bound(&self) -> Bound<&[u8]> {
        match self {
            Self::Start(bound) => bound.as_ref().map(|key| &key[..]),
            Self::Key(key) => Excluded(key),
        }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceIter<'r, V, B, L> {
    pub(in crate::map) fn new(view: &'r TraceRef<V, B, L>, (start, end): Bounds) -> Self {
        Self { view, front: Position::Start(start), back: Position::Start(end), ended: false }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> Iterator
    for TraceIter<'r, V, B, L>
{
    type Item = (&'r [u8], &'r V);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.view.lower_bound(self.front.bound());
        let entry = entry.filter(|(key, _)| Descending::admits(self.back.bound(), key));
        match entry {
            Some((key, _)) => self.front = Position::Key(key),
            None => self.ended = true,
        }
        entry
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> DoubleEndedIterator
    for TraceIter<'_, V, B, L>
{
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.view.upper_bound(self.back.bound());
        let entry = entry.filter(|(key, _)| Ascending::admits(self.front.bound(), key));
        match entry {
            Some((key, _)) => self.back = Position::Key(key),
            None => self.ended = true,
        }
        entry
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> FusedIterator
    for TraceIter<'_, V, B, L>
{
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> Clone
    for TraceIter<'_, V, B, L>
{
    fn clone(&self) -> Self {
        Self {
            view: self.view,
            front: self.front.clone(),
            back: self.back.clone(),
            ended: self.ended,
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> fmt::Debug
    for TraceIter<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceIter").field("ended", &self.ended).finish_non_exhaustive()
    }
}

const _: () = {
    const fn moves<T: Send + Sync>() {}
    moves::<TraceIter<'static, String>>();
};
