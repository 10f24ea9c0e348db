//! Scans that call a closure with a copy of each value.

use crate::map::by_ref::point::TrieRef;
use crate::map::range::KeyRange;
use crate::node::PlainBits;
use memalloc::ReusePolicy;
use std::convert::Infallible;
use std::ops::ControlFlow::{self, Continue};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Calls `visit` for the entries in `range` in ascending order, with a copy of each value; `..`
    /// selects all entries. Otherwise like [`for_each`](TrieRef::for_each), under every policy of
    /// leaves.
    ///
    /// The key is borrowed for the call, so no key is allocated. [`iter_copied`](Self::iter_copied)
    /// returns an owned key for each entry.
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

    /// Calls `visit` for the entries in `range` in ascending order, with a copy of each value,
    /// until `visit` breaks; returns the value of the break. Otherwise like
    /// [`for_each_copied`](Self::for_each_copied).
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
