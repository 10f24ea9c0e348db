//! Changes that depend on what is there: look, decide, and change only what was looked at.
//!
//! The decision is the caller's closure. It runs with nothing locked, so it may take its time and
//! use the trie itself. What it decides is done under the locks, if the slot still names the leaf
//! that the closure saw, or is still vacant; else the closure is asked again.
//!
//! - INV-U1: a leaf that a slot names is the one that it named when it was looked at in the same
//!   section, if it has the same handle: a leaf is linked once, and its handle not used again before
//!   the section ends (INV-N3).

use super::error::{InsertError, InsertErrorKind};
use super::view::{TrieRef, Update};
use crate::write::{Found, Place, Vacant};
use memalloc::sync::pause;
use memalloc::{Handle, ProtectsIdentity, ReusePolicy};

/// What [`TrieRef::compute`] shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation<V> {
    /// Puts this value at the key, in place of the one that is there, if any.
    Insert(V),
    /// Takes the key out; where it is not there, nothing is done.
    Remove,
    /// Does nothing. A closure that has more to tell writes it to a variable that it captures.
    Abort,
}

/// What [`TrieRef::compute`] did. `T` is how a value is given: as a reference, or as a copy
/// ([`TrieRef::compute_copied`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Computed<T> {
    /// The key was not there, and is now.
    Inserted(T),
    /// The key was there, and has another value.
    Replaced {
        /// The value that the closure saw.
        old: T,
        /// The value that it gave.
        new: T,
    },
    /// The key was there, with the value that the closure saw, and is no more.
    Removed(T),
    /// The key was not there, and was to be removed.
    Absent,
    /// The closure gave up.
    Aborted,
}

impl<T> Computed<T> {
    /// The same with other values.
    pub(super) fn map<U>(self, mut change: impl FnMut(T) -> U) -> Computed<U> {
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
    /// What `read` makes of the value of `key`. As [`get`](Self::get).
    #[inline]
    pub fn get_with<R>(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        read: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.get(key).map(read)
    }

    /// The entry of `key`: the key as the trie keeps it, for the life of the section, and its
    /// value. As [`get`](Self::get).
    #[inline]
    pub fn get_key_value(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        // SAFETY: `find` validated the leaf, inside the section.
        self.find(key.as_ref()).map(|leaf| unsafe { self.entry(leaf) })
    }

    /// Puts `value` at `key`, where there is none, and gives it as it lies there.
    ///
    /// # Errors
    ///
    /// [`InsertErrorKind::Exists`] when the key is there; else as
    /// [`update`](Self::update). The error gives the value back.
    #[inline]
    pub fn try_insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<&V, InsertError<V>> {
        self.try_insert_bytes(key.as_ref(), value)
    }

    /// [`try_insert`](Self::try_insert), compiled once for all types of keys.
    pub(super) fn try_insert_bytes(&self, key: &[u8], value: V) -> Result<&V, InsertError<V>> {
        if self.is_refused_by_hint(key, Update::NoExist) {
            return Err(InsertError { kind: InsertErrorKind::Exists, value });
        }
        let leaf = self.new_leaf(key, value)?;
        self.settle(leaf, self.link(key, leaf, Update::NoExist).map(|_| ()))
    }

    /// The value of `key`; that of `make`, where there is none.
    ///
    /// `make` is called at most once, and not when the key is there. Where another thread inserts
    /// the key meanwhile, its value counts, and the one that was made is dropped.
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
    /// As [`update`](Self::update); the error gives the value that was made back.
    #[inline]
    pub fn get_or_insert_with(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        self.get_or_insert_with_bytes(key.as_ref(), make)
    }

    /// [`get_or_insert_with`](Self::get_or_insert_with), compiled once for all types of keys.
    pub(super) fn get_or_insert_with_bytes(
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

    /// Looks at `key`, asks `decide` what to do, and does it, all as one atomic step: what is
    /// replaced or removed is the very value that `decide` saw last, and what is inserted comes
    /// where it saw nothing. Where another thread changed the key meanwhile, `decide` is asked again
    /// with what is there then, and the value that it gave before is dropped.
    ///
    /// `decide` runs with nothing locked, and may run any number of times. It should do no more than
    /// decide: if it changes `key` itself each time, this never ends.
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
    /// As [`update`](Self::update), when `decide` wants to insert: the error gives its value back.
    #[inline]
    pub fn compute(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        decide: impl FnMut(Option<&V>) -> Operation<V>,
    ) -> Result<Computed<&V>, InsertError<V>> {
        self.compute_bytes(key.as_ref(), decide)
    }

    /// [`compute`](Self::compute), compiled once for all types of keys.
    pub(super) fn compute_bytes(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<&V>) -> Operation<V>,
    ) -> Result<Computed<&V>, InsertError<V>> {
        let hash = self.prefetch_hint(key);
        loop {
            match self.place(key) {
                Place::Found(found) => {
                    // SAFETY: `place` confirmed the leaf, and the section keeps it (INV-N3).
                    let old = unsafe { self.trie.nodes.value(found.leaf) };
                    match decide(Some(old)) {
                        Operation::Insert(value) => {
                            let leaf = self.new_leaf(key, value)?;
                            if found.replace(&self.trie.nodes, leaf).is_ok() {
                                self.hint_linked(hash, leaf, Some(found.leaf));
                                // SAFETY: replaced here (INV-U1); the other was published.
                                let (old, new) = unsafe {
                                    (self.unlinked(found.leaf), self.trie.nodes.value(leaf))
                                };
                                return Ok(Computed::Replaced { old, new });
                            }
                            // SAFETY: the leaf was not published.
                            drop(unsafe { self.trie.nodes.take_back(leaf) });
                        }
                        Operation::Remove => {
                            if let Some(old) = self.take(hash, &found) {
                                return Ok(Computed::Removed(old));
                            }
                        }
                        Operation::Abort => return Ok(Computed::Aborted),
                    }
                }
                Place::Vacant(vacant) => match decide(None) {
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

    /// Takes `key` out if `accept` says so of its value, and gives the value: it is the very one
    /// that `accept` saw last. Where another thread replaced it meanwhile, `accept` is asked again.
    /// Never fails for lack of memory.
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

    /// [`remove_if`](Self::remove_if), compiled once for all types of keys.
    pub(super) fn remove_if_bytes(
        &self,
        key: &[u8],
        mut accept: impl FnMut(&V) -> bool,
    ) -> Option<&V> {
        let hash = self.prefetch_hint(key);
        loop {
            let Place::Found(found) = self.place(key) else {
                return None;
            };
            // SAFETY: `place` confirmed the leaf, and the section keeps it (INV-N3).
            if !accept(unsafe { self.trie.nodes.value(found.leaf) }) {
                return None;
            }
            if let Some(value) = self.take(hash, &found) {
                return Some(value);
            }
            pause();
        }
    }

    /// Unlinks and frees a leaf that was found, if it is still there.
    fn take(&self, hash: Option<u64>, found: &Found<'_>) -> Option<&V> {
        found.remove(&self.trie.nodes).ok()?;
        self.forget_hint(hash, found.leaf);
        // SAFETY: unlinked here (INV-U1).
        Some(unsafe { self.unlinked(found.leaf) })
    }

    /// Inserts a value where there was none; `None` if something is there by now.
    fn put(
        &self,
        key: &[u8],
        hash: Option<u64>,
        vacant: &Vacant<'_>,
        value: V,
    ) -> Result<Option<&V>, InsertError<V>> {
        let leaf = self.new_leaf(key, value)?;
        match self.fill(vacant, leaf) {
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

    /// The value of a leaf that was published, or the error and the value.
    fn settle(
        &self,
        leaf: Handle,
        linked: Result<(), InsertErrorKind>,
    ) -> Result<&V, InsertError<V>> {
        match linked {
            // SAFETY: published inside the section, which keeps it (INV-N3).
            Ok(()) => Ok(unsafe { self.trie.nodes.value(leaf) }),
            Err(kind) => {
                // SAFETY: the leaf was not published.
                Err(InsertError { kind, value: unsafe { self.trie.nodes.take_back(leaf) } })
            }
        }
    }
}
