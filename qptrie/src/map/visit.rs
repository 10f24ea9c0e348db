//! Scans that call a closure for each entry.
//!
//! One end of an [`Iter`](super::Iter): without a place for the other end, and without copies of the bounds.

use super::range::KeyRange;
use super::view::TrieRef;
use crate::node::PlainBits;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::{ProtectsIdentity, ReusePolicy};
use std::convert::Infallible;
use std::ops::Bound::Excluded;
use std::ops::ControlFlow::{self, Continue};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Calls `visit` for the entries in `range`, ascending; `..` is all of them.
    ///
    /// Promises beside writers what [`Iter`](crate::Iter) does, and costs a little less. `visit` runs inside
    /// the section, with nothing locked: it may change the trie.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// let trie = QpTrie::<u32>::from([("a", 1), ("b", 2), ("c", 3)]);
    /// let mut sum = 0;
    /// trie.pin().for_each(.., |_, value| sum += value);
    /// trie.pin().for_each("b".., |_, value| sum += value);
    /// assert_eq!(sum, 11);
    /// ```
    pub fn for_each<'g>(&'g self, range: impl KeyRange, mut visit: impl FnMut(&'g [u8], &'g V)) {
        let Continue(()) = self.try_for_each(range, |key, value| {
            visit(key, value);
            Continue::<Infallible>(())
        });
    }

    /// Calls `visit` for the entries in `range`, ascending, until it breaks, and gives what it broke with. As
    /// [`for_each`](Self::for_each).
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// use std::ops::ControlFlow::{Break, Continue};
    ///
    /// let trie = QpTrie::<u32>::from([("a", 1), ("b", 2), ("c", 3)]);
    /// let view = trie.pin();
    /// let even = |key, &value| if value % 2 == 0 { Break(key) } else { Continue(()) };
    /// assert_eq!(view.try_for_each(.., even), Break(&b"b"[..]));
    /// assert_eq!(view.try_for_each("c".., even), Continue(()));
    /// ```
    pub fn try_for_each<'g, T>(
        &'g self,
        range: impl KeyRange,
        mut visit: impl FnMut(&'g [u8], &'g V) -> ControlFlow<T>,
    ) -> ControlFlow<T> {
        let (start, end) = range.bounds();
        let mut walk = Walk::<Ascending>::lost();
        let mut leaf = self.seek(&mut walk, start);
        while let Some(found) = leaf {
            // SAFETY: the walk found the leaf inside the section (INV-G1).
            let (key, value) = unsafe { self.entry(found) };
            if !Descending::admits(end, key) {
                break;
            }
            visit(key, value)?;
            leaf = self.step(&mut walk, || Excluded(key));
        }
        Continue(())
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Calls `visit` for the entries in `range`, ascending, with a copy of each value; `..` is all of them.
    /// As [`for_each`](TrieRef::for_each), under every policy of leaves.
    ///
    /// The key is lent for the call, so that none is allocated. [`iter_copied`](Self::iter_copied) has an owned
    /// key for each entry.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::from([("a", 1), ("b", 2), ("c", 3)]);
    /// let mut sum = 0;
    /// trie.pin().for_each_copied("b".., |_, value| sum += value);
    /// assert_eq!(sum, 5);
    /// ```
    pub fn for_each_copied(&self, range: impl KeyRange, mut visit: impl FnMut(&[u8], V))
    where
        V: PlainBits,
    {
        let Continue(()) = self.try_for_each_copied(range, |key, value| {
            visit(key, value);
            Continue::<Infallible>(())
        });
    }

    /// Calls `visit` for the entries in `range`, ascending, with a copy of each value, until it breaks, and
    /// gives what it broke with. As [`for_each_copied`](Self::for_each_copied).
    pub fn try_for_each_copied<T>(
        &self,
        range: impl KeyRange,
        mut visit: impl FnMut(&[u8], V) -> ControlFlow<T>,
    ) -> ControlFlow<T>
    where
        V: PlainBits,
    {
        let mut scan = self.range_copied(range);
        while let Some((key, value)) = scan.next_borrowed() {
            visit(key, value)?;
        }
        Continue(())
    }
}
