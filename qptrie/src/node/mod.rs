//! Branches and leaves in memory.
//!
//! A key is a string of *symbols*: its bytes, then its end, which is ordered before every byte. A
//! branch tests one symbol of the key. Of the 257 possible ways it stores those that exist, in as
//! few bits as possible, followed by a packed array of their *twigs*. A twig names a branch or a
//! leaf in 32 bits, with four bits of the leaf's key where there is room (`tag`).
//!
//! ```text
//!  branch   | count | shape | twig | twig                  two ways: 16 bytes
//!           | count | shape | bytes | twig | twig | …      up to eight bytes
//!           | count | shape | lowers | twig | twig | …     bytes with few different upper nibbles
//!           | count | shape | bits | ranks | twigs | twig | …    any bytes; twigs: their number
//!             u32     index of the symbol, form, part of the ways
//!
//!  leaf     | value … | linked, key length | key …   u16, then the bytes; at the end the parent
//!
//!  leaf     | count | value … | length, key | key …  words; under immediate reuse
//! ```
//!
//! The shape is one word, so a reader can't see half of it. All branches of one size class have
//! room for the same number of words, so any shape that a reader finds in a branch, of this or an
//! earlier life, describes a header inside that branch. The header as a whole can be torn: see
//! `header`.
//!
//! This layer knows memory and bits; it does not know when a twig may be followed (`read`) or
//! changed (`write`).
//!
//! - QPT-N1: every word of a branch is an atomic and is only ever accessed as one.
//! - QPT-N2: the count of a branch is odd from the moment it is unlinked until it has been
//!   initialised for its next life, and even otherwise. Inside one read section no two lives have
//!   the same count, until it wraps after 2^30 lives. (It restarts when its slab was returned to
//!   the system, which can't happen within a section.)
//! - QPT-N3: under a policy that protects identity a leaf is plain memory, except for the word with
//!   its mark. It is written before it is published and never after, and freed only after a grace
//!   period, so a reader inside a section may keep `&V`.
//! - QPT-N8: with hints, a leaf is marked as linked only while a slot of a linked branch, or of a
//!   root, names it. The mark is set after the store to the slot that links the leaf, and cleared
//!   before the store that unlinks it, both under the lock of the slot. A leaf whose mark was seen
//!   inside a section was linked at that moment, and keeps its identity until the section ends, if
//!   the policy protects identity.
//! - QPT-N5: all keys that are ever below a branch in one of its lives begin with the same symbols,
//!   as many as the index of the symbol that the branch tests. Its header does not change during
//!   that life, except for the number of twigs in the full form. Only the holder of its lock
//!   changes that number and its slots.
//! - QPT-N6: under immediate reuse every word of a leaf is an atomic. The length in it is that of
//!   some life of this leaf, from its first life on, so it never points beyond its class; and all
//!   leaves have the same type of value. Its count is odd from before it is unlinked until it has
//!   been initialised again, and while its value is overwritten; only the thread that made the
//!   count odd writes the value. No two of its versions have the same count, until it wraps after
//!   2^30 versions.
//! - QPT-N7: the number by which a word of a branch is accessed is inside the branch's class. It is
//!   one of these:
//!   (a) a number below four;
//!   (b) a word of the header, by a shape that was found in the branch;
//!   (c) a slot, by the shape of a pair or of a list;
//!   (d) a slot, by a header that belongs to one life: the lock shows it, or a count that was read
//!   after all of the header.
//! - QPT-N4: a twig in a linked branch, or in a root, names a node of this trie.

mod bits;
mod branch;
mod branch_seq;
mod entry_count;
mod header;
mod hint_memory;
mod hint_odds;
mod hint_table;
mod hints;
mod key;
mod leaf_atomic;
mod leaf_parent;
mod leaf_plain;
mod leaf_seq;
mod prefetch;
mod root;
mod symbols;
mod tag;
mod twig;

pub(crate) use branch_seq::{Count, Life, Locked, Retry};
pub(crate) use entry_count::{EntryCount, NoRoom};
pub(crate) use header::Shape;
pub(crate) use hints::{Hints, KeyHash};
pub(crate) use key::{LONGEST_KEY, Parting, Symbol, parting, symbol_at};
pub(crate) use leaf_atomic::KeyCopy;
pub use leaf_atomic::PlainBits;
pub(crate) use leaf_plain::leaf_overhead;
pub(crate) use leaf_seq::{Version, Versions};
pub(crate) use root::{Root, Roots};
pub(crate) use symbols::Symbols;
pub(crate) use tag::Tag;
pub(crate) use twig::{MOST_BRANCH_BYTES, MOST_LEAF_BYTES, Node, Twig};

use crate::fault::Faults;
use memalloc::{BuildError, ClassError, ClassTable, MAX_SIZE, MemAlloc, ReusePolicy};
use std::marker::PhantomData;

/// The memory of a trie: an allocator for branches, an allocator for leaves, the roots, the number
/// of entries, and the hints.
#[derive(Debug)]
pub(crate) struct Nodes<V, B: ReusePolicy, L: ReusePolicy> {
    pub(crate) branches: MemAlloc<B>,
    pub(crate) leaves: MemAlloc<L>,
    pub(crate) roots: Roots,
    pub(crate) entries: EntryCount,
    pub(crate) hints: Hints,
    pub(crate) faults: Faults,
    /// Makes `Nodes` invariant in `V`: values are inserted through one reference and read through
    /// another.
    values: PhantomData<fn(V) -> V>,
}

/// Returns the classes of leaves. Keys of models are short, and one class is enough: every
/// execution builds all classes, and a fence of the model checker visits each of their atomics.
fn leaf_classes() -> Result<ClassTable, ClassError> {
    if cfg!(loom) { ClassTable::new(&[32]) } else { ClassTable::fine(MAX_SIZE) }
}

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    pub(crate) fn new(
        branches: memalloc::Builder<B>,
        leaves: memalloc::Builder<L>,
        max_entries: u64,
        hints: bool,
        faults: Faults,
    ) -> Result<Self, BuildError> {
        // A hint may be arbitrarily old (QPT-H1), and so may the parent of a leaf (QPT-N9).
        let branches = branches.keep_class(hints);
        let mut leaves = leaves.classes(leaf_classes()?).keep_class(hints);
        if std::mem::needs_drop::<V>() {
            // SAFETY: every object of this allocator that is freed deferred is a leaf (QPT-N3).
            leaves = unsafe { leaves.finalizer(leaf_plain::drop_value::<V>) };
        }
        let branches = branches.classes(ClassTable::new(&branch::SIZES)?).build()?;
        let leaves = leaves.build()?;
        // Models of a trie claim nothing about the ends of its allocators.
        #[cfg(loom)]
        let (branches, leaves) = (branches.ends_at_once(), leaves.ends_at_once());
        Ok(Self {
            branches,
            leaves,
            roots: Roots::new(),
            entries: EntryCount::new(max_entries),
            hints: Hints::new(hints),
            faults,
            values: PhantomData,
        })
    }

    /// Replaces a table of hints that has the wrong size, and frees former ones: `Hints::fit`.
    pub(crate) fn fit_hints(&self, may_shrink: bool) {
        self.hints.fit(self.leaves.domain(), || self.entries.sum(), may_shrink);
    }
}
