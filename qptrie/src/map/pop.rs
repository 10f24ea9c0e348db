//! Taking the first entry out, or the last.

use super::view::TrieRef;
use crate::node::PlainBits;
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::sync::pause;
use memalloc::{ProtectsIdentity, ReusePolicy};
use std::ops::Bound::Unbounded;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Takes the entry with the least key out, and gives it.
    ///
    /// The key was the least of all at a moment during the call, and no other call gets this entry too. A
    /// lesser key that another thread inserts meanwhile may stay. Never fails for lack of memory.
    ///
    /// Cost: a lookup of the least key and a removal; both again where another thread was faster. Threads
    /// that all pop change the same few branches, and wait for one another.
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

    /// Takes the entry with the greatest key out, and gives it. As [`pop_first`](Self::pop_first).
    pub fn pop_last(&self) -> Option<(&[u8], &V)> {
        self.pop::<Descending>()
    }

    fn pop<D: Direction>(&self) -> Option<(&[u8], &V)> {
        loop {
            let leaf = self.seek(&mut Walk::<D>::lost(), Unbounded)?;
            // SAFETY: `seek` found it linked, inside the section (INV-G1).
            let (key, _) = unsafe { self.entry(leaf) };
            if let Some(value) = self.remove_bytes(key) {
                return Some((key, value));
            }
            pause();
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Takes the entry with the least key out, puts the key into `key`, and gives the value. In an empty trie
    /// `key` is left alone. As [`pop_first`](TrieRef::pop_first), with copies, under every policy of leaves.
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

    /// Takes the entry with the greatest key out, puts the key into `key`, and gives the value. In an empty
    /// trie `key` is left alone. As [`pop_first_copied`](Self::pop_first_copied).
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
