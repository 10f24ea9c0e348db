//! The trie inside a read section: operations on the order of keys that copy values, under every
//! policy of leaves.

use super::view::TrieRef;
use crate::node::{KeyCopy, PlainBits, Retry};
use crate::read::{Ascending, Descending, Direction, Walk};
use memalloc::{Handle, ReusePolicy};
use std::ops::Bound;

/// # Operations on the order of keys that copy values
///
/// Where leaves are reused at once a key can't be borrowed either: it is copied into a buffer of the
/// caller's. What they promise beside writers is what the other operations on the order of keys do.
impl<V: PlainBits, B: ReusePolicy, L: ReusePolicy> TrieRef<'_, V, B, L> {
    /// Puts the least key that is at least (`Included`) or greater than (`Excluded`) the bound, the
    /// least of all for `Unbounded`, into `key`, and gives a copy of its value. Where there is no
    /// such key, `key` is left alone.
    ///
    /// With the last key as the next bound this is a scan: in order, without duplicates, and it
    /// returns every key that is there throughout. Each step costs a lookup.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    /// use std::ops::Bound::{Excluded, Unbounded};
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::new()?;
    /// let view = trie.pin();
    /// for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
    ///     view.insert_copied(key.as_bytes(), value)?;
    /// }
    /// let (mut key, mut sum) = (Vec::new(), 0);
    /// let mut found = view.lower_bound_copied(Unbounded, &mut key);
    /// while let Some(value) = found {
    ///     sum += value;
    ///     let last = key.clone();
    ///     found = view.lower_bound_copied(Excluded(&last), &mut key);
    /// }
    /// assert_eq!((sum, &key[..]), (6, &b"c"[..]));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lower_bound_copied(&self, bound: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V> {
        self.nearest_copied::<Ascending>(bound, key)
    }

    /// Puts the greatest key that is at most (`Included`) or less than (`Excluded`) the bound, the
    /// greatest of all for `Unbounded`, into `key`, and gives a copy of its value. Where there is
    /// no such key, `key` is left alone.
    pub fn upper_bound_copied(&self, bound: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V> {
        self.nearest_copied::<Descending>(bound, key)
    }

    fn nearest_copied<D: Direction>(&self, from: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V> {
        let nodes = &self.trie.nodes;
        let arrive = |walk: &Walk<D>, leaf: Handle| {
            let mut copy = KeyCopy::new();
            let value = walk.reached(nodes, leaf).entry(nodes, &mut copy)?;
            // The leaf may be another key's since the walk looked at it.
            if D::admits(from, &copy) { Ok((copy, value)) } else { Err(Retry) }
        };
        let look = || {
            let mut walk = Walk::<D>::lost();
            let leaf = walk.seek(nodes, from)?;
            leaf.map(|leaf| arrive(&walk, leaf)).transpose()
        };
        let (copy, value) = self.until_placed(look, || self.seek_insisting(from, arrive))?;
        key.clear();
        key.extend_from_slice(&copy);
        Some(value)
    }
}
