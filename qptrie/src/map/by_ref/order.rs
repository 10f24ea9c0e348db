//! Operations on the order of keys inside a read section.

use crate::map::by_ref::iter::Iter;
use crate::map::by_ref::point::TrieRef;
use crate::map::range::{KeyRange, prefix_bounds, range_bounds};
use crate::node::{Retry, Roots};
use crate::read::{Ascending, Descending, Direction, Walk, longest_prefix};
use memalloc::sync::{Ordering, explored};
use memalloc::{Handle, ProtectsIdentity, ReusePolicy};
use std::iter::FusedIterator;
use std::ops::Bound::{self, Excluded, Included, Unbounded};

/// # Operations on the order of keys
///
/// Keys are ordered by their bytes, compared as unsigned numbers; a key comes before the longer
/// keys that begin with it. These operations take no lock. If writers force too many retries of one
/// ([`Builder::reader_retries`](crate::Builder::reader_retries)), it blocks changes in the part of
/// the trie that it searches until it is done. They do not allocate while the path from the root
/// has at most 24 branches (except for the buffer that `next_key` and `prev_key` fill).
///
/// While other threads write, each operation sees every key that is present throughout the
/// operation, and returns entries that were present at a moment during it (for an iterator see
/// [`Iter`]).
///
/// These operations return references, so they exist only if the policy of leaves protects
/// identity:
///
/// ```compile_fail,E0599
/// use memalloc::Immediate;
/// use qptrie::QpTrie;
///
/// let trie = QpTrie::<u64, Immediate, Immediate>::with_policies().unwrap();
/// let view = trie.pin();
/// let first = view.iter().next();
/// ```
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Returns all entries in ascending order; use [`rev`](Iterator::rev) for descending order. See
    /// [`Iter`] for its guarantees while other threads write.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// let trie: QpTrie<u32> = QpTrie::new()?;
    /// let view = trie.pin();
    /// for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
    ///     view.insert(key.as_bytes(), value)?;
    /// }
    /// assert!(view.iter().map(|(_, value)| value).eq(&[1, 2, 3]));
    /// assert!(view.iter().rev().map(|(_, value)| value).eq(&[3, 2, 1]));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, V, B, L> {
        Iter::new(self, (Unbounded, Unbounded))
    }

    /// Returns the entries whose keys are in `range`, like [`BTreeMap::range`], from both ends. A
    /// range whose start is after its end is empty.
    ///
    /// Cost: a lookup for each end that is used, then a step for each entry. The bounds are copied,
    /// without an allocation up to 24 bytes each.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// use std::ops::Bound::{Excluded, Unbounded};
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// for key in ["a", "b", "c", "d"] {
    ///     view.insert(key.as_bytes(), 0)?;
    /// }
    /// let keys = |range| -> Vec<&[u8]> { Iterator::map(range, |(key, _)| key).collect() };
    /// assert_eq!(keys(view.range("b".."d")), [b"b", b"c"]);
    /// assert_eq!(keys(view.range((Excluded("b"), Unbounded))), [b"c", b"d"]);
    /// assert!(keys(view.range("d"..="a")).is_empty());
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [`BTreeMap::range`]: std::collections::BTreeMap::range
    pub fn range(&self, range: impl KeyRange) -> Iter<'_, V, B, L> {
        Iter::new(self, range_bounds(&range))
    }

    /// Returns the entries whose keys begin with `prefix`, including `prefix` itself, from both
    /// ends. Costs the same as [`range`](Self::range).
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// for key in ["/bin", "/bin/ls", "/boot", "/etc"] {
    ///     view.insert(key.as_bytes(), 0)?;
    /// }
    /// assert_eq!(view.prefix(b"/bin").count(), 2);
    /// assert_eq!(view.prefix(b"/b").next_back(), Some((&b"/boot"[..], &0)));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prefix(&self, prefix: &(impl AsRef<[u8]> + ?Sized)) -> Iter<'_, V, B, L> {
        Iter::new(self, prefix_bounds(prefix.as_ref()))
    }

    /// Returns the keys in ascending order. See [`iter`](Self::iter).
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &[u8]> + FusedIterator {
        self.iter().map(|(key, _)| key)
    }

    /// Returns the values in ascending order of their keys. See [`iter`](Self::iter).
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + FusedIterator {
        self.iter().map(|(_, value)| value)
    }

    /// Returns the entry with the smallest key.
    #[must_use]
    pub fn first(&self) -> Option<(&[u8], &V)> {
        self.lower_bound(Unbounded)
    }

    /// Returns the entry with the greatest key.
    #[must_use]
    pub fn last(&self) -> Option<(&[u8], &V)> {
        self.upper_bound(Unbounded)
    }

    /// Returns the entry with the smallest key that is at least (`Included`) or greater than
    /// (`Excluded`) the bound; the first entry for `Unbounded`.
    #[must_use]
    pub fn lower_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        self.nearest::<Ascending>(bound)
    }

    /// Returns the entry with the greatest key that is at most (`Included`) or less than
    /// (`Excluded`) the bound; the last entry for `Unbounded`.
    #[must_use]
    pub fn upper_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        self.nearest::<Descending>(bound)
    }

    /// Writes the smallest key that is greater than `after` (the first key for `None`) to `key`.
    /// Returns false, and leaves `key` unchanged, if there is none. A cursor whose key was removed
    /// continues with the next greater key.
    #[doc(alias = "map_get_next_key")]
    pub fn next_key(&self, after: Option<&[u8]>, key: &mut Vec<u8>) -> bool {
        copy_key(self.lower_bound(after.map_or(Unbounded, Excluded)), key)
    }

    /// Writes the greatest key that is less than `before` (the last key for `None`) to `key`.
    /// Returns false, and leaves `key` unchanged, if there is none. A cursor whose key was removed
    /// continues with the next smaller key.
    pub fn prev_key(&self, before: Option<&[u8]>, key: &mut Vec<u8>) -> bool {
        copy_key(self.upper_bound(before.map_or(Unbounded, Excluded)), key)
    }

    /// Returns the entry with the longest key that is a prefix of `key`: `key` itself if it is
    /// present, and the empty key as the last resort. Routing tables use this.
    ///
    /// Costs a lookup and one check for each branch on its path. Exact if no thread writes
    /// meanwhile; otherwise the entry was present at a moment during the call, and its key is at
    /// least as long as any prefix that is present throughout.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// view.insert(b"/", 1)?;
    /// view.insert(b"/usr/lib", 2)?;
    /// assert_eq!(view.longest_prefix(b"/usr/lib/rust"), Some((&b"/usr/lib"[..], &2)));
    /// assert_eq!(view.longest_prefix(b"/usr/li"), Some((&b"/"[..], &1)));
    /// assert_eq!(view.longest_prefix(b"usr"), None);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "trie_lookup_elem")]
    #[must_use]
    #[inline]
    pub fn longest_prefix(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        self.longest_prefix_bytes(key.as_ref())
    }

    /// [`longest_prefix`](Self::longest_prefix), compiled once for all key types.
    pub(in crate::map) fn longest_prefix_bytes(&self, key: &[u8]) -> Option<(&[u8], &V)> {
        let nodes = &self.trie.nodes;
        let look = || longest_prefix(nodes, key, |reached, _| Ok(reached.leaf));
        let leaf = self.until_placed(look, || nodes.roots.of(key).insist(look))?;
        // SAFETY: `longest_prefix` confirmed the leaf, inside the section.
        Some(unsafe { self.entry(leaf) })
    }

    fn nearest<D: Direction>(&self, from: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let leaf = self.seek(&mut Walk::<D>::lost(), from)?;
        // SAFETY: `seek` found the leaf linked, inside the section.
        Some(unsafe { self.entry(leaf) })
    }

    /// Returns the next leaf of a walk that has reached `from`.
    #[inline]
    pub(in crate::map) fn step<'b, D: Direction>(
        &self,
        walk: &mut Walk<D>,
        from: impl FnOnce() -> Bound<&'b [u8]>,
    ) -> Option<Handle> {
        match walk.step(&self.trie.nodes) {
            Ok(leaf) => leaf,
            Err(Retry) => {
                self.trie.counters.retries.fetch_add(1, Ordering::Relaxed);
                // This seek is like any other: a model need not explore it again.
                explored();
                self.seek(walk, from())
            }
        }
    }

    /// Returns the first leaf of a walk that begins at `from`.
    #[inline(never)]
    pub(in crate::map) fn seek<D: Direction>(
        &self,
        walk: &mut Walk<D>,
        from: Bound<&[u8]>,
    ) -> Option<Handle> {
        let nodes = &self.trie.nodes;
        self.until_placed(
            || walk.seek(nodes, from),
            || self.seek_insisting::<D, _>(from, |_, leaf| Ok(leaf)),
        )
    }

    /// Returns the entry of a leaf.
    ///
    /// # Safety
    ///
    /// The leaf was linked inside this section.
    pub(in crate::map) unsafe fn entry(&self, leaf: Handle) -> (&[u8], &V) {
        // SAFETY: as the caller says; the section protects the leaf (QPT-N3).
        unsafe { (self.trie.nodes.key(leaf), self.trie.nodes.value(leaf)) }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Tries `look` up to the limit for readers, and then insists.
    pub(in crate::map) fn until_placed<R>(
        &self,
        mut look: impl FnMut() -> Result<Option<R>, Retry>,
        insist: impl FnOnce() -> Option<R>,
    ) -> Option<R> {
        let trie = &self.trie;
        if let Ok(found) = look() {
            return found;
        }
        for _ in 0..trie.settings.reader_retries {
            trie.counters.retries.fetch_add(1, Ordering::Relaxed);
            if let Ok(found) = look() {
                return found;
            }
        }
        trie.counters.insisted.fetch_add(1, Ordering::Relaxed);
        insist()
    }

    /// Applies `arrive` to the first leaf of a walk that begins at `from`. Searches below one root
    /// after the other and blocks changes below the root that it searches.
    #[cold]
    pub(in crate::map) fn seek_insisting<D: Direction, R>(
        &self,
        from: Bound<&[u8]>,
        mut arrive: impl FnMut(&Walk<D>, Handle) -> Result<R, Retry>,
    ) -> Option<R> {
        let nodes = &self.trie.nodes;
        let mut walk = Walk::<D>::lost();
        let all = nodes.roots.all().len() as u16;
        let mut roots = match from {
            Unbounded => 0..all,
            Included(key) | Excluded(key) => {
                let first = Roots::number_of(key) as u16;
                let mut roots = D::beyond(first..first + 1, 0..all);
                D::put_back(&mut roots);
                roots
            }
        };
        while let Some(root) = D::take(&mut roots) {
            let root = usize::from(root);
            let found = nodes.roots.all()[root].insist(|| {
                let leaf = walk.seek_below(nodes, from, root)?;
                leaf.map(|leaf| arrive(&walk, leaf)).transpose()
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> IntoIterator
    for &'r TrieRef<V, B, L>
{
    type Item = (&'r [u8], &'r V);
    type IntoIter = Iter<'r, V, B, L>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn copy_key<V>(entry: Option<(&[u8], &V)>, key: &mut Vec<u8>) -> bool {
    let Some((found, _)) = entry else {
        return false;
    };
    key.clear();
    key.extend_from_slice(found);
    true
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::QpTrie;
    use crate::node::{Node, Twig};
    use crate::write::{Located, locate};
    use memalloc::{AfterRcuGp, Immediate};

    type Trie = QpTrie<u64, Immediate, AfterRcuGp>;

    /// Returns the branch that a slot names.
    fn branch(slot: &memalloc::sync::AtomicU32) -> Handle {
        match Twig::load(slot, Ordering::Relaxed).node() {
            Node::Branch(branch) => branch,
            other => panic!("{other:?} is no branch"),
        }
    }

    /// A reader that insists finds its entry with a separate walk. The walk whose seek failed must
    /// not continue with what it saw before.
    #[test]
    fn a_walk_whose_seek_failed_half_way_is_lost() {
        let trie = Trie::with_policies().expect("a trie");
        let view = trie.pin();
        for key in [&b"aa1"[..], b"aa2", b"aa3", b"ab"] {
            view.insert(key, 0).expect("memory");
        }
        let nodes = &trie.nodes;
        let upper = branch(nodes.roots.of(b"a").slot());
        let first = nodes.slots(upper, nodes.shape(upper)).start;
        let lower = branch(nodes.slot(upper, first));
        let mut walk = Walk::<Ascending>::lost();
        let from = Excluded(&b"aa1"[..]);
        assert!(matches!(walk.seek(nodes, from), Ok(Some(_))));
        // Leave it in the state of a branch that a writer is about to replace.
        let life = nodes.count(lower).life().expect("it is linked");
        nodes.count(lower).lock(life).expect("no other thread is here").unlink();
        assert_eq!(walk.seek(nodes, from), Err(Retry));
        assert_eq!(walk.step(nodes), Err(Retry), "half a way is no place");
        // The drop of the trie needs intact branches.
        drop(nodes.count(lower).begin());
    }

    /// A walk that reached a leaf which was being written must not continue either.
    #[test]
    fn a_walk_whose_seek_came_to_a_leaf_that_is_written_is_lost() {
        for (from, written) in [(b"xA7", b"xB9"), (b"xA:", b"xB1")] {
            let trie = QpTrie::<u64, Immediate, Immediate>::with_policies().expect("a trie");
            let view = trie.pin();
            for key in [b"xB1", b"xB5", b"xB9"] {
                view.insert_copied(key, 0).expect("memory");
            }
            let nodes = &trie.nodes;
            let Ok(Located::Found(found)) = locate(nodes, written) else {
                panic!("it was put there");
            };
            let versions = nodes.versions(found.leaf);
            let writing = versions.lock(versions.now().expect("no other thread is here"));
            let mut walk = Walk::<Ascending>::lost();
            assert_eq!(walk.seek(nodes, Included(from)), Err(Retry));
            assert_eq!(walk.step(nodes), Err(Retry), "no place was found");
            drop(writing);
            let mut scan = view.range_copied(&from[..]..);
            let keys: Vec<_> = std::iter::from_fn(|| scan.next()).map(|(key, _)| key).collect();
            assert_eq!(keys, [b"xB1", b"xB5", b"xB9"]);
        }
    }

    /// A seek below a root that is not the root of its key does not depend on changes at the key.
    #[test]
    fn a_seek_below_one_root_looks_at_no_other() {
        let trie = Trie::with_policies().expect("a trie");
        let view = trie.pin();
        for key in [&b"a1"[..], b"a2", b"b"] {
            view.insert(key, 0).expect("memory");
        }
        let nodes = &trie.nodes;
        let changed = branch(nodes.roots.of(b"a").slot());
        let life = nodes.count(changed).life().expect("it is linked");
        nodes.count(changed).lock(life).expect("no other thread is here").unlink();
        let (here, next) = (Roots::number_of(b"a"), Roots::number_of(b"b"));
        let from = Excluded(&b"a2"[..]);
        assert_eq!(Walk::<Ascending>::lost().seek_below(nodes, from, here), Err(Retry));
        let found = Walk::<Ascending>::lost().seek_below(nodes, from, next);
        assert!(matches!(found, Ok(Some(_))), "{found:?}");
        // The drop of the trie needs intact branches.
        drop(nodes.count(changed).begin());
    }
}
