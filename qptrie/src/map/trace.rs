//! The trie inside a section that may sleep.
//!
//! - INV-G2: as long as a `&TraceRef` lives, a section of its trie's domain is open that may sleep. It is only
//!   ever made of a guard of that section and the trie, and borrows both. Any thread may have it, and nobody
//!   has a `TraceRef` that is not borrowed so.

use super::compute::{Computed, Operation};
use super::error::InsertError;
use super::guard::TrieTraceGuard;
use super::iter::{prefix_bounds, range_bounds};
use super::range::KeyRange;
use super::trace_iter::TraceIter;
use super::trie::QpTrie;
use super::view::Update;
use memalloc::rcu::TraceGuard;
use memalloc::{AfterTasksTraceGp, Immediate, ProtectsSleepers, ReusePolicy};
use std::fmt;
use std::ops::Bound::{self, Unbounded};

/// A [`QpTrie`] inside a section that may sleep: references hold as long as this is borrowed, across
/// blocking calls and `.await`, and it may go to another thread meanwhile.
///
/// Only where leaves are kept for sleepers ([`AfterTasksTraceGp`]); elsewhere there is no such
/// view:
///
/// ```compile_fail,E0599
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<u32> = QpTrie::new().unwrap();
/// let view = trie.pin_trace();
/// ```
///
/// Branches are read in an RCU section of each operation's own, so that their policy may be
/// any. An operation costs what it costs in a [`TrieRef`](crate::TrieRef) and that section; a batch
/// of operations without a pause is better done in one.
///
/// It is always behind a reference: [`QpTrie::view_trace`] gives one that lasts as long as the caller's guard,
/// and the [`TrieTraceGuard`] of [`QpTrie::pin_trace`] dereferences to it.
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
    /// Begins a section that may sleep, in which references to values hold. As long as it lasts,
    /// nothing that is freed for sleepers can be reused, in any structure on the same domain.
    ///
    /// ```
    /// use memalloc::{AfterTasksTraceGp, Immediate};
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<String, Immediate, AfterTasksTraceGp>::with_policies()?;
    /// let view = trie.pin_trace();
    /// view.insert(b"name", "trie".to_owned())?;
    /// let name = view.get(b"name");
    /// view.remove(b"name");
    /// std::thread::scope(|scope| scope.spawn(|| assert_eq!(name.unwrap(), "trie")).join().unwrap());
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "rcu_read_lock_trace")]
    pub fn pin_trace(&self) -> TrieTraceGuard<'_, V, B, L> {
        TrieTraceGuard::new(self)
    }

    /// The same inside a section that the caller began: for several tries, or other structures, on one
    /// domain. References hold as long as the guard is borrowed.
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
    /// When the guard is of another domain than [the trie's](Self::domain): it would protect
    /// nothing here.
    pub fn view_trace<'g>(&'g self, guard: &'g TraceGuard<'_>) -> &'g TraceRef<V, B, L> {
        assert!(guard.is_of(&self.domain), "the guard is not of the domain of this trie");
        // SAFETY: the guard keeps its section open, and is borrowed as long (INV-G2).
        unsafe { TraceRef::inside(self) }
    }
}

/// Lets what was found in an RCU section hold for as long as a view.
///
/// # Safety
///
/// It is the key or the value of a leaf that was linked, or unlinked by the caller, inside the
/// view's section, under a policy that protects sleepers.
unsafe fn kept<'r, T: ?Sized>(found: &T) -> &'r T {
    // SAFETY: the section of the view was open when the leaf was freed, if it was, so the policy
    // keeps it until that section ends (INV-N3).
    unsafe { &*std::ptr::from_ref(found) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> TraceRef<V, B, L> {
    /// A trie, seen inside a section that may sleep.
    ///
    /// # Safety
    ///
    /// For as long as the reference lives, such a section of the trie's domain is open.
    #[inline(always)]
    pub(super) unsafe fn inside(trie: &QpTrie<V, B, L>) -> &Self {
        // SAFETY: the struct is transparent, so a trie is laid out as one; the section is the caller's
        // promise (INV-G2).
        unsafe { &*std::ptr::from_ref(trie).cast() }
    }

    /// The value of `key`: see [`TrieRef::get`](crate::TrieRef::get).
    pub fn get(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        // SAFETY: found in this section.
        self.trie.pin().get(key.as_ref()).map(|value| unsafe { kept(value) })
    }

    /// Whether `key` is there.
    pub fn contains_key(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> bool {
        self.trie.pin().contains_key(key.as_ref())
    }

    /// Puts `value` at `key` and gives the value that was there: see
    /// [`TrieRef::insert`](crate::TrieRef::insert).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<Option<&V>, InsertError<V>> {
        self.update(key.as_ref(), value, Update::Any)
    }

    /// Puts `value` at `key`, if `how` accepts the key, and gives the value that was there: see
    /// [`TrieRef::update`](crate::TrieRef::update).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn update(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
        how: Update,
    ) -> Result<Option<&V>, InsertError<V>> {
        // SAFETY: unlinked in this section.
        Ok(self.trie.pin().update_bytes(key.as_ref(), value, how)?.map(|old| unsafe { kept(old) }))
    }

    /// Takes `key` out and gives its value: see [`TrieRef::remove`](crate::TrieRef::remove).
    pub fn remove(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<&V> {
        // SAFETY: unlinked in this section.
        self.trie.pin().remove_bytes(key.as_ref()).map(|value| unsafe { kept(value) })
    }

    /// The entry of `key`: see [`TrieRef::get_key_value`](crate::TrieRef::get_key_value).
    pub fn get_key_value(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.get_key_value(key.as_ref()).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// The values of several keys, in their order: see [`TrieRef::get_many`](crate::TrieRef::get_many).
    pub fn get_many<const N: usize>(&self, keys: [&[u8]; N]) -> [Option<&V>; N] {
        // SAFETY: found in this section.
        self.trie.pin().get_many(keys).map(|value| value.map(|value| unsafe { kept(value) }))
    }

    /// Puts `value` at `key`, where there is none: see
    /// [`TrieRef::try_insert`](crate::TrieRef::try_insert).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_insert(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: V,
    ) -> Result<&V, InsertError<V>> {
        // SAFETY: linked in this section.
        self.trie.pin().try_insert_bytes(key.as_ref(), value).map(|value| unsafe { kept(value) })
    }

    /// The value of `key`; that of `make`, where there is none: see
    /// [`TrieRef::get_or_insert_with`](crate::TrieRef::get_or_insert_with). `make` runs inside an RCU section:
    /// it must not sleep.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn get_or_insert_with(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        make: impl FnOnce() -> V,
    ) -> Result<&V, InsertError<V>> {
        let view = self.trie.pin();
        // SAFETY: found or linked in this section.
        view.get_or_insert_with_bytes(key.as_ref(), make).map(|value| unsafe { kept(value) })
    }

    /// Looks at `key`, asks `decide` what to do, and does it, all as one atomic step: see
    /// [`TrieRef::compute`](crate::TrieRef::compute). `decide` runs inside an RCU section: it must not
    /// sleep.
    ///
    /// # Errors
    ///
    /// As there.
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

    /// Takes `key` out if `accept` says so of its value: see
    /// [`TrieRef::remove_if`](crate::TrieRef::remove_if). `accept` runs inside an RCU section: it must not
    /// sleep.
    pub fn remove_if(
        &self,
        key: &(impl AsRef<[u8]> + ?Sized),
        accept: impl FnMut(&V) -> bool,
    ) -> Option<&V> {
        let view = self.trie.pin();
        // SAFETY: unlinked in this section.
        view.remove_if_bytes(key.as_ref(), accept).map(|value| unsafe { kept(value) })
    }

    /// Takes out every entry that `keep` does not want: as [`TrieRef::retain`](crate::TrieRef::retain), at
    /// the cost of [`iter`](Self::iter).
    pub fn retain(&self, mut keep: impl FnMut(&[u8], &V) -> bool) {
        for (key, seen) in self.iter() {
            if !keep(key, seen) {
                // Nothing else can be at the address inside this section.
                self.remove_if(key, |value| std::ptr::eq(value, seen) || !keep(key, value));
            }
        }
    }

    /// All entries, ascending; descending with [`rev`](Iterator::rev). See [`TraceIter`].
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
    /// view.remove(b"b"); // and whatever else happens while it sleeps
    /// assert!(scan.map(|(_, value)| value).eq(&[3]));
    /// # drop(view);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, (Unbounded, Unbounded))
    }

    /// The entries whose keys are in `range`, from both ends. A range whose start is beyond its end is
    /// empty.
    pub fn range(&self, range: impl KeyRange) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, range_bounds(&range))
    }

    /// The entries whose keys begin with `prefix`, `prefix` itself among them, from both ends.
    pub fn prefix(&self, prefix: &(impl AsRef<[u8]> + ?Sized)) -> TraceIter<'_, V, B, L> {
        TraceIter::new(self, prefix_bounds(prefix.as_ref()))
    }

    /// The entry with the least key.
    pub fn first(&self) -> Option<(&[u8], &V)> {
        self.lower_bound(Unbounded)
    }

    /// The entry with the greatest key.
    pub fn last(&self) -> Option<(&[u8], &V)> {
        self.upper_bound(Unbounded)
    }

    /// Takes the entry with the least key out, and gives it: see
    /// [`TrieRef::pop_first`](crate::TrieRef::pop_first).
    pub fn pop_first(&self) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: the key found, and the value unlinked, in this section.
        view.pop_first().map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// Takes the entry with the greatest key out, and gives it: see
    /// [`TrieRef::pop_last`](crate::TrieRef::pop_last).
    pub fn pop_last(&self) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: as in `pop_first`.
        view.pop_last().map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// The entry with the longest key that `key` begins with: see
    /// [`TrieRef::longest_prefix`](crate::TrieRef::longest_prefix).
    pub fn longest_prefix(&self, key: &(impl AsRef<[u8]> + ?Sized)) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.longest_prefix_bytes(key.as_ref())
            .map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// The entry with the least key that is at least (`Included`) or greater than (`Excluded`) the
    /// bound; the first of all for `Unbounded`. With the key that it returned last as the bound, a
    /// scan that may pause between any two entries.
    pub fn lower_bound(&self, bound: Bound<&[u8]>) -> Option<(&[u8], &V)> {
        let view = self.trie.pin();
        // SAFETY: found in this section.
        view.lower_bound(bound).map(|(key, value)| unsafe { (kept(key), kept(value)) })
    }

    /// The entry with the greatest key that is at most (`Included`) or less than (`Excluded`) the
    /// bound; the last of all for `Unbounded`.
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
