//! The trie, and operations on it as a whole.

use crate::map::settings::Settings;
use crate::node::{KeyCopy, LONGEST_KEY, Node, Nodes, Twig, leaf_overhead};
use crossbeam_utils::CachePadded;
use memalloc::rcu::Domain;
use memalloc::sync::{AtomicU64, Ordering};
use memalloc::{AfterRcuGp, Handle, Immediate, MAX_SIZE, ReusePolicy};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// An ordered concurrent map from byte strings to values of type `V`.
///
/// Operations are methods of the view that [`pin`](Self::pin) returns, or [`view`](Self::view)
/// under a guard of the caller: see [`TrieRef`](crate::TrieRef).
///
/// ```
/// use qptrie::QpTrie;
///
/// let trie = QpTrie::new()?;
/// let view = trie.pin();
/// view.insert("tree", 1)?;
/// view.insert("trie", 2)?;
/// assert_eq!(view.get("trie"), Some(&2));
/// assert_eq!(view.first(), Some((&b"tree"[..], &1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Policies
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
/// # Ending
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
    pub(super) insisted: AtomicU64,
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

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> QpTrie<V, B, L> {
    pub(super) fn from_parts(nodes: Nodes<V, B, L>, domain: Domain, settings: Settings) -> Self {
        Self {
            nodes,
            domain,
            settings,
            counters: CachePadded::new(Counters {
                retries: AtomicU64::new(0),
                insisted: AtomicU64::new(0),
            }),
        }
    }

    /// Returns the number of entries. Exact when nothing runs.
    #[must_use]
    pub fn len(&self) -> usize {
        // There are fewer entries than handles, which have 32 bits.
        self.nodes.entries.sum() as usize
    }

    /// Returns true if there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the domain whose readers the trie waits for.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
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

/// Returns true if a twig is right about the key of the leaf that it names (QPT-N10). Models check
/// it by what readers find.
///
/// # Safety
///
/// No other thread can reach the leaf.
unsafe fn has_right_tag<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy>(
    nodes: &Nodes<V, B, L>,
    twig: Twig,
    leaf: Handle,
) -> bool {
    if cfg!(loom) {
        return true;
    }
    if L::PROTECTS_IDENTITY {
        // SAFETY: the leaf was published, and the caller promises that nobody frees it (QPT-N3).
        return !twig.is_of_another(unsafe { nodes.key(leaf) });
    }
    let mut key = KeyCopy::new();
    nodes.copy_key(leaf, &mut key).is_err() || !twig.is_of_another(&key)
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
                Node::Leaf(leaf) => {
                    // SAFETY: no other thread can reach the leaf any more.
                    unsafe {
                        debug_assert!(has_right_tag(nodes, twig, leaf));
                        nodes.drop_leaf(leaf);
                    }
                }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Changes and lookups of keys from a small set, compared with a `BTreeMap`. In unit tests only
    /// the first 16 KiB of the leaves have tags.
    fn agrees_with_a_btree_map<L: ReusePolicy>() {
        let trie = QpTrie::<u32, Immediate, L>::with_policies().expect("a trie");
        let (view, mut model) = (trie.pin(), BTreeMap::new());
        let mut random = 1_u32;
        for turn in 0..20_000 {
            random = random.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let key = format!("/a/path/of/some/length/{}", (random >> 16) % 1500);
            if random >> 12 & 3 != 0 {
                let old = view.insert_copied(&key, turn).expect("memory");
                assert_eq!(old, model.insert(key, turn));
            } else {
                assert_eq!(view.remove_copied(&key), model.remove(&key));
            }
        }
        for number in 0..1500 {
            let key = format!("/a/path/of/some/length/{number}");
            assert_eq!(view.get_copied(&key), model.get(&key).copied(), "{key}");
            assert_eq!(view.get_copied(&format!("{key}+")), None);
        }
    }

    #[test]
    fn a_trie_in_which_some_leaves_have_no_tag_agrees_with_a_btree_map() {
        agrees_with_a_btree_map::<AfterRcuGp>();
        agrees_with_a_btree_map::<Immediate>();
    }
}
