//! Changes that depend on the current value, with values as copies, under every policy of leaves.
//!
//! As in `by_ref::compute` the decision is a closure of the caller and runs without locks. If
//! leaves are reused at once, the closure saw one version of a leaf: the change takes that version
//! or fails, and then the closure is called again.

use crate::map::by_ref::compute::{Computed, Operation};
use crate::map::by_ref::point::{TrieRef, Update};
use crate::map::error::{InsertError, InsertErrorKind};
use crate::node::{KeyHash, PlainBits};
use crate::write::{Found, Located, Named, Vacant, overwrite_hinted};
use memalloc::sync::pause;
use memalloc::{Handle, ReusePolicy};

/// # Changes that depend on the current value, with copies
///
/// ```
/// use memalloc::Immediate;
/// use qptrie::{Computed, Operation, QpTrie};
///
/// let trie = QpTrie::<u64, Immediate, Immediate>::with_policies()?;
/// let view = trie.pin();
/// let more = |hits: Option<u64>| Operation::Insert(hits.unwrap_or(0) + 1);
/// assert_eq!(view.compute_copied(b"hits", more)?, Computed::Inserted(1));
/// assert_eq!(view.compute_copied(b"hits", more)?, Computed::Replaced { old: 1, new: 2 });
/// assert_eq!(view.remove_if_copied(b"hits", |hits| hits > 2), None);
/// assert_eq!(view.get_or_insert_with_copied(b"hits", || unreachable!())?, 2);
/// view.retain_copied(|_, hits| hits > 2);
/// assert!(trie.is_empty());
/// # drop(view);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> TrieRef<V, B, L> {
    /// Looks up `key`, calls `decide` with a copy of its value, and applies the result, all as one
    /// atomic step: [`compute`](TrieRef::compute) with copies.
    ///
    /// `decide` runs without locks, any number of times: it is called again if the value has
    /// changed before its result is applied.
    ///
    /// # Errors
    ///
    /// Same as [`update_copied`](Self::update_copied), if `decide` returns `Insert`.
    #[inline]
    pub fn compute_copied(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        decide: impl FnMut(Option<V>) -> Operation<V>,
    ) -> Result<Computed<V>, InsertError<V>>
    where
        V: PlainBits,
    {
        self.compute_copied_bytes(key.as_ref(), decide)
    }

    /// [`compute_copied`](Self::compute_copied), compiled once for all key types.
    fn compute_copied_bytes(
        &self,
        key: &[u8],
        mut decide: impl FnMut(Option<V>) -> Operation<V>,
    ) -> Result<Computed<V>, InsertError<V>>
    where
        V: PlainBits,
    {
        let (nodes, hash) = (&self.trie.nodes, self.trie.nodes.hints.for_update(key));
        if let Some(at) = self.find_to_overwrite(key, hash)
            && let Ok(Some(old)) = at.value_of(nodes, key)
        {
            match decide(Some(old)) {
                Operation::Insert(new) => {
                    nodes.roots.of(key).let_readers_pass();
                    if overwrite_hinted(nodes, at, &new).is_ok() {
                        return Ok(Computed::Replaced { old, new });
                    }
                }
                // Removing needs the place of the leaf; `decide` is called once more.
                Operation::Remove => {}
                Operation::Abort => return Ok(Computed::Aborted),
            }
        }
        if let Some(found) = self.find_named(key, hash) {
            // SAFETY: the leaf was linked inside the section (QPT-V5), which keeps it (QPT-N3).
            let old = unsafe { *nodes.value(found.leaf) };
            match decide(Some(old)) {
                Operation::Insert(new) => {
                    let given = self.exchange_copied(key, hash, &found, new);
                    if given.map_err(|kind| InsertError { kind, value: new })? {
                        return Ok(Computed::Replaced { old, new });
                    }
                }
                // As above.
                Operation::Remove => {}
                Operation::Abort => return Ok(Computed::Aborted),
            }
        }
        loop {
            match self.place(key) {
                Located::Found(found) => {
                    let Ok(old) = found.value(&self.trie.nodes) else {
                        pause();
                        continue;
                    };
                    match decide(Some(old)) {
                        Operation::Insert(new) => {
                            let given = self.give_copied(key, hash, &found, new);
                            if given.map_err(|kind| InsertError { kind, value: new })? {
                                return Ok(Computed::Replaced { old, new });
                            }
                        }
                        Operation::Remove => {
                            if self.take_copied(hash, &found).is_some() {
                                return Ok(Computed::Removed(old));
                            }
                        }
                        Operation::Abort => return Ok(Computed::Aborted),
                    }
                }
                Located::Vacant(vacant) => match decide(None) {
                    Operation::Insert(new) => {
                        let put = self.put_copied(key, hash, &vacant, new);
                        if put.map_err(|kind| InsertError { kind, value: new })? {
                            return Ok(Computed::Inserted(new));
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
    /// that `accept` saw last. Never fails for lack of memory.
    #[inline]
    pub fn remove_if_copied(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        accept: impl FnMut(V) -> bool,
    ) -> Option<V>
    where
        V: PlainBits,
    {
        self.remove_if_copied_bytes(key.as_ref(), accept)
    }

    /// [`remove_if_copied`](Self::remove_if_copied), compiled once for all key types.
    pub(in crate::map) fn remove_if_copied_bytes(
        &self,
        key: &[u8],
        mut accept: impl FnMut(V) -> bool,
    ) -> Option<V>
    where
        V: PlainBits,
    {
        let hash = self.trie.nodes.hints.for_removal(key);
        loop {
            let Located::Found(found) = self.place(key) else {
                return None;
            };
            if let Ok(value) = found.value(&self.trie.nodes) {
                if !accept(value) {
                    return None;
                }
                if let Some(value) = self.take_copied(hash, &found) {
                    return Some(value);
                }
            }
            pause();
        }
    }

    /// Returns the value of `key`; if it is absent, inserts the value that `make` returns.
    ///
    /// `make` is called at most once, and only if the key is absent. If another thread inserts the
    /// key meanwhile, this returns that thread's value.
    ///
    /// # Errors
    ///
    /// Same as [`update_copied`](Self::update_copied).
    #[inline]
    pub fn get_or_insert_with_copied(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        make: impl FnOnce() -> V,
    ) -> Result<V, InsertError<V>>
    where
        V: PlainBits,
    {
        self.get_or_insert_with_copied_bytes(key.as_ref(), make)
    }

    /// [`get_or_insert_with_copied`](Self::get_or_insert_with_copied), compiled once for all key
    /// types.
    fn get_or_insert_with_copied_bytes(
        &self,
        key: &[u8],
        make: impl FnOnce() -> V,
    ) -> Result<V, InsertError<V>>
    where
        V: PlainBits,
    {
        if let Some(value) = self.get_copied(key) {
            return Ok(value);
        }
        let made = make();
        loop {
            match self.update_copied_bytes(key, made, Update::NoExist) {
                Ok(_) => return Ok(made),
                Err(error) if error.kind() == InsertErrorKind::Exists => {
                    if let Some(value) = self.get_copied(key) {
                        return Ok(value);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes every entry for which `keep` returns false.
    ///
    /// Calls `keep` with entries in ascending order. If other threads write, it visits the entries
    /// that [`iter_copied`](Self::iter_copied) returns: every key that is present throughout. For
    /// an entry that it rejects, `keep` is called again with the value that the entry has when it
    /// is removed. If `keep` itself changes that value each time, this never returns.
    ///
    /// Cost: a step of a scan for each entry, and a removal for each rejected one.
    pub fn retain_copied(&self, mut keep: impl FnMut(&[u8], V) -> bool)
    where
        V: PlainBits,
    {
        let (mut scan, mut key) = (self.iter_copied(), Vec::new());
        while let Some(seen) = scan.next_into(&mut key) {
            if !keep(&key, seen) {
                self.remove_if_copied(&key, |value| !keep(&key, value));
            }
        }
    }

    /// Replaces the value of a key if it still has the value that was found. Returns whether it
    /// did.
    fn give_copied(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        found: &Found<'_>,
        value: V,
    ) -> Result<bool, InsertErrorKind>
    where
        V: PlainBits,
    {
        if !L::PROTECTS_IDENTITY {
            return Ok(found.overwrite(&self.trie.nodes, &value).is_ok());
        }
        self.exchange_copied(key, hash, &found.named(), value)
    }

    /// Replaces a leaf that was found by a new one, if it is still linked, and frees it. Returns
    /// whether it was.
    fn exchange_copied(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        found: &Named<'_>,
        value: V,
    ) -> Result<bool, InsertErrorKind>
    where
        V: PlainBits,
    {
        let leaf = self.new_copied(key, value)?;
        let replaced = self.replace(hash, found, leaf);
        if replaced {
            self.copy_out(found.leaf);
        } else {
            // SAFETY: the leaf was not published.
            unsafe { self.trie.nodes.drop_leaf(leaf) };
        }
        Ok(replaced)
    }

    /// Inserts a value in a vacant place. Returns false if the place is no longer vacant.
    fn put_copied(
        &self,
        key: &[u8],
        hash: Option<KeyHash>,
        vacant: &Vacant<'_>,
        value: V,
    ) -> Result<bool, InsertErrorKind>
    where
        V: PlainBits,
    {
        let leaf = self.new_copied(key, value)?;
        let filled = self.fill(vacant, key, leaf);
        if filled == Ok(true) {
            self.hint_linked(hash, leaf, None);
        } else {
            // SAFETY: the leaf was not published.
            unsafe { self.trie.nodes.drop_leaf(leaf) };
        }
        filled
    }

    /// Unlinks and frees a leaf if it still has the value that was found. Returns a copy of that
    /// value.
    fn take_copied(&self, hash: Option<KeyHash>, found: &Found<'_>) -> Option<V>
    where
        V: PlainBits,
    {
        found.remove(&self.trie.nodes).ok()?;
        self.forget_hint(hash, found.leaf);
        Some(self.copy_out(found.leaf))
    }

    /// Allocates a leaf that is not linked yet.
    fn new_copied(&self, key: &[u8], value: V) -> Result<Handle, InsertErrorKind>
    where
        V: PlainBits,
    {
        if L::PROTECTS_IDENTITY {
            return self.new_leaf(key, value).map_err(|error| error.kind());
        }
        self.check_key(key)?;
        let leaf = self.trie.nodes.new_words(key, &value);
        leaf.map_err(|error| InsertErrorKind::Memory(error.kind()))
    }
}
