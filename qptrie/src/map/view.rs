//! The trie inside a read section: operations on keys.

use super::error::{InsertError, InsertErrorKind};
use super::trie::QpTrie;
use crate::node::{NoRoom, Retry, Twig, leaf_overhead};
use crate::read::{LeafFooting, find, find_each, find_hinted};
use crate::write::{NotLinked, Place, Vacant, locate};
use memalloc::rcu::Guard;
use memalloc::sync::{Ordering, pause};
use memalloc::{AfterRcuGp, Handle, Immediate, MAX_SIZE, ProtectsIdentity, ReusePolicy};
use std::fmt;

/// Which keys [`TrieRef::update`] accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Update {
    /// Any (`BPF_ANY`): insert or replace.
    #[default]
    Any,
    /// Only keys that are not there yet (`BPF_NOEXIST`): insert.
    NoExist,
    /// Only keys that are there (`BPF_EXIST`): replace.
    Exist,
}

/// A [`QpTrie`] inside a read section: every operation, and references that hold as long as
/// this is borrowed.
#[must_use = "the read section ends when this is dropped"]
pub struct TrieRef<
    't,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ReusePolicy = AfterRcuGp,
> {
    pub(super) trie: &'t QpTrie<V, B, L>,
    /// None where the section is the caller's.
    _guard: Option<Guard<'t>>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> fmt::Debug for TrieRef<'_, V, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrieRef").field(self.trie).finish()
    }
}

impl<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<'t, V, B, L> {
    #[inline]
    pub(super) fn new(trie: &'t QpTrie<V, B, L>) -> Self {
        Self { trie, _guard: Some(trie.domain.pin()) }
    }

    #[inline]
    pub(super) fn inside(trie: &'t QpTrie<V, B, L>, guard: &'t Guard<'_>) -> Self {
        assert!(guard.is_of(&trie.domain), "the guard is not of the domain of this trie");
        Self { trie, _guard: None }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<'_, V, B, L> {
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<Handle> {
        let hash = self.trie.nodes.hints.hash(key);
        if let Some(at) = self.find_hinted(key, hash) {
            return Some(at.leaf);
        }
        let leaf = match find(&self.trie.nodes, key) {
            Ok(leaf) => leaf,
            Err(Retry) => self.look_again(key, || find(&self.trie.nodes, key)),
        };
        self.hint_found(hash, leaf);
        leaf
    }

    /// Where a hint leads to.
    #[inline(always)]
    pub(super) fn find_hinted(&self, key: &[u8], hash: Option<u64>) -> Option<LeafFooting> {
        find_hinted(&self.trie.nodes, key, hash?)
    }

    /// Hints at what was found without a hint.
    #[inline(always)]
    pub(super) fn hint_found(&self, hash: Option<u64>, leaf: Option<Handle>) {
        if let (Some(hash), Some(leaf)) = (hash, leaf) {
            self.hint(hash, leaf, None);
        }
    }

    /// Hints at `leaf`, in place of `old`.
    #[inline]
    fn hint(&self, hash: u64, leaf: Handle, old: Option<Handle>) {
        self.trie.nodes.faults.linger();
        let hints = &self.trie.nodes.hints;
        if hints.put(hash, leaf, old) {
            hints.fit(&self.trie.domain, self.trie.len(), false);
        }
    }

    /// The hash of a key that is about to be changed, whose hint is on its way into the cache, if there
    /// are hints.
    #[inline]
    pub(super) fn prefetch_hint(&self, key: &[u8]) -> Option<u64> {
        let hints = &self.trie.nodes.hints;
        let hash = hints.hash(key)?;
        hints.prefetch(hash);
        Some(hash)
    }

    /// Hints at a leaf that was linked in place of another one, if there was any.
    #[inline]
    pub(super) fn hint_linked(&self, hash: Option<u64>, leaf: Handle, old: Option<Handle>) {
        if let Some(hash) = hash {
            self.hint(hash, leaf, old);
        }
    }

    /// Takes the hint at a leaf out that was unlinked.
    #[inline]
    pub(super) fn forget_hint(&self, hash: Option<u64>, leaf: Handle) {
        if let Some(hash) = hash {
            self.trie.nodes.hints.forget(hash, leaf);
        }
    }

    /// The hashes of several keys, whose leaves are on their way into the cache, if there are hints.
    pub(super) fn prefetch_hinted<const N: usize>(&self, keys: &[&[u8]; N]) -> [Option<u64>; N] {
        let nodes = &self.trie.nodes;
        let hashes = keys.map(|key| nodes.hints.hash(key));
        for &hash in hashes.iter().flatten() {
            nodes.hints.prefetch(hash);
        }
        for &hash in hashes.iter().flatten() {
            nodes.hints.find(hash, |leaf| {
                nodes.prefetch_both_lines(Twig::leaf(leaf));
                None::<()>
            });
        }
        hashes
    }

    /// As [`find`](Self::find), for several keys.
    pub(super) fn find_many<const N: usize>(&self, keys: &[&[u8]; N]) -> [Option<Handle>; N] {
        let nodes = &self.trie.nodes;
        let hashes = self.prefetch_hinted(keys);
        let hinted: [_; N] = std::array::from_fn(|number| {
            self.find_hinted(keys[number], hashes[number]).map(|at| at.leaf)
        });
        if hinted.iter().all(Option::is_some) {
            return hinted;
        }
        let found = find_each(nodes, keys, &hinted.map(|leaf| leaf.is_some()));
        std::array::from_fn(|number| {
            if let Some(leaf) = hinted[number] {
                return Some(leaf);
            }
            let key = keys[number];
            let leaf =
                found[number].unwrap_or_else(|Retry| self.look_again(key, || find(nodes, key)));
            self.hint_found(hashes[number], leaf);
            leaf
        })
    }

    /// Tries `look` as often as readers may after it failed, and then insists.
    #[cold]
    pub(super) fn look_again<R>(
        &self,
        key: &[u8],
        mut look: impl FnMut() -> Result<R, Retry>,
    ) -> R {
        let trie = self.trie;
        for _ in 0..trie.settings.reader_retries {
            trie.counters.retries.fetch_add(1, Ordering::Relaxed);
            if let Ok(found) = look() {
                return found;
            }
        }
        trie.counters.fallbacks.fetch_add(1, Ordering::Relaxed);
        trie.nodes.roots.of(key).insist(look)
    }

    /// Whether `key` is there: a lookup. Under every policy.
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// A leaf that is to be linked, made before anything is locked: this may run destructors of
    /// values.
    pub(super) fn new_leaf(&self, key: &[u8], value: V) -> Result<Handle, InsertError<V>> {
        if let Err(kind) = self.check_key(key) {
            return Err(InsertError { kind, value });
        }
        self.trie.nodes.new_leaf(key, value).map_err(|error| InsertError {
            kind: InsertErrorKind::Memory(error.kind()),
            value: error.into_value(),
        })
    }

    pub(super) fn check_key(&self, key: &[u8]) -> Result<(), InsertErrorKind> {
        let (longest, limit) = (QpTrie::<V, B, L>::LONGEST_KEY, self.trie.settings.max_key_len);
        if key.len() > longest || leaf_overhead::<V, L>() > MAX_SIZE {
            let (key, value) = (key.len(), size_of::<V>());
            return Err(InsertErrorKind::TooLarge { key, value, longest_key: longest });
        }
        if key.len() > limit {
            return Err(InsertErrorKind::KeyTooLong { key: key.len(), limit });
        }
        Ok(())
    }

    /// Whether a hint tells that the key is there, which is not to be.
    pub(super) fn is_refused_by_hint(&self, key: &[u8], how: Update) -> bool {
        let hash = self.trie.nodes.hints.hash(key).filter(|_| how == Update::NoExist);
        self.find_hinted(key, hash).is_some()
    }

    /// Publishes `leaf` and gives the leaf that it replaced.
    pub(super) fn link(
        &self,
        key: &[u8],
        leaf: Handle,
        how: Update,
    ) -> Result<Option<Handle>, InsertErrorKind> {
        let hash = self.prefetch_hint(key);
        loop {
            match self.place(key) {
                Place::Found(_) if how == Update::NoExist => return Err(InsertErrorKind::Exists),
                Place::Found(found) => {
                    if found.replace(&self.trie.nodes, leaf).is_ok() {
                        self.hint_linked(hash, leaf, Some(found.leaf));
                        return Ok(Some(found.leaf));
                    }
                }
                Place::Vacant(_) if how == Update::Exist => return Err(InsertErrorKind::NotFound),
                Place::Vacant(vacant) => {
                    if self.fill(&vacant, leaf)? {
                        self.hint_linked(hash, leaf, None);
                        return Ok(None);
                    }
                }
            }
            pause();
        }
    }

    /// Where `key` is or would be.
    pub(super) fn place(&self, key: &[u8]) -> Place<'_> {
        let nodes = &self.trie.nodes;
        loop {
            nodes.roots.of(key).let_readers_pass();
            match locate(nodes, key) {
                Ok(place) => return place,
                Err(Retry) => pause(),
            }
        }
    }

    /// Publishes `leaf` where there is none, and says whether that was still so.
    pub(super) fn fill(&self, vacant: &Vacant<'_>, leaf: Handle) -> Result<bool, InsertErrorKind> {
        let nodes = &self.trie.nodes;
        match vacant.insert(nodes, leaf) {
            Ok(()) => Ok(true),
            Err(NotLinked::Retry) => Ok(false),
            Err(NotLinked::Memory(kind)) => Err(InsertErrorKind::Memory(kind)),
            Err(NotLinked::NoRoom(NoRoom::Full { limit })) => {
                Err(InsertErrorKind::Full { max_entries: limit })
            }
            Err(NotLinked::NoRoom(NoRoom::UnderWay)) => {
                nodes.entries.wait();
                Ok(false)
            }
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<'_, V, B, L> {
    /// The value of `key`. Linearizable; takes no lock, and keeps writers from beginning further
    /// changes where they made it start again too often. A step for each branch on the way, at most
    /// one for each byte of the key and one for its end.
    #[doc(alias = "map_lookup_elem")]
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        // SAFETY: `find` validated the leaf, and the section that `self` keeps open protects it.
        self.find(key).map(|leaf| unsafe { self.trie.nodes.value(leaf) })
    }

    /// The values of several keys, in their order. As many calls of [`get`](Self::get), each for
    /// itself, but while the memory that one lookup needs is on its way the others go on: faster
    /// where the trie is larger than the processor's caches. 8 to 16 keys are enough.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// view.insert(b"one", 1)?;
    /// view.insert(b"two", 2)?;
    /// assert_eq!(view.get_many([b"two", b"six", b"one"]), [Some(&2), None, Some(&1)]);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "map_lookup_batch")]
    pub fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<&V>; N] {
        let leaves = self.find_many(&keys);
        // SAFETY: as in `get`.
        leaves.map(|leaf| leaf.map(|leaf| unsafe { self.trie.nodes.value(leaf) }))
    }

    /// Puts `value` at `key` and gives the value that was there: [`update`](Self::update) with
    /// [`Update::Any`].
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn insert(&self, key: &[u8], value: V) -> Result<Option<&V>, InsertError<V>> {
        self.update(key, value, Update::Any)
    }

    /// Puts `value` at `key`, if `how` accepts the key, and gives the value that was there. A
    /// reader finds the old value or the new one, never neither.
    ///
    /// # Errors
    ///
    /// [`InsertError`] says why nothing was changed, and gives the value back.
    #[doc(alias = "map_update_elem")]
    pub fn update(&self, key: &[u8], value: V, how: Update) -> Result<Option<&V>, InsertError<V>> {
        if self.is_refused_by_hint(key, how) {
            return Err(InsertError { kind: InsertErrorKind::Exists, value });
        }
        let leaf = self.new_leaf(key, value)?;
        match self.link(key, leaf, how) {
            // SAFETY: `link` unlinked the old leaf.
            Ok(old) => Ok(old.map(|old| unsafe { self.unlinked(old) })),
            Err(kind) => {
                // SAFETY: the leaf was not published.
                Err(InsertError { kind, value: unsafe { self.trie.nodes.take_back(leaf) } })
            }
        }
    }

    /// Frees a leaf, and gives its value for as long as the section lasts.
    ///
    /// # Safety
    ///
    /// The caller unlinked the leaf inside this section, and frees it only here.
    pub(super) unsafe fn unlinked(&self, leaf: Handle) -> &V {
        // SAFETY: as the caller says; the section protects the leaf (INV-N3).
        unsafe {
            let value = self.trie.nodes.value(leaf);
            self.trie.nodes.free_leaf(leaf);
            value
        }
    }

    /// Takes `key` out and gives its value. Never fails for lack of memory.
    #[doc(alias = "map_delete_elem")]
    pub fn remove(&self, key: &[u8]) -> Option<&V> {
        self.remove_if(key, |_| true)
    }
}
