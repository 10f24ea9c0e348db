//! Entries in order, from both ends, by somebody who sleeps in between.

use super::iter::{Bounds, Key};
use super::trace::TraceRef;
use crate::read::{Ascending, Descending, Direction};
use memalloc::{AfterTasksTraceGp, Immediate, ProtectsSleepers, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded};

/// Entries in order, from both ends, whose references hold as long as the [`TraceRef`] is borrowed: across
/// blocking calls and `.await`, in which the iterator itself may lie, too.
///
/// It stands on no branch, but on the key that it returned last. So each step costs a lookup; beside writers it
/// promises what [`Iter`](crate::Iter) does, and an entry that is returned was there at a moment during that
/// call.
pub struct TraceIter<
    'r,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsSleepers = AfterTasksTraceGp,
> {
    view: &'r TraceRef<V, B, L>,
    front: Place<'r>,
    back: Place<'r>,
    /// The ends have met: what is inserted behind them afterwards is not for this iterator.
    ended: bool,
}

/// How far an end has come.
#[derive(Clone)]
enum Place<'r> {
    /// It is where it began.
    Start(Bound<Key>),
    /// At the key that was returned last.
    Key(&'r [u8]),
}

impl Place<'_> {
    fn bound(&self) -> Bound<&[u8]> {
        match self {
            Self::Start(bound) => bound.as_ref().map(|key| &key[..]),
            Self::Key(key) => Excluded(key),
        }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceIter<'r, V, B, L> {
    pub(super) fn new(view: &'r TraceRef<V, B, L>, (start, end): Bounds) -> Self {
        Self { view, front: Place::Start(start), back: Place::Start(end), ended: false }
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
            Some((key, _)) => self.front = Place::Key(key),
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
            Some((key, _)) => self.back = Place::Key(key),
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
