//! Operations that copy values, inside a read section, under every policy of leaves.

use crate::map::by_ref::point::{TrieRef, Update};
use crate::map::error::{InsertError, InsertErrorKind};
use crate::node::{KeyHash, PlainBits, Retry};
use crate::read::{find_copied, find_each_copied, find_hinted_copied};
use crate::write::{Located, overwrite_hinted};
use memalloc::sync::pause;
use memalloc::{Handle, ReusePolicy};

/// # Operations that copy values
///
/// For values that are plain bits ([`PlainBits`]); the names end in `_copied`. They work under
/// every policy of leaves. If leaves are reused at once (`QpTrie<V, B, Immediate>`), only they can
/// read a value. Under that policy nothing has to be deferred, the value of a present key is
/// overwritten in place without an allocation, and a leaf is 4 to 9 bytes larger before it is
/// rounded up to a size class.
///
/// ```
/// use memalloc::Immediate;
/// use qptrie::{QpTrie, Update};
///
/// let trie = QpTrie::<u64, Immediate, Immediate>::with_policies()?;
/// let view = trie.pin();
/// assert_eq!(view.insert_copied(b"hits", 1)?, None);
/// assert_eq!(view.insert_copied(b"hits", 2)?, Some(1));
/// assert_eq!(view.get_copied(b"hits"), Some(2));
/// assert!(view.update_copied(b"misses", 1, Update::Exist).is_err());
/// assert_eq!(view.remove_copied(b"hits"), Some(2));
/// # drop(view);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Returns a copy of the value of `key`. Linearizable, and takes no lock. Otherwise like
    /// [`get`](Self::get).
    #[doc(alias = "map_lookup_elem")]
    #[must_use]
    #[inline]
    pub fn get_copied(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<V>
    where
        V: PlainBits,
    {
        self.get_copied_bytes(key.as_ref())
    }

    /// [`get_copied`](Self::get_copied), compiled once for all key types.
    #[inline]
    pub(in crate::map) fn get_copied_bytes(&self, key: &[u8]) -> Option<V>
    where
        V: PlainBits,
    {
        let nodes = &self.trie.nodes;
        let hash = nodes.hints.for_lookup(key);
        if let Some(value) = hash.and_then(|hash| find_hinted_copied(nodes, key, hash)) {
            nodes.hints.looked_up(hash, true);
            return Some(value);
        }
        let look = || find_copied(nodes, key);
        let found = look().unwrap_or_else(|Retry| self.look_again(key, look));
        self.walked(hash, found.map(|(leaf, _)| leaf));
        found.map(|(_, value)| value)
    }

    /// Returns copies of the values of several keys, in the order of the keys. Each lookup is a
    /// separate [`get_copied`](Self::get_copied), overlapped as in [`get_many`](TrieRef::get_many).
    #[must_use]
    pub fn get_many_copied<K: AsRef<[u8]> + ?Sized, const N: usize>(
        &self,
        keys: [&K; N],
    ) -> [Option<V>; N]
    where
        V: PlainBits,
    {
        let keys = keys.map(K::as_ref);
        let nodes = &self.trie.nodes;
        let hashes = self.prefetch_hinted(&keys);
        let hinted: [_; N] = std::array::from_fn(|number| {
            hashes[number].and_then(|hash| find_hinted_copied(nodes, keys[number], hash))
        });
        if hinted.iter().all(Option::is_some) {
            return hinted;
        }
        let found = find_each_copied(nodes, &keys, &hinted.map(|value| value.is_some()));
        std::array::from_fn(|number| {
            if hinted[number].is_some() {
                return hinted[number];
            }
            let key = keys[number];
            let look = || find_copied(nodes, key);
            let found = found[number].unwrap_or_else(|Retry| self.look_again(key, look));
            self.walked(hashes[number], found.map(|(leaf, _)| leaf));
            found.map(|(_, value)| value)
        })
    }

    /// Inserts or replaces the value of `key` and returns the old value:
    /// [`update_copied`](Self::update_copied) with [`Update::Any`].
    ///
    /// # Errors
    ///
    /// Same as [`update`](TrieRef::update).
    #[inline]
    pub fn insert_copied(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<Option<V>, InsertError<V>>
    where
        V: PlainBits,
    {
        self.update_copied_bytes(key.as_ref(), value, Update::Any)
    }

    /// Sets the value of `key` if `how` accepts the key, and returns the old value. A reader finds
    /// either the old value or the new one, never a mixture.
    ///
    /// If leaves are reused at once, the value of a present key is overwritten in place: this
    /// needs no memory, and readers of this key retry meanwhile.
    ///
    /// # Errors
    ///
    /// [`InsertError`] has the reason; nothing was changed.
    #[doc(alias = "map_update_elem")]
    #[inline]
    pub fn update_copied(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
        how: Update,
    ) -> Result<Option<V>, InsertError<V>>
    where
        V: PlainBits,
    {
        self.update_copied_bytes(key.as_ref(), value, how)
    }

    /// [`update_copied`](Self::update_copied), compiled once for all key types.
    pub(in crate::map) fn update_copied_bytes(
        &self,
        key: &[u8],
        value: V,
        how: Update,
    ) -> Result<Option<V>, InsertError<V>>
    where
        V: PlainBits,
    {
        let hash = self.trie.nodes.hints.for_update(key);
        if self.is_refused_by_hint(key, hash, how) {
            return Err(InsertError { kind: InsertErrorKind::Exists, value });
        }
        if L::PROTECTS_IDENTITY {
            let leaf = self.new_leaf(key, value)?;
            let failed = |kind| {
                // SAFETY: the leaf was not published.
                let value = unsafe { self.trie.nodes.take_back(leaf) };
                InsertError { kind, value }
            };
            let old = self.link(key, hash, leaf, how).map_err(failed)?;
            return Ok(old.map(|old| self.copy_out(old)));
        }
        if let Err(kind) = self.check_key(key) {
            return Err(InsertError { kind, value });
        }
        let mut spare = None;
        let done = self.overwrite_or_link(key, hash, &value, how, &mut spare);
        if let Some(leaf) = spare {
            // SAFETY: it was not published.
            unsafe { self.trie.nodes.drop_leaf(leaf) };
        }
        done.map_err(|kind| InsertError { kind, value })
    }

    /// Overwrites the leaf of `key`, or links a new leaf, which is kept in `spare` while it is not
    /// linked.
    fn overwrite_or_link(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        value: &V,
        how: Update,
        spare: &mut Option<Handle>,
    ) -> Result<Option<V>, InsertErrorKind>
    where
        V: PlainBits,
    {
        let nodes = &self.trie.nodes;
        nodes.roots.of(key).let_readers_pass();
        if how != Update::NoExist
            && let Some(at) = self.find_to_overwrite(key, hash)
            && let Ok(old) = overwrite_hinted(nodes, at, value)
        {
            return Ok(Some(old));
        }
        loop {
            match self.place(key) {
                Located::Found(_) if how == Update::NoExist => return Err(InsertErrorKind::Exists),
                Located::Found(found) => {
                    if let Ok(old) = found.overwrite(nodes, value) {
                        self.hint_linked(hash, found.leaf, None);
                        return Ok(Some(old));
                    }
                }
                Located::Vacant(_) if how == Update::Exist => {
                    return Err(InsertErrorKind::NotFound);
                }
                Located::Vacant(vacant) => {
                    let leaf = match *spare {
                        Some(leaf) => leaf,
                        None => *spare.insert(
                            nodes
                                .new_words(key, value)
                                .map_err(|error| InsertErrorKind::Memory(error.kind()))?,
                        ),
                    };
                    if self.fill(&vacant, key, leaf)? {
                        *spare = None;
                        self.hint_linked(hash, leaf, None);
                        return Ok(None);
                    }
                }
            }
            pause();
        }
    }

    /// Removes `key` and returns a copy of its value. Never fails for lack of memory.
    #[doc(alias = "map_delete_elem")]
    #[inline]
    pub fn remove_copied(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<V>
    where
        V: PlainBits,
    {
        self.remove_copied_bytes(key.as_ref())
    }

    /// [`remove_copied`](Self::remove_copied), compiled once for all key types.
    pub(in crate::map) fn remove_copied_bytes(&self, key: &[u8]) -> Option<V>
    where
        V: PlainBits,
    {
        self.remove_if_copied_bytes(key, |_| true)
    }

    /// Copies the value of a leaf that the caller unlinked, and frees the leaf.
    pub(in crate::map) fn copy_out(&self, leaf: Handle) -> V
    where
        V: PlainBits,
    {
        let nodes = &self.trie.nodes;
        // SAFETY: the caller unlinked the leaf, so no other thread writes or frees it: under
        // immediate reuse the caller ended the leaf's life, and the words are those of its last
        // value (QPT-N6); otherwise the section protects it (QPT-N3).
        unsafe {
            if L::PROTECTS_IDENTITY {
                let value = *nodes.value(leaf);
                nodes.free_leaf(leaf);
                value
            } else {
                let value = nodes.copy_value(leaf).assume_init();
                nodes.free_words(leaf);
                value
            }
        }
    }
}
