//! Scans that call a closure for each entry, for readers that sleep in between.

use crate::map::range::KeyRange;
use crate::map::sleepable::view::TraceRef;
use crate::read::{Descending, Direction};
use memalloc::{ProtectsSleepers, ReusePolicy};
use std::convert::Infallible;
use std::ops::Bound::Excluded;
use std::ops::ControlFlow::{self, Continue};

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceRef<V, B, L> {
    /// Calls `visit` for the entries in `range` in ascending order; `..` selects all entries.
    ///
    /// While other threads write it has the guarantees of [`TraceIter`](crate::TraceIter), and the
    /// same cost, without copies of the bounds. `visit` runs outside of RCU sections: it may sleep
    /// and change the trie.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Immediate};
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, AfterTasksTraceGp>::from([("a", 1), ("b", 2), ("c", 3)]);
    /// let mut sum = 0;
    /// trie.pin_trace().for_each(.., |_, value| sum += value);
    /// trie.pin_trace().for_each("b".., |_, value| sum += value);
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
    pub fn try_for_each<'g, T>(
        &'g self,
        range: impl KeyRange,
        mut visit: impl FnMut(&'g [u8], &'g V) -> ControlFlow<T>,
    ) -> ControlFlow<T> {
        let (mut from, end) = range.bounds();
        while let Some((key, value)) = self.lower_bound(from) {
            if !Descending::admits(end, key) {
                break;
            }
            visit(key, value)?;
            from = Excluded(key);
        }
        Continue(())
    }
}
