//! The trie itself: what it is made of, what can be asked of it as a whole.

use super::builder::{Builder, Settings};
use super::guard::TrieGuard;
use super::view::TrieRef;
use crate::node::{LONGEST_KEY, Node, Nodes, Twig, leaf_overhead};
use crossbeam_utils::CachePadded;
use memalloc::rcu::{Domain, Guard, SynchronizeError};
use memalloc::sync::{AtomicU64, Ordering};
use memalloc::{AfterRcuGp, BuildError, Immediate, MAX_SIZE, Reclaimed, ReusePolicy};
use std::fmt;

/// An ordered concurrent map from byte strings to values of type `V`.
///
/// `B` is the reuse policy of branches: under [`Immediate`] readers validate every step, under
/// [`AfterRcuGp`] they need not. `L` is that of leaves: where it protects identity, a lookup can
/// give a reference. Both are part of the type:
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
/// Nor one that outlives the view, which keeps the section open:
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
/// Nor does a trie of one type pass for one of another, as a `Vec` would, since values are put in through
/// shared references:
///
/// ```compile_fail,E0308
/// use qptrie::QpTrie;
///
/// let trie: QpTrie<for<'a> fn(&'a str)> = QpTrie::new().unwrap();
/// let narrow: &QpTrie<fn(&'static str)> = &trie;
/// ```
///
/// Operations go through [`pin`](Self::pin), or [`view`](Self::view) under a guard of the caller's. Dropping a trie drops its values; references to
/// them borrow the trie. Values that were replaced or removed before are dropped after a grace
/// period: at the latest then, or, when a trie is dropped beside a reader of its domain,
/// with the domain's callbacks. Dropping a trie never waits for readers.
///
/// A value's destructor that panics keeps no other value of the trie from being dropped. A change may
/// unwind, after it is done, with the panic of a value that was given up earlier.
pub struct QpTrie<V: Send + Sync + 'static, B: ReusePolicy = Immediate, L: ReusePolicy = AfterRcuGp>
{
    pub(super) nodes: Nodes<V, B, L>,
    pub(super) domain: Domain,
    pub(super) settings: Settings,
    /// Away from what lookups read.
    pub(super) counters: CachePadded<Counters>,
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

/// What [`QpTrie::stats`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrieStats {
    /// Entries; exact when nothing runs.
    pub entries: u64,
    /// How often lookups and scans started again because a branch had changed under them.
    pub retries: u64,
    /// Lookups and seeks that insisted after too many retries: no change was begun below their root
    /// until they were done.
    pub fallbacks: u64,
}

impl<V: Send + Sync + 'static> QpTrie<V> {
    /// An empty trie on the global domain.
    ///
    /// Its policies are the default ones, so that the type of the values is all there is to infer, and the
    /// first insertion tells it. [`with_policies`](Self::with_policies) makes a trie with other policies.
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
    /// An empty trie on the global domain, with the policies that its type names.
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

    /// A trie that is configured step by step.
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

    /// Begins a read section, in which all operations are available and references to values
    /// hold. Hold it for an operation or a short batch of them: as long as it lasts, nothing that
    /// is freed deferred can be reused, in any structure on the same domain.
    #[inline]
    pub fn pin(&self) -> TrieGuard<'_, V, B, L> {
        TrieGuard::new(self)
    }

    /// The same inside a section that the caller began: for several tries, or other structures, on
    /// one domain.
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
    /// References hold as long as the guard is borrowed, so a function may return them:
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
    /// But not longer:
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
    /// When the guard is of another domain than [the trie's](Self::domain): it would protect
    /// nothing here.
    #[inline]
    pub fn view<'g>(&'g self, guard: &'g Guard<'_>) -> &'g TrieRef<V, B, L> {
        TrieRef::under(self, guard)
    }

    /// The number of entries. Exact when nothing runs.
    pub fn len(&self) -> usize {
        // There are fewer than handles, which have 32 bits.
        self.nodes.entries.sum() as usize
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The domain whose readers the trie waits for.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Numbers about the trie, of this moment.
    pub fn stats(&self) -> TrieStats {
        TrieStats {
            entries: self.nodes.entries.sum(),
            retries: self.counters.retries.load(Ordering::Relaxed),
            fallbacks: self.counters.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// Waits for readers until nothing that was removed is pending, and gives what is not needed
    /// back to the system.
    ///
    /// # Errors
    ///
    /// [`SynchronizeError::InsideReadSection`] when the calling thread is inside a read section
    /// of the domain.
    pub fn quiesce(&self) -> Result<Reclaimed, SynchronizeError> {
        let branches = self.nodes.branches.quiesce()?;
        let leaves = self.nodes.leaves.quiesce()?;
        self.nodes.hints.fit(&self.domain, self.nodes.entries.sum(), true);
        Ok(together(branches, leaves))
    }

    /// Returns nodes that nobody needs to their slabs, and empty slabs to the system, as far as that goes
    /// without waiting for readers; and replaces a table of [hints](Builder::hints) that has become too large.
    /// The free nodes of the CPUs' caches stay. [`quiesce`](Self::quiesce) returns all, and waits.
    pub fn trim(&self) -> Reclaimed {
        let reclaimed = together(self.nodes.branches.trim(), self.nodes.leaves.trim());
        self.nodes.hints.fit(&self.domain, self.nodes.entries.sum(), true);
        reclaimed
    }

    /// Moves along what moves without waiting for readers: grace periods, nodes that have waited long
    /// enough, surplus memory, tables of [hints](Builder::hints) that were replaced. Changes of the trie do so
    /// by the way; call this, or let a [`Worker`](memalloc::Worker) call it, while there are none. Runs the
    /// callbacks of the domain that are due.
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

    /// The longest key that fits a leaf beside a value.
    pub(super) const LONGEST_KEY: usize = {
        let room = MAX_SIZE.saturating_sub(leaf_overhead::<V, L>());
        if room < LONGEST_KEY { room } else { LONGEST_KEY }
    };
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Drop for QpTrie<V, B, L> {
    fn drop(&mut self) {
        // No reader is left: every reference borrows the trie.
        let roots = self.nodes.roots.all().iter();
        let twigs = roots.map(|root| Twig::load(root.slot(), Ordering::Relaxed));
        Remains { nodes: &self.nodes, twigs: twigs.collect() }.drop_all();
    }
}

/// What two allocators gave back.
fn together(mut all: Reclaimed, others: Reclaimed) -> Reclaimed {
    all.objects += others.objects;
    all.bytes += others.bytes;
    all.released_bytes += others.released_bytes;
    all
}

/// What is left of a trie that ends.
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
                // SAFETY: nobody else can reach the leaf any more.
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
    /// Goes on where a value's destructor panicked.
    fn drop(&mut self) {
        self.drop_all();
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<QpTrie<u64, Immediate>>();
    shared::<QpTrie<String, AfterRcuGp>>();
};
