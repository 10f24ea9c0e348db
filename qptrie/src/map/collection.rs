//! A trie among the collections of std: made from entries, extended, copied, compared.
//!
//! The traits have no room for errors, so these panic where [`TrieRef`](crate::TrieRef) returns one;
//! each has a way beside it that does not.

use super::builder::{Builder, Settings};
use super::error::InsertError;
use super::leaf_policy::LeafPolicy;
use super::trie::QpTrie;
use memalloc::ReusePolicy;
use std::borrow::Borrow;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: LeafPolicy<V>> QpTrie<V, B, L> {
    /// Inserts entries, each in a section of its own; where a key comes twice the later value counts.
    ///
    /// # Errors
    ///
    /// As [`TrieRef::update`](crate::TrieRef::update), at the first entry that can't be inserted. The
    /// entries before it are in the trie; it and those behind it are not.
    pub fn try_extend<K: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), InsertError<V>> {
        entries.into_iter().try_for_each(|(key, value)| L::insert(&self.pin(), key.as_ref(), value))
    }

    /// As [`try_extend`](Self::try_extend), for traits without errors.
    fn extend_or_panic<K: AsRef<[u8]>>(&self, entries: impl IntoIterator<Item = (K, V)>) {
        if let Err(error) = self.try_extend(entries) {
            panic!("an entry can't be inserted: {error}");
        }
    }
}

fn built<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    builder: Builder<V, B, L>,
) -> QpTrie<V, B, L> {
    match builder.build() {
        Ok(trie) => trie,
        Err(error) => panic!("the trie can't be built: {error}"),
    }
}

/// Panics where [`QpTrie::with_policies`] returns an error.
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Default for QpTrie<V, B, L> {
    fn default() -> Self {
        built(Self::builder())
    }
}

/// Panics where [`QpTrie::try_extend`] returns an error.
impl<K, V, B, L> Extend<(K, V)> for QpTrie<V, B, L>
where
    K: AsRef<[u8]>,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.extend_or_panic(entries);
    }
}

/// Panics where [`QpTrie::try_extend`] returns an error.
impl<K, V, B, L> Extend<(K, V)> for &QpTrie<V, B, L>
where
    K: AsRef<[u8]>,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.extend_or_panic(entries);
    }
}

/// Panics where [`QpTrie::with_policies`] or [`QpTrie::try_extend`] returns an error.
impl<K, V, B, L> FromIterator<(K, V)> for QpTrie<V, B, L>
where
    K: AsRef<[u8]>,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let trie = Self::default();
        trie.extend_or_panic(entries);
        trie
    }
}

/// Panics where [`QpTrie::with_policies`] or [`QpTrie::try_extend`] returns an error.
impl<K, V, B, L, const N: usize> From<[(K, V); N]> for QpTrie<V, B, L>
where
    K: AsRef<[u8]>,
    V: Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

/// A trie of its own, built as the original was, on the same domain.
///
/// Beside writers it is what [`Iter`](crate::Iter) sees: every key that is there throughout, each
/// with a value that it had meanwhile; no snapshot. Beside writers the clone of a full trie may have
/// entries beyond `max_entries`. One section lasts for the whole of it.
///
/// Panics where [`Builder::build`] or an insertion returns an error, which is for lack of memory
/// only.
impl<V, B, L> Clone for QpTrie<V, B, L>
where
    V: Clone + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn clone(&self) -> Self {
        // Of keys that come and go a scan may return more than are ever there at one time.
        let unlimited = Settings { max_entries: u64::MAX, ..self.settings.clone() };
        let mut clone = built(Builder::new(Some(self.domain.clone()), unlimited));
        let view = self.pin();
        let copy = |value: L::Value<'_>| Borrow::<V>::borrow(&value).clone();
        clone.extend_or_panic(L::entries(&view).map(|(key, value)| (key, copy(value))));
        drop(view);
        clone.nodes.entries.limit_to(self.settings.max_entries);
        clone.settings = self.settings.clone();
        clone
    }
}

/// Whether both have the same keys with equal values. Exact when nothing writes; else it compares
/// what two scans see.
impl<V, B, L> PartialEq for QpTrie<V, B, L>
where
    V: PartialEq + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let (ours, theirs) = (self.pin(), other.pin());
        let (mut ours, mut theirs) = (L::entries(&ours), L::entries(&theirs));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some((key, value)), Some((other_key, other)))
                    if key.as_ref() == other_key.as_ref()
                        && Borrow::<V>::borrow(&value) == Borrow::<V>::borrow(&other) => {}
                _ => return false,
            }
        }
    }
}

impl<V, B, L> Eq for QpTrie<V, B, L>
where
    V: Eq + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
}
