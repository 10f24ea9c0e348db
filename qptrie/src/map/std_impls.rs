//! The traits of std's collections: construction from entries, extension, cloning, comparison.
//!
//! These traits can't return errors, so they panic where [`TrieRef`](crate::TrieRef) returns an
//! error. Each has an alternative that does not panic.

use crate::map::builder::Builder;
use crate::map::error::InsertError;
use crate::map::leaf_policy::LeafPolicy;
use crate::map::settings::Settings;
use crate::map::trie::QpTrie;
use memalloc::ReusePolicy;
use std::borrow::Borrow;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: LeafPolicy<V>> QpTrie<V, B, L> {
    /// Inserts entries, each in its own section. If a key occurs twice, the later value wins.
    ///
    /// # Errors
    ///
    /// The first entry that can't be inserted ends the call with the error of
    /// [`TrieRef::update`](crate::TrieRef::update). The entries before it are in the trie; it and
    /// the entries after it are not.
    pub fn try_extend<K: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), InsertError<V>> {
        entries.into_iter().try_for_each(|(key, value)| L::insert(&self.pin(), key.as_ref(), value))
    }

    /// Like [`try_extend`](Self::try_extend), but panics on an error.
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

/// Panics if [`QpTrie::new`] returns an error.
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Default for QpTrie<V, B, L> {
    fn default() -> Self {
        built(Self::builder())
    }
}

/// Panics if [`QpTrie::try_extend`] returns an error.
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

/// Panics if [`QpTrie::try_extend`] returns an error.
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

/// Panics if [`QpTrie::new`] or [`QpTrie::try_extend`] returns an error.
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

/// Panics if [`QpTrie::new`] or [`QpTrie::try_extend`] returns an error.
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

/// The number of entries that a clone copies in one section.
const CLONED_AT_ONCE: usize = if cfg!(loom) { 2 } else { 1024 };

/// Creates a separate trie with the same settings, on the same domain.
///
/// If other threads write meanwhile, the clone has the entries that an [`Iter`](crate::Iter)
/// returns: every key that is present throughout, each with a value that it had meanwhile. It is
/// not a snapshot, and the clone of a full trie may have more than `max_entries` entries. A section
/// lasts for 1024 entries, so that the branches that the clone replaces while it grows are reused.
///
/// Panics if [`Builder::build`] or an insertion returns an error, which happens only for lack of
/// memory.
impl<V, B, L> Clone for QpTrie<V, B, L>
where
    V: Clone + Send + Sync + 'static,
    B: ReusePolicy,
    L: LeafPolicy<V>,
{
    fn clone(&self) -> Self {
        // If keys are inserted and removed meanwhile, a scan may return more keys than are present
        // at any one time.
        let unlimited = Settings { max_entries: u64::MAX, ..self.settings.clone() };
        let mut clone = built(Builder::new(Some(self.domain.clone()), unlimited));
        let (mut last, mut copied) = (None::<Vec<u8>>, CLONED_AT_ONCE);
        while copied == CLONED_AT_ONCE {
            copied = 0;
            let view = self.pin();
            for (key, value) in L::entries_after(&view, last.as_deref()).take(CLONED_AT_ONCE) {
                clone.extend_or_panic([(key.as_ref(), Borrow::<V>::borrow(&value).clone())]);
                copied += 1;
                if copied == CLONED_AT_ONCE {
                    last = Some(key.as_ref().to_vec());
                }
            }
        }
        clone.nodes.entries.limit_to(self.settings.max_entries);
        clone.settings = self.settings.clone();
        clone
    }
}

/// Returns true if both have the same keys with equal values. Exact when no thread writes;
/// otherwise it compares the results of two scans.
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
