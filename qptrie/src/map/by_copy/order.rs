//! Operations on the order of keys that copy values, inside a read section, under every policy of
//! leaves.

use crate::map::by_copy::iter::IterCopied;
use crate::map::by_ref::point::TrieRef;
use crate::map::range::{KeyRange, prefix_bounds, range_bounds};
use crate::node::{KeyCopy, PlainBits, Retry};
use crate::read::{Ascending, Descending, Direction, LeafAt, Walk, longest_prefix};
use memalloc::{Handle, ReusePolicy};
use std::ops::Bound::{self, Unbounded};

/// # Operations on the order of keys that copy values
///
/// If leaves are reused at once, keys can't be borrowed either: they are copied into a buffer of
/// the caller. The guarantees while other threads write are those of the other operations on the
/// order of keys.
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Writes the smallest key that is at least (`Included`) or greater than (`Excluded`) the bound
    /// (the first key for `Unbounded`) to `key`, and returns a copy of its value. If there is no
    /// such key, returns `None` and leaves `key` unchanged.
    ///
    /// Calling this with the last key as the next excluded bound scans the trie: in order, without
    /// duplicates, and returning every key that is present throughout. Each step costs a lookup;
    /// [`iter_copied`](Self::iter_copied) costs less.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    /// use std::ops::Bound::{Excluded, Unbounded};
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::with_policies()?;
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
    pub fn lower_bound_copied(&self, bound: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        self.nearest_copied::<Ascending>(bound, key)
    }

    /// Writes the greatest key that is at most (`Included`) or less than (`Excluded`) the bound
    /// (the last key for `Unbounded`) to `key`, and returns a copy of its value. If there is no
    /// such key, returns `None` and leaves `key` unchanged.
    pub fn upper_bound_copied(&self, bound: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        self.nearest_copied::<Descending>(bound, key)
    }

    /// Returns copies of all entries in ascending order; use [`rev`](Iterator::rev) for descending
    /// order. See [`IterCopied`] for its guarantees while other threads write.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::with_policies()?;
    /// let view = trie.pin();
    /// for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
    ///     view.insert_copied(key.as_bytes(), value)?;
    /// }
    /// assert!(view.iter_copied().map(|(_, value)| value).eq([1, 2, 3]));
    /// assert_eq!(view.iter_copied().next_back(), Some((b"c".to_vec(), 3)));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter_copied(&self) -> IterCopied<'_, V, B, L>
    where
        V: PlainBits,
    {
        IterCopied::new(self, (Unbounded, Unbounded))
    }

    /// Returns copies of the entries whose keys are in `range`, from both ends, like
    /// [`range`](TrieRef::range). A range whose start is after its end is empty.
    pub fn range_copied(&self, range: impl KeyRange) -> IterCopied<'_, V, B, L>
    where
        V: PlainBits,
    {
        IterCopied::new(self, range_bounds(&range))
    }

    /// Returns copies of the entries whose keys begin with `prefix`, including `prefix` itself,
    /// from both ends, like [`prefix`](TrieRef::prefix).
    pub fn prefix_copied(&self, prefix: &(impl AsRef<[u8]> + ?Sized)) -> IterCopied<'_, V, B, L>
    where
        V: PlainBits,
    {
        IterCopied::new(self, prefix_bounds(prefix.as_ref()))
    }

    /// Returns the longest key that is a prefix of `key`, as a part of `key`, and a copy of its
    /// value. Otherwise like [`longest_prefix`](TrieRef::longest_prefix), under every policy of
    /// leaves. Does not allocate.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, Immediate>::with_policies()?;
    /// let view = trie.pin();
    /// view.insert_copied("/", 1)?;
    /// view.insert_copied("/usr/lib", 2)?;
    /// assert_eq!(view.longest_prefix_copied("/usr/lib/rust"), Some((&b"/usr/lib"[..], 2)));
    /// assert_eq!(view.longest_prefix_copied("/usr/li"), Some((&b"/"[..], 1)));
    /// assert_eq!(view.longest_prefix_copied("usr"), None);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "trie_lookup_elem")]
    #[must_use]
    #[inline]
    pub fn longest_prefix_copied<'k, K: AsRef<[u8]> + ?Sized>(
        &self,
        key: &'k K,
    ) -> Option<(&'k [u8], V)>
    where
        V: PlainBits,
    {
        self.longest_prefix_copied_bytes(key.as_ref())
    }

    fn longest_prefix_copied_bytes<'k>(&self, key: &'k [u8]) -> Option<(&'k [u8], V)>
    where
        V: PlainBits,
    {
        let nodes = &self.trie.nodes;
        // If the leaf has another key now, it is no longer the leaf that was found.
        let arrive = |reached: LeafAt<'_>, prefix: &[u8]| {
            let value = reached.value_of(nodes, prefix)?.ok_or(Retry)?;
            Ok::<_, Retry>((prefix.len(), value))
        };
        let look = || longest_prefix(nodes, key, arrive);
        let found = self.until_placed(look, || nodes.roots.of(key).insist(look));
        found.map(|(length, value)| (&key[..length], value))
    }

    fn nearest_copied<D: Direction>(&self, from: Bound<&[u8]>, key: &mut Vec<u8>) -> Option<V>
    where
        V: PlainBits,
    {
        let (copy, value) = self.seek_copied(&mut Walk::<D>::lost(), from)?;
        key.clear();
        key.extend_from_slice(&copy);
        Some(value)
    }

    /// Returns the first entry of a walk that begins at `from`.
    pub(in crate::map) fn seek_copied<D: Direction>(
        &self,
        walk: &mut Walk<D>,
        from: Bound<&[u8]>,
    ) -> Option<(KeyCopy, V)>
    where
        V: PlainBits,
    {
        let look = || {
            let leaf = walk.seek(&self.trie.nodes, from)?;
            let entry = leaf.map(|leaf| self.arrive_copied(walk, leaf, from)).transpose();
            if entry.is_err() {
                // The walk must not continue after a leaf that was not read.
                *walk = Walk::lost();
            }
            entry
        };
        let insist =
            || self.seek_insisting::<D, _>(from, |walk, leaf| self.arrive_copied(walk, leaf, from));
        self.until_placed(look, insist)
    }

    /// Returns the entry of the leaf that a walk from `from` has reached. If this fails, the walk
    /// has passed a leaf that was not read, so it has to seek.
    pub(in crate::map) fn arrive_copied<D: Direction>(
        &self,
        walk: &Walk<D>,
        leaf: Handle,
        from: Bound<&[u8]>,
    ) -> Result<(KeyCopy, V), Retry>
    where
        V: PlainBits,
    {
        let nodes = &self.trie.nodes;
        let mut copy = KeyCopy::new();
        let value = walk.reached(nodes, leaf).entry(nodes, &mut copy)?;
        // The leaf may belong to another key since the walk looked at it.
        if D::admits(from, &copy) { Ok((copy, value)) } else { Err(Retry) }
    }
}
