//! The trie: subtrees, their locks, and the operations on one key.

use super::builder::Builder;
use super::error::{InsertError, InsertErrorKind};
use super::iter::Iter;
use crate::node::{LONGEST_KEY, Node, Nodes, Twig, leaf_bytes};
use crate::read::{Retry, collect_after, find};
use crate::write::{Place, locate};
use crossbeam_utils::CachePadded;
use memalloc::rcu::{Domain, Guard, SynchronizeError};
use memalloc::sync::{AtomicU32, AtomicU64, Lock, Ordering};
use memalloc::{
    AfterRcuGp, BuildError, Handle, Immediate, MAX_SIZE, ProtectsIdentity, Reclaimed, ReusePolicy,
    Stats,
};
use std::fmt;

/// Keys with the same first byte share a subtree; the empty key has one of its own. (A model has
/// few, each for a range of first bytes.)
const SUBTREE_SHIFT: u32 = if cfg!(loom) { 7 } else { 0 };
const SUBTREES: usize = (256 >> SUBTREE_SHIFT) + 1;

fn subtree_of(key: &[u8]) -> usize {
    key.first().map_or(0, |&first| (first as usize >> SUBTREE_SHIFT) + 1)
}

/// The keys that begin with one byte.
#[derive(Debug)]
pub(super) struct Subtree {
    root: AtomicU32,
    /// Held while anything below is changed.
    writers: Lock<()>,
}

/// An ordered concurrent map from byte strings to values of type `V`.
///
/// `B` is the reuse policy of branches: under [`Immediate`] readers validate every step, under
/// [`AfterRcuGp`] they need not. `L` is that of leaves; it protects identity, so that a lookup
/// can give a reference. Both are part of the type:
///
/// ```compile_fail
/// use memalloc::Immediate;
/// use qptrie::QpTrie;
///
/// // No reference to a leaf that may be reused at once.
/// let trie = QpTrie::<u64, Immediate, Immediate>::builder().build()?;
/// # Ok::<(), memalloc::BuildError>(())
/// ```
///
/// Operations go through [`pin`](Self::pin). Dropping a trie drops its values; references to
/// them borrow the trie. Values that were replaced or removed before are dropped after a grace
/// period: at the latest then, or, when a trie is dropped inside a read section of its domain,
/// with the domain's callbacks.
pub struct QpTrie<
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsIdentity = AfterRcuGp,
> {
    nodes: Nodes<V, B, L>,
    subtrees: Box<[Subtree]>,
    domain: Domain,
    max_entries: u64,
    max_key_len: usize,
    reader_retries: u32,
    /// Away from what lookups read: writers change them all the time.
    counters: CachePadded<Counters>,
}

#[derive(Debug)]
struct Counters {
    entries: AtomicU64,
    retries: AtomicU64,
    fallbacks: AtomicU64,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> fmt::Debug for QpTrie<V, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QpTrie")
            .field("branches", &B::KIND)
            .field("leaves", &L::KIND)
            .field("entries", &self.counters.entries.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// What [`QpTrie::stats`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrieStats {
    /// Entries; exact when nothing runs.
    pub entries: u64,
    /// How often lookups started again because a branch had changed under them.
    pub retries: u64,
    /// Lookups that took the writers' lock after too many retries.
    pub fallbacks: u64,
}

/// What [`QpTrie::memory_usage`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// The allocator of the branches.
    pub branches: Stats,
    /// The allocator of the leaves.
    pub leaves: Stats,
    /// The table of subtrees and their locks, in bytes.
    pub table_bytes: u64,
}

impl MemoryUsage {
    /// All of it: slab memory that was touched, used or not, and the table.
    pub fn total_bytes(&self) -> u64 {
        self.branches.backing_bytes + self.leaves.backing_bytes + self.table_bytes
    }
}

/// Which keys [`TrieRef::update`] accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Update {
    /// Any (`BPF_ANY`): insert or replace.
    #[default]
    Any,
    /// Only keys that are not there yet (`BPF_NOEXIST`): insert.
    NoExist,
    /// Only keys that are there (`BPF_EXIST`): replace.
    Exist,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> QpTrie<V, B, L> {
    /// An empty trie on the global domain.
    ///
    /// # Errors
    ///
    /// See [`memalloc::Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// A trie that is configured step by step.
    pub fn builder() -> Builder<V, B, L> {
        Builder::new()
    }

    pub(super) fn from_parts(
        nodes: Nodes<V, B, L>,
        domain: Domain,
        max_entries: u64,
        max_key_len: usize,
        reader_retries: u32,
    ) -> Self {
        let subtree = |_| Subtree { root: AtomicU32::new(0), writers: Lock::new(()) };
        Self {
            nodes,
            subtrees: (0..SUBTREES).map(subtree).collect(),
            domain,
            max_entries,
            max_key_len,
            reader_retries,
            counters: CachePadded::new(Counters {
                entries: AtomicU64::new(0),
                retries: AtomicU64::new(0),
                fallbacks: AtomicU64::new(0),
            }),
        }
    }

    /// Begins a read section, in which all operations are available and references to values
    /// hold. Hold it for an operation or a short batch of them: as long as it lasts, nothing that
    /// is freed deferred can be reused, in any structure on the same domain.
    pub fn pin(&self) -> TrieRef<'_, V, B, L> {
        TrieRef { trie: self, _guard: self.domain.pin() }
    }

    /// The number of entries. Exact when nothing runs.
    pub fn len(&self) -> u64 {
        self.counters.entries.load(Ordering::Relaxed)
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
            entries: self.len(),
            retries: self.counters.retries.load(Ordering::Relaxed),
            fallbacks: self.counters.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// Bytes of slab memory that branches and leaves have touched and not given back, and of the
    /// table of subtrees; as [`MemoryUsage::total_bytes`], at the cost of two locks.
    pub fn backing_bytes(&self) -> u64 {
        let slabs = self.nodes.branches.backing_bytes() + self.nodes.leaves.backing_bytes();
        slabs + size_of_val(&*self.subtrees) as u64
    }

    /// Where the memory of branches and leaves is. Looks at the caches of every CPU, so it is not
    /// cheap. The caches themselves, three quarters of a KiB for each CPU and size class, and the
    /// tables beside the slabs are not counted.
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage {
            branches: self.nodes.branches.stats(),
            leaves: self.nodes.leaves.stats(),
            table_bytes: size_of_val(&*self.subtrees) as u64,
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
        let mut all = self.nodes.leaves.quiesce()?;
        all.objects += branches.objects;
        all.bytes += branches.bytes;
        all.released_bytes += branches.released_bytes;
        Ok(all)
    }

    fn subtree(&self, key: &[u8]) -> &Subtree {
        &self.subtrees[subtree_of(key)]
    }

    /// The longest key that fits a leaf beside a value.
    const LONGEST_KEY: usize = {
        let room = MAX_SIZE.saturating_sub(leaf_bytes::<V>(0));
        if room < LONGEST_KEY { room } else { LONGEST_KEY }
    };

    /// Counts one entry more, unless the trie is full.
    fn reserve_entry(&self) -> Result<(), InsertErrorKind> {
        let more = |entries| (entries < self.max_entries).then_some(entries + 1);
        match self.counters.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => Err(InsertErrorKind::Full { max_entries: self.max_entries }),
        }
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> Drop for QpTrie<V, B, L> {
    fn drop(&mut self) {
        // No reader is left: every reference borrows the trie.
        let mut todo: Vec<Twig> = Vec::new();
        for subtree in &self.subtrees {
            todo.push(Twig::load(&subtree.root, Ordering::Relaxed));
            while let Some(twig) = todo.pop() {
                match twig.node() {
                    Node::Nothing => {}
                    // SAFETY: nobody else can reach the leaf any more.
                    Node::Leaf(leaf) => drop(unsafe { self.nodes.take_back(leaf) }),
                    Node::Branch(branch) => {
                        for position in 0..self.nodes.shape(branch).len() {
                            let slot = self.nodes.slot(branch, position);
                            todo.push(Twig::load(slot, Ordering::Relaxed));
                        }
                        self.nodes.free_branch(branch);
                    }
                }
            }
        }
    }
}

/// A [`QpTrie`] inside a read section: every operation, and references that hold as long as
/// this is borrowed.
#[must_use = "the read section ends when this is dropped"]
pub struct TrieRef<
    't,
    V: Send + Sync + 'static,
    B: ReusePolicy = Immediate,
    L: ProtectsIdentity = AfterRcuGp,
> {
    trie: &'t QpTrie<V, B, L>,
    _guard: Guard<'t>,
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> fmt::Debug
    for TrieRef<'_, V, B, L>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrieRef").field(self.trie).finish()
    }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ProtectsIdentity> TrieRef<'_, V, B, L> {
    #[inline]
    fn find(&self, key: &[u8]) -> Option<Handle> {
        let subtree = self.trie.subtree(key);
        match find(&self.trie.nodes, &subtree.root, key) {
            Ok(leaf) => leaf,
            Err(Retry) => self.find_again(subtree, key),
        }
    }

    #[cold]
    fn find_again(&self, subtree: &Subtree, key: &[u8]) -> Option<Handle> {
        let trie = self.trie;
        for _ in 0..trie.reader_retries {
            trie.counters.retries.fetch_add(1, Ordering::Relaxed);
            if let Ok(leaf) = find(&trie.nodes, &subtree.root, key) {
                return leaf;
            }
        }
        trie.counters.fallbacks.fetch_add(1, Ordering::Relaxed);
        let _writers = subtree.writers.lock();
        match find(&trie.nodes, &subtree.root, key) {
            Ok(leaf) => leaf,
            Err(Retry) => unreachable!("nothing changes under the writers' lock"),
        }
    }

    /// The value of `key`. Linearizable; takes no lock unless writers made it start again too
    /// often. A step for each branch on the way, at most two for each byte of the key.
    #[doc(alias = "map_lookup_elem")]
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        // SAFETY: `find` validated the leaf, and the section that `self` keeps open protects it.
        self.find(key).map(|leaf| unsafe { self.trie.nodes.value(leaf) })
    }

    /// Whether `key` is there. As [`get`](Self::get).
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.find(key).is_some()
    }

    /// Puts `value` at `key` and gives the value that was there: [`update`](Self::update) with
    /// [`Update::Any`].
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update).
    pub fn insert(&self, key: &[u8], value: V) -> Result<Option<&V>, InsertError<V>> {
        self.update(key, value, Update::Any)
    }

    /// Puts `value` at `key`, if `how` accepts the key, and gives the value that was there. A
    /// reader finds the old value or the new one, never neither.
    ///
    /// # Errors
    ///
    /// [`InsertError`] says why nothing was changed, and gives the value back.
    #[doc(alias = "map_update_elem")]
    pub fn update(&self, key: &[u8], value: V, how: Update) -> Result<Option<&V>, InsertError<V>> {
        if let Err(kind) = self.check_key(key) {
            return Err(InsertError { kind, value });
        }
        let trie = self.trie;
        // Before the lock is taken: this may run destructors of values.
        let leaf = trie.nodes.new_leaf(key, value).map_err(|error| InsertError {
            kind: InsertErrorKind::Memory(error.kind()),
            value: error.into_value(),
        })?;
        match self.link(key, leaf, how) {
            Ok(old) => {
                // SAFETY: `link` unlinked the old leaf, and after it the section protects it.
                Ok(old.map(|old| unsafe {
                    let value = trie.nodes.value(old);
                    trie.nodes.free_leaf(old);
                    value
                }))
            }
            Err(kind) => {
                // SAFETY: the leaf was not published.
                Err(InsertError { kind, value: unsafe { trie.nodes.take_back(leaf) } })
            }
        }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), InsertErrorKind> {
        let (longest, limit) = (QpTrie::<V, B, L>::LONGEST_KEY, self.trie.max_key_len);
        if key.len() > longest || leaf_bytes::<V>(key.len()) > MAX_SIZE {
            let (key, value) = (key.len(), size_of::<V>());
            return Err(InsertErrorKind::TooLarge { key, value, longest_key: longest });
        }
        if key.len() > limit {
            return Err(InsertErrorKind::KeyTooLong { key: key.len(), limit });
        }
        Ok(())
    }

    /// Publishes `leaf` and gives the leaf that it replaced.
    fn link(
        &self,
        key: &[u8],
        leaf: Handle,
        how: Update,
    ) -> Result<Option<Handle>, InsertErrorKind> {
        let trie = self.trie;
        let subtree = trie.subtree(key);
        let _writers = subtree.writers.lock();
        match (locate(&trie.nodes, &subtree.root, key), how) {
            (Place::Found(_), Update::NoExist) => Err(InsertErrorKind::Exists),
            (Place::Vacant(_), Update::Exist) => Err(InsertErrorKind::NotFound),
            (Place::Found(found), _) => {
                let old = found.leaf;
                found.replace(leaf);
                Ok(Some(old))
            }
            (Place::Vacant(vacant), _) => {
                trie.reserve_entry()?;
                vacant.insert(&trie.nodes, leaf).map_err(|error| {
                    trie.counters.entries.fetch_sub(1, Ordering::Relaxed);
                    InsertErrorKind::Memory(error.kind())
                })?;
                Ok(None)
            }
        }
    }

    /// Takes `key` out and gives its value. Never fails for lack of memory.
    #[doc(alias = "map_delete_elem")]
    pub fn remove(&self, key: &[u8]) -> Option<&V> {
        let trie = self.trie;
        let leaf = self.unlink(key)?;
        // SAFETY: `unlink` unlinked the leaf, and after it the section protects it.
        unsafe {
            let value = trie.nodes.value(leaf);
            trie.nodes.free_leaf(leaf);
            Some(value)
        }
    }

    fn unlink(&self, key: &[u8]) -> Option<Handle> {
        let trie = self.trie;
        let subtree = trie.subtree(key);
        let _writers = subtree.writers.lock();
        let Place::Found(found) = locate(&trie.nodes, &subtree.root, key) else {
            return None;
        };
        let leaf = found.leaf;
        found.remove(&trie.nodes);
        trie.counters.entries.fetch_sub(1, Ordering::Relaxed);
        Some(leaf)
    }

    /// Puts the smallest key that is greater than `after` into `key` (or the smallest of all,
    /// for `None`), and says whether there is one. A cursor whose key was removed goes on with
    /// the next greater one. Takes the lock of a subtree at a time.
    #[doc(alias = "map_get_next_key")]
    pub fn next_key(&self, after: Option<&[u8]>, key: &mut Vec<u8>) -> bool {
        let mut leaves = Vec::with_capacity(1);
        self.leaves_after(after, 1, &mut leaves);
        let Some(&leaf) = leaves.first() else {
            return false;
        };
        // SAFETY: the leaf was linked inside this section.
        let next: &[u8] = unsafe { self.trie.nodes.key(leaf) };
        key.clear();
        key.extend_from_slice(next);
        true
    }

    /// All entries in ascending order of their keys (bytes compared as unsigned numbers). Every
    /// key that is there throughout is returned, none twice. Takes the lock of a subtree for a
    /// few entries at a time.
    pub fn iter(&self) -> Iter<'_, V, B, L> {
        Iter::new(self)
    }

    /// Some of the leaves with keys greater than `after`, in order: the first ones, and at least
    /// one if there is any.
    pub(super) fn leaves_after(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        leaves: &mut Vec<Handle>,
    ) {
        let trie = self.trie;
        let first = after.map_or(0, subtree_of);
        for (number, subtree) in trie.subtrees.iter().enumerate().skip(first) {
            // An empty subtree needs no lock: there is nothing that was there throughout.
            if Twig::load(&subtree.root, Ordering::Relaxed) == Twig::NOTHING {
                continue;
            }
            let after = after.filter(|_| number == first);
            let _writers = subtree.writers.lock();
            collect_after(&trie.nodes, &subtree.root, after, limit, leaves);
            if !leaves.is_empty() {
                return;
            }
        }
    }

    /// The entry of a leaf.
    ///
    /// # Safety
    ///
    /// The leaf was linked inside this section.
    pub(super) unsafe fn entry(&self, leaf: Handle) -> (&[u8], &V) {
        // SAFETY: as the caller says; the section protects the leaf (INV-N3).
        unsafe { (self.trie.nodes.key(leaf), self.trie.nodes.value(leaf)) }
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<QpTrie<u64, Immediate>>();
    shared::<QpTrie<String, AfterRcuGp>>();
};
