//! Removes the first entry or the last, and copies it.

use crate::map::by_ref::point::TrieRef;
use crate::node::PlainBits;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::ReusePolicy;
use memalloc::sync::pause;
use std::ops::Bound::Unbounded;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Removes the entry with the smallest key, writes the key to `key`, and returns a copy of the
    /// value. If the trie is empty, returns `None` and leaves `key` unchanged. Otherwise like
    /// [`pop_first`](TrieRef::pop_first), under every policy of leaves.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let queue = QpTrie::<u32, Immediate, Immediate>::from([("b", 2), ("a", 1)]);
    /// let (view, mut key) = (queue.pin(), Vec::new());
    /// assert_eq!(view.pop_first_copied(&mut key), Some(1));
    /// assert_eq!(key, b"a");
    /// # assert_eq!(view.pop_last_copied(&mut key), Some(2));
    /// # assert_eq!(view.pop_last_copied(&mut key), None);
    /// # assert_eq!(key, b"b");
    /// ```
    pub fn pop_first_copied(&self, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        self.pop_copied::<Ascending>(key)
    }

    /// Removes the entry with the greatest key, writes the key to `key`, and returns a copy of the
    /// value. If the trie is empty, returns `None` and leaves `key` unchanged. Otherwise like
    /// [`pop_first_copied`](Self::pop_first_copied).
    pub fn pop_last_copied(&self, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        self.pop_copied::<Descending>(key)
    }

    fn pop_copied<D: Direction>(&self, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        loop {
            let (found, _) = self.seek_copied(&mut Walk::<D>::lost(), Unbounded)?;
            if let Some(value) = self.remove_copied_bytes(&found) {
                key.clear();
                key.extend_from_slice(&found);
                return Some(value);
            }
            pause();
        }
    }
}
