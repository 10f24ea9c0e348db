//! Double-ended iteration over copies of entries, in order.

use crate::map::by_ref::point::TrieRef;
use crate::map::range::Bounds;
use crate::node::{KeyCopy, PlainBits, Retry};
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::sync::{Ordering, explored};
use memalloc::{AfterRcuGp, Immediate, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded};

/// A double-ended iterator over copies of entries in order, under every policy of leaves: all
/// entries ([`TrieRef::iter_copied`]), those in a range ([`TrieRef::range_copied`]), or those with
/// a common prefix ([`TrieRef::prefix_copied`]).
///
/// While other threads write it has the guarantees of [`Iter`](crate::Iter). A returned value is
/// never a mixture of two values, and was the key's value at a moment during the call that returned
/// it.
///
/// As an iterator it allocates a key for each entry. [`next_into`](Self::next_into) and
/// [`next_back_into`](Self::next_back_into) copy the key into a buffer of the caller. Otherwise it
/// costs the same as [`Iter`](crate::Iter), plus an allocation for each key of more than 64 bytes.
#[must_use = "an iterator does nothing unless it is consumed"]
pub struct IterCopied<
    'r,
    V: PlainBits + 'static,
    B: ReusePolicy = Immediate,
    L: ReusePolicy = AfterRcuGp,
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
    /// The start bound, then the key that was returned last.
    place: Bound<KeyCopy>,
    begun: bool,
}

impl<D: Direction> End<D> {
    fn new(place: Bound<impl AsRef<[u8]>>) -> Self {
        let place = place.map(|key| KeyCopy::from_slice(key.as_ref()));
        Self { walk: Walk::lost(), place, begun: false }
    }

    fn bound(&self) -> Bound<&[u8]> {
        self.place.as_ref().map(|key| &key[..])
    }

    /// Advances by one entry and returns its value, or `None` if it is not before `other`. The key
    /// is then in `place`.
    #[inline]
    fn next<V: PlainBits, B: ReusePolicy, L: ReusePolicy, O: Direction>(
        &mut self,
        view: &TrieRef<V, B, L>,
        other: &End<O>,
    ) -> Option<V> {
        let Self { walk, place, begun } = self;
        let from = place.as_ref().map(|key| &key[..]);
        let (key, value) = if std::mem::replace(begun, true) {
            let stepped = match walk.step(&view.trie.nodes) {
                Ok(None) => return None,
                Ok(Some(leaf)) => view.arrive_copied(walk, leaf, from),
                Err(Retry) => Err(Retry),
            };
            match stepped {
                Ok(entry) => entry,
                Err(Retry) => {
                    view.trie.counters.retries.fetch_add(1, Ordering::Relaxed);
                    // This seek is like any other: a model need not explore it again.
                    explored();
                    view.seek_copied(walk, from)?
                }
            }
        } else {
            view.seek_copied(walk, from)?
        };
        let admitted = O::admits(other.bound(), &key);
        *place = Excluded(key);
        admitted.then_some(value)
    }
}

impl<'r, V: PlainBits, B: ReusePolicy, L: ReusePolicy> IterCopied<'r, V, B, L> {
    pub(in crate::map) fn new(view: &'r TrieRef<V, B, L>, (start, end): Bounds) -> Self {
        Self { view, front: End::new(start), back: End::new(end), ended: false }
    }

    /// Writes the next key to `key`, and returns its value. At the end returns `None` and leaves
    /// `key` unchanged.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::with_policies()?;
    /// let view = trie.pin();
    /// view.insert_copied(b"a", 1)?;
    /// view.insert_copied(b"b", 2)?;
    /// let (mut scan, mut key, mut sum) = (view.iter_copied(), Vec::new(), 0);
    /// while let Some(value) = scan.next_into(&mut key) {
    ///     sum += value;
    /// }
    /// assert_eq!((sum, &key[..]), (3, &b"b"[..]));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn next_into(&mut self, key: &mut Vec<u8>) -> Option<V> {
        if self.ended {
            return None;
        }
        let value = self.front.next(self.view, &self.back);
        self.ended = value.is_none();
        put(&self.front, key, value)
    }

    /// Returns the next entry; the key is borrowed from the iterator.
    #[inline]
    pub(in crate::map) fn next_borrowed(&mut self) -> Option<(&[u8], V)> {
        if self.ended {
            return None;
        }
        let value = self.front.next(self.view, &self.back);
        self.ended = value.is_none();
        match self.front.bound() {
            Excluded(key) => value.map(|value| (key, value)),
            _ => None,
        }
    }

    /// Writes the last remaining key to `key`, and returns its value. At the end returns `None` and
    /// leaves `key` unchanged.
    #[inline]
    pub fn next_back_into(&mut self, key: &mut Vec<u8>) -> Option<V> {
        if self.ended {
            return None;
        }
        let value = self.back.next(self.view, &self.front);
        self.ended = value.is_none();
        put(&self.back, key, value)
    }
}

/// Copies the key at the position of an end to `key`, if there is a value.
#[inline]
fn put<D: Direction, V>(end: &End<D>, key: &mut Vec<u8>, value: Option<V>) -> Option<V> {
    if let (Some(_), Excluded(found)) = (&value, end.bound()) {
        key.clear();
        key.extend_from_slice(found);
    }
    value
}

impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> Iterator for IterCopied<'_, V, B, L> {
    type Item = (Vec<u8>, V);

    fn next(&mut self) -> Option<Self::Item> {
        let mut key = Vec::new();
        let value = self.next_into(&mut key)?;
        Some((key, value))
    }

    fn last(mut self) -> Option<Self::Item> {
        self.next_back()
    }
}

impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> DoubleEndedIterator for IterCopied<'_, V, B, L> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let mut key = Vec::new();
        let value = self.next_back_into(&mut key)?;
        Some((key, value))
    }
}

impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> FusedIterator for IterCopied<'_, V, B, L> {}

impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> Clone for IterCopied<'_, V, B, L> {
    fn clone(&self) -> Self {
        Self {
            view: self.view,
            front: self.front.clone(),
            back: self.back.clone(),
            ended: self.ended,
        }
    }
}

impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> fmt::Debug for IterCopied<'_, V, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterCopied").field("ended", &self.ended).finish_non_exhaustive()
    }
}
