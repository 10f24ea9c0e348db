//! Removes the first entry or the last.

use crate::map::by_ref::point::TrieRef;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::sync::pause;
use memalloc::{ProtectsIdentity, ReusePolicy};
use std::ops::Bound::Unbounded;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Removes the entry with the smallest key and returns it.
    ///
    /// The key was the smallest one at a moment during the call, and no other call returns this
    /// entry. A smaller key that another thread inserts meanwhile may stay. Never fails for lack of
    /// memory.
    ///
    /// Cost: a lookup of the smallest key and a removal; both are repeated if another thread
    /// removes the entry first. Threads that all pop change the same few branches and wait for one
    /// another.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// let queue = QpTrie::<&str>::from([([2], "later"), ([1], "now")]);
    /// let view = queue.pin();
    /// assert_eq!(view.pop_first(), Some((&[1][..], &"now")));
    /// assert_eq!(view.pop_last(), Some((&[2][..], &"later")));
    /// assert_eq!(view.pop_first(), None);
    /// ```
    pub fn pop_first(&self) -> Option<(&[u8], &V)> {
        self.pop::<Ascending>()
    }

    /// Removes the entry with the greatest key and returns it. Otherwise like
    /// [`pop_first`](Self::pop_first).
    pub fn pop_last(&self) -> Option<(&[u8], &V)> {
        self.pop::<Descending>()
    }

    fn pop<D: Direction>(&self) -> Option<(&[u8], &V)> {
        loop {
            let leaf = self.seek(&mut Walk::<D>::lost(), Unbounded)?;
            // SAFETY: `seek` found the leaf linked, inside the section (QPT-G1).
            let (key, _) = unsafe { self.entry(leaf) };
            if let Some(value) = self.remove_bytes(key) {
                return Some((key, value));
            }
            pause();
        }
    }
}
