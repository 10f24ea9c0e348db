//! Changes that depend on the current value: look up, decide, and change only if the value is still
//! the one that was seen.
//!
//! The decision is a closure of the caller. It runs without locks, so it may be slow and may use
//! the trie. Its result is applied under the locks if the slot still names the leaf that the
//! closure saw, or is still vacant; otherwise the closure is called again.
//!
//! - QPT-U1: a slot that names the same handle twice within one section names the same leaf: a leaf
//!   is linked once, and its handle is not reused before the section ends (QPT-N3).

use crate::map::by_ref::point::{TrieRef, Update};
use crate::map::error::{InsertError, InsertErrorKind};
use crate::node::KeyHash;
use crate::write::{Found, Located, Named, Vacant};
use memalloc::sync::pause;
use memalloc::{Handle, ProtectsIdentity, ReusePolicy};

/// The operation that [`TrieRef::compute`] performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation<V> {
    /// Sets this value, in place of the current one, if any.
    Insert(V),
    /// Removes the key; does nothing if it is absent.
    Remove,
    /// Does nothing. To return a reason, the closure writes it to a variable that it captures.
    Abort,
}

/// The result of [`TrieRef::compute`]. `T` is a reference to a value, or a copy of one
/// ([`TrieRef::compute_copied`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Computed<T> {
    /// The key was absent and has been inserted.
    Inserted(T),
    /// The key was present and its value has been replaced.
    Replaced {
        /// The value that the closure saw.
        old: T,
        /// The value that the closure returned.
        new: T,
    },
    /// The key was present with the value that the closure saw, and has been removed.
    Removed(T),
    /// The key was absent, and the operation was to remove it.
    Absent,
    /// The closure aborted.
    Aborted,
}

impl<T> Computed<T> {
    /// Converts the values.
    pub(in crate::map) fn map<U>(self, mut change: impl FnMut(T) -> U) -> Computed<U> {
        match self {
            Self::Inserted(value) => Computed::Inserted(change(value)),
            Self::Replaced { old, new } => {
                Computed::Replaced { old: change(old), new: change(new) }
            }
            Self::Removed(value) => Computed::Removed(change(value)),
            Self::Absent => Computed::Absent,
            Self::Aborted => Computed::Aborted,
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<V, B, L> {
    /// Applies `read` to the value of `key`. Otherwise like [`get`](Self::get).
    #[inline]
    pub fn get_with<R>(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        read: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.get(key).map(read)
    }

    /// Returns the entry of `key`: the key as the trie stores it, and its value; both are valid as
    /// long as the view is borrowed. Otherwise like [`get`](Self::get).
    #[must_use]
    #[inline]
    pub fn get_key_value(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        // SAFETY: `find` validated the leaf, inside the section.
        self.find(key.as_ref()).map(|leaf| unsafe { self.entry(leaf) })
    }

    /// Inserts `value` if `key` is absent, and returns a reference to it in the trie.
    ///
    /// # Errors
    ///
    /// [`InsertErrorKind::Exists`] if the key is present; otherwise the same as
    /// [`update`](Self::update). The error contains the value.
    #[inline]
    pub fn try_insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<&V, InsertError<V>> {
        self.try_insert_bytes(key.as_ref(), value)
    }

    /// [`try_insert`](Self::try_insert), compiled once for all key types.
    pub(in crate::map) fn try_insert_bytes(
        &self,
        key: &[u8],
        value: V,
    ) -> Result<&V, InsertError<V>> {
        let hash = self.trie.nodes.hints.for_update(key);
        if self.is_refused_by_hint(key, hash, Update::NoExist) {
            return Err(InsertError { kind: InsertErrorKind::Exists, value });
        }
        let leaf = self.new_leaf(key, value)?;
        self.settle(leaf, self.link(key, hash, leaf, Update::NoExist).map(|_| ()))
    }

    /// Returns the value of `key`; if it is absent, inserts the value that `make` returns.
    ///
    /// `make` is called at most once, and only if the key is absent. If another thread inserts the
    /// key meanwhile, this returns that thread's value and drops the one that was made.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<String> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// assert_eq!(view.get_or_insert_with(b"key", || "made".to_owned())?, "made");
    /// assert_eq!(view.get_or_insert_with(b"key", || unreachable!())?, "made");
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Same as [`update`](Self::update); the error contains the value that was made.
    #[inline]
    pub fn get_or_insert_with(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        self.get_or_insert_with_bytes(key.as_ref(), make)
    }

    /// [`get_or_insert_with`](Self::get_or_insert_with), compiled once for all key types.
    pub(in crate::map) fn get_or_insert_with_bytes(
        &self,
        key: &[u8],
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        if let Some(value) = self.get(key) {
            return Ok(value);
        }
        let mut made = make();
        loop {
            match self.try_insert_bytes(key, made) {
                Ok(value) => return Ok(value),
                Err(error) if error.kind() == InsertErrorKind::Exists => {
                    if let Some(value) = self.get(key) {
                        return Ok(value);
                    }
                    made = error.into_value();
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks up `key`, calls `decide` with its value, and applies the result, all as one atomic
    /// step: a replaced or removed value is exactly the one that `decide` saw last, and a value is
    /// inserted only if `decide` saw none. If another thread changes the key meanwhile, the value
    /// that `decide` returned is dropped and `decide` is called again with the current value.
    ///
    /// `decide` runs without locks, any number of times. It should only decide: if it changes `key`
    /// itself each time, this never returns.
    ///
    /// ```
    /// use qptrie::{Computed, Operation, QpTrie};
    ///
    /// let trie: QpTrie<u32> = QpTrie::new()?;
    /// let view = trie.pin();
    /// // Counts up to two, and then starts again.
    /// let mut count = || {
    ///     view.compute(b"key", |count| match count {
    ///         None => Operation::Insert(1),
    ///         Some(2) => Operation::Remove,
    ///         Some(count) if *count > 2 => Operation::Abort,
    ///         Some(count) => Operation::Insert(count + 1),
    ///     })
    /// };
    /// assert_eq!(count()?, Computed::Inserted(&1));
    /// assert_eq!(count()?, Computed::Replaced { old: &1, new: &2 });
    /// assert_eq!(count()?, Computed::Removed(&2));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Same as [`update`](Self::update), if `decide` returns `Insert`; the error contains its
    /// value.
    #[inline]
    pub fn compute(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        decide: impl FnMut(Option<&V>) -> Operation<V>,
    ) -> Result<Computed<&V>, InsertError<V>> {
        self.compute_bytes(key.as_ref(), decide)
    }

    /// [`compute`](Self::compute), compiled once for all key types.
    pub(in crate::map) fn compute_bytes(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<&V>) -> Operation<V>,
    ) -> Result<Computed<&V>, InsertError<V>> {
        let hash = self.trie.nodes.hints.for_update(key);
        if let Some(found) = self.find_named(key, hash) {
            // SAFETY: the leaf was linked inside the section (QPT-V5), which keeps it (QPT-N3).
            match decide(Some(unsafe { self.trie.nodes.value(found.leaf) })) {
                Operation::Insert(value) => {
                    if let Some([old, new]) = self.give(key, hash, &found, value)? {
                        return Ok(Computed::Replaced { old, new });
                    }
                }
                // Removing needs the branch above, too; `decide` is called once more.
                Operation::Remove => {}
                Operation::Abort => return Ok(Computed::Aborted),
            }
        }
        loop {
            match self.place(key) {
                Located::Found(found) => {
                    // SAFETY: `place` confirmed the leaf, and the section keeps it (QPT-N3).
                    let old = unsafe { self.trie.nodes.value(found.leaf) };
                    match decide(Some(old)) {
                        Operation::Insert(value) => {
                            if let Some([old, new]) = self.give(key, hash, &found.named(), value)? {
                                return Ok(Computed::Replaced { old, new });
                            }
                        }
                        Operation::Remove => {
                            if let Some(old) = self.take(hash, &found) {
                                return Ok(Computed::Removed(old));
                            }
                        }
                        Operation::Abort => return Ok(Computed::Aborted),
                    }
                }
                Located::Vacant(vacant) => match decide(None) {
                    Operation::Insert(value) => {
                        if let Some(value) = self.put(key, hash, &vacant, value)? {
                            return Ok(Computed::Inserted(value));
                        }
                    }
                    Operation::Remove => return Ok(Computed::Absent),
                    Operation::Abort => return Ok(Computed::Aborted),
                },
            }
            pause();
        }
    }

    /// Removes `key` if `accept` returns true for its value, and returns the value: exactly the one
    /// that `accept` saw last. If another thread replaces the value meanwhile, `accept` is called
    /// again. Never fails for lack of memory.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// view.insert(b"key", 7)?;
    /// assert_eq!(view.remove_if(b"key", |value| *value > 7), None);
    /// assert_eq!(view.remove_if(b"key", |value| *value == 7), Some(&7));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn remove_if(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        accept: impl FnMut(&V) -> bool,
    ) -> Option<&V> {
        self.remove_if_bytes(key.as_ref(), accept)
    }

    /// [`remove_if`](Self::remove_if), compiled once for all key types.
    pub(in crate::map) fn remove_if_bytes(
        &self,
        key: &[u8],
        mut accept: impl FnMut(&V) -> bool,
    ) -> Option<&V> {
        let hash = self.trie.nodes.hints.for_removal(key);
        loop {
            let Located::Found(found) = self.place(key) else {
                return None;
            };
            // SAFETY: `place` confirmed the leaf, and the section keeps it (QPT-N3).
            if !accept(unsafe { self.trie.nodes.value(found.leaf) }) {
                return None;
            }
            if let Some(value) = self.take(hash, &found) {
                return Some(value);
            }
            pause();
        }
    }

    /// Removes every entry for which `keep` returns false.
    ///
    /// Calls `keep` with entries in ascending order. If other threads write, it visits the entries
    /// that [`iter`](Self::iter) returns: every key that is present throughout. A removed entry is
    /// exactly the one that `keep` rejected; if another thread replaced the value meanwhile, `keep`
    /// is called with the new value. If `keep` itself changes the value of a key that it rejects,
    /// each time that it is asked about it, this never returns.
    ///
    /// Cost: a step of a scan for each entry, and a removal for each rejected one. Removed entries
    /// are not reused before the section ends: in a large trie, remove entries in portions, each in
    /// its own section.
    ///
    /// ```
    /// # use qptrie::QpTrie;
    /// # let trie: QpTrie<u32> = QpTrie::new()?;
    /// # let view = trie.pin();
    /// for (key, value) in [("one", 1), ("three", 3), ("two", 2)] {
    ///     view.insert(key.as_bytes(), value)?;
    /// }
    /// view.retain(|key, value| key.starts_with(b"t") && *value != 2);
    /// assert_eq!(view.iter().collect::<Vec<_>>(), [(&b"three"[..], &3)]);
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &V) -> bool) {
        for (key, seen) in self {
            if !keep(key, seen) {
                // No other value can be at this address inside this section.
                self.remove_if(key, |value| std::ptr::eq(value, seen) || !keep(key, value));
            }
        }
    }

    /// Replaces a leaf that was found, if it is still linked, and frees it. Returns its value and
    /// the new one.
    fn give(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        found: &Named<'_>,
        value: V,
    ) -> Result<Option<[&V; 2]>, InsertError<V>> {
        let leaf = self.new_leaf(key, value)?;
        if self.replace(hash, found, leaf) {
            // SAFETY: the old leaf was replaced here (QPT-U1), and the new one was published.
            let values = unsafe { [self.unlinked(found.leaf), self.trie.nodes.value(leaf)] };
            return Ok(Some(values));
        }
        // SAFETY: the leaf was not published.
        drop(unsafe { self.trie.nodes.take_back(leaf) });
        Ok(None)
    }

    /// Unlinks and frees a leaf that was found, if it is still linked.
    fn take(&self, hash: Option<KeyHash>, found: &Found<'_>) -> Option<&V> {
        found.remove(&self.trie.nodes).ok()?;
        self.forget_hint(hash, found.leaf);
        // SAFETY: the leaf was unlinked here (QPT-U1).
        Some(unsafe { self.unlinked(found.leaf) })
    }

    /// Inserts a value in a vacant place; `None` if the place is no longer vacant.
    fn put(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        vacant: &Vacant<'_>,
        value: V,
    ) -> Result<Option<&V>, InsertError<V>> {
        let leaf = self.new_leaf(key, value)?;
        match self.fill(vacant, key, leaf) {
            Ok(false) => {
                // SAFETY: the leaf was not published.
                drop(unsafe { self.trie.nodes.take_back(leaf) });
                Ok(None)
            }
            filled => {
                if filled.is_ok() {
                    self.hint_linked(hash, leaf, None);
                }
                self.settle(leaf, filled.map(|_| ())).map(Some)
            }
        }
    }

    /// Returns the value of a published leaf, or the error with the value of an unpublished one.
    fn settle(
        &self,
        leaf: Handle,
        linked: Result<(), InsertErrorKind>,
    ) -> Result<&V, InsertError<V>> {
        match linked {
            // SAFETY: the leaf was published inside the section, which keeps it (QPT-N3).
            Ok(()) => Ok(unsafe { self.trie.nodes.value(leaf) }),
            Err(kind) => {
                // SAFETY: the leaf was not published.
                Err(InsertError { kind, value: unsafe { self.trie.nodes.take_back(leaf) } })
            }
        }
    }
}
