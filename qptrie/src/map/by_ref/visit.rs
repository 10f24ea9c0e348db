//! Scans that call a closure for each entry.
//!
//! Such a scan is one end of an [`Iter`](crate::Iter), without a place for the other end and
//! without copies of the bounds.

use crate::map::by_ref::point::TrieRef;
use crate::map::range::KeyRange;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::{ProtectsIdentity, ReusePolicy};
use std::convert::Infallible;
use std::ops::Bound::Excluded;
use std::ops::ControlFlow::{self, Continue};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Calls `visit` for the entries in `range` in ascending order; `..` selects all entries.
    ///
    /// While other threads write it has the guarantees of [`Iter`](crate::Iter), and costs a little
    /// less. `visit` runs inside the section without locks: it may change the trie.
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

    /// Calls `visit` for the entries in `range` in ascending order until `visit` breaks; returns
    /// the value of the break. Otherwise like [`for_each`](Self::for_each).
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
            // SAFETY: the walk found the leaf inside the section (QPT-G1).
            let (key, value) = unsafe { self.entry(found) };
            if !Descending::admits(end, key) {
                break;
            }
            visit(key, value)?;
            leaf = match walk.step_beside(&self.trie.nodes) {
                Some(leaf) => Some(leaf),
                None => self.step(&mut walk, || Excluded(key)),
            };
        }
        Continue(())
    }
}
