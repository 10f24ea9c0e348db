//! Branches and leaves in memory.
//!
//! A key is a string of nibbles, upper before lower. A branch tests one nibble of the key, or
//! "the key ends here": seventeen ways, of which it keeps a bitmap and a packed array of the
//! *twigs* that exist. A twig names a branch or a leaf in 32 bits.
//!
//! ```text
//!  branch   | count | shape | twig | twig | …        16 to 80 bytes: 2, 6, 10, 14 or 18 twigs
//!             u32     13 bits which nibble, 17 bits which twigs exist; the same for a whole life
//!
//!  leaf     | value … | key length | key …           u16, then the bytes
//!
//!  leaf     | count | value … | length, key | key …  words; under immediate reuse
//! ```
//!
//! Which nibble and which twigs are one word, so that a reader can't see half of a change; and
//! all branches of one size have room for the same number of twigs, so that whatever shape a
//! reader finds in a branch, of this or an earlier life, points into it.
//!
//! Knows memory and bits; not when it is right to follow a twig (`read`), nor when to change one
//! (`write`).
//!
//! - INV-N1: every word of a branch is an atomic and is only ever accessed as one.
//! - INV-N2: the count of a branch is odd from the moment it is unlinked until it has been
//!   initialised for its next life, and even in between. Inside one read section no two lives have
//!   the same count, until it wraps after 2^30 of them. (It starts again when its slab went back to
//!   the system, which no section spans.)
//! - INV-N3: under a policy that protects identity a leaf is plain memory. It is written before it is published and never after, and
//!   freed only after a grace period, so a reader inside a section may keep `&V`.
//! - INV-N5: all keys that are ever below a branch in one of its lives begin with the same nibbles,
//!   as many as the number of the nibble that it tests. Its shape stays the same all that time; its
//!   slots are changed by the holder of its lock only.
//! - INV-N6: under immediate reuse every word of a leaf is an atomic. The length in it is that of
//!   some life of this leaf, from its first one on, so it never points beyond its class; and all
//!   leaves have the same type of value. Its count is odd from before it is unlinked until it has
//!   been initialised again, and whenever its value is written in between, by the one who made it
//!   odd; no two of its versions have the same count, until it wraps after 2^31 of them.
//! - INV-N4: a twig in a linked branch, or in a root, names a node of this trie.

mod branch;
mod count;
mod key;
mod leaf;
mod prefetch;
mod root;
mod twig;
mod version;
mod words;

pub(crate) use branch::Shape;
pub(crate) use count::{Count, Life, Locked, Retry};
pub(crate) use key::{bit_at, first_difference};
pub(crate) use leaf::{LONGEST_KEY, leaf_overhead};
pub(crate) use root::{Root, Roots};
pub(crate) use twig::{Node, Twig};
pub(crate) use version::{Version, Versions};
pub(crate) use words::KeyCopy;
pub use words::PlainBits;

use crate::fault::Faults;
use memalloc::{BuildError, ClassTable, MAX_SIZE, MemAlloc, ReusePolicy};
use std::marker::PhantomData;

/// The memory of a trie: one allocator for branches, one for leaves, and where it begins.
#[derive(Debug)]
pub(crate) struct Nodes<V, B: ReusePolicy, L: ReusePolicy> {
    pub(crate) branches: MemAlloc<B>,
    pub(crate) leaves: MemAlloc<L>,
    pub(crate) roots: Roots,
    pub(crate) faults: Faults,
    values: PhantomData<fn() -> V>,
}

/// A twig spends one of its 32 bits on telling branches from leaves.
const RANGE_BYTES: u64 = (1 << 31) * memalloc::UNIT as u64;

impl<V: Send + Sync + 'static, B: ReusePolicy, L: ReusePolicy> Nodes<V, B, L> {
    pub(crate) fn new(
        branches: memalloc::Builder<B>,
        leaves: memalloc::Builder<L>,
        faults: Faults,
    ) -> Result<Self, BuildError> {
        let mut leaves = leaves.classes(ClassTable::fine(MAX_SIZE)?);
        if std::mem::needs_drop::<V>() {
            // SAFETY: every object of this allocator that is freed deferred is a leaf (INV-N3).
            leaves = unsafe { leaves.finalizer(leaf::drop_value::<V>) };
        }
        Ok(Self {
            branches: branches
                .classes(ClassTable::new(&branch::SIZES)?)
                .range_bytes(RANGE_BYTES)
                .build()?,
            leaves: leaves.range_bytes(RANGE_BYTES).build()?,
            roots: Roots::new(),
            faults,
            values: PhantomData,
        })
    }
}
