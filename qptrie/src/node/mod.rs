//! Branches and leaves in memory.
//!
//! A key is a string of *symbols*: its bytes, and its end, which comes before every byte. A branch
//! tests one symbol of the key: 257 ways, of which it keeps those that exist, as few bits as will do,
//! and a packed array of their *twigs*. A twig names a branch or a leaf in 32 bits.
//!
//! ```text
//!  branch   | count | shape | twig | twig                  two ways: 16 bytes
//!           | count | shape | bytes | twig | twig | …      up to eight bytes
//!           | count | shape | lowers | twig | twig | …     bytes with few different upper nibbles
//!           | count | shape | bits | ranks | twigs | twig | …    any; twigs: how many there are
//!             u32     which symbol, which form, part of the ways
//!
//!  leaf     | value … | linked, key length | key …   u16, then the bytes
//!
//!  leaf     | count | value … | length, key | key …  words; under immediate reuse
//! ```
//!
//! The shape is one word, so that a reader can't see half of it; and all branches of one size have
//! room for the same number of words, so that the header of whatever shape a reader finds in a branch,
//! of this or an earlier life, lies inside it. The header as a whole can be torn: see `shape`.
//!
//! Knows memory and bits; not when it is right to follow a twig (`read`), nor when to change one
//! (`write`).
//!
//! - INV-N1: every word of a branch is an atomic and is only ever accessed as one.
//! - INV-N2: the count of a branch is odd from the moment it is unlinked until it has been
//!   initialised for its next life, and even in between. Inside one read section no two lives have
//!   the same count, until it wraps after 2^30 of them. (It starts again when its slab went back to
//!   the system, which no section spans.)
//! - INV-N3: under a policy that protects identity a leaf is plain memory, but for the word that has its
//!   mark. It is written before it is published and never after, and freed only after a grace period, so a
//!   reader inside a section may keep `&V`.
//! - INV-N8: where there are hints, a leaf is marked as linked only while a slot of a linked branch, or of a
//!   root, names it: its mark is set after the slot is stored to, and taken away before, under the lock of
//!   the slot. A leaf whose mark was seen inside a section was linked at that moment, and keeps its identity,
//!   where the policy protects that, until the section ends.
//! - INV-N5: all keys that are ever below a branch in one of its lives begin with the same symbols,
//!   as many as the number of the symbol that it tests. Its header stays the same all that time, but
//!   for the number of twigs of the full form; that and its slots are changed by the holder of its
//!   lock only.
//! - INV-N6: under immediate reuse every word of a leaf is an atomic. The length in it is that of
//!   some life of this leaf, from its first one on, so it never points beyond its class; and all
//!   leaves have the same type of value. Its count is odd from before it is unlinked until it has
//!   been initialised again, and whenever its value is written in between, by the one who made it
//!   odd; no two of its versions have the same count, until it wraps after 2^30 of them.
//! - INV-N7: a word of a branch is touched by a number below four, by one that a shape found in the
//!   branch gives its header, or by one that a header gives its slots, which the lock or a count read
//!   after all of the header shows to be one life's. All of these lie inside the branch's class.
//! - INV-N4: a twig in a linked branch, or in a root, names a node of this trie.

mod bits;
mod branch;
mod count;
mod entry_count;
mod hints;
mod key;
mod leaf;
mod prefetch;
mod root;
mod shape;
mod symbols;
mod twig;
mod version;
mod words;

pub(crate) use count::{Count, Life, Locked, Retry};
pub(crate) use entry_count::{EntryCount, NoRoom};
pub(crate) use hints::Hints;
pub(crate) use key::{Parting, Symbol, parting, symbol_at};
pub(crate) use leaf::{LONGEST_KEY, leaf_overhead};
pub(crate) use root::{Root, Roots};
pub(crate) use shape::Shape;
pub(crate) use symbols::Symbols;
pub(crate) use twig::{Node, Twig};
pub(crate) use version::{Version, Versions};
pub(crate) use words::KeyCopy;
pub use words::PlainBits;

use crate::fault::Faults;
use memalloc::{BuildError, ClassTable, MAX_SIZE, MemAlloc, ReusePolicy};
use std::marker::PhantomData;

/// The memory of a trie: one allocator for branches, one for leaves; where it begins, and how many
/// leaves are linked.
#[derive(Debug)]
pub(crate) struct Nodes<V, B: ReusePolicy, L: ReusePolicy> {
    pub(crate) branches: MemAlloc<B>,
    pub(crate) leaves: MemAlloc<L>,
    pub(crate) roots: Roots,
    pub(crate) entries: EntryCount,
    pub(crate) hints: Hints,
    pub(crate) faults: Faults,
    /// Invariant: what is put in by one reference is taken out by another.
    values: PhantomData<fn(V) -> V>,
}

/// What a twig reaches: it spends one of its 32 bits on telling branches from leaves. The ranges of both
/// allocators may not be larger.
pub(crate) const MOST_RANGE_BYTES: u64 = (1 << 31) * memalloc::UNIT as u64;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    pub(crate) fn new(
        branches: memalloc::Builder<B>,
        leaves: memalloc::Builder<L>,
        max_entries: u64,
        hints: bool,
        faults: Faults,
    ) -> Result<Self, BuildError> {
        // Hints may be of any age (INV-H1).
        let mut leaves = leaves.classes(ClassTable::fine(MAX_SIZE)?).keep_class(hints);
        if std::mem::needs_drop::<V>() {
            // SAFETY: every object of this allocator that is freed deferred is a leaf (INV-N3).
            leaves = unsafe { leaves.finalizer(leaf::drop_value::<V>) };
        }
        Ok(Self {
            branches: branches.classes(ClassTable::new(&branch::SIZES)?).build()?,
            leaves: leaves.build()?,
            roots: Roots::new(),
            entries: EntryCount::new(max_entries),
            hints: Hints::new(hints),
            faults,
            values: PhantomData,
        })
    }
}
