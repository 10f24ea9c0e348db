//! Operations on keys inside a read section.
//!
//! - QPT-G1: as long as a `&TrieRef` lives, a read section of its trie's domain is open on its
//!   thread. A `&TrieRef` is only made from a guard of that section and the trie, and borrows both.
//!   It stays on its thread, and every `TrieRef` is borrowed in this way.

use crate::map::error::{InsertError, InsertErrorKind};
use crate::map::trie::QpTrie;
use crate::node::{KeyHash, NoRoom, Retry, Tag, leaf_overhead};
use crate::read::{find, find_each};
use crate::write::{Located, NotLinked, Vacant, locate};
use memalloc::rcu::Guard;
use memalloc::sync::{Ordering, pause};
use memalloc::{AfterRcuGp, Handle, Immediate, MAX_SIZE, ProtectsIdentity, ReusePolicy};
use std::fmt;
use std::marker::PhantomData;

/// The keys that [`TrieRef::update`] accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Update {
    /// Any key (`BPF_ANY`): insert or replace.
    #[default]
    Any,
    /// Absent keys only (`BPF_NOEXIST`): insert.
    NoExist,
    /// Present keys only (`BPF_EXIST`): replace.
    Exist,
}

/// A [`QpTrie`] inside a read section, with all operations. References to values and keys are valid
/// as long as this is borrowed.
///
/// ```
/// use qptrie::{QpTrie, TrieRef};
///
/// fn greet(names: &TrieRef<String>, key: &str) -> String {
///     names.get(key).map_or("hello".to_owned(), |name| format!("hello, {name}"))
/// }
///
/// let names = QpTrie::new()?;
/// names.pin().insert("me", "trie".to_owned())?;
/// assert_eq!(greet(&names.pin(), "me"), "hello, trie");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It is always behind a reference: [`QpTrie::view`] returns one that lasts as long as the caller's
/// guard, and the [`TrieGuard`](crate::TrieGuard) of [`QpTrie::pin`] dereferences to it.
///
/// A key is a reference to anything that has bytes: `&str`, `&String`, `&[u8]`, `&[u8; N]`,
/// `&Vec<u8>`. (Two kinds of arguments are bytes, `&[u8]`: a [`Bound`](std::ops::Bound) and the
/// place of a cursor. `Unbounded` and `None` name no type of key, so the compiler could not infer
/// one. Convert strings with `as_bytes`.)
#[repr(transparent)]
pub struct TrieRef<
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ReusePolicy = AfterRcuGp,
> {
    pub(in crate::map) trie: QpTrie<V, B, L>,
    /// The section belongs to one thread (QPT-G1).
    _not_sync: PhantomData<*mut ()>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> fmt::Debug for TrieRef<V, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrieRef").field(&self.trie).finish()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Views a trie inside a section.
    ///
    /// # Safety
    ///
    /// As long as the reference lives, a read section of the trie's domain is open on this thread.
    #[inline(always)]
    pub(in crate::map) unsafe fn inside(trie: &QpTrie<V, B, L>) -> &Self {
        // SAFETY: the struct is transparent, so a trie has its layout; the caller keeps the
        // section open (QPT-G1).
        unsafe { &*std::ptr::from_ref(trie).cast() }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Returns a view inside a section that the caller began, to use several tries or other
    /// structures on one domain in one section.
    ///
    /// ```
    /// use qptrie::QpTrie;
    ///
    /// let numbers: QpTrie<u32> = QpTrie::new()?;
    /// let names: QpTrie<String> = QpTrie::new()?;
    /// let guard = numbers.domain().pin();
    /// let (by_number, by_name) = (numbers.view(&guard), names.view(&guard));
    /// by_number.insert(b"a", 1)?;
    /// by_name.insert(b"one", "a".to_owned())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// References are valid as long as the guard is borrowed, so a function may return them:
    ///
    /// ```
    /// use memalloc::rcu::Guard;
    /// use qptrie::QpTrie;
    ///
    /// fn name_of<'g>(names: &'g QpTrie<String>, guard: &'g Guard<'_>, key: &str) -> Option<&'g str> {
    ///     names.view(guard).get(key).map(String::as_str)
    /// }
    /// # let names = QpTrie::from([("one", "a".to_owned())]);
    /// # let guard = names.domain().pin();
    /// # assert_eq!(name_of(&names, &guard, "one"), Some("a"));
    /// ```
    ///
    /// They can't outlive it:
    ///
    /// ```compile_fail,E0505
    /// # use qptrie::QpTrie;
    /// # let names = QpTrie::<String>::from([("one", "a".to_owned())]);
    /// let guard = names.domain().pin();
    /// let name = names.view(&guard).get("one");
    /// drop(guard);
    /// name.cloned();
    /// ```
    ///
    /// # Panics
    ///
    /// If the guard is of another domain than [the trie's](Self::domain): it would protect nothing
    /// here.
    #[must_use]
    #[inline]
    pub fn view<'g>(&'g self, guard: &'g Guard<'_>) -> &'g TrieRef<V, B, L> {
        assert!(guard.is_of(&self.domain), "the guard belongs to another domain than this trie");
        // SAFETY: the guard keeps its section open and is borrowed for as long (QPT-G1).
        unsafe { TrieRef::inside(self) }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    #[inline]
    pub(in crate::map) fn find(&self, key: &[u8]) -> Option<Handle> {
        let nodes = &self.trie.nodes;
        let hash = nodes.hints.for_lookup(key);
        if let Some(at) = self.find_hinted(key, hash) {
            nodes.hints.looked_up(hash, true);
            return Some(at.leaf);
        }
        let leaf = match find(nodes, key) {
            Ok(leaf) => leaf,
            Err(Retry) => self.look_again(key, || find(nodes, key)),
        };
        self.walked(hash, leaf);
        leaf
    }

    /// Like [`find`](Self::find), for several keys.
    pub(in crate::map) fn find_many<const N: usize>(
        &self,
        keys: &[&[u8]; N],
    ) -> [Option<Handle>; N] {
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
            self.walked(hashes[number], leaf);
            leaf
        })
    }

    /// Retries `look` after it failed, up to the limit for readers, and then insists.
    #[cold]
    pub(in crate::map) fn look_again<R>(
        &self,
        key: &[u8],
        mut look: impl FnMut() -> Result<R, Retry>,
    ) -> R {
        let trie = &self.trie;
        for _ in 0..trie.settings.reader_retries {
            trie.counters.retries.fetch_add(1, Ordering::Relaxed);
            if let Ok(found) = look() {
                return found;
            }
        }
        trie.counters.insisted.fetch_add(1, Ordering::Relaxed);
        trie.nodes.roots.of(key).insist(look)
    }

    /// Allocates a leaf before anything is locked, since allocating may run destructors of values.
    pub(in crate::map) fn new_leaf(&self, key: &[u8], value: V) -> Result<Handle, InsertError<V>> {
        if let Err(kind) = self.check_key(key) {
            return Err(InsertError { kind, value });
        }
        self.trie.nodes.new_leaf(key, value).map_err(|error| InsertError {
            kind: InsertErrorKind::Memory(error.kind()),
            value: error.into_value(),
        })
    }

    pub(in crate::map) fn check_key(&self, key: &[u8]) -> Result<(), InsertErrorKind> {
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

    /// Publishes `leaf` and returns the leaf that it replaced, if any.
    pub(in crate::map) fn link(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        leaf: Handle,
        how: Update,
    ) -> Result<Option<Handle>, InsertErrorKind> {
        if how != Update::NoExist
            && let Some(old) = self.find_named(key, hash)
            && self.replace(hash, &old, leaf)
        {
            return Ok(Some(old.leaf));
        }
        loop {
            match self.place(key) {
                Located::Found(_) if how == Update::NoExist => return Err(InsertErrorKind::Exists),
                Located::Found(found) => {
                    if self.replace(hash, &found.named(), leaf) {
                        return Ok(Some(found.leaf));
                    }
                }
                Located::Vacant(_) if how == Update::Exist => {
                    return Err(InsertErrorKind::NotFound);
                }
                Located::Vacant(vacant) => {
                    if self.fill(&vacant, key, leaf)? {
                        self.hint_linked(hash, leaf, None);
                        return Ok(None);
                    }
                }
            }
            pause();
        }
    }

    /// Returns the place of `key`: its leaf, or the slot that it would get.
    pub(in crate::map) fn place(&self, key: &[u8]) -> Located<'_> {
        let nodes = &self.trie.nodes;
        loop {
            nodes.roots.of(key).let_readers_pass();
            match locate(nodes, key) {
                Ok(place) => return place,
                Err(Retry) => pause(),
            }
        }
    }

    /// Publishes `leaf`, which has the key `key`, in a vacant place. Returns false if the place is
    /// no longer vacant.
    pub(in crate::map) fn fill(
        &self,
        vacant: &Vacant<'_>,
        key: &[u8],
        leaf: Handle,
    ) -> Result<bool, InsertErrorKind> {
        let nodes = &self.trie.nodes;
        match vacant.insert(nodes, leaf, Tag::of(key)) {
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

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Returns the value of `key`. Linearizable, and takes no lock; if writers force too many
    /// retries, it blocks changes to all keys with the same first byte until it is done. Takes one
    /// step for each branch on the path: at most one for each byte of the key and one for its end.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie = QpTrie::new()?;
    /// let view = trie.pin();
    /// view.insert("key", 1)?;
    /// assert_eq!(view.get("key"), Some(&1));
    /// assert_eq!(view.get(b"absent"), None);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "map_lookup_elem")]
    #[must_use]
    #[inline]
    pub fn get(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        // SAFETY: `find` validated the leaf, and the section that `self` keeps open protects it.
        self.find(key.as_ref()).map(|leaf| unsafe { self.trie.nodes.value(leaf) })
    }

    /// Inserts or replaces the value of `key` and returns the old value: [`update`](Self::update)
    /// with [`Update::Any`].
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie = QpTrie::new()?;
    /// let view = trie.pin();
    /// assert_eq!(view.insert("key", 1)?, None);
    /// assert_eq!(view.insert("key", 2)?, Some(&1));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Same as [`update`](Self::update).
    #[inline]
    pub fn insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<Option<&V>, InsertError<V>> {
        self.update_bytes(key.as_ref(), value, Update::Any)
    }

    /// Removes `key` and returns its value. Never fails for lack of memory.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie = QpTrie::new()?;
    /// let view = trie.pin();
    /// view.insert("key", 1)?;
    /// assert_eq!(view.remove("key"), Some(&1));
    /// assert_eq!(view.remove("key"), None);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "map_delete_elem")]
    #[inline]
    pub fn remove(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        self.remove_bytes(key.as_ref())
    }

    /// Sets the value of `key` if `how` accepts the key, and returns the old value. A reader finds
    /// either the old value or the new one.
    ///
    /// ```
    /// # use qptrie::{QpTrie, Update};
    /// # let trie = QpTrie::new()?;
    /// let view = trie.pin();
    /// assert_eq!(view.update("key", 1, Update::NoExist)?, None);
    /// assert!(view.update("key", 2, Update::NoExist).is_err());
    /// assert_eq!(view.update("key", 3, Update::Exist)?, Some(&1));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InsertError`] has the reason and the value; nothing was changed.
    #[doc(alias = "map_update_elem")]
    #[inline]
    pub fn update(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
        how: Update,
    ) -> Result<Option<&V>, InsertError<V>> {
        self.update_bytes(key.as_ref(), value, how)
    }

    /// Returns the values of several keys, in the order of the keys. Each lookup is a separate
    /// [`get`](Self::get), but while one waits for memory the others proceed: faster if the trie is
    /// larger than the processor's caches. 8 to 16 keys are enough.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// view.insert(b"one", 1)?;
    /// view.insert(b"two", 2)?;
    /// assert_eq!(view.get_many(["two", "six", "one"]), [Some(&2), None, Some(&1)]);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "map_lookup_batch")]
    #[must_use]
    pub fn get_many<K: AsRef<[u8]> + ?Sized, const N: usize>(
        &self,
        keys: [&K; N],
    ) -> [Option<&V>; N] {
        let leaves = self.find_many(&keys.map(K::as_ref));
        // SAFETY: as in `get`.
        leaves.map(|leaf| leaf.map(|leaf| unsafe { self.trie.nodes.value(leaf) }))
    }

    /// [`update`](Self::update), compiled once for all key types.
    pub(in crate::map) fn update_bytes(
        &self,
        key: &[u8],
        value: V,
        how: Update,
    ) -> Result<Option<&V>, InsertError<V>> {
        let hash = self.trie.nodes.hints.for_update(key);
        if self.is_refused_by_hint(key, hash, how) {
            return Err(InsertError { kind: InsertErrorKind::Exists, value });
        }
        let leaf = self.new_leaf(key, value)?;
        match self.link(key, hash, leaf, how) {
            // SAFETY: `link` unlinked the old leaf.
            Ok(old) => Ok(old.map(|old| unsafe { self.unlinked(old) })),
            Err(kind) => {
                // SAFETY: the leaf was not published.
                Err(InsertError { kind, value: unsafe { self.trie.nodes.take_back(leaf) } })
            }
        }
    }

    /// [`remove`](Self::remove), compiled once for all key types.
    pub(in crate::map) fn remove_bytes(&self, key: &[u8]) -> Option<&V> {
        self.remove_if_bytes(key, |_| true)
    }

    /// Frees a leaf and returns its value, which stays valid as long as the section lasts.
    ///
    /// # Safety
    ///
    /// The caller unlinked the leaf inside this section, and frees it only here.
    pub(in crate::map) unsafe fn unlinked(&self, leaf: Handle) -> &V {
        // SAFETY: as the caller says; the section protects the leaf (QPT-N3).
        unsafe {
            let value = self.trie.nodes.value(leaf);
            self.trie.nodes.free_leaf(leaf);
            value
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Returns true if `key` is present. Costs a lookup; available under every policy.
    #[must_use]
    #[inline]
    pub fn contains_key(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        self.find(key.as_ref()).is_some()
    }
}
