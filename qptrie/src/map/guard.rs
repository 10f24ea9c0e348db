//! Guards that a trie returns: each keeps a section open and dereferences to the trie's view.

use crate::map::by_ref::iter::Iter;
use crate::map::by_ref::point::TrieRef;
use crate::map::sleepable::view::TraceRef;
use crate::map::trie::QpTrie;
use memalloc::rcu::{Guard, TraceGuard};
use memalloc::{
    AfterRcuGp, AfterTasksTraceGp, Immediate, ProtectsIdentity, ProtectsSleepers, ReusePolicy,
};
use std::fmt;
use std::ops::Deref;

/// Keeps a read section open; returned by [`QpTrie::pin`]. Dereferences to [`TrieRef`], which has
/// all operations.
///
/// References to values are valid as long as the guard is borrowed. It stays on its thread.
#[doc(alias = "rcu_read_lock")]
#[must_use = "the read section ends when this is dropped"]
pub struct TrieGuard<
    't,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ReusePolicy = AfterRcuGp,
> {
    trie: &'t QpTrie<V, B, L>,
    _section: Guard<'t>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Begins a read section and returns its guard, which has all operations; references to values
    /// are valid as long as the guard is borrowed. Keep it for one operation or a short batch:
    /// while it lasts, no object that is freed deferred can be reused, in any structure on the same
    /// domain.
    #[inline]
    pub fn pin(&self) -> TrieGuard<'_, V, B, L> {
        TrieGuard { trie: self, _section: self.domain.pin() }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Deref for TrieGuard<'_, V, B, L> {
    type Target = TrieRef<V, B, L>;

    #[inline(always)]
    fn deref(&self) -> &TrieRef<V, B, L> {
        // SAFETY: the section is open until `self` is dropped, and the result borrows `self`
        // (QPT-G1).
        unsafe { TrieRef::inside(self.trie) }
    }
}

impl<'r, V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> IntoIterator
    for &'r TrieGuard<'_, V, B, L>
{
    type Item = (&'r [u8], &'r V);
    type IntoIter = Iter<'r, V, B, L>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> fmt::Debug
    for TrieGuard<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrieGuard").field(self.trie).finish()
    }
}

/// Keeps a section that may sleep open; returned by [`QpTrie::pin_trace`]. Dereferences to
/// [`TraceRef`], which has all operations.
///
/// References to values are valid as long as the guard is borrowed, across blocking calls and
/// `.await`. The guard may move to another thread and be dropped there.
#[doc(alias = "rcu_read_lock_trace")]
#[must_use = "the section ends when this is dropped"]
pub struct TrieTraceGuard<
    't,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsSleepers = AfterTasksTraceGp,
> {
    trie: &'t QpTrie<V, B, L>,
    _section: TraceGuard<'t>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> QpTrie<V, B, L> {
    /// Begins a section that may sleep, in which references to values are valid. While it lasts,
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
        TrieTraceGuard { trie: self, _section: self.domain.pin_trace() }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> Deref
    for TrieTraceGuard<'_, V, B, L>
{
    type Target = TraceRef<V, B, L>;

    #[inline(always)]
    fn deref(&self) -> &TraceRef<V, B, L> {
        // SAFETY: the section is open until `self` is dropped, and the result borrows `self`
        // (QPT-G2).
        unsafe { TraceRef::inside(self.trie) }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsSleepers> fmt::Debug
    for TrieTraceGuard<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrieTraceGuard").field(self.trie).finish()
    }
}

const _: () = {
    const fn moves<T: Send + Sync>() {}
    moves::<TrieTraceGuard<'static, String>>();
};
