//! The trie, and operations on it as a whole.

use crate::map::builder::{Builder, Settings};
use crate::map::by_ref::point::TrieRef;
use crate::map::guard::TrieGuard;
use crate::node::{LONGEST_KEY, Node, Nodes, Twig, leaf_overhead};
use crossbeam_utils::CachePadded;
use memalloc::rcu::{Domain, Guard, SynchronizeError};
use memalloc::sync::{AtomicU64, Ordering};
use memalloc::{AfterRcuGp, BuildError, Immediate, MAX_SIZE, Reclaimed, ReusePolicy};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// An ordered concurrent map from byte strings to values of type `V`.
///
/// `B` is the reuse policy of branches: under [`Immediate`] readers validate every step, under
/// [`AfterRcuGp`] they need not. `L` is the reuse policy of leaves: a lookup can return a reference
/// only if `L` protects identity. Both are part of the type:
///
/// ```compile_fail,E0599
/// use memalloc::Immediate;
/// use qptrie::QpTrie;
///
/// // No reference to a leaf that may be reused at once.
/// let trie = QpTrie::<u64, Immediate, Immediate>::builder().build()?;
/// let view = trie.pin();
/// let value: Option<&u64> = view.get(b"key");
/// # Ok::<(), memalloc::BuildError>(())
/// ```
///
/// The compiler also rejects a reference that outlives the view, which keeps the section open:
///
/// ```compile_fail,E0505
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<u64> = QpTrie::new().unwrap();
/// let view = trie.pin();
/// let value = view.get(b"key");
/// drop(view);
/// value.copied();
/// ```
///
/// A trie is invariant in `V`, unlike a `Vec`, because values are inserted through shared
/// references:
///
/// ```compile_fail,E0308
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<for<'a> fn(&'a str)> = QpTrie::new().unwrap();
/// let narrow: &QpTrie<fn(&'static str)> = &trie;
/// ```
///
/// Operations are methods of the view that [`pin`](Self::pin) returns, or [`view`](Self::view)
/// under a guard of the caller.
///
/// Dropping a trie drops its values; references to them borrow the trie. A value that was replaced
/// or removed earlier is dropped after a grace period: at the latest when the trie is dropped, or,
/// if its domain has a reader at that moment, by the domain's callbacks. Dropping a trie never
/// waits for readers.
///
/// If the destructor of a value panics, all other values are still dropped. An operation may
/// unwind with the panic of a value that was replaced or removed earlier: after its change is done,
/// or, if it has to reclaim memory for a new node, before it changes anything.
pub struct QpTrie<V: Send + Sync + 'static, B: ReusePolicy = Immediate, L: ReusePolicy = AfterRcuGp>
{
    pub(super) nodes: Nodes<V, B, L>,
    pub(super) domain: Domain,
    pub(super) settings: Settings,
    /// Padded to a cache line apart from the fields that lookups read.
    pub(super) counters: CachePadded<Counters>,
}

// Values can be reached through a shared trie. No panic leaves a change half done: closures of the
// caller run outside of locks, and so do destructors.
impl<V: Send + Sync + RefUnwindSafe + 'static, B: ReusePolicy, L: ReusePolicy> UnwindSafe
    for QpTrie<V, B, L>
{
}
impl<V: Send + Sync + RefUnwindSafe + 'static, B: ReusePolicy, L: ReusePolicy> RefUnwindSafe
    for QpTrie<V, B, L>
{
}

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) retries: AtomicU64,
    pub(super) fallbacks: AtomicU64,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> fmt::Debug for QpTrie<V, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QpTrie")
            .field("branches", &B::KIND)
            .field("leaves", &L::KIND)
            .field("entries", &self.nodes.entries.sum())
            .finish_non_exhaustive()
    }
}

/// Statistics of a trie, returned by [`QpTrie::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrieStats {
    /// The number of entries; exact when nothing runs.
    pub entries: u64,
    /// The number of times that lookups and scans retried because a branch had changed under them.
    pub retries: u64,
    /// The number of lookups and seeks that insisted after too many retries and blocked changes
    /// below their root until they were done.
    pub fallbacks: u64,
}

impl<V: Send + Sync + 'static> QpTrie<V> {
    /// Creates an empty trie on the global domain.
    ///
    /// It has the default policies, so that the compiler infers the type of the values from the
    /// first insertion. For other policies use [`with_policies`](Self::with_policies).
    ///
    /// ```
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::new()?;
    /// trie.pin().insert("key", 1)?;
    /// assert_eq!(trie.pin().get("key"), Some(&1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::with_policies()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    /// Creates an empty trie on the global domain, with the policies in its type.
    ///
    /// ```
    /// use memalloc::Immediate;
    /// use qptrie::QpTrie;
    ///
    /// let trie = QpTrie::<u64, Immediate, Immediate>::with_policies()?;
    /// trie.pin().insert_copied("key", 1)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn with_policies() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder to configure a trie.
    pub fn builder() -> Builder<V, B, L> {
        Builder::new(None, Settings::default())
    }

    pub(super) fn from_parts(nodes: Nodes<V, B, L>, domain: Domain, settings: Settings) -> Self {
        Self {
            nodes,
            domain,
            settings,
            counters: CachePadded::new(Counters {
                retries: AtomicU64::new(0),
                fallbacks: AtomicU64::new(0),
            }),
        }
    }

    /// Begins a read section and returns its guard, which has all operations; references to values
    /// are valid as long as the guard is borrowed. Keep it for one operation or a short batch: while
    /// it lasts, no object that is freed deferred can be reused, in any structure on the same
    /// domain.
    #[inline]
    pub fn pin(&self) -> TrieGuard<'_, V, B, L> {
        TrieGuard::new(self)
    }

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
    #[inline]
    pub fn view<'g>(&'g self, guard: &'g Guard<'_>) -> &'g TrieRef<V, B, L> {
        TrieRef::under(self, guard)
    }

    /// Returns the number of entries. Exact when nothing runs.
    pub fn len(&self) -> usize {
        // There are fewer entries than handles, which have 32 bits.
        self.nodes.entries.sum() as usize
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the domain whose readers the trie waits for.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Returns the current statistics of the trie.
    pub fn stats(&self) -> TrieStats {
        TrieStats {
            entries: self.nodes.entries.sum(),
            retries: self.counters.retries.load(Ordering::Relaxed),
            fallbacks: self.counters.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// Waits for readers until no removed node is pending, and returns unused memory to the system.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] if the calling thread is inside a read section of
    /// the domain.
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        let branches = self.nodes.branches.quiesce()?;
        let leaves = self.nodes.leaves.quiesce()?;
        self.nodes.hints.fit(&self.domain, self.nodes.entries.sum(), true);
        Ok(together(branches, leaves))
    }

    /// Returns unused nodes to their slabs and empty slabs to the system without waiting for
    /// readers, and replaces a table of [hints](Builder::hints) that has become too large. Free nodes
    /// in the caches of CPUs stay there. [`quiesce`](Self::quiesce) returns all unused memory, but
    /// waits.
    pub fn trim(&self) -> Reclaimed {
        let reclaimed = together(self.nodes.branches.trim(), self.nodes.leaves.trim());
        self.nodes.hints.fit(&self.domain, self.nodes.entries.sum(), true);
        reclaimed
    }

    /// Does pending maintenance without waiting for readers: drives grace periods, frees nodes whose
    /// grace period has passed, releases surplus memory, and frees replaced tables of
    /// [hints](Builder::hints). Changes of the trie do the same in passing; while there are none,
    /// call this, or let a [`Worker`](memalloc::Worker) call it. Runs the callbacks of the domain
    /// that are due.
    ///
    /// ```
    /// use memalloc::Worker;
    /// use qptrie::QpTrie;
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let trie = Arc::new(QpTrie::new()?);
    /// trie.pin().insert("key", 1)?;
    /// let worker = Worker::every(Duration::from_millis(10)).tend_with(&trie, QpTrie::tend).start()?;
    /// # drop(worker);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "irq_work")]
    pub fn tend(&self) {
        self.nodes.branches.tend();
        self.nodes.leaves.tend();
        self.nodes.hints.fit(&self.domain, self.nodes.entries.sum(), false);
    }

    /// The length of the longest key that fits a leaf beside a value, in bytes.
    pub(super) const LONGEST_KEY: usize = {
        let room = MAX_SIZE.saturating_sub(leaf_overhead::<V, L>());
        if room < LONGEST_KEY { room } else { LONGEST_KEY }
    };
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Drop for QpTrie<V, B, L> {
    fn drop(&mut self) {
        // No reader is left, because every reference borrows the trie.
        let roots = self.nodes.roots.all().iter();
        let twigs = roots.map(|root| Twig::load(root.slot(), Ordering::Relaxed));
        Remains { nodes: &self.nodes, twigs: twigs.collect() }.drop_all();
    }
}

/// Adds up what two allocators returned.
fn together(mut all: Reclaimed, others: Reclaimed) -> Reclaimed {
    all.objects += others.objects;
    all.bytes += others.bytes;
    all.released_bytes += others.released_bytes;
    all
}

/// The nodes of a trie that is being dropped and are still to be freed.
struct Remains<'t, V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> {
    nodes: &'t Nodes<V, B, L>,
    twigs: Vec<Twig>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Remains<'_, V, B, L> {
    fn drop_all(&mut self) {
        let nodes = self.nodes;
        while let Some(twig) = self.twigs.pop() {
            match twig.node() {
                Node::Nothing => {}
                // SAFETY: no other thread can reach the leaf any more.
                Node::Leaf(leaf) => unsafe { nodes.drop_leaf(leaf) },
                Node::Branch(branch) => {
                    debug_assert!(nodes.twig_count_is_right(branch));
                    for slot in nodes.slots(branch, nodes.shape(branch)) {
                        let slot = nodes.slot(branch, slot);
                        self.twigs.push(Twig::load(slot, Ordering::Relaxed));
                    }
                    nodes.count(branch).end();
                    nodes.free_branch(branch);
                }
            }
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Drop for Remains<'_, V, B, L> {
    /// Frees the rest if the destructor of a value panicked.
    fn drop(&mut self) {
        self.drop_all();
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<QpTrie<u64, Immediate>>();
    shared::<QpTrie<String, AfterRcuGp>>();
    const fn unwinds<T: UnwindSafe + RefUnwindSafe>() {}
    unwinds::<QpTrie<u64, Immediate, Immediate>>();
    unwinds::<QpTrie<String>>();
};
