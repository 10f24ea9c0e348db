//! The trie inside a section that may sleep.

use super::compute::{Computed, Operation};
use super::error::InsertError;
use super::iter::{prefix_bounds, range_bounds};
use super::trace_iter::TraceIter;
use super::trie::QpTrie;
use super::view::Update;
use memalloc::rcu::TraceGuard;
use memalloc::{AfterTasksTraceGp, Immediate, ProtectsSleepers, ReusePolicy};
use std::fmt;
use std::ops::Bound::{self, Unbounded};
use std::ops::RangeBounds;

/// A [`QpTrie`] inside a section that may sleep. References are valid as long as this view is
/// borrowed, across blocking calls and `.await`; the view may move to another thread meanwhile.
///
/// Exists only if the policy of leaves protects sleepers ([`AfterTasksTraceGp`]):
///
/// ```compile_fail,E0599
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<u32> = QpTrie::new().unwrap();
/// let view = trie.pin_trace();
/// ```
///
/// Each operation reads branches in its own RCU section, so branches may have any policy. An
/// operation costs the same as in a [`TrieRef`](crate::TrieRef), plus that section; for a batch of
/// operations without a pause a `TrieRef` is cheaper.
#[must_use = "the section ends when this is dropped"]
pub struct TraceRef<
    't,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsSleepers = AfterTasksTraceGp,
> {
    trie: &'t QpTrie<V, B, L>,
    _guard: TraceGuard<'t>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> fmt::Debug
    for TraceRef<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceRef").field(self.trie).finish()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> QpTrie<V, B, L> {
    /// Begins a section that may sleep, in which references to values are valid. While it lasts,
    /// nothing that is freed for sleepers can be reused, in any structure on the same domain.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Immediate};
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<String, Immediate, AfterTasksTraceGp>::new()?;
    /// let view = trie.pin_trace();
    /// view.insert(b"name", "trie".to_owned())?;
    /// let name = view.get(b"name");
    /// view.remove(b"name");
    /// std::thread::scope(|scope| scope.spawn(|| assert_eq!(name.unwrap(), "trie")).join().unwrap());
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "rcu_read_lock_trace")]
    pub fn pin_trace(&self) -> TraceRef<'_, V, B, L> {
        TraceRef { trie: self, _guard: self.domain.pin_trace() }
    }
}

/// Extends the lifetime of what was found in an RCU section to that of a view.
///
/// # Safety
///
/// `found` is the key or the value of a leaf that was linked, or unlinked by the caller, inside the
/// view's section, under a policy that protects sleepers.
unsafe fn kept<'r, T: ?Sized>(found: &T) -> &'r T {
    // SAFETY: if the leaf was freed, the section of the view was open then, so the policy keeps the
    // leaf until that section ends (INV-N3).
    unsafe { &*std::ptr::from_ref(found) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceRef<'_, V, B, L> {
    /// Returns the value of `key`: see [`TrieRef::get`](crate::TrieRef::get).
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        // SAFETY: found in this section.
        self.trie.pin().get(key).map(|value| unsafe { kept(value) })
    }

    /// Returns true if `key` is present.
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.trie.pin().contains_key(key)
    }

    /// Inserts or replaces the value of `key` and returns the old value: see
    /// [`TrieRef::insert`](crate::TrieRef::insert).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::insert`](crate::TrieRef::insert).
    pub fn insert(&self, key: &[u8], value: V) -> Result<Option<&V>, InsertError<V>> {
        self.update(key, value, Update::Any)
    }

    /// Sets the value of `key` if `how` accepts the key, and returns the old value: see
    /// [`TrieRef::update`](crate::TrieRef::update).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::update`](crate::TrieRef::update).
    pub fn update(&self, key: &[u8], value: V, how: Update) -> Result<Option<&V>, InsertError<V>> {
        // SAFETY: unlinked in this section.
        Ok(self.trie.pin().update(key, value, how)?.map(|old| unsafe { kept(old) }))
    }

    /// Removes `key` and returns its value: see [`TrieRef::remove`](crate::TrieRef::remove).
    pub fn remove(&self, key: &[u8]) -> Option<&V> {
        // SAFETY: unlinked in this section.
        self.trie.pin().remove(key).map(|value| unsafe { kept(value) })
    }

    /// Returns the entry of `key`: see [`TrieRef::get_key_value`](crate::TrieRef::get_key_value).
    pub fn get_key_value(&self, key: &[u8]) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.get_key_value(key).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the values of several keys, in the order of the keys: see
    /// [`TrieRef::get_many`](crate::TrieRef::get_many).
    pub fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<&V>; N] {
        // SAFETY: found in this section.
        self.trie.pin().get_many(keys).map(|value| value.map(|value| unsafe { kept(value) }))
    }

    /// Inserts `value` if `key` is absent: see [`TrieRef::try_insert`](crate::TrieRef::try_insert).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::try_insert`](crate::TrieRef::try_insert).
    pub fn try_insert(&self, key: &[u8], value: V) -> Result<&V, InsertError<V>> {
        // SAFETY: linked in this section.
        self.trie.pin().try_insert(key, value).map(|value| unsafe { kept(value) })
    }

    /// Returns the value of `key`; if it is absent, inserts the value that `make` returns: see
    /// [`TrieRef::get_or_insert_with`](crate::TrieRef::get_or_insert_with). `make` runs inside an
    /// RCU section: it must not sleep.
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::get_or_insert_with`](crate::TrieRef::get_or_insert_with).
    pub fn get_or_insert_with(
        &self,
        key: &[u8],
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        let view = self.trie.pin();
        // SAFETY: found or linked in this section.
        view.get_or_insert_with(key, make).map(|value| unsafe { kept(value) })
    }

    /// Looks up `key`, calls `decide` with its value, and applies the result, all as one atomic
    /// step: see [`TrieRef::compute`](crate::TrieRef::compute). `decide` runs inside an RCU
    /// section: it must not sleep.
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::compute`](crate::TrieRef::compute).
    pub fn compute<A>(
        &self,
        key: &[u8],
        decide: impl FnMut(Option<&V>) -> Operation<V, A>,
    ) -> Result<Computed<&V, A>, InsertError<V>> {
        let view = self.trie.pin();
        // SAFETY: found, linked or unlinked in this section.
        view.compute(key, decide).map(|done| done.map(|value| unsafe { kept(value) }))
    }

    /// Removes `key` if `accept` returns true for its value: see
    /// [`TrieRef::remove_if`](crate::TrieRef::remove_if). `accept` runs inside an RCU section: it
    /// must not sleep.
    pub fn remove_if(&self, key: &[u8], accept: impl FnMut(&V) -> bool) -> Option<&V> {
        // SAFETY: unlinked in this section.
        self.trie.pin().remove_if(key, accept).map(|value| unsafe { kept(value) })
    }

    /// Removes every entry for which `keep` returns false: see
    /// [`TrieRef::retain`](crate::TrieRef::retain). Costs the same as [`iter`](Self::iter).
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &V) -> bool) {
        for (key, seen) in self.iter() {
            if !keep(key, seen) {
                // No other value can be at this address inside this section.
                self.remove_if(key, |value| std::ptr::eq(value, seen) || !keep(key, value));
            }
        }
    }

    /// Returns all entries in ascending order; use [`rev`](Iterator::rev) for descending order. See
    /// [`TraceIter`].
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Immediate};
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u32, Immediate, AfterTasksTraceGp>::new()?;
    /// let view = trie.pin_trace();
    /// for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
    ///     view.insert(key.as_bytes(), value)?;
    /// }
    /// let mut scan = view.iter();
    /// assert_eq!(scan.next(), Some((&b"a"[..], &1)));
    /// view.remove(b"b"); // or any other change during a pause
    /// assert!(scan.map(|(_, value)| value).eq(&[3]));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, (Unbounded, Unbounded))
    }

    /// Returns the entries whose keys are in `range`, from both ends. A range whose start is after
    /// its end is empty.
    pub fn range<K, R>(&self, range: R) -> TraceIter<'_, V, B, L>
    where
        K: AsRef<[u8]> + ?Sized,
        R: RangeBounds<K>,
    {
        TraceIter::new(self, range_bounds(&range))
    }

    /// Returns the entries whose keys begin with `prefix`, including `prefix` itself, from both
    /// ends.
    pub fn prefix(&self, prefix: &[u8]) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, prefix_bounds(prefix))
    }

    /// Returns the entry with the smallest key.
    pub fn first(&self) -> Option<(&[u8], &V)> {
        self.lower_bound(Unbounded)
    }

    /// Returns the entry with the greatest key.
    pub fn last(&self) -> Option<(&[u8], &V)> {
        self.upper_bound(Unbounded)
    }

    /// Returns the entry with the longest key that is a prefix of `key`: see
    /// [`TrieRef::longest_prefix`](crate::TrieRef::longest_prefix).
    pub fn longest_prefix(&self, key: &[u8]) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.longest_prefix(key).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the entry with the smallest key that is at least (`Included`) or greater than
    /// (`Excluded`) the bound; the first entry for `Unbounded`. Calling this with the last returned
    /// key as the excluded bound scans the trie and may pause between any two entries.
    pub fn lower_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.lower_bound(bound).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the entry with the greatest key that is at most (`Included`) or less than
    /// (`Excluded`) the bound; the last entry for `Unbounded`.
    pub fn upper_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.upper_bound(bound).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }
}

const _: () = {
    const fn moves<T: Send + Sync>() {}
    moves::<TraceRef<'static, String>>();
};
