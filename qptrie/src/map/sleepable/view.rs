//! The trie inside a section that may sleep.
//!
//! - QPT-G2: as long as a `&TraceRef` lives, a section of its trie's domain that may sleep is open.
//!   A `&TraceRef` is only made from a guard of that section and the trie, and borrows both. Any
//!   thread may have it, and every `TraceRef` is borrowed in this way.

use crate::map::by_ref::compute::{Computed, Operation};
use crate::map::by_ref::point::Update;
use crate::map::error::InsertError;
use crate::map::range::{KeyRange, prefix_bounds, range_bounds};
use crate::map::sleepable::iter::TraceIter;
use crate::map::trie::QpTrie;
use memalloc::rcu::TraceGuard;
use memalloc::{AfterTasksTraceGp, Immediate, ProtectsSleepers, ReusePolicy};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound::{self, Unbounded};

/// A [`QpTrie`] inside a section that may sleep. References are valid as long as this view is
/// borrowed, across blocking calls and `.await`; other threads may use the view meanwhile.
///
/// ```
/// use memalloc::{AfterTasksTraceGp, Immediate};
/// use qptrie::{QpTrie, TraceRef};
/// use std::thread::sleep;
/// use std::time::Duration;
///
/// fn greet(names: &TraceRef<String>, key: &str) -> String {
///     let name = names.get(key);
///     sleep(Duration::from_millis(1)); // Or `.await`: `name` stays.
///     name.map_or("hello".to_owned(), |name| format!("hello, {name}"))
/// }
///
/// let names = QpTrie::<String, Immediate, AfterTasksTraceGp>::with_policies()?;
/// names.pin_trace().insert("me", "trie".to_owned())?;
/// assert_eq!(greet(&names.pin_trace(), "me"), "hello, trie");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// It is always behind a reference: [`QpTrie::view_trace`] returns one that lasts as long as the
/// caller's guard, and the [`TrieTraceGuard`](crate::TrieTraceGuard) of [`QpTrie::pin_trace`]
/// dereferences to it.
#[repr(transparent)]
pub struct TraceRef<
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsSleepers = AfterTasksTraceGp,
> {
    trie: QpTrie<V, B, L>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> fmt::Debug
    for TraceRef<V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceRef").field(&self.trie).finish()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> QpTrie<V, B, L> {
    /// Returns a view inside a section that the caller began, to use several tries or other
    /// structures on one domain in one section. References are valid as long as the guard is
    /// borrowed.
    ///
    /// ```
    /// use memalloc::rcu::TraceGuard;
    /// use memalloc::{AfterTasksTraceGp, Immediate};
    /// use qptrie::QpTrie;
    ///
    /// type Names = QpTrie<String, Immediate, AfterTasksTraceGp>;
    ///
    /// fn name_of<'g>(names: &'g Names, guard: &'g TraceGuard<'_>, key: &str) -> Option<&'g str> {
    ///     names.view_trace(guard).get(key).map(String::as_str)
    /// }
    ///
    /// let names = Names::with_policies()?;
    /// let guard = names.domain().pin_trace();
    /// names.view_trace(&guard).insert("one", "a".to_owned())?;
    /// let name = name_of(&names, &guard, "one");
    /// names.view_trace(&guard).remove("one");
    /// std::thread::sleep(std::time::Duration::from_millis(1));
    /// assert_eq!(name, Some("a"));
    /// # drop(guard);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the guard belongs to another domain than [the trie](Self::domain): it would protect
    /// nothing here.
    #[must_use]
    pub fn view_trace<'g>(&'g self, guard: &'g TraceGuard<'_>) -> &'g TraceRef<V, B, L> {
        assert!(guard.is_of(&self.domain), "the guard belongs to another domain than this trie");
        // SAFETY: the guard keeps its section open and is borrowed for as long (QPT-G2).
        unsafe { TraceRef::inside(self) }
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
    // leaf until that section ends (QPT-N3).
    unsafe { &*std::ptr::from_ref(found) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceRef<V, B, L> {
    /// Views a trie inside a section that may sleep.
    ///
    /// # Safety
    ///
    /// As long as the reference lives, such a section of the trie's domain is open.
    #[inline(always)]
    pub(in crate::map) unsafe fn inside(trie: &QpTrie<V, B, L>) -> &Self {
        // SAFETY: the struct is transparent, so a trie has its layout; the caller keeps the
        // section open (QPT-G2).
        unsafe { &*std::ptr::from_ref(trie).cast() }
    }

    /// Returns the value of `key`: see [`TrieRef::get`](crate::TrieRef::get).
    #[must_use]
    pub fn get(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        // SAFETY: found in this section.
        self.trie.pin().get(key.as_ref()).map(|value| unsafe { kept(value) })
    }

    /// Applies `read` to the value of `key`: see [`TrieRef::get_with`](crate::TrieRef::get_with).
    /// `read` may sleep.
    pub fn get_with<R>(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        read: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        self.get(key).map(read)
    }

    /// Returns true if `key` is present.
    #[must_use]
    pub fn contains_key(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        self.trie.pin().contains_key(key.as_ref())
    }

    /// Inserts or replaces the value of `key` and returns the old value: see
    /// [`TrieRef::insert`](crate::TrieRef::insert).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::insert`](crate::TrieRef::insert).
    pub fn insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<Option<&V>, InsertError<V>> {
        self.update(key.as_ref(), value, Update::Any)
    }

    /// Sets the value of `key` if `how` accepts the key, and returns the old value: see
    /// [`TrieRef::update`](crate::TrieRef::update).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::update`](crate::TrieRef::update).
    pub fn update(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
        how: Update,
    ) -> Result<Option<&V>, InsertError<V>> {
        // SAFETY: unlinked in this section.
        Ok(self.trie.pin().update_bytes(key.as_ref(), value, how)?.map(|old| unsafe { kept(old) }))
    }

    /// Removes `key` and returns its value: see [`TrieRef::remove`](crate::TrieRef::remove).
    pub fn remove(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        // SAFETY: unlinked in this section.
        self.trie.pin().remove_bytes(key.as_ref()).map(|value| unsafe { kept(value) })
    }

    /// Returns the entry of `key`: see [`TrieRef::get_key_value`](crate::TrieRef::get_key_value).
    #[must_use]
    pub fn get_key_value(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.get_key_value(key.as_ref()).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the values of several keys, in the order of the keys: see
    /// [`TrieRef::get_many`](crate::TrieRef::get_many).
    #[must_use]
    pub fn get_many<K: AsRef<[u8]> + ?Sized, const N: usize>(
        &self,
        keys: [&K; N],
    ) -> [Option<&V>; N] {
        // SAFETY: found in this section.
        self.trie.pin().get_many(keys).map(|value| value.map(|value| unsafe { kept(value) }))
    }

    /// Inserts `value` if `key` is absent: see [`TrieRef::try_insert`](crate::TrieRef::try_insert).
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::try_insert`](crate::TrieRef::try_insert).
    pub fn try_insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<&V, InsertError<V>> {
        // SAFETY: linked in this section.
        self.trie.pin().try_insert_bytes(key.as_ref(), value).map(|value| unsafe { kept(value) })
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
        key: &(impl AsRef<[u8]> + ?Sized),
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        let view = self.trie.pin();
        // SAFETY: found or linked in this section.
        view.get_or_insert_with_bytes(key.as_ref(), make).map(|value| unsafe { kept(value) })
    }

    /// Looks up `key`, calls `decide` with its value, and applies the result, all as one atomic
    /// step: see [`TrieRef::compute`](crate::TrieRef::compute). `decide` runs inside an RCU
    /// section: it must not sleep.
    ///
    /// # Errors
    ///
    /// Same as [`TrieRef::compute`](crate::TrieRef::compute).
    pub fn compute(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        decide: impl FnMut(Option<&V>) -> Operation<V>,
    ) -> Result<Computed<&V>, InsertError<V>> {
        let view = self.trie.pin();
        // SAFETY: found, linked or unlinked in this section.
        view.compute_bytes(key.as_ref(), decide)
            .map(|done| done.map(|value| unsafe { kept(value) }))
    }

    /// Removes `key` if `accept` returns true for its value: see
    /// [`TrieRef::remove_if`](crate::TrieRef::remove_if). `accept` runs inside an RCU section: it
    /// must not sleep.
    pub fn remove_if(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        accept: impl FnMut(&V) -> bool,
    ) -> Option<&V> {
        let view = self.trie.pin();
        // SAFETY: unlinked in this section.
        view.remove_if_bytes(key.as_ref(), accept).map(|value| unsafe { kept(value) })
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
    /// let trie = QpTrie::<u32, Immediate, AfterTasksTraceGp>::with_policies()?;
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
    pub fn range(&self, range: impl KeyRange) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, range_bounds(&range))
    }

    /// Returns the entries whose keys begin with `prefix`, including `prefix` itself, from both
    /// ends.
    pub fn prefix(&self, prefix: &(impl AsRef<[u8]> + ?Sized)) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, prefix_bounds(prefix.as_ref()))
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

    /// Writes the smallest key that is greater than `after` to `key`: see
    /// [`TrieRef::next_key`](crate::TrieRef::next_key).
    pub fn next_key(&self, after: Option<&[u8]>, key: &mut Vec<u8>) -> bool {
        self.trie.pin().next_key(after, key)
    }

    /// Writes the greatest key that is less than `before` to `key`: see
    /// [`TrieRef::prev_key`](crate::TrieRef::prev_key).
    pub fn prev_key(&self, before: Option<&[u8]>, key: &mut Vec<u8>) -> bool {
        self.trie.pin().prev_key(before, key)
    }

    /// Removes the entry with the smallest key and returns it: see
    /// [`TrieRef::pop_first`](crate::TrieRef::pop_first).
    pub fn pop_first(&self) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: the key was found, and the value unlinked, inside this section.
        view.pop_first().map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Removes the entry with the greatest key and returns it: see
    /// [`TrieRef::pop_last`](crate::TrieRef::pop_last).
    pub fn pop_last(&self) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: as in `pop_first`.
        view.pop_last().map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the entry with the longest key that is a prefix of `key`: see
    /// [`TrieRef::longest_prefix`](crate::TrieRef::longest_prefix).
    #[must_use]
    pub fn longest_prefix(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.longest_prefix_bytes(key.as_ref())
            .map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the entry with the smallest key that is at least (`Included`) or greater than
    /// (`Excluded`) the bound; the first entry for `Unbounded`. Calling this with the last returned
    /// key as the excluded bound scans the trie and may pause between any two entries.
    #[must_use]
    pub fn lower_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.lower_bound(bound).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Returns the entry with the greatest key that is at most (`Included`) or less than
    /// (`Excluded`) the bound; the last entry for `Unbounded`.
    #[must_use]
    pub fn upper_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.upper_bound(bound).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }
}

const _: () = {
    const fn moves<T: Send + Sync>() {}
    moves::<&TraceRef<String>>();
};
